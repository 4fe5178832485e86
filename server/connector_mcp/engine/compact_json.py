"""Compact JSON, as results are sent, measured and searched."""

from __future__ import annotations

import json
from typing import Any

import orjson


def encode_bytes(value: Any) -> bytes:
    """In UTF-8; half of a surrogate pair, which has no encoding, is written as if it had one."""
    try:
        # 15 us for a list of twenty connectors where the standard encoder takes 165, three times a call.
        return orjson.dumps(value)
    except TypeError:
        # Half of a surrogate pair, a number of more than 64 bits.
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
