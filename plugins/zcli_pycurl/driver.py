"""Driving a libcurl handle from Python.

``perform()`` would wait inside libcurl, where no Python runs: a Ctrl+C amid a TLS handshake would be heeded when that
is over. Here libcurl says what it waits for, and Python waits for it, with poll(2), which takes any file descriptor.
"""

from __future__ import annotations

import math
import select
import time
from collections.abc import Callable
from typing import Protocol

import pycurl

#: The longest that is waited at a time, in milliseconds: a signal may have come while another thread was looking.
_LONGEST_WAIT = 1000

# As poll(2) has them, also where select has no names for them.
_READABLE, _WRITABLE = 1, 4

_WANTED = {
    pycurl.POLL_NONE: 0,
    pycurl.POLL_IN: _READABLE,
    pycurl.POLL_OUT: _WRITABLE,
    pycurl.POLL_INOUT: _READABLE | _WRITABLE,
}


class _Poll(Protocol):
    """What is used of ``select.poll``."""

    def register(self, fd: int, eventmask: int, /) -> None: ...
    def unregister(self, fd: int, /) -> None: ...
    def poll(self, timeout: float, /) -> list[tuple[int, int]]: ...


class Driver:
    """Carries one handle through its transfers, one after another, on one connection that is kept between them."""

    def __init__(self, curl: pycurl.Curl) -> None:
        self._curl = curl
        self._multi = pycurl.CurlMulti()
        self._poll = new_poll()
        self._watched: set[int] = set()
        self._timers: list[int] = []
        self._due = math.inf
        #: When the transfer is given up at the latest; libcurl has its own deadline besides.
        self.limit = math.inf
        self._is_added = False
        self._multi.setopt(pycurl.M_MAXCONNECTS, 1)
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        # No function of ours: what a signal's handler raised in this one would be lost.
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._timers.append)

    def perform(self) -> tuple[int, str] | None:
        """Do the transfer that the handle was set up for. libcurl's error number and sentence, or None for success.

        What a signal's handler raises comes out; the handle can only be closed then, as after an error.
        """
        self._remove()
        self._multi.add_handle(self._curl)
        self._is_added = True
        _, running = self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        while running:
            running = self._step()
            if running and time.monotonic() >= self.limit:
                return pycurl.E_OPERATION_TIMEDOUT, "the limit passed"
        _, _, failed = self._multi.info_read(1)
        return (failed[0][1], failed[0][2]) if failed else None

    def close(self) -> None:
        """Close the connection and the handle."""
        self._remove()
        self._curl.close()
        self._multi.close()

    def _remove(self) -> None:
        # Not as soon as it is done: only until it is removed does a handle know its connection.
        if self._is_added:
            self._multi.remove_handle(self._curl)
            self._is_added = False

    def _step(self) -> int:
        """Wait for whatever comes next, and let libcurl act on it; 0 once the transfer is over."""
        now = time.monotonic()
        if self._timers:
            milliseconds = self._timers[-1]
            self._timers.clear()
            self._due = math.inf if milliseconds < 0 else now + milliseconds / 1000
        running = 1
        ready = self._poll.poll(
            min(max(math.ceil(min(self._due - now, self.limit - now, 1000) * 1000), 0), _LONGEST_WAIT)
        )
        for socket, events in ready:
            _, running = self._multi.socket_action(socket, _action(events))
            if not running:
                break
        if not ready and time.monotonic() >= self._due:
            self._due = math.inf
            _, running = self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        return running

    def _watch(self, what: int, socket: int, multi: pycurl.CurlMulti, data: object) -> None:
        """libcurl waits for something else on a socket from now on."""
        if what != pycurl.POLL_REMOVE:
            self._watched.add(socket)
            self._poll.register(socket, _WANTED[what])
        elif socket in self._watched:
            self._watched.discard(socket)
            self._poll.unregister(socket)


def _action(events: int) -> int:
    action = 0
    if events & _READABLE:
        action |= pycurl.CSELECT_IN
    if events & _WRITABLE:
        action |= pycurl.CSELECT_OUT
    if events & ~(_READABLE | _WRITABLE):
        action |= pycurl.CSELECT_ERR
    return action


class SelectPoll:
    """``select.poll`` after ``select.select``, for Windows, where there is no other and numbers are not limited."""

    def __init__(self) -> None:
        self._wanted: dict[int, int] = {}

    def register(self, fd: int, eventmask: int, /) -> None:
        """Wait for these events from now on."""
        self._wanted[fd] = eventmask

    def unregister(self, fd: int, /) -> None:
        """Wait for none any more."""
        del self._wanted[fd]

    def poll(self, timeout: float, /) -> list[tuple[int, int]]:
        """Wait that many milliseconds at most; what is ready."""
        if not any(self._wanted.values()):
            time.sleep(timeout / 1000)
            return []
        writers = [fd for fd, wanted in self._wanted.items() if wanted & _WRITABLE]
        found = select.select(
            [fd for fd, wanted in self._wanted.items() if wanted & _READABLE],
            writers,
            writers,  # a connection that failed is told here
            timeout / 1000,
        )
        events: dict[int, int] = {}
        for fds, event in zip(found, (_READABLE, _WRITABLE, _WRITABLE), strict=True):
            for fd in fds:
                events[fd] = events.get(fd, 0) | event
        return list(events.items())


#: Makes what waits.
new_poll: Callable[[], _Poll] = getattr(select, "poll", SelectPoll)


def is_readable(socket: int) -> bool:
    """Whether there is anything to read, be it the end."""
    poll = new_poll()
    poll.register(socket, _READABLE)
    return bool(poll.poll(0))
