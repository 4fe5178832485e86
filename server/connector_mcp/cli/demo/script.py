"""The demo's session: what an assistant does, in order, each claim checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from mcp.client.client import Client
from mcp.client.context import ClientRequestContext
from mcp_types import ElicitRequestFormParams, ElicitRequestParams, ElicitResult

from connector_mcp.cli.demo.narrator import Narrator, expect
from connector_mcp.json_values import JsonObject
from connector_mcp.sandbox import seed

BUCKET_SECRET = "demo-secret-that-must-not-come-back"  # noqa: S105 - made up, and looked for in every answer
CONNECTOR_NAME = "Quarterly reports"


class Person:
    """The person at the client, by script: what to answer to the next questions, in order."""

    def __init__(self, narrator: Narrator) -> None:
        self._narrator = narrator
        self._replies: list[ElicitResult] = []
        self.questions: list[str] = []

    def will_decline(self) -> None:
        self._replies.append(ElicitResult(action="decline"))

    def will_type(self, text: str) -> None:
        self._replies.append(ElicitResult(action="accept", content={"confirm": text}))

    async def answer(self, context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        """The elicitation callback of the client. What is not in the script is declined."""
        if not isinstance(params, ElicitRequestFormParams):
            return ElicitResult(action="decline")
        self.questions.append(params.message)
        self._narrator.asked(params.message)
        reply = self._replies.pop(0) if self._replies else ElicitResult(action="decline")
        typed = (reply.content or {}).get("confirm")
        self._narrator.replied(f"types {json.dumps(typed)}" if reply.action == "accept" else "declines")
        return reply


class Session:
    """The scenes of the demo over one connected client."""

    def __init__(self, client: Client, person: Person, narrator: Narrator, audit_log: Path) -> None:
        self._client = client
        self._person = person
        self._tell = narrator
        self._audit_log = audit_log

    async def run(self) -> None:
        """Play all scenes.

        Raises:
            Failure: Something is not as the demo says.
        """
        await self._tools()
        connector = await self._vectorize()
        await self._versori()
        await self._deletion(connector)
        await self._conductorone()
        await self._logto()

    async def _tools(self) -> None:
        self._tell.step("The tools that the assistant sees")
        names = [tool.name for tool in (await self._client.list_tools()).tools]
        for platform in ("vectorize", "logto", "versori", "conductorone"):
            own = [name.removeprefix(f"{platform}_") for name in names if name.startswith(f"{platform}_")]
            expect(bool(own), f"{platform} has tools")
            self._tell.listed(f"{platform}_…", own)
        others = [name for name in names if not name.startswith(("vectorize_", "logto_", "versori_", "conductorone_"))]
        self._tell.listed("every platform", others)
        self._tell.note(f"{len(names)} tools")
        expect("vectorize_delete_source_connector" in names, "a source connector can be deleted")

    async def _vectorize(self) -> str:
        self._tell.step("Vectorize: connect an S3 bucket, and read it back")
        config = {
            "access-key": "AKIADEMODEMODEMODEMO",
            "secret-key": BUCKET_SECRET,
            "bucket-name": "acme-quarterly-reports",
            "region": "eu-central-1",
            "archiver": False,
        }
        shown = config | {"access-key": "…", "secret-key": "…"}
        connector = {"name": CONNECTOR_NAME, "type": "AWS_S3", "config": config}
        self._tell.called("vectorize_create_source_connector", {"connectors": [connector | {"config": shown}]})
        created = await self._data("vectorize_create_source_connector", {"connectors": [connector]}, quiet=True)
        identifier = str(created[0]["id"])
        self._tell.answered("created", created[0])
        record = await self._data("vectorize_get_source_connector", {"source_connector_id": identifier})
        expect(record["configDoc"]["bucket-name"] == "acme-quarterly-reports", "the bucket's name was stored")
        self._tell.answered("config", record["configDoc"])
        expect(record["configDoc"].get("secret-key") in (None, "[redacted]"), "the secret is not shown")
        kept = self._audited("vectorize_create_source_connector")["connectors"][0]["config"]
        expect(kept["secret-key"] == "[redacted]", "the audit log keeps the call without its secret")
        self._tell.answered("audit log", kept)
        return identifier

    async def _versori(self) -> None:
        self._tell.step("Versori: rename a connector; its PUT would unset what is not sent, so the server merges")
        arguments = {"connector_id": seed.VERSORI_CRM}
        before = await self._data("versori_get_connector", arguments, quiet=True)
        update = {**arguments, "name": "Acme CRM (EMEA)", "tags": {"team": ["sales", "support", "success"]}}
        content = await self._call("versori_update_connector", update)
        after = await self._data("versori_get_connector", arguments, quiet=True)
        for change in content["meta"]["changes"]:
            self._tell.changed(change["field"], change["before"], change["after"])
        changed = {change["field"] for change in content["meta"]["changes"]}
        expect(changed == {"name", "tags"}, "only the name and the tags were to change")
        expect(after["name"] == "Acme CRM (EMEA)", "the connector has its new name")
        for member in ("baseUrl", "documentationURL", "imageURL", "public"):
            expect(before[member] == after[member], f"{member} kept its value")
            self._tell.kept(member, after[member])
        self._tell.answered("verified by reading back", content["meta"]["verified"])

    async def _deletion(self, connector: str) -> None:
        arguments = {"source_connector_id": connector}
        self._tell.step("Vectorize: delete the connector; the person says no")
        self._person.will_decline()
        refusal = await self._refusal("vectorize_delete_source_connector", arguments)
        expect(refusal["code"] == "refused", "a declined deletion is refused")
        expect(len(self._person.questions) == 1, "the person was asked")
        still = await self._data("vectorize_get_source_connector", arguments, quiet=True)
        expect(still["id"] == connector, "the connector is still there")
        self._tell.answered("still there", still["name"])

        self._tell.step("Vectorize: delete it again; the person types its name")
        self._person.will_type(CONNECTOR_NAME)
        await self._call("vectorize_delete_source_connector", arguments)
        expect(len(self._person.questions) == 2, "the person was asked anew")
        gone = await self._refusal("vectorize_get_source_connector", arguments)
        expect(gone["code"] == "not_found", "the connector is gone")

    async def _conductorone(self) -> None:
        self._tell.step("ConductorOne: see an app's connectors, and describe one of them")
        app = {"app_id": seed.CONDUCTORONE_APP_ID}
        for row in await self._data("conductorone_list_connectors", app):
            status = row.get("status", {}).get("status", "no sync yet")
            self._tell.answered(str(row["displayName"]), f"{row['id']}, {status}")
        update = {**app, "id": seed.CONDUCTORONE_SLACK, "description": "Workforce chat, synced hourly"}
        content = await self._call("conductorone_update_connector", update)
        expect(content["data"]["description"] == update["description"], "the description was changed")
        for change in content["meta"].get("changes", ()):
            self._tell.changed(change["field"], change["before"], change["after"])

    async def _logto(self) -> None:
        self._tell.step("Logto: read a sign-in connector; its secret stays on the server")
        record = await self._data("logto_get_connector", {"id": seed.LOGTO_GITHUB})
        expect(record["config"]["clientSecret"] == "[redacted]", "the client secret is redacted")
        self._tell.answered(str(record["connectorId"]), record["config"])

    async def _data(self, tool: str, arguments: Mapping[str, Any], *, quiet: bool = False) -> Any:
        return (await self._call(tool, arguments, quiet=quiet))["data"]

    async def _call(self, tool: str, arguments: Mapping[str, Any], *, quiet: bool = False) -> JsonObject:
        if not quiet:
            self._tell.called(tool, arguments)
        content, failed = await self._content(tool, arguments)
        expect(not failed, f"{tool} succeeds, not {content.get('error')}")
        expect(content["meta"].get("sandbox") is True, "every answer says that it is the sandbox's")
        return content

    async def _refusal(self, tool: str, arguments: Mapping[str, Any]) -> JsonObject:
        self._tell.called(tool, arguments)
        content, failed = await self._content(tool, arguments)
        expect(failed, f"{tool} does not succeed")
        error = cast("JsonObject", content["error"])
        self._tell.refused(str(error["code"]), str(error["message"]))
        return error

    def _audited(self, tool: str) -> JsonObject:
        """The arguments of the tool's latest call, as the server's audit log has them."""
        text = self._audit_log.read_text(encoding="utf-8")
        expect(BUCKET_SECRET not in text, "no secret is in the audit log")
        calls = [record for record in map(json.loads, text.splitlines()) if record.get("tool") == tool]
        expect(bool(calls), f"the audit log has the call of {tool}")
        return cast("JsonObject", calls[-1]["arguments"])

    async def _content(self, tool: str, arguments: Mapping[str, Any]) -> tuple[JsonObject, bool]:
        result = await self._client.call_tool(tool, dict(arguments))
        content = result.structured_content
        expect(BUCKET_SECRET not in result.model_dump_json(), "no secret comes back")
        expect(isinstance(content, dict), f"{tool} answers with structured content")
        return cast("JsonObject", content), bool(result.is_error)
