"""The hosts that a connector's config names, to which the platform sends the credentials of that config.

Who chooses such a host receives the credentials. So a person or an operator is told of it, and the limits of a
secret may name the hosts that it may go to. What cannot be read as one host counts as a host of that name: no limit
allows it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from connector_mcp.json_values import is_array, is_object
from connector_mcp.text import clean

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_FOR_HOST = re.compile(r"host|hostname|server|endpoint|ur[il]|(sub)?domain|site|proxy|gateway|address|origin")
_NO_CREDENTIALS = re.compile(
    r".*logo(dark)?|(authorization|signin)endpoint|(redirect|jwks)uri|(access|image|documentation|consumerservice)url"
    r"|assertionconsumerserviceurl|disableurlaccess|(.*email|local)address"
)
"""Addresses to which a browser goes, or from which something is read without credentials."""
_ADDRESS = re.compile(r"\s*(?:(?!secret:)[a-z][a-z0-9+.-]*://|(?:https?|wss?|smtps?|ftps?):|//)", re.IGNORECASE)
_READ_DIFFERENTLY = re.compile(r"[\s\\\x00-\x1f\x7f]")
"""Characters that some programs drop from an address and others take for a slash."""


def hosts_in(value: object, key: str = "") -> Iterator[str]:
    """Yield the hosts of a config: addresses under any key, and names of hosts under keys for them."""
    if is_object(value):
        for name, member in value.items():
            # The wire form of ConductorOne wraps a value in an object of its own.
            yield from hosts_in(member, key if name == "stringValue" else name)
    elif is_array(value):
        for item in value:
            yield from hosts_in(item, key)
    elif isinstance(value, str) and value.strip() and _is_for_host(key, value):
        yield host_of(value)


def host_of(address: str) -> str:
    """Return the host of an address or of `host:port`, in lower case; all of a text that is neither."""
    text = address.strip()
    try:
        host = (urlsplit(text if _ADDRESS.match(text) else f"//{text}").hostname or "").rstrip(".")
        if host and not _READ_DIFFERENTLY.search(text):
            return host if host.isascii() else host.encode("idna").decode("ascii")
    except (ValueError, UnicodeError):
        pass
    # What stands before an @ may be a password.
    return "an address that cannot be read" if "@" in text else clean(text.lower())


def _is_for_host(key: str, value: str) -> bool:
    words = [word.lower() for word in _WORD.findall(key)]
    if _NO_CREDENTIALS.fullmatch("".join(words)):
        return False
    # Such as `tableau_server_path`.
    last = next((word for word in reversed(words) if word != "path"), "")
    return bool(_FOR_HOST.fullmatch(last)) or bool(_ADDRESS.match(_READ_DIFFERENTLY.sub("", value)))
