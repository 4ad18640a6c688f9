"""Units of systemd."""

from __future__ import annotations

from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path

from zcli_core.services.contract import LaunchError, SystemdUnit
from zcli_core.services.launchers.commands import Outcome, as_root, last_lines, run, which
from zcli_core.services.launchers.context import LaunchContext
from zcli_core.services.launchers.identity import serves
from zcli_core.services.launchers.launcher import ManagerLauncher
from zcli_core.system.users import own_name

#: Exists if systemd runs this machine (sd_booted(3)). In most containers, systemctl may be installed without it.
BOOTED = Path("/run/systemd/system")
_REFUSALS = ("interactive authentication required", "access denied", "permission denied", "must be root")


def is_available() -> bool:
    """Return whether systemd runs this machine."""
    return BOOTED.is_dir() and which("systemctl") is not None


def systemctl(action: str, unit: str, timeout: float) -> Outcome:
    """Start or stop a unit without a password prompt.

    Raises:
        LaunchError: our user has no right to do it.
    """
    done = run(["systemctl", "--no-ask-password", action, unit], timeout)
    if done.code and any(refusal in done.output.lower() for refusal in _REFUSALS):
        raise LaunchError(
            f"the user {own_name()} may not {action} units of systemd",
            as_root("systemctl", action, unit),
            done.last_lines,
        )
    return done


class Systemd(ManagerLauncher[str]):
    """Starts the first unit that exists. The state of a unit is read from its properties, not from exit codes."""

    name = "systemd"

    def __init__(self, context: LaunchContext, method: SystemdUnit) -> None:
        super().__init__(context)
        self._names = method.units

    @cached_property
    def unit(self) -> str | None:
        """The first unit that exists, if systemd runs this machine."""
        if not is_available():
            return None
        for name in self._candidates():
            properties = self._properties(name)
            # A oneshot unit such as Debian's postgresql.service groups other units and is "active" without a process.
            if properties.get("LoadState") == "loaded" and properties.get("Type") != "oneshot":
                return name
        return None

    def _candidates(self) -> list[str]:
        wanted = [name for name in self._names if "*" not in name]
        patterns = [f"{name}.service" for name in self._names if "*" in name]
        if not patterns:
            return wanted
        command = ["systemctl", "list-unit-files", "--no-legend", "--plain", "--type=service", *patterns]
        listed = run(command, self.context.remaining)
        names = [line.split()[0] for line in listed.output.splitlines() if line.strip()]
        fitting = [name for name in names if any(fnmatch(name, pattern) for pattern in patterns) and "@" not in name]
        return [*sorted((name.removesuffix(".service") for name in fitting), reverse=True), *wanted]

    def _properties(self, unit: str, names: str = "LoadState,ActiveState,SubState,MainPID,Type") -> dict[str, str]:
        shown = run(["systemctl", "show", "-p", names, unit], self.context.remaining)
        return dict(line.split("=", 1) for line in shown.output.splitlines() if "=" in line)

    def runs(self) -> bool | None:
        """Return whether the unit runs and its process holds the port."""
        unit = self.unit
        if unit is None:
            return False
        properties = self._properties(unit)
        if properties.get("ActiveState") != "active" or properties.get("SubState") == "exited":
            return False
        return serves(self.context, int(properties.get("MainPID", "0") or 0))

    def is_run_by(self, uid: int) -> bool:
        """Return whether the unit is active as the user ``uid``, which may be a dynamic user of systemd."""
        unit = self.unit
        if unit is None:
            return False
        found = self._properties(unit, "ActiveState,UID")
        return found.get("ActiveState") == "active" and found.get("UID") == str(uid)

    def command(self, action: str) -> str:
        """Return the ``systemctl`` command, as root."""
        return as_root("systemctl", action, self.required_unit())

    def control(self, action: str) -> str:
        """Start or stop the unit."""
        unit = self.required_unit()
        done = systemctl(action, unit, self.context.remaining)
        if done.code:
            raise LaunchError(f"systemctl {action} {unit} failed", log=self.log() or done.last_lines)
        return f"systemctl {action} {unit}"

    def not_found(self) -> LaunchError:
        """Return the error for a system without the units."""
        return LaunchError(f"no systemd unit {' or '.join(self._names)} found")

    def log(self) -> tuple[str, ...]:
        """Return the last lines of the unit's journal; empty if our user may not read it."""
        if which("journalctl") is None or self.unit is None:
            return ()
        command = ["journalctl", "--no-pager", "-q", "-o", "cat", "-n", "8", "-u", self.unit]
        try:
            done = run(command, self.context.remaining)
        except LaunchError:
            return ()
        return () if done.code else last_lines(done.output)
