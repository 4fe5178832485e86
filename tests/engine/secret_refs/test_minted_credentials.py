"""Credentials that a platform makes: the store has them, the result names them, and nobody else sees them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from connector_mcp.audit.trail import AuditTrail
from connector_mcp.config.settings import Settings
from connector_mcp.engine.accounts import Account
from connector_mcp.engine.engine import Engine
from connector_mcp.engine.policy import Policy
from connector_mcp.errors import Misconfigured
from connector_mcp.json_values import JsonObject
from connector_mcp.operations.catalog import platform_folder
from connector_mcp.operations.operation import Effect, Operation, Record
from connector_mcp.operations.platform import POST
from connector_mcp.secrets.collection import Secrets
from connector_mcp.secrets.encrypted import EncryptedFile, KeyFile
from connector_mcp.secrets.reference import SecretLimits, Use
from connector_mcp.secrets.sources import EnvironmentSource
from connector_mcp.state.sqlite import SqliteDatabase
from connector_mcp.upstream.client import UpstreamClient
from tests.engine.conftest import FakeCaller

pytestmark = pytest.mark.anyio
MINTED = 'minted-"credential'
NAME = "versori_create_key-crm-1"


class CreatedKey(Record):
    """The credential, and whatever else the platform answers."""

    credential: JsonObject | None = None


class CreateKey(Operation):
    """Make a key for a connector. The platform shows it once."""

    on = platform_folder("versori").platform
    http = POST("/connectors/{connector_id}/keys")
    effect = Effect.CREATE
    output = CreatedKey
    mints = ("credential.key",)
    connector_id: str


class House:
    """An engine whose platform answers each call with a new credential, and a secret store."""

    def __init__(self, folder: Path, *, with_store: bool = True, environ: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.sent = 0
        self.answer: Any = {"credential": {"key": MINTED}, "note": f"keep {MINTED}"}
        self.secret_store = EncryptedFile(folder / "secrets.enc", KeyFile(folder / "secrets.key"))
        sources = (EnvironmentSource(environ or {}), self.secret_store)
        self.secrets = Secrets(sources, store=self.secret_store if with_store else None)
        values = {"VERSORI_API_KEY": "versori-key", "VERSORI_ORGANISATION_ID": "org"}
        client = UpstreamClient(platform_folder("versori").platform, values, transport=httpx.MockTransport(self._take))
        database = SqliteDatabase(folder / "records.db")
        self.engine = Engine(
            Settings.load({}, state_dir=folder),
            {CreateKey.tool_name(): CreateKey},
            [Account(platform=platform_folder("versori").platform, client=client, options={})],
            policy=Policy.parse("", read_only=False, transport="stdio"),
            database=database,
            audit=AuditTrail(database),
            secrets=self.secrets,
        )

    def _take(self, _: httpx.Request) -> httpx.Response:
        self.sent += 1
        return httpx.Response(201, json=self.answer)

    async def create(self, caller: Any, connector: str = "crm/1") -> Any:
        content = (await self.engine.call(CreateKey.tool_name(), {"connector_id": connector}, caller)).content
        kept = b"".join(path.read_bytes() for path in self.folder.iterdir()).decode("latin-1")
        for text in (json.dumps(content), kept, self.engine.scrub(f"a log of {MINTED}") if self.sent else ""):
            assert "minted-" not in text
        return content


async def test_a_minted_credential_goes_to_the_store_and_the_result_names_it(tmp_path: Path) -> None:
    house = House(tmp_path)
    assert (await house.create(FakeCaller()))["data"]["credential"] == {"key": f"secret://{NAME}"}
    assert house.secrets.find(NAME, Use("versori", "default", "config.apiToken")).value == MINTED
    assert house.secret_store.limits(NAME) == SecretLimits(platforms=("versori",), profiles=("default",))
    await house.engine.aclose()


async def test_no_other_secret_is_overwritten_or_hidden_by_a_new_one(tmp_path: Path) -> None:
    house = House(tmp_path, environ={f"CONNECTOR_MCP_SECRET_{NAME}-2": "of-the-environment"})
    house.secret_store.put(NAME, "of-the-store", SecretLimits())
    name = (await house.create(FakeCaller()))["data"]["credential"]["key"].removeprefix("secret://")
    assert name not in (NAME, *house.secrets.sources[0].names())
    assert house.secret_store.read(NAME) == "of-the-store"
    assert house.secrets.find(name, Use("versori", "default", "x")).value == MINTED
    await house.engine.aclose()


@pytest.mark.parametrize("with_store", [False, True], ids=["no store", "one that is damaged"])
async def test_without_a_store_that_takes_it_nothing_is_minted(with_store: bool, tmp_path: Path) -> None:
    house = House(tmp_path, with_store=with_store)
    house.secret_store.path.write_text("?")
    assert ((await house.create(FakeCaller()))["error"]["code"], house.sent) == ("misconfigured", 0)
    await house.engine.aclose()


async def test_a_credential_that_cannot_be_stored_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(tmp_path)

    def full(*_: Any, **__: Any) -> bool:
        raise Misconfigured("The secret store cannot be used: the disk is full.", fix="Make room.")

    monkeypatch.setattr(house.secret_store, "put", full)
    content = await house.create(FakeCaller())
    assert (content["data"]["credential"]["key"], house.sent) == ("[redacted]", 1)
    (warning,) = [text for text in content["meta"]["warnings"] if "lost" in text]
    assert "the disk is full. Create another one" in warning
    await house.engine.aclose()


@pytest.mark.parametrize(("given", "said"), [({"key": {"part": MINTED}}, "it is not text"), ({}, "has no credential")])
async def test_an_unexpected_answer_shows_nothing_and_warns(given: Any, said: str, tmp_path: Path) -> None:
    house = House(tmp_path)
    house.answer = {"credential": given}
    content = (await house.engine.call(CreateKey.tool_name(), {"connector_id": "c"}, FakeCaller())).content
    assert MINTED not in json.dumps(content)
    assert said in " ".join(content["meta"]["warnings"])
    await house.engine.aclose()
