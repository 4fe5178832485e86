"""A call that names something that does not exist is refused before anyone is asked about it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from connector_mcp.engine.caller import ElicitationReply, Question
from connector_mcp.json_values import JsonObject
from connector_mcp.operations.catalog import PLATFORMS, catalog
from connector_mcp.operations.operation import Effect
from connector_mcp.secrets.collection import Secrets
from connector_mcp.secrets.encrypted import EncryptedFile, KeyFile
from connector_mcp.secrets.sources import EnvironmentSource
from tests.engine.conftest import Bench, BenchMaker, FakeCaller, yes
from tests.seeded import add_file, add_to_sandbox, confirmation, seeded_arguments

pytestmark = pytest.mark.anyio

ASK = "create=ask,update=ask,destroy=ask,disclose=ask"
MISSING = "01J2MISSING000000000000000"
CHANGES = {name: each for name, each in catalog().items() if each.on and each.effect is not Effect.READ}
FREE = {
    # Tenants: no read shows others.
    *("organization_id", "organisation_id"),
    # Users and roles: no read lists them.
    *("vectorize_add_user_to_source_connector.user_id", "vectorize_update_user_in_source_connector.user_id"),
    *("vectorize_delete_user_from_source_connector.user_id", "vectorize_generate_one_time_connector_token.user_id"),
    *("conductorone_add_app_owner.user_id", "conductorone_create_connector_user_owner.user_id"),
    *("conductorone_create_connector_user_owner.role_slug", "conductorone_set_connector_owners.user_ids.0"),
    # The call makes what has this id or name, or declares it.
    *("versori_create_end_user.external_id", "versori_v1_create_http_connector.auth_scheme_configs.0.id"),
    *("versori_upsert_auth_scheme_config.auth_scheme_config_id", "versori_set_dynamic_variable.variable_name"),
    *("versori_v1_upsert_auth_scheme_config.auth_scheme_config_id", "versori_v1_upsert_auth_scheme_config.config.id"),
    # Values, not ids.
    *("dynamic_variables.channel_id", "variables.channel_id"),
}
"""Ids for which nothing can be missing, or no read shows it."""

Added = dict[str, JsonObject]
Place = tuple[str | int, ...]


def id_places(name: str, arguments: JsonObject) -> Iterator[Place]:
    """The places of the ids among the arguments of an operation."""
    found: list[Place] = []
    for argument, value in arguments.items():
        many = isinstance(value, list)
        for index, each in enumerate(value if many else [value]):
            place: Place = (argument, index) if many else (argument,)
            if isinstance(each, dict):
                found += [(*place, key) for key in each if re.search(r"(^|_)id$", key)]
            elif argument in CHANGES[name].http.placeholders or re.search(r"(^|_)ids?$", argument):
                found.append(place)
    return (each for each in found if not {said := ".".join(map(str, each)), f"{name}.{said}"} & FREE)


@pytest.fixture
def asking(bench: BenchMaker, tmp_path: Path) -> Bench:
    """An engine that asks before every change."""
    store = EncryptedFile(tmp_path / "secrets.enc", KeyFile(tmp_path / "secrets.key"))
    return bench(policy=ASK, secrets=Secrets((EnvironmentSource({}), store), store=store))


def agree(question: Question) -> ElicitationReply:
    return yes(confirmation(question.message, question.schema))


@pytest.fixture
async def added(asking: Bench) -> Added:
    """What a new sandbox lacks."""

    async def call(tool: str, arguments: JsonObject) -> Any:
        result = await asking.engine.call(tool, arguments, FakeCaller(agree))
        assert not result.is_error, result.content
        return result.content["data"]

    add_file(asking.sandbox)
    return await add_to_sandbox(call)


def changes(bench: Bench) -> list[tuple[str, str]]:
    return [made for made in bench.requests() if made[0] != "GET"]


@pytest.mark.parametrize("platform", PLATFORMS)
async def test_only_a_call_that_can_work_is_put_to_a_person(asking: Bench, added: Added, platform: str) -> None:
    written = changes(asking)
    for name, operation in CHANGES.items():
        if not name.startswith(platform):
            continue
        arguments = seeded_arguments(operation, added)
        for place in id_places(name, arguments):
            given: Any = deepcopy(arguments)
            holder = given
            for step in place[:-1]:
                holder = holder[step]
            holder[place[-1]] = MISSING
            caller = FakeCaller(agree)
            error = (await asking.engine.call(name, given, caller)).content.get("error", {})
            found = (caller.questions, error.get("code"))
            assert found in (([], "not_found"), ([], "invalid_arguments")), (name, place, error)
        caller = FakeCaller(ElicitationReply("decline", {}))
        result = await asking.engine.call(name, arguments, caller)
        assert len(caller.questions) == 1, (name, result.content)
    assert changes(asking) == written
