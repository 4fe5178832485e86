"""What the emulated platforms remember: JSON documents by collection and id, over SQLite.

One code path serves both forms: a file outlives the process and may be shared by several, `:memory:` does not.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from connector_mcp.json_values import JsonObject

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


@dataclass
class Past:
    """Whether anything read under `World.before_last_writes` differed from the present."""

    differed: bool = False


class World:
    """A document store. Documents come back in the order of their first insertion; a replaced one keeps its place."""

    def __init__(self, path: Path | None = None) -> None:
        self._database = sqlite3.connect(
            ":memory:" if path is None else path, check_same_thread=False, isolation_level=None, timeout=5
        )
        self._database.execute(_SCHEMA)
        self._lock = threading.RLock()
        self._previous: OrderedDict[tuple[str, str], JsonObject | None] = OrderedDict()
        self._past: Past | None = None

    def get(self, collection: str, document_id: str) -> JsonObject | None:
        """A copy of the document, or None."""
        with self._lock:
            return self._as_of_now_or_before(collection, document_id, self._stored(collection, document_id))

    def all(self, collection: str) -> list[JsonObject]:
        """Copies of all documents of a collection, oldest first."""
        with self._lock:
            rows = self._database.execute(
                "SELECT id, body FROM documents WHERE collection = ? ORDER BY position", (collection,)
            ).fetchall()
            present = {str(row[0]): json.loads(row[1]) for row in rows}
            if self._past is not None:
                # A document deleted since is no row any more, yet the past still shows it, at the end.
                present |= {key: None for (kept, key) in self._previous if kept == collection and key not in present}
            seen = (self._as_of_now_or_before(collection, key, document) for key, document in present.items())
            return [document for document in seen if document is not None]

    def put(self, collection: str, document_id: str, document: JsonObject) -> None:
        """Insert the document, or replace the one with this id."""
        with self._lock:
            self._remember(collection, document_id)
            self._database.execute(
                "INSERT INTO documents (collection, id, body) VALUES (?, ?, ?) "
                "ON CONFLICT (collection, id) DO UPDATE SET body = excluded.body",
                (collection, document_id, json.dumps(document)),
            )

    def delete(self, collection: str, document_id: str) -> None:
        """Remove the document; one that is not there is no error."""
        with self._lock:
            self._remember(collection, document_id)
            self._database.execute("DELETE FROM documents WHERE collection = ? AND id = ?", (collection, document_id))

    @contextmanager
    def transaction(self) -> Generator[None]:
        """All writes inside happen together or, when an exception leaves the block, not at all."""
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
        """Inside, reads show each recently written document as it was before its last write (late visibility)."""
        with self._lock:
            self._past = Past()
            try:
                yield self._past
            finally:
                self._past = None

    def forget_past(self) -> None:
        """Make the present the only version there is."""
        with self._lock:
            self._previous.clear()

    def close(self) -> None:
        with self._lock:
            self._database.close()

    def _stored(self, collection: str, document_id: str) -> JsonObject | None:
        row = self._database.execute(
            "SELECT body FROM documents WHERE collection = ? AND id = ?", (collection, document_id)
        ).fetchone()
        return None if row is None else json.loads(row[0])

    def _remember(self, collection: str, document_id: str) -> None:
        key = (collection, document_id)
        self._previous[key] = self._stored(collection, document_id)
        self._previous.move_to_end(key)
        while len(self._previous) > _REMEMBERED_WRITES:
            self._previous.popitem(last=False)

    def _as_of_now_or_before(self, collection: str, key: str, present: JsonObject | None) -> JsonObject | None:
        if self._past is None or (collection, key) not in self._previous:
            return present
        before = self._previous[collection, key]
        if before != present:
            self._past.differed = True
        return before
