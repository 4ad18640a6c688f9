"""Fresh virtual environments, for tests that install zCLI as a new user does."""

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
_TIMEOUT = 300.0  # seconds


def outside_environment(variables: Mapping[str, str] = {}) -> dict[str, str]:
    """Return the environment of a user with an empty home, without settings of zCLI and Python, plus ``variables``."""
    ours = clean_environment(os.environ, _home())
    kept = {name: value for name, value in ours.items() if not name.startswith("PYTHON")}
    return {**kept, "PYTHONUTF8": "1", "COLUMNS": "120", "PIP_DISABLE_PIP_VERSION_CHECK": "1", **variables}


@functools.cache
def _home() -> Path:
    """Return the home folder. All tests of a process share it, and with it the cache of pip."""
    folder = tempfile.mkdtemp(prefix="zcli-test-home-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def run(
    *command: str | Path, folder: Path = ROOT, variables: Mapping[str, str] = {}, status: int | None = 0
) -> subprocess.CompletedProcess[str]:
    """Run a command as a new user does, and fail if its exit status is not ``status``. None allows any status."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=outside_environment(variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=_TIMEOUT,
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
    """A fresh virtual environment in a folder, for the Python at ``python``."""

    def __init__(self, folder: Path, python: str = sys.executable) -> None:
        self.folder = folder
        self._programs = folder / ("Scripts" if os.name == "nt" else "bin")
        self.python = self._programs / "python"
        # Debian ships the module ensurepip in a separate package, so the pip of this Python installs pip there.
        without_pip = [] if python == sys.executable else ["--without-pip"]
        run(python, "-m", "venv", *without_pip, folder, folder=folder.parent)
        if without_pip:
            run(sys.executable, "-m", "pip", "--python", self.python, "install", "-q", "pip", folder=folder.parent)

    def program(self, name: str) -> Path:
        """Return the path of an installed command."""
        return self._programs / name

    def install(self, *what: str | Path) -> None:
        """Install wheels or requirements, with their dependencies."""
        run(self.python, "-m", "pip", "install", "-q", *what, folder=self.folder)

    def run(
        self, *arguments: str | Path, folder: Path, variables: Mapping[str, str] = {}, status: int | None = 0
    ) -> subprocess.CompletedProcess[str]:
        """Run the Python of this environment."""
        return run(self.python, *arguments, folder=folder, variables=variables, status=status)
