"""A server as a process of our own: on loopback only, with a data folder of its own.

It outlives the program that started it. What tells that it runs is its process (number, start time and name) and its
handshake together, never a pid file alone. Any later program of the same user can stop it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from zcli_core.comm.services.asking import Finding
from zcli_core.contracts.service import LaunchError, LocalProcess
from zcli_core.launchers import instance as instances
from zcli_core.launchers.base import Job, Launcher, wait_until
from zcli_core.launchers.commands import environment, is_root, last_lines
from zcli_core.launchers.instance import Instance, data_folder
from zcli_core.launchers.place import LocalPlace, choose_account, make_data_folder, make_folder, reachable
from zcli_core.launchers.processes import look_up
from zcli_core.launchers.programs import find_programs

_LOG = "server.log"
_LOG_MAX = 10_000_000
_LOG_TAIL = 16_384
#: Of the time there is to stop a server, the part after which it is killed.
_PATIENCE = 0.6
#: Seconds for a server that did not become ready to end by itself, and for any to be gone once it is killed.
_GRACE = 3.0
_KILLED = 5.0
_BETWEEN_TRIES = 0.2
# The shell goes at once, so the server is nobody's child: no program of ours has to wait for it.
_DETACH = 'umask 077; "$@" >&2 & echo $!'


class Local(Launcher):
    """Starts a program that is installed, or comes in a wheel."""

    name = "local"
    knows_port = True

    def __init__(self, job: Job, method: LocalProcess) -> None:
        super().__init__(job)
        self._method = method

    def found(self) -> bool:
        """Whether this system can do it and a program is there."""
        return os.name == "posix" and bool(self._programs)

    @cached_property
    def _programs(self) -> list[Path]:
        return find_programs(self._method)

    @cached_property
    def _folder(self) -> Path:
        if self.job.folder is None:
            raise LaunchError("this user has no home folder; say where local servers are to live with services.folder")
        return instances.instance_folder(self.job.folder, self.job.backend.name, self.job.target.data_dir)

    def running_instance(self) -> Instance | None:
        """The server that was started here and whose process is alive."""
        return instances.running(self.job.folder, self.job.backend.name, self.job.target.data_dir)

    def runs(self) -> bool:
        """Whether the server that answers is the one that was started here."""
        found = self.running_instance()
        return found is not None and found.port == self.job.target.port

    # --- starting ---

    def start(self) -> None:
        """Start the server and wait; another process that starts it too waits for us, and the other way round."""
        self._require_posix()
        make_folder(self._folder, 0o755)
        with instances.locked(self._folder, lambda: self.job.remaining):
            if self.job.ask().answered:
                self._require_ready(self.job.wait_until_ready())
                return
            self._require_free_data()
            place = self._place()
            self.job.backend.prepare(place)
            self._start_at(place)

    def _require_posix(self) -> None:
        if os.name != "posix":
            raise LaunchError("zCLI does not start processes of its own on Windows; install the server as a service")

    def _require_free_data(self) -> None:
        held = self.running_instance()
        if held is not None:
            raise LaunchError(
                f"{held.process.name} (pid {held.process.pid}), which zCLI started on port {held.port}, is alive but "
                "does not answer",
                f"kill -CONT {held.process.pid}",
                self._log_since(0),
            )

    def _place(self) -> LocalPlace:
        if not self._programs:
            from zcli_core.comm.services.reports import install_command, install_hint

            backend = self.job.backend
            raise LaunchError(f"{backend.title} is not installed: {install_hint(backend)}", install_command(backend))
        data = data_folder(self._folder, self.job.target.data_dir)
        account = choose_account(self._method, data)
        program = self.job.backend.choose_program(self._programs, data)
        if account is not None:
            fitting = reachable(program, account, self._method, self._folder)
            if fitting is not None:
                program = fitting
            elif self._method.refuses_root:
                raise LaunchError(
                    f"{program} does not run as root, and the account {account.name} cannot reach it; "
                    "install the server where every user can"
                )
            else:
                self.job.log.warning("%s runs as root: the account %s cannot reach it", program, account.name)
                account = None
        elif is_root() and self._method.refuses_root:
            raise LaunchError(f"{program} does not run as root, and there is no other account to run it")
        make_data_folder(data, account)
        host = "::1" if self.job.target.host == "::1" else "127.0.0.1"
        return LocalPlace(program, data, self._folder, host, self.job.target.port, account, self.job.log)

    def _start_at(self, place: LocalPlace) -> None:
        command = [str(part) for part in self.job.backend.command(place)]
        while True:
            before = self._log_size()
            instance = self._spawn(place, command)
            finding = self.job.wait_until_ready(lambda held=instance: held is None or not held.alive)  # type: ignore[misc]
            if instance is not None and instance.alive:
                break
            instances.forget(self._folder)
            if finding.state == "ready":  # somebody else's server was there first
                return
            said = self._log_since(before)
            busy = any(sentence in line for sentence in self._method.try_again_on for line in said)
            if not busy or self.job.remaining <= 0:
                raise LaunchError(f"{place.program.name} ended at once", log=said)
            time.sleep(_BETWEEN_TRIES)
        if finding.answered:
            # Its name is the server's only now; at first it was the shell's.
            process = look_up(instance.process.pid) or instance.process
            instances.write(self._folder, instance._replace(process=process))
        else:
            self._end(instance, _GRACE)
        self._require_ready(finding, before)

    def _require_ready(self, finding: Finding, log_start: int | None = None) -> None:
        if finding.state == "ready":
            return
        after = f"within {self.job.timeout:g} s"
        message = f"it did not answer {after}, and was ended"
        if finding.answered:
            message = f"it is not ready {after}: {finding.detail}; it goes on, ask again later"
        raise LaunchError(message, log=() if log_start is None else self._log_since(log_start))

    def _spawn(self, place: LocalPlace, command: Sequence[str]) -> Instance | None:
        account = place.account
        options = {} if account is None else {"user": account.uid, "group": account.gid, "extra_groups": ()}
        with (self._folder / _LOG).open("ab") as log:
            try:
                done = subprocess.run(  # type: ignore[call-overload]  # noqa: S603
                    ["/bin/sh", "-c", _DETACH, "sh", *command],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    cwd=place.data,
                    env=environment(),
                    start_new_session=True,
                    timeout=10,
                    check=True,
                    **options,
                )
            except (OSError, subprocess.SubprocessError) as error:
                raise LaunchError(f"{command[0]} cannot be started: {error}") from error
        process = look_up(int(done.stdout))
        if process is None:
            return None
        instance = Instance(process._replace(name=""), place.host, place.port, str(place.program))
        instances.write(self._folder, instance)
        return instance

    # --- stopping ---

    def stop(self) -> None:
        """Have the server save its data and end; kill it if it does not."""
        self._require_posix()
        instance = self.running_instance()
        if instance is None:
            raise LaunchError("no server that zCLI started runs here")
        self._end(instance, self.job.remaining * _PATIENCE)
        instances.forget(self._folder)

    def _end(self, instance: Instance, patience: float) -> None:
        """Have it end by itself within these seconds; kill it otherwise."""
        who = f"{os.path.basename(instance.program)} (pid {instance.process.pid})"
        _signal(instance, self._method.stop_signal, who)
        _signal(instance, signal.SIGCONT, who)  # a frozen process acts on its signals once it is thawed
        if wait_until(lambda: not instance.alive, patience):
            return
        self.job.log.warning("%s did not end within %g s and is killed", who, round(patience, 1))
        _signal(instance, signal.SIGKILL, who)
        if not wait_until(lambda: not instance.alive, _KILLED):
            raise LaunchError(f"{who} did not end", f"kill -KILL {instance.process.pid}")

    # --- its log ---

    def _log_size(self) -> int:
        file = self._folder / _LOG
        try:
            size = file.stat().st_size
        except OSError:
            return 0
        if size > _LOG_MAX:
            file.replace(file.with_name(f"{_LOG}.1"))
            return 0
        return size

    def _log_since(self, start: int) -> tuple[str, ...]:
        try:
            with (self._folder / _LOG).open("rb") as log:
                size = log.seek(0, os.SEEK_END)
                log.seek(max(start, size - _LOG_TAIL))
                return last_lines(log.read().decode("utf-8", "replace"))
        except OSError:
            return ()


def _signal(instance: Instance, number: int, who: str) -> None:
    """Send a signal to that very process; none if it is gone."""
    if not instance.alive:
        return
    try:
        os.kill(instance.process.pid, number)
    except ProcessLookupError:
        pass
    except PermissionError as error:
        name = signal.Signals(number).name.removeprefix("SIG")
        raise LaunchError(f"{who} belongs to another user", f"sudo kill -{name} {instance.process.pid}") from error
