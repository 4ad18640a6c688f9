"""A server as a process of our own: on loopback only, with a data folder of its own.

It outlives the program that started it. What tells that it runs is its process (number, start time and name) and its
handshake together, never a pid file alone. Any later program of the same user can stop it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

from zcli_core.errors import raised_by_signal
from zcli_core.services.contract import LaunchError, LocalProcess
from zcli_core.services.launchers import instance as instances
from zcli_core.services.launchers.base import Job, Launcher, wait_until
from zcli_core.services.launchers.commands import as_root, environment, last_lines
from zcli_core.services.launchers.data_files import DataFiles, choose_account
from zcli_core.services.launchers.identity import is_at
from zcli_core.services.launchers.installing import install_command, not_installed
from zcli_core.services.launchers.instance import Instance, Written, data_folder
from zcli_core.services.launchers.paths import LocalPlace, make_instance_folder, reachable
from zcli_core.services.launchers.processes import Process, is_frozen, listening_port, look_up, process_in
from zcli_core.services.launchers.programs import find_programs, wheel_files
from zcli_core.services.probing import Finding, ask
from zcli_core.system.safe_files import open_private
from zcli_core.system.trusted import root_and_self, why_untrusted

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
_DETACH = 'cd -- "$0" || exit 1; umask 077; "$@" >&2 & echo $!'


class Local(Launcher):
    """Starts a program that is installed, or comes in a wheel."""

    name = "local"
    knows_port = True

    def __init__(self, job: Job, method: LocalProcess) -> None:
        super().__init__(job)
        self._method = method
        self._chosen = Path()
        #: Programs that could not read the data folder, with their last words.
        self._unfit: dict[Path, tuple[str, ...]] = {}

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
        """Whether the server that was started here is the one at the target: same host, same port, process alive."""
        found = self.running_instance()
        return found is not None and is_at(found.host, found.port, self.job.target)

    def is_run_by(self, uid: int) -> bool:
        """Whether the server runs, and as that user."""
        found = self.running_instance()
        if found is None or not found.is_ours or found.process.uid != uid:
            return False
        return is_at(found.host, found.port, self.job.target)

    # --- starting ---

    def start(self) -> None:
        """Start the server and wait; another process that starts it too waits for us, and the other way round."""
        self._require_posix()
        self._require_host()
        try:
            self._start()
        except OSError as error:  # a full disk, or a file in our folder that another user has made
            if raised_by_signal(error):
                raise
            raise LaunchError(f"{error.filename or self._folder} cannot be used: {error.strerror or error}") from error

    def _start(self) -> None:
        make_instance_folder(self._folder, self.job.folder_setting)
        untrusted = why_untrusted(self._folder.stat(), root_and_self())
        if untrusted is not None:
            self.job.log.warning("%s %s: what it says of a server is not believed", self._folder, untrusted)
        with instances.locked(self._folder, lambda: self.job.remaining):
            if self.job.ask().answered:
                self._require_ready(self.job.wait_until_ready())
                return
            held = self.running_instance()
            if held is not None and is_at(held.host, held.port, self.job.target) and not is_frozen(held.process.pid):
                finding = self.job.wait_until_ready(lambda: not held.alive)  # it was still starting
                if finding.answered:
                    self._require_ready(finding)
                    return
            if held is not None and held.alive:
                raise self._in_use(held.process, held.port, held.host)
            place = self._place()
            with self._locked_data(place.files) as lock:
                if lock is not None:
                    self.job.backend.prepare(place)
                    place.files.make_private()
                    self._start_at(place, lock)

    def _require_posix(self) -> None:
        if os.name != "posix":
            raise LaunchError("zCLI does not start processes of its own on Windows; install the server as a service")

    def _require_host(self) -> None:
        target, setting = self.job.target, f"services.{self.job.backend.name}.host"
        if target.is_socket_path and not self._method.unix_socket:
            raise LaunchError(
                f"{setting} is the Unix socket {target.host}; zCLI starts a {self.job.backend.title} of its own on a "
                "TCP port only"
            )
        if not target.is_socket_path and not is_at(self._host, target.port, target):
            raise LaunchError(
                f"{setting} is {target.host}; zCLI starts servers of its own on the loopback addresses 127.0.0.1 and "
                "::1 only"
            )

    @property
    def _host(self) -> str:
        host = self.job.target.host
        return host if host.startswith("/") or host == "::1" else "127.0.0.1"

    @contextlib.contextmanager
    def _locked_data(self, files: DataFiles) -> Iterator[int | None]:
        """Hold the lock of the data folder; None if the service is ready meanwhile, started by another process.

        :raises LaunchError: another server has the folder.
        """
        try:
            lock = self._lock_data(files)
        except OSError as error:
            raise LaunchError(f"the data folder {files.path} cannot be locked: {error.strerror}") from error
        try:
            yield lock
        finally:
            if lock is not None:
                os.close(lock)

    def _lock_data(self, files: DataFiles) -> int | None:
        data = files.path
        names = {*self._method.programs, *(program.name for program in self._programs)}
        found: list[tuple[Process, int | None]] = []
        lock: int | None = None

        def settled() -> bool:
            nonlocal lock
            lock = instances.lock_data(files.open())
            used_by = process_in(data, names)
            found[:] = [] if used_by is None else [(used_by, listening_port(used_by.pid))]
            if used_by is None and lock is not None:
                return True
            if lock is not None:
                os.close(lock)
                lock = None
            if self.job.ask().answered:
                return True
            # The processes of a server that was killed go on for a moment, and no server answers at their port.
            port = found[0][1] if found else None
            return port is not None and port != self.job.target.port and self._answers("127.0.0.1", port)

        try:
            self.job.wait_until(settled)
        except BaseException:  # Ctrl-C too: a lock that stays with us would keep every server from the folder
            if lock is not None:
                os.close(lock)
            raise
        if lock is not None:
            return lock
        if self.job.ask().answered:
            self._require_ready(self.job.wait_until_ready())
            return None
        if found:
            raise self._in_use(*found[0])
        raise LaunchError(f"the data folder {data} is locked by a server that this user cannot see")

    def _answers(self, host: str, port: int) -> bool:
        target = self.job.target._replace(host=host, port=port)
        return ask(self.job.backend, target, self.job.probe_timeout, name_strangers=False).answered

    def _in_use(self, process: Process, port: int | None, host: str = "127.0.0.1") -> LaunchError:
        """The error for a data folder that already has a server."""
        data = data_folder(self._folder, self.job.target.data_dir)
        who = f"{process.name or 'a server'} (pid {process.pid})"
        if is_frozen(process.pid):
            return LaunchError(
                f"the data folder {data} already has a server: {who}, which a signal has stopped",
                _kill_command("CONT", process.pid),
            )
        if port is None:
            return LaunchError(f"the data folder {data} already has a server: {who}; name another with data_dir")
        where = host if host.startswith("/") else f"port {port}"
        message = f"the data folder {data} already has a server: {who} on {where}"
        if is_at(host, port, self.job.target) or not self._answers(host, port):
            return LaunchError(f"{message}, which does not answer", self.job.cli("restart", port), self._log_since(0))
        return LaunchError(f"{message}; use that one, or name another folder with data_dir")

    def _place(self) -> LocalPlace:
        if not self._programs:
            raise not_installed(self.job.backend)
        data = data_folder(self._folder, self.job.target.data_dir)
        account = choose_account(self._method.accounts, data)
        files = DataFiles(data, account, lambda: self.job.remaining)
        is_there = os.path.exists(data)
        if is_there:
            files.make()
        program = self._chosen = self.job.backend.choose_program(self._programs_for(files), files)
        if account is not None:
            program = reachable(program, account, self._method, self._folder, lambda: self.job.remaining)
        if not is_there:
            files.make()
        return LocalPlace(
            program,
            files,
            self._folder,
            self._host,
            self.job.target.port,
            self.job.log,
            lambda: self.job.remaining,
        )

    def _programs_for(self, files: DataFiles) -> list[Path]:
        """The programs to choose from, without those that could not read the data, the one that wrote it first."""
        last = instances.written(self._folder)
        wheels = {each.path: each.inner for each in wheel_files(self._method)}

        def rank(program: Path) -> int:
            if str(program) == last.program:
                return 0
            return 1 if last.wheel is not None and wheels.get(program) == last.wheel else 2

        left = [program for program in self._programs if program not in self._unfit]
        return sorted(left, key=rank) if files.names() else left

    def _start_at(self, place: LocalPlace, lock: int) -> None:
        while True:
            command = [str(part) for part in self.job.backend.command(place)]
            before = self._log_size()
            instance = self._spawn(place, command, lock)
            finding = self.job.wait_until_ready(lambda held=instance: held is None or not held.alive)  # type: ignore[misc]
            if instance is not None and instance.alive:
                break
            instances.forget(self._folder)
            if finding.state == "ready":  # somebody else's server was there first
                return
            said = self._log_since(before)
            if _says(said, self._method.unreadable_on):
                place = self._next_place(place, said)
                continue
            if not _says(said, self._method.try_again_on) or self.job.remaining <= 0:
                raise LaunchError(f"{place.program.name} ended at once", log=said)
            time.sleep(_BETWEEN_TRIES)
        if finding.answered:
            # Its name, program and folder are the server's only now; at first they were the shell's.
            process = look_up(instance.process.pid) or instance.process
            instances.write(self._folder, instance._replace(process=process))
            self._remember(place, finding)
        else:
            self._end(instance, _GRACE)
        self._require_ready(finding, before)

    def _next_place(self, place: LocalPlace, said: Sequence[str]) -> LocalPlace:
        """The place with the next program, after one that could not read the data."""
        self._unfit[self._chosen] = tuple(said)
        last = instances.written(self._folder)
        if len(self._unfit) < len(self._programs) and self.job.remaining > 0:
            self.job.log.info("%s cannot read %s; trying the next program", self._chosen, place.data)
            return self._place()
        tried = ", ".join(map(str, self._unfit))
        wrote = " ".join(filter(None, (last.program, last.version)))
        message = f"no program here can read the data folder {place.data}: tried {tried}"
        if last.program and Path(last.program) not in self._unfit:
            message += f"; {wrote} wrote it: install that version again, or name another folder with data_dir"
        pip = install_command(self.job.backend, wheel=True) if last.wheel else None
        raise LaunchError(message, pip, next(iter(self._unfit.values())))

    def _remember(self, place: LocalPlace, finding: Finding) -> None:
        wheel = next((each.inner for each in wheel_files(self._method) if each.path == self._chosen), None)
        version = finding.answer.version if finding.answer else None
        instances.write_written(self._folder, Written(place.data, str(self._chosen), wheel, version))

    def _require_ready(self, finding: Finding, log_start: int | None = None) -> None:
        if finding.state == "ready":
            return
        after = f"within {self.job.timeout:g} s"
        message = f"it did not answer {after}, and was ended"
        if finding.answered:
            message = f"it is not ready {after}: {finding.detail}; it goes on, ask again later"
        raise LaunchError(message, log=() if log_start is None else self._log_since(log_start))

    def _spawn(self, place: LocalPlace, command: Sequence[str], lock: int) -> Instance | None:
        account = place.account
        with open(open_private(self._folder / _LOG, os.O_APPEND), "ab") as log:
            try:
                done = subprocess.run(  # noqa: S603
                    ["/bin/sh", "-c", _DETACH, str(place.data), *command],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    cwd="/",
                    env=environment(account),
                    start_new_session=True,
                    pass_fds=(lock,),  # the server holds the lock of its data folder for as long as it runs
                    timeout=max(self.job.remaining, 0.1),
                    check=True,
                    **({} if account is None else account.options),
                )
            except (OSError, subprocess.SubprocessError) as error:
                raise LaunchError(f"{command[0]} cannot be started: {error}") from error
        process = look_up(int(done.stdout))
        if process is None:
            return None
        # The number comes from the account, which must not make us record, and later stop, another user's process.
        if process.uid not in (None, os.geteuid() if account is None else account.uid):
            raise LaunchError(f"process {process.pid}, which was to be {command[0]}, belongs to another user")
        instance = Instance(
            process._replace(name="", program="", folder=""), place.host, place.port, str(place.program)
        )
        instances.write(self._folder, instance)
        return instance

    # --- stopping ---

    def stop(self) -> None:
        """Have the server save its data and end; kill it if it does not."""
        self._require_posix()
        instance = self.running_instance()
        if instance is None:
            raise LaunchError("no server that zCLI started runs here")
        # Finding out what runs may have taken all the time; the server gets some to save its data all the same.
        self._end(instance, max(self.job.remaining * _PATIENCE, min(self.job.timeout, _GRACE)))
        held = instances.read(self._folder)
        # Not one that was started meanwhile, and nothing in a folder of another user's.
        if held is not None and held.is_ours and held.process.same_as(instance.process):
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
            raise LaunchError(f"{who} did not end within {_KILLED:g} s after it was killed")

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
    try:
        with _held(instance.process.pid) as send:
            if instance.alive:
                send(number)
    except ProcessLookupError:
        pass
    except PermissionError as error:
        name = signal.Signals(number).name.removeprefix("SIG")
        command = as_root("kill", f"-{name}", str(instance.process.pid))
        raise LaunchError(f"{who} belongs to another user", command) from error


@contextlib.contextmanager
def _held(pid: int) -> Iterator[Callable[[int], None]]:
    """What sends signals to the process that has the number now, and to no later one where the system can do that."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        raise
    except (AttributeError, OSError):  # not Linux, or Linux before 5.3
        yield lambda number: os.kill(pid, number)
        return
    try:
        yield lambda number: signal.pidfd_send_signal(descriptor, number)
    finally:
        os.close(descriptor)


def _kill_command(name: str, pid: int) -> str:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return as_root("kill", f"-{name}", str(pid))
    except OSError:
        pass
    return f"kill -{name} {pid}"


def _says(log: Sequence[str], sentences: Sequence[str]) -> bool:
    return any(sentence in line for sentence in sentences for line in log)
