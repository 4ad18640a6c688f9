"""The lines of standard input, for an event loop that must not wait for them."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator

_READ_SIZE = 64 * 1024


class InputLines:
    """Reads standard input in a thread, one line ahead, so that a large file does not fill the memory.

    The thread may still wait for input when the program ends.

    Attributes:
        problem: Why the input could not be read to its end; empty if it could.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.problem = ""
        self._loop = loop
        self._lines: asyncio.Queue[str | None] = asyncio.Queue()
        self._room = threading.Semaphore(1)
        self._has_lines = False
        threading.Thread(target=self._read, name="zcli-input", daemon=True).start()

    async def get(self) -> str | None:
        """Wait for the next line; None at the end. Call :meth:`task_done` before the next one."""
        return await self._lines.get()

    def task_done(self) -> None:
        """Let the thread go on reading."""
        self._room.release()

    def put_back(self, line: str) -> None:
        """Take back a line that could not be sent."""
        self._lines.put_nowait(line)

    @property
    def has_unsent(self) -> bool:
        """Whether lines were read that nobody took. Input that has not come yet is not counted."""
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
                self.problem = f"the input cannot be read: {error.strerror or error}"
            self._put(None)
        except RuntimeError:  # the event loop is closed
            return

    def _put(self, line: str | None) -> None:
        self._room.acquire()
        self._loop.call_soon_threadsafe(self._lines.put_nowait, line)


def _blocks_of_lines() -> Iterator[list[bytes]]:
    """Yield the lines that are complete, each time that there are some."""
    if sys.stdin is None:
        return
    # The buffered stream has a lock, and Python ends fatally if a thread holds it at the end of the program.
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
