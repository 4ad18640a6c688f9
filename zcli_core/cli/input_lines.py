"""The lines of standard input, read in a thread so that the event loop does not block."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator

_READ_SIZE = 64 * 1024


class InputLines:
    """Reads standard input in a thread, at most one line ahead, so that a large file does not fill the memory.

    The thread may still be waiting for input when the program ends.

    Attributes:
        problem: Why the input could not be read completely; empty if it could.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.problem = ""
        self._loop = loop
        self._lines: asyncio.Queue[str | None] = asyncio.Queue()
        self._room = threading.Semaphore(1)
        self._has_lines = False
        threading.Thread(target=self._read, name="zcli-input", daemon=True).start()

    async def get(self) -> str | None:
        """Wait for the next line and return it, or None at the end. Call :meth:`task_done` before the next call."""
        return await self._lines.get()

    def task_done(self) -> None:
        """Let the thread read the next line."""
        self._room.release()

    def put_back(self, line: str) -> None:
        """Return a line that could not be sent to the queue."""
        self._lines.put_nowait(line)

    @property
    def has_unsent(self) -> bool:
        """Whether lines were read and not taken by :meth:`get`. Input that has not arrived is not counted."""
        return self._has_lines or (not self._lines.empty() and self._lines.get_nowait() is not None)

    def _read(self) -> None:
        try:
            try:
                for lines in _blocks_of_lines():
                    self._has_lines = True
                    for line in lines:
                        self._put(_decoded(line))
                    self._has_lines = False
            except UnicodeDecodeError as error:
                self.problem = f"the input is not text in {error.encoding}: byte 0x{error.object[error.start]:02x}"
            except OSError as error:
                self.problem = f"cannot read the input: {error.strerror or error}"
            self._put(None)
        except RuntimeError:  # the event loop is closed
            return

    def _put(self, line: str | None) -> None:
        self._room.acquire()
        self._loop.call_soon_threadsafe(self._lines.put_nowait, line)


def _blocks_of_lines() -> Iterator[list[bytes]]:
    """Yield the complete lines after each read."""
    if sys.stdin is None:
        return
    # Python aborts if a thread holds the lock of the buffered stream at the end of the program.
    raw = getattr(sys.stdin.buffer, "raw", sys.stdin.buffer)
    pieces: list[bytes] = []
    while data := raw.read(_READ_SIZE):
        first, *others = data.split(b"\n")
        pieces.append(first)
        if others:
            *complete, last = others
            yield [b"".join(pieces), *complete]
            pieces = [last]
    if any(pieces):
        yield [b"".join(pieces)]


def _decoded(line: bytes) -> str:
    return line.removesuffix(b"\r").decode(sys.stdin.encoding)
