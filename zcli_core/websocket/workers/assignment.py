"""Whether this process is a worker, and how it was started. Importing this module takes the variable ``ZCLI_WORKER``.

It is imported with zCLI, so that programs that a worker starts inherit neither the variable nor the descriptors, and
the environment is known as it was before a ``.zEnv`` was exported to it.
"""

from __future__ import annotations

import contextlib
import os
import threading
from typing import NamedTuple

VARIABLE = "ZCLI_WORKER"


class Assignment(NamedTuple):
    """What the supervisor has told this process when it started it."""

    #: The place of the worker, from 1 to ``websocket.workers``.
    number: int
    #: Number of workers.
    workers: int
    #: Descriptors of the sockets to serve.
    sockets: tuple[int, ...]
    #: Descriptor of this process' end of the socket pair.
    channel: int
    #: Descriptor of the supervisor's stderr. Until the worker is ready, its own stderr is a pipe to the supervisor.
    stderr: int
    #: Whether another process shows the warnings about the configuration.
    quiet: bool

    def text(self) -> str:
        """Return the value of the variable."""
        sockets = ",".join(map(str, self.sockets))
        return f"{self.number}:{self.workers}:{sockets}:{self.channel}:{self.stderr}:{int(self.quiet)}"


def _parse(text: str) -> Assignment | None:
    """Return the assignment of a value; None if the value is invalid, or the descriptors were not inherited."""
    try:
        number, count, sockets, channel, stderr, quiet = text.split(":")
        descriptors = tuple(int(part) for part in sockets.split(","))
        found = Assignment(int(number), int(count), descriptors, int(channel), int(stderr), quiet == "1")
        for descriptor in (*found.sockets, found.channel, found.stderr):
            os.set_inheritable(descriptor, False)
    except (ValueError, OSError):
        return None
    return found


def _ignore(*_: object) -> None:
    """Do nothing: a signal that the supervisor handles. Unlike SIG_IGN, programs that are started do not inherit it."""


def _leave_signals_to_supervisor() -> None:
    """Let SIGINT and SIGHUP do nothing. The supervisor has blocked them until now."""
    if threading.current_thread() is not threading.main_thread():
        return
    import signal  # not at the start of every program

    numbers = {signal.SIGINT, signal.SIGHUP}
    for number in numbers:
        signal.signal(number, _ignore)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)


def _working_folder() -> str | None:
    """Return the working directory; as a path through links if the shell used one, so that a reload follows them."""
    with contextlib.suppress(OSError):
        folder, shown = os.getcwd(), os.environ.get("PWD", "")
        return shown if os.path.isabs(shown) and os.path.samefile(shown, folder) else folder
    return None


_text = os.environ.pop(VARIABLE, None)
_assignment = None if _text is None else _parse(_text)
_number = None if _assignment is None else _assignment.number
_quiet = _assignment is not None and _assignment.quiet
_has_supervised = False
#: Why this process must not start workers, if it is not a worker but comes from one: each would do the same.
_unable: str | None = None
if _text is not None and _assignment is None:
    _unable = (
        f"this process has {VARIABLE}={_text}, but not the sockets that it names; a worker must get the open "
        "descriptors of its supervisor, and a program that a worker starts must not get its environment"
    )
elif _assignment is not None:
    _leave_signals_to_supervisor()

#: The environment and the working directory when zCLI was imported, for the workers.
ENVIRONMENT = os.environ.copy()
FOLDER = _working_folder()


def worker_number() -> int | None:
    """Return the number of this worker, from 1; None in a process that is not a worker."""
    return _number


def is_quiet() -> bool:
    """Whether another process shows the warnings about the configuration on the console."""
    return _quiet


def take() -> Assignment | None:
    """Return what this process has to serve, once; None afterwards, and in a process that is not a worker."""
    global _assignment
    found, _assignment = _assignment, None
    return found


def supervise() -> None:
    """Note that this process supervises workers from now on.

    Raises:
        RuntimeError: It has done so before, or it is a worker. A worker runs the script from its beginning and serves
            at the first ``start()``, so a second one cannot have workers.
    """
    global _has_supervised  # noqa: PLW0603 - about the process
    if _unable is not None:
        raise RuntimeError(_unable)
    if _has_supervised or _number is not None:
        raise RuntimeError(
            "start() with websocket.workers can be called once in a program, because each worker runs the program from "
            "its beginning; set websocket.workers to 1 for the other servers"
        )
    _has_supervised = True


def _after_fork() -> None:
    """Forget the assignment, which belongs to the parent. A child that outlives it must not keep the port."""
    global _assignment, _number, _quiet, _has_supervised, _unable  # noqa: PLW0603 - about the process
    if _number is not None:
        _unable = (
            "start() with websocket.workers was called in a child process of a worker (os.fork() or multiprocessing); "
            "a program with workers must not fork itself into the background: let systemd or nohup do that"
        )
    if _assignment is not None:  # afterwards, they belong to the Worker
        for descriptor in (*_assignment.sockets, _assignment.channel, _assignment.stderr):
            with contextlib.suppress(OSError):
                os.close(descriptor)
    _assignment, _number, _quiet, _has_supervised = None, None, False, False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
