"""The documents of the repository, as tests read them: fenced blocks, links, headings and inline code."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from connector_mcp.config.file import read_config
from connector_mcp.config.settings import Settings

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "server" / "connector_mcp"

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block and its language."""

    language: str
    text: str


@dataclass(frozen=True)
class Document:
    """A Markdown file."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.relative_to(ROOT).as_posix()

    @property
    def text(self) -> str:
        return self.path.read_text("utf-8")

    @property
    def prose(self) -> str:
        """The text without its fenced blocks."""
        return _FENCE.sub("", self.text)

    def blocks(self, language: str | None = None) -> list[Block]:
        """The fenced blocks of a language, or all of them."""
        found = [Block(match[1], match[2]) for match in _FENCE.finditer(self.text)]
        return [block for block in found if language in (None, block.language)]

    def links(self) -> list[str]:
        """The targets of links."""
        return re.findall(r"\]\(([^)\s]+)\)", self.prose)

    def anchors(self) -> set[str]:
        """What a `#` in a link to this document may name."""
        headings = re.findall(r"^#+ (.+)$", self.prose, re.MULTILINE)
        return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}

    def inline_code(self) -> list[str]:
        """What stands between backticks outside of fenced blocks, on one line each."""
        return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", self.prose)]


def dockerfile(*instructions: str) -> list[str]:
    """What stands behind each of these instructions of the Dockerfile, in order and on one line each."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = [line.split(" ", 1) for line in text.replace("\\\n", "").splitlines() if line]
    return [rest for name, rest in lines if name in instructions]


def settings_shown(block: Block, folder: Path, **environ: str) -> Settings:
    """Load a file of settings as a document shows it."""
    path = folder / "connector-mcp.toml"
    path.write_text(block.text)
    path.chmod(0o644)
    return Settings.load(environ, read_config(path))


_AT_ROOT = (ROOT / f"{name}.md" for name in ("README", "CHANGELOG", "AGENTS", "CONTRIBUTING", "SECURITY"))
DOCUMENTS = [Document(path) for path in (*_AT_ROOT, *sorted(ROOT.glob("docs/**/*.md")))]
BY_NAME = {document.name: document for document in DOCUMENTS}
