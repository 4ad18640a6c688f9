"""One call that starts, stops or restarts a service: the service, the deadline, and probes until it changes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from zcli_core.services.contract import ServiceBackend, Target
from zcli_core.services.probing import ProbeOutcome, probe_service

_POLL_FIRST = 0.02
_POLL_LONGEST = 0.25
_PROBE_LONGEST = 1.0


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Poll until the condition is true. Return False if it was not true within ``seconds``."""
    deadline = time.monotonic() + seconds
    pause = _POLL_FIRST
    while not condition():
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            return False
        time.sleep(min(pause, remaining))
        pause = min(pause * 1.5, _POLL_LONGEST)
    return True


@dataclass
class LaunchContext:
    """A service that is to be started or stopped before a deadline.

    Attributes:
        backend: the kind of service.
        target: where the service is, or will be.
        timeout: seconds from now to the deadline.
        folder: where local servers are kept; None if our user has no such folder.
        log: the log of services.
        folder_setting: the value of ``services.folder``.
        probe_timeout: seconds that one probe may take.
    """

    backend: ServiceBackend
    target: Target
    timeout: float
    folder: Path | None
    log: logging.Logger
    folder_setting: Path | None = None
    probe_timeout: float = _PROBE_LONGEST

    def __post_init__(self) -> None:
        self._deadline = time.monotonic() + self.timeout

    @property
    def remaining(self) -> float:
        """Seconds until the deadline; negative after it."""
        return self._deadline - time.monotonic()

    def cli(self, action: str, port: int | None = None) -> str:
        """Return the ``zcli services`` command line that does ``action`` for this service, port and data folder."""
        import shlex
        import shutil
        import sys

        target = self.target
        command = ["zcli"] if shutil.which("zcli") else [sys.executable, "-m", "zCLI"]
        command += ["services", action, self.backend.name, "--port", str(port or target.port)]
        if target.data_dir is not None:
            command += ["--data-dir", str(target.data_dir)]
        # Settings in a script's zSpark are passed to the other program as variables.
        variables = {
            "ZCLI_SERVICES_FOLDER": self.folder_setting,
            f"ZCLI_SERVICES_{self.backend.name.upper()}_HOST": None if target.host == "127.0.0.1" else target.host,
        }
        assignments = [f"{name}={shlex.quote(str(value))}" for name, value in variables.items() if value is not None]
        return " ".join([*assignments, shlex.join(command)])

    def probe(self, longest: float = _PROBE_LONGEST) -> ProbeOutcome:
        """Probe the service for at most ``longest`` seconds, and not beyond the deadline."""
        timeout = max(0.05, min(longest, self.remaining))
        return probe_service(self.backend, self.target, timeout)

    def wait_until(self, condition: Callable[[], bool]) -> bool:
        """Poll until the condition is true. Return False if it was not true before the deadline."""
        return wait_until(condition, self.remaining)

    def wait_until_ready(self, has_ended: Callable[[], bool] = bool) -> ProbeOutcome:
        """Probe until the service is ready, ``has_ended`` returns True, or the deadline. Return the last outcome."""
        outcome = ProbeOutcome("stopped")
        began = time.monotonic()

        def settled() -> bool:
            nonlocal outcome
            # In this order, because the service may become ready just before it ends.
            ended = has_ended()
            # A slow server gets longer with each probe.
            latest = self.probe(max(_PROBE_LONGEST, time.monotonic() - began))
            # A probe that the deadline cuts short may receive less than the one before.
            cut_short = self.remaining <= 0 and latest.state in ("not ready", "silent")
            outcome = outcome if cut_short and outcome.is_running else latest
            return outcome.state == "ready" or ended

        self.wait_until(settled)
        return outcome

    def wait_while_silent(self) -> ProbeOutcome:
        """Probe until the service is no longer silent, or the deadline. Return the last outcome."""
        outcome = ProbeOutcome("silent")

        def settled() -> bool:
            nonlocal outcome
            outcome = self.probe()
            return outcome.state != "silent"

        self.wait_until(settled)
        return outcome
