"""Running the code blocks of a document as a reader would, top to bottom.

A document's blocks share one folder. What happens with a block depends on its first line and its language:

- if the first line is a comment that names a file (``# first.py``), the block is written to that file;
- any other ``python`` block is run as a script;
- the lines of a ``console`` block that begin with ``$`` are run, and the lines below each are what it must print,
  where ``…`` stands for any text. A command that ends with ``&`` keeps running; ``$ kill %1`` sends SIGTERM to the
  last such command, and what it prints until its end must follow. ``$ cd FOLDER`` holds for all later commands;
- a ``bash`` block is a command that CI runs itself: the line before it must be its marker.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"(?:#|//|<!--)\s*([\w./-]+\.\w+|\.zEnv|Dockerfile)(?: -->)?\s*$")
#: Seconds that a command, and the first output of one that keeps running, may take.
_DEADLINE, _OUTPUT_DEADLINE = 120, 40


class Block(NamedTuple):
    """A block of code, the number of its first line and the line of text before it."""

    line: int
    language: str
    code: str
    before: str

    @property
    def file(self) -> str | None:
        """The file that the block's first line names."""
        named = _FILE.match(self.code.partition("\n")[0])
        return named[1] if named else None


def blocks(document: str) -> Iterator[Block]:
    """Yield the blocks of a document, given by its path in the repository."""
    text = (ROOT / document).read_text(encoding="utf-8")
    for match in _FENCE.finditer(text):
        before = text[: match.start()].rstrip().rpartition("\n")[2]
        yield Block(text[: match.start()].count("\n") + 1, match[1], match[2], before)


def file_in(document: str, name: str) -> str:
    """Return a file that a document shows, without the comment that names it."""
    (code,) = (block.code for block in blocks(document) if block.file == name)
    return code.partition("\n")[2]


class Reader:
    """A reader who does what a document says, in a folder and with these environment variables."""

    def __init__(self, folder: Path, variables: Mapping[str, str], replacements: Mapping[str, str] = {}) -> None:
        """``replacements`` are made in all code: test servers and free ports instead of those that documents name."""
        self._folder = folder
        self._variables = variables
        self._replacements = replacements
        self._background: list[_Background] = []

    def follow(self, document: str) -> None:
        """Run all blocks. Raises AssertionError, with the place, if the result is not what the document shows."""
        try:
            for block in blocks(document):
                self._do(block, f"{document}:{block.line}")
        finally:
            for command in self._background:
                command.end(signal.SIGKILL)

    def _do(self, block: Block, where: str) -> None:
        code = block.code
        for written, real in self._replacements.items():
            code = code.replace(written, real)
        if block.file is not None:
            file = self._folder / block.file
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
                "<!-- site -->",
            )
            assert runs_in_ci, f"{where}: no test executes a block of the language {block.language!r}"

    def _type(self, code: str, where: str) -> None:
        for part in re.split(r"^\$ ", code, flags=re.MULTILINE)[1:]:
            command, _, expected = part.partition("\n")
            here = f"{where}: {command}"
            if command.startswith("cd "):
                self._folder = Path(os.path.normpath(self._folder / command.removeprefix("cd ")))
            elif command.endswith(" &"):
                self._background.append(_Background(command.removesuffix(" &"), self._folder, self._variables))
                self._background[-1].wait_for(_pattern(expected), here)
            elif command == "kill %1":
                _compare(self._background.pop().end(signal.SIGTERM), expected, here)
            else:
                _compare(self._run(["bash", "-c", command], here), expected, here)

    def _run(self, command: list[str], where: str) -> str:
        done = subprocess.run(
            command,
            cwd=self._folder,
            env=self._variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_DEADLINE,
            check=False,
        )
        assert done.returncode == 0, f"{where} ended with status {done.returncode}:\n{done.stdout}"
        return done.stdout


class _Background:
    """A command that keeps running while later commands are run."""

    def __init__(self, command: str, folder: Path, variables: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            ["bash", "-c", f"exec env {command}"],
            cwd=folder,
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._printed = ""
        self._changed = threading.Condition()
        self._is_open = True
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                with self._changed:
                    self._printed += line
                    self._changed.notify()
        with self._changed:
            self._is_open = False
            self._changed.notify()

    def wait_for(self, pattern: str, where: str) -> None:
        """Wait until all that has been printed matches, and forget it."""

        def has_come() -> bool:
            return re.fullmatch(pattern, _squeezed(self._printed.strip())) is not None

        with self._changed:
            self._changed.wait_for(lambda: has_come() or not self._is_open, _OUTPUT_DEADLINE)
            assert has_come(), f"{where} printed\n{self._printed}"
            self._printed = ""

    def end(self, number: signal.Signals) -> str:
        """Send a signal, wait for the end and return what was printed since ``wait_for``."""
        self._process.send_signal(number)
        self._process.wait(_DEADLINE)
        self._reading.join(_DEADLINE)
        return self._printed


def _pattern(expected: str) -> str:
    return r"[\s\S]*?".join(re.escape(_squeezed(piece)) for piece in expected.strip().split("…"))


def _compare(printed: str, expected: str, where: str) -> None:
    assert re.fullmatch(_pattern(expected), _squeezed(printed.strip())), f"{where} printed\n{printed}"


def _squeezed(text: str) -> str:
    """Replace each run of spaces by one: the columns of a table are as wide as their cells."""
    return re.sub(r" +", " ", re.sub(r" +$", "", text, flags=re.MULTILINE))
