"""`connector-mcp schemas` and `docs`: generated files, and their drift."""

import json
from pathlib import Path

from connector_mcp.operations.catalog import catalog

ROOT = Path(__file__).parents[2]


def test_the_published_contract_is_what_the_declarations_give(run):
    result = run("schemas", "--check", "--out", str(ROOT / "tool_schemas"))

    assert result.exit_code == 0, result.stderr


def test_the_page_of_tools_is_what_the_declarations_give(run):
    result = run("docs", "--check", "--out", str(ROOT / "docs"))

    assert result.exit_code == 0, result.stderr


def test_there_is_one_file_a_tool_under_its_platform_with_tenant_arguments(run, tmp_path):
    run("schemas", "--out", str(tmp_path))

    files = {path.relative_to(tmp_path).as_posix(): json.loads(path.read_text()) for path in tmp_path.rglob("*.json")}
    assert {contract["name"] for contract in files.values()} == set(catalog())
    assert files["connectors/describe_connector_type.json"]["annotations"]["openWorldHint"] is False
    described = files["versori/versori_get_connector.json"]
    assert list(described) == ["annotations", "description", "inputSchema", "name", "outputSchema"]
    assert "organisation_id" in described["inputSchema"]["properties"]


def test_writing_again_changes_nothing(run, tmp_path):
    run("schemas", "--out", str(tmp_path))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.json")}

    assert run("schemas", "--out", str(tmp_path)).stdout.endswith(", 0 changed\n")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.json")} == before


def test_the_check_names_files_that_differ_are_missing_or_are_too_many(run, tmp_path):
    run("schemas", "--out", str(tmp_path))
    (tmp_path / "logto" / "logto_get_connector.json").write_text("{}")
    (tmp_path / "logto" / "logto_list_connectors.json").unlink()
    (tmp_path / "logto" / "logto_forget_connector.json").write_text("{}")

    result = run("schemas", "--check", "--out", str(tmp_path))

    assert result.exit_code == 1
    for name in ("logto_get_connector", "logto_list_connectors", "logto_forget_connector"):
        assert f"{name}.json" in result.stderr
    assert "versori_get_connector" not in result.stderr


def test_writing_removes_the_files_and_folders_of_tools_that_are_no_more(run, tmp_path):
    stale = tmp_path / "acme" / "acme_get_connector.json"
    stale.parent.mkdir()
    stale.write_text("{}")
    other = tmp_path / "README.md"
    other.write_text("kept")

    run("schemas", "--out", str(tmp_path))

    assert not stale.parent.exists()
    assert other.read_text() == "kept"


def test_the_page_names_every_tool_and_every_variable(run, tmp_path):
    run("docs", "--out", str(tmp_path))

    page = (tmp_path / "tools.md").read_text()
    assert all(f"`{name}`" in page for name in catalog())
    assert "`VECTORIZE_API_KEY`" in page
    assert "`DELETE /api/connectors/{id}`" in page
