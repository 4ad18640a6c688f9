"""What every launcher is, and the job that one is given."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

from zcli_core.services.contract import LaunchError, ServiceBackend, Target
from zcli_core.services.probing import Finding, ask

_POLL_FIRST = 0.02
_POLL_LONGEST = 0.25
_PROBE_LONGEST = 1.0


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Poll until the condition holds; False if it did not within these seconds."""
    deadline = time.monotonic() + seconds
    pause = _POLL_FIRST
    while not condition():
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            return False
        time.sleep(min(pause, remaining))
        pause = min(pause * 1.5, _POLL_LONGEST)
    return True


class Job:
    """One service that is to be started or stopped before a deadline.

    ``folder`` is where local servers live, None where there is no such place; ``folder_setting`` is
    ``services.folder``. ``probe_timeout`` is what one probe may take, in seconds.
    """

    def __init__(
        self,
        backend: ServiceBackend,
        target: Target,
        timeout: float,
        folder: Path | None,
        log: logging.Logger,
        folder_setting: Path | None = None,
        probe_timeout: float = _PROBE_LONGEST,
    ) -> None:
        self.backend = backend
        self.target = target
        self.timeout = timeout
        self.folder = folder
        self.log = log
        self.folder_setting = folder_setting
        self.probe_timeout = probe_timeout
        self._deadline = time.monotonic() + timeout

    @property
    def remaining(self) -> float:
        """Seconds left."""
        return self._deadline - time.monotonic()

    def cli(self, action: str, port: int | None = None) -> str:
        """The command line of ``zcli services`` that does it for this service, port, data folder and place."""
        import shlex
        import shutil
        import sys

        target = self.target
        command = ["zcli"] if shutil.which("zcli") else [sys.executable, "-m", "zCLI"]
        command += ["services", action, self.backend.name, "--port", str(port or target.port)]
        if target.data_dir is not None:
            command += ["--data-dir", str(target.data_dir)]
        # What a script says in its zSpark, another program is told with variables.
        variables = {
            "ZCLI_SERVICES_FOLDER": self.folder_setting,
            f"ZCLI_SERVICES_{self.backend.name.upper()}_HOST": None if target.host == "127.0.0.1" else target.host,
        }
        said = [f"{name}={shlex.quote(str(value))}" for name, value in variables.items() if value is not None]
        return " ".join([*said, shlex.join(command)])

    def ask(self, longest: float = _PROBE_LONGEST) -> Finding:
        """How the service is now, probed for at most ``longest`` seconds."""
        timeout = max(0.05, min(longest, self.remaining))
        return ask(self.backend, self.target, timeout, name_strangers=False)

    def wait_until(self, condition: Callable[[], bool]) -> bool:
        """Poll until the condition holds; False if the deadline came first."""
        return wait_until(condition, self.remaining)

    def wait_until_ready(self, ended: Callable[[], bool] = bool) -> Finding:
        """Poll until the service is ready, has ``ended``, or the deadline has come; the last finding."""
        finding = Finding("stopped")
        began = time.monotonic()

        def settled() -> bool:
            nonlocal finding
            # Asked in this order, for it may become ready just before it is seen to have ended.
            gone = ended()
            # A server that is slow to answer is given longer with each probe.
            latest = self.ask(max(_PROBE_LONGEST, time.monotonic() - began))
            # A probe that the deadline cuts short may get less of an answer than the one before.
            cut_short = self.remaining <= 0 and latest.state in ("not ready", "silent")
            finding = finding if cut_short and finding.answered else latest
            return finding.state == "ready" or gone

        self.wait_until(settled)
        return finding

    def wait_while_silent(self) -> Finding:
        """Poll while connections are accepted and nothing is said; the last finding."""
        finding = Finding("silent")

        def settled() -> bool:
            nonlocal finding
            finding = self.ask()
            return finding.state != "silent"

        self.wait_until(settled)
        return finding


class Launcher:
    """One way to start and stop a service.

    ``name`` is what ``services.<name>.launcher`` calls it. ``knows_port`` tells whether it starts the service on the
    port that is asked for; otherwise the service has a port of its own.
    """

    name: ClassVar[str]
    knows_port: ClassVar[bool] = False

    def __init__(self, job: Job) -> None:
        self.job = job

    def found(self) -> bool:
        """Whether it has the service, so that it could start it."""
        raise NotImplementedError

    def runs(self) -> bool | None:
        """Whether it is what runs the service now: True only if that is proven, None if the system does not say."""
        raise NotImplementedError

    def is_run_by(self, uid: int) -> bool:
        """Whether it is proven that it runs the service, whose port this user holds."""
        return self.runs() is True

    def command(self, action: str) -> str:
        """The command with which a person starts or stops the service the way that this launcher does."""
        raise NotImplementedError

    def start(self) -> None:
        """Start the service and wait until it is ready.

        :raises LaunchError: it could not be started, or did not become ready in time.
        """
        raise NotImplementedError

    def stop(self) -> None:
        """Stop the service and wait until it is gone.

        :raises LaunchError: it could not be stopped.
        """
        raise NotImplementedError

    def require_ready(self, what: str, log: Callable[[], Sequence[str]] = tuple) -> None:
        """Wait until the service is ready after ``what`` was done."""
        finding = self.job.wait_until_ready()
        if finding.state != "ready":
            detail = f": {finding.detail}" if finding.detail else ""
            raise LaunchError(
                f"{what} succeeded, but {self.job.target.address} was not ready within {self.job.timeout:g} s{detail}",
                log=log(),
            )

    def require_gone(self, what: str) -> None:
        """Wait until nothing answers after ``what`` was done."""
        if not self.job.wait_until(lambda: not self.job.ask().answered):
            raise LaunchError(
                f"{what} succeeded, but {self.job.target.address} still answered after {self.job.timeout:g} s"
            )
