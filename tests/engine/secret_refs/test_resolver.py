"""References and credentials among the arguments: what is found, where it may stand, what is said of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any

import pytest
from pydantic import ValidationError

from connector_mcp.engine.checks.issues import path_of
from connector_mcp.engine.redaction.redactor import MARKER
from connector_mcp.engine.secret_refs.resolver import FoundSecrets, scan_arguments
from connector_mcp.json_values import JsonObject
from connector_mcp.operations.catalog import PLATFORMS, catalog, platform_folder
from connector_mcp.operations.connector_types import SECRET_PLACEHOLDER, ConnectorType, connector_types
from connector_mcp.operations.operation import Effect, Operation, Record
from connector_mcp.operations.platform import POST
from connector_mcp.operations.situation import ConfigUse, Situation
from tests.engine.conftest import Bench, FakeCaller
from tests.operations.test_every_operation import OPERATIONS

pytestmark = pytest.mark.anyio

REFERENCE = "secret://NAME"
TYPES = [kind for platform in PLATFORMS for kind in connector_types(platform).values()]
AWS_KEY = "AKIA" + "ABCDEFGHIJKLMNOP"


def scan(operation: Operation, *, target_known: bool = True) -> FoundSecrets:
    return scan_arguments(operation, operation.find_configs(Situation()), target_known=target_known)


def marked(schema: JsonObject, steps: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The steps to each place that a schema marks as secret; in maps and lists to one member."""
    if schema.get("writeOnly") and schema.get("type") != "object":
        yield steps
    for branch in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())):
        yield from marked(branch, steps)
    if isinstance(schema.get("items"), dict):
        yield from marked(schema["items"], (*steps, 0))
    inner = schema.get("additionalProperties")
    if isinstance(inner, dict):
        yield from marked(inner | ({"writeOnly": True} if schema.get("writeOnly") else {}), (*steps, "any"))
    for key, member in schema.get("properties", {}).items():
        yield from marked(member, (*steps, key))


def nested(steps: tuple[Any, ...], value: Any) -> Any:
    for step in reversed(steps):
        value = [value] if step == 0 else {step: value}
    return value


def config_of(kind: ConnectorType | None, config: JsonObject) -> Operation:
    """A call with a config of this type."""

    class Configure(Operation):
        on = platform_folder(kind.platform if kind else "logto").platform
        http = POST("/x")
        effect = Effect.CREATE
        output = Record
        config: JsonObject

        def find_configs(self, situation: Situation) -> tuple[ConfigUse, ...]:
            return (ConfigUse("config", kind.type if kind else None, kind, self.config),)

    return Configure(config=config)


STAND_INS = [
    SECRET_PLACEHOLDER, MARKER, "<secret-key>", "\u2039your key\u203a", "Bearer <token>", "${KEY}", "*", "********",
    "\u2022\u2022\u2022\u2022\u2022", "****1234", "sk_****", " ******** ",
]  # fmt: skip


def test_no_placeholder_and_no_mask_is_taken_as_the_secret_of_any_connector_type() -> None:
    texts = cycle([*STAND_INS, "<{}>"])
    for kind in TYPES:
        for steps in sorted(set(marked(kind.config)), key=str):
            text = next(texts).replace("{}", str(steps[-1]))
            found = scan(config_of(kind, nested(steps, text)))
            assert [issue.path for issue in found.issues] == [path_of(("config", *steps))], (kind.type, steps, text)
            assert found.issues[0].got == "a placeholder or mask"
            assert found.literals == []


@pytest.mark.parametrize("text", STAND_INS)
def test_no_placeholder_and_no_mask_is_taken_as_the_token_of_a_user(text: str) -> None:
    for tool in ("vectorize_add_user_to_source_connector", "vectorize_update_user_in_source_connector"):
        for argument in ("refresh_token", "access_token"):
            given = {"organization_id": "o", "source_connector_id": "c", "user_id": "u", argument: text}
            given |= {"selected_files": {"pageIds": ["p"]}}
            assert [issue.path for issue in scan(OPERATIONS[tool].model_validate(given)).issues] == [argument]


def test_a_reference_is_taken_in_every_secret_member_of_every_connector_type() -> None:
    covered = 0
    for kind in TYPES:
        for steps in set(marked(kind.config)):
            found = scan(config_of(kind, nested(steps, REFERENCE)))
            assert [reference.steps for reference in found.references] == [("config", *steps)], (kind.type, steps)
            assert found.issues == []
            covered += 1
        assert {
            ".".join(s for s in steps if isinstance(s, str)).removesuffix(".any") for steps in marked(kind.config)
        } >= set(kind.secret_paths)
    assert covered >= 250


def test_a_reference_is_refused_in_every_other_text_of_every_connector_type() -> None:
    refused = 0
    for kind in TYPES:
        for key, member in kind.config.get("properties", {}).items():
            if member.get("type") != "string" or member.get("writeOnly"):
                continue
            found = scan(config_of(kind, {key: REFERENCE}))
            refused += len(found.issues)
            assert found.references == [] or found.issues == []
            if found.references:
                # A name that gives a secret away hides the member too, whatever the schema forgot.
                assert scan(config_of(kind, {key: "x"})).literals
    assert refused >= 200


def test_a_reference_is_taken_in_every_secret_argument_and_refused_in_the_others() -> None:
    taken = 0
    for name, operation in OPERATIONS.items():
        tenants = dict.fromkeys(("organization_id", "organisation_id", "app_id"), "tenant")
        given = {**{k: v for k, v in tenants.items() if k in operation.model_fields}, **operation.example}
        for argument, info in operation.model_fields.items():
            if info.annotation not in (str, str | None):
                continue
            try:
                call = operation.model_validate({**given, argument: REFERENCE})
            except ValidationError:
                continue
            found = scan(call)
            assert bool(found.references) == (argument in operation.secret_arguments()), (name, argument)
            taken += len(found.references)
    assert taken == sum(len(operation.secret_arguments()) for operation in OPERATIONS.values()) >= 5


def test_of_a_config_of_an_unknown_type_only_names_tell_what_is_secret() -> None:
    items = [{"name": "api_key", "value": REFERENCE}]
    call = config_of(None, {"apiToken": REFERENCE, "region": REFERENCE, "items": items})
    found = scan(call)
    assert [reference.field for reference in found.references] == ["config.apiToken", "config.items.value"]
    assert [issue.path for issue in found.issues] == ["config.region"]
    open_still = scan(call, target_known=False)
    assert (len(open_still.references), open_still.issues) == (3, [])


def test_a_literal_is_named_by_its_place_and_never_repeated() -> None:
    kind = connector_types("vectorize")["AWS_S3"]
    call = config_of(kind, {"access-key": "the-access-key", "secret-key": REFERENCE, "bucket-name": f"b {AWS_KEY} c"})
    found = scan(call)
    assert found.literals == [("config", "access-key")]
    assert found.misplaced == [("config.bucket-name", "an AWS access key id")]
    assert found.misplaced_keys == [AWS_KEY]
    told = json.dumps([*found.warnings(literals=True), *(issue.as_dict() for issue in found.refusals())])
    assert "the-access-key" not in told
    assert AWS_KEY not in told
    assert "connector-mcp secrets set NAME" in told


CREATE = {"connector_id": "github-universal", "config": {"clientId": "id", "clientSecret": "literal-value"}}
UPDATE = {"id": "github-signin", "config": {"clientSecret": "literal-value", "scope": "user"}}


async def test_a_literal_is_warned_of_once(bench: Callable[..., Any]) -> None:
    result = await bench().engine.call("logto_update_connector", UPDATE, FakeCaller())
    assert not result.is_error
    warnings = [text for text in result.content["meta"]["warnings"] if "clear text" in text]
    assert len(warnings) == 1
    assert "config.clientSecret" in warnings[0]
    assert "connector-mcp secrets set NAME" in warnings[0]


async def test_where_literals_are_refused_nothing_is_sent(bench: Callable[..., Any]) -> None:
    made = bench(inline_secrets="refuse")
    result = await made.engine.call("logto_create_connector", CREATE, FakeCaller())
    changed = await made.engine.call("logto_update_connector", UPDATE, FakeCaller())
    for each in (result, changed):
        assert each.content["error"]["code"] == "invalid_arguments"
        assert [issue["path"] for issue in each.content["error"]["issues"]] == ["config.clientSecret"]
        assert "literal-value" not in json.dumps(each.content)
    assert made.requests("POST") + made.requests("PATCH") == []
    assert len(made.audit_lines) == 2
    assert "literal-value" not in "".join(made.audit_lines)


async def test_with_literals_allowed_only_a_misplaced_credential_is_reported(bench: Callable[..., Any]) -> None:
    made = bench(inline_secrets="allow")
    given = {"id": "github-signin", "config": {"clientId": AWS_KEY, "clientSecret": "literal-value"}}
    result = await made.engine.call("logto_update_connector", given, FakeCaller())
    (warning,) = result.content["meta"]["warnings"]
    assert warning.startswith("config.clientId looks as if it holds an AWS access key id")
    assert AWS_KEY not in json.dumps(result.content) + "".join(made.audit_lines)


async def test_without_a_secret_store_a_reference_is_refused_with_the_command(made: Bench) -> None:
    given = {"connector_id": "github-universal", "config": {"clientId": "i", "clientSecret": "secret://GITHUB"}}
    result = await made.engine.call("logto_create_connector", given, FakeCaller())
    assert "connector-mcp secrets set GITHUB" in result.content["error"]["fix"]
    assert made.requests("POST") == []
    assert set(catalog()) == {tool.name for tool in made.engine.tools()}
