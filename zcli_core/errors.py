"""Every error that zCLI raises on purpose.

A caller's mistake in an argument is a plain ``ValueError`` or ``TypeError``; trouble on the network is not
raised at all (see ``last_failure``). What is left is here.
"""

from __future__ import annotations

import threading


class ZCLIError(Exception):
    """The base of zCLI's own errors."""


class ConfigError(ZCLIError):
    """The configuration cannot be used; nothing was started.

    ``problems`` holds one sentence per mistake: its key, who set it, what was expected and what to do.
    """

    def __init__(self, problems: list[str] | tuple[str, ...] | str) -> None:
        self.problems: tuple[str, ...] = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return self.problems[0]
        numbered = "\n".join(f"  {n}. {problem}" for n, problem in enumerate(self.problems, 1))
        return f"{len(self.problems)} settings cannot be used:\n{numbered}"


class ListenError(ZCLIError):
    """The server cannot listen where it was told to; the message says why, and who holds the port if that is known."""


class ConnectionClosed(ZCLIError):  # noqa: N818 - the name that people know from `websockets`
    """A WebSocket connection is closed, or closing, and the operation needs an open one.

    ``code`` and ``reason`` say how it ended; 1006 if neither side sent a close frame. ``connection`` is the one that is
    closed, where that is known.
    """

    def __init__(self, code: int = 1006, reason: str = "", connection: object = None) -> None:
        self.code = code
        self.reason = reason
        self.connection = connection
        super().__init__(code, reason)

    def __str__(self) -> str:
        return f"the connection is closed ({self.code}{': ' + self.reason if self.reason else ''})"


def is_ctrl_c(error: BaseException) -> bool:
    """Whether an error is meant for the whole program: only the main thread is interrupted by Ctrl+C."""
    return isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread()
