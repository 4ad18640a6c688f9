"""Services of Windows, with the command ``sc``. The tests use a fake ``sc``; zCLI was not run on Windows."""

from __future__ import annotations

import re
import sys
from fnmatch import fnmatchcase
from functools import cached_property

from zcli_core.services.contract import LaunchError, WindowsService
from zcli_core.services.launchers.commands import run, which
from zcli_core.services.launchers.context import LaunchContext
from zcli_core.services.launchers.identity import serves
from zcli_core.services.launchers.launcher import ManagerLauncher

IS_WINDOWS = sys.platform == "win32"

# The exit codes of sc are system error codes: learn.microsoft.com/windows/win32/debug/system-error-codes
_ACCESS_DENIED = 5
_ALREADY = {"start": 1056, "stop": 1062}  # ERROR_SERVICE_ALREADY_RUNNING, ERROR_SERVICE_NOT_ACTIVE
_RUNNING = 4  # dwCurrentState of SERVICE_STATUS


class WindowsServices(ManagerLauncher[str]):
    """Starts the first service with a matching name."""

    name = "windows-service"

    def __init__(self, context: LaunchContext, method: WindowsService) -> None:
        super().__init__(context)
        self._names = method.services

    @cached_property
    def unit(self) -> str | None:
        """The first service with a matching name."""
        if not IS_WINDOWS or which("sc") is None:  # on other systems, sc is a spreadsheet program
            return None
        listed = run(["sc", "query", "type=", "service", "state=", "all", "bufsize=", "262144"], self.context.remaining)
        names: list[str] = re.findall(r"^SERVICE_NAME:\s*(\S.*?)\s*$", listed.output, re.MULTILINE)
        for wanted in self._names:
            fitting = sorted(name for name in names if fnmatchcase(name.lower(), wanted.lower()))
            if fitting:
                return fitting[-1]
        return None

    def runs(self) -> bool | None:
        """Return whether the service's state is RUNNING, and its process holds the port."""
        if self.unit is None:
            return False
        shown = run(["sc", "queryex", self.unit], self.context.remaining).output
        # Windows translates the names of these lines, but not the codes after the colon, nor "PID".
        state = re.search(r":\s*([1-7])\s+[A-Z_]+\s*$", shown, re.MULTILINE)
        pid = re.search(r"^\s*PID\s*:\s*(\d+)", shown, re.MULTILINE)
        if state is None or int(state[1]) != _RUNNING:
            return False
        return serves(self.context, int(pid[1]) if pid else 0)

    def command(self, action: str) -> str:
        """Return the ``net`` command for an administrator's prompt. ``net`` waits for the service, ``sc`` does not."""
        return f'net {action} "{self.required_unit()}"'

    def not_found(self) -> LaunchError:
        """Return the error for a system without the services."""
        return LaunchError(f"no Windows service {' or '.join(self._names)} found")

    def control(self, action: str) -> str:
        """Start or stop the service with ``sc``."""
        service = self.required_unit()
        done = run(["sc", action, service], self.context.remaining)
        code = _code(done.code, done.output)
        if code == _ACCESS_DENIED:
            raise LaunchError(
                f"only an administrator can {action} the service {service}; use a prompt that runs as administrator",
                self.command(action),
            )
        if code not in (0, _ALREADY[action]):
            raise LaunchError(f"sc {action} {service} failed", log=done.last_lines)
        return f"sc {action} {service}"


def _code(exit_status: int, output: str) -> int:
    """Return the error code of sc. It is taken from the output, because a shell may cut off the exit status."""
    printed = re.search(r"\[SC\].*?\b(\d+):", output)
    return int(printed[1]) if printed and exit_status else exit_status
