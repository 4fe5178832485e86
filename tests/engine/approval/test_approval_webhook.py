"""The webhook for parked calls: what it sends, how often, that its failures do no harm, and its signatures."""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from connector_mcp.engine.approval import approval_webhook
from connector_mcp.engine.approval.approval_webhook import (
    MAX_IN_FLIGHT,
    PAUSES,
    TOLERANCE,
    ApprovalWebhook,
    InvalidSignature,
    WebhookKey,
)
from connector_mcp.engine.approval.parked_call import Approval, ParkedCall
from connector_mcp.engine.approval.queue import Approvals
from connector_mcp.engine.preview import Change
from connector_mcp.errors import Misconfigured, StoreUnavailable
from connector_mcp.state.sqlite import SqliteDatabase
from tests.engine.conftest import BenchMaker, FakeCaller, VirtualTime
from tests.records import rows

pytestmark = pytest.mark.anyio

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
KEY = WebhookKey.parse(SECRET, "SETTING")
URL = "https://hooks.example.com/services/T00/s3cret-path"


class Receiver(httpx.AsyncBaseTransport):
    """What is behind the webhook's address: keeps what it gets, and answers what it is told to, in order."""

    def __init__(self, *answers: int | Exception) -> None:
        self.got: list[httpx.Request] = []
        self.closed = False
        self._answers = list(answers)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.got.append(request)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer, headers={"location": "https://elsewhere.example/"})

    async def aclose(self) -> None:
        self.closed = True


class Silent(Receiver):
    """Never answers."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.got.append(request)
        await anyio.sleep_forever()
        raise AssertionError


async def no_pause(_: float) -> None:
    await anyio.lowlevel.checkpoint()


@pytest.fixture
async def shared(tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
    """A database by the real clock, as the announcements' own."""
    made = SqliteDatabase(tmp_path / "records.db")
    yield made
    await made.aclose()


async def park(database: SqliteDatabase, digest: str = "d1", **more: Any) -> Approval:
    values: dict[str, Any] = {
        "digest": digest, "tool": "logto_delete_connector", "platform": "logto", "profile": "default",
        "principal": "local", "effect": "Deletes “Docs”.", "target": "Docs", "arguments": {"id": "x"}, **more,
    }  # fmt: skip
    return await Approvals(database, ttl=10_000).park(ParkedCall(**values))


def to(receiver: httpx.AsyncBaseTransport, database: Any, **more: Any) -> ApprovalWebhook:
    return ApprovalWebhook(URL, KEY, database, **{"timeout": 5.0, "transport": receiver, "sleep": no_pause, **more})


async def announced(announcements: ApprovalWebhook, *approvals: Approval) -> None:
    """Announce, and be through with it."""
    async with announcements.running():
        for approval in approvals:
            announcements.announce(approval)


async def test_a_parked_call_is_sent_with_a_standard_signature(shared: SqliteDatabase) -> None:
    receiver, approval = Receiver(204), await park(shared, client="agent 1")
    await announced(to(receiver, shared, callback_url="https://mcp.example.com/approvals/"), approval)
    (request,) = receiver.got
    told = Webhook(SECRET).verify(request.content, dict(request.headers))
    assert (request.method, str(request.url), request.headers["content-type"]) == ("POST", URL, "application/json")
    assert request.headers["webhook-id"] == f"parked-{approval.id}"
    assert told == approval_webhook.webhook_message(approval, "https://mcp.example.com/approvals")
    assert told["type"] == "approval.parked"
    assert told["data"]["callback_url"] == f"https://mcp.example.com/approvals/{approval.id}"
    assert told["data"].keys() == {
        *("id", "tool", "platform", "profile", "principal", "client", "effect", "target", "losses", "diff"),
        *(
            "tenant",
            "address",
            "sandbox",
            "effects",
            "arguments",
            "hosts",
            "secrets",
            "complete",
            "created_at",
            "expires_at",
            "callback_url",
        ),
    }
    assert receiver.closed


async def test_times_have_a_zone_and_internal_fields_are_left_out(shared: SqliteDatabase) -> None:
    approval = (await park(shared, fingerprint="f1", snapshot={"name": "Docs"})).model_copy(
        update={"created_at": 0.0, "expires_at": 86_400.5}
    )
    told = approval_webhook.webhook_message(approval)
    assert (told["timestamp"], told["data"]["created_at"]) == ("1970-01-01T00:00:00+00:00",) * 2
    assert told["data"]["expires_at"] == "1970-01-02T00:00:00+00:00"
    assert not told["data"].keys() & {"digest", "fingerprint", "snapshot", "callback_url"}


async def test_hostile_text_is_sent_as_single_lines_of_visible_characters(shared: SqliteDatabase) -> None:
    hostile = "Docs\u202e\u200b\n\x1b[31m{@everyone}\U000e0041" + "x" * 5000
    change = Change(field=hostile, before=hostile, after={hostile: [hostile]})
    approval = await park(
        shared, effect=hostile, target=hostile, principal=hostile, client=hostile, losses=(hostile,), diff=(change,)
    )
    told = json.dumps(approval_webhook.webhook_message(approval), ensure_ascii=False)
    assert told.isprintable()
    assert len(told) < 6_000


async def test_a_long_list_is_cut_and_says_so(shared: SqliteDatabase) -> None:
    many = tuple(Change(field=f"f{number}", before=None, after="y" * 500) for number in range(500))
    data = approval_webhook.webhook_message(await park(shared, diff=many))["data"]
    assert (len(data["diff"]), data["complete"]) == (40, False)
    assert data["diff"][0]["before"] is None
    assert len(json.dumps(data)) < 20_000
    assert approval_webhook.webhook_message(await park(shared, "d2", diff=many[:40]))["data"]["complete"] is True


async def test_a_call_parked_by_the_engine_is_sent_once_and_redacted(bench: BenchMaker, shared: SqliteDatabase) -> None:
    receiver = Receiver(200)
    announcements = to(receiver, shared)
    made = bench(policy="*=approve", database=shared, announce=announcements.announce)
    change = {"id": "github-signin", "config": {"clientId": "abc", "clientSecret": "wh1sper-the-new-secret"}}
    async with announcements.running():
        for _ in range(3):
            answer = await made.engine.call("logto_update_connector", change, FakeCaller())
            assert answer.content["error"]["code"] == "approval_required"
    (request,) = receiver.got
    data = json.loads(request.content)["data"]
    assert data["id"] == answer.content["error"]["approval"]["id"]
    assert data["effect"] == answer.content["error"]["effect"]
    assert "config.clientSecret" in {change["field"] for change in data["diff"]}
    assert b"wh1sper" not in request.content


async def test_a_wrong_ca_file_is_named_before_anything_is_announced(
    shared: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/no/such/ca.pem")
    with pytest.raises(Misconfigured, match="SSL_CERT_FILE"):
        ApprovalWebhook(URL, KEY, shared, timeout=5.0)


async def test_one_of_two_processes_sends(tmp_path: Path, shared: SqliteDatabase) -> None:
    approval = await park(shared)
    receivers = [Receiver(200), Receiver(200)]
    async with AsyncExitStack() as stack:
        for receiver in receivers:
            database = SqliteDatabase(tmp_path / "records.db")
            stack.push_async_callback(database.aclose)
            announcements = to(receiver, database)
            await stack.enter_async_context(announcements.running())
            announcements.announce(approval)
            announcements.announce(approval)
    assert sum(len(receiver.got) for receiver in receivers) == 1


async def test_a_decided_approval_is_not_sent(shared: SqliteDatabase) -> None:
    receiver, approval = Receiver(200), await park(shared)
    await announced(to(receiver, shared), await Approvals(shared, ttl=10_000).decide(approval.id, True, "ops"))
    assert receiver.got == []


@pytest.mark.parametrize("failure", [429, 500, 503, httpx.ConnectError("no"), httpx.ReadTimeout("late")])
async def test_a_temporary_failure_is_retried_under_the_same_id(shared: SqliteDatabase, failure: Any) -> None:
    receiver, approval = Receiver(failure, failure, 200), await park(shared)
    await announced(to(receiver, shared), approval)
    assert [request.headers["webhook-id"] for request in receiver.got] == [f"parked-{approval.id}"] * 3


async def test_pauses_are_random_and_growing_and_each_attempt_has_its_own_signature(
    shared: SqliteDatabase, virtual_time: VirtualTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    receiver, approval = Receiver(500), await park(shared)
    announcements = to(receiver, shared, sleep=virtual_time.sleep, clock=lambda: 1_000 + virtual_time.now)
    async with announcements.running():
        announcements.announce(approval)
        for _ in range(len(PAUSES) - 1):
            await virtual_time.asleep()
            virtual_time.pass_by(PAUSES[-1])
    assert virtual_time.pauses == [1, 2, 4, 8, 16]
    assert [request.headers["webhook-timestamp"] for request in receiver.got] == [
        str(1_000 + int(PAUSES[-1]) * attempt) for attempt in range(len(PAUSES))
    ]
    assert len({request.headers["webhook-signature"] for request in receiver.got}) == len(PAUSES)


async def test_a_lasting_failure_is_logged_and_retried(
    shared: SqliteDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    receiver, approval = Receiver(500), await park(shared)
    await announced(to(receiver, shared), approval)
    assert len(receiver.got) == len(PAUSES)
    assert caplog.messages == [f"{approval.id} could not be sent to the webhook: it answered 500"]
    assert (await Approvals(shared, ttl=10_000).get(approval.id)).status == "pending"
    well = Receiver(200)
    await announced(to(well, shared), approval)
    await announced(to(well, shared), approval)
    assert len(well.got) == 1


@pytest.mark.parametrize("status", [301, 307, 400, 401, 404, 410])
async def test_refusal_and_redirect_are_final(
    shared: SqliteDatabase, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    receiver = Receiver(status)
    await announced(to(receiver, shared), await park(shared))
    assert len(receiver.got) == 1
    assert caplog.messages[0].endswith(f"it answered {status}")


async def test_neither_address_nor_secret_is_logged(shared: SqliteDatabase, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await announced(to(Receiver(httpx.ConnectError(f"no {URL}")), shared), await park(shared))
    assert "ConnectError" in caplog.text
    assert "s3cret-path" not in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.usefixtures("brief_shutdown")
async def test_a_silent_receiver_is_cut_off_at_shutdown(
    shared: SqliteDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    receiver, approval = Silent(200), await park(shared)
    announcements = to(receiver, shared, timeout=3600.0)
    async with announcements.running():
        announcements.announce(approval)
        while not receiver.got:
            await anyio.lowlevel.checkpoint()
    assert caplog.messages == [f"{approval.id} could not be sent to the webhook: the server shut down first"]
    assert rows(shared, "SELECT announced_at FROM approvals") == [{"announced_at": None}]
    announcements.announce(approval)
    assert caplog.messages[1].endswith("the server is shutting down")


async def test_an_attempt_has_a_time_limit(shared: SqliteDatabase, caplog: pytest.LogCaptureFixture) -> None:
    receiver = Silent(200)
    await announced(to(receiver, shared, timeout=0.001), await park(shared))
    assert len(receiver.got) == len(PAUSES)
    assert caplog.messages[0].endswith("TimeoutError")


@pytest.fixture
def brief_shutdown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(approval_webhook, "SHUTDOWN_SECONDS", 0.0)


@pytest.mark.usefixtures("brief_shutdown")
async def test_messages_in_flight_are_limited(shared: SqliteDatabase, caplog: pytest.LogCaptureFixture) -> None:
    approval = await park(shared)
    announcements = to(Silent(200), shared)
    async with announcements.running():
        for number in range(MAX_IN_FLIGHT + 1):
            announcements.announce(approval.model_copy(update={"id": f"ap-{number}"}))
    assert caplog.messages[0].startswith(f"ap-{MAX_IN_FLIGHT} is not sent")


@pytest.mark.parametrize("failure", [StoreUnavailable("the database is away", fix=""), RuntimeError("a bug")])
async def test_an_internal_failure_ends_neither_the_server_nor_the_call(
    bench: BenchMaker, caplog: pytest.LogCaptureFixture, failure: Exception
) -> None:
    class Broken:
        async def write(self, _: object) -> bool:
            raise failure

    announcements = to(Receiver(200), Broken())
    made = bench(policy="destroy=approve", announce=announcements.announce)
    async with announcements.running():
        answer = await made.engine.call("logto_delete_connector", {"id": "github-signin"}, FakeCaller())
    assert answer.content["error"]["code"] == "approval_required"
    assert str(failure) in caplog.text


@pytest.mark.parametrize(
    "url", ["http://hooks.example.com/x", "ftp://example.com", "hooks.example.com", "https://", "https://u:p@e.com", ""]
)
async def test_an_insecure_url_is_refused_and_not_shown(url: str, database: SqliteDatabase) -> None:
    with pytest.raises(Misconfigured, match="CONNECTOR_MCP_WEBHOOK_URL") as caught:
        ApprovalWebhook(url, KEY, database, timeout=1.0)
    assert not url or url not in caught.value.message


# Signatures ----------------------------------------------------------------------------------------------------------

OTHER = "whsec_" + "b3RoZXIg" * 4
BODY = '{"test": 2432232314}'


def signed(*, at: float | None = None, body: str = BODY) -> dict[str, str]:
    return KEY.headers("msg_1", time.time() if at is None else at, body)


def verify(headers: dict[str, str], body: bytes = BODY.encode(), key: WebhookKey = KEY) -> str:
    return key.verify(headers.items(), body)


def test_the_signature_is_that_of_the_specification() -> None:
    assert KEY.headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, BODY) == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_a_receiver_with_the_same_secret_accepts_our_signature_and_another_does_not() -> None:
    assert Webhook(SECRET).verify(BODY, signed()) == {"test": 2432232314}
    with pytest.raises(WebhookVerificationError):
        Webhook(OTHER).verify(BODY, signed())


def test_one_valid_signature_among_others_is_enough() -> None:
    headers = signed()
    others = f"v1,AAAA v2,{'x' * 20} v1a,zzzz nonsense v1,!! v1,{'A' * 43}= {headers['webhook-signature']}"
    assert verify(headers | {"webhook-signature": others}) == "msg_1"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("webhook-id", "msg_2"), ("webhook-id", ""), ("webhook-id", "a.b"), ("webhook-id", "m" * 129),
        ("webhook-timestamp", "1"), ("webhook-timestamp", "1e9"), ("webhook-timestamp", "+{at}"),
        ("webhook-timestamp", "{at}.5"), ("webhook-timestamp", "nan"), ("webhook-timestamp", " "),
        ("webhook-timestamp", "9" * 400), ("webhook-timestamp", "9" * 12), ("webhook-signature", ""),
        ("webhook-signature", "v1,"), ("webhook-signature", "v1,é"),
        ("webhook-signature", "v2,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
    ],
)  # fmt: skip
def test_an_altered_or_malformed_header_is_refused(name: str, value: str) -> None:
    at = int(time.time())
    with pytest.raises(InvalidSignature):
        verify(signed(at=at) | {name: value.format(at=at)})


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_each_header_is_required_once(name: str) -> None:
    headers = list(signed().items())
    for wrong in ([pair for pair in headers if pair[0] != name], [*headers, (name.title(), dict(headers)[name])]):
        with pytest.raises(InvalidSignature, match="each once"):
            KEY.verify(wrong, BODY.encode())


@pytest.mark.parametrize(
    ("body", "secret"), [(BODY.encode() + b" ", SECRET), (b"", SECRET), (b"\xff", SECRET), (BODY.encode(), OTHER)]
)
def test_an_altered_body_or_another_secret_is_refused(body: bytes, secret: str) -> None:
    with pytest.raises(InvalidSignature):
        verify(signed(), body, WebhookKey.parse(secret, "SETTING"))


def test_parts_that_are_moved_over_the_separator_are_refused() -> None:
    now = int(time.time())
    headers = signed(at=now, body=f"{now}.{BODY}")
    with pytest.raises(InvalidSignature):
        verify(headers | {"webhook-id": f"msg_1.{now}"})


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_message_is_accepted_within_five_minutes_of_its_timestamp(sign: int) -> None:
    assert verify(signed(at=time.time() + sign * (TOLERANCE - 10))) == "msg_1"
    with pytest.raises(InvalidSignature, match="timestamp too"):
        verify(signed(at=time.time() + sign * (TOLERANCE + 10)))


@pytest.mark.parametrize(
    "secret", ["", "whsec_", "whsec_c2hvcnQ=", "whsec_!!!", SECRET.removeprefix("whsec_"), "whsec_" + "AAAA" * 22]
)
def test_an_invalid_secret_is_refused_by_the_name_of_its_setting_and_not_shown(secret: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        WebhookKey.parse(secret, "CONNECTOR_MCP_WEBHOOK_SECRET")
    assert caught.value.message.startswith("CONNECTOR_MCP_WEBHOOK_SECRET is not a signing secret")
    assert secret.removeprefix("whsec_") == "" or secret not in caught.value.message


def test_a_key_is_not_in_its_repr() -> None:
    assert repr(KEY) == "WebhookKey()"
