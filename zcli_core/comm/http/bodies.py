"""Request bodies: what a caller may give, and what is sent for it."""

from __future__ import annotations

import io
import json as _json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import IO, Any, Final, cast

from zcli_core.comm.http.urls import encode_pairs
from zcli_core.comm.http.values import Pairs
from zcli_core.contracts.http import Body, TransportFailure

#: What may be given as ``data``. A mapping, list or tuple is sent as JSON; a str as UTF-8 text; bytes, a file opened
#: in binary mode, or an iterable of bytes as they are.
Data = (
    Mapping[str, Any] | list[Any] | tuple[Any, ...] | str | bytes | bytearray | memoryview | IO[bytes] | Iterable[bytes]
)


class Missing(Enum):
    """The default of an argument for which None is a value."""

    MISSING = "not given"

    def __repr__(self) -> str:
        return "<not given>"


#: ``json=None`` sends ``null``; without ``json`` there is no JSON body.
MISSING: Final = Missing.MISSING

_BLOCK = 64 * 1024


class BodySourceError(Exception):
    """Carries an error of the caller's own file or iterable through the transport, which would take it for a network
    error otherwise. ``__cause__`` is the original."""


class StreamedBody:
    """A body that is read while it is sent: a file, the file at a path, or an iterable.

    A file is sent from where it stands to the end that it had when the call began; what is appended meanwhile is not
    sent. A file at a path is opened anew each time.

    Attributes:
        length: The size in bytes, or None if only reading it will tell.
        repeatable: Whether it can be sent a second time, as a redirect or a retry needs.

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
            # An iterator returns itself and can be read once; a collection begins anew.
            self.repeatable = iter(source) is not source
        self.length: int | None = self._limit

    def _measure_path(self, path: Path) -> None:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode) or stat.S_ISDIR(mode):  # opening a pipe would wait for its writer
            with path.open("rb") as file:
                self._measure(file)

    def _measure(self, file: IO[bytes]) -> None:
        if getattr(file, "closed", False) is True:
            raise ValueError("a file that is sent must be open: this one is closed")
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
        # From here on the position has changed, so that a failure must not be ignored. What seek() returns is not
        # used: the files of some libraries return None.
        end = file.tell()
        file.seek(start)
        self._start = start
        self._limit = max(0, end - start)
        if not self._limit:
            # A file of /proc says that it is empty, whatever it holds.
            if file.read(1):
                self._limit = None
            file.seek(start)

    def __iter__(self) -> Iterator[bytes]:
        if self._used and not self.repeatable:
            raise TransportFailure("unrepeatable_body", "the body was already sent and could be read only once")
        self._used = True
        sent = 0
        try:
            for chunk in self._chunks():
                sent += len(chunk)
                self._compare(sent, is_end=False)
                yield chunk
            self._compare(sent, is_end=True)
        except (BodySourceError, TransportFailure):
            raise
        except Exception as error:
            raise BodySourceError from error

    def _compare(self, sent: int, is_end: bool) -> None:
        """End the exchange at a body of another length than announced: the server would misread what follows."""
        if self.length is None or sent == self.length or (sent < self.length and not is_end):
            return
        what = f"it ended after {sent}" if sent < self.length else "it has more"
        raise TransportFailure("body", f"the body was announced with {self.length} bytes, but {what}")

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
                    raise TypeError(f"the body's iterable must yield bytes, got {type(chunk).__name__}")
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


def encode_body(data: Data | None, json: Any, form: Pairs | None, files: Any) -> tuple[Body, str | None]:
    """Return the body to send and its Content-Type, or None where there is nothing to say about it.

    Raises:
        ValueError: More than one kind of body is given, or a value cannot be written.
        TypeError: A value cannot be sent.
        OSError: A file cannot be read.
    """
    if data is None and json is MISSING and form is None and files is None:
        return None, None
    kinds = {
        "data": data is not None,
        "json": json is not MISSING,
        "form": form is not None,
        "files": files is not None,
    }
    given = [name for name, is_given in kinds.items() if is_given]
    if len(given) > 1 and given != ["form", "files"]:
        raise ValueError(f"{' and '.join(given)} were given: a request has one body (form and files go together)")
    if files is not None:
        from zcli_core.comm.http.multipart import encode_files

        body = encode_files(form, files)
        return body, body.content_type
    if form is not None:
        return encode_pairs(form, "form").encode("ascii"), "application/x-www-form-urlencoded"
    if json is not MISSING:
        return _encode_json(json, "json"), "application/json"
    assert data is not None  # the only kind that is left
    return _encode_data(data)


def _encode_json(value: Any, argument: str) -> bytes:
    try:
        # NaN and Infinity are not JSON (RFC 8259, section 6): json.dumps raises ValueError for them.
        return _json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except RecursionError:
        raise ValueError(f"{argument} is nested too deeply to be written as JSON") from None
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{argument} cannot be written as JSON: {error}") from error


def _encode_data(data: Data) -> tuple[Body, str | None]:
    if isinstance(data, Mapping):
        return _encode_json(dict(data), "data"), "application/json"
    if isinstance(data, (list, tuple)):
        return _encode_json(data, "data"), "application/json"
    if isinstance(data, str):
        try:
            return data.encode(), "text/plain; charset=utf-8"
        except UnicodeEncodeError:
            raise ValueError("data has a lone surrogate, which UTF-8 cannot carry") from None
    if isinstance(data, bytes):
        return data, None
    if isinstance(data, (bytearray, memoryview)):
        return bytes(data), None
    # A class of enum members and a set can be iterated, but not in an order that a body could have.
    is_source = hasattr(data, "read") or isinstance(data, Iterable)
    if is_source and not isinstance(data, (type, set, frozenset)):
        return StreamedBody(data), None
    raise TypeError(
        f"data must be a dict or list (sent as JSON), str, bytes, a file opened in binary mode or an iterable of "
        f"bytes, got {type(data).__name__}; any other value goes into json="
    )
