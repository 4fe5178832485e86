"""Credentials that a platform makes and shows once: they go to the secret store, and a result names the reference."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import anyio
import anyio.to_thread

from connector_mcp.engine.account import Account
from connector_mcp.engine.redaction.redactor import MARKER, credentials_of
from connector_mcp.engine.redaction.scrubber import Scrubber
from connector_mcp.engine.results import Meta
from connector_mcp.errors import ConnectorError
from connector_mcp.json_values import members
from connector_mcp.operations.operation import Operation, at
from connector_mcp.secrets.collection import Secrets
from connector_mcp.secrets.reference import SCHEME, SecretLimits, is_name

_LONGEST_STEM = 56
"""Leaves room for the number of a name that is taken."""


class Minting:
    """Keeps what operations declare as minted. The values are known to the scrubber from then on."""

    def __init__(self, secrets: Secrets, scrubber: Scrubber) -> None:
        self._secrets = secrets
        self._scrubber = scrubber

    async def check(self, operation: Operation) -> None:
        """See that what the operation mints could be stored; to be called before it is sent.

        Raises:
            Misconfigured: It could not.
        """
        if operation.mints:
            await anyio.to_thread.run_sync(self._secrets.check_store)

    async def keep(self, operation: Operation, answers: Sequence[Any], account: Account, meta: Meta) -> None:
        """Put a reference in the place of each minted value in the answers.

        What cannot be stored is lost: it is taken out all the same, and `meta` warns of it.
        """
        for answer in answers:
            for path in operation.mints:
                holder, _, key = path.rpartition(".")
                record = at(answer, holder)
                value = members(record).get(key)
                if value is None:
                    meta.warn(f"The platform's answer held no {path} where a new credential is documented.")
                    continue
                record[key] = MARKER
                if not isinstance(value, str) or not value:
                    meta.warn(_lost(path, "it is no text"))
                    continue
                self._scrubber.remember({value, *credentials_of(value)})
                limits = SecretLimits(platforms=(account.platform.name,), profiles=(account.profile,))
                try:
                    record[key] = await self._store(_stem(operation, answer), value, limits)
                except (ConnectorError, OSError) as failure:
                    why = failure.message if isinstance(failure, ConnectorError) else type(failure).__name__
                    meta.warn(_lost(path, why.rstrip(".")))

    async def _store(self, stem: str, value: str, limits: SecretLimits) -> str:
        name = ""
        # The platform does not show it again, so that it is stored whether anybody still waits or not.
        with anyio.CancelScope(shield=True):
            name = await anyio.to_thread.run_sync(self._secrets.store_new, stem, value, limits)
        return f"{SCHEME}{name}"


def _lost(path: str, why: str) -> str:
    return f"The new credential {path} is lost: {why}. Mint another one, and revoke this one on the platform."


def _stem(operation: Operation, answer: Any) -> str:
    """A name that tells what the secret is of: the tool and the id of what it acted on, as far as a name can."""
    placeholders = operation.http.placeholders
    target = getattr(operation, placeholders[-1]) if placeholders else at(answer, operation.record or "")
    told = target if isinstance(target, str) else members(target).get("id", "")
    tool = operation.tool_name()
    stem = re.sub(r"[^A-Za-z0-9_]+", "-", f"{tool}-{told}")[:_LONGEST_STEM].strip("-")
    return stem if is_name(stem) else tool
