"""Generated files are written completely, and the check names those that are not up to date."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from connector_mcp.operations.catalog import catalog
from connector_mcp.provisioning.manifest import manifest_schema
from tools.generate import FOLDERS, main

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("what", "folder"), FOLDERS.items())
def test_the_generated_files_are_up_to_date(what: str, folder: str, capsys: pytest.CaptureFixture[str]):
    assert main([what, "--check", "--out", str(ROOT / folder)]) == 0, capsys.readouterr().err


def test_there_is_one_file_a_tool_with_tenant_arguments_and_writing_again_changes_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    main(["schemas", "--out", str(tmp_path)])
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.json")}
    main(["schemas", "--out", str(tmp_path)])
    assert capsys.readouterr().out.endswith(", 0 changed\n")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.json")} == before
    files = {path.relative_to(tmp_path).as_posix(): json.loads(path.read_text()) for path in tmp_path.rglob("*.json")}
    assert files.pop("manifest.schema.json") == manifest_schema()
    assert {contract["name"] for contract in files.values()} == set(catalog())
    assert files["connectors/describe_connector_type.json"]["annotations"]["openWorldHint"] is False
    described = files["versori/versori_get_connector.json"]
    assert list(described) == ["annotations", "description", "inputSchema", "name", "outputSchema", "title"]
    assert "organisation_id" in described["inputSchema"]["properties"]


def test_the_check_names_stale_files_that_writing_removes(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    main(["schemas", "--out", str(tmp_path)])
    (other := tmp_path / "README.md").write_text("kept")
    (stale := tmp_path / "acme" / "acme_get_connector.json").parent.mkdir()
    stale.write_text("{}")
    (tmp_path / "logto" / "logto_get_connector.json").write_text("{}")
    (tmp_path / "logto" / "logto_list_connectors.json").unlink()
    (tmp_path / "logto" / "logto_forget_connector.json").write_text("{}")
    status = main(["schemas", "--check", "--out", str(tmp_path)])
    message = capsys.readouterr().err
    assert status == 1
    for name in ("logto_get_connector", "logto_list_connectors", "logto_forget_connector"):
        assert f"{name}.json" in message
    assert "versori_get_connector" not in message
    main(["schemas", "--out", str(tmp_path)])
    assert not stale.parent.exists()
    assert other.read_text() == "kept"


def test_the_page_names_every_tool_and_every_variable(tmp_path: Path):
    main(["docs", "--out", str(tmp_path)])
    page = (tmp_path / "tools.md").read_text()
    assert all(f"`{name}`" in page for name in catalog())
    assert "`VECTORIZE_API_KEY`" in page
    assert "`DELETE /api/connectors/{id}`" in page
