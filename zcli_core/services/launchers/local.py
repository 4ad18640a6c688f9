"""A server that zCLI starts as a process: on a loopback address only, with its own data folder.

The server outlives the program that started it. Its process (id, start time and name) and its handshake together prove
that it runs, never a pid file alone. Any later program of the same user can stop it.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

from zcli_core.errors import raised_by_signal
from zcli_core.services.contract import LaunchError, LocalProcess
from zcli_core.services.launchers import instances, server_process
from zcli_core.services.launchers.accounts import choose_account, reachable_program
from zcli_core.services.launchers.context import LaunchContext
from zcli_core.services.launchers.data_files import DataFiles
from zcli_core.services.launchers.identity import is_at
from zcli_core.services.launchers.instances import Instance, Written, data_folder
from zcli_core.services.launchers.launcher import Launcher
from zcli_core.services.launchers.paths import LocalServerPaths
from zcli_core.services.launchers.processes import Process, is_frozen, listening_port, look_up, process_in
from zcli_core.services.launchers.programs import find_programs, install_command, not_installed, wheel_files
from zcli_core.services.launchers.server_folder import ServerLog, lock_data, make_instance_folder, start_lock
from zcli_core.services.probing import ProbeOutcome, probe_service
from zcli_core.system.trusted import root_and_self, why_untrusted

#: The part of the time for stopping a server after which the server is killed.
_STOP_SHARE = 0.6
#: Seconds that a server gets to end, if it did not become ready or if no time is left.
_GRACE = 3.0
_BETWEEN_TRIES = 0.2


class Local(Launcher):
    """Starts a program that is installed, or contained in a wheel."""

    name = "local"
    knows_port = True

    def __init__(self, context: LaunchContext, method: LocalProcess) -> None:
        super().__init__(context)
        self._method = method
        #: The program that the backend chose. If it is in a wheel, a copy of it may be started.
        self._chosen = Path()
        #: The programs that could not read the data folder, with the last lines of their log.
        self._unfit: dict[Path, tuple[str, ...]] = {}

    def found(self) -> bool:
        """Return whether this system can run local processes and has a program of the service."""
        return os.name == "posix" and bool(self._programs)

    @cached_property
    def _programs(self) -> list[Path]:
        return find_programs(self._method)

    @cached_property
    def _folder(self) -> Path:
        if self.context.folder is None:
            raise LaunchError("this user has no home folder; set services.folder to a folder for local servers")
        return instances.instance_folder(self.context.folder, self.context.backend.name, self.context.target.data_dir)

    @cached_property
    def _log(self) -> ServerLog:
        return ServerLog(self._folder)

    def running_instance(self) -> Instance | None:
        """Return the server that zCLI started for the target's data folder, if its process is alive."""
        context = self.context
        return instances.find_running(context.folder, context.backend.name, context.target.data_dir)

    def _is_at_target(self, instance: Instance | None) -> bool:
        return instance is not None and is_at(instance.host, instance.port, self.context.target)

    def runs(self) -> bool:
        """Return whether the server that zCLI started listens at the target."""
        return self._is_at_target(self.running_instance())

    def is_run_by(self, uid: int) -> bool:
        """Return whether that server runs as the user ``uid``."""
        instance = self.running_instance()
        if instance is None or not instance.is_ours or instance.process.uid != uid:
            return False
        return self._is_at_target(instance)

    # --- starting ---

    def start(self) -> None:
        """Start the server and wait until it is ready. Only one process at a time starts it; the others wait."""
        self._require_posix()
        self._require_host()
        try:
            self._start()
        except OSError as error:  # the disk is full, or another user made a file in our folder
            if raised_by_signal(error):
                raise
            raise LaunchError(f"cannot use {error.filename or self._folder}: {error.strerror or error}") from error

    def _start(self) -> None:
        context = self.context
        make_instance_folder(self._folder, context.folder_setting)
        untrusted = why_untrusted(self._folder.stat(), root_and_self())
        if untrusted is not None:
            context.log.warning("%s %s: its record of a server is ignored", self._folder, untrusted)
        with start_lock(self._folder, lambda: context.remaining):
            if context.probe().is_running:
                self._require_ready(context.wait_until_ready())
                return
            held = self.running_instance()
            if held is not None and self._is_at_target(held) and not is_frozen(held.process.pid):
                outcome = context.wait_until_ready(lambda: not held.alive)  # it was still starting
                if outcome.is_running:
                    self._require_ready(outcome)
                    return
            if held is not None and held.alive:
                raise self._in_use(held.process, held.port, held.host)
            paths = self._paths()
            with self._locked_data(paths.files) as lock:
                if lock is not None:
                    context.backend.prepare(paths)
                    paths.files.make_private()
                    self._start_at(paths, lock)

    def _require_posix(self) -> None:
        if os.name != "posix":
            raise LaunchError("zCLI does not start local processes on Windows; install the server as a service")

    def _require_host(self) -> None:
        target, setting = self.context.target, f"services.{self.context.backend.name}.host"
        if target.is_socket_path and not self._method.unix_socket:
            raise LaunchError(
                f"{setting} is the Unix socket {target.host}; zCLI starts {self.context.backend.title} on a TCP port "
                "only"
            )
        if not target.is_socket_path and not is_at(self._host, target.port, target):
            raise LaunchError(
                f"{setting} is {target.host}; zCLI starts servers on the loopback addresses 127.0.0.1 and ::1 only"
            )

    @property
    def _host(self) -> str:
        host = self.context.target.host
        return host if host.startswith("/") or host == "::1" else "127.0.0.1"

    def _paths(self) -> LocalServerPaths:
        """Choose the account and the program, and make the data folder."""
        context = self.context
        if not self._programs:
            raise not_installed(context.backend)
        data = data_folder(self._folder, context.target.data_dir)
        account = choose_account(self._method.accounts, data)
        files = DataFiles(data, account, lambda: context.remaining)
        exists = os.path.exists(data)
        if exists:
            files.make()
        program = self._chosen = context.backend.choose_program(self._programs_for(files), files)
        if account is not None:
            program = reachable_program(program, account, self._method, self._folder, lambda: context.remaining)
        if not exists:  # only after the program was chosen: a failed choice leaves no folder behind
            files.make()
        return LocalServerPaths(
            program, files, self._folder, self._host, context.target.port, context.log, lambda: context.remaining
        )

    def _programs_for(self, files: DataFiles) -> list[Path]:
        """Return the programs that may read the data. The program that wrote the data comes first."""
        last = instances.read_written(self._folder)
        wheels = {each.path: each.inner for each in wheel_files(self._method)}

        def rank(program: Path) -> int:
            if str(program) == last.program:
                return 0
            return 1 if last.wheel is not None and wheels.get(program) == last.wheel else 2

        left = [program for program in self._programs if program not in self._unfit]
        return sorted(left, key=rank) if files.names() else left

    def _start_at(self, paths: LocalServerPaths, lock: int) -> None:
        """Start the program, or the next program if it cannot read the data, and wait until the server is ready."""
        context = self.context
        while True:
            before = self._log.size()
            instance = self._spawn(paths, lock)
            outcome = context.wait_until_ready(lambda held=instance: held is None or not held.alive)  # type: ignore[misc]
            if instance is not None and instance.alive:
                break
            instances.forget(self._folder)
            if outcome.state == "ready":  # another program's server took the port first
                return
            lines = self._log.lines_since(before)
            if _contains(lines, self._method.unreadable_on):
                paths = self._next_paths(paths, lines)
                continue
            if not _contains(lines, self._method.try_again_on) or context.remaining <= 0:
                raise LaunchError(f"{paths.program.name} ended at once", log=lines)
            time.sleep(_BETWEEN_TRIES)
        if outcome.is_running:
            # Only now are name, program and folder those of the server and not of the shell.
            process = look_up(instance.process.pid) or instance.process
            instances.write(self._folder, instance._replace(process=process))
            self._remember(paths, outcome)
        else:
            server_process.end(instance, self._method.stop_signal, _GRACE, context.log)
        self._require_ready(outcome, before)

    def _spawn(self, paths: LocalServerPaths, lock: int) -> Instance | None:
        command = [str(part) for part in self.context.backend.command(paths)]
        with self._log.open() as log:
            instance = server_process.spawn(paths, command, log, lock, self.context.remaining)
        if instance is not None:
            instances.write(self._folder, instance)
        return instance

    def _next_paths(self, paths: LocalServerPaths, lines: Sequence[str]) -> LocalServerPaths:
        """Return the paths with the next program, after a program that could not read the data."""
        self._unfit[self._chosen] = tuple(lines)
        last = instances.read_written(self._folder)
        if len(self._unfit) < len(self._programs) and self.context.remaining > 0:
            self.context.log.info("%s cannot read %s; trying the next program", self._chosen, paths.data)
            return self._paths()
        tried = ", ".join(map(str, self._unfit))
        message = f"no program here can read the data folder {paths.data}: tried {tried}"
        if last.program and Path(last.program) not in self._unfit:
            wrote = " ".join(filter(None, (last.program, last.version)))
            message += f"; {wrote} wrote it: install that version again, or name another folder with data_dir"
        pip = install_command(self.context.backend, wheel=True) if last.wheel else None
        raise LaunchError(message, pip, next(iter(self._unfit.values())))

    def _remember(self, paths: LocalServerPaths, outcome: ProbeOutcome) -> None:
        """Record which program writes the data folder."""
        wheel = next((each.inner for each in wheel_files(self._method) if each.path == self._chosen), None)
        version = outcome.result.version if outcome.result else None
        instances.write_written(self._folder, Written(paths.data, str(self._chosen), wheel, version))

    def _require_ready(self, outcome: ProbeOutcome, log_start: int | None = None) -> None:
        if outcome.state == "ready":
            return
        after = f"within {self.context.timeout:g} s"
        message = f"it did not answer {after}, and was ended"
        if outcome.is_running:
            message = f"it is not ready {after}: {outcome.detail}; it keeps running, check its status later"
        raise LaunchError(message, log=() if log_start is None else self._log.lines_since(log_start))

    # --- the data folder ---

    @contextlib.contextmanager
    def _locked_data(self, files: DataFiles) -> Iterator[int | None]:
        """Hold the lock of the data folder; None if another process has started the service in the meantime.

        Raises:
            LaunchError: another server has the folder.
        """
        try:
            lock = self._lock_data(files)
        except OSError as error:
            raise LaunchError(f"cannot lock the data folder {files.path}: {error.strerror}") from error
        try:
            yield lock
        finally:
            if lock is not None:
                os.close(lock)

    def _lock_data(self, files: DataFiles) -> int | None:
        context, data = self.context, files.path
        names = {*self._method.programs, *(program.name for program in self._programs)}
        found: list[tuple[Process, int | None]] = []
        lock: int | None = None

        def settled() -> bool:
            nonlocal lock
            lock = lock_data(files.open())
            user = process_in(data, names)
            found[:] = [] if user is None else [(user, listening_port(user.pid))]
            if user is None and lock is not None:
                return True
            if lock is not None:
                os.close(lock)
                lock = None
            if context.probe().is_running:
                return True
            # The processes of a killed server continue for a moment, and no server answers at their port.
            port = found[0][1] if found else None
            return port is not None and port != context.target.port and self._answers("127.0.0.1", port)

        try:
            context.wait_until(settled)
        except BaseException:  # Ctrl+C too: a lock that our program keeps would exclude every server from the folder
            if lock is not None:
                os.close(lock)
            raise
        if lock is not None:
            return lock
        if context.probe().is_running:
            self._require_ready(context.wait_until_ready())
            return None
        if found:
            raise self._in_use(*found[0])
        raise LaunchError(f"the data folder {data} is locked by a server that this user cannot see")

    def _answers(self, host: str, port: int) -> bool:
        target = self.context.target._replace(host=host, port=port)
        return probe_service(self.context.backend, target, self.context.probe_timeout).is_running

    def _in_use(self, process: Process, port: int | None, host: str = "127.0.0.1") -> LaunchError:
        """Return the error for a data folder that another server uses."""
        data = data_folder(self._folder, self.context.target.data_dir)
        message = f"the data folder {data} already has a server: {process.name or 'a server'} (pid {process.pid})"
        if is_frozen(process.pid):
            command = server_process.kill_command("CONT", process.pid)
            return LaunchError(f"{message}, which a signal has stopped", command)
        if port is None:
            return LaunchError(f"{message}; name another folder with data_dir")
        message = f"{message} on {host if host.startswith('/') else f'port {port}'}"
        if is_at(host, port, self.context.target) or not self._answers(host, port):
            command = self.context.cli("restart", port)
            return LaunchError(f"{message}, which does not answer", command, self._log.lines_since(0))
        return LaunchError(f"{message}; use that server, or name another folder with data_dir")

    # --- stopping ---

    def stop(self) -> None:
        """Let the server save its data and end. A server that does not end is killed."""
        self._require_posix()
        instance = self.running_instance()
        if instance is None:
            raise LaunchError("no server that zCLI started runs here")
        # Finding what runs may have taken all the time. The server still gets some to save its data.
        patience = max(self.context.remaining * _STOP_SHARE, min(self.context.timeout, _GRACE))
        server_process.end(instance, self._method.stop_signal, patience, self.context.log)
        held = instances.read(self._folder)
        # Keep the record of a server that was started in the meantime, and every file in another user's folder.
        if held is not None and held.is_ours and held.process.same_as(instance.process):
            instances.forget(self._folder)


def _contains(log: Sequence[str], texts: Sequence[str]) -> bool:
    return any(text in line for text in texts for line in log)
