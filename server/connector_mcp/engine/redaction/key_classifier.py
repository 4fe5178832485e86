"""Classify the name of a key: whether its value is a credential."""

from __future__ import annotations

import re
from enum import Enum
from functools import lru_cache
from typing import Final

from connector_mcp.operations.platform import Platform

_SECRET_NAME = re.compile(
    r"passw(or)?d|passphrase|secret|token|apikey|accesskey|privatekey|accountkey|authkey|signingkey|encryptionkey"
    r"|credentials?(json)?$|serviceaccountjson|authorization$|connectionstring|uploadurl|downloadurl|bearer"
    r"|^pass$|^pwd$|^auth$|^cookie"
)
# Last words of names that contain such a word but hold no secret: addresses, kinds, counts and switches.
_HARMLESS_LAST = re.compile(
    r"age|algorithm|at|count|enabled|endpoint|expires|expiry|format|ids?|in|label|method|names?|placeholder|policy|scheme"
    r"|storage|supported|ttl|type|ur[il]"
)
_PAGE_CURSOR = re.compile(r"(next|page|continuation)token$")
_NEVER_HARMLESS = re.compile(r"(up|down)loadurl$")
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
# Objects with these names describe credentials as often as they contain them.
_HOLDER = re.compile(r"(credentials?|auth)$")

_LONGEST_CACHED: Final = 64
_NO_KEYS: Final = frozenset[str]()


class KeyClass(Enum):
    """What the name of a key says about its value."""

    PLAIN = "plain"
    HIDDEN = "hidden"
    HOLDER = "holder"
    """Hidden, except an object or a list: then each member is judged by its own name."""


def classify_key(key: str, platform: Platform | None = None) -> KeyClass:
    """Classify a key by its name and the platform's own list of secret keys."""
    secret_keys = platform.secret_keys if platform is not None else _NO_KEYS
    # Platforms choose the keys: long ones must not fill the memory.
    return _classify_cached(key, secret_keys) if len(key) <= _LONGEST_CACHED else _classify(key, secret_keys)


def names_a_secret(key: str, platform: Platform | None = None) -> bool:
    """Check whether the name of a key says that its value is a credential."""
    return classify_key(key, platform) is not KeyClass.PLAIN


def _classify(key: str, secret_keys: frozenset[str]) -> KeyClass:
    lower = key.lower()
    if lower not in secret_keys and not _is_secret(key):
        return KeyClass.PLAIN
    return KeyClass.HOLDER if _HOLDER.search(lower) else KeyClass.HIDDEN


_classify_cached = lru_cache(maxsize=4096)(_classify)


def _is_secret(key: str) -> bool:
    plain = re.sub(r"[^a-z0-9]", "", key.lower())
    if not _SECRET_NAME.search(plain) or _PAGE_CURSOR.search(plain):
        return False
    last = _WORD.findall(key)[-1].lower()
    return bool(_NEVER_HARMLESS.search(plain)) or not _HARMLESS_LAST.fullmatch(last)
