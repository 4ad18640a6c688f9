"""Running the code blocks of a document as a reader would, top to bottom.

A document's blocks share one folder. What each does is told by its language:

- a block whose first line is a comment that names a file (``# first.py``) is written to that file;
- any other ``python`` block is run as a script;
- a ``console`` block is typed line by line: each ``$`` line is run, and what follows it is what it must print,
  where ``…`` stands for anything; ``$ cd FOLDER`` is where all that follows is done;
- a ``bash`` block is a command that CI itself runs: it must stand behind its marker.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"#\s*([\w./-]+\.\w+|\.zEnv)\s*$")


class Block(NamedTuple):
    """A block of code, the line that it stands on and the line of text before it."""

    line: int
    language: str
    code: str
    before: str


def blocks(document: str) -> Iterator[Block]:
    """The blocks of a document, which is named by its path in the repository."""
    text = (ROOT / document).read_text(encoding="utf-8")
    for match in _FENCE.finditer(text):
        before = text[: match.start()].rstrip().rpartition("\n")[2]
        yield Block(text[: match.start()].count("\n") + 1, match[1], match[2], before)


class Reader:
    """Somebody who does what a document says, in a folder and with these environment variables."""

    def __init__(self, folder: Path, variables: Mapping[str, str], replacements: Mapping[str, str] = {}) -> None:
        """``replacements`` are made in all code: what stands for a part of the world that is not the test's."""
        self._folder = folder
        self._variables = variables
        self._replacements = replacements

    def follow(self, document: str) -> None:
        """Do it all; AssertionError, with the place, for what comes out otherwise than it says."""
        for block in blocks(document):
            where = f"{document}:{block.line}"
            code = block.code
            for told, real in self._replacements.items():
                code = code.replace(told, real)
            named = _FILE.match(code.partition("\n")[0])
            if named:
                file = self._folder / named[1]
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(code, encoding="utf-8")
            elif block.language == "python":
                self._run(["python", "-c", code], where)
            elif block.language == "console":
                self._type(code, where)
            else:
                runs_in_ci = block.language == "bash" and block.before in (
                    "<!-- tour -->",
                    "<!-- tests -->",
                    "<!-- checks -->",
                )
                assert runs_in_ci, f"{where}: a block of the language {block.language!r} is executed by nothing"

    def _type(self, code: str, where: str) -> None:
        for part in re.split(r"^\$ ", code, flags=re.MULTILINE)[1:]:
            command, _, expected = part.partition("\n")
            if command.startswith("cd "):
                self._folder = Path(os.path.normpath(self._folder / command.removeprefix("cd ")))
                continue
            printed = self._run(["bash", "-c", command], f"{where}: {command}")
            pattern = r"[\s\S]*?".join(re.escape(_squeezed(piece)) for piece in expected.strip().split("…"))
            assert re.fullmatch(pattern, _squeezed(printed.strip())), f"{where}: {command} printed\n{printed}"

    def _run(self, command: list[str], where: str) -> str:
        done = subprocess.run(
            command,
            cwd=self._folder,
            env=self._variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{where} ended with status {done.returncode}:\n{done.stdout}"
        return done.stdout


def _squeezed(text: str) -> str:
    """Runs of spaces as one: a table's columns are as wide as their cells."""
    return re.sub(r" +", " ", re.sub(r" +$", "", text, flags=re.MULTILINE))
