"""Request bodies: what a caller may give, and what is sent for it."""

from __future__ import annotations

import io
import json as _json
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any, cast

from zcli_core.comm.http.urls import Pairs, encode_pairs
from zcli_core.contracts.http import Body, TransportFailure

#: What may be given as ``data``. A mapping, list or tuple is sent as JSON; a str as UTF-8 text; bytes, a file opened
#: in binary mode, or an iterable of bytes as they are.
Data = (
    Mapping[str, Any] | list[Any] | tuple[Any, ...] | str | bytes | bytearray | memoryview | IO[bytes] | Iterable[bytes]
)

_BLOCK = 64 * 1024


class BodySourceError(Exception):
    """Carries what the caller's own file or iterable raised past the transport, which must not take it for a network
    error. ``__cause__`` is the original."""


class StreamedBody:
    """A body that is read while it is sent: a file, an iterable, or chunks in a row.

    ``length`` is its size in bytes, or None if only reading it will tell. ``repeatable`` says whether it can be sent a
    second time, as a redirect or a retry needs.
    """

    def __init__(self, source: IO[bytes] | Iterable[bytes]) -> None:
        self._source = source
        self._start: int | None = None
        self.length: int | None = None
        self._used = False
        if hasattr(source, "read"):
            self._measure(cast("IO[bytes]", source))
            self.repeatable = self._start is not None
        else:
            # An iterator hands out itself and can be gone through once; a collection begins anew.
            self.repeatable = iter(source) is not source

    def _measure(self, file: IO[bytes]) -> None:
        if isinstance(file, io.TextIOBase):
            raise TypeError("a file that is sent must be opened in binary mode ('rb')")
        try:
            self._start = file.tell()
            self.length = file.seek(0, os.SEEK_END) - self._start
            file.seek(self._start)
        except (AttributeError, OSError, ValueError):
            self._start = None

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
        """A body of another length than announced would leave both sides at odds about what comes next."""
        if self.length is not None and (sent > self.length or (is_end and sent < self.length)):
            more_or_less = "more" if sent > self.length else "less"
            raise ValueError(f"the body was announced with {self.length} bytes and has {more_or_less}")

    def _chunks(self) -> Iterator[bytes]:
        chunks: Iterable[Any] = self._source
        if hasattr(self._source, "read"):
            file = cast("IO[bytes]", self._source)
            if self._start is not None:
                file.seek(self._start)
            chunks = iter(lambda: file.read(_BLOCK), b"")
        for chunk in chunks:
            if not isinstance(chunk, (str, bytes, bytearray, memoryview)):
                raise TypeError(f"the body's iterable must yield bytes, not {type(chunk).__name__}")
            if chunk:
                yield chunk.encode() if isinstance(chunk, str) else bytes(chunk)


def encode_body(data: Data | None, json: Any, form: Pairs | None, files: Any) -> tuple[Body, str | None]:
    """The body to send and its Content-Type, or None where there is nothing to say about it.

    Raises ValueError if more than one kind of body is given, TypeError for what cannot be sent.
    """
    given = [n for n, v in (("data", data), ("json", json), ("form", form), ("files", files)) if v is not None]
    if len(given) > 1 and given != ["form", "files"]:
        raise ValueError(f"{' and '.join(given)} were given: a request has one body (form and files go together)")
    if files is not None:
        from zcli_core.comm.http.multipart import encode_files

        return encode_files(form, files)
    if form is not None:
        return encode_pairs(form, "form").encode("ascii"), "application/x-www-form-urlencoded"
    if json is not None:
        return _encode_json(json), "application/json"
    return _encode_data(data)


def _encode_json(value: Any) -> bytes:
    # NaN and Infinity are no JSON (RFC 8259, section 6): json.dumps says so with a ValueError.
    return _json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _encode_data(data: Data | None) -> tuple[Body, str | None]:
    if data is None:
        return None, None
    if isinstance(data, Mapping):
        return _encode_json(dict(data)), "application/json"
    if isinstance(data, (list, tuple)):
        return _encode_json(data), "application/json"
    if isinstance(data, str):
        return data.encode(), "text/plain; charset=utf-8"
    if isinstance(data, bytes):
        return data, None
    if isinstance(data, (bytearray, memoryview)):
        return bytes(data), None
    if hasattr(data, "read") or isinstance(data, Iterable):
        return StreamedBody(data), None
    raise TypeError(
        f"data cannot be a {type(data).__name__}: give a dict or list (sent as JSON), str, bytes, a file opened in "
        "binary mode or an iterable of bytes; any other value goes into json="
    )
