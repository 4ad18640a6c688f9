"""Runs the transfers of a libcurl handle from Python.

``perform()`` of libcurl would wait in C code, where Python cannot react to Ctrl+C, for example during a TLS handshake.
Instead, libcurl names the sockets that it waits for, and Python waits for them with poll(2).
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Callable

import pycurl

from zcli_core.errors import raised_by_signal
from zcli_core.net.connecting import READABLE, WRITABLE, new_poll

#: The longest single wait, in milliseconds. A signal may have interrupted another thread instead of this one.
_LONGEST_WAIT = 1000

_WANTED = {
    pycurl.POLL_NONE: 0,
    pycurl.POLL_IN: READABLE,
    pycurl.POLL_OUT: WRITABLE,
    pycurl.POLL_INOUT: READABLE | WRITABLE,
}


class Driver:
    """Runs the transfers of one handle, one after another, on one connection that is kept between them."""

    def __init__(self, curl: pycurl.Curl) -> None:
        self._curl = curl
        self._multi = pycurl.CurlMulti()
        self._poll = new_poll()
        self._watched: set[int] = set()
        self._timers: list[int] = []
        self._due = math.inf
        #: When the transfer times out, as a reading of time.monotonic(). libcurl has a timeout besides.
        self.limit = math.inf
        self._is_added = False
        #: Whether the last transfer was stopped before libcurl had completed it.
        self.was_stopped = False
        self._multi.setopt(pycurl.M_MAXCONNECTS, 1)
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        # Not a Python function, because an exception of a signal handler would be lost in it.
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._timers.append)

    def perform(self, is_done: Callable[[], bool]) -> tuple[int, str] | None:
        """Run the transfer that the handle is set up for.

        Args:
            is_done: Processes what was received, and returns whether to stop the transfer. An exception that it or a
                signal handler raises leaves this method. After that, or after an error, the handle can only be closed.

        Returns:
            libcurl's error number and message, or None for success.
        """
        before = getattr(sys, "last_value", None)
        try:
            outcome = self._perform(is_done)
        except pycurl.error as error:
            outcome = pycurl.E_ABORTED_BY_CALLBACK, str(error.args[-1])
        # pycurl prints and drops the exception that a signal handler raises just as a callback begins.
        lost = getattr(sys, "last_value", None)
        if lost is not None and lost is not before and _in_main_thread() and raised_by_signal(lost):
            raise lost
        return outcome

    def _perform(self, is_done: Callable[[], bool]) -> tuple[int, str] | None:
        self._remove()
        self._multi.add_handle(self._curl)
        self._is_added = True
        _, running = self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        while not is_done() and running:
            running = self._step()
            if running and time.monotonic() >= self.limit:
                return pycurl.E_OPERATION_TIMEDOUT, "the limit passed"
        self.was_stopped = bool(running)
        _, _, failed = self._multi.info_read(1)
        return (failed[0][1], failed[0][2]) if failed else None

    def close(self) -> None:
        """Close the connection and the handle."""
        self._remove()
        self._curl.close()
        self._multi.close()

    def _remove(self) -> None:
        # Not at the end of a transfer, because a handle that was removed does not know its connection.
        if self._is_added:
            self._multi.remove_handle(self._curl)
            self._is_added = False

    def _step(self) -> int:
        """Wait for the next event and let libcurl process it; return 0 when the transfer is over."""
        now = time.monotonic()
        if self._timers:
            milliseconds = self._timers[-1]
            self._timers.clear()
            self._due = math.inf if milliseconds < 0 else now + milliseconds / 1000
        running = 1
        seconds = min(self._due - now, self.limit - now, 1000)
        ready = self._poll.poll(min(max(math.ceil(seconds * 1000), 0), _LONGEST_WAIT))
        for socket, events in ready:
            _, running = self._multi.socket_action(socket, _action(events))
            if not running:
                break
        if not ready and time.monotonic() >= self._due:
            self._due = math.inf
            _, running = self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        return running

    def _watch(self, what: int, socket: int, multi: pycurl.CurlMulti, data: object) -> None:
        """Change what libcurl waits for on a socket."""
        if what != pycurl.POLL_REMOVE:
            self._watched.add(socket)
            self._poll.register(socket, _WANTED[what])
        elif socket in self._watched:
            self._watched.discard(socket)
            self._poll.unregister(socket)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _action(events: int) -> int:
    action = 0
    if events & READABLE:
        action |= pycurl.CSELECT_IN
    if events & WRITABLE:
        action |= pycurl.CSELECT_OUT
    if events & ~(READABLE | WRITABLE):
        action |= pycurl.CSELECT_ERR
    return action
