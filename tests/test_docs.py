"""The documents are true: commands print what is shown, files and names exist, and nothing is left out."""

from __future__ import annotations

import inspect
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import httpx
import pytest

import connector_mcp.operations
from connector_mcp import __version__
from connector_mcp.audit.trail import AuditTrail
from connector_mcp.cli.commands.serve import serve
from connector_mcp.cli.main import COMMANDS, cli
from connector_mcp.cli.terminal import CliCaller
from connector_mcp.composition.engine import open_engine
from connector_mcp.config.file import read_config
from connector_mcp.config.settings import PREFIX, Settings
from connector_mcp.engine.accounts import Account
from connector_mcp.engine.approval.approval_webhook import WebhookKey, webhook_message
from connector_mcp.engine.approval.parked_call import Approval
from connector_mcp.engine.caller import Caller
from connector_mcp.engine.engine import Engine
from connector_mcp.engine.policy import Policy
from connector_mcp.errors import ConnectorError
from connector_mcp.operations.catalog import PLATFORMS, catalog, platform_folder, toolsets
from connector_mcp.state.sqlite import SqliteDatabase
from connector_mcp.transport.auth.static_tokens import parse_tokens
from connector_mcp.transport.http.approval_callback import CallbackBody
from connector_mcp.upstream.client import UpstreamClient
from tests.console_blocks import Session, steps
from tests.documents import BY_NAME, DOCUMENTS, PACKAGE, ROOT, Document, settings_shown
from tests.for_each import for_each
from tests.operations import test_every_operation as guards
from tools.pages import attribute_docstrings, error_meanings

LANGUAGES = {"console", "json", "mermaid", "nginx", "python", "sh", "toml", "yaml"}
SETTINGS = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
VARIABLES = {variable.name for name in PLATFORMS for variable in platform_folder(name).platform.variables}
OF_CLIENTS = {"claude_desktop_config.json", "~/.cursor/mcp.json", ".vscode/mcp.json", "connector-mcp.toml"}
OF_CLIENTS |= {"~/.claude.json", ".cursor/mcp.json", "mcp.json", "~/.codex/config.toml", "~/.gemini/settings.json"}
OF_CLIENTS |= {"config.toml", "settings.json", "mcp-config.json", "opencode.json", "cline_mcp_settings.json"}
"""Files that documents name and that are a user's own."""

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SIGNING = WebhookKey.parse(SECRET, "SETTING")

WITH_ENTRIES = [document for document in DOCUMENTS if document.name.startswith(("README", "docs/clients/"))]

every_document = for_each("document", DOCUMENTS, ids=lambda document: document.name)


# Commands ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Session:
    for name in os.environ:
        if name.startswith((PREFIX, *(f"{platform.upper()}_" for platform in PLATFORMS))):
            monkeypatch.delenv(name)
    monkeypatch.setenv("CONNECTOR_MCP_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.chdir(tmp_path)
    return Session(dict(os.environ), tmp_path)


@pytest.mark.parametrize("name", [document.name for document in DOCUMENTS if document.blocks("console")])
def test_a_command_prints_what_is_shown(name: str, session: Session) -> None:
    for block in BY_NAME[name].blocks():
        if block.language == "yaml":
            # Its first line is a comment with the name of the file.
            (session.folder / block.text.splitlines()[0].removeprefix("# ")).write_text(block.text)
        for step in steps(block.text) if block.language == "console" else ():
            session.run(step)


def test_a_session_that_prints_something_else_is_noticed(session: Session) -> None:
    (step,) = steps("$ connector-mcp approvals list\nNo call … without an end.\n")
    with pytest.raises(AssertionError, match="No call waits for an operator"):
        session.run(step)


@every_document
def test_every_block_is_of_a_language_that_is_checked(document: Document) -> None:
    assert {block.language for block in document.blocks()} <= LANGUAGES


@every_document
def test_every_command_named_exists_and_takes_the_flags_it_is_named_with(document: Document) -> None:
    shown = [line for block in document.blocks("sh") for line in block.text.splitlines()]
    for line in (*shown, *document.inline_code()):
        for words in re.findall(r"(?:^|[/ ])connector-mcp (?!connector-mcp )((?:[\w-]+ ?)+)", line):
            assert _resolve(words.split()), line
    flags = {option for command in _commands() for parameter in command.params for option in parameter.opts}
    named = {flag for code in document.inline_code() for flag in re.findall(r"(?<![\w-])--[a-z][\w-]*", code)}
    assert named <= flags | {"--help"}


@every_document
def test_every_make_target_named_exists(document: Document) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown = [line.partition("#")[0] for block in document.blocks("sh") for line in block.text.splitlines()]
    made = [line.split()[1:] for line in (*shown, *document.inline_code()) if line.startswith("make ")]
    assert {target for words in made for target in words} <= targets


def _commands() -> Iterator[click.Command]:
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        yield command
        yield from command.commands.values() if isinstance(command, click.Group) else ()


def _resolve(words: list[str]) -> bool:
    """Whether the words begin with a command of connector-mcp and, if it is a group, one of its subcommands."""
    command = cli.get_command(click.Context(cli), words[0])
    if isinstance(command, click.Group) and len(words) > 1:
        return words[1] in command.commands
    return command is not None


# Configurations of clients -------------------------------------------------------------------------------------------


@every_document
def test_every_json_block_is_json(document: Document) -> None:
    for block in document.blocks("json"):
        json.loads(block.text)


@every_document
def test_every_file_of_settings_shown_is_one_that_the_server_takes(document: Document, tmp_path: Path) -> None:
    for block in document.blocks("toml"):
        if "[[token]]" in block.text:
            assert parse_tokens(block.text, document.name, scoped="scopes" in block.text)
        elif "[mcp_servers." not in block.text:
            assert settings_shown(block, tmp_path) != Settings.load({})


@every_document
def test_every_setting_that_is_exported_is_one_that_the_server_takes(document: Document) -> None:
    shown = "".join(block.text for block in document.blocks("sh"))
    exported = dict(re.findall(rf"^export ({PREFIX}\w+)=(\S+)$", shown, re.MULTILINE))
    assert len(exported) == shown.count(f"export {PREFIX}")
    assert not exported or Settings.load(exported) != Settings.load({})


@pytest.mark.parametrize(
    "configuration",
    [
        json.loads((ROOT / "claude_config_example.json").read_text()),
        *(json.loads(block.text) for document in WITH_ENTRIES for block in document.blocks("json")),
    ],
)
def test_an_entry_for_a_client_is_one_that_the_server_takes(configuration: dict[str, Any]) -> None:
    entries = configuration.get("mcpServers") or configuration["servers"]
    for entry in entries.values():
        if "url" in entry:
            assert entry["url"].endswith({"http": "/mcp", "sse": "/sse"}[entry["type"]])
            assert entry["headers"]["Authorization"].startswith("Bearer ")
            continue
        assert entry["command"] == "connector-mcp"
        assert entry["args"][0] == "serve"
        serve.make_context("serve", entry["args"][1:])
        assert entry.get("env", {}).keys() <= SETTINGS | VARIABLES


# Names ---------------------------------------------------------------------------------------------------------------


@every_document
def test_every_link_leads_somewhere(document: Document) -> None:
    for link in document.links():
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        file = (document.path.parent / path).resolve() if path else document.path
        assert file.exists(), link
        if anchor:
            assert anchor in Document(file).anchors(), link


@every_document
def test_every_file_named_exists(document: Document) -> None:
    for name in document.inline_code():
        if not re.fullmatch(r"[~\w./-]+(\.(py|md|json|toml)|/)", name) or name.startswith("/") or name in OF_CLIENTS:
            continue
        places = (ROOT, PACKAGE, document.path.parent, PACKAGE / "engine", PACKAGE / "cli")
        declared = name == "connector_types.json" or name.startswith("server/connector_mcp/operations/acme/")
        assert declared or any((place / name).exists() for place in places), name


@every_document
def test_every_variable_named_exists(document: Document) -> None:
    known = SETTINGS | VARIABLES | {f"{PREFIX}SECRET_", PREFIX, f"{PREFIX}*"}
    prefixes = "|".join((PREFIX, *(f"{platform.upper()}_" for platform in PLATFORMS)))
    named = set(re.findall(rf"\b(?:{prefixes})[A-Z_]*\*?", document.text))
    assert named <= known


@every_document
def test_every_tool_named_exists(document: Document) -> None:
    named = {code for code in document.inline_code() if re.fullmatch(rf"({'|'.join(PLATFORMS)})_\w+", code)}
    assert named <= set(catalog())


# Nothing is left out -------------------------------------------------------------------------------------------------


def test_every_setting_is_documented_in_words() -> None:
    assert all(attribute_docstrings(Settings).values())
    assert set(BY_NAME["docs/configuration.md"].inline_code()) >= SETTINGS | VARIABLES


def test_every_default_that_is_documented_is_the_default() -> None:
    rows = re.findall(
        rf"^\| `({PREFIX}\w+)` \|[^|]*\|[^|]*\| `([^`]+)` \|", BY_NAME["docs/configuration.md"].text, re.M
    )
    assert len(rows) > 20
    assert Settings.load(dict(rows)).model_dump() == Settings.load({}).model_dump()


def test_every_tool_is_documented() -> None:
    assert set(catalog()) <= set(BY_NAME["docs/tools.md"].inline_code())


def test_every_toolset_is_named_where_people_begin() -> None:
    named = {code for code in BY_NAME["README.md"].inline_code() if re.match(rf"({'|'.join(PLATFORMS)})\.", code)}
    assert named == set(toolsets())


def test_every_error_code_is_documented_where_the_errors_are_drawn_and_where_they_are_read() -> None:
    drawn = [kind for kind, _ in error_meanings()]
    codes = {kind.code for kind in _leaves(ConnectorError)}
    assert {kind.code for kind in drawn} == codes
    assert {kind for kind in drawn if kind.code in codes} == set(_leaves(ConnectorError))
    assert codes <= set(BY_NAME["docs/errors.md"].inline_code())
    explained = re.findall(r"^### `(\w+)`\n\n\S", BY_NAME["docs/troubleshooting.md"].prose, re.MULTILINE)
    assert sorted(explained) == sorted(codes)


def test_the_page_of_the_architecture_names_every_layer_and_no_other() -> None:
    page = BY_NAME["docs/architecture.md"]
    layers = {f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")}
    drawn = {name for block in page.blocks("mermaid") for name in re.findall(r"\b\w+/", block.text)}
    assert drawn == layers - {"config/"}
    assert "config/" in page.inline_code()


def test_every_call_that_may_turn_out_to_destroy_is_on_the_page_of_safety() -> None:
    detecting = {name for name, operation in catalog().items() if operation.can_destroy}
    rows = set(re.findall(r"^\| `(\w+)` \|", BY_NAME["docs/safety.md"].text, re.MULTILINE))
    assert rows >= detecting
    assert rows & set(catalog()) == detecting


def test_the_changelog_is_about_this_version_and_has_each_kind_of_change_once() -> None:
    text = BY_NAME["CHANGELOG.md"].text
    assert __version__ in text
    for section in text.split("\n## ")[1:]:
        kinds = re.findall(r"^### (\w+)$", section, re.MULTILINE)
        assert kinds == [kind for kind in ("Added", "Changed", "Removed", "Fixed", "Security") if kind in kinds]


def _leaves(root: type[ConnectorError]) -> Iterator[type[ConnectorError]]:
    for child in root.__subclasses__():
        if child.__module__ == ConnectorError.__module__:
            # A kind of failure without a code of its own is told under its parent's.
            inner = list(_leaves(child))
            if not any("code" in vars(leaf) for leaf in inner):
                yield child
            yield from inner


# Webhooks ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def receiver() -> dict[str, Any]:
    """What the page of approvals shows of the other system."""
    names: dict[str, Any] = {}
    for block in BY_NAME["docs/approvals.md"].blocks("python"):
        exec(compile(block.text, "docs/approvals.md", "exec"), names)  # noqa: S102
    return names


def test_the_receiver_that_is_shown_reads_only_signed_announcements(receiver: dict[str, Any]) -> None:
    body = json.dumps({"data": {"id": "ap-7mk2qd"}}).encode()
    now = int(time.time())
    assert receiver["read_announcement"](SECRET, SIGNING.headers("m", now, body.decode()), body) == {"id": "ap-7mk2qd"}
    for headers, sent in (
        (SIGNING.headers("m", now, body.decode()), body + b" "),
        (SIGNING.headers("m", now - 1000, body.decode()), body),
        (WebhookKey(b"another").headers("m", now, body.decode()), body),
    ):
        with pytest.raises(PermissionError):
            receiver["read_announcement"](SECRET, headers, sent)


def test_the_decision_that_is_shown_is_one_that_the_server_takes(receiver: dict[str, Any]) -> None:
    headers, body = receiver["make_decision"](SECRET, "ap-7mk2qd", "approve", "ana", "seen")
    assert SIGNING.verify(headers.items(), body)
    decision = CallbackBody(id="ap-7mk2qd", decision="approve", by="ana", reason="seen")
    assert CallbackBody.model_validate_json(body) == decision


def test_the_announcement_that_is_shown_has_the_members_of_a_real_one() -> None:
    (block,) = BY_NAME["docs/approvals.md"].blocks("json")
    shown = json.loads(block.text)
    times = {"created_at": 0.0, "expires_at": 1.0}
    told = {**shown["data"], **times, "digest": ""}
    real = webhook_message(Approval.model_validate(told), "https://mcp.example.com/approvals")
    moments = {name: value for name, value in shown["data"].items() if name in times}
    assert {**real["data"], **moments} == shown["data"]
    assert real.keys() == shown.keys()


# A server for several teams ------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_the_caller_that_is_bound_in_the_example_sees_the_accounts_of_its_team_only(tmp_path: Path) -> None:
    shared, entry = (block.text for block in BY_NAME["docs/profiles.md"].blocks("toml")[-2:])
    (path := tmp_path / "connector-mcp.toml").write_text(shared)
    (token,) = parse_tokens(entry, "tokens.toml", scoped=True)
    given = {"CONNECTOR_MCP_STATE_DIR": str(tmp_path), "CONNECTOR_MCP_SANDBOX": "true"}
    bound = Caller(token.name, "http", token.scopes, profiles=token.profiles)
    async with open_engine(Settings.load(given, read_config(path)), {}, "http") as engine:
        found = await engine.call("find_connectors", {"limit": 100}, bound)
        own = await engine.call("vectorize_get_source_connectors", {}, bound)
        other = await engine.call("vectorize_get_source_connectors", {"profile": "support"}, bound)
        shown = {tool.name: tool for tool in engine.tools(bound)}
    assert {row["profile"] for row in found.content["data"]} == {"payments"}
    assert own.content["meta"]["profile"] == "payments"
    assert other.content["error"]["code"] == "invalid_arguments"
    assert "support" not in other.content["error"]["issues"][0]["wanted"]
    assert not any(name.startswith("logto_") for name in shown)


# The worked example --------------------------------------------------------------------------------------------------


@pytest.fixture
def acme(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """The folder of the example's files, as the package `connector_mcp.operations.acme`."""
    for block in BY_NAME["docs/adding-a-platform.md"].blocks("python"):
        name, _, text = block.text.removeprefix("# ").partition("\n")
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    monkeypatch.setattr(connector_mcp.operations, "__path__", [*connector_mcp.operations.__path__, str(tmp_path)])
    yield tmp_path
    platform_folder.cache_clear()
    for module in [name for name in sys.modules if name.startswith("connector_mcp.operations.acme")]:
        del sys.modules[module]


def test_the_example_passes_its_own_test(acme: Path) -> None:
    module = ModuleType("test_acme")
    exec(compile((acme / "test_acme.py").read_text(), "test_acme.py", "exec"), module.__dict__)  # noqa: S102
    tests = [member for name, member in vars(module).items() if name.startswith("test_")]
    assert len(tests) == 2
    for test in tests:
        test()


def test_the_example_holds_to_what_is_true_of_every_operation(acme: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    operations = catalog(["acme"])
    monkeypatch.setattr(guards, "OPERATIONS", operations)
    monkeypatch.setattr(guards, "TENANTS", {"workspace_id"})
    tests = [inspect.unwrap(member) for name, member in vars(guards).items() if name.startswith("test_")]
    checks = [test for test in tests if list(inspect.signature(test).parameters) == ["name"]]
    assert len(checks) >= 8
    for check in checks:
        for name in operations:
            check(name)


@pytest.mark.anyio
async def test_the_deletion_of_the_example_waits_for_an_operator_and_is_verified(acme: Path) -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(f"{request.method} {request.url.raw_path.decode()}")
        assert request.headers["Authorization"] == "Bearer acme-key-000"
        if "DELETE /v2/workspaces/ws_1/webhooks/wh%201" in seen:
            error = {"error": {"code": "gone", "message": "No such webhook"}}
            return httpx.Response(204) if request.method == "DELETE" else httpx.Response(404, json=error)
        return httpx.Response(200, json={"id": "wh 1", "name": "Orders", "secret": "s3cret-of-the-webhook"})

    async with aclosing(_engine(acme, httpx.MockTransport(answer))) as engine:
        read = await engine.call("acme_get_webhook", {"webhook_id": "wh 1"}, CliCaller(can_ask=False))
        parked = await engine.call("acme_delete_webhook", {"webhook_id": "wh 1"}, CliCaller(can_ask=False))
        sent_before = list(seen)
        await engine.approvals.decide(parked.content["error"]["approval"]["id"], True, "operator")
        deleted = await engine.call("acme_delete_webhook", {"webhook_id": "wh 1"}, CliCaller(can_ask=False))

    assert read.content["data"] == {"id": "wh 1", "name": "Orders", "secret": "[redacted]"}
    assert parked.content["error"]["code"] == "approval_required"
    assert parked.content["error"]["effect"].startswith("Deletes webhook “Orders”;")
    assert {sent.split()[0] for sent in sent_before} == {"GET"}
    assert deleted.content["meta"]["verified"] is True


@pytest.mark.anyio
@pytest.mark.parametrize(("url", "works"), [("https://shop.example/hook", None), ("", False)])
async def test_the_webhooks_of_the_example_are_found_and_checked(acme: Path, url: str, works: bool | None) -> None:
    webhook = {"id": "wh_1", "name": "Orders", "url": url}
    listed = httpx.MockTransport(lambda _: httpx.Response(200, json={"webhooks": [webhook]}))
    async with aclosing(_engine(acme, listed)) as engine:
        found = await engine.call("find_connectors", {"name": "orders"}, CliCaller(can_ask=False))
    shown = {"platform": "acme", "kind": "webhook", "id": "wh_1", "name": "Orders"}
    assert found.content["data"][0].items() >= shown.items()
    check = platform_folder("acme").overview.checks["webhook"]("wh_1", "")
    (asked,) = next(check)
    assert (asked.operation.tool_name(), asked.arguments) == ("acme_get_webhook", {"webhook_id": "wh_1"})
    with pytest.raises(StopIteration) as ended:
        check.send([webhook])
    assert ended.value.value.works is works


def _engine(folder: Path, transport: httpx.MockTransport) -> Engine:
    settings = Settings(state_dir=folder / "state")
    operations = catalog(["acme"])
    platform = platform_folder("acme").platform
    values = {"ACME_API_KEY": "acme-key-000", "ACME_WORKSPACE_ID": "ws_1"}
    client = UpstreamClient(platform, values, transport=transport)
    account = Account(platform=platform, client=client, options={"ACME_WORKSPACE_ID": "ws_1"})
    policy = Policy.parse("", read_only=False, transport="http", tools=operations)
    database = SqliteDatabase(folder / "state" / "records.db")
    return Engine(settings, operations, [account], policy=policy, database=database, audit=AuditTrail(database))
