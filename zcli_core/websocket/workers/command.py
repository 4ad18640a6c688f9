"""Starting this program again, as a worker."""

from __future__ import annotations

import builtins
import os
import sys
import threading
from typing import TYPE_CHECKING

from zcli_core.errors import ConfigError
from zcli_core.websocket.workers import assignment

if TYPE_CHECKING:
    from zcli_core.config import Config

#: Variables that systemd has set for the supervisor, and not for its workers.
_OF_SUPERVISOR = (
    "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "LISTEN_PIDFDID", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC",
)  # fmt: skip


def worker_count(config: Config) -> int:
    """Return the number of workers that ``websocket.workers`` asks for.

    Raises:
        ConfigError: There are several, and each would reach its own clients only.
    """
    wanted = config.websocket.workers
    count = _usable_cpus() if wanted == "auto" else wanted
    if count > 1 and config.explain("websocket.backplane").layer == "defaults":
        shown = f"auto, which is {count}" if wanted == "auto" else count
        raise ConfigError(
            f"websocket.workers is {shown} ({_origin(config)}), but websocket.backplane is local (the default), so "
            "each worker would reach its own clients only; set websocket.backplane to redis or nats, or to local by "
            "name if your code never sends to other clients"
        )
    return count


def _origin(config: Config) -> str:
    return config.explain("websocket.workers").origin


def _usable_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def refuse_workers(config: Config, function: str) -> None:
    """Check that there is one worker only, because only ``start()`` can start several.

    Raises:
        ConfigError: There are several.
    """
    if worker_count(config) > 1:
        raise ConfigError(
            f"websocket.workers is {config.websocket.workers} ({_origin(config)}), but {function}() serves in this "
            "process only; call z.comm.websocket.start() in a script, or set websocket.workers to 1"
        )


def command_line(config: Config) -> list[str]:
    """Return the command that starts this program again.

    Raises:
        ConfigError: This program cannot be started again.
    """
    why = _why_not()
    if why is not None:
        raise ConfigError(
            f"websocket.workers is {config.websocket.workers} ({_origin(config)}), and each worker runs the program "
            f"from its beginning, which is impossible here: {why}"
        )
    if getattr(sys, "frozen", False):
        return [sys.executable, *sys.argv[1:]]
    return [sys.executable, *sys.orig_argv[1:]]


def _why_not() -> str | None:
    """Return why this program cannot be started again, and what to do; None if it can."""
    if os.name != "posix":
        return (
            "this system cannot pass listening sockets to another process; start the program several times, each with "
            "a port of its own (websocket.port), behind a proxy, and set websocket.workers to 1"
        )
    if threading.current_thread() is not threading.main_thread():
        return "start() was not called in the main thread, which gets the signals; call it there"
    put = "put the code into a file and run that with python"
    if hasattr(sys, "ps1") or sys.flags.interactive or hasattr(builtins, "__IPYTHON__"):
        return f"it is an interactive session or a notebook; {put}, or set websocket.workers to 1"
    if not (_is_file() or sys.argv[:1] == ["-c"]):
        return f"it was read from the standard input; {put}"
    if not sys.executable:
        return "Python does not know the path of its own program (sys.executable); set websocket.workers to 1"
    return None


def _is_file() -> bool:
    """Return whether this program is a file, a module or frozen. The file of standard input is called ``<stdin>``."""
    main = sys.modules.get("__main__")
    if getattr(main, "__spec__", None) is not None or getattr(sys, "frozen", False):
        return True
    return os.path.exists(getattr(main, "__file__", None) or "")


def occupy_standard_descriptors() -> None:
    """Open those of the descriptors 0 to 2 that are closed, because a worker cannot inherit a socket there."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # gets the lowest number that is free


def worker_environment(assigned: assignment.Assignment) -> dict[str, str]:
    """Return the environment of a worker: that of this process at its start, so that a reload reads ``.zEnv`` again."""
    kept = {name: value for name, value in assignment.ENVIRONMENT.items() if name not in _OF_SUPERVISOR}
    return {**kept, assignment.VARIABLE: assigned.text()}
