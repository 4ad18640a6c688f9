"""What subsystems share: calling functions of the script."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from zcli_core.websocket.callbacks import is_async
from zcli_core.websocket.connection import ServerConnection
from zcli_core.websocket.handler_threads import HandlerThreads


class FunctionCaller:
    """Calls functions of the script for a client: async ones in the event loop, plain ones in threads of its own."""

    def __init__(self, thread_name: str) -> None:
        self._threads = HandlerThreads(thread_name)

    @staticmethod
    def check(function: Any, parameters: tuple[str, ...]) -> None:
        """Check that a function can be called with these arguments, by position.

        Raises:
            TypeError: It cannot.
        """
        if not callable(function):
            raise TypeError(f"expected a function of ({', '.join(parameters)}), got {type(function).__name__}")
        try:
            inspect.signature(function).bind(*parameters)
        except TypeError as error:
            raise TypeError(f"{function!r} must accept ({', '.join(parameters)}), but does not: {error}") from None
        except ValueError:  # a builtin without a signature
            return

    @staticmethod
    def is_async(function: Callable[..., Any]) -> bool:
        """Whether the function runs in the event loop."""
        return is_async(function)

    async def call(self, function: Callable[..., Any], client: ServerConnection, *arguments: Any) -> Any:
        """Return ``function(client, *arguments)``. A plain function gets the client's ``blocking`` twin.

        Raises:
            Exception: The function raised it. SystemExit of a plain function becomes a RuntimeError.
            CancelledError: The calling task was cancelled. A plain function still runs in its thread.
        """
        if is_async(function):
            return await function(client, *arguments)
        result = await self._threads.run(function, client.blocking, *arguments)
        return await result if inspect.isawaitable(result) else result
