"""A link that only publishes, in a thread of its own, for a program that does not serve: a cron job, a Flask app."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from zcli_core.errors import BackplaneFailure
from zcli_core.websocket.loop_bridge import LoopBridge

if TYPE_CHECKING:
    from zcli_core.backplane.link import Link
    from zcli_core.config import Config

_T = TypeVar("_T")

#: Seconds that close() waits beyond the timeouts of what is being published.
_MARGIN = 5.0


class Publisher:
    """A thread with an event loop and a link in it. Every method may be called from any thread."""

    def __init__(self, make_link: Callable[[], Link], config: Config, log: logging.Logger) -> None:
        """Start the thread.

        Args:
            make_link: Makes the link, inside the event loop.
            config: The configuration.
            log: The application's log.
        """
        self.link: Link | None = None
        self._make_link = make_link
        self._log = log
        settings = config.backplane
        self._longest = settings.connect_timeout + settings.probe_timeout + settings.timeout
        self._loop = asyncio.new_event_loop()
        self._bridge = LoopBridge(self._loop)
        self._calls: set[Future[Any]] = set()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._work, name="zcli-backplane", daemon=True)
        self._thread.start()

    def run(self, call: Callable[[Link], Coroutine[Any, Any, _T]]) -> Future[_T]:
        """Call a coroutine function with the link. Before the first attempt to connect has ended, it waits for that."""
        future = self._bridge.submit(self._with_link(call))
        if future.cancelled():
            future = Future()
            future.set_exception(BackplaneFailure("down", "this zCLI object is closed"))
        else:
            self._calls.add(future)
            future.add_done_callback(self._calls.discard)
        return future

    async def _with_link(self, call: Callable[[Link], Coroutine[Any, Any, _T]]) -> _T:
        if self.link is None:  # before the first step of _serve()
            await asyncio.sleep(0)
        assert self.link is not None
        with contextlib.suppress(BackplaneFailure):
            await self.link.proven()
        return await call(self.link)

    def close(self) -> None:
        """Let what waits be published, then end the link and the thread. Does not wait in the thread itself."""
        self._bridge.close()
        with contextlib.suppress(RuntimeError):  # the thread has ended
            self._loop.call_soon_threadsafe(self._stop.set)
        if threading.current_thread() is not self._thread:
            self._thread.join(self._longest + _MARGIN)

    def _work(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        except BaseException:  # noqa: BLE001 - a thread has no caller
            self._log.exception("the thread that publishes on the backplane has failed")
        finally:
            self._bridge.close()
            for call in tuple(self._calls):
                call.cancel()
            self._loop.close()

    async def _serve(self) -> None:
        link = self.link = self._make_link()
        link.start()
        try:
            await self._stop.wait()
            await asyncio.sleep(0)  # calls that were accepted begin
            waiting = [asyncio.wrap_future(call) for call in tuple(self._calls)]
            if waiting:
                await asyncio.wait(waiting, timeout=self._longest)
            for each in waiting:
                if each.done() and not each.cancelled():
                    each.exception()  # marks it as retrieved, because the caller may not look at it
        finally:
            await link.close()
