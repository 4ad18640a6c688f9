"""Virtual environments made anew, for tests of what a stranger would install."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from installations import clean_environment

ROOT = Path(__file__).resolve().parent.parent
_LONGEST = 300.0


def outside_environment(variables: Mapping[str, str] = {}) -> dict[str, str]:
    """The environment of somebody who has set nothing of zCLI's or Python's, and has a home of their own."""
    ours = clean_environment(os.environ, _home())
    kept = {name: value for name, value in ours.items() if not name.startswith("PYTHON")}
    return {**kept, "PYTHONUTF8": "1", "COLUMNS": "120", "PIP_DISABLE_PIP_VERSION_CHECK": "1", **variables}


@functools.cache
def _home() -> Path:
    """One for all, so that pip's cache is shared."""
    folder = tempfile.mkdtemp(prefix="zcli-test-home-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def run(
    *command: str | Path, folder: Path = ROOT, variables: Mapping[str, str] = {}, status: int | None = 0
) -> subprocess.CompletedProcess[str]:
    """Run a command of a stranger's; ``status`` is how it has to end, None if any way will do."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=outside_environment(variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=_LONGEST,
        check=False,
    )
    assert status in (None, done.returncode), f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done


def build_wheels(into: Path, *projects: Path) -> None:
    """Build the wheel of each project with the hatchling that is installed here."""
    run(
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        into,
        *projects,
        folder=into,
    )


class FreshEnvironment:
    """A virtual environment of its own in a folder."""

    def __init__(self, folder: Path, python: str = sys.executable) -> None:
        self.folder = folder
        self._programs = folder / ("Scripts" if os.name == "nt" else "bin")
        self.python = self._programs / "python"
        # Debian has the module ensurepip in a package of its own, so pip comes from ours.
        without_pip = [] if python == sys.executable else ["--without-pip"]
        run(python, "-m", "venv", *without_pip, folder, folder=folder.parent)
        if without_pip:
            run(sys.executable, "-m", "pip", "--python", self.python, "install", "-q", "pip", folder=folder.parent)

    def program(self, name: str) -> Path:
        """A command that was installed here."""
        return self._programs / name

    def install(self, *what: str | Path) -> None:
        """Install wheels or requirements, with all that they depend on."""
        run(self.python, "-m", "pip", "install", "-q", *what, folder=self.folder)

    def run(
        self, *arguments: str | Path, folder: Path, variables: Mapping[str, str] = {}, status: int | None = 0
    ) -> subprocess.CompletedProcess[str]:
        """Run this Python."""
        return run(self.python, *arguments, folder=folder, variables=variables, status=status)
