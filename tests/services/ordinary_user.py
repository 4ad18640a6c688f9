"""Running a script as an ordinary user with zCLI, also if we are root and our Python is private."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from public_python import public_interpreter
from script_runs import ROOT
from service_servers import unprivileged

# What a zCLI with services imports, and what the MongoDB stand-in does.
_PACKAGES = ("pluggy", "yaml", "dotenv", "psutil")
STAND_IN_PACKAGES = ("nx_27017", "neosqlite", "bson", "pymongo", "gridfs")


def write_stand_in(folder: Path, packages: Path, cache: Path | None = None) -> None:
    """Write the program nx-27017, which an ordinary user can run, with the packages of another folder.

    ``cache`` is a folder that every user may write, for the bytecode of these packages.
    """
    variables = {"PYTHONPATH": packages, **({} if cache is None else {"PYTHONPYCACHEPREFIX": cache})}
    said = " ".join(f'{name}="{value}"' for name, value in variables.items())
    file = folder / "nx-27017"
    file.write_text(f'#!/bin/sh\n{said} exec {public_interpreter()} -W ignore -m nx_27017.nx_27017 "$@"\n')
    file.chmod(0o755)


def copy_packages(folder: Path, names: Iterable[str]) -> None:
    """Copy installed packages to a folder that an ordinary user can read."""
    for name in names:
        found = Path(str(importlib.import_module(name).__file__)).parent
        shutil.copytree(found, folder / name, ignore=shutil.ignore_patterns("__pycache__"))


class OrdinaryUser:
    """A user with a home folder and a copy of zCLI, without rights."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.site = folder / "site"
        self.bin = folder / "bin"
        for each in (self.home, self.site, self.bin):
            each.mkdir()
        for part in ("zCLI", "zcli_core", *(f"plugins/{each.name}" for each in (ROOT / "plugins").glob("zcli_*"))):
            shutil.copytree(ROOT / part, self.site / Path(part).name, ignore=shutil.ignore_patterns("__pycache__"))
        copy_packages(self.site, (*_PACKAGES, *STAND_IN_PACKAGES))
        self._install_metadata()
        write_stand_in(self.bin, self.site)
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

    def run(self, script: str, *arguments: str) -> str:
        """What the script prints; it must end well and write nothing to its standard error."""
        # Without the programs of the environment of the tests, which is on PATH while it is active.
        active = os.path.join(sys.prefix, "bin")
        path = [str(self.bin), *(folder for folder in os.environ["PATH"].split(os.pathsep) if folder != active)]
        kept = {"PATH": os.pathsep.join(path), "HOME": str(self.home), "PYTHONUTF8": "1"}
        done = subprocess.run(  # type: ignore[call-overload]
            [public_interpreter(), "-W", "error", "-c", script, *arguments],
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
