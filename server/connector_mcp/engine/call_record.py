"""What is learnt of one call on its way, and the audit records that are made of it."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field

from connector_mcp.audit.record import BEGUN, AuditRecord, Phase
from connector_mcp.engine.account import Account
from connector_mcp.engine.approval.gate import channel_of
from connector_mcp.engine.caller import Caller
from connector_mcp.engine.policy import Decision
from connector_mcp.engine.redaction.scrubber import Scrubber
from connector_mcp.engine.results import Meta
from connector_mcp.json_values import JsonObject
from connector_mcp.operations.operation import Effect
from connector_mcp.operations.tool import Tool

# Outcomes that tell what the gate came to although it gave no leave.
_DECISIONS = {"asked": Decision.ASK, "approval_required": Decision.APPROVE, "blocked": Decision.BLOCK}


@dataclass
class CallRecord:
    """One call. Each step adds what it learns."""

    tool: Tool
    caller: Caller
    account: Account | None
    scrubber: Scrubber
    started: float
    sandbox: bool
    id: str = field(default_factory=lambda: os.urandom(16).hex())
    effect: Effect = Effect.READ
    arguments: JsonObject | None = None
    key: bytes = field(default=b"", repr=False)
    """What digest and fingerprints are made with."""
    digest: str | None = None
    fingerprint: str | None = None
    fingerprint_after: str | None = None
    decision: Decision = Decision.BLOCK
    """What the gate came to; nothing passes before it was asked."""
    decided_by: str | None = None
    channel: str | None = None
    named: bool = True
    """Whether the caller named the profile, or there was none to choose."""
    held: bool = False
    """Whether a person was asked for a secret on the way, so that time may have passed."""
    changing: bool = False
    """Whether a request that is no read may have been sent."""
    status: int | None = None
    meta: Meta = field(default_factory=Meta)
    outcome: str = "cancelled"

    def scrubbed(self, text: str | None) -> str | None:
        """A text of the platform's as it may be written down."""
        return None if text is None else self.scrubber.text(text)

    def record(self, phase: Phase) -> AuditRecord:
        """The audit record of the call as far as it has come."""
        caller, account, platform = self.caller, self.account, self.tool.operation.on
        outcome = self.outcome if phase == "ended" else BEGUN
        decision = _DECISIONS.get(outcome, self.decision)
        return AuditRecord(
            phase=phase,
            call_id=self.id,
            principal=caller.principal,
            client=caller.client,
            transport=caller.transport,
            platform=platform.name if platform else None,
            profile=account.profile if account else None,
            tenant=account.tenant if account else None,
            tool=self.tool.name,
            effect=str(self.effect),
            decision=str(decision),
            decided_by=self.decided_by,
            channel=channel_of(decision, caller.transport) if outcome in _DECISIONS else self.channel,
            arguments=self.arguments or {},
            digest=self.digest,
            fingerprint_before=self.fingerprint,
            fingerprint_after=self.fingerprint_after,
            upstream_status=self.status,
            upstream_request_id=self.meta.request_id,
            outcome=outcome,
            duration_ms=round((time.monotonic() - self.started) * 1000, 3),
            sandbox=self.sandbox,
        )
