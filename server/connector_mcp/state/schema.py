"""The tables of records, for SQLite and PostgreSQL, and the steps from one version to the next.

Times are seconds since the epoch, by the database's clock. Columns that are searched are columns; the rest of a record
is JSON in a column of text.
"""

from __future__ import annotations

from typing import Final

_FIRST: Final = """
CREATE TABLE keys (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE approvals (
    id TEXT PRIMARY KEY,
    digest TEXT NOT NULL,
    status TEXT NOT NULL,
    -- 1 while the same call is answered by this approval.
    is_open INTEGER NOT NULL,
    principal TEXT NOT NULL,
    tool TEXT NOT NULL,
    call TEXT NOT NULL,
    created_at DOUBLE PRECISION NOT NULL,
    expires_at DOUBLE PRECISION NOT NULL,
    decided_at DOUBLE PRECISION,
    decided_by TEXT,
    channel TEXT,
    reason TEXT,
    -- Distinguishes this decision from another with the same content.
    decision_id TEXT,
    used_at DOUBLE PRECISION,
    -- What became of the call: running, unknown, or the outcome as the audit log has it.
    outcome TEXT,
    -- When a process began to send the message about it.
    announced_at DOUBLE PRECISION
);
CREATE UNIQUE INDEX approvals_by_digest ON approvals (digest) WHERE is_open = 1;
CREATE INDEX approvals_open ON approvals (status, created_at, id, expires_at) WHERE is_open = 1;
CREATE INDEX approvals_of_principal ON approvals (principal) WHERE is_open = 1;
CREATE INDEX approvals_by_expiry ON approvals (expires_at) WHERE is_open = 1;
CREATE INDEX approvals_by_age ON approvals (created_at, id);
CREATE INDEX approvals_decided ON approvals (decided_at, id) WHERE decided_at IS NOT NULL;
CREATE TABLE questions (
    ticket TEXT PRIMARY KEY,
    question TEXT NOT NULL,
    asked_at DOUBLE PRECISION NOT NULL,
    expires_at DOUBLE PRECISION NOT NULL
);
CREATE INDEX questions_by_expiry ON questions (expires_at);
CREATE TABLE secret_requests (
    id TEXT PRIMARY KEY,
    principal TEXT NOT NULL,
    status TEXT NOT NULL,
    request TEXT NOT NULL,
    expires_at DOUBLE PRECISION NOT NULL
);
CREATE INDEX secret_requests_of_principal ON secret_requests (principal, expires_at);
CREATE INDEX secret_requests_by_expiry ON secret_requests (expires_at);
CREATE TABLE executions (
    -- One row for each call; a later execution of the same call replaces it.
    digest TEXT PRIMARY KEY,
    call_id TEXT NOT NULL,
    tool TEXT NOT NULL,
    approval_id TEXT,
    begun_at DOUBLE PRECISION NOT NULL,
    ended_at DOUBLE PRECISION,
    -- running, unknown, or the outcome as the audit log has it.
    outcome TEXT NOT NULL,
    expires_at DOUBLE PRECISION NOT NULL
);
CREATE INDEX executions_by_expiry ON executions (expires_at);
CREATE TABLE audit (
    seq BIGINT PRIMARY KEY,
    at DOUBLE PRECISION NOT NULL,
    call_id TEXT,
    phase TEXT,
    principal TEXT,
    tool TEXT,
    outcome TEXT,
    -- The sealed record. The other columns repeat parts of it.
    line TEXT NOT NULL
);
CREATE INDEX audit_by_call ON audit (call_id);
CREATE TABLE audit_chain (
    id INTEGER PRIMARY KEY,
    -- The sealed end of the chain.
    head TEXT NOT NULL
);
INSERT INTO audit_chain (id, head) VALUES (1, '');
CREATE TABLE rates (
    name TEXT PRIMARY KEY,
    -- When the last counted request is due.
    due DOUBLE PRECISION NOT NULL
);
CREATE TABLE console_sessions (
    id TEXT PRIMARY KEY,
    session TEXT NOT NULL,
    began_at DOUBLE PRECISION NOT NULL,
    expires_at DOUBLE PRECISION NOT NULL
);
CREATE INDEX console_sessions_by_expiry ON console_sessions (expires_at)
"""

_CURSORS: Final = """
CREATE TABLE export_cursors (
    name TEXT PRIMARY KEY,
    -- Number of the last exported record.
    seq BIGINT NOT NULL
)
"""

_PLANS: Final = """
CREATE TABLE plans (
    id TEXT PRIMARY KEY,
    digest TEXT NOT NULL,
    principal TEXT NOT NULL,
    -- The name of the manifest.
    manifest TEXT NOT NULL,
    plan TEXT NOT NULL,
    created_at DOUBLE PRECISION NOT NULL,
    -- Until then it can be begun, and after that it can be continued.
    expires_at DOUBLE PRECISION NOT NULL,
    -- planned, begun once it was decided, done, or void.
    status TEXT NOT NULL,
    begun_at DOUBLE PRECISION,
    decision TEXT,
    decided_by TEXT,
    channel TEXT,
    -- The call that applies it now.
    lease_owner TEXT,
    lease_until DOUBLE PRECISION
);
CREATE INDEX plans_by_expiry ON plans (expires_at);
CREATE INDEX plans_of_manifest ON plans (manifest);
CREATE TABLE plan_steps (
    plan_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    -- waiting, begun, done, failed, unknown or skipped.
    state TEXT NOT NULL,
    call_id TEXT,
    -- The id of what it made or changed.
    identifier TEXT,
    -- How it ended, and what a check of the thing showed, as JSON objects.
    outcome TEXT,
    verdict TEXT,
    PRIMARY KEY (plan_id, number)
);
CREATE TABLE identities (
    account TEXT NOT NULL,
    manifest TEXT NOT NULL,
    -- The entry of the manifest, as section.name.
    entry TEXT NOT NULL,
    identifier TEXT NOT NULL,
    within TEXT NOT NULL,
    -- Path of each secret of the config to the name and keyed digest of the value last written, as JSON.
    secrets TEXT NOT NULL,
    -- The entry as it was last applied, as JSON.
    declared TEXT NOT NULL,
    applied_at DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (account, manifest, entry)
)
"""

_QUEUE_FILTERS: Final = """
ALTER TABLE approvals ADD COLUMN platform TEXT NOT NULL DEFAULT '';
ALTER TABLE approvals ADD COLUMN effects TEXT NOT NULL DEFAULT '';
-- What a search looks at, without regard to case.
ALTER TABLE approvals ADD COLUMN words TEXT NOT NULL DEFAULT '';
DROP INDEX approvals_open;
-- A filter reads this index alone, not the calls.
CREATE INDEX approvals_open ON approvals
    (status, created_at, id, expires_at, principal, platform, effects, words) WHERE is_open = 1
"""

_SEARCHES: Final = """
ALTER TABLE audit ADD COLUMN transport TEXT;
ALTER TABLE audit ADD COLUMN target TEXT;
DROP INDEX audit_by_call;
-- The id of a call begins with its time, so that this order is that of the calls. Searches read no records.
CREATE INDEX audit_calls ON audit (call_id, phase, transport, principal, tool, outcome, at);
CREATE INDEX audit_of_target ON audit (target, call_id, phase) WHERE target IS NOT NULL;
CREATE INDEX approvals_of_digest ON approvals (digest, created_at);
DROP INDEX approvals_decided;
CREATE INDEX approvals_decided ON approvals (decided_at, id, status, decided_by) WHERE decided_at IS NOT NULL
"""

MIGRATIONS: Final = (_FIRST, _CURSORS, _PLANS, _QUEUE_FILTERS, _SEARCHES)
"""The statements that lead from each version to the next. Only add to it: a released migration never changes."""

VERSION: Final = len(MIGRATIONS)
