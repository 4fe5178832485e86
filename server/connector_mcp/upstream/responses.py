"""One answer to a request, from a platform or from something in front of it, and what it says about the request.

any status, the platform's own error    its verdict; 500 to 599: it may have made a part of the change
408, 425, 429, 503, 521, 523, 525,      the request was turned away before it was carried out; a 503 only in the
526, 530                                platform's own words, with `Retry-After` or without a body
499, 502, 504, 520, 522, 524, 527       a gateway passed the request on, so it may have been carried out
another 5xx with a foreign body         the same, except for 501, 505 and 511
300, 303                                the same: an answer elsewhere can follow a change
another 3xx or 4xx with a foreign body  something in front turned the request away
2xx with a foreign body                 a sign-in page, for example: it may not have reached the platform at all
"""

from __future__ import annotations

import codecs
import html
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import pydantic_core

from connector_mcp.operations.platform import Platform, UpstreamMessage

if TYPE_CHECKING:
    import httpx

TURNED_AWAY: Final = frozenset({408, 425, 429, 503, 521, 523, 525, 526, 530})
"""Statuses that say that the request was not carried out and may succeed later."""

PASSED_ON: Final = frozenset({499, 502, 504, 520, 522, 524, 527})
"""Statuses of gateways that passed the request on and got no answer that they could use."""

NOT_CARRIED_OUT: Final = frozenset({501, 505, 511})
"""Statuses that say that the request will never be carried out."""

_SECONDS: Final = re.compile(r"\d{1,9}(\.\d+)?")
_REQUEST_ID_HEADERS: Final = (b"x-request-id", b"request-id", b"x-correlation-id", b"x-amzn-requestid", b"x-trace-id")
_PAGE_HEADERS: Final = (b"content-type", b"server", b"cf-ray")
_HALF: Final = re.compile("[\ud800-\udfff]")
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]|\xed[\xa0-\xbf]")
_TITLE: Final = re.compile(rb"<title[^>]{0,100}>([^<]{1,300})", re.IGNORECASE)
_JSON: Final = re.compile(rb'[{\["]|(null|true|false|-?\d[\d.eE+-]*)$')
_HTML: Final = re.compile(rb"<(!doctype\s+html|html|head|body|title|script|!--)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class RawResponse:
    """An answer to one attempt, with any status. `retry_after` is in seconds.

    `body` is empty if it was given up: it exceeded the cap (`too_large`), could not be decompressed (`unreadable`), or
    broke off behind an error status. `headers` are those that tell what answered.
    """

    status: int
    body: bytes = b""
    request_id: str | None = None
    retry_after: float | None = None
    too_large: bool = False
    unreadable: bool = False
    headers: Mapping[str, str] = field(default_factory=dict[str, str], compare=False)

    def parse(self, *, lenient: bool = False) -> Any:
        """Return the JSON value of the body, None for an empty one. Half a surrogate pair becomes U+FFFD.

        So does, if `lenient`, what is not UTF-8.

        Raises:
            ValueError: The body is not JSON, or could not be decompressed.
        """
        if self.unreadable:
            raise ValueError("not decompressed")
        body = self._text
        if lenient:
            body = body.decode("utf-8", "replace").encode()
        return _parse(body) if body else None

    @property
    def _text(self) -> bytes:
        return self.body.removeprefix(codecs.BOM_UTF8).strip()

    @property
    def is_foreign(self) -> bool:
        """Whether there is a body that does not even begin like JSON."""
        return bool(self._text) and not _JSON.match(self._text)

    @property
    def is_web_page(self) -> bool:
        """Whether the body is HTML."""
        return self.is_foreign and ("html" in self.headers.get("content-type", "") or bool(_HTML.match(self._text)))

    def page(self) -> dict[str, str]:
        """Return what tells where a foreign body comes from: title and headers. Not cleaned."""
        title = _TITLE.search(self.body[:16_384])
        titles = {"title": html.unescape(title[1].decode("utf-8", "replace"))} if title else {}
        return {**titles, **self.headers}


AttemptResult: TypeAlias = "RawResponse | httpx.RequestError"
"""A failed connection is a value here: whether it is an error depends on the call."""


async def read_response(response: httpx.Response, max_bytes: int, now: float) -> AttemptResult:
    """Read the body of `response`, at most `max_bytes` of it after decompression, and close it.

    `now` is in seconds since the epoch, for a `Retry-After` that is a date.
    """
    import httpx

    headers = {name.lower(): value.decode("latin-1") for name, value in response.headers.raw}
    status = response.status_code
    request_id = next((headers[name] for name in _REQUEST_ID_HEADERS if name in headers), None)
    retry_after = read_retry_after(headers.get(b"retry-after", ""), now)
    telling = {name.decode(): headers[name] for name in _PAGE_HEADERS if name in headers}
    length = headers.get(b"content-length", "")
    body: list[bytes] = []
    size = int(length[:16]) if length.isdecimal() else 0
    try:
        if size <= max_bytes:
            size = 0
            async for chunk in response.aiter_bytes():
                size += len(chunk)
                if size > max_bytes:
                    break
                body.append(chunk)
    except httpx.DecodingError:
        return RawResponse(status, b"", request_id, retry_after, unreadable=True, headers=telling)
    except httpx.RequestError as error:
        # A status of 400 or above says what happened, even without its body.
        return error if status < 400 else RawResponse(status, b"", request_id, retry_after, headers=telling)
    finally:
        await response.aclose()
    if size > max_bytes:
        return RawResponse(status, b"", request_id, retry_after, too_large=True, headers=telling)
    return RawResponse(status, b"".join(body), request_id, retry_after, headers=telling)


def read_retry_after(text: str, now: float) -> float | None:
    """Return the seconds that a `Retry-After` header asks to wait, None if it is neither a number nor an HTTP date."""
    if _SECONDS.fullmatch(text.strip()):
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def read_message(platform: Platform, response: RawResponse) -> UpstreamMessage:
    """Read the platform's own message out of an error response; empty if it is not the documented JSON."""
    try:
        return platform.read_error(response.parse(lenient=True))
    except ValueError:
        return UpstreamMessage()


def has_foreign_error(platform: Platform, response: RawResponse) -> bool:
    """Check that an error response has a body that is not the platform's documented error."""
    return bool(response.body) and read_message(platform, response) == UpstreamMessage()


def is_open(platform: Platform, response: RawResponse) -> bool:
    """Check that the request may or may not have been carried out; the table at the top of this module says when."""
    status = response.status
    if status in PASSED_ON or status in {300, 303}:
        return True
    if 200 <= status < 300:
        return response.is_foreign
    if status < 500 or status in NOT_CARRIED_OUT or (status in TURNED_AWAY and status != 503):
        return False
    if status == 503 and response.retry_after is not None:
        return False
    return has_foreign_error(platform, response)


def _parse(body: bytes) -> Any:
    try:
        # Stricter than the standard parser, which accepts NaN and half surrogates.
        return pydantic_core.from_json(body, allow_inf_nan=False)
    except ValueError:
        if not _SURROGATE.search(body):
            raise
    try:
        text = json.dumps(json.loads(body.decode("utf-8", "surrogatepass")), ensure_ascii=False)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return pydantic_core.from_json(_HALF.sub("\ufffd", text).encode(), allow_inf_nan=False)
