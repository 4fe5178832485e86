"""What is shown of a call to the one who decides: every operation, asked or parked, within what clients show."""

from __future__ import annotations

import json
from typing import Any

import pytest

from connector_mcp.cli.commands.approvals import _describe
from connector_mcp.engine.approval.approval_webhook import webhook_message
from connector_mcp.engine.approval.parked_call import Approval
from connector_mcp.engine.approval.wording import HEADLINE, SECOND_LINE, TITLE, Candidate, question
from connector_mcp.engine.preview import make_preview
from connector_mcp.engine.redaction.scrubber import Scrubber
from connector_mcp.engine.secret_refs.resolver import scan_arguments
from connector_mcp.operations.catalog import catalog
from connector_mcp.operations.operation import Effect, Operation
from connector_mcp.operations.situation import Loss, Situation
from tests.for_each import for_each

OPERATIONS = {name: kind for name, kind in catalog().items() if kind.on is not None}
TENANT = {"organization_id": "tenant-7", "organisation_id": "tenant-7"}
CURRENT = {"id": "c1", "name": "Docs", "displayName": "Docs", "type": "AWS_S3", "connectorId": "github-universal"}
LONG = "n" * 300


def candidate(
    kind: type[Operation], *, losses: tuple[Loss, ...] = (), current: Any = CURRENT, **more: Any
) -> Candidate:
    """The call of the operation's example, as the engine puts it to the gate."""
    tenant = {key: value for key, value in TENANT.items() if key in kind.model_fields}
    made = kind.model_validate({**tenant, **kind.example})
    situation = Situation(current=current if kind.acts_on and "create" not in kind.tool_name() else None)
    found = scan_arguments(made, made.find_configs(situation), target_known=True)
    assert kind.on is not None
    return Candidate.of(
        **{
            "tool": kind.tool_name(),
            "platform": kind.on.name,
            "profile": "production",
            "principal": "local",
            "declared": kind.effect,
            "preview": make_preview(made, situation, losses, Scrubber(tuple)),
            "fingerprint": "f1",
            "digest": "d1",
            "arguments": found.shown,
            "tenant": "tenant-7",
            "address": "https://platform.example/api",
            "sandbox": True,
            "hosts": ("smtp.example.com",),
            "secrets": ("SMTP_PASSWORD",),
            **more,
        }
    )


def parked(made: Candidate) -> Approval:
    return Approval(**dict(made), id="ap-1", created_at=0.0, expires_at=9e9)


@for_each("kind", OPERATIONS.values())
def test_the_one_who_decides_about_any_call_is_shown_all_of_it(kind: type[Operation]) -> None:
    made = candidate(kind)
    approval = parked(made)
    faces = {
        "question": question(made).message,
        "terminal": _describe(approval),
        "webhook": json.dumps(webhook_message(approval), ensure_ascii=False),
        "list --json": approval.model_dump_json(),
    }
    first = question(made).message.split("\n")[0]
    assert made.target in first or "…" in first
    for face, text in faces.items():
        assert approval.effect.split(";")[0] in " ".join(text.split()), face
        for part in ("production", "tenant-7", "https://platform.example/api", "sandbox", "smtp.example.com"):
            assert part in text, (face, part)
        assert "SMTP_PASSWORD" in text, face
        for name in made.arguments:
            assert name in text, (face, name)
    assert len(approval.effect) > len("Deletes .")
    assert made.second_line.strip()


@for_each("kind", OPERATIONS.values())
@pytest.mark.parametrize("name", ["Docs", LONG], ids=["short", "long"])
@pytest.mark.parametrize("sentence", ["", "Unsets config.scope", "Unsets " + "x" * 300], ids=["none", "short", "long"])
def test_a_question_has_its_point_where_clients_cut_it(kind: type[Operation], name: str, sentence: str) -> None:
    losses = (Loss(sentence),) if sentence else ()
    made = candidate(kind, losses=losses, current={**CURRENT, "name": name, "displayName": name})
    asked = question(made)
    first, second, *_ = asked.message.split("\n")
    field = asked.schema["properties"]["confirm"]
    assert len(first) <= HEADLINE == 70
    assert len(second) <= SECOND_LINE
    assert 0 < len(field["title"]) <= TITLE == 46
    words = kind.tool_name().removeprefix(f"{kind.on.name}_").replace("_", " ") if kind.on else ""
    assert words in first.lower()
    assert first in field["description"]
    assert second in field["description"]
    if losses:
        assert second.startswith(f"Lost: {sentence}"[:70])
        assert first.startswith("Destroy: ") or kind.effect is Effect.DESTROY
    # A yes is not enough for what the second line could not show.
    if kind.effect is Effect.DESTROY or len(sentence) > SECOND_LINE:
        assert field["type"] == "string"


def test_a_call_that_sends_a_secret_to_a_chosen_host_says_so_first() -> None:
    made = candidate(OPERATIONS["logto_create_connector"], disclosed=(("MAIL", "smtp.evil.example"),))
    first, second, *_ = question(made).message.split("\n")
    assert first.startswith("Disclose: create connector")
    assert second == "Sends the secret MAIL to smtp.evil.example."
    assert parked(made).effects == ("create", "disclose")
    assert "Sends the secret MAIL to smtp.evil.example." in parked(made).effect
