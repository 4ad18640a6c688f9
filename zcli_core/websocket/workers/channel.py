"""Messages between the supervisor and a worker: lines of JSON over a socket pair, bounded in both directions."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable
from typing import Any

#: A message: its names are those that :mod:`.supervisor` and :mod:`.worker` document.
Message = dict[str, Any]

#: Most bytes that wait to be sent. The other process is stopped, or hangs, if it does not read them.
_MAX_UNSENT = 1024 * 1024
#: Longest message, in bytes.
_MAX_LINE = 4 * 1024 * 1024
_READ_SIZE = 256 * 1024
#: Seconds that :func:`send_blocking` waits.
_SEND_TIMEOUT = 1.0


class Channel:
    """One end of the socket pair. Use it in the thread of its event loop only."""

    def __init__(self, sock: socket.socket, receive: Callable[[Message], None], ended: Callable[[], None]) -> None:
        """Begin to read.

        Args:
            sock: The socket, which the channel does not close.
            receive: Called with each message.
            ended: Called once when the other process has closed its end, or has sent something invalid.
        """
        self._sock = sock
        self._receive = receive
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._received = bytearray()
        self._unsent = bytearray()
        self._is_open = True
        sock.setblocking(False)
        self._loop.add_reader(sock.fileno(), self._read)

    def send(self, message: Message) -> bool:
        """Send a message. Returns False if it is dropped, because the other process does not read or is gone."""
        if not self._is_open or len(self._unsent) > _MAX_UNSENT:
            return False
        waiting = bool(self._unsent)
        self._unsent += _encode(message)
        if not waiting:
            self._write()
            if self._unsent and self._is_open:
                self._loop.add_writer(self._sock.fileno(), self._write)
        return True

    def _write(self) -> None:
        try:
            sent = self._sock.send(self._unsent)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:  # reading finds the end
            sent = len(self._unsent)
        del self._unsent[:sent]
        if not self._unsent:
            self._loop.remove_writer(self._sock.fileno())

    def _read(self) -> None:
        try:
            data = self._sock.recv(_READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        self._received += data
        *lines, rest = self._received.split(b"\n") if b"\n" in data else (self._received,)
        self._received = rest
        for line in lines:
            message = _decode(line)
            if message is None:
                data = b""
                break
            self._receive(message)
        if self._is_open and (not data or len(self._received) > _MAX_LINE):
            self.close()
            self._ended()

    @property
    def is_open(self) -> bool:
        """Whether the other process may still send."""
        return self._is_open

    def close(self) -> None:
        """Stop reading and writing; ``ended`` is not called. A second call does nothing."""
        if self._is_open:
            self._is_open = False
            self._loop.remove_reader(self._sock.fileno())
            self._loop.remove_writer(self._sock.fileno())


def send_blocking(sock: socket.socket, message: Message) -> None:
    """Send a message without an event loop, waiting a second at most. Errors are ignored: the other process is gone."""
    with contextlib.suppress(OSError):
        sock.settimeout(_SEND_TIMEOUT)
        sock.sendall(_encode(message))


def _encode(message: Message) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def _decode(line: bytes | bytearray) -> Message | None:
    try:
        message = json.loads(line)
    except ValueError:
        return None
    return message if isinstance(message, dict) else None
