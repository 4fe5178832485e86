"""Signatures of webhooks and of call-backs, as Standard Webhooks has them: any of its libraries makes and checks them.

HMAC-SHA256 of `ID.TIMESTAMP.BODY` stands in `webhook-signature` as `v1,` and base64; ID and TIMESTAMP stand in
`webhook-id` and `webhook-timestamp`. The specification is at https://www.standardwebhooks.com.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from connector_mcp.errors import Misconfigured

TOLERANCE: Final = 300.0
"""Seconds by which a timestamp may differ from our clock, either way."""

_PREFIX: Final = "whsec_"
_VERSION: Final = "v1,"
_KEY_BYTES: Final = range(24, 65)
# Neither may hold a full stop, which separates them in what is signed.
_ID: Final = re.compile(r"[\w:=+/-]{1,128}", re.ASCII)
_TIMESTAMP: Final = re.compile(r"[0-9]{1,12}")
_SIGNATURES: Final = 8
"""How many signatures a message may carry: one for each secret while a secret is being replaced."""


class Unsigned(Exception):
    """A message that does not carry our signature, or not any longer; its text says which."""


@dataclass(frozen=True)
class SigningKey:
    """A shared secret."""

    key: bytes = field(repr=False)

    @staticmethod
    def of(secret: str, setting: str) -> SigningKey:
        """The key of a secret as Standard Webhooks writes it: `whsec_` and the base64 of 24 to 64 bytes.

        Raises:
            Misconfigured: It is no such secret; `setting` is where it comes from.
        """
        try:
            key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if not secret.startswith(_PREFIX) or len(key) not in _KEY_BYTES:
            raise Misconfigured(
                f"{setting} is no signing secret (its value is not shown): wanted `{_PREFIX}` and the base64 of "
                f"{_KEY_BYTES[0]} to {_KEY_BYTES[-1]} random bytes.",
                fix=f'Make one with `echo "{_PREFIX}$(openssl rand -base64 32)"`.',
            )
        return SigningKey(key)

    def headers(self, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
        """The headers that go with a body."""
        signature = base64.b64encode(self._digest(message_id, str(timestamp), body)).decode()
        return {
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": f"{_VERSION}{signature}",
        }

    def check(self, headers: Mapping[str, Sequence[str]], body: bytes, now: float) -> str:
        """The id of a message that is signed with this key, and not longer than the tolerance ago.

        `headers` gives all values of each of the three names, in lower case.

        Raises:
            Unsigned: It is not.
        """
        values = [headers.get(f"webhook-{name}", ()) for name in ("id", "timestamp", "signature")]
        if any(len(value) != 1 for value in values):
            raise Unsigned("webhook-id, webhook-timestamp and webhook-signature are needed, each once")
        message_id, timestamp, signatures = (value[0] for value in values)
        if not _ID.fullmatch(message_id) or not _TIMESTAMP.fullmatch(timestamp):
            raise Unsigned("webhook-id or webhook-timestamp is not of the form that is signed")
        wanted = self._digest(message_id, timestamp, body)
        given = [one.removeprefix(_VERSION) for one in signatures.split(" ") if one.startswith(_VERSION)]
        # Every signature is compared, so that the time taken tells nothing of which one came close.
        matches = [hmac.compare_digest(wanted, _decoded(one)) for one in given[:_SIGNATURES]]
        if not any(matches):
            raise Unsigned("the signature is not that of this message")
        if abs(now - int(timestamp)) > TOLERANCE:
            raise Unsigned(f"webhook-timestamp is more than {round(TOLERANCE)} seconds from this server's clock")
        return message_id

    def _digest(self, message_id: str, timestamp: str, body: bytes) -> bytes:
        return hmac.new(self.key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()


def _decoded(signature: str) -> bytes:
    try:
        return base64.b64decode(signature, validate=True)
    except (binascii.Error, ValueError):
        return b""
