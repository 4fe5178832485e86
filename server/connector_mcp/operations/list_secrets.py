"""The operation that names the secrets; only there where a place for secrets is configured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from connector_mcp.json_values import JsonObject
from connector_mcp.operations.operation import LocalOperation, Record

NAME = "list_secrets"


class SecretRecord(Record):
    """A secret: its reference, and where it may be used."""

    reference: str | None = None
    source: str | None = None
    platforms: list[str] | None = None
    profiles: list[str] | None = None
    fields: list[str] | None = None
    changed: str | None = None


def list_secrets(listing: Callable[[], Sequence[JsonObject]]) -> type[LocalOperation]:
    """The operation over what `listing` gives each time."""

    class ListSecrets(LocalOperation):
        """List the secrets that the operator has stored, with where each may be used; values are never shown. Give the
        reference as the value of a secret field."""

        output = SecretRecord
        returns_list = True

        def answer_locally(self) -> Any:
            return list(listing())

    return ListSecrets
