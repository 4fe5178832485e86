"""ConductorOne apps, which connectors belong to (facts: works, sections 2 to 4)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from connector_mcp.errors import Issue
from connector_mcp.json_values import JsonObject, members
from connector_mcp.operations.conductorone.connectors import EXAMPLE_APP, PAGING
from connector_mcp.operations.conductorone.platform import CONDUCTORONE
from connector_mcp.operations.operation import Effect, ListOperation, Operation, Record, Target, at
from connector_mcp.operations.platform import GET, POST
from connector_mcp.operations.situation import Situation
from connector_mcp.operations.update import Mask, UpdateOperation

APPS = "/api/v1/apps"
_SUMMARY = ("id", "displayName", "description", "isDirectory", "parentAppId", "userCount")
_ANNOTATIONS = 16
_ANNOTATION_KEY = re.compile(r"[A-Za-z][A-Za-z0-9._/-]{0,127}")
_ANNOTATION_VALUE = re.compile(r"[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]{0,256}")


class App(Record):
    """An app, which connectors belong to."""

    id: str | None = None
    display_name: str | None = None
    description: str | None = None
    is_directory: bool | None = None
    parent_app_id: str | None = None
    user_count: str | None = None
    deleted_at: str | None = None


class EntitlementRef(BaseModel):
    """An entitlement of an app."""

    model_config = ConfigDict(extra="forbid", strict=True, serialize_by_alias=True)

    app_id: Annotated[str, Field(description="Id of the app that has the entitlement.", serialization_alias="appId")]
    id: Annotated[str, Field(description="Id of the entitlement itself.")]


class AppOperation(Operation):
    """Base of the operations on apps."""

    on = CONDUCTORONE
    toolset = "conductorone.apps"
    by_default = True
    output = App
    heavy = frozenset({"appOwners", "logoUri", "iconUrl"})
    """The owners are whole user records; conductorone_list_app_owner_ids has their ids."""


class ListApps(AppOperation, ListOperation):
    """List the apps. Every connector belongs to one: its id is the app_id of the other tools. A page at a time."""

    http = GET(APPS)
    paging = PAGING
    summary = _SUMMARY
    known_by = ("displayName",)
    example = {"limit": 20}


class SearchApps(AppOperation, ListOperation):
    """Find apps by name or words, a page at a time. Names are not unique: look before you create one."""

    http = POST("/api/v1/search/apps")
    paging = PAGING
    summary = _SUMMARY
    known_by = ("displayName",)
    example = {"display_name": "Okta"}

    display_name: Annotated[str | None, Field(description="Name of the app, in any case.")] = None
    query: Annotated[str | None, Field(description="Words like those of name or description.")] = None
    app_ids: Annotated[list[str] | None, Field(description="Only these apps.")] = None
    exclude_app_ids: Annotated[list[str] | None, Field(description="Without these apps.")] = None
    only_directories: Annotated[bool | None, Field(description="true: only apps that are directories.")] = None

    def make_query(self) -> dict[str, str | list[str]]:
        return {}

    def make_body(self, situation: Situation) -> Any:
        """Make the body, which also says which page is wanted (facts: works, section 2)."""
        page, names = super().make_query(), {"page_size": "pageSize", "page_token": "pageToken"}
        paged = {names[name]: int(str(value)) if name == "page_size" else value for name, value in page.items()}
        return dict(self.given("body")) | paged


class GetApp(AppOperation):
    """Get an app. Its userCount above 0 shows that a sync brought data; appOwners and logos are left out."""

    http = GET(f"{APPS}/{{id}}")
    effect = Effect.READ
    record = "app"
    example = {"id": EXAMPLE_APP}

    id: Annotated[str, Field(description="Id of the app. conductorone_list_apps lists them.")]


APP_TARGET = Target(
    "app",
    GetApp,
    arguments={"id": "app_id"},
    name="displayName",
    volatile=frozenset({"userCount", "updatedAt", "connectorVersion"}),
)
"""The app that an operation names by `app_id`."""


class AppSettings(AppOperation):
    """Base of the operations that set what an app is like."""

    description: Annotated[str | None, Field(description="What the app is for.")] = None
    instructions: Annotated[str | None, Field(description="Shown to people who request access.")] = None
    grant_policy_id: Annotated[str | None, Field(description="Policy that decides on grants of access.")] = None
    revoke_policy_id: Annotated[str | None, Field(description="Policy that decides on revocations.")] = None
    certify_policy_id: Annotated[str | None, Field(description="Policy that decides in access reviews.")] = None
    monthly_cost_usd: Annotated[int | None, Field(ge=0, le=2**31 - 1, description="Cost of a seat in a month.")] = None
    identity_matching: Annotated[
        Literal[
            "APP_USER_IDENTITY_MATCHING_STRICT",
            "APP_USER_IDENTITY_MATCHING_DISPLAY_NAME",
            "APP_USER_IDENTITY_MATCHING_CUSTOM",
        ]
        | None,
        Field(description="How accounts are matched with people."),
    ] = None
    strict_access_entitlement_provisioning: Annotated[
        bool | None, Field(description="true: grants include the access entitlement.")
    ] = None
    annotations: Annotated[dict[str, str] | None, Field(description="Up to 16 notes; an empty value deletes one.")] = (
        None
    )

    def find_annotation_problems(self) -> Iterator[Issue]:
        """Find annotations that ConductorOne refuses (facts: works, section 3)."""
        given = self.annotations or {}
        if len(given) > _ANNOTATIONS:
            yield Issue("annotations", f"{len(given)} entries", f"at most {_ANNOTATIONS}")
        for key, value in given.items():
            if key.startswith("c1/") or not _ANNOTATION_KEY.fullmatch(key):
                wanted = "letters, digits and . _ / -, a letter first, at most 128; none begins with c1/"
                yield Issue("annotations", "a key that cannot be used", wanted, "managed_by")
            elif not _ANNOTATION_VALUE.fullmatch(value):
                yield Issue(f"annotations.{key}", "a value that cannot be used", "at most 256 characters of a URL")


class CreateApp(AppSettings):
    """Create an app without a connector. Search first with conductorone_search_apps: names are not unique."""

    http = POST(APPS)
    effect = Effect.CREATE
    record = "app"
    repeatable = False
    consequence = "Creates app {display_name}, which people can request access to."
    reads_back = GetApp
    next_step = (
        "It has no connector yet: conductorone_create_connector, or conductorone_create_delegated_connector where "
        "a person enters the config."
    )
    example = {"display_name": "Acme CRM", "description": "Customers", "owners": ["2user000000000000000000001"]}

    display_name: Annotated[str, Field(min_length=1, description="Name of the app.")]
    owners: Annotated[list[str] | None, Field(description="Ids of the users who own it.")] = None

    def find_problems(self, situation: Situation) -> Iterator[Issue]:
        return self.find_annotation_problems()


class UpdateApp(AppSettings, UpdateOperation):
    """Change an app. What is left out is kept; an empty value erases. Annotations are merged. Owners are changed with
    conductorone_add_app_owner."""

    http = POST(f"{APPS}/{{id}}")
    by_default = False
    record = "app"
    acts_on = Target("app", GetApp, name="displayName", volatile=APP_TARGET.volatile)
    strategy = Mask()
    consequence = "Changes app {name}; its policies decide who gets access, keeps it and loses it."
    example = {"id": EXAMPLE_APP, "description": "Customer data"}

    id: Annotated[str, Field(description="Id of the app. conductorone_list_apps lists them.")]
    display_name: Annotated[str | None, Field(description="New display name.")] = None

    def complete_members(self, current: JsonObject) -> JsonObject:
        """The given members; annotations with those that stay, since ConductorOne merges them."""
        given = self.given_members()
        if "annotations" in given:
            given["annotations"] = members(current.get("annotations")) | given["annotations"]
        return given

    def make_body(self, situation: Situation) -> Any:
        given = self.given_members()
        return {"app": {"id": self.id} | given, "updateMask": ",".join(given)}

    def find_problems(self, situation: Situation) -> Iterator[Issue]:
        if not self.given_members():
            wanted = "at least one of display_name, description, instructions, annotations and the others"
            yield Issue("arguments", "nothing to change", wanted)
        if self.display_name == "":
            yield Issue("display_name", "an empty text", "a name, which every app needs", "Acme CRM")
        if at(situation.current, "deletedAt"):
            yield Issue("id", "an app that is deleted", "one that conductorone_list_apps shows")
        yield from self.find_annotation_problems()


OPERATIONS = (ListApps, SearchApps, GetApp, CreateApp, UpdateApp)
