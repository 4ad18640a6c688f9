"""The process of a local server: starting it so that it outlives our program, and ending it with signals."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO

from zcli_core.services.contract import LaunchError
from zcli_core.services.launchers.commands import as_root, environment
from zcli_core.services.launchers.context import wait_until
from zcli_core.services.launchers.instances import Instance
from zcli_core.services.launchers.paths import LocalServerPaths
from zcli_core.services.launchers.processes import look_up

#: Seconds within which a process must have ended after it was killed.
_KILLED = 5.0
# The shell ends at once, so that the server is not a child of our program, which would have to wait for it.
_DETACH = 'cd -- "$0" || exit 1; umask 077; "$@" >&2 & echo $!'


def spawn(paths: LocalServerPaths, command: Sequence[str], log: BinaryIO, lock: int, timeout: float) -> Instance | None:
    """Start a server in the background.

    Args:
        paths: where the server runs, and as which account.
        command: the program and its arguments.
        log: the file for its output.
        lock: the descriptor that holds the lock of its data folder. The server inherits it.
        timeout: seconds for starting it.

    Returns:
        The server; None if it has already ended.

    Raises:
        LaunchError: it cannot be started.
    """
    account = paths.account
    try:
        done = subprocess.run(  # noqa: S603
            ["/bin/sh", "-c", _DETACH, str(paths.data), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd="/",
            env=environment(account),
            start_new_session=True,
            pass_fds=(lock,),
            timeout=max(timeout, 0.1),
            check=True,
            **({} if account is None else account.options),
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise LaunchError(f"cannot start {command[0]}: {error}") from error
    process = look_up(int(done.stdout))
    if process is None:
        return None
    # The account reports the process id. It must not make us record, and later stop, a process of another user.
    if process.uid not in (None, os.geteuid() if account is None else account.uid):
        raise LaunchError(f"process {process.pid}, which was to be {command[0]}, belongs to another user")
    # Name, program and folder are still those of the shell.
    return Instance(process._replace(name="", program="", folder=""), paths.host, paths.port, str(paths.program))


def end(instance: Instance, stop_signal: int, patience: float, log: logging.Logger) -> None:
    """Ask a server to end, and kill it if it has not ended within ``patience`` seconds.

    Raises:
        LaunchError: the process belongs to another user, or did not end.
    """
    who = f"{os.path.basename(instance.program)} (pid {instance.process.pid})"
    _signal(instance, stop_signal, who)
    _signal(instance, signal.SIGCONT, who)  # a frozen process handles its signals only after this one
    if wait_until(lambda: not instance.alive, patience):
        return
    log.warning("%s did not end within %g s and is killed", who, round(patience, 1))
    _signal(instance, signal.SIGKILL, who)
    if not wait_until(lambda: not instance.alive, _KILLED):
        raise LaunchError(f"{who} did not end within {_KILLED:g} s after it was killed")


def _signal(instance: Instance, number: int, who: str) -> None:
    """Send a signal to the process of the instance, if it still runs."""
    try:
        with _signal_sender(instance.process.pid) as send:
            if instance.alive:
                send(number)
    except ProcessLookupError:
        pass
    except PermissionError as error:
        name = signal.Signals(number).name.removeprefix("SIG")
        command = as_root("kill", f"-{name}", str(instance.process.pid))
        raise LaunchError(f"{who} belongs to another user", command) from error


@contextlib.contextmanager
def _signal_sender(pid: int) -> Iterator[Callable[[int], None]]:
    """Give a function that sends signals to the present process of an id, and on Linux never to a later process."""
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


def kill_command(name: str, pid: int) -> str:
    """Return the command that sends the signal ``name`` to a process, with the rights that it needs."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return as_root("kill", f"-{name}", str(pid))
    except OSError:
        pass
    return f"kill -{name} {pid}"
