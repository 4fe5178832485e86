"""ConductorOne's syncs: starting, pausing, resuming and scheduling them (facts: section 6, traps 10 to 14)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Annotated, Any

from pydantic import Field

from connector_mcp.errors import Issue
from connector_mcp.json_values import JsonObject, members
from connector_mcp.operations.conductorone.connectors import (
    CONNECTOR_OF_ACTION,
    CONNECTORS,
    EXAMPLE,
    ConductorOneOperation,
    ConnectorId,
)
from connector_mcp.operations.fields import in_body
from connector_mcp.operations.operation import Effect, Record, at
from connector_mcp.operations.platform import POST
from connector_mcp.operations.situation import Loss, Path, Situation
from connector_mcp.operations.update import Merge, UpdateOperation

_AT = f"{CONNECTORS}/{{connector_id}}"
_FIELD = re.compile(r"[0-9A-Za-z*/,?L#-]+")
_EVERY_SO_OFTEN = re.compile(r"\*(?:/(\d+))?")
_ZONE = re.compile(r"[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+)*")
_LEAST_MINUTES = 30
_SCHEDULE = "connectorSyncCronSchedule"
"""The member of a connector that shows its schedule, in another form than it is sent in."""


class AcceptedAction(Record):
    """The confirmation that ConductorOne took an order; its own answer is empty."""

    id: str | None = None
    accepted: bool | None = None


class ConnectorAction(ConductorOneOperation):
    """Base of the operations that tell a connector to do something."""

    toolset = "conductorone.sync"
    effect = Effect.UPDATE
    output = AcceptedAction
    acts_on = CONNECTOR_OF_ACTION
    confirms = "accepted"
    empty_body = {}
    example = EXAMPLE

    connector_id: ConnectorId


def is_paused(connector: Any) -> bool:
    """Whether ConductorOne runs no syncs of a connector."""
    return bool(at(connector, "syncDisabledAt"))


class ForceSync(ConnectorAction):
    """Start a sync now. It is only queued: it takes minutes to hours, and the last status stays until it begins. Call
    check_connector for the outcome."""

    http = POST(f"{_AT}/force_sync")
    overwrites = True
    repeatable = False
    consequence = "Starts a sync of connector {name}; what it finds replaces what ConductorOne knows of the app."
    next_step = "The sync is queued: call check_connector in some minutes, with the app as within."

    def find_problems(self, situation: Situation) -> Iterator[Issue]:
        yield from super().find_problems(situation)
        if is_paused(situation.current):
            wanted = "one whose syncs run: find out why it is paused, then call conductorone_resume_sync"
            yield Issue("connector_id", "a connector whose syncs are paused", wanted)


class PauseSync(ConnectorAction):
    """Pause a connector: no sync and no provisioning runs until it is resumed, so grants and revocations of access
    wait."""

    http = POST(f"{_AT}/pause")
    by_default = False
    can_destroy = True
    consequence = "Pauses connector {name}: nothing is synced, and grants and revocations of access wait."
    next_step = "Grants and revocations wait until conductorone_resume_sync."

    def find_losses(self, situation: Situation) -> Iterator[Loss]:
        """Revocations that wait leave people the access that they should lose."""
        if not is_paused(situation.current):
            yield Loss("Stops syncs and provisioning: revocations of access wait until it is resumed")


class ResumeSync(ConnectorAction):
    """Resume a paused connector. A sync starts, and the grants and revocations that waited are carried out. If
    ConductorOne paused it because data was missing, a person must decide first."""

    http = POST(f"{_AT}/resume")
    overwrites = True
    repeatable = False
    consequence = "Resumes connector {name}: a sync starts, and grants and revocations that waited are carried out."
    next_step = "A sync has been started: call check_connector in some minutes, with the app as within."

    def plan_changes(self, situation: Situation) -> Mapping[Path, Any]:
        return {("syncDisabledAt",): None}


class UpdateConnectorSchedule(ConnectorAction, UpdateOperation):
    """Set when a connector syncs, as a cron expression. Runs must be 30 minutes apart, for some types more."""

    http = POST(f"{_AT}/schedule")
    by_default = False
    strategy = Merge()
    can_destroy = False
    consequence = "Sets the sync schedule of connector {name} to {cron_spec}."
    example = {**EXAMPLE, "cron_spec": "0 */6 * * *", "timezone": "America/Los_Angeles"}

    cron_spec: Annotated[
        str, Field(description="Minute, hour, day, month and weekday, such as 0 */6 * * *."), in_body(stored_as=None)
    ]
    timezone: Annotated[
        str | None,
        Field(description="IANA time zone; left out, it stays."),
        in_body(stored_as=None),
    ] = None

    def given_members(self) -> JsonObject:
        return {_SCHEDULE: dict(self.given("body"))}

    def complete_members(self, current: JsonObject) -> JsonObject:
        """The schedule, with the stored time zone unless one is given: the platform replaces both."""
        return {_SCHEDULE: members(current.get(_SCHEDULE)) | self.given_members()[_SCHEDULE]}

    def make_body(self, situation: Situation) -> Any:
        schedule = self.members_to_send(situation)[_SCHEDULE]
        return {"cron": {key: schedule[key] for key in ("cronSpec", "timezone") if schedule.get(key)}}

    def find_problems(self, situation: Situation) -> Iterator[Issue]:
        yield from super().find_problems(situation)
        fields = self.cron_spec.split()
        if len(fields) != 5 or not all(map(_FIELD.fullmatch, fields)):
            wanted = "five fields: minute, hour, day of month, month, day of week"
            yield Issue("cron_spec", "no cron expression", wanted, "0 */6 * * *")
        elif _least_gap(fields[0]) < _LEAST_MINUTES:
            wanted = f"runs that are {_LEAST_MINUTES} minutes apart or more"
            yield Issue("cron_spec", "runs that are too close", wanted, "0 */6 * * *")
        if self.timezone is not None and not _ZONE.fullmatch(self.timezone):
            yield Issue("timezone", "no IANA time zone", "a name such as Europe/Berlin", "UTC")


def _least_gap(minutes: str) -> int:
    """The shortest time between two runs within an hour, as far as the field of minutes tells it."""
    if every := _EVERY_SO_OFTEN.fullmatch(minutes):
        return int(every[1] or 1) or 1
    named = sorted({int(part) for part in minutes.split(",") if part.isdecimal()})
    if len(named) > 1:
        return min(later - earlier for earlier, later in pairwise([*named, named[0] + 60]))
    return 1 if "-" in minutes else 60


OPERATIONS = (ForceSync, PauseSync, ResumeSync, UpdateConnectorSchedule)
