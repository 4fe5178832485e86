"""The project as pyproject.toml describes it. The repository's address there is the only one written by hand."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[1]
ICON = "docs/icon.png"


@dataclass(frozen=True)
class Project:
    """Name, version and addresses."""

    name: str
    version: str
    description: str
    license: str
    keywords: list[str]
    requires_python: str
    address: str
    """Where the repository is read and cloned."""

    @classmethod
    def read(cls, root: Path = ROOT) -> Self:
        """Read pyproject.toml. Raise `ValueError` if it has no address from which the others can be made."""
        given: dict[str, Any] = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
        address = given["urls"]["Repository"]
        if not re.fullmatch(r"https://[\w.-]+/[\w.-]+/[\w.-]+(?<!\.git)", address):
            raise ValueError(f"[project.urls] Repository is {address!r}; write it as https://HOST/OWNER/NAME.")
        told = {name: given[name] for name in ("name", "version", "description", "license", "keywords")}
        return cls(**told, requires_python=given["requires-python"], address=address)

    @property
    def urls(self) -> dict[str, str]:
        """The entries of `[project.urls]`."""
        return {
            "Repository": self.address,
            "Documentation": f"{self.address}/tree/main/docs",
            "Changelog": f"{self.address}/blob/main/CHANGELOG.md",
            "Issues": f"{self.address}/issues",
        }

    @property
    def host(self) -> str:
        """The host of the repository, such as `github`."""
        return urlsplit(self.address).netloc.split(".")[-2]

    @property
    def registry_name(self) -> str:
        """The name in the MCP registry. Its namespace is the owner of the repository."""
        parts = urlsplit(self.address)
        owner, name = parts.path.strip("/").split("/")
        domain = ["io", "github"] if parts.netloc == "github.com" else parts.netloc.split(".")[::-1]
        return f"{'.'.join([*domain, owner])}/{name}"

    @property
    def icon(self) -> str:
        """Where the icon is read."""
        return f"{self.address}/raw/main/{ICON}"

    @property
    def source(self) -> str:
        """What `uvx --from` and `pipx install` take."""
        return f"git+{self.address}.git"

    @property
    def wheel(self) -> str:
        """The file that `make build` makes."""
        return f"dist/{self.name.replace('-', '_')}-{self.version}-py3-none-any.whl"
