"""The owners of ConductorOne's apps and connectors (facts: section 3; works, section 2 and trap 4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from pydantic import Field

from connector_mcp.errors import Issue
from connector_mcp.json_values import is_array, items, members
from connector_mcp.operations.conductorone.apps import APP_TARGET, APPS, EntitlementRef
from connector_mcp.operations.conductorone.connectors import (
    CONNECTOR_OF_ACTION,
    EXAMPLE,
    PAGING,
    ConductorOneOperation,
    ConnectorId,
)
from connector_mcp.operations.conductorone.sync import AcceptedAction
from connector_mcp.operations.fields import in_query
from connector_mcp.operations.operation import Effect, ListOperation, Operation, Paging, Record, Target, at
from connector_mcp.operations.platform import GET, POST, PUT
from connector_mcp.operations.situation import Loss, Situation

OWNERS = "/api/v2/apps/{app_id}/connectors/{connector_id}/owners"
_LATE = "It may take some minutes until it shows: "
_USER = "2user000000000000000000001"

UserId = Annotated[str, Field(description="Id of the user, as the console has it.")]
RoleSlug = Annotated[
    str, Field(min_length=1, description="Role of the owner. See conductorone_search_connector_user_owners.")
]


class OwnerOperation(ConductorOneOperation):
    """Base of the operations on owners."""

    toolset = "conductorone.owners"
    by_default = False
    stored_config = None


class OwnerId(Record):
    """The id of a user who owns an app."""

    id: str | None = None


class ListAppOwnerIds(OwnerOperation, ListOperation):
    """List the ids of the users who own an app. Changes take some minutes to show."""

    http = GET(f"{APPS}/{{app_id}}/ownerids")
    output = OwnerId
    paging = Paging(items="userIds", empty=("userIds",))
    example = {"app_id": EXAMPLE["app_id"]}

    def shape_result(self, answers: Sequence[Any], situation: Situation) -> Any:
        identifiers = super().shape_result(answers, situation)
        return [{"id": each} for each in identifiers] if is_array(identifiers) else identifiers


class AddAppOwner(OwnerOperation):
    """Make a user an owner of an app, beside those that it has. Owners manage the app and decide on access to it."""

    http = POST(f"{APPS}/{{app_id}}/owners/{{user_id}}")
    effect = Effect.CREATE
    output = AcceptedAction
    acts_on = APP_TARGET
    consequence = "Makes user {user_id} an owner of app {name}, who manages it and decides on access to it."
    empty_body = {}
    confirms = "accepted"
    next_step = f"{_LATE}conductorone_list_app_owner_ids."
    example = {"app_id": EXAMPLE["app_id"], "user_id": _USER}

    user_id: UserId


class ConnectorOwner(Record):
    """A user who owns a connector."""

    id: str | None = None
    display_name: str | None = None
    email: str | None = None
    role_slug: str | None = None
    created_at: str | None = None


def _as_row(owner: Any) -> Any:
    """The user of an owner record, with the role."""
    user, about = members(at(owner, "user")), members(owner)
    return {**user, "roleSlug": about.get("roleSlug"), "createdAt": about.get("createdAt")}


class SearchConnectorUserOwners(OwnerOperation, ListOperation):
    """List the users who own a connector, of one role or all, a page at a time. Changes take some minutes to show."""

    http = GET(f"{OWNERS}/users")
    output = ConnectorOwner
    paging = PAGING
    summary = ("id", "displayName", "email", "roleSlug")
    known_by = ("displayName",)
    example = EXAMPLE

    connector_id: ConnectorId
    role_slug: Annotated[str | None, Field(description="Only owners with this role."), in_query("role_slug")] = None

    def shape_result(self, answers: Sequence[Any], situation: Situation) -> Any:
        rows = super().shape_result(answers, situation)
        return [_as_row(each) for each in rows] if is_array(rows) else rows


class CreateConnectorUserOwner(OwnerOperation):
    """Make a user an owner of a connector in a role, beside those that it has."""

    http = POST(f"{OWNERS}/users/{{role_slug}}/{{user_id}}")
    effect = Effect.CREATE
    output = ConnectorOwner
    acts_on = CONNECTOR_OF_ACTION
    consequence = "Makes user {user_id} an owner of connector {name} in role {role_slug}."
    next_step = f"{_LATE}conductorone_search_connector_user_owners."
    example = {**EXAMPLE, "role_slug": "owner", "user_id": _USER}

    connector_id: ConnectorId
    role_slug: RoleSlug
    user_id: UserId

    def make_body(self, situation: Situation) -> Any:
        return {"userRef": {"id": self.user_id}}

    def shape_result(self, answers: Sequence[Any], situation: Situation) -> Any:
        return _as_row(owner) if (owner := at(answers[0], "connectorOwnerUser")) else None


class SetConnectorOwners(OwnerOperation):
    """Set all owners of a connector in a role. Who is not named is removed. To add one,
    conductorone_create_connector_user_owner is safer."""

    http = PUT(OWNERS)
    effect = Effect.DESTROY
    output = AcceptedAction
    # The list of owners does not have the connector's name.
    acts_on = Target("connector", SearchConnectorUserOwners, name="")
    can_destroy = True
    consequence = "Replaces all owners of connector {name} in role {role_slug} by those that are named."
    confirms = "accepted"
    next_step = f"{_LATE}conductorone_search_connector_user_owners."
    example = {**EXAMPLE, "role_slug": "owner", "user_ids": [_USER]}

    connector_id: ConnectorId
    role_slug: RoleSlug
    user_ids: Annotated[list[str] | None, Field(description="Ids of all its users.")] = None
    app_entitlement_refs: Annotated[
        list[EntitlementRef] | None, Field(description="Entitlements: who has one of them is to own it.")
    ] = None

    def make_body(self, situation: Situation) -> Any:
        entitlements = [each.model_dump(by_alias=True) for each in self.app_entitlement_refs or ()]
        users = [{"id": each} for each in self.user_ids or ()]
        return {"roleSlug": self.role_slug, "userRefs": users, "appEntitlementRefs": entitlements}

    def find_problems(self, situation: Situation) -> Iterator[Issue]:
        if not self.user_ids and not self.app_entitlement_refs:
            wanted = "at least one of user_ids and app_entitlement_refs with an owner"
            yield Issue("user_ids", "no owner", wanted, [_USER])

    def find_losses(self, situation: Situation) -> Iterator[Loss]:
        """The owners that are not named. Those by entitlement are not read, so some may always be removed."""
        for owner in map(members, items(situation.current)):
            if owner.get("roleSlug") == self.role_slug and owner.get("id") not in (self.user_ids or ()):
                yield Loss(f"Removes owner {owner.get('displayName') or owner.get('id')} (id {owner.get('id')})")
        yield Loss("Removes every entitlement that owns it in this role and is not named")


OPERATIONS: tuple[type[Operation], ...] = (
    ListAppOwnerIds,
    AddAppOwner,
    SearchConnectorUserOwners,
    CreateConnectorUserOwner,
    SetConnectorOwners,
)
