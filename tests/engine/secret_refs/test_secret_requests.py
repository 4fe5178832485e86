"""Missing secrets are asked for: by whom, of whom, how often, and what becomes of the call."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from connector_mcp.engine.approval.hold import ApprovalHold
from connector_mcp.engine.caller import AnswerDue, CannotAsk, ElicitationReply, Resumed, Visit
from connector_mcp.engine.engine import Engine
from connector_mcp.engine.secret_refs.secret_requests import MOST_OPEN, SecretRequest, SecretRequests
from connector_mcp.secrets.collection import Secrets
from connector_mcp.secrets.encrypted import EncryptedFile, KeyFile
from connector_mcp.secrets.reference import SecretLimits
from connector_mcp.state.sqlite import SqliteDatabase
from tests.engine.conftest import AsksByReturning, BenchMaker, FakeCaller, yes

pytestmark = pytest.mark.anyio

VALUE = "marked-github-secret"
TOOL = "logto_create_connector"
ARGUMENTS: dict[str, Any] = {
    "connector_id": "discord-universal",
    "config": {"clientId": "i", "clientSecret": "secret://GITHUB"},
}
YES = ElicitationReply("accept", {})


class House:
    """An engine that can ask for secrets, and where they go."""

    def __init__(self, bench: BenchMaker, database: SqliteDatabase, path: Path, **options: Any) -> None:
        self.stored = EncryptedFile(path / "secrets.enc", KeyFile(path / "secrets.key"))
        self.requests = SecretRequests(database, self.stored)
        self.requests.have_pages_at(self._address)
        self.slept = 0
        limits: dict[str, SecretLimits] = options.pop("limits", {})
        wait = ApprovalHold(0, clock=lambda: float(self.slept), records=self)
        self.bench = bench(
            database=database,
            secrets=Secrets([self.stored], limits),
            secret_requests=self.requests,
            hold=wait,
            **options,
        )
        self.engine: Engine = self.bench.engine

    async def _address(self) -> str:
        return "http://127.0.0.1:1"

    changes = 0

    async def changed(self, seconds: float, since: int | None = None) -> None:
        """Wait as for a database in which nothing changes."""
        self.slept += 30

    async def submit(self, visit: Visit, *, value: str = VALUE, code: str | None = None, by: str = "local") -> str:
        shown = visit.message.rpartition("code: ")[2]
        return await self.requests.submit(visit.id, code=shown if code is None else code, value=value, principal=by)

    def enters(self) -> Callable[[Visit], Awaitable[ElicitationReply]]:
        async def enter(visit: Visit) -> ElicitationReply:
            assert await self.submit(visit) == "entered"
            return YES

        return enter

    async def opened(self, **changed: Any) -> SecretRequest:
        wanted: dict[str, Any] = {
            "name": "GITHUB", "principal": "local", "tool": TOOL, "platform": "logto", "profile": "default",
            "fields": ("config.clientSecret",), "digest": "d",
        }  # fmt: skip
        request = await self.requests.open(SecretRequest(**(wanted | changed)))
        assert request is not None
        return request

    async def ask(self) -> tuple[AsksByReturning, str]:
        """A caller whose call was answered with a question, and the ticket of the question."""
        caller = AsksByReturning(sends=YES)
        with pytest.raises(AnswerDue) as due:
            await self.engine.call(TOOL, ARGUMENTS, caller)
        return caller, due.value.ticket

    async def error(self, caller: FakeCaller, arguments: dict[str, Any] | None = None) -> dict[str, Any]:
        result = await self.engine.call(TOOL, arguments or ARGUMENTS, caller)
        assert result.is_error
        return result.content["error"]


@pytest.fixture
def make_house(bench: BenchMaker, database: SqliteDatabase, tmp_path: Path) -> Callable[..., House]:
    return partial(House, bench, database, tmp_path)


@pytest.fixture
def house(make_house: Callable[..., House]) -> House:
    return make_house()


async def test_the_call_goes_on_with_what_was_entered(house: House) -> None:
    caller = FakeCaller(sends=house.enters())
    result = await house.engine.call(TOOL, ARGUMENTS, caller)
    assert not result.is_error, result.content
    (visit,) = caller.visits
    assert visit.url == f"http://127.0.0.1:1/secrets/{visit.id}"
    assert caller.done == [visit]
    assert VALUE not in str(result.content) + "".join(house.bench.audit_lines)


async def test_a_question_that_is_returned_is_taken_up_by_the_same_call(house: House) -> None:
    first, ticket = await house.ask()
    assert await house.submit(first.visits[0]) == "entered"
    second = AsksByReturning(sends=YES, resumed=Resumed(ticket, YES))
    result = await house.engine.call(TOOL, ARGUMENTS, second)
    assert not result.is_error, result.content
    assert second.visits == []


async def test_the_page_confirms_nothing(make_house: Callable[..., House]) -> None:
    house = make_house(policy="create=ask")
    first, ticket = await house.ask()
    await house.submit(first.visits[0])
    second = AsksByReturning(sends=YES, resumed=Resumed(ticket, yes()))
    with pytest.raises(AnswerDue):
        await house.engine.call(TOOL, ARGUMENTS, second)
    assert len(second.questions) == 1
    assert house.bench.requests("POST") == []


async def test_confirming_opens_no_page(make_house: Callable[..., House]) -> None:
    house = make_house(policy="create=ask")
    house.stored.put("GITHUB", VALUE, SecretLimits())
    _, ticket = await house.ask()
    house.stored.remove("GITHUB")
    again = AsksByReturning(sends=YES, resumed=Resumed(ticket, yes()))
    with pytest.raises(AnswerDue):
        await house.engine.call(TOOL, ARGUMENTS, again)
    assert len(again.visits) == 1


async def test_a_call_is_held_only_so_long_and_asks_again_for_the_same_page(house: House) -> None:
    caller = FakeCaller(sends=YES)
    fix = (await house.error(caller))["fix"]
    # Clients give up after 60 seconds.
    assert 40 <= house.slept <= 60 < house.engine.settings.ask_timeout
    assert caller.told[0] == "Waiting for GITHUB to be entered"
    page, _, code = caller.visits[0].url, *caller.visits[0].message.rpartition("code: ")[1:]
    assert f"can still do so at {page} with the code" in fix
    assert "make the same call again" in fix
    assert code not in fix
    await house.error(caller)
    assert caller.visits[0] == caller.visits[1]
    # Another call is another request.
    await house.error(caller, ARGUMENTS | {"config": ARGUMENTS["config"] | {"clientId": "other"}})
    assert caller.visits[2].id != caller.visits[0].id


async def test_a_round_is_held_only_so_long_and_the_next_one_goes_on_with_what_was_entered(house: House) -> None:
    first, ticket = await house.ask()
    second = AsksByReturning(sends=YES, resumed=Resumed(ticket, YES))
    fix = (await house.error(second))["fix"]
    assert 40 <= house.slept <= 60
    assert f"can still do so at {first.visits[0].url} with the code" in fix
    assert await house.submit(first.visits[0]) == "entered"
    assert not (await house.engine.call(TOOL, ARGUMENTS, AsksByReturning(sends=YES))).is_error


async def test_a_round_for_a_page_that_is_used_up_does_not_open_another(house: House) -> None:
    first, ticket = await house.ask()
    await house.requests.withdraw(first.visits[0].id)
    second = AsksByReturning(sends=YES, resumed=Resumed(ticket, YES))
    assert "used up" in (await house.error(second))["fix"]
    assert second.visits == []


@pytest.mark.parametrize("action", ["decline", "cancel"])
async def test_declining_withdraws_the_request(house: House, action: Any) -> None:
    caller = FakeCaller(sends=ElicitationReply(action, {}))
    assert (await house.error(caller))["code"] == "refused"
    assert await house.submit(caller.visits[0]) == "gone"


@pytest.mark.parametrize("sends", [None, CannotAsk()])
async def test_a_caller_that_cannot_open_a_page_gets_the_link_and_the_command(house: House, sends: Any) -> None:
    fixes = {(await house.error(FakeCaller(sends=sends)))["fix"] for _ in range(2)}
    (page, code), *more = {
        each for fix in fixes for each in re.findall(r"http://127.0.0.1:1/secrets/(\S+) .code: (\S+)\)", fix)
    }
    assert more == []
    assert all("connector-mcp secrets set GITHUB" in fix for fix in fixes)
    assert await house.requests.submit(page, code=code, value=VALUE, principal="local") == "entered"
    assert not (await house.engine.call(TOOL, ARGUMENTS, FakeCaller(sends=sends))).is_error


async def test_other_problems_come_first(make_house: Callable[..., House]) -> None:
    house = make_house(limits={"GITHUB": SecretLimits(platforms=("vectorize",))})
    caller = FakeCaller(sends=YES)
    assert "may not be used here" in (await house.error(caller))["message"]
    config = {"clientId": "secret://GITHUB", "clientSecret": "secret://OTHER"}
    await house.error(caller, ARGUMENTS | {"config": config})
    assert caller.visits == []


async def test_a_field_in_a_list_is_named_as_in_one_record(house: House) -> None:
    config = {"access-key": "secret://KEY", "secret-key": "secret://KEY", "bucket-name": "b", "archiver": False}
    caller = FakeCaller(sends=house.enters())
    arguments = {"connectors": [{"name": "n", "type": "AWS_S3", "config": config}]}
    result = await house.engine.call("vectorize_create_source_connector", arguments, caller)
    assert not result.is_error, result.content
    assert len(caller.visits) == 1
    allowed = SecretLimits(("vectorize",), ("default",), ("config.access-key", "config.secret-key"))
    assert house.stored.limits("KEY") == allowed


async def test_a_secret_that_was_stored_meanwhile_is_not_replaced(house: House) -> None:
    request = await house.opened()
    house.stored.put("GITHUB", "the operator's", SecretLimits())
    code = await house.requests.code(request)
    assert await house.requests.submit(request.id, code=code, value=VALUE, principal="local") == "stored already"
    assert house.stored.read("GITHUB") == "the operator's"


async def test_an_agent_cannot_have_pages_without_end(house: House) -> None:
    for number in range(MOST_OPEN):
        await house.opened(digest=f"d{number}")
    caller = FakeCaller(sends=YES)
    assert "connector-mcp secrets set GITHUB" in (await house.error(caller))["fix"]
    assert caller.visits == []
