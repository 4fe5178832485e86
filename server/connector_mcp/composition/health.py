"""The checks of `doctor` and of the console: platforms, state, policy and transport."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import anyio
import anyio.to_thread

from connector_mcp import __version__
from connector_mcp.audit.trail import AuditTrail
from connector_mcp.composition.accounts import Readiness, readiness
from connector_mcp.composition.engine import open_engine
from connector_mcp.composition.storage import open_database
from connector_mcp.config.settings import Settings, variable_name
from connector_mcp.engine.accounts import Account
from connector_mcp.engine.caller import Caller, TransportName
from connector_mcp.engine.engine import Engine
from connector_mcp.engine.policy import Policy
from connector_mcp.errors import ConnectorError, StoreUnavailable
from connector_mcp.json_values import JsonObject, items, members
from connector_mcp.operations.catalog import platform_folder
from connector_mcp.operations.operation import Effect, ListOperation
from connector_mcp.operations.platform import ClientCredentials, Request
from connector_mcp.operations.tool import PROFILE, Tool
from connector_mcp.text import clean, strip_hidden


class LocalCaller(Caller):
    """A caller on this machine that cannot be asked. `probe` marks the calls of checks in the audit log."""

    def __init__(self, transport: TransportName = "cli") -> None:
        super().__init__("local", transport, client=f"connector-mcp {__version__}")


_NOT_REACHED = {"misconfigured", "unreachable", "timed_out"}


@dataclass(frozen=True)
class PlatformReport:
    """The result of checking one account."""

    readiness: Readiness
    fine: bool = False
    address: str = ""
    reached: bool | None = None
    """Whether the platform answered; None if it was not asked."""
    detail: str = ""
    fix: str = ""
    role: str = ""
    """What the platform shows about whether the credentials may write."""

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
            "address": self.address,
            "reached": self.reached,
            "detail": strip_hidden(self.detail),
            "fix": strip_hidden(self.fix),
            "role": strip_hidden(self.role),
        }


async def examine_platforms(settings: Settings, environ: Mapping[str, str]) -> list[PlatformReport]:
    """Check every account, with an engine opened for that."""
    states = readiness(settings, environ)
    async with open_configured(settings, environ) as engine:
        return [PlatformReport(state) for state in states] if engine is None else await _check_each(engine, states)


@asynccontextmanager
async def open_configured(settings: Settings, environ: Mapping[str, str]) -> AsyncGenerator[Engine | None]:
    """Open an engine with the platforms that are configured completely, or return None if there are none."""
    states = readiness(settings, environ)
    # A named platform that is not configured would stop the engine from opening; here it is a line of the report.
    lacking = {state.platform.name for state in states if not state.configured}
    configured = tuple(dict.fromkeys(state.platform.name for state in states if state.platform.name not in lacking))
    if not configured:
        yield None
        return
    narrowed = settings.model_copy(update={"platforms": configured})
    async with open_engine(narrowed, environ, "cli") as engine:
        yield engine


async def check_all_platforms(engine: Engine, environ: Mapping[str, str]) -> list[JsonObject]:
    """Check every account of a running engine."""
    return [report.as_dict() for report in await _check_each(engine, readiness(engine.settings, environ))]


async def _check_each(engine: Engine, states: list[Readiness]) -> list[PlatformReport]:
    found: dict[int, PlatformReport] = {}

    async def check(index: int) -> None:
        found[index] = await check_platform(engine, states[index])

    async with anyio.create_task_group() as tasks:
        for index in range(len(states)):
            tasks.start_soon(check, index)
    return [found[index] for index in range(len(states))]


async def check_platform(engine: Engine, state: Readiness) -> PlatformReport:
    """Make one small read under a configured account and report the result."""
    if not state.configured:
        return PlatformReport(state)
    name = state.profile or "default"
    own = (each for each in engine.accounts if (each.platform.name, each.profile) == (state.platform.name, name))
    account = next(own, None)
    if account is None:
        return PlatformReport(
            state, detail="Not checked: another profile of the platform is incomplete.", fix="Complete or remove it."
        )
    tool, arguments = _small_read(engine, state)
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
    result = await engine.call(tool.name, arguments, LocalCaller("probe"))
    report = PlatformReport(state, address=account.client.base_url, reached=True)
    if not result.is_error:
        detail = f"{tool.name} succeeded; the credentials are accepted."
        return replace(report, fine=True, detail=detail, role=engine.scrub(await describe_role(account)))
    error = result.content["error"]
    if error["code"] == "not_found":
        # It still proves address and credentials if the ids are those of an example, which do not exist.
        if arguments.keys() - {"limit", PROFILE}:
            detail = "The platform responded; the credentials are accepted."
            return replace(report, fine=True, detail=detail, role=engine.scrub(await describe_role(account)))
        names = " and ".join(each.name for each in (tenant, state.platform.base_url) if each)
        return replace(report, detail="The platform has nothing for this account (status 404).", fix=f"Check {names}.")
    reached = error["code"] not in _NOT_REACHED
    # Some platforms refuse a tenant that is not the account's as they refuse a missing permission.
    also = ""
    if error["code"] == "forbidden":
        needs = state.platform.writing_needs
        also = (f" Check {tenant.name} too." if tenant else "") + (f" Writing needs {needs}." if needs else "")
    detail = f"{error['code']}: {error['message']}"
    return replace(report, reached=reached, detail=detail, fix=f"{error['fix']}{also}")


async def describe_role(account: Account) -> str:
    """Return what the platform shows, without a write, about whether an account's credentials may write."""
    platform, needs = account.platform, account.platform.writing_needs
    told = f"{platform.title} does not show whether the credentials may write." + (
        f" Writing needs {needs}." if needs else ""
    )
    with suppress(ConnectorError):
        if isinstance(platform.credentials, ClientCredentials):
            scope = platform.credentials.scope
            if await account.client.lacks_scope():
                return (
                    f"The credentials may not write: the access token lacks the scope `{scope}`. Writing needs {needs}."
                )
            return f"The credentials may write: the access token has the scope `{scope}`."
        if platform.own_roles_path is not None:
            answer = await account.client.send(Request("GET", platform.own_roles_path, changes=False))
            if named := [clean(str(role), 80) for role in items(members(answer.body).get("roles"))[:20]]:
                return f"Roles of the credentials: {', '.join(named)}. Writing needs {needs}."
    return told


def _small_read(engine: Engine, state: Readiness) -> tuple[Tool | None, JsonObject]:
    """Return the platform's own list tool with arguments for one row; required ids are those of its example."""
    for operation in platform_folder(state.platform.name).operations:
        tool = engine.tool(operation.tool_name()) if issubclass(operation, ListOperation) else None
        if tool is not None:
            required = tool.input_schema.get("required", ())
            ids = {name: operation.example[name] for name in required if name in operation.example}
            return tool, {**ids, "limit": 1}
    return None, {}


def check_state_directory(directory: Path) -> JsonObject:
    """Check that files can be created there, or in its closest existing parent. Leaves nothing behind."""
    there = directory
    # `Path.exists` does not see a dangling link, and raises where a directory above cannot be searched.
    while not os.path.lexists(there) and there != there.parent:
        there = there.parent
    writable, detail, fix = True, "", ""
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        writable, detail = False, f"cannot be written: {error.strerror or type(error).__name__}"
        fix = f"Set {variable_name('state_dir')} to a directory in which this user can create files."
    found = {"directory": os.fspath(directory), "exists": os.path.isdir(directory)}  # noqa: PTH112 - never raises
    return {**found, "writable": writable, "detail": detail, "fix": fix}


async def check_database(settings: Settings) -> JsonObject:
    """Check that the database of records can be written, and warn of what could lose decisions."""
    async with aclosing(open_database(settings)) as database:
        report: JsonObject = {"address": database.address, "usable": True, "detail": "", "warnings": []}
        try:
            await database.write(lambda transaction: AuditTrail(database).lock(transaction).open(), durable=False)
            report["warnings"] = await anyio.to_thread.run_sync(database.warnings)
        except StoreUnavailable as failure:
            return report | {"usable": False, "detail": failure.message}
    return report


def policy_in_force(settings: Settings) -> JsonObject:
    """Return what the policy decides for each effect on each transport, for tools that no rule names."""
    policies = {
        transport: Policy.parse(settings.policy, read_only=settings.read_only, transport=transport)
        for transport in ("stdio", "http")
    }
    decided = {name: {str(e): str(policy.decide("", e)) for e in Effect} for name, policy in policies.items()}
    return {"rules": settings.policy, "read_only": settings.read_only, **decided}


def transport_facts(settings: Settings) -> JsonObject:
    """Return where HTTP would listen and how callers would authenticate."""
    accepted = [
        *(["bearer token"] if settings.secret("http_token") else []),
        *(["token in the file of tokens"] if settings.tokens_file else []),
        *(["access token of the identity provider"] if settings.oauth_issuer else []),
    ]
    return {
        "address": f"{settings.host}:{settings.port}",
        "authentication": " or ".join(accepted) or "none, so loopback only",
        "approvals": settings.approvals,
    }
