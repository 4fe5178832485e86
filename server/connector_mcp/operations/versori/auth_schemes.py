"""Setting an auth scheme, of a system and of a Connect v1 connector: what is kept, what is lost (facts: trap 7)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

from pydantic import Field

from connector_mcp.errors import Issue
from connector_mcp.json_values import JsonObject, is_array, is_object, members
from connector_mcp.operations.fields import LOCAL_ONLY, in_body
from connector_mcp.operations.operation import Effect, Operation, at
from connector_mcp.operations.situation import ConfigUse, Situation
from connector_mcp.operations.update import Merge, UpdateOperation
from connector_mcp.operations.versori.common import (
    SCHEME,
    FoundRecord,
    half_credential,
    scheme_id,
    scheme_use,
    settings_of,
    unknown_scheme,
)

AuthSchemeConfigId = Annotated[str, Field(description="Id of the auth scheme config; a new one adds a config.")]
AuthSchemeConfig = Annotated[
    JsonObject,
    Field(description="Whole config; keys of connector type auth-scheme-TYPE."),
    in_body("config", stored_as="config"),
]

_UNREADABLE = ("clientSecret", "consumerSecret", "validationMessages")
"""Members that Versori keeps, blanks or makes itself: leaving them out loses nothing."""


class StoredScheme(FoundRecord):
    """An auth scheme config of a system or connector."""

    config: JsonObject | None = None


class ReadScheme(Operation):
    """Base of the reads of one auth scheme config out of the record that holds it."""

    effect = Effect.READ
    output = StoredScheme

    auth_scheme_config_id: Annotated[str, LOCAL_ONLY]

    def shape_result(self, answers: Sequence[Any], situation: Situation) -> Any:
        """Take the config out of the record; nothing if that is not the record asked for."""
        configs = at(answers[0], "authSchemeConfigs")
        if at(answers[0], "id") != getattr(self, self.http.placeholders[-1]) or not is_array(configs):
            return None
        named = (config for config in map(members, configs) if self.identify(config) == self.auth_scheme_config_id)
        config = next(named, None)
        return {"found": config is not None, "config": _readable(config or {})}

    @staticmethod
    def identify(config: JsonObject) -> str:
        """The id of an auth scheme config."""
        return scheme_id(config)


class SetScheme(UpdateOperation):
    """Base of the operations that set one auth scheme config as a whole."""

    strategy = Merge()
    # Without the ids of a stored client credential, each call stores another one (trap 7).
    repeatable = False
    consequence = (
        "Sets auth scheme {auth_scheme_config_id}; connections that use it sign in by the new settings at once, "
        "and stop working where their credentials do not fit."
    )

    type_prefix: ClassVar[str] = SCHEME
    type_at: ClassVar[str] = "type"
    grant_at: ClassVar[str] = "type"

    auth_scheme_config_id: AuthSchemeConfigId
    config: AuthSchemeConfig

    def settings(self, config: Any) -> JsonObject:
        """The settings of an auth scheme config, with its id and grant."""
        return settings_of(config)

    def grant_of(self, config: Any) -> JsonObject:
        """The grant of an OAuth 2.0 config."""
        return members(self.settings(config).get("grant"))

    def app_of(self, config: Any) -> JsonObject:
        """The client application inside that grant."""
        grant = self.grant_of(config)
        return members(grant.get(str(grant.get("type"))))

    def with_app(self, config: JsonObject, app: JsonObject) -> JsonObject:
        """The config with this client application."""
        grant = self.grant_of(config)
        return config | {"oauth2": self.settings(config) | {"grant": grant | {str(grant.get("type")): app}}}

    def find_configs(self, situation: Situation) -> tuple[ConfigUse, ...]:
        return (scheme_use(self.config, "config", prefix=self.type_prefix, type_at=self.type_at),)

    def find_problems(self, situation: Situation) -> tuple[Issue, ...]:
        issues = [*unknown_scheme(self.config, "config", prefix=self.type_prefix, type_at=self.type_at)]
        own = self.settings(self.config).get("id")
        if own is not None and own != self.auth_scheme_config_id:
            issues.append(Issue("config", "another id inside", "the same id as auth_scheme_config_id"))
        return (*issues, *half_credential(self.app_of(self.config), "config"))

    def complete_members(self, current: JsonObject) -> JsonObject:
        """The config with the ids of the client credential that is stored, so that Versori keeps its secret."""
        held = current.get("config")
        stored, given = self.app_of(held), self.app_of(self.config)
        is_same = self.grant_of(held).get(self.grant_at) == self.grant_of(self.config).get(self.grant_at)
        ids = {name: stored[name] for name in ("credentialId", "organisationId") if stored.get(name)}
        if not is_same or len(ids) < 2 or ids.keys() & given.keys():
            return {"config": self.config}
        return {"config": self.with_app(self.config, given | ids)}

    def make_body(self, situation: Situation) -> Any:
        return self.members_to_send(situation)["config"]


def _readable(config: JsonObject) -> JsonObject:
    """The config without what no read shows as it is stored."""
    return {
        key: _readable(value) if is_object(value) else value for key, value in config.items() if key not in _UNREADABLE
    }
