"""Fake programs of other platforms, on PATH: each prints recorded output and records its calls.

Only the program is fake: zCLI finds it on PATH, runs it as a process and reads its output.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path


class FakePrograms:
    """A folder for PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._calls = folder / "calls"
        folder.mkdir()

    def install(self, name: str, answers: dict[str, tuple[int, str]], runs: dict[str, str] | None = None) -> None:
        """Make a program that answers the command lines in ``answers`` (a shell pattern) with a status and an output.

        ``runs`` holds shell commands to run for some of them first. Anything else ends with status 64.
        """
        cases = ""
        for number, (pattern, (status, output)) in enumerate(answers.items()):
            recorded = self.folder / f"{name}-{number}.txt"
            recorded.write_text(output)
            before = (runs or {}).get(pattern, ":")
            quoted = pattern.replace(" ", "\\ ")
            cases += f"{quoted}) {before}; cat {recorded}; exit {status};;\n"
        file = self.folder / name
        file.write_text(
            f'#!/bin/sh\necho "{name} $*" >>{self._calls}\ncase "$*" in\n{cases}*) echo "unknown: $*"; exit 64;; esac\n'
        )
        file.chmod(file.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)

    @property
    def calls(self) -> list[str]:
        """Every call, in order."""
        return self._calls.read_text().splitlines() if self._calls.exists() else []

    @property
    def path(self) -> str:
        """PATH with this folder first."""
        return f"{self.folder}{os.pathsep}{os.environ['PATH']}"
