"""A request's body that is read while it is sent: a file, the file at a path, or an iterable."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, cast

from zcli_core.http.contract import TransportFailure

_BLOCK = 64 * 1024


class BodySourceError(Exception):
    """An error of the caller's own file or iterable, which is ``__cause__``.

    The transport would take the original, such as an OSError, for an error of the network.
    """


class StreamedBody:
    """A body that is read while it is sent: a file, the file at a path, or an iterable.

    A file is sent from its current position up to the size that it had when the call began; what is appended later is
    not sent. A file at a path is opened again each time.

    Attributes:
        length: The size in bytes, or None if it is not known before reading.
        repeatable: Whether it can be sent a second time, for a redirect or a retry.

    Raises:
        TypeError: A file is opened in text mode.
        ValueError: A file is closed or cannot be read from.
        OSError: The file at a path cannot be read.
    """

    def __init__(self, source: IO[bytes] | Path | Iterable[bytes]) -> None:
        self._source = source
        self._start: int | None = None
        self._limit: int | None = None
        self._used = False
        if isinstance(source, Path):
            self._measure_path(source)
            self.repeatable = self._start is not None
        elif hasattr(source, "read"):
            self._measure(cast("IO[bytes]", source))
            self.repeatable = self._start is not None
        else:
            # iter() of an iterator returns the iterator itself, which can be read only once.
            self.repeatable = iter(source) is not source
        self.length: int | None = self._limit

    def _measure_path(self, path: Path) -> None:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode) or stat.S_ISDIR(mode):  # opening a pipe would wait for its writer
            with path.open("rb") as file:
                self._measure(file)

    def _measure(self, file: IO[bytes]) -> None:
        if getattr(file, "closed", False) is True:
            raise ValueError("a file that is sent must be open, got a closed file")
        if isinstance(file, io.TextIOBase) or hasattr(file, "encoding"):
            raise TypeError("a file that is sent must be opened in binary mode ('rb')")
        readable = getattr(file, "readable", None)
        if callable(readable) and not readable():
            raise ValueError("a file that is sent must be opened for reading ('rb')")
        try:
            start = file.tell()
            if not isinstance(start, int):
                return
            file.seek(0, os.SEEK_END)
        except (AttributeError, NotImplementedError, OSError, TypeError, ValueError):
            return  # a pipe, or an object that cannot seek
        # The position has changed, so errors are no longer ignored. The result of seek() is not used, because the files
        # of some libraries return None.
        end = file.tell()
        file.seek(start)
        self._start = start
        self._limit = max(0, end - start)
        if not self._limit:
            # Files in /proc report the size 0.
            if file.read(1):
                self._limit = None
            file.seek(start)

    def __iter__(self) -> Iterator[bytes]:
        if self._used and not self.repeatable:
            raise TransportFailure("unrepeatable_body", "the body was already sent and can be read only once")
        self._used = True
        try:
            yield from self._chunks()
        except Exception as error:
            raise BodySourceError from error

    def _chunks(self) -> Iterator[bytes]:
        source = self._source
        if isinstance(source, Path):
            with source.open("rb") as file:
                yield from self._blocks_of(file)
        elif hasattr(source, "read"):
            yield from self._blocks_of(cast("IO[bytes]", source))
        else:
            for chunk in source:
                if not isinstance(chunk, (str, bytes, bytearray, memoryview)):
                    raise TypeError(f"the iterable of a body must yield bytes, got {type(chunk).__name__}")
                if chunk:
                    yield chunk.encode() if isinstance(chunk, str) else bytes(chunk)

    def _blocks_of(self, file: IO[bytes]) -> Iterator[bytes]:
        if self._start is not None:
            file.seek(self._start)
        left = self._limit
        while left is None or left > 0:
            block = file.read(_BLOCK if left is None else min(_BLOCK, left))
            if not isinstance(block, (bytes, bytearray, memoryview)):
                raise TypeError(f"read() of the file that is sent must return bytes, got {type(block).__name__}")
            if not block:
                return
            if left is not None:
                block = block[:left]
                left -= len(block)
            yield bytes(block)
