"""ConductorOne app connectors: reading and changing them (facts: sections 3 to 6)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer
from pydantic.alias_generators import to_camel

from connector_mcp.errors import Issue
from connector_mcp.json_values import JsonObject, is_array, is_object, items, members
from connector_mcp.operations.conductorone import env_config
from connector_mcp.operations.conductorone.catalog_schema import GetConfigurationSchema, described_type
from connector_mcp.operations.conductorone.platform import CONDUCTORONE
from connector_mcp.operations.connector_types import ConnectorType, connector_type
from connector_mcp.operations.fields import in_body
from connector_mcp.operations.operation import (
    Effect,
    ListOperation,
    Operation,
    Paging,
    Record,
    StoredConfig,
    Target,
    at,
)
from connector_mcp.operations.platform import GET, POST
from connector_mcp.operations.situation import ConfigUse, Loss, Path, Situation
from connector_mcp.operations.update import Mask, UpdateOperation, is_unset
from connector_mcp.suggest import closest

_CHANGED_BY_SYNCS = frozenset({
    "canResumeSync", "configUpdatedAt", "downloadUrl", "oauthAuthorizedAs", "status", "syncDisabledAt",
    "syncDisabledCategory", "syncDisabledReason", "updatedAt",
})  # fmt: skip
_FIXED = frozenset(
    {"appId", "catalogId", "connectorApiVersion", "connectorSyncCronSchedule", "createdAt", "deletedAt", "id"}
)

AppId = Annotated[
    str, Field(description="Id of the app that the connector belongs to. conductorone_list_apps lists them.")
]
ConnectorId = Annotated[
    str, Field(description="Id of the connector. conductorone_list_connectors lists those of an app.")
]

ExpandMask = Annotated[
    list[Literal["app_id", "user_ids", "capabilities", "*"]] | None,
    Field(description="Related objects to return too."),
    in_body(stored_as=None),
    PlainSerializer(lambda paths: {"paths": paths}),
]

CONNECTORS = "/api/v1/apps/{app_id}/connectors"
CONNECTOR = f"{CONNECTORS}/{{id}}"
PAGING = Paging(
    items="list", limit="page_size", cursor="page_token", next="nextPageToken", smallest=10,
    empty=("list", "nextPageToken"),
)  # fmt: skip
EXAMPLE_APP = "2abCDEfghIJKlmnOPQrstUVwxyZ"
EXAMPLE = {"app_id": EXAMPLE_APP, "connector_id": "2xyConnector00000000000001"}
_RECORD = "connectorView.connector"
_MASK = Mask("update_mask")
_EXAMPLE = {"app_id": EXAMPLE_APP, "id": EXAMPLE["connector_id"]}


class Connector(Record):
    """An app connector as ConductorOne shows it; secrets are not in `config`."""

    id: str | None = None
    app_id: str | None = None
    catalog_id: str | None = None
    display_name: str | None = None
    description: str | None = None
    user_ids: list[str] | None = None
    config: JsonObject | None = None
    status: JsonObject | None = None
    sync_disabled_at: str | None = None
    config_updated_at: str | None = None
    deleted_at: str | None = None


class ConductorOneOperation(Operation):
    """Base of ConductorOne's operations."""

    on = CONDUCTORONE
    toolset = "conductorone.connectors"
    by_default = True
    stored_config = StoredConfig(at="config.configuration", type_at="catalogId")
    # The address of a file-based connector's data needs no further credentials.
    heavy = frozenset({"downloadUrl"})

    app_id: AppId

    def find_problems(self, situation: Situation) -> Iterator[Issue]:
        """Find an app or connector that is deleted, which can still be read."""
        kind = self.acts_on.kind if self.acts_on else ""
        if kind in ("app", "connector") and at(situation.current, "deletedAt"):
            got = f"{'an' if kind == 'app' else 'a'} {kind} that is deleted"
            yield Issue(self.target_argument(), got, f"one that conductorone_list_{kind}s shows")


class ListConnectors(ConductorOneOperation, ListOperation):
    """List the connectors of an app with the status of their last sync, a page at a time. Deleted ones are left out."""

    http = GET(CONNECTORS)
    output = Connector
    paging = PAGING
    summary = ("id", "displayName", "catalogId", "status", "syncDisabledAt", "updatedAt")
    known_by = ("displayName",)
    example = {"app_id": EXAMPLE_APP, "limit": 20}

    def shape_result(self, answers: Sequence[Any], situation: Situation) -> Any:
        """Take the connectors out of their views, without deleted ones, which only have `deletedAt` set (trap 9)."""
        views = super().shape_result(answers, situation)
        if not is_array(views):
            return views
        connectors = [at(view, "connector") for view in views]
        return [connector for connector in connectors if not at(connector, "deletedAt")]


class GetConnector(ConductorOneOperation):
    """Get a connector with its config, without secrets, and the status of its last sync."""

    http = GET(CONNECTOR)
    effect = Effect.READ
    output = Connector
    record = _RECORD
    example = _EXAMPLE

    id: ConnectorId


CONNECTOR_TARGET = Target("connector", GetConnector, name="displayName", volatile=_CHANGED_BY_SYNCS)
CONNECTOR_OF_ACTION = replace(CONNECTOR_TARGET, arguments={"id": "connector_id"})
"""The target of an operation that has the connector's id as `connector_id`."""


class ChangedConnector(Connector):
    """The connector after a change, and what `expand_mask` asked for."""

    expanded: list[JsonObject] | None = None


class ConnectorChange(ConductorOneOperation):
    """Base of the operations that answer with a connector that they made or changed."""

    output = ChangedConnector
    record = _RECORD

    def shape_result(self, answers: Sequence[Any], situation: Situation) -> Any:
        """Take the connector out of the answer, and beside its members what was expanded."""
        record, expanded = super().shape_result(answers, situation), at(answers[0], "expanded")
        return {**members(record), "expanded": expanded} if expanded else record


class ConnectorUpdate(ConnectorChange, UpdateOperation):
    """Base of the updates of a connector."""

    strategy = _MASK

    def make_body(self, situation: Situation) -> Any:
        """Make the body: the given members of the connector, the mask that names them, and what to expand (trap 3)."""
        identifier = getattr(self, self.http.placeholders[-1])
        connector = {"id": identifier, "appId": self.app_id} | self.members_to_send(situation)
        others = {name: value for name, value in self.given("body") if name == "expandMask"}
        return {"connector": connector, "updateMask": ",".join(_MASK.paths(self))} | others

    def find_hidden_losses(self, situation: Situation) -> Iterator[Loss]:
        """The owners that the call removes because it does not name them."""
        given = self.given_members().get("userIds")
        if given and "userIds" in _MASK.paths(self):
            for owner in items(at(situation.current, "userIds")):
                if owner not in given:
                    yield Loss(f"Removes owner {owner}", ("userIds",), owner)


class SyncConfig(BaseModel):
    """The scope of a sync."""

    model_config = ConfigDict(extra="forbid", strict=True)

    sync_resource_type_ids: Annotated[
        list[str] | None,
        Field(
            description="Ids of the resource types to sync; replaces all.", serialization_alias="syncResourceTypeIds"
        ),
    ] = None


class UpdateConnector(ConnectorUpdate):
    """Change a connector: what is left out keeps its value, in config too. An empty value, and null in config, erases,
    also a secret. describe_connector_type gives the config keys of its catalogId."""

    http = POST(CONNECTOR)
    acts_on = CONNECTOR_TARGET
    consequence = "Changes connector {name}; its next sync and its provisioning use the new settings."
    example = {**_EXAMPLE, "display_name": "Okta production", "config": {"okta_v2_domain": "acme.okta.com"}}

    id: ConnectorId
    display_name: Annotated[str | None, Field(description="New display name.")] = None
    description: Annotated[str | None, Field(description="New description in the console.")] = None
    user_ids: Annotated[list[str] | None, Field(description="Ids of all owners; replaces the present ones.")] = None
    config: Annotated[JsonObject | None, Field(description="Only the keys to set, as {key: value}.")] = None
    profile_allow_list: Annotated[
        list[str] | None, Field(description="All user attributes to sync; replaces the list.")
    ] = None
    profile_ignore_list: Annotated[
        list[str] | None, Field(description="All user attributes to leave out; replaces the list.")
    ] = None
    sync_config: Annotated[SyncConfig | None, Field(description="Limits what syncs read.")] = None
    disable_check_bad_sync: Annotated[
        bool | None, Field(description="true: a sync that finds far less data than before is applied, not held.")
    ] = None
    parallel_sync_worker_count: Annotated[
        int | None, Field(ge=0, le=4, description="Parallel workers of a sync. 0: none; syncs still run, one by one.")
    ] = None
    update_mask: Annotated[
        str | None,
        Field(
            max_length=300,
            description="Members to set, such as displayName,config; by default those given. Erases what is not given.",
        ),
        in_body(stored_as=None),
    ] = None
    expand_mask: ExpandMask = None

    def given_members(self) -> JsonObject:
        """The given members, the config in the form in which ConductorOne returns it."""
        given = super().given_members()
        if self.config is not None and not env_config.is_foreign(self.config):
            given["config"] = {"configuration": env_config.wrapped_keys(self.config)}
        return given

    def complete_members(self, current: JsonObject) -> JsonObject:
        """The given members; a plain config is completed with the keys that are stored.

        Secrets are left out, which keeps them. Written back as a read shows them, empty or masked, they would be lost.
        """
        given = self.given_members()
        if self.config is None or env_config.is_foreign(self.config):
            return given
        known = connector_type("conductorone", current.get("catalogId"))
        stored = {} if env_config.TYPE in self.config else env_config.configuration_of(current.get("config"))
        secret = known.secret_paths if known else ()
        shown = {key: each for key, each in stored.items() if key not in secret and not env_config.is_withheld(each)}
        return given | {"config": env_config.in_wire_form(shown | given["config"]["configuration"])}

    def after(self, current: JsonObject) -> JsonObject:
        """The connector as it will be: an empty value erases its key of the config (section 5)."""
        after, given = super().after(current), members(at(self.given_members(), "config.configuration"))
        if "config" in _MASK.paths(self) and env_config.is_env_config(after.get("config")):
            kept = env_config.configuration_of(after["config"])
            erased = [key for key, value in given.items() if env_config.is_empty(value)]
            after["config"] |= {"configuration": {key: value for key, value in kept.items() if key not in erased}}
        return after

    def was_read(self, current: JsonObject) -> bool:
        """A plain config needs the stored one beside it."""
        return self.config is None or env_config.TYPE in self.config or current.get("id") is not None

    def type_read(self, current: Any = None) -> Operation | None:
        """The platform's description of the config: its catalog changes, and it may not be what is shipped."""
        type_id = at(current, "catalogId")
        if self.config is None or env_config.is_foreign(self.config) or not isinstance(type_id, str):
            return None
        return GetConfigurationSchema(catalog_id=type_id, app_id=self.app_id, connector_id=self.id)

    def find_configs(self, situation: Situation) -> tuple[ConfigUse, ...]:
        if self.config is None:
            return ()
        type_id, known = at(situation.current, "catalogId"), _type_of(situation)
        return (env_config.config_use(self.config, type_id, known, complete=False),)

    def find_hidden_losses(self, situation: Situation) -> Iterator[Loss]:
        """Owners, erased secrets, which no read returns, and a config that gives way as a whole (section 5)."""
        yield from super().find_hidden_losses(situation)
        stored = at(situation.current, "config")
        if self.config is None or "config" not in _MASK.paths(self):
            return
        if env_config.TYPE in self.config and not is_unset(stored):
            if self.config[env_config.TYPE] != at(stored, env_config.TYPE):
                yield Loss("Replaces config by one of another type", ("config",), stored)
                return
            if env_config.is_env_config(self.config) and not self.config.get("configuration"):
                yield Loss("Unsets config and every secret in it", ("config",), stored)
                return
        if env_config.is_foreign(self.config):
            return
        known, before = _type_of(situation), env_config.configuration_of(stored)
        for key in (key for key, value in env_config.wrapped_keys(self.config).items() if env_config.is_empty(value)):
            is_secret = known is not None and key in known.secret_paths
            is_documented = known is not None and key in members(known.config.get("properties"))
            if is_secret or (env_config.is_empty(before.get(key)) and not is_documented):
                yield Loss(f"Erases the stored secret {key}", ("config", "configuration", key))

    def describe_loss(self, path: Path, before: Any, *, overwritten: bool) -> Loss:
        match path:
            case ("config",):
                return Loss("Unsets config and every secret in it", path, before)
            case ("config", "configuration", key):
                return Loss(f"Unsets {key} of config", path, env_config.unwrap(before))
            case _:
                return super().describe_loss(path, before, overwritten=overwritten)

    def find_problems(self, situation: Situation) -> Iterator[Issue]:
        current, placements = situation.current, self.placements()
        writable = [placement.stored_as for placement in placements.values() if placement.stored_as]
        mask = _MASK.paths(self)
        if not mask and self.update_mask is None:
            names = [name for name, placement in placements.items() if placement.stored_as]
            yield Issue("arguments", "nothing to change", f"at least one of {', '.join(names)}")
        elif not mask:
            yield Issue("update_mask", "nothing to change", f"at least one of {', '.join(writable)}", "displayName")
        for path in mask:
            yield from _check_mask_path(path, writable)
        yield from super().find_problems(situation)
        if self.config is not None:
            yield from self._find_config_problems(self.config, at(current, "config"))
        yield from env_config.find_commas(self.config)
        if self.config is not None and not env_config.is_foreign(self.config):
            kept = members(at(self.complete_members(members(current)), "config.configuration"))
            groups = members(known.traits.get("fieldGroups")) if (known := _type_of(situation)) else {}
            yield from env_config.find_mixed_groups(groups, env_config.wrapped_keys(self.config), kept)

    def _find_config_problems(self, given: JsonObject, stored: Any) -> Iterator[Issue]:
        """Find a config that cannot be put over the stored one, or says nothing."""
        if env_config.is_env_config(given) and not is_object(given.get("configuration")):
            yield Issue("config.configuration", "no object", "an object such as {key: {stringValue: value}}")
        if env_config.TYPE in given:
            return
        if not given:
            wanted = "at least one key; update_mask config without config erases the whole config"
            yield Issue("config", "an empty object", wanted)
        known_form = env_config.is_env_config(stored) and is_object(at(stored, "configuration") or {})
        if not is_unset(stored) and not known_form:
            wanted = "the whole object with @type, as conductorone_get_connector shows it: this config is no EnvConfig"
            yield Issue("config", "a plain map", wanted)


def _check_mask_path(path: str, writable: Sequence[str]) -> Iterator[Issue]:
    if path in writable or path == "syncConfig.syncResourceTypeIds":
        return
    if (member := path.partition(".")[0]) in _CHANGED_BY_SYNCS | _FIXED:
        yield Issue("update_mask", f"{member}, which is read-only", f"paths of {', '.join(writable)}", "displayName")
        return
    near = closest(to_camel(path), writable)
    hint = f"{near}, perhaps; " if near else ""
    wanted = f"{hint}paths of {', '.join(writable)}"
    yield Issue("update_mask", "an unknown path", wanted, near or "displayName")


def _type_of(situation: Situation) -> ConnectorType | None:
    """The type of the target, as the platform describes it if it was asked."""
    type_id = at(situation.current, "catalogId")
    return described_type(type_id, situation.described or {}) if isinstance(type_id, str) else None


OPERATIONS = (UpdateConnector, ListConnectors, GetConnector)
