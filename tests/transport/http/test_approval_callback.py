"""Signed decisions of other systems: what is accepted, and everything that must not decide."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import anyio
import httpx
import pytest
from standardwebhooks.webhooks import Webhook

from connector_mcp.engine.approval.approval_webhook import TOLERANCE, WebhookKey, webhook_message
from connector_mcp.engine.approval.parked_call import Approval, ParkedCall
from connector_mcp.engine.approval.queue import Approvals
from connector_mcp.state.sqlite import SqliteDatabase
from connector_mcp.transport.auth.authorization import Callers
from connector_mcp.transport.auth.static_tokens import StaticToken
from connector_mcp.transport.http.approval_callback import MAX_BODY, OPEN_PATH, callback_route
from tests.engine.faulty_database import FaultyDatabase, StepFault
from tests.transport.conftest import FakeEngine, app_client

pytestmark = pytest.mark.anyio

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ANNOUNCING = WebhookKey.parse("whsec_" + "b3RoZXIg" * 4, "SETTING")
KEY = WebhookKey.parse(SECRET, "SETTING")


class Desk:
    """A server with a token for its callers, a parked call, and who decides elsewhere."""

    def __init__(self, engine: Any, approval: Approval, client: httpx.AsyncClient) -> None:
        self.engine = engine
        self.approval = approval
        self.client = client
        self.now = time.time()

    def body(self, **changed: Any) -> bytes:
        told = {"id": self.approval.id, "decision": "approve", "by": "ana@example.com", **changed}
        return json.dumps({name: value for name, value in told.items() if value is not ...}).encode()

    async def post(
        self,
        body: bytes | None = None,
        *,
        message: str = "msg_1",
        at: float | None = None,
        key: WebhookKey = KEY,
        path: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        body = self.body() if body is None else body
        signed = key.headers(message, int(self.now if at is None else at), body.decode(errors="replace"))
        address = path or f"/approvals/{self.approval.id}"
        return await self.client.post(address, content=body, headers={**signed, **(headers or {})})

    async def status(self) -> str:
        return (await self.engine.approvals.get(self.approval.id)).status


def parked(digest: str = "d1") -> ParkedCall:
    call = {"tool": "logto_delete_connector", "platform": "logto", "profile": "default", "principal": "token"}
    return ParkedCall(digest=digest, effect="Deletes “Docs”.", arguments={}, **call)


@asynccontextmanager
async def opened(records: Path, approval: Approval | None = None) -> AsyncGenerator[Desk]:
    """The desk of one of several servers that share records; parks a call unless there is one."""
    engine: Any = FakeEngine()
    async with aclosing(SqliteDatabase(records)) as database:
        engine.approvals = Approvals(database, ttl=10_000)
        parked_call = approval or await engine.approvals.park(parked())
        options = {"pages": (callback_route(engine, KEY),), "open_paths": (OPEN_PATH,)}
        callers = Callers([StaticToken.from_secret("t0ken-of-the-callers")])
        async with app_client(engine, callers=callers, **options) as client:
            yield Desk(engine, parked_call, client)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncGenerator[Desk]:
    async with opened(tmp_path / "records.db") as made:
        yield made


@pytest.mark.parametrize(("decision", "status"), [("approve", "approved"), ("deny", "denied")])
async def test_a_signed_message_decides(desk: Desk, decision: str, status: str) -> None:
    answer = await desk.post(desk.body(decision=decision, reason="seen"))
    assert (answer.status_code, answer.json()) == (200, {"id": desk.approval.id, "status": status})
    assert answer.headers["cache-control"] == "no-store"
    decided = await desk.engine.approvals.get(desk.approval.id)
    assert (decided.status, decided.decided_by) == (status, "webhook ana@example.com")
    assert (decided.channel, decided.reason) == ("webhook", "seen")


async def test_the_library_of_the_specification_can_decide(desk: Desk) -> None:
    body = desk.body().decode()
    signature = Webhook(SECRET).sign("msg_1", datetime.fromtimestamp(int(desk.now), UTC), body)
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(int(desk.now)), "webhook-signature": signature}
    headers["content-type"] = "application/json"
    answer = await desk.client.post(f"/approvals/{desk.approval.id}", content=body, headers=headers)
    assert (answer.status_code, await desk.status()) == (200, "approved")


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer t0ken-of-the-callers"}])
async def test_a_token_of_the_callers_decides_nothing(desk: Desk, headers: dict[str, str]) -> None:
    answer = await desk.client.post(f"/approvals/{desk.approval.id}", content=desk.body(), headers=headers)
    assert (answer.status_code, await desk.status()) == (401, "pending")
    assert answer.headers["www-authenticate"] == "StandardWebhooks"


async def test_an_announcement_that_is_sent_back_decides_nothing(desk: Desk) -> None:
    body = json.dumps(webhook_message(desk.approval)).encode()
    for key, status in ((ANNOUNCING, 401), (KEY, 400)):
        assert (await desk.post(body, key=key)).status_code == status
    assert await desk.status() == "pending"


async def test_the_secret_of_announcements_signs_no_decision(desk: Desk) -> None:
    assert ((await desk.post(key=ANNOUNCING)).status_code, await desk.status()) == (401, "pending")


@pytest.mark.parametrize(("header", "value"), [("signature", "v1,AAAA"), ("id", "msg_2"), ("timestamp", "1")])
async def test_an_altered_message_decides_nothing(desk: Desk, header: str, value: str) -> None:
    answer = await desk.post(headers={f"webhook-{header}": value})
    assert (answer.status_code, await desk.status()) == (401, "pending")


@pytest.mark.parametrize("age", [TOLERANCE + 60, -TOLERANCE - 60])
async def test_a_message_with_an_old_or_future_timestamp_decides_nothing(desk: Desk, age: float) -> None:
    answer = await desk.post(at=desk.now - age)
    assert (answer.status_code, await desk.status()) == (401, "pending")
    assert "Message timestamp too" in answer.json()["error"]


async def test_a_message_that_is_delivered_again_is_answered_with_its_decision(desk: Desk, tmp_path: Path) -> None:
    body = desk.body()
    assert (await desk.post(body)).json()["status"] == "approved"
    async with opened(tmp_path / "records.db", desk.approval) as replica:
        again = await replica.post(body)
        assert (again.status_code, again.json()["status"]) == (200, "approved")
        # Neither another message nor another decision under the same id.
        assert (await replica.post(body, message="msg_2")).status_code == 409
        assert (await replica.post(desk.body(decision="deny"))).status_code == 409
    decided = await desk.engine.approvals.get(desk.approval.id)
    assert (decided.status, decided.decided_by) == ("approved", "webhook ana@example.com")


async def test_one_of_many_concurrent_messages_decides(desk: Desk) -> None:
    statuses: list[int] = []

    async def post(number: int) -> None:
        body = desk.body(decision="approve" if number % 2 else "deny")
        statuses.append((await desk.post(body, message=f"msg_{number}")).status_code)

    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(post, number)
    assert sorted(statuses) == [200] + [409] * 19


async def test_a_message_about_an_approval_decides_no_other(desk: Desk) -> None:
    other = await desk.engine.approvals.park(parked("d2"))
    answer = await desk.post(path=f"/approvals/{other.id}")
    assert answer.status_code == 400
    assert await desk.engine.approvals.counts() == {"pending": 2}


async def test_a_message_about_an_approval_that_ended_does_not_reach_the_next_one_of_the_same_call(desk: Desk) -> None:
    body, at = desk.body(), desk.now
    await desk.engine.approvals.void(desk.approval.id, "the target changed after the approval")
    again = await desk.engine.approvals.park(parked())
    assert (await desk.post(body, at=at)).status_code == 409
    assert (await desk.engine.approvals.get(again.id)).status == "pending"


async def test_a_decision_is_final(desk: Desk) -> None:
    await desk.engine.approvals.decide(desk.approval.id, False, "operator ops")
    answer = await desk.post()
    assert (answer.status_code, await desk.status()) == (409, "denied")
    assert "it is denied by operator ops" in answer.json()["error"]


async def test_an_unknown_id_is_not_found(desk: Desk) -> None:
    answer = await desk.post(desk.body(id="ap-nothere"), path="/approvals/ap-nothere")
    assert answer.status_code == 404
    assert desk.approval.id not in answer.text


@pytest.mark.parametrize(
    "changed",
    [
        {"decision": "yes"},
        {"decision": True},
        {"decision": ...},
        {"by": ""},
        {"by": "\u200b\u202e"},
        {"by": "a" * 81},
        {"by": ...},
        {"id": 7},
        {"reason": "r" * 501},
        {"confirm": True},
    ],
)
async def test_an_invalid_body_decides_nothing(desk: Desk, changed: dict[str, Any]) -> None:
    answer = await desk.post(desk.body(**changed))
    assert (answer.status_code, await desk.status()) == (400, "pending")


@pytest.mark.parametrize(
    ("body", "status"), [(b"", 400), (b"[]", 400), (b"null", 400), (b"{" * 5000, 400), (b"\xff", 401)]
)
async def test_a_body_that_is_not_an_object_decides_nothing(desk: Desk, body: bytes, status: int) -> None:
    answer = await desk.post(body)
    assert (answer.status_code, await desk.status()) == (status, "pending")


async def test_a_message_with_an_invalid_body_can_be_corrected(desk: Desk) -> None:
    assert (await desk.post(desk.body(by=""))).status_code == 400
    assert (await desk.post()).status_code == 200


async def test_decider_and_reason_are_kept_as_single_lines_of_visible_characters(desk: Desk) -> None:
    await desk.post(desk.body(by="an\u200ba\n\x1b[31m", reason="ok\u202e\nfine"))
    decided = await desk.engine.approvals.get(desk.approval.id)
    assert (decided.decided_by, decided.reason) == ("webhook ana [31m", "ok fine")


async def test_a_body_over_the_limit_is_refused_before_it_is_checked(desk: Desk) -> None:
    assert (await desk.post(b" " * (MAX_BODY + 1))).status_code == 413


async def test_a_body_that_does_not_arrive_is_refused(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await anyio.sleep_forever()

    monkeypatch.setattr("connector_mcp.transport.http.approval_callback.BODY_SECONDS", 0.05)
    answer = await desk.client.post(f"/approvals/{desk.approval.id}", content=slow())
    assert answer.status_code == 408


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_only_post_is_allowed(desk: Desk, method: str) -> None:
    assert (await desk.client.request(method, f"/approvals/{desk.approval.id}")).status_code == 405


async def test_host_and_origin_are_checked(desk: Desk) -> None:
    assert (await desk.post(headers={"host": "evil.example"})).status_code == 421
    assert (await desk.post(headers={"origin": "https://evil.example"})).status_code == 403
    assert await desk.status() == "pending"


@pytest.mark.parametrize("fault", get_args(StepFault)[:3])
async def test_a_message_with_a_lost_answer_is_told_what_is_known_and_can_be_repeated(
    desk: Desk, tmp_path: Path, fault: StepFault
) -> None:
    database = FaultyDatabase(tmp_path / "records.db")
    desk.engine.approvals = Approvals(database, ttl=10_000)
    for step in (0, 1):
        database.arm(step, fault)
        answer = await desk.post()
        database.arm(None)
        status = await desk.status()
        if answer.status_code == 200:
            assert (answer.json()["status"], status) == ("approved", "approved")
        elif answer.status_code == 202:
            assert answer.json()["status"] == "unknown"
            assert "approvals show" not in answer.json()["message"]
        else:
            assert (answer.status_code, answer.headers["retry-after"], status) == (503, "5", "pending")
    assert (await desk.post()).status_code == 200
    assert await desk.status() == "approved"
    await database.aclose()
