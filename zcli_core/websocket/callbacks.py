"""The user's functions, each as a coroutine function: plain ones run in a thread, on a blocking connection."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, NamedTuple

from zcli_core.websocket.blocking import BlockingConnection
from zcli_core.websocket.connection import ServerConnection
from zcli_core.websocket.contract import Message

if TYPE_CHECKING:
    from zcli_core.websocket.threads import HandlerThreads

#: ``async def handler(websocket, message)``, or a plain ``def`` of the same, which may block.
Handler = Callable[[ServerConnection, Message], Awaitable[Any]] | Callable[[BlockingConnection, Message], Any]
#: ``on_connect`` and ``on_disconnect``: the same with one argument.
ConnectionCallback = Callable[[ServerConnection], Awaitable[Any]] | Callable[[BlockingConnection], Any]

AsyncHandler = Callable[[ServerConnection, Message], Coroutine[Any, Any, Any]]
AsyncCallback = Callable[[ServerConnection], Coroutine[Any, Any, Any]]


async def echo(websocket: ServerConnection, message: Message) -> None:
    """Send each message back: the handler where none is given."""
    await websocket.send(message)


class Callbacks(NamedTuple):
    """What the server calls; None costs nothing."""

    handler: AsyncHandler
    on_connect: AsyncCallback | None
    on_disconnect: AsyncCallback | None


def make_callbacks(
    handler: Handler | None,
    on_connect: ConnectionCallback | None,
    on_disconnect: ConnectionCallback | None,
    threads: HandlerThreads,
) -> Callbacks:
    """Check the user's functions and make coroutine functions of them. Raises TypeError for what will not do."""
    return Callbacks(
        _as_async("handler", handler or echo, ("websocket", "message"), threads),
        on_connect and _as_async("on_connect", on_connect, ("websocket",), threads),
        on_disconnect and _as_async("on_disconnect", on_disconnect, ("websocket",), threads),
    )


def _as_async(name: str, function: Any, parameters: tuple[str, ...], threads: HandlerThreads) -> Any:
    if not callable(function):
        raise TypeError(f"{name} is a function of ({', '.join(parameters)}), not {type(function).__name__}")
    try:
        inspect.signature(function).bind(*parameters)
    except TypeError as error:
        raise TypeError(f"{name} is called with ({', '.join(parameters)}); {function!r} cannot be: {error}") from None
    except ValueError:
        pass  # a builtin that does not tell its parameters
    if is_async(function):
        return function

    async def in_thread(websocket: ServerConnection, *rest: Any) -> None:
        result = await threads.run(function, websocket.blocking, *rest)
        if inspect.isawaitable(result):  # a lambda around a coroutine function
            await result

    return in_thread


def is_async(function: Any) -> bool:
    """Whether calling it gives a coroutine: also for a partial, a bound method, an object with ``__call__``."""
    while hasattr(function, "func"):  # functools.partial
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004
