"""No secret that Versori's tools take or Versori sends back leaves the process, but to Versori."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from connector_mcp.operations.connector_types import ConnectorType, connector_types
from tests.end_to_end.planted import Garden, echo, leaks, marked
from tests.end_to_end.recording import Recorded, connected, recording_server, wire_file
from tests.operations.configs import HMAC, config_of

pytestmark = pytest.mark.anyio

KEY, V1_KEY = (wire_file("versori")[0][name]["authSchemeConfigs"][0] for name in ("system", "v1 connector"))
KINDS = [kind for kind in connector_types("versori").values() if kind.secret_paths]


def planted(garden: Garden, kind: ConnectorType) -> Any:
    """A config of the type with a value of the garden in each secret member."""
    config = deepcopy(config_of(kind))
    for path in kind.secret_paths:
        value = garden.plant("versori", kind.type, path.rpartition(".")[2])
        *steps, last = path.split(".")
        if last == "clientSecret" and kind.kind != "credential":
            grant = {"authorization_code": "grantType", "authorizationCode": "type"}
            name = next(each for each in grant if (each == "authorizationCode") == (steps[0] == "oauth2"))
            app = {"clientId": "c", "clientSecret": value}
            holder = config["oauth2"] if steps[0] == "oauth2" else config
            holder["grant"] = {grant[name]: name, **({name: app} if steps[0] == "oauth2" else app)}
            continue
        holder = config
        for step in steps:
            holder = holder[step]
        holder[last] = value
    return config


def calls(garden: Garden) -> Iterator[tuple[str, dict[str, Any]]]:
    """A call for each type with secrets; for an API key each tool that takes credentials; and a secret variable."""
    for kind in KINDS:
        config = planted(garden, kind)
        if kind.kind == "auth scheme":
            name = next(value["id"] for value in config.values() if isinstance(value, dict))
            at = {"system_id": "s", "auth_scheme_config_id": name}
            yield "versori_upsert_auth_scheme_config", {**at, "config": config}
            continue
        if kind.kind != "credential":
            at = {"connector_id": "c", "auth_scheme_config_id": config["id"]}
            yield "versori_v1_upsert_auth_scheme_config", {**at, "config": config}
            continue
        given = [{"auth_scheme_config": HMAC, "type": kind.type.removeprefix("credential-"), "data": config}]
        connection = {"name": "n", "credentials": given}
        yield "versori_create_connection", {"connection_template_id": "t", **connection}
        if kind.type == "credential-string":
            yield "versori_update_connection", {"connection_id": "c", "credentials": given}
            made = {"connection_template_id": "t", "connection": connection}
            variables = {"dynamic_variables": {"api_token": garden.plant("versori", "activation", "api_token")}}
            user = {"user_id": "u", "environment_id": "e", **variables}
            yield "versori_activate_user", {**user, "connections": [made]}
    activation = {"environment_id": "e", "activation_id": "a"}
    value = garden.plant("versori", "variable", "api_token")
    yield "versori_set_dynamic_variable", {**activation, "variable_name": "api_token", "value": {"value": value}}
    yield "versori_set_dynamic_variables", {**activation, "variables": {"api_token": value}}


class Versori:
    """Answers every call, and tells everything that it was sent in as many ways as it can."""

    def __init__(self) -> None:
        self.refuse = False
        self.said: dict[str, Any] = {}

    def __call__(self, request: Recorded) -> tuple[int, Any, dict[str, str]]:
        if request.method != "GET":
            self.said = echo(request)
        note = {"note": self.said, "json": json.dumps(self.said)}
        if request.method != "GET" and self.refuse:
            return 422, note | self.said, {}
        if request.path.endswith("/activations") and request.method == "GET":
            return 200, [], {}
        name = request.path.rpartition("/")[2]
        record = {"id": name, "name": "n", "type": "api-key", "authSchemeConfigs": [KEY, V1_KEY], "credentials": []}
        return 200, record | {"protocol": "http", "dynamicVariables": {}, "api_token": "set"} | note, {}


async def test_no_byte_that_leaves_the_process_shows_a_secret_of_versori(tmp_path: Path, capfd: Any) -> None:
    garden, versori, left = Garden(), Versori(), list[str]()
    async with recording_server() as recorder, connected(recorder, tmp_path) as client:
        recorder.respond = versori
        for versori.refuse in (False, True):
            for tool, arguments in calls(garden):
                versori.said = {}
                result = await client.call_tool(tool, arguments)
                assert result.is_error is versori.refuse, (tool, result)
                left.append(result.model_dump_json())
    sent = {value for request in recorder.requests for value in marked(request.body)}
    assert sent == set(garden.values.values())
    files = [file.read_bytes().decode("latin-1") for file in tmp_path.iterdir()]
    assert any("versori_create_connection" in text for text in files), "the audit log is searched"
    assert [leak for text in (*left, *files, *capfd.readouterr()) for leak in leaks(text)] == []
