"""A request body that is read when libcurl calls for more."""

from __future__ import annotations

from collections.abc import Callable, Generator

import pycurl

from zcli_core.http.parts.bodies import BodySource


class Upload:
    """Passes the blocks of a source to libcurl.

    Attributes:
        read: libcurl's callback. It is the ``send`` of a generator, so that every exception in it is caught here, also
            that of a signal handler. pycurl would print and drop an exception that leaves a callback.
        error: The exception that was raised in it, or None. The caller of ``perform()`` raises it again.
        length: The request's Content-Length, or None.
        is_complete: Whether the whole body was passed to libcurl.
    """

    def __init__(self, source: BodySource) -> None:
        self.error: BaseException | None = None
        self.length = source.length
        self.is_complete = False
        self._blocks = self._feed(source)
        next(self._blocks)
        self.read: Callable[[int], bytes | int] = self._blocks.send

    def close(self) -> None:
        """Stop reading the source."""
        self._blocks.close()

    def _feed(self, source: BodySource) -> Generator[bytes | int, int, None]:
        try:
            size = yield b""
            for block in source:
                start = 0
                while start < len(block):
                    part = bytes(block[start : start + size])
                    start += len(part)
                    size = yield part
            self.is_complete = True
            while True:
                yield b""
        except GeneratorExit:
            raise
        except BaseException as error:  # noqa: BLE001 - the caller of perform() raises it again
            self.error = error
        while True:
            yield pycurl.READFUNC_ABORT
