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
    def are_left(self) -> bool:
        """Whether a line was read that nobody took."""
        return not self._lines.empty() and self._lines.get_nowait() is not None

    def _read(self) -> None:
        try:
            try:
                for line in _lines_of_stdin():
                    self._put(line)
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


def _lines_of_stdin() -> Iterator[str]:
    if sys.stdin is None:
        return
    # The buffered stream has a lock, and Python ends fatally if a thread holds it at the end of the program.
    raw = getattr(sys.stdin.buffer, "raw", sys.stdin.buffer)
    pieces: list[bytes] = []
    while data := raw.read(_READ_SIZE):
        first, *others = data.split(b"\n")
        pieces.append(first)
        for following in others:
            yield _decoded(pieces)
            pieces = [following]
    if any(pieces):
        yield _decoded(pieces)


def _decoded(pieces: list[bytes]) -> str:
    return b"".join(pieces).removesuffix(b"\r").decode(sys.stdin.encoding)
