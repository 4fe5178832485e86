"""What the name of a key says of its value. Every key of every record is asked about, so each is judged once."""

from __future__ import annotations

import re
from enum import Enum
from functools import cache
from typing import Final

from connector_mcp.operations.platform import Platform

_SECRET_NAME = re.compile(
    r"passw(or)?d|passphrase|secret|token|apikey|accesskey|privatekey|accountkey|authkey|signingkey|encryptionkey"
    r"|credentials?(json)?$|serviceaccountjson|authorization$|connectionstring|uploadurl|downloadurl|bearer"
    r"|^pass$|^pwd$|^auth$|^cookie"
)
# Last words of names that contain such a word and hold no secret: addresses, kinds, counts and switches around them.
_HARMLESS_LAST = re.compile(
    r"age|algorithm|at|count|enabled|endpoint|expires|expiry|format|ids?|in|label|method|names?|placeholder|policy|scheme"
    r"|storage|supported|ttl|type|ur[il]"
)
_PLACE_IN_A_LIST = re.compile(r"(next|page|continuation)token$")
_NEVER_HARMLESS = re.compile(r"(up|down)loadurl$")
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
# Objects called so describe credentials as often as they hold them.
_HOLDER = re.compile(r"(credentials?|auth)$")

_LONGEST = 64
_MOST = 4096


class Verdict(Enum):
    """What a key's name says of its value."""

    PLAIN = "plain"
    HIDDEN = "hidden"
    HOLDER = "holder"
    """Hidden, unless it is an object or a list: then its members are judged one by one."""


PLAIN: Final = Verdict.PLAIN
HOLDER: Final = Verdict.HOLDER


class Verdicts(dict[str, Verdict]):
    """The verdict on any key, by the rules of one platform: `verdicts[key]`.

    Keys come from platforms, so that only so many are kept, and none that is long.
    """

    def __init__(self, secret_keys: frozenset[str]) -> None:
        """`secret_keys` are secret whatever the rules for names say; lower case."""
        super().__init__()
        self._secret_keys = secret_keys

    def __missing__(self, key: str) -> Verdict:
        verdict = PLAIN
        if key.lower() in self._secret_keys or _is_secret(key):
            verdict = HOLDER if _HOLDER.search(key.lower()) else Verdict.HIDDEN
        if len(key) <= _LONGEST:
            if len(self) >= _MOST:
                self.clear()
            self[key] = verdict
        return verdict


@cache
def verdicts(secret_keys: frozenset[str]) -> Verdicts:
    """The verdicts of platforms that name these keys besides."""
    return Verdicts(secret_keys)


def names_a_secret(key: str, platform: Platform | None = None) -> bool:
    """Whether a key's name says that its value is a credential."""
    return verdicts(platform.secret_keys if platform is not None else frozenset[str]())[key] is not PLAIN


def _is_secret(key: str) -> bool:
    plain = re.sub(r"[^a-z0-9]", "", key.lower())
    if not _SECRET_NAME.search(plain) or _PLACE_IN_A_LIST.search(plain):
        return False
    last = _WORD.findall(key)[-1].lower()
    return bool(_NEVER_HARMLESS.search(plain)) or not _HARMLESS_LAST.fullmatch(last)
