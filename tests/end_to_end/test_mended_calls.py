"""Wrong calls that models make. The answer to each one says how to mend it in one step."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client
from mcp.shared.exceptions import MCPError

from connector_mcp.config.settings import Settings
from connector_mcp.sandbox import seed
from tests.end_to_end.faces import attached

pytestmark = pytest.mark.anyio

LIST, GET = "vectorize_get_source_connectors", "vectorize_get_source_connector"
CREATE, ADD = "vectorize_create_source_connector", "vectorize_add_user_to_source_connector"
UPDATE, VERSORI = "logto_update_connector", "versori_update_connector"
C1, DESCRIBE = "conductorone_update_connector", "describe_connector_type"
S3, CRM = seed.VECTORIZE_S3, seed.VERSORI_CRM
APP = {"app_id": seed.CONDUCTORONE_APP_ID, "id": seed.CONDUCTORONE_GITHUB}
SITE = {"name": "Site", "type": "WEB_CRAWLER", "config": {"seed-urls": ["https://a.example"]}}
FILES = {"1AbC": {"name": "Plan.docx", "mimeType": "application/vnd.google-apps.document"}}
USER = {"source_connector_id": seed.VECTORIZE_DRIVE_MULTI_USER, "user_id": "u-77", "selected_files": FILES}

WRONG: dict[str, tuple[str, dict[str, Any]]] = {
    # The name of the tool.
    "another verb": ("vectorize_list_source_connectors", {}),
    "words in another order": ("list_vectorize_sources", {}),
    "dots": ("logto.connectors.list", {}),
    "camelCase": ("logtoListConnectors", {}),
    "a prefix of the client": ("mcp__connectors__logto_list_connectors", {}),
    "plural": ("logto_get_connectors", {}),
    "singular": ("versori_list_connector", {}),
    "a synonym": ("vectorize_remove_source_connector", {"source_connector_id": seed.VECTORIZE_FILE_UPLOAD}),
    "another word for the thing": ("logto_fetch_connector_details", {"id": "github-signin"}),
    "a typo": ("vectorize_get_source_conectors", {}),
    # The names of arguments.
    "camelCase of an argument": (GET, {"sourceConnectorId": S3}),
    "a shorter name": (GET, {"connector_id": S3}),
    "only id": (GET, {"id": S3}),
    "a longer name": ("logto_get_connector", {"connector_id": "github-signin"}),
    "the platform's own name": (VERSORI, {"connector_id": CRM, "baseURL": "https://crm.acme.example"}),
    "another word for a name": (VERSORI, {"connectorId": CRM, "displayName": "Acme CRM 2"}),
    "camelCase of several": (C1, {"appId": APP["app_id"], "id": APP["id"], "displayName": "GitHub 2"}),
    "another word for a limit": (LIST, {"page_size": 5}),
    "a config by another name": (UPDATE, {"id": "github-signin", "configuration": {"clientId": "Iv1.x"}}),
    "config keys as arguments": (UPDATE, {"id": "github-signin", "clientId": "Iv1.y"}),
    "tokens in camelCase": (ADD, USER | {"refreshToken": "1//token-of-the-user"}),
    # Arguments that do not exist.
    "a confirmation": (UPDATE, {"id": "github-signin", "sync_profile": True, "confirm": True}),
    "a reason": (GET, {"source_connector_id": S3, "reason": "the person wants to see it"}),
    "a tenant that is fixed": (LIST, {"organization_id": "my-org"}),
    "a profile where there is one": (GET, {"source_connector_id": S3, "profile": "default"}),
    "arguments in an object": (GET, {"arguments": {"source_connector_id": S3}}),
    "arguments in an object as text": ("logto_get_connector", {"params": json.dumps({"id": "github-signin"})}),
    # Ids.
    "a name for an id": (GET, {"source_connector_id": "Product documents"}),
    "a factory for an instance": ("logto_get_connector", {"id": "github-universal"}),
    "an instance for a factory": ("logto_get_connector_factory", {"id": "github-signin"}),
    "a name in an update": (UPDATE, {"id": "GitHub", "sync_profile": True}),
    "a factory in an update": (UPDATE, {"id": "google-universal", "sync_profile": True}),
    "a name in a deletion": ("vectorize_delete_source_connector", {"source_connector_id": "Engineering wiki"}),
    "a name of an app": ("conductorone_list_connectors", {"app_id": "Acme workforce"}),
    "a provider for a factory": (
        "logto_create_connector", {"connector_id": "facebook", "config": {"clientId": "a", "clientSecret": "b1234567"}},
    ),
    # Values.
    "an enum in capitals": (VERSORI, {"connector_id": CRM, "protocol": "HTTP", "name": "Acme CRM 3"}),
    "a platform in capitals": (DESCRIBE, {"platform": "Vectorize", "type": "AWS_S3"}),
    "a type by its name": (CREATE, {"connectors": [SITE | {"type": "Web Crawler"}]}),
    "a type in small letters": (DESCRIBE, {"platform": "vectorize", "type": "aws_s3"}),
    "one object for a list": (CREATE, {"connectors": SITE}),
    "a list in place of one": (GET, {"source_connector_id": [S3]}),
    "one text for a list": (LIST, {"fields": "name"}),
    "the config as text": (CREATE, {"connectors": [SITE | {"config": json.dumps(SITE["config"])}]}),
    "one text for a list in a config": (CREATE, {"connectors": [SITE | {"config": {"seed-urls": "https://b.example"}}]}),
    "a list as text": (CREATE, {"connectors": json.dumps([SITE])}),
    "a number as text": (LIST, {"limit": "5"}),
    "a number beyond the limit": (LIST, {"limit": 1000}),
    "a switch as text": (UPDATE, {"id": "github-signin", "sync_profile": "True"}),
    "nulls": (LIST, {"limit": None, "cursor": None, "fields": None, "detail": None, "workspace_id": None}),
    "an empty cursor": ("logto_list_connectors", {"cursor": ""}),
    "a config key in snake_case": (UPDATE, {"id": "github-signin", "config": {"client_id": "Iv1.z"}}),
}  # fmt: skip


def place(arguments: Any, path: str) -> tuple[Any, Any]:
    """The object or list that a path of the arguments leads to, and the last step of the path."""
    steps: list[Any] = [int(step) if step.isdigit() else step for step in re.findall(r"[^.\[\]]+", path)]
    for step in steps[:-1]:
        arguments = arguments[step]
    return arguments, steps[-1]


def mend_issue(arguments: dict[str, Any], issue: Mapping[str, Any]) -> None:
    """Do what an issue of the arguments says."""
    got, wanted, candidates = issue["got"], issue["wanted"], issue.get("candidates", ())
    holder, last = place(arguments, issue["path"])
    if "unknown" in got and len(candidates) == 1 and last in holder and "type" not in got:
        holder[candidates[0]] = holder.pop(last)
    elif "at the top level" in wanted:
        inner = holder.pop(last)
        holder.update(json.loads(inner) if isinstance(inner, str) else inner)
    elif "inside config" in wanted:
        holder.setdefault("config", {})[last] = holder.pop(last)
    elif len(candidates) == 1:
        holder[last] = candidates[0]
    elif "leave it out" in wanted or wanted.startswith("no "):
        holder.pop(last)
    elif wanted.startswith("a string") and got == "an array of 1":
        (holder[last],) = holder[last]
    elif wanted.startswith("an array") and not got.startswith("an array"):
        holder[last] = [holder[last]]
    elif "example" in issue and got not in ("nothing",):
        holder[last] = issue["example"]
    elif found := re.search(r"at most (\d+)", wanted):
        holder[last] = int(found[1])


def mend(tool: str, arguments: dict[str, Any], error: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The call that an answer leads to."""
    arguments = deepcopy(arguments)
    if error["code"] == "unknown_tool":
        (tool,) = error["candidates"]
    elif error["code"] == "not_found":
        (only,) = error["candidates"]
        arguments[error["argument"]] = only["id"]
    # An unknown argument that is renamed is no longer missing.
    for issue in sorted(error.get("issues", ()), key=lambda issue: issue["got"] == "nothing"):
        if issue["got"] != "nothing" or place(arguments, issue["path"])[1] not in arguments:
            mend_issue(arguments, issue)
    return tool, arguments


async def call(client: Client, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The error of a call, empty for a success."""
    try:
        result = await client.call_tool(tool, arguments)
    except MCPError as error:
        return {"code": "unknown_tool", "message": error.message, **(error.data or {})}
    return result.structured_content["error"] if result.is_error else {}


@pytest.mark.parametrize("era", ["auto", "legacy"])
async def test_every_wrong_call_is_mended_by_its_answer_in_one_step(era: Any, tmp_path: Path) -> None:
    assert len(WRONG) >= 40
    settings = Settings.load({}, sandbox=True, state_dir=tmp_path, policy="destroy=allow,update=allow,create=allow")
    stuck: dict[str, Any] = {}
    async with attached(settings, mode=era) as client:
        for what, (tool, arguments) in WRONG.items():
            if not (error := await call(client, tool, arguments)):
                continue
            try:
                mended = mend(tool, arguments, error)
            except (ValueError, KeyError, TypeError) as lost:
                stuck[what] = (repr(lost), error)
                continue
            if again := await call(client, *mended):
                stuck[what] = (mended, error, again)
    assert not stuck, json.dumps(stuck, indent=1)
