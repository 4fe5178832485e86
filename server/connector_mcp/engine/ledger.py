"""The executions of writes: a write begins in one transaction and ends in another.

The first takes what lets the call pass (the operator's approval, or the question that a person answered), makes the row
of the execution and appends the audit record of the beginning. The second appends the record of the end with the
outcome. So the approval, the row and the audit log always agree, and what was taken is given back if nothing was sent.

The row keeps the same write from running twice at the same time, on any replica. Afterwards it stays for a while, for
the call that is repeated because an answer was lost. Times are the database's.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from connector_mcp.audit.record import AuditRecord
from connector_mcp.audit.trail import AuditTrail, encode
from connector_mcp.engine.approval.parked_call import COLUMNS, Approval, read_approval
from connector_mcp.engine.approval.queue import LIVE
from connector_mcp.engine.policy import Decision
from connector_mcp.errors import (
    ConfirmationInvalid,
    ConnectorError,
    InProgress,
    InvalidArguments,
    NotFound,
    StoreUnavailable,
    StoreUncertain,
    UpstreamFailed,
)
from connector_mcp.json_values import JsonObject
from connector_mcp.state.database import Database, Row, Rows, Transaction, Value, Work
from connector_mcp.telemetry.observer import NULL_OBSERVER, Observer

REMEMBERED: Final = 600.0
"""Seconds for which an execution is remembered after it ended."""

RUNNING: Final = "running"
UNKNOWN: Final = "unknown"
"""The outcome of a write that was sent and not answered, or of a process that died before it could say."""

_ENDED: Final = {"ok": "succeeded", **dict.fromkeys((RUNNING, UNKNOWN), "ended with an unknown outcome")}
_SENT: Final = {code: f"was sent and ended with {code}" for code in (NotFound.code, UpstreamFailed.code)}
"""How an earlier deletion ended, in words. With the outcomes of `_SENT`, only a target that it saw is gone now."""

_EARLIER: Final = """
SELECT call_id, approval_id, begun_at, ended_at, outcome, expires_at, epoch() - coalesce(ended_at, begun_at) AS age,
    outcome = 'running' AND epoch() - begun_at <= :longest AS is_running
FROM executions WHERE digest = :digest AND expires_at > epoch()
"""
_BEGIN: Final = f"""
INSERT INTO executions (digest, call_id, tool, approval_id, begun_at, ended_at, outcome, expires_at)
VALUES (:digest, :call_id, :tool, :approval_id, epoch(), NULL, 'running', epoch() + :longest + {REMEMBERED})
ON CONFLICT (digest) DO UPDATE SET call_id = excluded.call_id, tool = excluded.tool,
    approval_id = excluded.approval_id, begun_at = excluded.begun_at, ended_at = excluded.ended_at,
    outcome = excluded.outcome, expires_at = excluded.expires_at
"""
_OURS: Final = "digest = :digest AND call_id = :call_id"
_ITS_APPROVAL: Final = f"id = (SELECT approval_id FROM executions WHERE {_OURS})"
# Nothing is given back twice, or after the same call was parked again.
_GIVE_BACK: Final = f"""
UPDATE approvals SET status = 'approved', is_open = 1, used_at = NULL, outcome = NULL
WHERE status = 'used' AND {_ITS_APPROVAL}
    AND NOT EXISTS (SELECT 1 FROM approvals AS other WHERE other.digest = :digest AND other.is_open = 1)
"""
_ASK_AGAIN: Final = f"""
INSERT INTO questions (ticket, question, asked_at, expires_at)
SELECT :ticket, :question, :asked_at, :expires_at WHERE EXISTS (SELECT 1 FROM executions WHERE {_OURS})
ON CONFLICT DO NOTHING
"""
_PUT_BACK: Final = f"""
UPDATE executions SET call_id = :earlier_call, approval_id = :approval_id, begun_at = :begun_at, ended_at = :ended_at,
    outcome = :outcome, expires_at = :expires_at
WHERE {_OURS}
"""


@dataclass(frozen=True)
class Claim:
    """What has to be taken for a call to begin."""

    fingerprint: str | None = None
    """The operator's approval of this call; this is the fingerprint that the target must have had."""
    ticket: str | None = None
    """The question that a person answered."""


NO_CLAIM: Final = Claim()
"""That of a call that policy allows."""


@dataclass(frozen=True)
class Execution:
    """A write that has begun."""

    digest: str
    call_id: str
    approval: Approval | None = None
    """The approval that it took."""
    question: Row | None = None
    """The question that it took."""
    earlier: Row | None = None
    """The execution of the same call that it replaced."""
    warnings: tuple[str, ...] = ()
    """What is to be said about the earlier execution."""


class Ledger:
    """The executions of writes."""

    def __init__(
        self, database: Database, trail: AuditTrail, *, longest: float, observer: Observer = NULL_OBSERVER
    ) -> None:
        """`longest` is how many seconds one write can take at most."""
        self._database = database
        self._trail = trail
        self._longest = longest
        self._observer = observer
        self._owed: dict[str, Work[None]] = {}
        """Ends that could not be saved, by digest. They are saved when the same call comes again."""

    async def look(self, digest: str, tool: str) -> Row | None:
        """Check that the same write is not under way, and return its earlier execution if there was one.

        Raises:
            InProgress: The same write is under way.
        """
        row = await self._database.read(lambda tx: self._earlier(tx, digest).first())
        if row is None or digest in self._owed:
            return None
        if row["is_running"]:
            raise _in_progress(tool)
        return row

    async def begin(
        self,
        record: AuditRecord,
        claim: Claim,
        *,
        creates: bool = False,
        also: Work[ConnectorError | None] | None = None,
    ) -> Execution | Approval | None:
        """Take what the claim names, make the execution and append the record: all, or nothing.

        The record is completed with the operator who approved the call. If the claim needs an approval and the call is
        not approved, nothing is changed, and the approval is returned as it stands, if there is one. With `creates` a
        repeat of a call that succeeded a short while ago is warned of that. `also` is done in the same transaction; if
        it returns an error, the call has not begun, and it must have changed nothing.

        Raises:
            InProgress: The same write is under way.
            ConfirmationInvalid: The question was answered before, or has expired.
            StoreUnavailable: The call has not begun, so nothing may be sent.
        """
        digest = record.digest or ""
        owed = self._owed.get(digest)
        begun: list[Execution] = []

        def work(tx: Transaction) -> Execution | Approval | ConnectorError | None:
            # Transactions that change executions take this lock first, so that no two of them wait for one another.
            chain = self._trail.lock(tx)
            if owed is not None:
                owed(tx)
            earlier, approval, question = self._earlier(tx, digest), None, None
            # Updates, because they lock the rows until the transaction ends.
            if claim.fingerprint is not None:
                sql = f"UPDATE approvals SET is_open = 1 WHERE {LIVE} RETURNING {COLUMNS}"
                approval = tx.execute(sql, {"digest": digest})
            if claim.ticket is not None:
                sql = "UPDATE questions SET ticket = ticket WHERE ticket = :ticket AND expires_at > epoch() RETURNING *"
                question = tx.execute(sql, {"ticket": claim.ticket})
            row = earlier.first()
            if row is not None and row["is_running"]:
                return _in_progress(record.tool)
            taken = _taken(claim, approval.first() if approval else None, question.first() if question else None)
            if not isinstance(taken, tuple):
                return taken
            if (approved := taken[0]) is not None:
                vars(record).update(decision_of(approved))
            if also is not None and (refused := also(tx)) is not None:
                return refused
            execution = Execution(digest, record.call_id, *taken, row, _warnings(row, creates))
            begun.append(execution)
            self._begin(tx, execution, record.tool)
            chain.append([encode(vars(record))])
            return execution

        try:
            result = await self._database.write(work)
        except StoreUncertain as lost:
            if begun:
                await self._end_now(begun[-1])
            raise StoreUnavailable(f"{lost.message} Nothing was sent.", fix="Call again.") from lost
        except asyncio.CancelledError:
            # The thread goes on and may commit.
            if begun:
                self.owe(begun[-1], None)
            raise
        if owed is not None:
            self._owed.pop(digest, None)
        if isinstance(result, ConnectorError):
            raise result
        if isinstance(result, Execution) and result.approval is not None:
            self._observer.approval_changed("used")
        return result

    def end(self, execution: Execution, outcome: str | None) -> Work[None]:
        """Return the work that ends an execution, for the transaction of its audit record.

        The outcome None means that nothing was sent: what the execution took is given back, and the execution was none.
        If it is done twice, the second time changes nothing.
        """
        values: dict[str, Value] = {"digest": execution.digest, "call_id": execution.call_id}

        def close(tx: Transaction) -> None:
            ended = values | {"outcome": outcome}
            tx.execute(f"UPDATE approvals SET outcome = :outcome WHERE {_ITS_APPROVAL}", ended)
            tx.execute(
                f"UPDATE executions SET outcome = :outcome, ended_at = epoch(), expires_at = epoch() + {REMEMBERED} "
                f"WHERE {_OURS}",
                ended,
            )

        def give_back(tx: Transaction) -> None:
            tx.execute(_GIVE_BACK, values)
            if execution.question is not None:
                tx.execute(_ASK_AGAIN, {**execution.question, **values})
            if (earlier := execution.earlier) is None:
                tx.execute(f"DELETE FROM executions WHERE {_OURS}", values)
            else:
                tx.execute(_PUT_BACK, {**earlier, "earlier_call": earlier["call_id"], **values})
            tx.notify()

        return give_back if outcome is None else close

    def owe(self, execution: Execution, outcome: str | None) -> None:
        """Remember an end that could not be saved. It is saved when the same call comes again."""
        self._owed[execution.digest] = self.end(execution, outcome)

    async def _end_now(self, execution: Execution) -> None:
        """End an execution that may have begun, although its call was told that it did not."""

        def work(tx: Transaction) -> None:
            # A commit that is still under way holds this lock. Until it is over, there may be nothing to end yet.
            self._trail.lock(tx)
            self.end(execution, None)(tx)

        try:
            await self._database.write(work)
        except StoreUnavailable:
            self.owe(execution, None)

    def _earlier(self, tx: Transaction, digest: str) -> Rows:
        return tx.execute(_EARLIER, {"digest": digest, "longest": self._longest})

    def _begin(self, tx: Transaction, execution: Execution, tool: str) -> None:
        approval, question = execution.approval, execution.question
        if approval is not None:
            tx.execute(
                "UPDATE approvals SET status = 'used', is_open = 0, used_at = epoch(), outcome = 'running' "
                "WHERE id = :id",
                {"id": approval.id},
            )
            tx.notify()
        if question is not None:
            tx.execute("DELETE FROM questions WHERE ticket = :ticket", {"ticket": question["ticket"]})
        tx.execute("DELETE FROM executions WHERE expires_at <= epoch()")
        values: dict[str, Value] = {
            "digest": execution.digest, "call_id": execution.call_id, "tool": tool, "longest": self._longest,
            "approval_id": approval.id if approval else None,
        }  # fmt: skip
        tx.execute(_BEGIN, values)


def decision_of(approval: Approval) -> JsonObject:
    """Return the members of an audit record that say who approved a call."""
    by, channel = approval.decided_by or "operator", approval.channel or "approvals"
    return {"decision": str(Decision.APPROVE), "decided_by": by, "channel": channel}


def _taken(
    claim: Claim, approval_row: Row | None, question: Row | None
) -> tuple[Approval | None, Row | None] | Approval | ConnectorError | None:
    approval = None if approval_row is None else read_approval(approval_row)
    if claim.fingerprint is not None and (
        approval is None or approval.status != "approved" or approval.fingerprint != claim.fingerprint
    ):
        return approval
    if claim.ticket is not None and question is None:
        return confirmation_spent()
    return approval, question


def confirmation_spent() -> ConfirmationInvalid:
    """Make the error for an answer to a question that is not open for this call."""
    return ConfirmationInvalid(
        "This confirmation was used before, has expired, or belongs to another call. Nothing was changed.",
        fix="Make the call again without a confirmation; the person will be asked again.",
    )


def _in_progress(tool: str) -> InProgress:
    return InProgress(
        f"The same {tool} call is already in progress. Nothing was sent.",
        fix="Wait for the first call's result instead of repeating it.",
    )


def explain_gone(error: NotFound | InvalidArguments, earlier: Row | None, *, was_seen: bool) -> bool:
    """Say in the error that an earlier call of the same deletion explains it. Return whether that may be so.

    `was_seen` says that the earlier call was sent only because it saw the target.
    """
    ended = (_ENDED | _SENT if was_seen else _ENDED).get(earlier["outcome"]) if earlier else None
    if ended is None:
        return False
    error.message += f" An earlier call of the same deletion {ended}; the target is gone now."
    error.fix = "Nothing is left to delete. If something else was meant, call again with its id."
    return True


def _warnings(earlier: Row | None, creates: bool) -> tuple[str, ...]:
    if earlier is None:
        return ()
    ago = max(0, round(earlier["age"]))
    if earlier["outcome"] in (RUNNING, UNKNOWN):
        return (f"The outcome of the same call {ago} s ago is unknown; check that it did not take effect twice.",)
    if earlier["outcome"] == "ok" and creates:
        return (
            f"The same call succeeded {ago} s ago. If its answer was lost, check that it did not take effect twice.",
        )
    return ()
