"""`server.json`, by which the MCP registry and its clients know the package, says what the code does."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest
from jsonschema import Draft7Validator

from connector_mcp import __version__
from connector_mcp.cli.main import cli
from connector_mcp.config.settings import PREFIX, Settings, is_secret
from connector_mcp.operations.catalog import PLATFORMS, platform_folder
from tests.documents import ROOT
from tools.pages import attribute_docstrings

MANIFEST: dict[str, Any] = json.loads((ROOT / "server.json").read_text())
PACKAGE: dict[str, Any] = MANIFEST["packages"][0]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
GIVEN: dict[str, dict[str, Any]] = {each["name"]: each for each in PACKAGE["environmentVariables"]}

TEXT: dict[str, Any] = {"type": "string"}


def shape(required: str = "", **members: Any) -> dict[str, Any]:
    """An object with these members and no other, so that a misspelled one is found."""
    return {"type": "object", "properties": members, "required": required.split(), "additionalProperties": False}


def many(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


INPUT = {
    **dict.fromkeys(("description", "default", "placeholder", "value"), TEXT),
    "isRequired": {"type": "boolean"},
    "isSecret": {"type": "boolean"},
    "format": {"enum": ["string", "number", "boolean", "filepath"]},
    "choices": many(TEXT),
}
VARIABLES = {"type": "object", "additionalProperties": shape(**INPUT)}
NAMED = shape("name", name=TEXT, variables=VARIABLES, **INPUT)
POSITIONAL = shape("type value", type={"const": "positional"}, valueHint=TEXT, variables=VARIABLES, **INPUT)
URI: dict[str, Any] = {"type": "string", "pattern": "^https://"}
LENGTH_100: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": 100}
SERVER = shape(
    "$schema name description version",
    **{"$schema": {"const": "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json"}},
    name={"type": "string", "minLength": 3, "maxLength": 200, "pattern": r"^[a-zA-Z0-9.-]+/[a-zA-Z0-9._-]+$"},
    title=LENGTH_100,
    description=LENGTH_100,
    version={"type": "string", "maxLength": 255, "pattern": r"^\d+\.\d+\.\d+$"},
    websiteUrl=URI,
    repository=shape("url source", url=URI, source=TEXT, id=TEXT, subfolder=TEXT),
    icons=many(
        shape(
            "src",
            src={**URI, "maxLength": 255},
            mimeType={"enum": ["image/png", "image/jpeg", "image/jpg", "image/svg+xml", "image/webp"]},
            sizes=many({"type": "string", "pattern": r"^(\d+x\d+|any)$"}),
            theme={"enum": ["light", "dark"]},
        )
    ),
    packages=many(
        shape(
            "registryType identifier transport",
            **dict.fromkeys(("registryType", "identifier", "runtimeHint"), TEXT),
            version={"type": "string", "minLength": 1, "not": {"const": "latest"}},
            transport=shape("type", type={"const": "stdio"}),
            packageArguments=many(POSITIONAL),
            environmentVariables=many(NAMED),
        )
    ),
    remotes=many(
        shape("type url", type={"enum": ["streamable-http", "sse"]}, url=URI, headers=many(NAMED), variables=VARIABLES)
    ),
)
"""The registry's schema of 2025-12-11 as far as the file uses it, stricter where the registry itself is: no range for a
version, and only https."""


def test_the_registrys_schema_takes_it() -> None:
    Draft7Validator.check_schema(SERVER)
    assert [f"{error.json_path}: {error.message}" for error in Draft7Validator(SERVER).iter_errors(MANIFEST)] == []


def test_its_icon_and_its_repository_are_those_of_the_project() -> None:
    address = PROJECT["urls"]["Repository"]
    assert MANIFEST["repository"]["url"] == MANIFEST["websiteUrl"] == address
    (icon,) = MANIFEST["icons"]
    path = icon["src"].removeprefix(f"{address}/raw/main/")
    assert (ROOT / path).read_bytes().startswith(b"\x89PNG")


def test_name_and_version_are_those_of_the_package() -> None:
    assert MANIFEST["version"] == PACKAGE["version"] == PROJECT["version"] == __version__
    assert (PACKAGE["registryType"], PACKAGE["identifier"]) == ("pypi", PROJECT["name"])
    # The registry wants the name within the package's own description as proof of the owner.
    assert f"mcp-name: {MANIFEST['name']} " in (ROOT / PROJECT["readme"]).read_text()


def test_its_arguments_start_the_server_over_stdio() -> None:
    command, *arguments = [argument["value"] for argument in PACKAGE["packageArguments"]]
    found = cli.get_command(cli.make_context("connector-mcp", [command], resilient_parsing=True), command)
    assert PACKAGE["transport"] == {"type": "stdio"}
    assert found is not None
    assert found.make_context(command, arguments).params["http"] is False
    assert PROJECT["scripts"] == {PACKAGE["identifier"]: "connector_mcp.cli.main:main"}


@pytest.mark.parametrize("name", PLATFORMS)
def test_every_variable_of_a_platform_is_in_it_as_it_is_declared(name: str) -> None:
    platform = platform_folder(name).platform
    for variable in platform.variables:
        given = GIVEN[variable.name]
        assert given["description"] == f"{platform.title}: {variable.help}"
        assert given["isSecret"] is variable.secret
        assert (given.get("default"), tuple(given.get("choices", ()))) == (variable.default, variable.choices)
        # One platform is enough.
        assert given["isRequired"] is False


def test_every_other_variable_is_a_setting_of_the_server() -> None:
    declared = {variable.name for name in PLATFORMS for variable in platform_folder(name).platform.variables}
    words = attribute_docstrings(Settings)
    others = {name.removeprefix(PREFIX).lower(): given for name, given in GIVEN.items() if name not in declared}
    assert others
    for field, given in others.items():
        assert given["description"] == words[field]
        assert given["isSecret"] is is_secret(field)


def test_its_addresses_are_those_that_the_server_has_over_http() -> None:
    addresses = {remote["type"]: remote["url"] for remote in MANIFEST["remotes"]}
    assert addresses == {"streamable-http": "https://{host}/mcp", "sse": "https://{host}/sse"}
    for remote in MANIFEST["remotes"]:
        (header,) = remote["headers"]
        assert (header["name"], header["value"], header["isSecret"]) == ("Authorization", "Bearer {token}", True)
        assert header["variables"]["token"]["isSecret"] is True
