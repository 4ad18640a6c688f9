"""The errors that zCLI raises on purpose::

    Exception
    ├── ZCLIError                every error of zCLI itself
    │   ├── ConfigError          the configuration cannot be used
    │   ├── ListenError          the server cannot listen at its address
    │   ├── WorkerError          the workers of a server cannot run the script
    │   ├── ConnectionClosed     a WebSocket connection is closed
    │   ├── BackplaneFailure     the backplane cannot do what was asked
    │   ├── EventError           a handler of z.bifrost cannot do what the client asked for
    │   └── HttpStatusError      raise_for_status(): the status is 400 or higher (zcli_core.http.contract)
    ├── ValueError, TypeError    an argument is invalid
    └── OSError                  a file cannot be read or written

A failure of the network is not raised: the function returns ``None`` or ``False``, and ``last_failure`` has the cause.
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Literal

from zcli_core.printable import printable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType

_VARARGS = 4  # inspect.CO_VARARGS, without the import


class ZCLIError(Exception):
    """Base class of the errors of zCLI itself."""


class ConfigError(ZCLIError):
    """The configuration cannot be used, and nothing was started.

    Attributes:
        problems: One sentence for each mistake: the setting, the value, where it was set and what to do.
    """

    def __init__(self, problems: list[str] | tuple[str, ...] | str) -> None:
        self.problems: tuple[str, ...] = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return self.problems[0]
        numbered = "\n".join(f"  {n}. {problem}" for n, problem in enumerate(self.problems, 1))
        return f"the configuration has {len(self.problems)} mistakes:\n{numbered}"


class ListenError(ZCLIError):
    """The server cannot listen at its address. The message says why, and names the process that holds the port."""


class WorkerError(ZCLIError):
    """The workers of a WebSocket server cannot run the script. The message says how the last one has ended."""


class ConnectionClosed(ZCLIError):  # noqa: N818 - the name that people know from `websockets`
    """A WebSocket connection is closed or closing, and the operation needs an open connection.

    Attributes:
        code: Close code (RFC 6455, section 7.4); 1006 if neither side sent a close frame.
        reason: Reason that came with the code.
        connection: The connection, or None if it is not known.
    """

    def __init__(self, code: int = 1006, reason: str = "", connection: object = None) -> None:
        self.code = code
        self.reason = reason
        self.connection = connection
        super().__init__(code, reason)

    def __str__(self) -> str:
        return f"the connection is closed ({self.code}{': ' + printable(self.reason) if self.reason else ''})"


#: ``"not_found"``: there is no such thing. ``"invalid"``: the request is wrong. ``"forbidden"``: this client may not do
#: it. ``"conflict"``: something stands in the way. ``"too_many"``: a limit is reached. ``"failed"``: any other reason.
EventErrorCode = Literal["not_found", "invalid", "forbidden", "conflict", "too_many", "failed"]


class EventError(ZCLIError):
    """What a handler of ``z.bifrost`` raises so that the client gets an error with this text.

    ::

        raise EventError("there is no board 7", "not_found")

    The client gets no text of any other exception.

    Attributes:
        text: What is wrong, for the client.
        code: Kind of the error.
        fields: What is wrong with each field of the request, by its name.
    """

    def __init__(self, text: str, code: EventErrorCode = "failed", fields: Mapping[str, str] | None = None) -> None:
        super().__init__(text, code)
        self.text = text
        self.code: EventErrorCode = code
        self.fields = dict(fields or {})

    def __str__(self) -> str:
        return self.text


#: Why a backplane failed. ``"down"``: there is no connection to the engine. ``"timeout"``: the engine did not respond
#: in time. ``"full"``: too much waits to be published. ``"too_large"``: the message is larger than allowed.
#: ``"refused"``: the engine refuses the credentials or the command. ``"protocol"``: the engine sent something invalid.
#: ``"unsupported"``: this backplane does not offer it.
FailureKind = Literal["down", "timeout", "full", "too_large", "refused", "protocol", "unsupported"]


class BackplaneFailure(ZCLIError):  # noqa: N818 - also a value: Delivery.failure
    """The backplane cannot do what was asked.

    Attributes:
        kind: Why, as one word; see :data:`FailureKind`.
        maybe_delivered: Whether a message may have been published all the same. Never so for ``"full"`` and
            ``"too_large"``; for ``"down"`` only if the connection ended while the message waited for its confirmation.
    """

    def __init__(self, kind: FailureKind, text: str, maybe_delivered: bool = False) -> None:
        super().__init__(kind, text, maybe_delivered)
        self.kind: FailureKind = kind
        self.maybe_delivered = maybe_delivered

    def __str__(self) -> str:
        return str(self.args[1])


def raised_by_signal(error: BaseException) -> bool:
    """Return whether a signal handler raised this error, and not the code that the signal interrupted.

    Code that turns errors into results must raise such an error again: a timeout decorator may raise TimeoutError from
    its SIGALRM handler, which is not a timeout of the network.

    Python calls a signal handler with the interrupted frame as an argument. No other function gets the frame of its
    caller, so a frame in the traceback that has it is the frame of a handler. A handler that deletes its arguments is
    recognised by its code, if it is still installed.
    """
    handlers = _handler_codes()
    entry, previous = error.__traceback__, None
    while entry is not None:
        frame = entry.tb_frame
        if frame.f_code in handlers:
            return True
        # Also the frame before it in the traceback, because Python removes the frames of importlib from tracebacks.
        if any(_was_given(frame, caller) for caller in (previous, frame.f_back) if caller is not None):
            return True
        entry, previous = entry.tb_next, frame
    return False


def _handler_codes() -> set[object]:
    """Return the code objects of all signal handlers that are Python functions."""
    # Without the module there is no handler. Importing it here would need a file descriptor, which may be used up.
    signal = sys.modules.get("signal")
    if signal is None:
        return set()
    return {getattr(signal.getsignal(number), "__code__", None) for number in signal.valid_signals()}


def _was_given(frame: FrameType, value: object) -> bool:
    """Return whether ``value`` is one of the arguments that this frame was called with."""
    code = frame.f_code
    count = code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & _VARARGS)
    for name in code.co_varnames[:count]:
        argument = frame.f_locals.get(name)
        if argument is value or (isinstance(argument, tuple) and any(item is value for item in argument)):
            return True
    return False


def is_ctrl_c(error: BaseException) -> bool:
    """Return whether an error is a Ctrl+C, which is raised in the main thread only and ends the whole program."""
    return isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread()
