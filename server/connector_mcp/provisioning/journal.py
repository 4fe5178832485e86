"""The records of provisioning: plans, how far each was applied, and which thing on a platform is which entry.

A plan never changes once it is stored. Its steps change in the transactions of the audit records that tell of them, so
that the journal and the audit log always agree. Losing the identities does no harm: things are then matched by name.
Times are the database's.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from connector_mcp.engine.accounts import Account
from connector_mcp.engine.preview import keyed_digest
from connector_mcp.errors import ConnectorError, InProgress, InvalidArguments, Issue, StoreUnavailable, TargetChanged
from connector_mcp.json_values import JsonObject
from connector_mcp.provisioning.plan import Action, Plan
from connector_mcp.state.database import Database, Row, Transaction, Value, Work
from connector_mcp.state.keys import secret_key
from connector_mcp.text import random_letters

KEPT: Final = 90 * 86_400.0
"""Seconds for which a plan can be looked up after it expired."""

CONTINUED: Final = 86_400.0
"""Seconds after the decision within which a plan can be continued."""

STALE: Final = 5.0
"""Seconds by which a lease may be shorter than it was when it was taken, until the next step prolongs it."""

StepState = Literal["waiting", "begun", "done", "failed", "unknown", "skipped"]

_PLAN: Final = "SELECT *, expires_at <= epoch() AS is_expired FROM plans WHERE id = :id"


@dataclass(frozen=True)
class WrittenSecret:
    """A secret as it was last written: by which name, and the keyed digest of its value."""

    name: str
    digest: str


@dataclass(frozen=True)
class Identity:
    """Which thing on a platform an entry of a manifest is. It holds no secret."""

    account: str
    """As `account_key` makes it."""
    manifest: str
    entry: str
    identifier: str
    within: str = ""
    secrets: Mapping[str, WrittenSecret] = field(default_factory=dict[str, WrittenSecret])
    """By the path in the config."""
    declared: JsonObject = field(default_factory=dict[str, Any])
    """The entry as it was last applied."""


@dataclass(frozen=True)
class PlanStep:
    """How far an action of a plan has come."""

    number: int
    state: StepState = "waiting"
    call_id: str | None = None
    identifier: str | None = None
    outcome: JsonObject = field(default_factory=dict[str, Any])
    verdict: JsonObject = field(default_factory=dict[str, Any])
    """What the check of the thing showed afterwards."""


@dataclass(frozen=True)
class StoredPlan:
    """A plan and how far it has come."""

    plan: Plan
    status: Literal["planned", "begun", "done", "void"]
    is_expired: bool
    decision: str | None
    decided_by: str | None
    channel: str | None
    steps: Mapping[int, PlanStep]


def account_key(account: Account) -> str:
    """Name an account in the table of identities: the same profile at another address or tenant is another account."""
    parts = (account.platform.name, account.profile, account.client.base_url, account.tenant, account.sandbox)
    return json.dumps(parts, separators=(",", ":"))


async def secret_digest(database: Database, value: str) -> str:
    """Return the keyed digest of a secret's value, by which a later value is compared with it."""
    return keyed_digest(value, await secret_key(database, "written-secrets"))


class Journal:
    """The records of provisioning. Every method may raise `StoreUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def store(
        self,
        actions: Sequence[Action],
        *,
        principal: str,
        manifest: str,
        ttl: float,
        sandbox: bool = False,
        warnings: Sequence[str] = (),
    ) -> Plan:
        """Store a new plan and return it. It can be begun for `ttl` seconds."""
        plan = Plan(
            id=f"pl-{random_letters(10)}",
            principal=principal,
            manifest=manifest,
            sandbox=sandbox,
            actions=tuple(actions),
            warnings=tuple(warnings),
        )
        plan = plan.model_copy(update={"digest": await self._digest(plan)})
        values: dict[str, Value] = {
            "id": plan.id, "digest": plan.digest, "principal": principal, "manifest": manifest,
            "plan": plan.model_dump_json(), "ttl": ttl, "kept": KEPT,
        }  # fmt: skip

        def work(tx: Transaction) -> Row:
            tx.execute(
                "DELETE FROM plan_steps WHERE plan_id IN (SELECT id FROM plans WHERE expires_at <= epoch() - :kept)",
                values,
            )
            tx.execute("DELETE FROM plans WHERE expires_at <= epoch() - :kept", values)
            return tx.execute(
                "INSERT INTO plans (id, digest, principal, manifest, plan, created_at, expires_at, status) "
                "VALUES (:id, :digest, :principal, :manifest, :plan, epoch(), epoch() + :ttl, 'planned') "
                "RETURNING created_at, expires_at",
                values,
            ).all()[0]

        return plan.model_copy(update=dict(await self._database.write(work)))

    async def load(self, plan_id: str, principal: str | None = None) -> StoredPlan:
        """Return a plan. With `principal`, only one that this principal made.

        Raises:
            InvalidArguments: There is no such plan.
            StoreUnavailable: It was changed outside of this server, or another version wrote it.
        """

        def work(tx: Transaction) -> tuple[Row | None, Sequence[Row]]:
            row = tx.execute(_PLAN, {"id": plan_id})
            steps = tx.execute("SELECT * FROM plan_steps WHERE plan_id = :id ORDER BY number", {"id": plan_id})
            return row.first(), steps.all()

        row, steps = await self._database.read(work)
        if row is None or principal not in (None, row["principal"]):
            wanted = "the plan_id that plan_connectors returned"
            issue = Issue("plan_id", "an id that no plan of this caller has", wanted)
            raise InvalidArguments("apply_plan", [issue], fix="Make a plan with plan_connectors, and give its plan_id.")
        times = {"created_at": row["created_at"], "expires_at": row["expires_at"]}
        try:
            plan = Plan.model_validate_json(row["plan"]).model_copy(update=times)
        except ValueError:
            plan = None
        if plan is None or plan.digest != row["digest"] or await self._digest(plan) != row["digest"]:
            raise StoreUnavailable(
                f"The plan {plan_id} cannot be read as it was stored, so nothing is done.",
                fix="Make a new plan. Run the same version of connector-mcp in all processes that share the database.",
                retryable=False,
            )
        return StoredPlan(
            plan,
            row["status"],
            bool(row["is_expired"]),
            row["decision"],
            row["decided_by"],
            row["channel"],
            {each["number"]: _step(each) for each in steps},
        )

    async def _digest(self, plan: Plan) -> str:
        bound = plan.model_dump(mode="json", include={"id", "principal", "manifest", "sandbox", "actions"})
        return keyed_digest(bound, await secret_key(self._database, "digest"))

    async def refuse_outdated(self, plan_id: str) -> None:
        """Refuse a plan because of another one, as `take_lease` does, before somebody decides about it."""
        if (other := await self._database.read(lambda tx: _other_plan(tx, plan_id))) is not None:
            raise other

    def decided(
        self, plan_id: str, owner: str, decision: str, decided_by: str | None, channel: str | None, lease: float
    ) -> Work[ConnectorError | None]:
        """Return the work that begins a plan once it was decided, for the transaction of the record of that."""
        values: dict[str, Value] = {
            "id": plan_id, "owner": owner, "decision": decision, "by": decided_by, "channel": channel,
            "lease": lease, "continued": CONTINUED,
        }  # fmt: skip

        def work(tx: Transaction) -> ConnectorError | None:
            _lock_plans(tx, plan_id)
            if (other := _other_plan(tx, plan_id)) is not None:
                return other
            begun = tx.execute(
                "UPDATE plans SET status = 'begun', begun_at = epoch(), decision = :decision, decided_by = :by, "
                "channel = :channel, lease_owner = :owner, lease_until = epoch() + :lease, "
                "expires_at = epoch() + :continued "
                "WHERE id = :id AND status = 'planned' AND expires_at > epoch() RETURNING id",
                values,
            )
            return None if begun.first() else _taken(plan_id)

        return work

    async def take_lease(self, plan_id: str, owner: str, lease: float) -> None:
        """Take over a plan that was begun, so that no other call applies it.

        Raises:
            InProgress: Another call applies it now, or another plan of its manifest.
            TargetChanged: Another plan of its manifest was begun since.
        """
        values: dict[str, Value] = {"id": plan_id, "owner": owner, "lease": lease}

        def work(tx: Transaction) -> tuple[Row | None, Row | None] | ConnectorError:
            _lock_plans(tx, plan_id)
            if (other := _other_plan(tx, plan_id)) is not None:
                return other
            taken = tx.execute(
                "UPDATE plans SET lease_owner = :owner, lease_until = epoch() + :lease WHERE id = :id "
                "AND status = 'begun' AND expires_at > epoch() AND coalesce(lease_until, 0) <= epoch() RETURNING id",
                values,
            )
            left = tx.execute("SELECT lease_until - epoch() AS seconds FROM plans WHERE id = :id", values)
            return taken.first(), left.first()

        result = await self._database.write(work)
        if isinstance(result, ConnectorError):
            raise result
        taken, left = result
        if taken is None:
            raise _taken(plan_id, left["seconds"] if left else None)

    def step_begun(
        self, plan_id: str, number: int, call_id: str, owner: str, lease: float
    ) -> Work[ConnectorError | None]:
        """Return the work that begins a step, for the transaction of its audit record. It prolongs the lease."""
        values: dict[str, Value] = {
            "id": plan_id, "number": number, "call": call_id, "owner": owner, "lease": lease,
        }  # fmt: skip

        def work(tx: Transaction) -> ConnectorError | None:
            held = tx.execute(
                "SELECT lease_until - epoch() AS seconds FROM plans "
                "WHERE id = :id AND lease_owner = :owner AND status = 'begun'",
                values,
            ).first()
            # SQLite writes the whole row, with the plan in it, so that this is not done for every step.
            if held is not None and held["seconds"] < lease - STALE:
                held = tx.execute(
                    "UPDATE plans SET lease_until = epoch() + :lease "
                    "WHERE id = :id AND lease_owner = :owner AND status = 'begun' RETURNING id",
                    values,
                ).first()
            if held is None:
                return _taken(plan_id)
            tx.execute(
                "INSERT INTO plan_steps (plan_id, number, state, call_id) VALUES (:id, :number, 'begun', :call) "
                "ON CONFLICT (plan_id, number) DO UPDATE SET state = 'begun', call_id = excluded.call_id",
                values,
            )
            return None

        return work

    async def note(self, plan_id: str, owner: str, steps: Iterable[PlanStep]) -> None:
        """Record steps that were not begun, or what a check showed, while this call has the lease."""

        def work(tx: Transaction) -> None:
            for step in steps:
                step_ended(tx, plan_id, step, owner)

        await self._database.write(work)

    async def release(self, plan_id: str, owner: str, *, done: bool) -> None:
        """Give the lease back."""
        status = "done" if done else "begun"
        values: dict[str, Value] = {"id": plan_id, "owner": owner, "status": status}
        await self._database.write(
            lambda tx: tx.execute(
                "UPDATE plans SET lease_owner = NULL, lease_until = NULL, status = :status "
                "WHERE id = :id AND lease_owner = :owner AND status = 'begun'",
                values,
            )
        )

    async def remembered(self, manifest: str, accounts: Collection[Account]) -> dict[tuple[str, str], Identity]:
        """Return what is known of the entries of a manifest in these accounts, by `account_key` and entry."""

        def work(tx: Transaction) -> Sequence[Row]:
            return tx.execute("SELECT * FROM identities WHERE manifest = :manifest", {"manifest": manifest}).all()

        keys = set(map(account_key, accounts))
        return {
            (row["account"], row["entry"]): _identity(row)
            for row in await self._database.read(work)
            if row["account"] in keys
        }


def step_ended(tx: Transaction, plan_id: str, step: PlanStep, owner: str) -> None:
    """Record how a step stands, as part of a transaction, unless another call goes on with it by now."""
    values: dict[str, Value] = {
        "id": plan_id, "number": step.number, "state": step.state, "call": step.call_id, "owner": owner,
        "identifier": step.identifier, "outcome": json.dumps(step.outcome), "verdict": json.dumps(step.verdict),
    }  # fmt: skip
    tx.execute(
        "INSERT INTO plan_steps (plan_id, number, state, call_id, identifier, outcome, verdict) "
        "SELECT :id, :number, :state, :call, :identifier, :outcome, :verdict "
        "WHERE EXISTS (SELECT 1 FROM plans WHERE id = :id AND lease_owner = :owner) "
        "ON CONFLICT (plan_id, number) DO UPDATE SET state = excluded.state, call_id = excluded.call_id, "
        "identifier = excluded.identifier, outcome = excluded.outcome, verdict = excluded.verdict",
        values,
    )


def keep(tx: Transaction, identity: Identity) -> None:
    """Remember an identity, as part of a transaction."""
    written = {path: vars(secret) for path, secret in identity.secrets.items()}
    values: dict[str, Value] = {
        "account": identity.account, "manifest": identity.manifest, "entry": identity.entry,
        "identifier": identity.identifier, "within": identity.within, "secrets": json.dumps(written),
        "declared": json.dumps(identity.declared),
    }  # fmt: skip
    tx.execute(
        "INSERT INTO identities (account, manifest, entry, identifier, within, secrets, declared, applied_at) "
        "VALUES (:account, :manifest, :entry, :identifier, :within, :secrets, :declared, epoch()) "
        "ON CONFLICT (account, manifest, entry) DO UPDATE SET identifier = excluded.identifier, "
        "within = excluded.within, secrets = excluded.secrets, declared = excluded.declared, "
        "applied_at = excluded.applied_at",
        values,
    )


def forget(tx: Transaction, account: str, manifest: str, entry: str, identifier: str) -> None:
    """Forget the identity of an entry, as part of a transaction, unless it is another thing by now."""
    tx.execute(
        "DELETE FROM identities WHERE account = :account AND manifest = :manifest AND entry = :entry "
        "AND identifier = :identifier",
        {"account": account, "manifest": manifest, "entry": entry, "identifier": identifier},
    )


def _lock_plans(tx: Transaction, plan_id: str) -> None:
    """Lock the plans of the manifest until the transaction ends, so that two of them never begin together."""
    tx.execute(
        "UPDATE plans SET manifest = manifest WHERE manifest = (SELECT manifest FROM plans WHERE id = :id) "
        "AND status IN ('planned', 'begun')",
        {"id": plan_id},
    )


def _other_plan(tx: Transaction, plan_id: str) -> ConnectorError | None:
    """Make the error for a plan that knows nothing of what another plan of its manifest makes or made."""
    other = tx.execute(
        "SELECT other.id, other.lease_until > epoch() AS is_applied, other.lease_until - epoch() AS seconds "
        "FROM plans AS own JOIN plans AS other ON other.manifest = own.manifest AND other.id <> own.id "
        "WHERE own.id = :id AND (other.lease_until > epoch() "
        "OR other.begun_at >= coalesce(own.begun_at, own.created_at)) ORDER BY is_applied DESC",
        {"id": plan_id},
    ).first()
    if other is None:
        return None
    if other["is_applied"]:
        return InProgress(
            f"The plan {other['id']} of the same manifest is applied now. Nothing was begun by this one.",
            fix="Wait for it, and make a new plan with plan_connectors.",
            retryable=True,
            retry_after=max(1.0, other["seconds"]),
        )
    return TargetChanged(
        f"The plan {other['id']} of the same manifest was begun after the plan {plan_id} was made. Nothing was begun.",
        fix="Make a new plan with plan_connectors: it shows what is left to do.",
        retryable=False,
    )


def _taken(plan_id: str, seconds: float | None = None) -> InProgress:
    return InProgress(
        f"Another call applies the plan {plan_id} now, or it can no longer be applied. Nothing was begun by this one.",
        fix="Wait for the other call, then call again: it goes on where the other one ended, or says why not.",
        retryable=True,
        retry_after=None if seconds is None or seconds <= 0 else seconds,
    )


def _identity(row: Row) -> Identity:
    return Identity(
        account=row["account"],
        manifest=row["manifest"],
        entry=row["entry"],
        identifier=row["identifier"],
        within=row["within"],
        secrets={path: WrittenSecret(**each) for path, each in json.loads(row["secrets"]).items()},
        declared=json.loads(row["declared"]),
    )


def _step(row: Row) -> PlanStep:
    return PlanStep(
        number=row["number"],
        state=row["state"],
        call_id=row["call_id"],
        identifier=row["identifier"],
        outcome=json.loads(row["outcome"] or "{}"),
        verdict=json.loads(row["verdict"] or "{}"),
    )
