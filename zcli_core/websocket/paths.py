"""Handlers by path: ``handler={"/chat": chat, "/news": news}``."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from zcli_core.websocket.callbacks import Callbacks, ConnectionCallback, Handler, make_callbacks

if TYPE_CHECKING:
    from zcli_core.websocket.connection import ServerConnection
    from zcli_core.websocket.contract import Message
    from zcli_core.websocket.threads import HandlerThreads


def make_path_callbacks(
    handlers: Mapping[str, Handler],
    on_connect: ConnectionCallback | None,
    on_disconnect: ConnectionCallback | None,
    threads: HandlerThreads,
) -> Callbacks:
    """Make one handler of several, which the path of the connection selects.

    A path is compared as a whole and without its query; ``/caf%C3%A9`` and ``/café`` are the same. The gate refuses
    every other path, so each connection has its handler.

    Raises:
        TypeError: A path is not text, or a handler is not a function of two arguments.
        ValueError: There are no paths, or one does not begin with ``/`` or has a query.
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
    made = {path: make_callbacks(handler, None, None, threads).handler for path, handler in handlers.items()}

    def dispatch(websocket: ServerConnection, message: Message) -> Coroutine[Any, Any, Any]:
        path = websocket.path
        return (made.get(path) or made[unquote(path)])(websocket, message)

    return make_callbacks(None, on_connect, on_disconnect, threads)._replace(handler=dispatch)
