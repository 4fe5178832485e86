"""Auth schemes, of systems and of Connect v1 connectors: their two forms, how one is read and set (facts: trap 7).

An auth scheme config says how a system wants to be called. It is a config of the type that describe_connector_type
lists as `auth-scheme-…` or `v1-auth-scheme-…`, and is checked as such.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, ClassVar

from pydantic import Field

from connector_mcp.errors import Issue
from connector_mcp.json_values import JsonObject, is_array, is_object, items, members
from connector_mcp.operations.connector_types import connector_type, connector_types
from connector_mcp.operations.fields import LOCAL_ONLY, in_body
from connector_mcp.operations.operation import Effect, Operation, at
from connector_mcp.operations.situation import ConfigUse, Situation
from connector_mcp.operations.update import Merge, UpdateOperation
from connector_mcp.operations.versori.platform import VERSORI, FoundRecord

_SETTINGS = {"api-key": "apiKey", "basic-auth": "basicAuth"}
"""Member with the settings of an auth scheme, where it is not named like the type."""
_UNREADABLE = ("clientSecret", "consumerSecret", "validationMessages")
"""Members that Versori keeps, blanks or makes itself: leaving them out loses nothing."""


class SchemeForm:
    """The form of an auth scheme config in the Platform API v2: its settings are a member named by its type."""

    prefix: ClassVar[str] = "auth-scheme-"
    """What the names of its connector types begin with."""
    type_at: ClassVar[str] = "type"
    grant_at: ClassVar[str] = "type"

    def settings(self, config: Any) -> JsonObject:
        """The settings of a config, with its id and grant."""
        kind = members(config).get("type")
        return members(members(config).get(_SETTINGS.get(str(kind), str(kind))))

    def identify(self, config: Any) -> str:
        """The id of a config."""
        return str(self.settings(config).get("id", ""))

    def grant(self, config: Any) -> JsonObject:
        """The grant of an OAuth 2.0 config."""
        return members(self.settings(config).get("grant"))

    def app(self, config: Any) -> JsonObject:
        """The client application inside that grant."""
        grant = self.grant(config)
        return members(grant.get(str(grant.get("type"))))

    def with_app(self, config: JsonObject, app: JsonObject) -> JsonObject:
        """The config with this client application."""
        grant = self.grant(config)
        return config | {"oauth2": self.settings(config) | {"grant": grant | {str(grant.get("type")): app}}}

    def use(self, config: JsonObject, path: str) -> ConfigUse:
        """A config among the arguments."""
        kind = f"{self.prefix}{config.get(self.type_at)}"
        return ConfigUse(path, kind, connector_type(VERSORI.name, kind), config)

    def find_unknown_type(self, config: JsonObject, path: str) -> Iterator[Issue]:
        """Find a type that is missing, or that has no published shape."""
        kind = config.get(self.type_at)
        if connector_type(VERSORI.name, f"{self.prefix}{kind}") is None:
            names = (name for name in connector_types(VERSORI.name) if name.startswith(self.prefix))
            wanted = f"one of {', '.join(name.removeprefix(self.prefix) for name in names)}"
            got = "nothing" if kind is None else "a type without a published shape"
            yield Issue(f"{path}.{self.type_at}", got, wanted, "api-key", unknown=kind is not None)

    def find_problems(self, config: JsonObject, path: str) -> Iterator[Issue]:
        """Find what is wrong with a config that is to be stored, and half of a client credential that is stored."""
        yield from self.find_unknown_type(config, path)
        held = [name for name in ("credentialId", "organisationId") if self.app(config).get(name)]
        if len(held) == 1:
            yield Issue(path, f"{held[0]} alone", "credentialId and organisationId together, or neither")

    def uses(self, configs: Sequence[JsonObject] | None) -> tuple[ConfigUse, ...]:
        """The configs of the argument `auth_scheme_configs`."""
        return tuple(self.use(each, f"auth_scheme_configs[{index}]") for index, each in enumerate(configs or ()))

    def find_all_problems(self, configs: Sequence[JsonObject] | None) -> tuple[Issue, ...]:
        """Find what is wrong with those."""
        found = (self.find_problems(each, f"auth_scheme_configs[{index}]") for index, each in enumerate(configs or ()))
        return tuple(issue for issues in found for issue in issues)

    def find_missing(self, configs: Sequence[JsonObject] | None, shown: Any) -> list[str]:
        """The auth schemes that were sent and that a system or connector lacks."""
        stored = {self.identify(each) for each in items(at(shown, "authSchemeConfigs"))}
        sent = map(self.identify, configs or ())
        return [f"auth scheme {identifier}" for identifier in sent if identifier not in stored]


class V1SchemeForm(SchemeForm):
    """The form in the Connect API v1: the settings stand beside the type."""

    prefix = "v1-auth-scheme-"
    type_at = "schemeType"
    grant_at = "grantType"

    def settings(self, config: Any) -> JsonObject:
        return members(config)

    def app(self, config: Any) -> JsonObject:
        return self.grant(config)

    def with_app(self, config: JsonObject, app: JsonObject) -> JsonObject:
        return config | {"grant": app}


V2, V1 = SchemeForm(), V1SchemeForm()


class StoredScheme(FoundRecord):
    """An auth scheme config of a system or connector."""

    config: JsonObject | None = None


class SchemeOperation(Operation):
    """Base of the operations on one auth scheme."""

    form: ClassVar[SchemeForm] = V2


class ReadScheme(SchemeOperation):
    """Base of the reads of one auth scheme config out of the record that holds it."""

    effect = Effect.READ
    output = StoredScheme

    auth_scheme_config_id: Annotated[str, LOCAL_ONLY]

    def shape_result(self, answers: Sequence[Any], situation: Situation) -> Any:
        """Take the config out of the record; nothing if that is not the record asked for."""
        configs = at(answers[0], "authSchemeConfigs")
        if at(answers[0], "id") != getattr(self, self.http.placeholders[-1]) or not is_array(configs):
            return None
        config = next((each for each in configs if self.form.identify(each) == self.auth_scheme_config_id), None)
        return {"found": config is not None, "config": _readable(members(config))}


class SetScheme(SchemeOperation, UpdateOperation):
    """Base of the operations that set one auth scheme config as a whole."""

    strategy = Merge()
    # Without the ids of a stored client credential, each call stores another one (trap 7).
    repeatable = False
    consequence = (
        "Sets auth scheme {auth_scheme_config_id}; connections that use it sign in by the new settings at once, "
        "and stop working where their credentials do not fit."
    )

    auth_scheme_config_id: Annotated[str, Field(description="Id of the auth scheme config; a new one adds a config.")]
    config: Annotated[
        JsonObject,
        Field(description="Whole config; keys of connector type auth-scheme-TYPE."),
        in_body("config", stored_as="config"),
    ]

    def find_configs(self, situation: Situation) -> tuple[ConfigUse, ...]:
        return (self.form.use(self.config, "config"),)

    def find_problems(self, situation: Situation) -> tuple[Issue, ...]:
        own = self.form.settings(self.config).get("id")
        is_other = own is not None and own != self.auth_scheme_config_id
        other = [Issue("config", "another id inside", "the same id as auth_scheme_config_id")] if is_other else []
        return (*other, *self.form.find_problems(self.config, "config"))

    def complete_members(self, current: JsonObject) -> JsonObject:
        """The config with the ids of the client credential that is stored, so that Versori keeps its secret."""
        form, held = self.form, current.get("config")
        stored, given = form.app(held), form.app(self.config)
        is_same = form.grant(held).get(form.grant_at) == form.grant(self.config).get(form.grant_at)
        ids = {name: stored[name] for name in ("credentialId", "organisationId") if stored.get(name)}
        if not is_same or len(ids) < 2 or ids.keys() & given.keys():
            return {"config": self.config}
        return {"config": form.with_app(self.config, given | ids)}

    def make_body(self, situation: Situation) -> Any:
        return self.members_to_send(situation)["config"]


def _readable(config: JsonObject) -> JsonObject:
    """The config without what no read shows as it is stored."""
    shown = {key: value for key, value in config.items() if key not in _UNREADABLE}
    return {key: _readable(value) if is_object(value) else value for key, value in shown.items()}
