"""The example of a client's configuration says what is true."""

import json
import re
from pathlib import Path

import pytest

from connector_mcp.composition.accounts import missing, platform_values
from connector_mcp.errors import Misconfigured
from connector_mcp.operations.catalog import PLATFORMS, catalog, platform_folder
from connector_mcp.operations.local import LIST_SECRETS
from tests.documents import DOCUMENTS

EXAMPLE = json.loads((Path(__file__).parents[2] / "claude_config_example.json").read_text())["mcpServers"]


def test_the_first_entry_needs_no_credentials():
    entry = EXAMPLE["sandbox"]
    assert entry["command"] == "connector-mcp"
    assert entry["args"] == ["serve", "--sandbox"]
    assert "env" not in entry


def test_the_second_entry_configures_every_platform():
    variables = {name: re.sub("<[^<>]+>", "x", value) for name, value in EXAMPLE["connectors"]["env"].items()}
    for name in PLATFORMS:
        platform = platform_folder(name).platform
        assert not missing(platform, platform_values(platform, variables))
        with pytest.raises(Misconfigured, match="placeholder"):
            platform_values(platform, EXAMPLE["connectors"]["env"])


def test_every_tool_has_a_name_that_clients_take_under_the_names_of_servers_that_are_shown():
    # Clients call a tool mcp__SERVER__TOOL, and model APIs take 64 characters.
    shown = "\n".join(document.text for document in DOCUMENTS)
    servers = {*EXAMPLE, *re.findall(r"claude mcp add (?:--?\w[\w-]* \w+ )*([\w-]+)", shown)}
    blocks = (json.loads(block.text) for document in DOCUMENTS for block in document.blocks("json"))
    servers |= {name for block in blocks for entries in ("mcpServers", "servers") for name in block.get(entries, ())}
    assert {"connectors", "connectors-sse"} <= servers
    names = [f"mcp__{server}__{tool}" for server in servers for tool in (*catalog(), LIST_SECRETS)]
    assert [name for name in names if len(name) > 64] == []


def test_there_is_a_remote_entry_for_each_http_transport():
    remote = {entry["type"]: entry["url"] for entry in EXAMPLE.values() if "url" in entry}
    assert {kind: url.rpartition("/")[2] for kind, url in remote.items()} == {"http": "mcp", "sse": "sse"}
