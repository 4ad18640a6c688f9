"""The downstream distributions, and ways to have them installed."""

from __future__ import annotations

import sys
from pathlib import Path

from fresh_environment import run

PROJECTS = Path(__file__).parent / "projects"
WORKING = ("zcli-memcached", "zcli-api-key", "zcli-call-metrics")


def wheel_of(wheels: Path, project: str) -> Path:
    """The wheel of a project."""
    (found,) = wheels.glob(f"{project.replace('-', '_')}-*.whl")
    return found


class InstalledBeside:
    """A folder of installed distributions."""

    def __init__(self, wheels: Path, folder: Path) -> None:
        self._wheels = wheels
        self.folder = folder

    def install(self, *projects: str) -> None:
        """Install the wheels of these projects, as they are: what they depend on is not there."""
        found = [wheel_of(self._wheels, project) for project in projects]
        run(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-compile", "--target", self.folder, *found)

    def imported(self) -> set[str]:
        """The modules that were imported since this was last asked: Python leaves the code of each behind."""
        compiled = list(self.folder.glob("__pycache__/*.pyc"))
        for file in compiled:
            file.unlink()
        return {file.name.partition(".")[0] for file in compiled}

    @property
    def variables(self) -> dict[str, str]:
        """What puts them on the path."""
        return {"PYTHONPATH": str(self.folder)}
