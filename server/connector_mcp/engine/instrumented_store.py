"""A store that tells an observer where it fails, whoever asked it."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

from connector_mcp.errors import StoreUnavailable
from connector_mcp.json_values import JsonObject
from connector_mcp.state.store import Store
from connector_mcp.telemetry.observer import Observer

_Result = TypeVar("_Result")


class WatchedStore:
    """The `Store` given, in every other respect."""

    def __init__(self, store: Store, observer: Observer) -> None:
        self._store = store
        self._observer = observer

    async def put_once(self, collection: str, key: str, value: JsonObject, *, expires_at: float | None = None) -> bool:
        return await self._told("put_once", self._store.put_once(collection, key, value, expires_at=expires_at))

    async def get(self, collection: str, key: str) -> JsonObject | None:
        return await self._told("get", self._store.get(collection, key))

    async def replace(
        self, collection: str, key: str, value: JsonObject, *, expected: JsonObject, expires_at: float | None = None
    ) -> bool:
        replaced = self._store.replace(collection, key, value, expected=expected, expires_at=expires_at)
        return await self._told("replace", replaced)

    async def take_once(self, collection: str, key: str) -> JsonObject | None:
        return await self._told("take_once", self._store.take_once(collection, key))

    async def entries(self, collection: str) -> list[tuple[str, JsonObject]]:
        return await self._told("entries", self._store.entries(collection))

    async def remove(self, collection: str, key: str) -> None:
        await self._told("remove", self._store.remove(collection, key))

    async def aclose(self) -> None:
        await self._store.aclose()

    async def _told(self, operation: str, asked: Awaitable[_Result]) -> _Result:
        try:
            return await asked
        except StoreUnavailable:
            self._observer.store_failed(operation)
            raise
