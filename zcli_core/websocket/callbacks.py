"""The user's functions (handler, on_connect, on_disconnect), checked and turned into coroutine functions."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

from zcli_core.websocket.blocking import BlockingConnection
from zcli_core.websocket.connection import ServerConnection
from zcli_core.websocket.contract import Message

if TYPE_CHECKING:
    from zcli_core.websocket.handler_threads import HandlerThreads

#: ``async def handler(websocket, message)``, or a plain ``def`` with the same parameters, which may block.
Handler = Callable[[ServerConnection, Message], Awaitable[Any]] | Callable[[BlockingConnection, Message], Any]
#: ``on_connect`` and ``on_disconnect``: the same with one parameter.
ConnectionCallback = Callable[[ServerConnection], Awaitable[Any]] | Callable[[BlockingConnection], Any]

AsyncHandler = Callable[[ServerConnection, Message], Coroutine[Any, Any, Any]]
AsyncCallback = Callable[[ServerConnection], Coroutine[Any, Any, Any]]


async def echo(websocket: ServerConnection, message: Message) -> None:
    """Send each message back. This is the default handler."""
    await websocket.send(message)


class Callbacks(NamedTuple):
    """The functions that the server calls; None is skipped."""

    handler: AsyncHandler
    on_connect: AsyncCallback | None
    on_disconnect: AsyncCallback | None


def make_callbacks(
    handler: Handler | Mapping[str, Handler] | None,
    on_connect: ConnectionCallback | None,
    on_disconnect: ConnectionCallback | None,
    threads: HandlerThreads,
) -> Callbacks:
    """Check the user's functions and turn them into coroutine functions.

    Args:
        handler: A function, a mapping of paths to functions, or None for :func:`echo`.
        on_connect: Called before the first message.
        on_disconnect: Called after the last one.
        threads: Where plain functions run.

    Raises:
        TypeError: A function cannot be called with these arguments, or a path is not text.
        ValueError: There are no paths, or one does not begin with ``/`` or has a query.
    """
    if isinstance(handler, Mapping):
        handle = _by_path(handler, threads)
    else:
        handle = _as_async("handler", handler or echo, ("websocket", "message"), threads)
    return Callbacks(
        handle,
        on_connect and _as_async("on_connect", on_connect, ("websocket",), threads),
        on_disconnect and _as_async("on_disconnect", on_disconnect, ("websocket",), threads),
    )


def _by_path(handlers: Mapping[str, Handler], threads: HandlerThreads) -> AsyncHandler:
    """Return a handler that calls the one of the connection's path; the gate refuses all other paths.

    A path is compared as a whole and without its query; ``/caf%C3%A9`` and ``/café`` are the same.
    """
    if not handlers:
        raise ValueError("handler has no paths, so that no client could connect")
    for path, handler in handlers.items():
        if not isinstance(path, str):
            raise TypeError(f"a path must be str, got {path!r}")
        if not path.startswith("/") or "?" in path or "#" in path:
            raise ValueError(f"a path must begin with / and have no query, as in '/chat', got {path!r}")
        if handler is None:
            raise TypeError(f"the handler of {path!r} is None")
    functions = {
        path: _as_async("handler", handler, ("websocket", "message"), threads) for path, handler in handlers.items()
    }

    def dispatch(websocket: ServerConnection, message: Message) -> Coroutine[Any, Any, Any]:
        path = websocket.path
        coroutine: Coroutine[Any, Any, Any] = (functions.get(path) or functions[unquote(path)])(websocket, message)
        return coroutine

    return dispatch


def _as_async(name: str, function: Any, parameters: tuple[str, ...], threads: HandlerThreads) -> Any:
    if not callable(function):
        raise TypeError(f"{name} must be a function of ({', '.join(parameters)}), got {type(function).__name__}")
    try:
        inspect.signature(function).bind(*parameters)
    except TypeError as error:
        raise TypeError(f"{name} must accept ({', '.join(parameters)}), but {function!r} does not: {error}") from None
    except ValueError:
        pass  # a builtin without a signature
    if is_async(function):
        return function

    async def in_thread(websocket: ServerConnection, *rest: Any) -> None:
        result = await threads.run(function, websocket.blocking, *rest)
        if inspect.isawaitable(result):  # a lambda around a coroutine function
            await result

    return in_thread


def is_async(function: Any) -> bool:
    """Whether calling it returns a coroutine: also for a partial, a bound method, an object with ``__call__``."""
    while hasattr(function, "func"):  # functools.partial
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004
