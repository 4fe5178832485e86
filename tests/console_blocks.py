"""A session at the command line as a document shows it: run, and compared with what is shown.

A line that begins with `$ ` is a command, what follows is its output. `…` stands for any text within a line, and alone
on a line for any lines. Ids of approvals and times differ from run to run: an id is matched by its form and means the
same one in the commands that follow.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from click.testing import CliRunner

from connector_mcp.cli.main import cli
from tests.cli.conftest import COMMAND, PATIENCE, chunks, terminal

_COLOR = re.compile(r"\x1b\[[0-9;]*m")
_APPROVAL = re.compile(r"ap-[a-z0-9]{6}")
_VOLATILE = re.compile(r"(?P<id>ap-[a-z0-9]{6})|(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d[+-]\d\d:\d\d)|(?P<gap>…)")
_PROMPT = re.compile(r"^(To approve, type .+:) (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Step:
    """A command and the output that is shown for it."""

    command: str
    shown: str


def steps(text: str) -> list[Step]:
    """The commands of a console block with what is shown for each."""
    parts = re.split(r"^\$ (.+)\n?", text, flags=re.MULTILINE)
    assert not parts[0].strip(), f"output before any command: {parts[0]!r}"
    return [Step(command, shown) for command, shown in zip(parts[1::2], parts[2::2], strict=True)]


@dataclass
class Session:
    """Runs the commands of one document, in order and in one folder, and compares what they print."""

    environment: Mapping[str, str]
    folder: Path
    ids: dict[str, str] = field(default_factory=dict[str, str])
    """An approval's id in the document, and what it is in this run."""

    def run(self, step: Step) -> None:
        """Run a command and compare its output with what is shown."""
        command = _APPROVAL.sub(lambda match: self.ids.get(match[0], match[0]), step.command)
        words = shlex.split(command)
        own = dict(word.split("=", 1) for word in words[: _first_without_value(words)])
        name, *arguments = words[len(own) :]
        if name in ("cp", "mv"):
            ran = subprocess.run([name, *arguments], cwd=self.folder, capture_output=True, text=True)
            self._compare(step, ran.stdout + ran.stderr)
            return
        if name == "make":
            assert arguments == ["demo"]
            arguments = ["demo"]
        else:
            assert name == "connector-mcp", f"not a command that can be run here: {step.command}"
        if "serve" in arguments:
            self._compare(step, self._serve(arguments, own))
        elif prompt := _PROMPT.search(step.shown):
            self._compare(step, self._in_a_terminal(arguments, prompt[1], prompt[2]))
        else:
            if arguments[-2:] == ["<", "/dev/null"]:
                arguments = arguments[:-2]
            result = CliRunner().invoke(cli, arguments, input="", env=own, catch_exceptions=False)
            self._compare(step, result.output)

    def _compare(self, step: Step, printed: str) -> None:
        printed = "\n".join(line.rstrip() for line in printed.splitlines()).strip("\n")
        pattern, named = self._pattern(step.shown.strip("\n"))
        found = re.fullmatch(pattern, printed)
        assert found, f"$ {step.command}\nis shown to print\n{step.shown}\nand prints\n{printed}"
        self.ids.update({in_document: found[group] for group, in_document in named.items()})

    def _pattern(self, shown: str) -> tuple[str, dict[str, str]]:
        """A pattern for the output, and which of its groups is which id of the document."""
        named: dict[str, str] = {}

        def volatile(match: re.Match[str]) -> str:
            if match["gap"]:
                return "[^\n]*?"
            if match["time"]:
                return r"\d{4}-\d\d-\d\d \d\d:\d\d[+-]\d\d:\d\d"
            if match["id"] in self.ids:
                return self.ids[match["id"]]
            group = next((group for group, known in named.items() if known == match["id"]), None)
            if group is not None:
                return f"(?P={group})"
            named[f"id{len(named)}"] = match["id"]
            return f"(?P<id{len(named) - 1}>ap-[a-z0-9]{{6}})"

        lines: list[str] = []
        for line in shown.split("\n"):
            if line == "…":
                lines.append("(?:[^\n]*\n)*?")
                continue
            literal = _VOLATILE.split(line)[:: _VOLATILE.groups + 1]
            volatiles = [volatile(match) for match in _VOLATILE.finditer(line)]
            parts = zip(literal, [*volatiles, ""], strict=True)
            lines.append("".join(re.escape(text) + part for text, part in parts) + "\n")
        pattern = "".join(lines)
        # The last line ends with the output, and a gap at the end also takes a line that does not end.
        return (f"{pattern}[^\n]*" if shown.endswith("\n…") else pattern.removesuffix("\n")), named

    def _serve(self, arguments: list[str], own: Mapping[str, str]) -> str:
        """Serve on a free port, check that a token is required, and return the output with the port as shown."""
        environment = {**self.environment, **own, "CONNECTOR_MCP_PORT": "0"}
        with subprocess.Popen([*COMMAND, *arguments], env=environment, stderr=subprocess.PIPE, text=True) as process:
            try:
                assert process.stderr is not None
                line = process.stderr.readline()
                origin = re.findall(r"http://[^/]+", line)[0]
                with httpx.Client(base_url=origin, timeout=PATIENCE, trust_env=False) as client:
                    assert client.get("/healthz").json() == {"status": "ok"}
                    assert client.get("/mcp").status_code == 401
                    token = own["CONNECTOR_MCP_HTTP_TOKEN"]
                    assert client.get("/mcp", headers={"Authorization": f"Bearer {token}"}).status_code != 401
                process.send_signal(signal.SIGINT)
                assert process.wait(timeout=PATIENCE) == 130
                written = line + process.stderr.read()
            finally:
                process.kill()
        return written.replace(origin, "http://127.0.0.1:8765")

    def _in_a_terminal(self, arguments: list[str], prompt: str, answer: str) -> str:
        # A part may end within a character.
        written = b""
        with terminal(self.environment, *arguments, cwd=self.folder) as (process, master):
            for chunk in chunks(master):
                if prompt.encode() in (written := written + chunk) and answer:
                    os.write(master, f"{answer}\n".encode())
                    answer = ""
            process.wait(timeout=PATIENCE)
        return _COLOR.sub("", written.decode()).replace("\r\n", "\n")


def _first_without_value(words: list[str]) -> int:
    """How many words before the command set a variable for it."""
    return next(index for index, word in enumerate(words) if not re.match(r"[A-Z_]+=", word))
