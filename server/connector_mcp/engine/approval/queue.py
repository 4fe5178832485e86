"""The queue of calls that wait for an operator.

A call is parked under its digest, which covers everything that the operator approves: principal, tool, profile and
arguments. The agent has nothing that could release it; it makes the same call again. That call runs once if an operator
approved it, reports a denial once, and otherwise still waits.

Each change of state is one statement in the database, so only one of several processes makes it. Times are the
database's.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from connector_mcp.engine.approval.parked_call import (
    COLUMNS,
    Approval,
    ApprovalStatus,
    Channel,
    ParkedCall,
    read_approval,
)
from connector_mcp.errors import ConfirmationInvalid, InvalidArguments, Issue, StoreUnavailable, StoreUncertain
from connector_mcp.state.database import Database, Row, Transaction, Value
from connector_mcp.suggest import closest
from connector_mcp.telemetry.observer import NULL_OBSERVER, Observer
from connector_mcp.text import random_letters

HISTORY_SECONDS: Final = 90 * 86_400.0
"""How long a decision can be looked up after its call."""

PAGE: Final = 50
"""Approvals on one page."""

MAX_WORDS: Final = 300
"""Characters of a call that a search finds. Databases limit the size of a row in an index."""

COUNTED: Final = 100
"""How far a count for a page goes, so that it takes as long however many calls are parked."""

_ATTEMPTS = 20
_NEAR = 200
"""How many of the newest ids an unknown id is compared with."""

LIVE: Final = "digest = :digest AND is_open = 1 AND expires_at > epoch()"
"""The approval that answers a call now, if there is one."""

_BY_ID = f"SELECT {COLUMNS} FROM approvals WHERE id = :id"

_SUMMARY = """
SELECT status, count(*) AS count, max(created_at) AS newest FROM approvals
WHERE is_open = 1 AND expires_at > epoch() GROUP BY status
UNION ALL SELECT 'decided', 0, max(decided_at) FROM approvals WHERE decided_at IS NOT NULL
"""


@dataclass(frozen=True)
class Page:
    """Some approvals of a list in its order, and the keys with which `Approvals` returns those beside them."""

    approvals: tuple[Approval, ...] = ()
    older: str | None = None
    """Pass it as `before`. None if there are no older ones."""
    newer: str | None = None
    """Pass it as `after`. None if there are no newer ones."""


@dataclass(frozen=True)
class QueueFilter:
    """Which parked calls a list is narrowed to. An empty member matches every call."""

    text: str = ""
    """A part of what is shown of the call: id, tool, caller, account, target, effect. Case is ignored."""
    platform: str = ""
    effect: str = ""
    caller: str = ""

    def conditions(self) -> tuple[str, dict[str, Value]]:
        """Return what to add to a WHERE clause, and its values. All columns are in the index of open approvals."""
        chosen: dict[str, Value] = {
            "words": f"%{_literal(self.text.casefold())}%" if self.text else None,
            "platform": f"%{_literal(self.platform.lower())}%" if self.platform else None,
            "effects": f"% {_literal(self.effect)} %" if self.effect else None,
        }
        values: dict[str, Value] = {name: pattern for name, pattern in chosen.items() if pattern is not None}
        sql = "".join(f" AND {name} LIKE :{name} ESCAPE '!'" for name in values)
        values["principal"] = self.caller
        return f"{sql} AND principal = :principal" if self.caller else sql, values


EVERY_CALL: Final = QueueFilter()


def _literal(text: str) -> str:
    """Return a LIKE pattern for just this text."""
    return "".join(f"!{character}" if character in "!%_" else character for character in text)


class Approvals:
    """The queue of parked calls. Every method may raise `StoreUnavailable`.

    If `StoreUncertain` is raised, the change may have been made.
    """

    def __init__(self, database: Database, *, ttl: float, observer: Observer = NULL_OBSERVER) -> None:
        self._database = database
        self._ttl = ttl
        self._observer = observer

    async def park(self, parked: ParkedCall) -> Approval:
        """Park a call. If the digest has a live approval already, return that one unchanged."""
        call = parked.model_dump_json(exclude={"digest", "tool", "principal"})
        values: dict[str, Value] = {
            "digest": parked.digest, "tool": parked.tool, "principal": parked.principal, "call": call,
            "ttl": self._ttl, "kept": self._ttl + HISTORY_SECONDS,
            "platform": parked.platform.lower(), "effects": f" {' '.join(parked.effects)} ",
        }  # fmt: skip
        shown = (parked.tool, parked.principal, parked.client or "", parked.profile, parked.target, parked.effect)

        def work(tx: Transaction) -> tuple[bool, Row | None]:
            tx.execute("UPDATE approvals SET is_open = 0 WHERE is_open = 1 AND expires_at <= epoch()")
            tx.execute("DELETE FROM approvals WHERE created_at <= epoch() - :kept", values)
            # An id that is taken, or another process that parks the same call, makes this do nothing.
            made = tx.execute(
                "INSERT INTO approvals (id, digest, status, is_open, principal, tool, call, created_at, expires_at, "
                "platform, effects, words) VALUES (:id, :digest, 'pending', 1, :principal, :tool, :call, epoch(), "
                "epoch() + :ttl, :platform, :effects, :words) "
                "ON CONFLICT DO NOTHING RETURNING id",
                values,
            )
            live = tx.execute(f"SELECT {COLUMNS} FROM approvals WHERE {LIVE}", values)
            tx.notify()
            return made.first() is not None, live.first()

        for _ in range(_ATTEMPTS):
            values["id"] = f"ap-{random_letters(6)}"
            values["words"] = " ".join((str(values["id"]), *shown)).casefold()[:MAX_WORDS]
            is_new, row = await self._database.write(work)
            if row is not None:
                if is_new:
                    self._observer.approval_changed("pending")
                return read_approval(row)
        raise StoreUnavailable(
            f"Too many processes changed the approval of {parked.tool} at once, so nothing was done.", fix="Call again."
        )

    async def find(self, digest: str) -> Approval | None:
        """Return a call's live approval: pending, approved but not used, or denied but not reported."""
        sql = f"SELECT {COLUMNS} FROM approvals WHERE {LIVE}"
        row = await self._database.read(lambda tx: tx.execute(sql, {"digest": digest}).first())
        return None if row is None else read_approval(row)

    async def get(self, approval_id: str) -> Approval:
        """Return the approval with this id, live or decided.

        Raises:
            InvalidArguments: No approval has this id.
            ConfirmationInvalid: It expired before it was decided.
        """
        return _present(await self._stored(approval_id), approval_id)

    async def waiting(
        self,
        status: ApprovalStatus = "pending",
        only: QueueFilter = EVERY_CALL,
        *,
        before: str = "",
        after: str = "",
        count: int = PAGE,
    ) -> Page:
        """Return a page of the live approvals with this status, oldest first; the oldest page without a key."""
        conditions, values = only.conditions()
        where = f"status = :status AND is_open = 1 AND expires_at > epoch(){conditions}"
        values["status"] = status
        return await self._page(where, "created_at", values, before, after or ("" if before else "0"), count)

    async def pending(self) -> int:
        """Return how many calls wait for a decision, up to `COUNTED`."""
        return await self._count("status = 'pending'", {})

    async def count(self, principal: str) -> int:
        """Return how many live approvals the calls of a principal have, up to `COUNTED`."""
        return await self._count("principal = :principal", {"principal": principal})

    async def _count(self, which: str, values: dict[str, Value]) -> int:
        live = f"SELECT id FROM approvals WHERE {which} AND is_open = 1 AND expires_at > epoch() LIMIT {COUNTED}"
        sql = f"SELECT count(*) AS count FROM ({live}) AS counted"
        row = await self._database.read(lambda tx: tx.execute(sql, values).first())
        return row["count"] if row else 0

    async def history(
        self, *, decision: str = "", by: str = "", before: str = "", after: str = "", count: int = PAGE
    ) -> Page:
        """Return a page of what was decided in the last 90 days, used or not, newest first.

        With a decision (`approved`, `denied` or `void`) only those, with `by` only those of this operator.
        """
        where = f"decided_at IS NOT NULL AND decided_at > epoch() - {HISTORY_SECONDS}"
        where += " AND status IN (:decision, :used)" if decision else ""
        where += " AND decided_by IN (:by, 'operator ' || :by)" if by else ""
        values: dict[str, Value] = {"decision": decision, "by": by}
        values["used"] = "used" if decision == "approved" else decision
        page = await self._page(where, "decided_at", values, before, after, count)
        return Page(page.approvals[::-1], page.older, page.newer)

    async def of_call(self, digest: str, ended_at: float) -> Approval | None:
        """Return the approval that a call which ended then waited for or used, if it is still kept."""
        sql = (
            f"SELECT {COLUMNS} FROM approvals WHERE digest = :digest AND created_at <= :at "
            "ORDER BY created_at DESC LIMIT 1"
        )
        # The audit log rounds times to milliseconds.
        values: dict[str, Value] = {"digest": digest, "at": ended_at + 0.001}
        row = await self._database.read(lambda tx: tx.execute(sql, values).first())
        return None if row is None else read_approval(row)

    async def everything(self, *, before: str = "", count: int = PAGE) -> Page:
        """Return a page of all approvals that are kept, open or not, oldest first; the newest page without a key."""
        where = "(decided_at IS NOT NULL OR expires_at > epoch())"
        return await self._page(where, "created_at", {}, before, "", count)

    async def counts(self) -> dict[str, int]:
        """Return how many live approvals have each status."""
        return {row["status"]: row["count"] for row in await self._summary() if row["count"]}

    async def version(self) -> tuple[str, int]:
        """Return a text that changes with the queue, and the number of pending calls."""
        rows = await self._summary()
        pending = sum(row["count"] for row in rows if row["status"] == "pending")
        return repr(sorted(tuple(row.values()) for row in rows)), pending

    async def decide(
        self,
        approval_id: str,
        approve: bool,
        by: str,
        reason: str | None = None,
        *,
        channel: Channel = "approvals",
        decision_id: str | None = None,
    ) -> Approval:
        """Approve or deny a pending call. Its expiry stays what it was.

        The same decision with the same `decision_id` may be made again: it then changes nothing and returns what is.

        Raises:
            InvalidArguments: No approval has this id.
            ConfirmationInvalid: It is no longer pending.
            StoreUncertain: It is not known whether the decision was saved.
        """
        values: dict[str, Value] = {
            "id": approval_id, "status": "approved" if approve else "denied", "by": by, "reason": reason,
            "channel": channel, "decision": decision_id or secrets.token_hex(16),
        }  # fmt: skip

        def work(tx: Transaction) -> tuple[Row | None, Row | None]:
            changed = tx.execute(
                "UPDATE approvals SET status = :status, decided_at = epoch(), decided_by = :by, channel = :channel, "
                "reason = :reason, decision_id = :decision "
                f"WHERE id = :id AND status = 'pending' AND is_open = 1 AND expires_at > epoch() RETURNING {COLUMNS}",
                values,
            )
            present = tx.execute(_BY_ID, values)
            tx.notify()
            return changed.first(), present.first()

        try:
            changed, present = await self._database.write(work)
        except StoreUncertain:
            changed, present = None, await self._read_back(approval_id)
        if changed is not None:
            present = changed
            self._observer.approval_changed(str(values["status"]))
        if present is None:
            raise await self._unknown(approval_id)
        approval = _present(present, approval_id)
        if approval.decision_id == values["decision"] and approve is (approval.status != "denied"):
            return approval
        raise _already(approval)

    async def take_denied(self, digest: str) -> Approval | None:
        """Take the denial of a call, once; None if it was not denied. Afterwards the same call is parked again."""
        return await self._change(
            f"UPDATE approvals SET is_open = 0 WHERE status = 'denied' AND {LIVE} RETURNING {COLUMNS}",
            {"digest": digest},
        )

    async def void(self, approval_id: str, why: str) -> Approval:
        """Void an approval, for example when its target changed. Afterwards the same call is parked again.

        Raises:
            InvalidArguments: No approval has this id.
            ConfirmationInvalid: It is neither pending nor approved.
        """
        ended = await self._change(
            "UPDATE approvals SET status = 'void', is_open = 0, reason = :why, "
            "decided_at = coalesce(decided_at, epoch()) "
            "WHERE id = :id AND status IN ('pending', 'approved') AND is_open = 1 AND expires_at > epoch() "
            f"RETURNING {COLUMNS}",
            {"id": approval_id, "why": why},
        )
        if ended is None:
            raise _already(await self.get(approval_id))
        self._observer.approval_changed("void")
        return ended

    async def _change(self, sql: str, values: dict[str, Value]) -> Approval | None:
        def work(tx: Transaction) -> Row | None:
            tx.notify()
            return tx.execute(sql, values).first()

        row = await self._database.write(work)
        return None if row is None else read_approval(row)

    async def _stored(self, approval_id: str) -> Row:
        row = await self._database.read(lambda tx: tx.execute(_BY_ID, {"id": approval_id}).first())
        if row is None:
            raise await self._unknown(approval_id)
        return row

    async def _read_back(self, approval_id: str) -> Row:
        """Return an approval after the answer to its decision was lost, unless that decision may still be made."""
        row: Row | None = None
        with suppress(StoreUnavailable):
            row = await self._stored(approval_id)
        if row is None or (row["status"] == "pending" and not row["is_expired"]):
            raise StoreUncertain(
                f"It is not known whether the decision on {approval_id} was saved: the database did not confirm it.",
                fix=f"Look with `connector-mcp approvals show {approval_id}`.",
                retryable=False,
            )
        return row

    async def _summary(self) -> Sequence[Row]:
        return await self._database.read(lambda tx: tx.execute(_SUMMARY).all())

    async def _page(
        self, where: str, time: str, values: dict[str, Value], before: str, after: str, count: int = PAGE
    ) -> Page:
        """Return up to `count` rows, oldest first: those next to a key on one side, or the newest."""
        at, _, approval_id = (after or before).partition("~")
        key = f" AND ({time}, id) {'>' if after else '<'} (:at, :id)" if at else ""
        order = "" if after else " DESC"
        sql = f"SELECT {COLUMNS} FROM approvals WHERE {where}{key} ORDER BY {time}{order}, id{order} LIMIT :most"
        values = {**values, "most": count + 1, "at": _as_time(at), "id": approval_id}
        rows = await self._database.read(lambda tx: tx.execute(sql, values).all())
        there_is_more, rows = len(rows) > count, rows[:count]
        if not after:
            rows = rows[::-1]
        # On the side that the key is on, there was at least the page that it comes from.
        older, newer = (bool(approval_id), there_is_more) if after else (there_is_more, bool(before))
        keys = [f"{row[time]!r}~{row['id']}" for row in rows]
        return Page(
            tuple(map(read_approval, rows)),
            keys[0] if keys and older else None,
            keys[-1] if keys and newer else None,
        )

    async def _unknown(self, approval_id: str) -> InvalidArguments:
        sql = f"SELECT id FROM approvals ORDER BY created_at DESC, id DESC LIMIT {_NEAR}"
        newest = await self._database.read(lambda tx: tx.execute(sql).all())
        near = closest(approval_id, [row["id"] for row in newest])
        hint = f" (closest match: {near})" if near else "" if newest else "; there are none"
        example = near or (newest[0]["id"] if newest else None)
        return InvalidArguments(
            "approvals",
            [
                Issue(
                    "id", got="an id that no parked call has", wanted=f"the id of a parked call{hint}", example=example
                )
            ],
            fix="Look the id up with `connector-mcp approvals list`.",
        )


def _present(row: Row, approval_id: str) -> Approval:
    if row["status"] == "pending" and row["is_expired"]:
        raise ConfirmationInvalid(
            f"Approval {approval_id} expired before it was decided; nothing was done.",
            fix="Have the agent make the call again: it is then parked again.",
            retryable=False,
        )
    return read_approval(row)


def _as_time(text: str) -> float:
    """Return the time in a key. A key that was made up leads to an empty page."""
    try:
        return float(text or 0)
    except ValueError:
        return 0.0


def _already(approval: Approval) -> ConfirmationInvalid:
    by = f" by {approval.decided_by}" if approval.decided_by and approval.status in ("approved", "denied") else ""
    return ConfirmationInvalid(
        f"Approval {approval.id} is no longer pending: it is {approval.status}{by}.",
        fix="Have the agent make the call again if it is still wanted: it is then parked again.",
        retryable=False,
        details={"status": approval.status},
    )
