"""A body that is read while it is sent, as libcurl asks for it."""

from __future__ import annotations

from collections.abc import Callable, Generator

import pycurl

from zcli_core.http.parts.bodies import BodySource


class Upload:
    """Hands a source's blocks to libcurl; ``error`` is what was raised meanwhile, to be raised again.

    ``read`` is the callback: a generator's ``send``, so that whatever is raised in it, by a signal's handler too, is
    caught here. What leaves a callback goes no further than pycurl, which prints it.
    """

    def __init__(self, source: BodySource) -> None:
        self.error: BaseException | None = None
        self.length = source.length
        self.is_complete = False
        self._blocks = self._feed(source)
        next(self._blocks)
        self.read: Callable[[int], bytes | int] = self._blocks.send

    def close(self) -> None:
        """No more will be asked for."""
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
        except BaseException as error:  # noqa: BLE001 - raised again by whoever called perform()
            self.error = error
        while True:
            yield pycurl.READFUNC_ABORT
