"""How registries and clients find the server: server.json, the links that install it, and each use of its address.

All of it follows from pyproject.toml and from the declarations. `make listing` writes it.
"""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any, get_args
from urllib.parse import quote, urlencode

from connector_mcp.config.settings import Settings, is_secret, variable_name
from connector_mcp.operations.catalog import PLATFORMS, platform_folder
from connector_mcp.operations.platform import Variable
from connector_mcp.transport.mcp.server import TITLE
from tools.pages import attribute_docstrings, json_text
from tools.project import Project

SCHEMA = "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json"
DESCRIPTION = "Manage connectors on Vectorize, Logto, Versori and ConductorOne; nothing is destroyed undecided."
SETTINGS = ("sandbox", "read_only", "policy", "secrets_dir", "state_dir")
"""What is worth asking for when the server is added to a client."""

MENTIONING = (
    ".github/ISSUE_TEMPLATE/config.yml",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "docs/provisioning.md",
    "mkdocs.yml",
)
"""Files that are written by hand and name the address."""

_BEGIN = "<!-- `make listing` writes what follows; do not edit. -->"
_END = "<!-- Here ends what `make listing` writes. -->"


def listing_files(root: Path) -> dict[str, str]:
    """Return path and text of every file that names the address, as pyproject.toml has it."""
    project = Project.read(root)
    pyproject, readme = _read(root, "pyproject.toml"), _read(root, "README.md")
    urls = "".join(f"{name} = {json.dumps(url)}\n" for name, url in project.urls.items())
    files = {"pyproject.toml": re.sub(r"(?<=\[project\.urls\]\n)(.+\n)+", lambda _: urls, pyproject)}
    readme = re.sub(r"(?<=mcp-name: )\S+", project.registry_name, readme)
    before, after = readme.partition(_BEGIN)[0], readme.partition(_END)[2]
    files["README.md"] = f"{before}{_BEGIN}\n\n{install_lines(project)}\n{_END}{after}"
    files["server.json"] = f"{json_text(server_json(project))}\n"
    # These have the address that was in server.json before.
    known = (root / "server.json").exists()
    former = json.loads(_read(root, "server.json"))["repository"]["url"] if known else project.address
    mentioning = (name for name in MENTIONING if (root / name).exists())
    return files | {name: _read(root, name).replace(former, project.address) for name in mentioning}


def server_json(project: Project) -> dict[str, Any]:
    """Return the entry of the MCP registry."""
    transports = (("streamable-http", "mcp"), ("sse", "sse"))
    variables = [
        {"name": each.name, "description": f"{title}: {each.help}", **_flags(each.secret), **_values(each)}
        for title, each in platform_variables()
    ]
    texts = attribute_docstrings(Settings)
    variables += [
        {"name": variable_name(name), "description": texts[name], **_flags(is_secret(name)), "format": _format(name)}
        for name in SETTINGS
    ]
    return {
        "$schema": SCHEMA,
        "name": project.registry_name,
        "title": TITLE,
        "description": DESCRIPTION,
        "version": project.version,
        "websiteUrl": project.address,
        "repository": {"url": project.address, "source": project.host},
        "icons": [{"src": project.icon, "mimeType": "image/png", "sizes": ["512x512"]}],
        "packages": [
            {
                "registryType": "pypi",
                "identifier": project.name,
                "version": project.version,
                "runtimeHint": "uvx",
                "transport": {"type": "stdio"},
                "packageArguments": [{"type": "positional", "value": "serve"}],
                "environmentVariables": variables,
            }
        ],
        "remotes": [_remote(kind, path) for kind, path in transports],
    }


def platform_variables() -> list[tuple[str, Variable]]:
    """Return the title of the platform and the variable, for every variable of a platform."""
    platforms = [platform_folder(name).platform for name in PLATFORMS]
    return [(platform.title, variable) for platform in platforms for variable in platform.variables]


def entry(project: Project) -> dict[str, Any]:
    """Return the entry that the links add to a client: the sandbox, which needs no credentials."""
    return {"command": "uvx", "args": ["--from", project.source, project.name, "serve", "--sandbox"]}


def deeplinks(project: Project) -> dict[str, str]:
    """Return the links that open a client and ask whether to add the entry, by the name of the client."""
    of_cursor = {"name": "connectors", "config": base64.b64encode(json.dumps(entry(project)).encode()).decode()}
    of_vscode = {"name": "connectors", "type": "stdio", **entry(project)}
    return {
        "Cursor": f"cursor://anysphere.cursor-deeplink/mcp/install?{urlencode(of_cursor)}",
        "VS Code": f"vscode:mcp/install?{quote(json.dumps(of_vscode), safe='')}",
    }


def weblinks(project: Project) -> dict[str, str]:
    """Return pages that lead to the deeplinks, for places that take only https, such as a README."""
    of_vscode = {"name": "connectors", "config": json.dumps({"type": "stdio", **entry(project)})}
    cursor = deeplinks(project)["Cursor"].partition("?")[2]
    return {
        "Cursor": f"https://cursor.com/en/install-mcp?{cursor}",
        "VS Code": f"https://insiders.vscode.dev/redirect/mcp/install?{urlencode(of_vscode, quote_via=quote)}",
    }


_INSTALL_LINES = """\
With [uv](https://docs.astral.sh/uv/), or with pipx:

```sh
uvx --from {source} {name} install claude-code --sandbox
```

```sh
pipx install {source}
{name} install claude-code --sandbox
```

From a clone, by the wheel that it builds:

```sh
make build
uvx --from {wheel} {name} install claude-code --sandbox
```

With Docker, from a clone; the volume keeps the audit log and stored secrets:

```sh
docker build -t {name} .
claude mcp add connectors -- docker run -i --rm -v "{name}:/var/lib/{name}" {name} serve --sandbox
```

For Cursor and VS Code there are links. They add the sandbox through `uvx`:

{links}
"""

_BADGES = {
    "Cursor": "https://cursor.com/deeplink/mcp-install-dark.svg",
    "VS Code": "https://img.shields.io/badge/Add_to-VS_Code-0098FF",
}


def install_lines(project: Project) -> str:
    """Return the part of the README that names the address."""
    links = "\n".join(f"[![Add to {title}]({_BADGES[title]})]({link})" for title, link in weblinks(project).items())
    return _INSTALL_LINES.format(source=project.source, wheel=project.wheel, name=project.name, links=links)


def _flags(secret: bool) -> dict[str, bool]:
    # One platform is enough, so none of its variables is required.
    return {"isRequired": False, "isSecret": secret}


def _values(variable: Variable) -> dict[str, Any]:
    default = {} if variable.default is None else {"default": variable.default}
    return default | ({"choices": list(variable.choices)} if variable.choices else {})


def _format(name: str) -> str:
    kinds = get_args(Settings.model_fields[name].annotation) or (Settings.model_fields[name].annotation,)
    return "boolean" if bool in kinds else "filepath" if Path in kinds else "string"


def _remote(kind: str, path: str) -> dict[str, Any]:
    description = "Bearer token, where the server takes tokens of a file; clients obtain that of an identity provider"
    description += " by themselves."
    token = {"description": "Token made by `connector-mcp tokens new`.", "isSecret": True}
    header = {"name": "Authorization", "description": description, "value": "Bearer {token}", **_flags(True)}
    host = {"description": "Host name of your team's server.", "isRequired": True, "placeholder": "mcp.example.com"}
    return {
        "type": kind,
        "url": f"https://{{host}}/{path}",
        "variables": {"host": host},
        "headers": [{**header, "variables": {"token": token}}],
    }


def _read(root: Path, name: str) -> str:
    return (root / name).read_text("utf-8")
