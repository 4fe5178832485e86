"""The example of a client's configuration says what is true."""

import json
import re
from pathlib import Path

import pytest

from connector_mcp.config.platform_variables import missing, platform_values
from connector_mcp.errors import Misconfigured
from connector_mcp.operations.catalog import PLATFORMS, platform_folder

EXAMPLE = json.loads((Path(__file__).parents[2] / "claude_config_example.json").read_text())["mcpServers"]


def test_the_first_entry_needs_no_credentials():
    entry = EXAMPLE["connectors-sandbox"]
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


def test_there_is_a_remote_entry_for_each_http_transport():
    remote = {entry["type"]: entry["url"] for entry in EXAMPLE.values() if "url" in entry}
    assert {kind: url.rpartition("/")[2] for kind, url in remote.items()} == {"http": "mcp", "sse": "sse"}
