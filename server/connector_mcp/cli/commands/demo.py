"""`connector-mcp demo`: what an assistant does, in order and each claim checked, through the real stdio server."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from itertools import count
from pathlib import Path
from textwrap import wrap
from typing import Any, cast

import anyio
import click
from mcp.client.client import Client
from mcp.client.context import ClientRequestContext
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp_types import ElicitRequestFormParams, ElicitRequestParams, ElicitResult

from connector_mcp import __version__
from connector_mcp.audit.reader import AuditReader, Wanted
from connector_mcp.cli.output import Failure, json_text
from connector_mcp.errors import ConnectorError
from connector_mcp.json_values import JsonObject
from connector_mcp.operations.catalog import PLATFORMS
from connector_mcp.program import runnable
from connector_mcp.sandbox import seed
from connector_mcp.state.sqlite import SqliteDatabase
from connector_mcp.text import clean, strip_hidden

BUCKET_SECRET = "demo-secret-that-must-not-come-back"  # noqa: S105 - made up, and looked for in every answer
CONNECTOR_NAME = "Quarterly reports"

_SECONDS = 60.0
_READING_SECONDS = 0.8
_WIDTH = 118


@click.command()
def demo() -> None:
    """Show a session against the sandbox, start to end.

    Starts `connector-mcp serve --sandbox` as an assistant would, and speaks MCP with it. Needs no credentials, no
    terminal and no network; leaves nothing behind.
    """
    with tempfile.TemporaryDirectory(prefix="connector-mcp-demo-") as folder:
        anyio.run(_demo, Path(folder))


async def _demo(folder: Path) -> None:
    click.secho(f"connector-mcp {__version__}: an assistant, a person, and four emulated platforms", bold=True)
    state = folder / "state"
    # The server sees only the variables named here: the SDK passes on nothing else of this process's environment.
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "connector_mcp.cli.main", "serve", "--sandbox"],
        env={"CONNECTOR_MCP_STATE_DIR": str(state)},
    )
    note("$ connector-mcp serve --sandbox")
    person = Person()
    log = folder / "server.log"
    # The log is a file because the server's stderr needs a file descriptor.
    with log.open("w", encoding="utf-8") as errlog:
        try:
            with anyio.fail_after(_SECONDS):
                transport = stdio_client(server, errlog=errlog)
                async with Client(transport, elicitation_callback=person.answer) as client:
                    await Script(client, person, state).run()
        except (Failure, ConnectorError, TimeoutError) as error:
            written = log.read_text(encoding="utf-8", errors="replace").strip()
            if written:
                click.echo(f"\nThe server wrote to stderr:\n{written}", err=True)
            if isinstance(error, TimeoutError):
                raise Failure(f"The server did not answer within {_SECONDS:.0f} s.", fix="Run it again.") from None
            raise
    click.echo()
    click.secho("Done. Attach it to a client with claude_config_example.json.", bold=True)
    click.secho(runnable("Without a client: `connector-mcp tools --sandbox`."), bold=True)


def say(sign: str, color: str, text: str) -> None:
    click.echo("   " + click.style(f"{sign} ", fg=color) + text)


def called(tool: str, arguments: Mapping[str, Any]) -> None:
    sent = clean(json_text(dict(arguments), indent=None), _WIDTH)
    say("→", "cyan", f"{click.style(tool, fg='cyan')} {sent}")


def answered(label: str, value: Any) -> None:
    text = value if isinstance(value, str) else json_text(value, indent=None)
    say("←", "green", f"{label}: {clean(text, _WIDTH)}")


def listed(label: str, names: Sequence[str]) -> None:
    """Print all names, on as many lines as needed."""
    text = f"{label}: {', '.join(map(clean, names))}"
    for line in wrap(text, _WIDTH, initial_indent="   ", subsequent_indent="      ", break_on_hyphens=False):
        click.echo(line)


def note(text: str) -> None:
    click.echo(f"   {text}")


def _value(value: Any, color: str | None = None) -> str:
    text = "(unset)" if value is None else clean(json_text(value, indent=None), 60)
    return click.style(text, fg=color) if color else text


def _expect(condition: bool, claim: str) -> None:
    if not condition:
        raise Failure(f"The demo expected that {claim}, and that failed.", fix="Run `make test`, and report this.")


class Person:
    """The person at the client: scripted replies to the next questions, in order."""

    def __init__(self) -> None:
        self._replies: list[ElicitResult] = []
        self.questions: list[str] = []

    def will_decline(self) -> None:
        self._replies.append(ElicitResult(action="decline"))

    def will_type(self, text: str) -> None:
        self._replies.append(ElicitResult(action="accept", content={"confirm": text}))

    async def answer(self, context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        """Answer a question of the server. Questions without a scripted reply are declined."""
        if not isinstance(params, ElicitRequestFormParams):
            return ElicitResult(action="decline")
        self.questions.append(params.message)
        say("?", "magenta", "the server asks, and the client shows:")
        for line in filter(str.strip, strip_hidden(params.message).splitlines()):
            click.echo(f"     {line}")
        # The server parks a call with an answer that comes before a person could read the question.
        await anyio.sleep(_READING_SECONDS)
        reply = self._replies.pop(0) if self._replies else ElicitResult(action="decline")
        typed = (reply.content or {}).get("confirm")
        said = f"types {json.dumps(typed)}" if reply.action == "accept" else "declines"
        say("!", "magenta", f"the client answers: {said}")
        return reply


class Script:
    """The scenes of the demo over one connected client."""

    def __init__(self, client: Client, person: Person, state: Path) -> None:
        self._client = client
        self._person = person
        self._state = state
        self._steps = count(1)

    async def run(self) -> None:
        """Play all scenes.

        Raises:
            Failure: Something does not happen as the demo claims.
        """
        await self._tools()
        connector = await self._vectorize()
        await self._versori()
        await self._deletion(connector)
        await self._conductorone()
        await self._logto()

    async def _tools(self) -> None:
        self._step("The tools that the assistant sees")
        names = [tool.name for tool in (await self._client.list_tools()).tools]
        for platform in PLATFORMS:
            own = [name.removeprefix(f"{platform}_") for name in names if name.startswith(f"{platform}_")]
            _expect(bool(own), f"{platform} has tools")
            listed(f"{platform}_…", own)
        others = [name for name in names if not name.startswith(tuple(f"{platform}_" for platform in PLATFORMS))]
        listed("every platform", others)
        note(f"{len(names)} tools")
        _expect("vectorize_delete_source_connector" in names, "a source connector can be deleted")

    async def _vectorize(self) -> str:
        self._step("Vectorize: connect an S3 bucket, and read it back")
        config = {
            "access-key": "AKIADEMODEMODEMODEMO",
            "secret-key": BUCKET_SECRET,
            "bucket-name": "acme-quarterly-reports",
            "region": "eu-central-1",
            "archiver": False,
        }
        shown = config | {"access-key": "…", "secret-key": "…"}
        connector = {"name": CONNECTOR_NAME, "type": "AWS_S3", "config": config}
        called("vectorize_create_source_connector", {"connectors": [connector | {"config": shown}]})
        created = await self._data("vectorize_create_source_connector", {"connectors": [connector]}, quiet=True)
        identifier = str(created[0]["id"])
        answered("created", created[0])
        record = await self._data("vectorize_get_source_connector", {"source_connector_id": identifier})
        _expect(record["configDoc"]["bucket-name"] == "acme-quarterly-reports", "the bucket's name is stored")
        answered("config", record["configDoc"])
        _expect(record["configDoc"].get("secret-key") in (None, "[redacted]"), "the secret is not shown")
        audited = self._audited("vectorize_create_source_connector")["connectors"][0]["config"]
        _expect(audited["secret-key"] == "[redacted]", "the audit log keeps the call without its secret")
        answered("audit log", audited)
        return identifier

    async def _versori(self) -> None:
        self._step("Versori: rename a connector; its PUT would unset what is not sent, so the server merges")
        arguments = {"connector_id": seed.VERSORI_CRM}
        before = await self._data("versori_get_connector", arguments, quiet=True)
        update = {**arguments, "name": "Acme CRM (EMEA)", "tags": {"team": ["sales", "support", "success"]}}
        content = await self._call("versori_update_connector", update)
        after = await self._data("versori_get_connector", arguments, quiet=True)
        self._show_changes(content)
        changed = {change["field"] for change in content["meta"]["changes"]}
        _expect(changed == {"name", "tags"}, "only the name and the tags change")
        _expect(after["name"] == "Acme CRM (EMEA)", "the connector has its new name")
        for member in ("baseUrl", "documentationURL", "imageURL", "public"):
            _expect(before[member] == after[member], f"{member} keeps its value")
            note(f"  {member}: {_value(after[member])} (kept)")
        answered("verified by reading back", content["meta"]["verified"])

    async def _deletion(self, connector: str) -> None:
        arguments = {"source_connector_id": connector}
        self._step("Vectorize: delete the connector; the answer is no")
        self._person.will_decline()
        refusal = await self._refusal("vectorize_delete_source_connector", arguments)
        _expect(refusal["code"] == "refused", "a declined deletion is refused")
        _expect(len(self._person.questions) == 1, "the person is asked")
        still = await self._data("vectorize_get_source_connector", arguments, quiet=True)
        _expect(still["id"] == connector, "the connector is still there")
        answered("still there", still["name"])

        self._step("Vectorize: delete it again; its name is typed")
        self._person.will_type(CONNECTOR_NAME)
        await self._call("vectorize_delete_source_connector", arguments)
        _expect(len(self._person.questions) == 2, "the person is asked again")
        gone = await self._refusal("vectorize_get_source_connector", arguments)
        _expect(gone["code"] == "not_found", "the connector is gone")

    async def _conductorone(self) -> None:
        self._step("ConductorOne: see an app's connectors, and describe one of them")
        app = {"app_id": seed.CONDUCTORONE_APP_ID}
        for row in await self._data("conductorone_list_connectors", app):
            status = row.get("status", {}).get("status", "no sync yet")
            answered(str(row["displayName"]), f"{row['id']}, {status}")
        update = {**app, "id": seed.CONDUCTORONE_SLACK, "description": "Workforce chat, synced hourly"}
        content = await self._call("conductorone_update_connector", update)
        _expect(content["data"]["description"] == update["description"], "the description changes")
        self._show_changes(content)

    async def _logto(self) -> None:
        self._step("Logto: read a sign-in connector; its secret stays on the server")
        record = await self._data("logto_get_connector", {"id": seed.LOGTO_GITHUB})
        _expect(record["config"]["clientSecret"] == "[redacted]", "the client secret is redacted")
        answered(str(record["connectorId"]), record["config"])

    def _step(self, text: str) -> None:
        click.echo()
        click.secho(f"{next(self._steps)}. {text}", bold=True)

    def _show_changes(self, content: JsonObject) -> None:
        for change in content["meta"].get("changes", ()):
            before, after = _value(change["before"], "red"), _value(change["after"], "green")
            note(f"  {clean(change['field'])}: {before} → {after}")

    async def _data(self, tool: str, arguments: Mapping[str, Any], *, quiet: bool = False) -> Any:
        return (await self._call(tool, arguments, quiet=quiet))["data"]

    async def _call(self, tool: str, arguments: Mapping[str, Any], *, quiet: bool = False) -> JsonObject:
        if not quiet:
            called(tool, arguments)
        content, failed = await self._content(tool, arguments)
        _expect(not failed, f"{tool} succeeds, not {content.get('error')}")
        _expect(content["meta"].get("sandbox") is True, "every result says that it is the sandbox's")
        return content

    async def _refusal(self, tool: str, arguments: Mapping[str, Any]) -> JsonObject:
        called(tool, arguments)
        content, failed = await self._content(tool, arguments)
        _expect(failed, f"{tool} does not succeed")
        error = cast("JsonObject", content["error"])
        say("←", "yellow", f"{error['code']}: {clean(str(error['message']), _WIDTH)}")
        return error

    def _audited(self, tool: str) -> JsonObject:
        """Return the arguments of the tool's latest call as the server's audit log has them."""
        with closing(SqliteDatabase(self._state / "sandbox-records.db")) as database:
            reader = AuditReader(database)
            calls = list(reader.lines(1, reader.end()[1], Wanted(tool=tool), newest_first=True))
        _expect(all(BUCKET_SECRET not in call.text for call in calls), "no secret is in the audit log")
        _expect(bool(calls) and calls[0].record is not None, f"the audit log has the call of {tool}")
        return cast("JsonObject", json.loads(calls[0].text)["arguments"])

    async def _content(self, tool: str, arguments: Mapping[str, Any]) -> tuple[JsonObject, bool]:
        result = await self._client.call_tool(tool, dict(arguments))
        content = result.structured_content
        _expect(BUCKET_SECRET not in result.model_dump_json(), "no secret comes back")
        _expect(isinstance(content, dict), f"{tool} answers with structured content")
        return cast("JsonObject", content), bool(result.is_error)
