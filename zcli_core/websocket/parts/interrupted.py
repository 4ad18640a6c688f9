"""A coroutine that was started outside the task that has to continue it."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Coroutine, Generator
from typing import Any


class InterruptedCoroutine:
    """A coroutine that another task has to start or to continue."""

    __slots__ = ("_coroutine", "_started", "_waits_for")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], waits_for: Any = None, started: bool = False) -> None:
        """Take over a coroutine.

        Args:
            coroutine: The coroutine.
            waits_for: The future that it has yielded, or None for ``sleep(0)``.
            started: Whether it has begun.
        """
        self._coroutine = coroutine
        self._waits_for = waits_for
        self._started = started

    @types.coroutine
    def continue_in_task(self, cancelled: asyncio.CancelledError | None = None) -> Generator[Any, Any, None]:
        """Continue as if the calling task itself had started the coroutine.

        Args:
            cancelled: The cancellation that has reached the task in the meantime; None if there was none.
        """
        coroutine = self._coroutine
        if not self._started:
            yield from coroutine.__await__()
            return
        waits_for = self._waits_for
        if cancelled is not None and (waits_for is None or not waits_for.cancel(*cancelled.args)):
            try:
                waits_for = coroutine.throw(cancelled)
            except StopIteration:
                return
        while True:
            try:
                yield waits_for
            except BaseException as error:  # noqa: BLE001 - thrown into the coroutine
                try:
                    waits_for = coroutine.throw(error)
                except StopIteration:
                    return
            else:
                yield from coroutine.__await__()
                return
