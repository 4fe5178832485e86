"""Updating a ConductorOne app connector (facts: sections 4 and 5, traps 1, 3, 4 and 9)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from connector_mcp.errors import Internal, Issue
from connector_mcp.json_values import JsonObject, members
from connector_mcp.operations.conductorone.connectors import (
    CONNECTOR,
    CONNECTOR_TARGET,
    RECORD,
    ConductorOneOperation,
    Connector,
    ConnectorId,
)
from connector_mcp.operations.conductorone.env_config import (
    ENV_CONFIG,
    TYPE,
    configuration_of,
    is_empty,
    is_env_config,
    plain_for,
    unwrap,
    wrap_all,
)
from connector_mcp.operations.connector_types import ConnectorType, connector_type
from connector_mcp.operations.operation import POST, ConfigUse, Effect, Loss, Situation, at

# Members of a connector that the platform sets, or that are fixed at creation.
_READ_ONLY = frozenset(
    {
        "appId",
        "canResumeSync",
        "catalogId",
        "configUpdatedAt",
        "connectorApiVersion",
        "connectorSyncCronSchedule",
        "createdAt",
        "deletedAt",
        "downloadUrl",
        "id",
        "oauthAuthorizedAs",
        "status",
        "syncDisabledAt",
        "syncDisabledCategory",
        "syncDisabledReason",
        "updatedAt",
    }
)


class UpdatedConnector(Connector):
    """The connector after an update, and what `expand_mask` asked for."""

    expanded: list[JsonObject] | None = None


class SyncConfig(BaseModel):
    """What a sync covers."""

    model_config = ConfigDict(extra="forbid", strict=True)

    sync_resource_type_ids: Annotated[
        list[str] | None,
        Field(description="Resource types.", serialization_alias="syncResourceTypeIds"),
    ] = None


class UpdateConnector(ConductorOneOperation):
    """Change a connector; what is not given stays. describe_connector_type gives the config keys of its catalogId. An
    empty value erases, also a secret."""

    http = POST(CONNECTOR)
    effect = Effect.UPDATE
    output = UpdatedConnector
    record = RECORD
    acts_on = CONNECTOR_TARGET
    overwrites = True
    can_destroy = True
    consequence = "Changes connector {name}; its next sync and its provisioning use the new settings."
    example = {
        "app_id": "2abCDEfghIJKlmnOPQrstUVwxyZ",
        "id": "2xyConnector00000000000001",
        "display_name": "Okta production",
        "config": {"okta_v2_domain": "acme.okta.com"},
    }

    id: ConnectorId
    display_name: Annotated[str | None, Field(description="Display name.")] = None
    description: Annotated[str | None, Field(description="Description.")] = None
    user_ids: Annotated[list[str] | None, Field(description="Owners; replaces all.")] = None
    config: Annotated[JsonObject | None, Field(description="Keys to set: {key: value}.")] = None
    profile_allow_list: Annotated[list[str] | None, Field(description="Attributes to sync.")] = None
    profile_ignore_list: Annotated[list[str] | None, Field(description="Attributes to leave out.")] = None
    sync_config: Annotated[SyncConfig | None, Field(description="Scope of syncs.")] = None
    disable_check_bad_sync: Annotated[bool | None, Field(description="true: no data-drop guard.")] = None
    parallel_sync_worker_count: Annotated[int | None, Field(ge=0, le=4, description="0 is off.")] = None
    update_mask: Annotated[
        str | None,
        Field(description="Such as displayName,config; default: what is given. Unsets what it names and is not given."),
    ] = None
    expand_mask: Annotated[
        list[Literal["app_id", "user_ids", "capabilities", "*"]] | None, Field(description="Objects to return too.")
    ] = None

    def make_body(self, situation: Situation) -> Any:
        """The connector's given members under one mask; a plain config goes over the one now there.

        Raises:
            Internal: A plain config is given and the connector has not been read; sending could unset its other keys.
        """
        connector = {"id": self.id, "appId": self.app_id} | self._members()
        if self.config is not None:
            if TYPE not in self.config and at(situation.current, "id") is None:
                raise Internal(
                    "conductorone_update_connector: the connector was not read, so its config cannot be kept. "
                    "Nothing was sent.",
                    fix="Check with conductorone_get_connector that the connector can be read, then call again.",
                )
            connector["config"] = self._config_after(situation.current)
        body: JsonObject = {"connector": connector, "updateMask": ",".join(self._mask())}
        if self.expand_mask:
            body["expandMask"] = {"paths": list(self.expand_mask)}
        return body

    def find_configs(self, situation: Situation) -> tuple[ConfigUse, ...]:
        if self.config is None:
            return ()
        type_id, known = _type_of(situation.current)
        if TYPE in self.config and not is_env_config(self.config):
            return (ConfigUse("config", type_id, None, self.config, complete=False),)
        schemas = members(known.config.get("properties")) if known else {}
        value = {key: plain_for(members(schemas.get(key)), given) for key, given in self._given_keys().items()}
        path = "config.configuration" if TYPE in self.config else "config"
        return (ConfigUse(path, type_id, known, value, complete=False),)

    def find_problems(self, situation: Situation) -> tuple[Issue, ...]:
        """What ConductorOne would refuse, ignore or misread."""
        return tuple(self._find_problems(situation.current))

    def find_losses(self, situation: Situation) -> tuple[Loss, ...]:
        """Every value that the mask reaches and that is empty after the call, stored secrets included (section 5)."""
        given, current = self._members(), situation.current
        losses: list[Loss] = []
        for member in self._reached():
            before = at(current, member)
            if member == "config":
                losses.extend(self._find_config_losses(current))
            elif _holds(before) and _clears(given.get(member)):
                losses.append(Loss(f"Unsets {member}", member, before))
        return tuple(losses)

    def plan_changes(self, situation: Situation) -> Mapping[str, Any]:
        given = self._members()
        changes: JsonObject = {}
        for member in self._reached():
            value = given.get(member)
            if member == "config":
                changes.update(self._plan_config(situation.current))
            elif member == "syncConfig" and not _clears(value):
                changes.update({f"{member}.{key}": ids for key, ids in members(value).items()})
            else:
                changes[member] = None if _clears(value) else value
        return changes

    def shape_result(self, answers: Sequence[Any], situation: Situation) -> Any:
        """The connector, and beside its members what was expanded."""
        record, expanded = super().shape_result(answers, situation), at(answers[0], "expanded")
        return {**members(record), "expanded": expanded} if expanded else record

    def _members(self) -> JsonObject:
        """The given members by wire name, but for a config, which is still to be wrapped."""
        given = {name: value for name, value in self.given("body") if name not in ("updateMask", "expandMask")}
        if self.config is not None:
            del given["config"]
        return given

    def _mask(self) -> tuple[str, ...]:
        if self.update_mask is None:
            return tuple(name for name, _ in self.given("body") if name not in ("updateMask", "expandMask"))
        return tuple(path.strip() for path in self.update_mask.split(",") if path.strip())

    def _reached(self) -> tuple[str, ...]:
        """The members that the mask reaches, each once."""
        return tuple(dict.fromkeys(path.partition(".")[0] for path in self._mask()))

    def _given_keys(self) -> JsonObject:
        """The keys given for the config: wrapped ones where the caller wrapped it."""
        config = self.config or {}
        return members(config.get("configuration")) if TYPE in config else config

    def _config_after(self, current: Any) -> JsonObject:
        config = self.config or {}
        if TYPE not in config:
            stored = configuration_of(at(current, "config"))
            return {TYPE: ENV_CONFIG, "configuration": stored | wrap_all(config)}
        return config | {"configuration": wrap_all(self._given_keys())} if is_env_config(config) else config

    def _find_problems(self, current: Any) -> Iterator[Issue]:
        writable = [to_camel(name) for name in self.wires() if name not in ("update_mask", "expand_mask")]
        if not self._mask():
            where = "arguments" if self.update_mask is None else "update_mask"
            yield Issue(where, "nothing to change", f"at least one of {', '.join(writable)}", "displayName")
        for path in self._mask():
            yield from _check_mask_path(path, writable)
        if at(current, "deletedAt"):
            yield Issue("id", "a connector that is deleted", "one that conductorone_list_connectors shows")
        stored = at(current, "config")
        if self.config and TYPE not in self.config and stored and not is_env_config(stored):
            wanted = "the whole object with @type, as conductorone_get_connector shows it: this config is no EnvConfig"
            yield Issue("config", "a plain map", wanted)
        for key, value in self._given_keys().items():
            items = cast("list[Any]", value) if isinstance(value, list) else []
            if any("," in str(item) for item in items):
                yield Issue(f"config.{key}", "an item with a comma", "items without: the list is sent joined by commas")

    def _find_config_losses(self, current: Any) -> Iterator[Loss]:
        stored = at(current, "config")
        if self.config is None:
            if stored:
                yield Loss("Unsets config and every secret in it", "config", stored)
            return
        if TYPE in self.config and stored and self.config[TYPE] != at(stored, TYPE):
            yield Loss("Replaces config by one of another type", "config", stored)
            return
        known, before, given = _type_of(current)[1], configuration_of(stored), wrap_all(self._given_keys())
        for key, value in given.items() if is_env_config(self._config_after(current)) else ():
            if not is_empty(value):
                continue
            if known is not None and key in known.secret_paths:
                yield Loss(f"Erases the stored secret {key}", f"config.configuration.{key}")
            elif not is_empty(before.get(key)):
                yield Loss(f"Unsets {key} of config", f"config.configuration.{key}", unwrap(before[key]))
            elif known is None or key not in members(known.config.get("properties")):
                yield Loss(f"Erases the stored secret {key}", f"config.configuration.{key}")
        for key in before if TYPE in self.config else ():
            if key not in given and not is_empty(before[key]):
                yield Loss(f"Unsets {key} of config", f"config.configuration.{key}", unwrap(before[key]))

    def _plan_config(self, current: Any) -> JsonObject:
        after = self._config_after(current)
        if self.config is None or not is_env_config(after):
            return {"config": self.config}
        dropped = configuration_of(at(current, "config")).keys() - after["configuration"].keys()
        changes: JsonObject = {f"config.configuration.{key}": None for key in sorted(dropped)}
        for key, value in wrap_all(self._given_keys()).items():
            member = "keyValues.items" if "keyValues" in value else "stringValue"
            changes[f"config.configuration.{key}.{member}"] = None if is_empty(value) else at(value, member)
        return changes


def _check_mask_path(path: str, writable: Sequence[str]) -> Iterator[Issue]:
    if path in writable or path == "syncConfig.syncResourceTypeIds":
        return
    if (member := path.partition(".")[0]) in _READ_ONLY:
        yield Issue("update_mask", f"{member}, which is read-only", f"paths of {', '.join(writable)}", "displayName")
        return
    near = get_close_matches(to_camel(path), writable, n=1, cutoff=0.5)
    hint = f"{near[0]}, perhaps; " if near else ""
    wanted = f"{hint}paths of {', '.join(writable)}"
    yield Issue("update_mask", "an unknown path", wanted, near[0] if near else "displayName")


def _type_of(connector: Any) -> tuple[str | None, ConnectorType | None]:
    type_id = at(connector, "catalogId")
    return (type_id, connector_type("conductorone", type_id)) if isinstance(type_id, str) else (None, None)


def _holds(value: Any) -> bool:
    """Whether a stored member holds anything; answers spell an unset one null, "", false, 0 or an empty object."""
    return any(_holds(member) for member in members(value).values()) if isinstance(value, dict) else bool(value)


def _clears(value: Any) -> bool:
    """Whether a member that the mask reaches is empty after the call; a given false or 0 is a value."""
    return not _holds(value) and (value is None or isinstance(value, str | list | dict))
