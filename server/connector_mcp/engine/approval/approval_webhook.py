"""Send parked calls to a team's own tools as signed webhooks, and verify the signatures of what they send back.

Sending is best effort: the approval is in the store first and can be decided whether or not the message arrives. So a
webhook never holds up a call or fails one. It carries what an operator is shown, redacted; its response is not read.
Signatures follow Standard Webhooks (https://www.standardwebhooks.com).
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import random
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import anyio
import httpx
from anyio.abc import TaskGroup
from standardwebhooks import Webhook, WebhookVerificationError

from connector_mcp import __version__
from connector_mcp.engine.approval.parked_call import Approval
from connector_mcp.engine.preview import leaves, path_text, shown
from connector_mcp.errors import Misconfigured, StoreUnavailable, StoreUncertain
from connector_mcp.json_values import JsonObject
from connector_mcp.state.database import Database, Row, Transaction
from connector_mcp.text import clean
from connector_mcp.upstream.proxy import make_ssl_context
from connector_mcp.upstream.urls import is_local

PAUSES: Final = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0)
"""The longest pause before each attempt, in seconds; pauses are random, so that senders spread out."""

SHUTDOWN_SECONDS: Final = 5.0
"""How long messages in flight may take when the engine ends."""

MAX_IN_FLIGHT: Final = 100
"""Messages in flight; a further one is sent when its call is made again."""

TOLERANCE: Final = 300.0
"""Seconds by which the timestamp of a callback may differ from our clock; fixed by the library."""

_WHO: Final = ("id", "tool", "platform", "profile", "tenant", "address", "sandbox", "principal", "client")
_TOLD: Final = dict.fromkeys((*_WHO, "effects", "target", "hosts", "secrets"), 120) | {"effect": 1000, "losses": 1000}
"""The members of a message that are those of the approval, with the most characters of each text."""
_MAX_ITEMS: Final = 40

_SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - how a secret begins
_KEY_BYTES: Final = range(24, 65)
_HEADERS: Final = ("webhook-id", "webhook-timestamp", "webhook-signature")
# A full stop separates id, timestamp and body in what is signed, so the first two must not contain one.
_ID: Final = re.compile(r"[\w:=+/-]{1,128}", re.ASCII)
_TIMESTAMP: Final = re.compile(r"[0-9]{1,12}")
_SIGNATURE: Final = re.compile(r"v1,[A-Za-z0-9+/]{43}=")

logger = logging.getLogger(__name__)


class InvalidSignature(Exception):
    """A message without a valid and recent signature; the text says what is wrong."""


@dataclass(frozen=True)
class WebhookKey:
    """A shared secret that signs messages and verifies signatures."""

    key: bytes = field(repr=False)

    @staticmethod
    def parse(secret: str, setting: str) -> WebhookKey:
        """Parse a secret as Standard Webhooks writes it: `whsec_` and the base64 of 24 to 64 bytes.

        Raises:
            Misconfigured: The secret is invalid; `setting` is where it comes from.
        """
        try:
            key = base64.b64decode(secret.removeprefix(_SECRET_PREFIX), validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if not secret.startswith(_SECRET_PREFIX) or len(key) not in _KEY_BYTES:
            raise Misconfigured(
                f"{setting} is not a signing secret (its value is not shown). Expected `{_SECRET_PREFIX}` and the "
                f"base64 of {_KEY_BYTES[0]} to {_KEY_BYTES[-1]} random bytes.",
                fix=f'Make one with `echo "{_SECRET_PREFIX}$(openssl rand -base64 32)"`.',
            )
        return WebhookKey(key)

    def headers(self, message_id: str, timestamp: float, body: str) -> dict[str, str]:
        """Return the headers that sign a body; `timestamp` is in seconds since 1970."""
        signature = Webhook(self.key).sign(message_id, datetime.fromtimestamp(timestamp, UTC), body)
        return dict(zip(_HEADERS, (message_id, str(int(timestamp)), signature), strict=True))

    def verify(self, headers: Iterable[tuple[str, str]], body: bytes) -> str:
        """Return the id of a message that was signed with this key within `TOLERANCE` of now.

        Raises:
            InvalidSignature: The signature is missing, wrong or too old.
        """
        presented = [(name.lower(), value) for name, value in headers if name.lower() in _HEADERS]
        values = dict(presented)
        if not len(presented) == len(values) == len(_HEADERS):
            raise InvalidSignature(f"{', '.join(_HEADERS)} are required, each once")
        if not _ID.fullmatch(values["webhook-id"]) or not _TIMESTAMP.fullmatch(values["webhook-timestamp"]):
            raise InvalidSignature("webhook-id or webhook-timestamp has an invalid form")
        # The library fails on a header with anything else in it, and compares in constant time what is left.
        signatures = [each for each in values["webhook-signature"].split(" ") if _SIGNATURE.fullmatch(each)]
        values["webhook-signature"] = " ".join(signatures) or "v1,"
        try:
            Webhook(self.key).verify(body, values, json_parse=False)
        except (WebhookVerificationError, UnicodeDecodeError) as error:
            raise InvalidSignature(f"the signature was not accepted: {error}") from None
        return values["webhook-id"]


class ApprovalWebhook:
    """Sends a message for each parked call, while `running` is entered.

    If several processes share the database, one of them sends it. A failure is logged, and the message is sent again
    when the call is made again.
    """

    def __init__(
        self,
        url: str,
        key: WebhookKey,
        database: Database,
        *,
        timeout: float,
        callback_url: str | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        """`timeout` limits one attempt, in seconds. Decisions are taken below `callback_url`.

        Raises:
            Misconfigured: The URL is not https (http is allowed on loopback).
        """
        self._url = _check_url(url)
        self._key = key
        self._database = database
        self._timeout = timeout
        self._callback_url = callback_url.rstrip("/") if callback_url else None
        # A bare transport follows no redirect, keeps no cookie, reads no environment and logs no URL.
        self._transport = transport or httpx.AsyncHTTPTransport(verify=make_ssl_context())
        self._clock = clock
        self._sleep = sleep
        self._tasks: TaskGroup | None = None
        self._in_flight: set[str] = set()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Send messages while the context is open. Those in flight at its end get a few more seconds."""
        async with self._transport, anyio.create_task_group() as tasks:
            self._tasks = tasks
            try:
                yield
            finally:
                self._tasks = None
                tasks.cancel_scope.shield = True
                tasks.cancel_scope.deadline = anyio.current_time() + SHUTDOWN_SECONDS

    def announce(self, approval: Approval) -> None:
        """Send a pending approval in the background, if it was not sent before."""
        if approval.status != "pending" or approval.id in self._in_flight:
            return
        if self._tasks is None or len(self._in_flight) >= MAX_IN_FLIGHT:
            reason = "the server is shutting down" if self._tasks is None else f"{MAX_IN_FLIGHT} others are in flight"
            logger.warning("%s is not sent to the webhook: %s", approval.id, reason)
            return
        self._in_flight.add(approval.id)
        self._tasks.start_soon(self._run, approval)

    async def _run(self, approval: Approval) -> None:
        try:
            if await self._mark(approval, announced=True):
                await self._send(approval)
        except StoreUnavailable as error:
            logger.error("%s may not have been sent to the webhook: %s", approval.id, error.message)
        except Exception:  # the boundary of a background task: the server goes on without it
            logger.exception("sending %s to the webhook failed inside the server", approval.id)
        finally:
            self._in_flight.discard(approval.id)

    async def _send(self, approval: Approval) -> None:
        failure: str | None = "the server shut down first"
        try:
            failure = await self._deliver(approval)
        finally:
            if failure is not None:
                logger.error("%s could not be sent to the webhook: %s", approval.id, failure)
                with anyio.CancelScope(shield=True):
                    await self._mark(approval, announced=False)

    async def _mark(self, approval: Approval, *, announced: bool) -> bool:
        """Note that a message is sent, or that it was not. Return whether this process is the one to send it."""
        change = "epoch() WHERE announced_at IS NULL" if announced else "NULL WHERE announced_at IS NOT NULL"

        def work(tx: Transaction) -> Row | None:
            sql = f"UPDATE approvals SET announced_at = {change} AND id = :id RETURNING id"
            return tx.execute(sql, {"id": approval.id}).first()

        try:
            return await self._database.write(work) is not None
        except StoreUncertain:
            # A message that is sent twice has the same id; one that is not sent at all is missed.
            return True

    async def _deliver(self, approval: Approval) -> str | None:
        """Return why the message could not be delivered, or None if it was."""
        body = json.dumps(webhook_message(approval, self._callback_url), separators=(",", ":"))
        headers = {"content-type": "application/json", "user-agent": f"connector-mcp/{__version__}"}
        failure: str | None = None
        for pause in PAUSES:
            if pause:
                await self._sleep(random.uniform(0, pause))  # noqa: S311 - hides nothing
            headers |= self._key.headers(f"parked-{approval.id}", self._clock(), body)
            try:
                with anyio.fail_after(self._timeout):
                    request = httpx.Request("POST", self._url, headers=headers, content=body)
                    response = await self._transport.handle_async_request(request)
                    await response.aclose()
            except (httpx.TransportError, TimeoutError) as error:
                failure = type(error).__name__
                continue
            status = response.status_code
            failure = None if 200 <= status < 300 else f"it answered {status}"
            if status != 429 and status < 500:
                break
        return failure


def webhook_message(approval: Approval, callback_url: str | None = None) -> JsonObject:
    """Return the message for a parked call: what an operator is shown, redacted, as single lines of visible text."""
    arguments = [(shown(path_text(path)), shown(value)) for path, value in leaves(approval.arguments) if path]
    lists = (approval.losses, approval.diff, arguments, approval.hosts, approval.secrets)
    data: JsonObject = {name: _told(getattr(approval, name), limit) for name, limit in _TOLD.items()}
    data |= {
        "diff": [
            {key: None if value is None else shown(value) for key, value in change.as_dict().items()}
            for change in approval.diff[:_MAX_ITEMS]
        ],
        "arguments": dict(arguments[:_MAX_ITEMS]),
        "complete": max(map(len, lists)) <= _MAX_ITEMS,
        "created_at": _iso_time(approval.created_at),
        "expires_at": _iso_time(approval.expires_at),
    }
    if callback_url:
        data["callback_url"] = f"{callback_url}/{approval.id}"
    return {"type": "approval.parked", "timestamp": _iso_time(approval.created_at), "data": data}


def _told(value: str | bool | tuple[str, ...] | None, limit: int) -> str | bool | list[str] | None:
    if isinstance(value, str):
        return clean(value, limit)
    return [clean(each, limit) for each in value[:_MAX_ITEMS]] if isinstance(value, tuple) else value


def _iso_time(epoch: float) -> str:
    return datetime.fromtimestamp(epoch, UTC).isoformat(timespec="seconds")


def _check_url(url: str) -> httpx.URL:
    # The URL is not repeated in the error: those of chat services are secrets.
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        parsed = httpx.URL("")
    is_secure = parsed.scheme == "https" or (parsed.scheme == "http" and is_local(parsed.host))
    if not parsed.host or not is_secure or parsed.userinfo:
        raise Misconfigured(
            "CONNECTOR_MCP_WEBHOOK_URL (its value is not shown) is not an https URL without a user name.",
            fix="Set it to a URL such as https://hooks.example.com/approvals; http:// is allowed on loopback only.",
        )
    return parsed
