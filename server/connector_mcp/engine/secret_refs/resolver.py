"""References to secrets among the arguments: where they may stand, what they resolve to, and which ones results bring.

Only arguments of the caller are scanned. A reference that a platform has stored, and that an update sends back, stays
text: otherwise anyone who can write on the platform could have any secret sent there.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.to_thread
from pydantic import ValidationError

from connector_mcp.engine.accounts import Account
from connector_mcp.engine.checks.configs import check_configs
from connector_mcp.engine.checks.issues import path_of
from connector_mcp.engine.redaction.redactor import (
    MARKER,
    MOST_GIVEN,
    Steps,
    mark_secret_places,
    parse_steps,
    places,
    redact_arguments,
    replaced,
    secret_values,
)
from connector_mcp.engine.results import Meta
from connector_mcp.errors import ConnectorError, InvalidArguments, Issue
from connector_mcp.json_values import JsonObject, is_array, is_object, members
from connector_mcp.operations.connector_types import is_mask, stands_for_a_secret
from connector_mcp.operations.operation import Effect, Operation, at
from connector_mcp.operations.situation import ConfigUse, Destination, Situation
from connector_mcp.operations.tool import Tool
from connector_mcp.operations.update import keeps_what_is_left_out
from connector_mcp.program import runnable
from connector_mcp.secrets.collection import Secrets
from connector_mcp.secrets.reference import (
    LONGEST_NAME,
    SCHEME,
    NotStored,
    SecretLimits,
    Unresolved,
    Use,
    is_name,
    key_format,
    keys_in,
    mentions_reference,
    referenced_name,
)

_FORM = f"{SCHEME}NAME alone, its NAME of up to {LONGEST_NAME} letters, digits, _, - and single dots"
_STORE = "Store it with `connector-mcp secrets set NAME` in a terminal and give secret://NAME instead."
_LONGEST_STEM = 56
"""Leaves room for a number if the name is taken."""


@dataclass(frozen=True)
class Reference:
    """A reference in a place for a secret, or in one that may turn out to be."""

    steps: Steps
    name: str

    @property
    def field(self) -> str:
        """The place as limits name it: without indexes."""
        return ".".join(step for step in self.steps if isinstance(step, str))

    @property
    def field_of_one(self) -> str:
        """The place within one record of a list, as an update of that record names it."""
        last = max((index for index, step in enumerate(self.steps[:-1]) if isinstance(step, int)), default=-1)
        return ".".join(step for step in self.steps[last + 1 :] if isinstance(step, str))


@dataclass
class FoundSecrets:
    """The references and credentials among the arguments."""

    uses: tuple[ConfigUse, ...]
    shown: JsonObject
    """The arguments, redacted."""
    hides: bool
    """Whether redaction changed anything."""
    is_final: bool
    """Whether the types of all configs are known, or will not be known better."""
    issues: list[Issue] = field(default_factory=list[Issue])
    references: list[Reference] = field(default_factory=list[Reference])
    literals: list[Steps] = field(default_factory=list[Steps])
    """Secret fields that contain the secret itself."""
    misplaced: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """Paths of other fields that contain a credential of a known form, and which form."""
    misplaced_keys: list[str] = field(default_factory=list[str], repr=False)
    """Those credentials. Never shown."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the secrets."""
        return tuple(dict.fromkeys(reference.name for reference in self.references))

    def hosts(self, operation: Operation, situation: Situation) -> tuple[str, ...]:
        """Return the hosts that credentials go to. An update also sends stored ones to a host that it chooses."""
        updates = operation.effect is Effect.UPDATE
        if not (updates or self.literals or self.references):
            return ()
        places = (*self.literals, *(reference.steps for reference in self.references))
        return tuple(
            dict.fromkeys(
                each.host
                for each in operation.find_destinations(situation)
                if (updates and each.is_chosen) or any(_goes_to(steps, each) for steps in places)
            )
        )

    def warnings(self, *, literals: bool) -> Iterator[str]:
        """Warn about credentials in clear text, without their values."""
        if literals and self.literals:
            yield f"Holds a secret in clear text: {', '.join(map(path_of, self.literals))}. {runnable(_STORE)}"
        for path, kind in self.misplaced:
            yield f"{path} looks as if it holds {kind}, but is not a secret field: its value may be shown and stored."

    def given_values(self, operation: Operation) -> set[str]:
        """Return every secret that the arguments hold. In a config of an unknown type every string counts as one.

        Raises:
            InvalidArguments: There are too many to search for in what the call shows.
        """
        given = {*self.misplaced_keys, *(secret_values(operation, self.uses) if self.hides else ())}
        if len(given) > MOST_GIVEN:
            issue = Issue("arguments", f"{len(given)} secrets", f"at most {MOST_GIVEN} in one call")
            raise InvalidArguments(operation.tool_name(), [issue])
        return given

    def refusals(self) -> Iterator[Issue]:
        """Refuse credentials in clear text."""
        for steps in self.literals:
            yield Issue(path_of(steps), "a secret in clear text", f"{SCHEME}NAME", f"{SCHEME}NAME")
        for path, kind in self.misplaced:
            yield Issue(path, f"what looks like {kind}", "no credential: this is not a secret field")


def scan_arguments(operation: Operation, uses: tuple[ConfigUse, ...], *, target_known: bool) -> FoundSecrets:
    """Find references and credentials among the arguments.

    The target may tell the type of a config. Until it is known, nothing in a config of unknown type is judged; after
    that only the names of its keys tell what is secret.
    """
    open_places = [parse_steps(use.path) for use in uses if use.type is None and not target_known]
    configs = [parse_steps(use.path) for use in uses]
    given = operation.model_dump(exclude_unset=True)
    shown, marked = redact_arguments(operation, uses, given), mark_secret_places(operation, uses, given)
    found = FoundSecrets(uses, shown, hides=shown != given, is_final=not open_places)
    for steps, place in places(given):
        if isinstance(place, str):
            is_open = bool(open_places) and any(steps[: len(start)] == start for start in open_places)
            is_masked = any(steps[: len(start)] == start for start in configs) and is_mask(place)
            secret = _is_marked(marked, steps)
            _judge(found, operation, steps, place, secret=secret, is_open=is_open, is_masked=is_masked)
        elif any(map(mentions_reference, members(place))):
            found.issues.append(Issue(path_of(steps), "a reference as a key", "the key itself"))
    return found


def _judge(
    found: FoundSecrets,
    operation: Operation,
    steps: Steps,
    text: str,
    *,
    secret: bool,
    is_open: bool,
    is_masked: bool,
) -> None:
    if mentions_reference(text):
        name = referenced_name(text)
        if name is None:
            found.issues.append(Issue(path_of(steps), "a malformed reference", _FORM))
        elif secret or is_open:
            found.references.append(Reference(steps, name))
        else:
            got = f"{SCHEME}{name} in a field that is not secret"
            found.issues.append(Issue(path_of(steps), got, "the value itself: references are for secret fields"))
    elif is_masked or (secret and stands_for_a_secret(text)) or (not is_open and text == f"<{steps[-1]}>"):
        wanted = f"the value itself, or {SCHEME}NAME for a stored secret"
        if keeps_what_is_left_out(type(operation)):
            wanted = f"the value itself, {SCHEME}NAME for a stored secret, or leave it out to keep what is stored"
        found.issues.append(Issue(path_of(steps), "a placeholder or mask", wanted))
    elif secret:
        if text:
            found.literals.append(steps)
    elif not is_open and (kind := key_format(text)):
        found.misplaced.append((path_of(steps), kind))
        found.misplaced_keys.extend(keys_in(text))


def _goes_to(steps: Steps, destination: Destination) -> bool:
    """Check whether the platform sends what stands at the end of the steps to the destination."""
    start = parse_steps(destination.path)
    return steps[: len(start)] == start


def _is_marked(marked: Any, steps: Steps) -> bool:
    """Check whether the place at the end of the steps, or one on the way, has the marker."""
    for step in steps:
        if marked == MARKER:
            return True
        if is_object(marked) and isinstance(step, str):
            marked = marked.get(step)
        elif is_array(marked) and isinstance(step, int) and step < len(marked):
            marked = marked[step]
        else:
            return False
    return bool(marked == MARKER)


@dataclass
class ResolvedReferences:
    """What a call's references resolve to."""

    values: dict[Steps, str] = field(default_factory=dict[Steps, str], repr=False)
    issues: list[Issue] = field(default_factory=list[Issue])
    missing: list[Reference] = field(default_factory=list[Reference])
    """Those with a secret that is not stored and could be used if it were. Each is an issue, too."""
    fix: str | None = None
    disclosed: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """Names of secrets, each with a host that the arguments choose and that the limits of the secret do not name."""

    @property
    def lacks_only_secrets(self) -> bool:
        """Whether missing secrets are the only problem."""
        return bool(self.missing) and len(self.missing) == len(self.issues)

    def require_all(self, tool: str) -> None:
        """Check that every reference was resolved.

        Raises:
            InvalidArguments: A secret is unknown or may not be used there. Nothing was sent.
        """
        if self.issues:
            raise InvalidArguments(tool, self.issues, fix=self.fix)


class ReferenceResolver:
    """Looks secrets up, each time again: a secret that was changed meanwhile is sent with its present value."""

    def __init__(self, secrets: Secrets, withheld: Collection[str] = ()) -> None:
        """`withheld` secrets are this server's own credentials: no call may refer to them."""
        self._secrets = secrets
        self._withheld = frozenset(withheld)

    async def resolve(
        self, found: FoundSecrets, account: Account, destinations: Sequence[Destination] | None = None
    ) -> ResolvedReferences:
        """Look up the value of each reference. Without `destinations`, limits on hosts are not checked.

        Raises:
            Misconfigured: A source of secrets cannot be read.
        """
        resolved = ResolvedReferences()
        for reference in found.references:
            refused = None
            if reference.name in self._withheld:
                refused = "another secret: this one is a credential of the server itself"
            elif account.secrets is not None and reference.name not in account.secrets:
                allowed = ", ".join(sorted(account.secrets)) or "it has none"
                refused = f"a secret of profile {account.profile}: {allowed}"
            if refused:
                got = f"{SCHEME}{reference.name}, which may not be used here"
                resolved.issues.append(Issue(path_of(reference.steps), got, refused))
                continue
            going = None if destinations is None else [each for each in destinations if _goes_to(reference.steps, each)]
            hosts = None if going is None else tuple(each.host for each in going)
            use = Use(account.platform.name, account.profile, reference.field, hosts)
            try:
                # In a thread: it may read a file, or a keyring that asks its owner first.
                secret = await anyio.to_thread.run_sync(self._secrets.find, reference.name, use)
            except Unresolved as unresolved:
                resolved.issues.append(Issue(path_of(reference.steps), unresolved.got, unresolved.wanted))
                resolved.fix = resolved.fix or unresolved.fix
                if isinstance(unresolved, NotStored):
                    resolved.missing.append(reference)
            else:
                resolved.values[reference.steps] = secret.value
                if not secret.names_hosts:
                    resolved.disclosed += [(reference.name, each.host) for each in going or () if each.is_chosen]
        return resolved


def insert_values(tool: Tool, operation: Operation, situation: Situation, values: Mapping[Steps, str]) -> Operation:
    """Make the operation to send, with the values in place of the references.

    Raises:
        InvalidArguments: A value does not fit its field. The value is not described.
    """
    given = operation.model_dump(exclude_unset=True)
    for steps, value in values.items():
        given = replaced(given, steps, value)
    try:
        ready = type(operation).model_validate(given)
    except ValidationError:
        issues: Sequence[Issue] = [Issue(path_of(steps), "", "a value that the field takes") for steps in values]
    else:
        # What is only unknown was judged before, when the arguments had references in the place of values.
        issues = [issue for issue in ready.find_problems(situation) if not issue.unknown]
        try:
            check_configs(tool, ready.find_configs(situation), lambda issue: issue.unknown)
        except InvalidArguments as invalid:
            issues = [*issues, *invalid.issues]
        if not issues:
            return ready
    unfit = [Issue(issue.path, "a secret with a value that does not fit", issue.wanted) for issue in issues]
    raise InvalidArguments(
        tool.name, unfit, fix="The operator corrects the value with `connector-mcp secrets set NAME`."
    ) from None


class MintedCredentials:
    """Stores the credentials that a platform creates and shows once; results contain references to them."""

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets

    async def check(self, operation: Operation) -> None:
        """Check, before the operation is sent, that its new credentials could be stored.

        Raises:
            Misconfigured: No store can take them.
        """
        if operation.mints:
            await anyio.to_thread.run_sync(self._secrets.check_store)

    async def keep(self, operation: Operation, answers: Sequence[Any], account: Account, meta: Meta) -> None:
        """Store each new credential in the answers and put a reference in its place.

        A credential that cannot be stored is removed all the same, and `meta` warns that it is lost.
        """
        limits = SecretLimits(platforms=(account.platform.name,), profiles=(account.profile,))
        for answer in answers:
            for path in operation.mints:
                holder, _, key = path.rpartition(".")
                record = at(answer, holder)
                value = members(record).get(key)
                if value is None:
                    meta.warn(f"The platform's response has no {path} where a new credential is documented.")
                    continue
                record[key] = MARKER
                if not isinstance(value, str) or not value:
                    meta.warn(_lost(path, "it is not text"))
                    continue
                try:
                    # The platform does not show it again: store it even if the call is cancelled.
                    with anyio.CancelScope(shield=True):
                        stem = _name_stem(operation, answer)
                        name = await anyio.to_thread.run_sync(self._secrets.store_new, stem, value, limits)
                        record[key] = f"{SCHEME}{name}"
                except (ConnectorError, OSError) as failure:
                    why = failure.message if isinstance(failure, ConnectorError) else type(failure).__name__
                    meta.warn(_lost(path, why.rstrip(".")))


def _lost(path: str, why: str) -> str:
    return f"The new credential {path} is lost: {why}. Create another one, and revoke this one on the platform."


def _name_stem(operation: Operation, answer: Any) -> str:
    """Name a new secret after the tool and the id of its target."""
    placeholders = operation.http.placeholders
    target = getattr(operation, placeholders[-1]) if placeholders else at(answer, operation.record or "")
    identifier = target if isinstance(target, str) else members(target).get("id", "")
    tool = operation.tool_name()
    stem = re.sub(r"[^A-Za-z0-9_]+", "-", f"{tool}-{identifier}")[:_LONGEST_STEM].strip("-")
    return stem if is_name(stem) else tool
