"""Skills: recipes in SKILL.md files, served as resources and as prompts. One is offered only with all of its tools."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from importlib import resources

from connector_mcp.operations.tool import only_served

SCHEME = "skill://"
INDEX = f"{SCHEME}index.json"
MARKDOWN = "text/markdown"


@dataclass(frozen=True)
class Skill:
    """One SKILL.md: what its front matter says, and the steps below it."""

    name: str
    title: str
    description: str
    asks: str
    """The description of the prompt's argument `subject`."""
    tools: frozenset[str]
    """The tools without which it is not offered."""
    head: str
    lines: tuple[str, ...]
    """What stands below the front matter: each paragraph and each step is one line."""

    @property
    def uri(self) -> str:
        """The address of its resource."""
        return f"{SCHEME}{self.name}/SKILL.md"

    def steps(self, served: Collection[str]) -> str:
        """The steps, one on each line, without the sentences about tools that are not served."""
        return "\n".join(said for line in self.lines if (said := only_served(line, served)))

    def text(self, served: Collection[str]) -> str:
        """The file, with the steps that can be taken here."""
        return f"---\n{self.head}\n---\n\n{self.steps(served)}\n"


@cache
def all_skills() -> tuple[Skill, ...]:
    """Every skill of the package, by name."""
    folder = resources.files("connector_mcp") / "skills"
    return tuple(
        _parse((each / "SKILL.md").read_text("utf-8"))
        for each in sorted(folder.iterdir(), key=lambda each: each.name)
        if (each / "SKILL.md").is_file()
    )


def skills_with(served: Collection[str]) -> list[Skill]:
    """The skills that these tools can carry out."""
    return [skill for skill in all_skills() if skill.tools <= set(served)]


def _parse(text: str) -> Skill:
    _, head, body = text.split("---\n", 2)
    # Our own files: each member stands on one line, and what is quoted is quoted as in JSON.
    pairs = (line.strip().partition(": ") for line in head.splitlines())
    given = {key: json.loads(value) if value.startswith('"') else value for key, _, value in pairs}
    tools = frozenset(given["tools"].split())
    lines = re.split(r"\n\n|\n(?=\d+\. )", body.strip())
    joined = tuple(" ".join(line.split()) for line in lines)
    return Skill(given["name"], given["title"], given["description"], given["asks"], tools, head.strip(), joined)
