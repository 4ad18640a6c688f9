"""Every error that zCLI raises on purpose.

A caller's mistake in an argument is a plain ``ValueError`` or ``TypeError``; trouble on the network is not
raised at all (see ``last_failure``). What is left is here.
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

from zcli_core.printable import printable

if TYPE_CHECKING:
    from types import FrameType

_VARARGS = 4  # inspect.CO_VARARGS, without the import


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
        return f"the connection is closed ({self.code}{': ' + printable(self.reason) if self.reason else ''})"


def raised_by_signal(error: BaseException) -> bool:
    """Whether a signal's handler raised this, and not the code that the signal interrupted.

    Code that turns an error into a result, such as a failure of the network, must raise such an error again: a timeout
    decorator may well raise TimeoutError. Python calls a handler with the frame that it interrupts, and no other
    function is given the frame of its caller, so the traceback tells. A handler that deletes its arguments is known by
    its code, if it is still the handler.
    """
    handlers = _handler_codes()
    entry, previous = error.__traceback__, None
    while entry is not None:
        frame = entry.tb_frame
        if frame.f_code in handlers:
            return True
        # The frame before it in the traceback, too: Python takes those of importlib out of the traceback.
        if any(_was_given(frame, caller) for caller in (previous, frame.f_back) if caller is not None):
            return True
        entry, previous = entry.tb_next, frame
    return False


def _handler_codes() -> set[object]:
    """The code of every signal handler that is a Python function."""
    # Without the module there is no handler. To import it here takes a descriptor, and there may be none left.
    signal = sys.modules.get("signal")
    if signal is None:
        return set()
    return {getattr(signal.getsignal(number), "__code__", None) for number in signal.valid_signals()}


def _was_given(frame: FrameType, value: object) -> bool:
    """Whether ``value`` is one of the arguments that this frame was called with."""
    code = frame.f_code
    count = code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & _VARARGS)
    for name in code.co_varnames[:count]:
        argument = frame.f_locals.get(name)
        if argument is value or (isinstance(argument, tuple) and any(item is value for item in argument)):
            return True
    return False


def is_ctrl_c(error: BaseException) -> bool:
    """Whether an error is meant for the whole program: only the main thread is interrupted by Ctrl+C."""
    return isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread()
