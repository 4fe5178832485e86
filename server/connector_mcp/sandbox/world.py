"""What the emulated platforms store: JSON documents by collection and id in SQLite, and the time.

A file keeps the data after the process ends and may be shared by several processes; `:memory:` does neither. Worlds of
different accounts share a file, and no documents.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from connector_mcp.errors import Misconfigured
from connector_mcp.json_values import JsonObject

Clock = Callable[[], datetime]
"""Returns the current time, with a time zone. Tests replace it instead of waiting."""

DEFAULT_ACCOUNT = "default"
"""The account of a server without profiles."""
_REMEMBERED_WRITES = 256

_SCHEMA = """
CREATE TABLE IF NOT EXISTS documents (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    collection TEXT NOT NULL,
    id TEXT NOT NULL,
    body TEXT NOT NULL,
    UNIQUE (collection, id)
)
"""


def system_time() -> datetime:
    """The real time."""
    return datetime.now(UTC)


@dataclass
class Past:
    """Whether any read under `World.before_last_writes` differed from the present."""

    differed: bool = False


class World:
    """A document store. Documents come back in the order of their first insertion; a replaced one keeps its place.

    Only worlds of the same account see each other's documents in a file.
    """

    def __init__(self, path: Path | None = None, clock: Clock = system_time, account: str = DEFAULT_ACCOUNT) -> None:
        self.now = clock
        self._prefix = "" if account == DEFAULT_ACCOUNT else f"{account}:"
        try:
            if path is not None:
                # Only its owner may read it: people try the sandbox with secrets of their own.
                path.touch(mode=0o600)
            self._database = sqlite3.connect(
                path or ":memory:", check_same_thread=False, isolation_level=None, timeout=5
            )
            self._database.execute(_SCHEMA)
        except (OSError, sqlite3.Error) as failure:
            raise Misconfigured(
                f"The sandbox's data cannot be kept in {path}: {failure}.",
                fix="Name a file in a folder that exists with --data; a file that is not there is made.",
            ) from None
        self._lock = threading.RLock()
        self._previous: OrderedDict[tuple[str, str], JsonObject | None] = OrderedDict()
        self._past: Past | None = None

    def timestamp(self) -> str:
        """The current time as the platforms write it: RFC 3339 in UTC with milliseconds."""
        return self.now().astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def get(self, collection: str, document_id: str) -> JsonObject | None:
        """A copy of the document, or None."""
        with self._lock:
            return self._visible(collection, document_id, self._stored(collection, document_id))

    def find(self, collection: str, document_id: str, missing: Exception) -> JsonObject:
        """A copy of the document. Raises `missing` without one."""
        found = self.get(collection, document_id)
        if found is None:
            raise missing
        return found

    def all(self, collection: str) -> list[JsonObject]:
        """Copies of all documents of a collection, oldest first."""
        with self._lock:
            rows = self._database.execute(
                "SELECT id, body FROM documents WHERE collection = ? ORDER BY position", (self._prefix + collection,)
            ).fetchall()
            present = {str(row[0]): json.loads(row[1]) for row in rows}
            if self._past is not None:
                # A document that was deleted since has no row; the past shows it at the end.
                present |= {key: None for (kept, key) in self._previous if kept == collection and key not in present}
            seen = (self._visible(collection, key, document) for key, document in present.items())
            return [document for document in seen if document is not None]

    def put(self, collection: str, document_id: str, document: JsonObject) -> None:
        """Insert the document, or replace the one with this id."""
        with self._lock:
            self._remember(collection, document_id)
            self._database.execute(
                "INSERT INTO documents (collection, id, body) VALUES (?, ?, ?) "
                "ON CONFLICT (collection, id) DO UPDATE SET body = excluded.body",
                (self._prefix + collection, document_id, json.dumps(document)),
            )

    def delete(self, collection: str, document_id: str) -> None:
        """Remove the document, if it exists."""
        with self._lock:
            self._remember(collection, document_id)
            self._database.execute(
                "DELETE FROM documents WHERE collection = ? AND id = ?", (self._prefix + collection, document_id)
            )

    @contextmanager
    def transaction(self) -> Generator[None]:
        """Commit all writes of the block together, or none when it raises."""
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")

    @contextmanager
    def before_last_writes(self) -> Generator[Past]:
        """Within the block, reads show each recently written document as it was before its last write."""
        with self._lock:
            self._past = Past()
            try:
                yield self._past
            finally:
                self._past = None

    def forget_past(self) -> None:
        """Forget the earlier versions, so that reads of the past show the present."""
        with self._lock:
            self._previous.clear()

    def close(self) -> None:
        with self._lock:
            self._database.close()

    def _stored(self, collection: str, document_id: str) -> JsonObject | None:
        row = self._database.execute(
            "SELECT body FROM documents WHERE collection = ? AND id = ?", (self._prefix + collection, document_id)
        ).fetchone()
        return None if row is None else json.loads(row[0])

    def _remember(self, collection: str, document_id: str) -> None:
        key = (collection, document_id)
        self._previous[key] = self._stored(collection, document_id)
        self._previous.move_to_end(key)
        while len(self._previous) > _REMEMBERED_WRITES:
            self._previous.popitem(last=False)

    def _visible(self, collection: str, key: str, present: JsonObject | None) -> JsonObject | None:
        if self._past is None or (collection, key) not in self._previous:
            return present
        before = self._previous[collection, key]
        if before != present:
            self._past.differed = True
        return before
