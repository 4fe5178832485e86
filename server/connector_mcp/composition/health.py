"""The checks of `doctor`, one function each."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from connector_mcp.cli.output.terminal import CliCaller
from connector_mcp.cli.output.text import printable
from connector_mcp.composition.engine import assembled
from connector_mcp.composition.readiness import Readiness, platform_states
from connector_mcp.composition.storage import open_connection
from connector_mcp.config.settings import Settings
from connector_mcp.engine.engine import Engine
from connector_mcp.engine.policy import Policy
from connector_mcp.errors import StoreUnavailable
from connector_mcp.json_values import JsonObject
from connector_mcp.operations.catalog import platform_folder
from connector_mcp.operations.operation import Effect, ListOperation
from connector_mcp.operations.tool import PROFILE, Tool

_CLOCK_SECONDS = 5.0

_ANSWERED = frozenset({"not_found"})
"""Failures of the read that prove address and credentials all the same: an example's id is of nothing that exists."""


@dataclass(frozen=True)
class PlatformReport:
    """What was found out about an account; without a read, only what is set."""

    readiness: Readiness
    fine: bool = False
    detail: str = ""
    fix: str = ""

    def as_dict(self) -> JsonObject:
        state = "fine" if self.fine else "failed" if self.readiness.configured else "not configured"
        return {
            "platform": self.readiness.platform.name,
            "profile": self.readiness.profile or "default",
            "title": self.readiness.title,
            "state": state,
            "configured": self.readiness.configured,
            "set": list(self.readiness.given),
            "missing": list(self.readiness.lacking),
            "detail": printable(self.detail),
            "fix": printable(self.fix),
        }


async def examine_platforms(settings: Settings, environ: Mapping[str, str]) -> list[PlatformReport]:
    """What is found out about each platform, with an engine that is made for it."""
    states = platform_states(settings, environ)
    # A platform that is named and not configured would end the start; here it is a line of the report.
    lacking = {state.platform.name for state in states if not state.configured}
    configured = tuple(dict.fromkeys(state.platform.name for state in states if state.platform.name not in lacking))
    if not configured:
        return [PlatformReport(state) for state in states]
    narrowed = settings.model_copy(update={"platforms": configured})
    async with assembled(narrowed, environ, "cli") as engine:
        return [await report_on(engine, state) for state in states]


async def report_on(engine: Engine, state: Readiness) -> PlatformReport:
    """Make one cheap read under a configured account and say what came of it."""
    if not state.configured:
        return PlatformReport(state)
    accounts = [account for account in engine.accounts if account.platform.name == state.platform.name]
    if not accounts:
        return PlatformReport(
            state, detail="Not checked: another profile of the platform lacks something.", fix="Complete or remove it."
        )
    tool, arguments = _cheap_read(engine, state)
    if tool is None:
        return PlatformReport(
            state,
            detail="Not checked: no list of this platform is served.",
            fix="Check it without --tools and with a policy that allows reads.",
        )
    if PROFILE in tool.input_schema["properties"]:
        arguments[PROFILE] = state.profile
    unknown = [name for name in tool.input_schema.get("required", ()) if name not in arguments]
    tenant = state.platform.tenant
    if unknown:
        named = tenant.name if tenant and state.platform.tenant_argument in unknown else ", ".join(unknown)
        return PlatformReport(state, detail=f"Not checked: {named} is not set.", fix=f"Set {named}, then check again.")
    result = await engine.call(tool.name, arguments, CliCaller(can_ask=False))
    if not result.is_error:
        return PlatformReport(state, fine=True, detail=f"{tool.name} was answered; the credentials are accepted.")
    error = result.content["error"]
    if error["code"] in _ANSWERED:
        return PlatformReport(state, fine=True, detail="The platform answered; the credentials are accepted.")
    return PlatformReport(state, detail=f"{error['code']}: {error['message']}", fix=str(error["fix"]))


def _cheap_read(engine: Engine, state: Readiness) -> tuple[Tool | None, JsonObject]:
    """The platform's own list, one row of it; ids that it needs are those of the declaration's example."""
    for operation in platform_folder(state.platform.name).operations:
        tool = engine.tool(operation.tool_name()) if issubclass(operation, ListOperation) else None
        if tool is not None:
            required = tool.input_schema.get("required", ())
            ids = {name: operation.example[name] for name in required if name in operation.example}
            return tool, {**ids, "limit": 1}
    return None, {}


def check_state_directory(directory: Path) -> JsonObject:
    """Whether files can be made there, or the directory itself where it is not there yet. Leaves nothing behind."""
    there = directory
    while not there.exists() and there != there.parent:
        there = there.parent
    writable, detail = True, ""
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        writable, detail = False, f"cannot be written: {error.strerror or type(error).__name__}"
    return {"directory": os.fspath(directory), "exists": directory.is_dir(), "writable": writable, "detail": detail}


async def check_shared_store(settings: Settings, address: SecretStr) -> JsonObject:
    """Whether the Redis that replicas share answers, and what of it could lose what was decided."""
    connection = open_connection(settings, address)
    report: JsonObject = {"address": connection.place, "reachable": True, "detail": "", "warnings": []}
    try:
        told = await connection.information()
    except StoreUnavailable as failure:
        return report | {"reachable": False, "detail": failure.message}
    finally:
        await connection.aclose()
    if told.get("maxmemory_policy") != "noeviction":
        report["warnings"].append(
            f"maxmemory-policy is {told.get('maxmemory_policy', 'not told')}: approvals and audit records are dropped "
            "when it is full. Set it to noeviction."
        )
    if not told.get("aof_enabled"):
        report["warnings"].append(
            "appendonly is off: a restart forgets what was decided and what is on its way. Set it to yes."
        )
    if abs(told["clock_ahead"]) > _CLOCK_SECONDS:
        report["warnings"].append(
            f"its clock and this machine's are {abs(told['clock_ahead']):.0f} s apart: approvals and questions live "
            "that much longer or shorter. Set both by NTP."
        )
    return report


def policy_in_force(settings: Settings) -> JsonObject:
    """What the policy decides for each effect where no rule names the tool, on either transport."""
    forms = {
        transport: Policy.parse(settings.policy, read_only=settings.read_only, transport=transport)
        for transport in ("stdio", "http")
    }
    decided = {name: {str(e): str(policy.decide("", e)) for e in Effect} for name, policy in forms.items()}
    return {"rules": settings.policy, "read_only": settings.read_only, **decided}


def transport_facts(settings: Settings) -> JsonObject:
    """Where HTTP would listen and what callers must show there."""
    shown = [
        *(["bearer token"] if settings.secret("http_token") else []),
        *(["token in the file of tokens"] if settings.tokens_file else []),
        *(["access token of the identity provider"] if settings.oauth_issuer else []),
    ]
    return {
        "address": f"{settings.host}:{settings.port}",
        "authentication": " or ".join(shown) or "none, so loopback only",
        "approvals": settings.approvals,
    }
