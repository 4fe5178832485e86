"""References to secrets among the arguments: where they may stand, and what they stand for when the call is sent.

Only what the caller gave is looked at. A reference in what a platform has stored, and that an update sends back to it,
stays a text: otherwise whoever can write there could have any secret sent to them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import anyio.to_thread
from pydantic import ValidationError

from connector_mcp.engine.account import Account
from connector_mcp.engine.arguments import check_configs, path_of
from connector_mcp.engine.redaction.json_paths import places, replaced, steps_of
from connector_mcp.engine.redaction.redactor import MARKER, hides_nothing, redact_arguments, secret_places
from connector_mcp.errors import InvalidArguments, Issue
from connector_mcp.json_values import JsonObject
from connector_mcp.operations.operation import Operation, Situation
from connector_mcp.operations.tool import Tool
from connector_mcp.secrets.collection import Secrets
from connector_mcp.secrets.reference import (
    LONGEST_NAME,
    SCHEME,
    NotStored,
    Unresolved,
    Use,
    key_format,
    keys_in,
    mentions_reference,
    referenced_name,
)

Inline = Literal["warn", "refuse", "allow"]

_FORM = f"{SCHEME}NAME alone, its NAME of up to {LONGEST_NAME} letters, digits, _, - and single dots"
_STORE = "Store it with `connector-mcp secrets set NAME` in a terminal and give secret://NAME instead."

Steps = tuple[str | int, ...]


@dataclass(frozen=True)
class Reference:
    """A reference in a place that is a secret's, or may turn out to be one."""

    steps: Steps
    name: str

    @property
    def field(self) -> str:
        """The place as limits name it: without indexes."""
        return ".".join(step for step in self.steps if isinstance(step, str))

    @property
    def field_of_one(self) -> str:
        """The same within one record, where a call takes a list of them: what an update of one names it."""
        last = max((index for index, step in enumerate(self.steps[:-1]) if isinstance(step, int)), default=-1)
        return ".".join(step for step in self.steps[last + 1 :] if isinstance(step, str))


@dataclass
class Found:
    """What the arguments hold of credentials."""

    issues: list[Issue] = field(default_factory=list[Issue])
    references: list[Reference] = field(default_factory=list[Reference])
    literals: list[str] = field(default_factory=list[str])
    """Paths of secret fields that hold the secret itself."""
    misplaced: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """Paths of other fields that hold a credential of a known form, and which."""
    keys: list[str] = field(default_factory=list[str])
    """Those credentials. Never shown."""
    shown: JsonObject = field(default_factory=dict[str, Any])
    """The arguments that were given, as they may be written down."""
    is_clean: bool = False
    """Whether no argument is secret, may be or refers to one, so that there is no more to learn of them."""

    def warnings(self) -> Iterator[str]:
        """What to say of literals where they are taken; nothing of their values."""
        if self.literals:
            yield f"Holds a secret in clear text: {', '.join(self.literals)}. {_STORE}"
        for path, kind in self.misplaced:
            yield f"{path} looks as if it holds {kind}, and is no secret field: it may be shown and kept anywhere."

    def refusals(self) -> Iterator[Issue]:
        """What is wrong where literals are refused."""
        for path in self.literals:
            yield Issue(path, "a secret in clear text", f"{SCHEME}NAME", f"{SCHEME}NAME")
        for path, kind in self.misplaced:
            yield Issue(path, f"what looks like {kind}", "no credential: this is no secret field")


def look_for_credentials(operation: Operation, situation: Situation, *, settled: bool) -> Found:
    """What the arguments hold of credentials.

    Until it is `settled` which types the configs have, what stands in one of an unknown type is not judged by its
    place. After that only names tell there what is secret.
    """
    uses, given = operation.find_configs(situation), operation.model_dump(exclude_unset=True)
    if not uses and hides_nothing(operation, given) and not _mentions_any(given):
        # Nearly every read: what follows would find nothing, and with what is learnt then takes four times as long.
        return Found(shown=given, is_clean=True)
    shown = secret_places(operation, uses)
    open_places = [steps_of(use.path) for use in uses if use.type is None and not settled]
    found = Found(shown=redact_arguments(operation, uses))
    for steps, text in places(given):
        if isinstance(text, str):
            is_open = any(steps[: len(place)] == place for place in open_places)
            _judge(found, steps, text, secret=_is_secret(shown, steps), is_open=is_open)
        for key in cast("Mapping[str, Any]", text) if isinstance(text, Mapping) else ():
            if mentions_reference(key):
                found.issues.append(Issue(path_of(steps), "a reference as a key", "the key itself"))
    return found


@dataclass
class Followed:
    """What became of a call's references."""

    values: dict[Steps, str] = field(default_factory=dict[Steps, str], repr=False)
    issues: list[Issue] = field(default_factory=list[Issue])
    missing: list[Reference] = field(default_factory=list[Reference])
    """Those whose secret is not stored and could be used if it were. Each is an issue, too."""
    fix: str | None = None

    @property
    def lacks_only_secrets(self) -> bool:
        """Whether nothing is wrong but that secrets are not stored."""
        return bool(self.missing) and len(self.missing) == len(self.issues)

    def insist(self, tool: str) -> None:
        """See that every reference could be followed.

        Raises:
            InvalidArguments: One is unknown or may not be used there. Nothing was sent.
        """
        if self.issues:
            raise InvalidArguments(tool, self.issues, fix=self.fix)


class References:
    """Follows references, each time anew: a secret that was changed meanwhile is sent as it now is."""

    def __init__(self, secrets: Secrets, inline: Inline, withheld: Collection[str] = ()) -> None:
        """`withheld` secrets are this server's own credentials: no call may refer to one."""
        self._secrets = secrets
        self._withheld = frozenset(withheld)
        self.inline: Inline = inline

    async def follow(self, found: Found, account: Account) -> Followed:
        """Look for the value of each reference.

        Raises:
            Misconfigured: A place of secrets cannot be read.
        """
        followed = Followed()
        for reference in found.references:
            refused = self._refused(reference.name, account)
            if refused:
                got = f"{SCHEME}{reference.name}, which may not be used here"
                followed.issues.append(Issue(path_of(reference.steps), got, refused))
                continue
            use = Use(account.platform.name, account.profile, reference.field)
            try:
                # A file, or a keyring that asks its owner first.
                value = await anyio.to_thread.run_sync(self._secrets.resolve, reference.name, use)
            except Unresolved as unresolved:
                followed.issues.append(Issue(path_of(reference.steps), unresolved.got, unresolved.wanted))
                followed.fix = followed.fix or unresolved.fix
                if isinstance(unresolved, NotStored):
                    followed.missing.append(reference)
            else:
                followed.values[reference.steps] = value
        return followed

    def _refused(self, name: str, account: Account) -> str | None:
        """What is wanted instead, where the secret is one that calls under this account may not refer to."""
        if name in self._withheld:
            return "another secret: this one is a credential of the server itself"
        if account.secrets is not None and name not in account.secrets:
            return f"a secret of profile {account.profile}: {', '.join(sorted(account.secrets)) or 'it has none'}"
        return None


def with_values(tool: Tool, operation: Operation, situation: Situation, values: Mapping[Steps, str]) -> Operation:
    """The operation that is sent: with the values where references are.

    Raises:
        InvalidArguments: A value is not what its field takes. It is not described.
    """
    if not values:
        return operation
    given = operation.model_dump(exclude_unset=True)
    for steps, value in values.items():
        given = replaced(given, steps, value)
    try:
        ready = type(operation).model_validate(given)
    except ValidationError:
        issues: Sequence[Issue] = [Issue(path_of(steps), "", "a value that the field takes") for steps in values]
    else:
        issues = ready.find_problems(situation)
        try:
            check_configs(tool, ready.find_configs(situation))
        except InvalidArguments as invalid:
            issues = [*issues, *invalid.issues]
        if not issues:
            return ready
    told = [Issue(issue.path, "a secret whose value does not fit", issue.wanted) for issue in issues]
    raise InvalidArguments(
        tool.name, told, fix="The operator corrects the value with `connector-mcp secrets set NAME`."
    ) from None


def _mentions_any(value: Any) -> bool:
    """Whether a text in the value refers to a secret or is a credential of a known form, or a key refers to one."""
    if isinstance(value, str):
        return mentions_reference(value) or key_format(value) is not None
    if isinstance(value, Mapping):
        members = cast("Mapping[str, Any]", value)
        return any(map(mentions_reference, members)) or any(map(_mentions_any, members.values()))
    return isinstance(value, list) and any(map(_mentions_any, cast("list[Any]", value)))


def _judge(found: Found, steps: Steps, text: str, *, secret: bool, is_open: bool) -> None:
    path = path_of(steps)
    if mentions_reference(text):
        name = referenced_name(text)
        if name is None:
            found.issues.append(Issue(path, "a malformed reference", _FORM))
        elif secret or is_open:
            found.references.append(Reference(steps, name))
        else:
            got = f"{SCHEME}{name} in a field that is not secret"
            found.issues.append(Issue(path, got, "the value itself: references are for secret fields"))
    elif secret:
        if text:
            found.literals.append(path)
    elif not is_open and (kind := key_format(text)):
        found.misplaced.append((path, kind))
        found.keys.extend(keys_in(text))


def _is_secret(shown: Any, steps: Steps) -> bool:
    """Whether the value at the end of the steps, or one that it is part of, is hidden."""
    for step in steps:
        if shown == MARKER:
            return True
        if isinstance(shown, Mapping):
            shown = cast("Mapping[Any, Any]", shown).get(step)
        elif isinstance(shown, list) and isinstance(step, int) and step < len(cast("list[Any]", shown)):
            shown = cast("list[Any]", shown)[step]
        else:
            return False
    return bool(shown == MARKER)
