"""Running a script as an ordinary user who has zCLI installed, also where we are root and our own Python is private."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from needs import missing
from script_runs import ROOT
from service_servers import unprivileged

# What a zCLI with services imports, and what the MongoDB stand-in needs.
_PACKAGES = ("pluggy", "yaml", "dotenv", "psutil", "nx_27017", "neosqlite", "bson", "pymongo", "gridfs")


@cache
def _interpreter() -> str:
    """A Python from 3.10 up that an ordinary user may run."""
    test = "import sys; sys.exit(sys.version_info < (3, 10))"
    for python in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        try:
            done = subprocess.run(  # type: ignore[call-overload]
                [python, "-c", test], capture_output=True, check=False, cwd="/", **unprivileged()
            )
        except OSError:
            continue
        if done.returncode == 0:
            return python
    return missing("an ordinary user can run no Python from 3.10 up here (Debian package python3)")


class OrdinaryUser:
    """Somebody with a home, a copy of zCLI, and no rights."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.site = folder / "site"
        self.bin = folder / "bin"
        for each in (self.home, self.site, self.bin):
            each.mkdir()
        for part in ("zCLI", "zcli_core", *(f"plugins/{each.name}" for each in (ROOT / "plugins").glob("zcli_*"))):
            shutil.copytree(ROOT / part, self.site / Path(part).name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in _PACKAGES:
            found = Path(str(importlib.import_module(name).__file__)).parent
            shutil.copytree(found, self.site / name, ignore=shutil.ignore_patterns("__pycache__"))
        self._install_metadata()
        self._install_stand_in()
        if os.geteuid() == 0:
            shutil.chown(self.home, 65534, 65534)

    def install_sudo(self) -> None:
        """Have a sudo on PATH, which does nothing."""
        file = self.bin / "sudo"
        file.write_text("#!/bin/sh\nexit 1\n")
        file.chmod(0o755)

    def _install_metadata(self) -> None:
        info = self.site / "zcli_core-0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: zcli-core\nVersion: 0\n")
        text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        groups = []
        for group, heading in (
            ("zcli", "[project.entry-points.zcli]"),
            ("zcli.first", '[project.entry-points."zcli.first"]'),
        ):
            lines = text.partition(heading)[2].strip().split("\n\n")[0]
            groups.append(f"[{group}]\n{lines.partition('[')[0]}\n")
        (info / "entry_points.txt").write_text("".join(groups).replace('"', ""))

    def _install_stand_in(self) -> None:
        """The console script that pip would have made, for this user's interpreter."""
        file = self.bin / "nx-27017"
        file.write_text(
            f'#!/bin/sh\nPYTHONPATH="{self.site}" exec {_interpreter()} -W ignore -m nx_27017.nx_27017 "$@"\n'
        )
        file.chmod(0o755)

    def run(self, script: str, *arguments: str) -> str:
        """What the script prints; it must end well and write nothing to its standard error."""
        kept = {"PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}", "HOME": str(self.home), "PYTHONUTF8": "1"}
        done = subprocess.run(  # type: ignore[call-overload]
            [_interpreter(), "-W", "error", "-c", script, *arguments],
            cwd=self.home,
            env={**kept, "PYTHONPATH": str(self.site), "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=360,
            check=False,
            **unprivileged(),
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stderr == ""
        return str(done.stdout)
