"""Services of Homebrew, on macOS and Linux. The tests use a fake ``brew``; zCLI was not run on macOS."""

from __future__ import annotations

import json
import os
from fnmatch import fnmatch
from functools import cached_property
from typing import Any

from zcli_core.services.contract import HomebrewFormula, LaunchError
from zcli_core.services.launchers.commands import as_user, is_root, last_lines, run, which
from zcli_core.services.launchers.context import LaunchContext
from zcli_core.services.launchers.identity import serves
from zcli_core.services.launchers.launcher import ManagerLauncher


class Homebrew(ManagerLauncher[str]):
    """Starts the first installed formula. The state that brew reports is not used as proof: the service is probed."""

    name = "homebrew"

    def __init__(self, context: LaunchContext, method: HomebrewFormula) -> None:
        super().__init__(context)
        self._names = method.formulae

    @cached_property
    def unit(self) -> str | None:
        """The first formula that is installed."""
        if which("brew") is None:
            return None
        installed = run(["brew", "list", "--formula", "-1"], self.context.remaining)
        names = installed.output.split() if installed.code == 0 else []
        for wanted in self._names:
            fitting = sorted((name for name in names if fnmatch(name, wanted)), key=_version, reverse=True)
            if fitting:
                return fitting[0]
        return None

    def _info(self) -> dict[str, Any]:
        shown = run(["brew", "services", "info", self.required_unit(), "--json"], self.context.remaining)
        try:
            found = json.loads(shown.output[shown.output.find("[") :])
            return dict(found[0])
        except (ValueError, IndexError, TypeError):
            return {}

    def runs(self) -> bool | None:
        """Return whether brew reports that it runs, and its process holds the port."""
        if self.unit is None:
            return False
        info = self._info()
        return serves(self.context, int(info.get("pid") or 0)) if info.get("running") else False

    def command(self, action: str) -> str:
        """Return the ``brew services`` command, as the user who installed Homebrew."""
        command = ("brew", "services", action, self.required_unit())
        return as_user(_owner(which("brew")), *command) if is_root() else " ".join(command)

    def not_found(self) -> LaunchError:
        """Return the error for a system without the formulae."""
        formula = self.context.backend.install.brew
        return LaunchError(
            f"the Homebrew formula {' or '.join(self._names)} is not installed",
            f"brew install {formula}" if formula else None,
        )

    def control(self, action: str) -> str:
        """Start or stop the service with ``brew services``."""
        if is_root():
            raise LaunchError(
                "root cannot control services of Homebrew, which belong to the user who installed them",
                self.command(action),
            )
        done = run(["brew", "services", action, self.required_unit()], self.context.remaining)
        if done.code:
            raise LaunchError(f"brew services {action} failed", log=done.last_lines)
        return f"brew services {action} {self.required_unit()}"

    def log(self) -> tuple[str, ...]:
        """Return the last lines of the log file that brew names."""
        info = self._info()
        file = info.get("error_log_path") or info.get("log_path")
        try:
            with open(str(file), encoding="utf-8", errors="replace") as log:
                return last_lines(log.read())
        except OSError:
            return ()


def _owner(program: str | None) -> str:
    import pwd

    try:
        return pwd.getpwuid(os.stat(program or "").st_uid).pw_name
    except (OSError, KeyError):
        return "USER"


def _version(formula: str) -> list[int]:
    _, _, version = formula.partition("@")
    return [int(part) for part in version.split(".") if part.isdigit()]
