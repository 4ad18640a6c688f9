"""A body that is read while it is sent, as libcurl asks for it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable

import pycurl


class Upload:
    """Hands an iterable's items to libcurl; ``error`` is what iterating it raised, to be raised again.

    ``read`` is the callback: a generator's ``send``, so that whatever is raised in it, by a signal's handler too, is
    caught here. What leaves a callback goes no further than pycurl, which prints it.
    """

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self.error: BaseException | None = None
        self.is_complete = False
        self._blocks = self._feed(chunks)
        next(self._blocks)
        self.read: Callable[[int], bytes | int] = self._blocks.send

    def close(self) -> None:
        """No more will be asked for."""
        self._blocks.close()

    def _feed(self, chunks: Iterable[bytes]) -> Generator[bytes | int, int, None]:
        try:
            size = yield b""
            for chunk in chunks:
                start = 0
                while start < len(chunk):  # an empty block would mean the end
                    block = bytes(chunk[start : start + size])
                    start += len(block)
                    size = yield block
            self.is_complete = True
            while True:
                yield b""
        except GeneratorExit:
            raise
        except BaseException as error:  # noqa: BLE001 - raised again by whoever called perform()
            self.error = error
        while True:
            yield pycurl.READFUNC_ABORT
