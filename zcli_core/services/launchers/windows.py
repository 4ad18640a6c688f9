"""Services of Windows, through its command ``sc``."""

from __future__ import annotations

import re
import sys
from fnmatch import fnmatchcase
from functools import cached_property

from zcli_core.services.contract import LaunchError, WindowsService
from zcli_core.services.launchers.base import Job, Launcher
from zcli_core.services.launchers.commands import run, which
from zcli_core.services.launchers.identity import serves

IS_WINDOWS = sys.platform == "win32"

# System error codes, which sc exits with: learn.microsoft.com/windows/win32/debug/system-error-codes
_ACCESS_DENIED = 5
_ALREADY_RUNNING = 1056
_NOT_ACTIVE = 1062
_RUNNING = 4  # dwCurrentState of SERVICE_STATUS


class WindowsServices(Launcher):
    """Starts the first service whose name fits."""

    name = "windows-service"

    def __init__(self, job: Job, method: WindowsService) -> None:
        super().__init__(job)
        self._names = method.services

    def found(self) -> bool:
        """Whether a service of that name is installed."""
        return self._service is not None

    @cached_property
    def _service(self) -> str | None:
        if not IS_WINDOWS or which("sc") is None:  # elsewhere, a spreadsheet calculator is called sc
            return None
        listed = run(["sc", "query", "type=", "service", "state=", "all", "bufsize=", "262144"], self.job.remaining)
        names: list[str] = re.findall(r"^SERVICE_NAME:\s*(\S.*?)\s*$", listed.output, re.MULTILINE)
        for wanted in self._names:
            fitting = sorted(name for name in names if fnmatchcase(name.lower(), wanted.lower()))
            if fitting:
                return fitting[-1]
        return None

    def runs(self) -> bool | None:
        """Whether the service's state is RUNNING, and its process holds the port."""
        if self._service is None:
            return False
        shown = run(["sc", "queryex", self._service], self.job.remaining).output
        # Windows translates the names of these lines, but neither the codes after the colon nor "PID".
        state = re.search(r":\s*([1-7])\s+[A-Z_]+\s*$", shown, re.MULTILINE)
        pid = re.search(r"^\s*PID\s*:\s*(\d+)", shown, re.MULTILINE)
        if state is None or int(state[1]) != _RUNNING:
            return False
        return serves(self.job, int(pid[1]) if pid else 0)

    def command(self, action: str) -> str:
        """``net``, which waits, unlike ``sc``; in a prompt run as administrator."""
        return f'net {action} "{self._require()}"'

    def start(self) -> None:
        """Start the service and wait."""
        self._control("start", _ALREADY_RUNNING)
        self.require_ready(f"sc start {self._require()}")

    def stop(self) -> None:
        """Stop the service and wait."""
        self._control("stop", _NOT_ACTIVE)
        self.require_gone(f"sc stop {self._require()}")

    def _require(self) -> str:
        if self._service is None:
            raise LaunchError(f"Windows has no service {' or '.join(self._names)}")
        return self._service

    def _control(self, action: str, already: int) -> None:
        service = self._require()
        done = run(["sc", action, service], self.job.remaining)
        code = _code(done.code, done.output)
        if code == _ACCESS_DENIED:
            raise LaunchError(
                f"it takes an administrator to {action} the service {service}; in a prompt run as administrator",
                self.command(action),
            )
        if code not in (0, already):
            raise LaunchError(f"sc {action} {service} failed", log=done.last_lines)


def _code(exit_status: int, output: str) -> int:
    """sc's error code. It prints it, too, and where it is run through a shell only that arrives whole."""
    printed = re.search(r"\[SC\].*?\b(\d+):", output)
    return int(printed[1]) if printed and exit_status else exit_status
