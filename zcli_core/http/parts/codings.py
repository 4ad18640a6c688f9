"""Decoding content codings (RFC 9110, section 8.4) block by block.

A small body that decodes to a huge one is never held in memory. urllib3 and libcurl could decode too, but they accept a
body that is cut off as complete.
"""

from __future__ import annotations

import contextlib
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from typing import Any, Protocol

from zcli_core.http.contract import TransportFailure

#: How much is decoded at a time, in bytes.
BLOCK = 64 * 1024

# Each coding multiplies the work that one byte can cause.
_MOST_CODINGS = 5

# The first byte of each gzip member.
_GZIP_MAGIC = 0x1F

# The largest window that a response may use: 8 MiB (RFC 9659).
_ZSTD_WINDOW_LOG = 23


class _Coding(Protocol):
    """A decoder of one content coding."""

    @property
    def is_at_end(self) -> bool:
        """Whether the data so far is complete."""
        ...

    def decode(self, data: bytes) -> Iterator[bytes]:
        """Yield what the next bytes decode to, in blocks."""
        ...


class ContentDecoder:
    """Decodes the codings of one Content-Encoding header."""

    def __init__(self, codings: list[_Coding], deadline: float) -> None:
        self._codings = codings
        self._deadline = deadline
        self._is_fed = False

    @property
    def is_at_end(self) -> bool:
        """Whether the data so far is complete. An empty body is complete."""
        return not self._is_fed or all(coding.is_at_end for coding in self._codings)

    def decode(self, data: bytes) -> Iterator[bytes]:
        """Return what the next bytes of the body decode to, in blocks.

        Raises:
            TransportFailure: ``protocol``: the bytes are not in the stated coding; ``timeout``.
        """
        self._is_fed = True
        blocks: Iterable[bytes] = (data,)
        for coding in self._codings:
            blocks = self._decode_each(coding, blocks)
        return iter(blocks)

    def _decode_each(self, coding: _Coding, blocks: Iterable[bytes]) -> Iterator[bytes]:
        try:
            for block in blocks:
                for part in coding.decode(block):
                    if time.monotonic() > self._deadline:
                        raise TransportFailure("timeout", "the deadline passed while decoding the body")
                    yield part
        except _DECODING_ERRORS:
            raise TransportFailure("protocol", "the body is not in the coding that Content-Encoding states") from None


class _Gzip:
    """gzip: one member or several in a row (RFC 1952, section 2.2). Padding after the last is ignored."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(16 + zlib.MAX_WBITS)
        self._is_over = False

    @property
    def is_at_end(self) -> bool:
        return self._is_over or self._member.eof

    def decode(self, data: bytes) -> Iterator[bytes]:
        while data and not self._is_over:
            if self._member.eof:
                if data[0] != _GZIP_MAGIC:
                    self._is_over = True
                    return
                self._member = zlib.decompressobj(16 + zlib.MAX_WBITS)
            yield from _inflate(self._member, data)
            data = self._member.unused_data


class _Deflate:
    """deflate: a zlib stream (RFC 1950), or a raw deflate stream, which many servers send under that name."""

    def __init__(self) -> None:
        self._head = b""
        self._unpacker: Any = None

    @property
    def is_at_end(self) -> bool:
        return self._unpacker is not None and bool(self._unpacker.eof)

    def decode(self, data: bytes) -> Iterator[bytes]:
        if self._unpacker is None:
            self._head += data
            if len(self._head) < 2:
                return
            data = self._head
            is_zlib = data[0] & 15 == zlib.DEFLATED and int.from_bytes(data[:2], "big") % 31 == 0
            self._unpacker = zlib.decompressobj(zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS)
        if not self._unpacker.eof:
            yield from _inflate(self._unpacker, data)


def _inflate(unpacker: Any, data: bytes) -> Iterator[bytes]:
    while True:
        part = unpacker.decompress(data, BLOCK)
        data = unpacker.unconsumed_tail
        if part:
            yield part
        if not data and len(part) < BLOCK:  # after a full block there may be more
            return


class _Brotli:
    """br (RFC 7932)."""

    def __init__(self) -> None:
        self._unpacker = import_module("brotli").Decompressor()

    @property
    def is_at_end(self) -> bool:
        return bool(self._unpacker.is_finished())

    def decode(self, data: bytes) -> Iterator[bytes]:
        while not self._unpacker.is_finished():
            part = self._unpacker.process(data, output_buffer_limit=BLOCK)
            data = b""
            if part:
                yield part
            elif self._unpacker.can_accept_more_data():
                return


class _Zstd:
    """zstd: frames in a row (RFC 8878)."""

    def __init__(self) -> None:
        self._frame = self._next_frame()

    @property
    def is_at_end(self) -> bool:
        return bool(self._frame.eof)

    def decode(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._frame.eof:
                self._frame = self._next_frame()
            yield self._frame.decompress(data, BLOCK)
            while not (self._frame.needs_input or self._frame.eof):
                yield self._frame.decompress(b"", BLOCK)
            data = self._frame.unused_data

    def _next_frame(self) -> Any:
        zstd = _zstd_module()
        return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG})


def _zstd_module() -> Any:
    """Return the module of Python 3.14, or its backport. Raises ImportError if neither is installed."""
    try:
        return import_module("compression.zstd")
    except ImportError:
        return import_module("backports.zstd")


def _available() -> tuple[dict[str, Callable[[], _Coding]], tuple[type[Exception], ...]]:
    """Return the codings that this installation can decode, the best first, and the exceptions of their decoders."""
    codings: dict[str, Callable[[], _Coding]] = {}
    errors: list[type[Exception]] = [zlib.error]
    with contextlib.suppress(ImportError):
        errors.append(_zstd_module().ZstdError)
        codings["zstd"] = _Zstd
    with contextlib.suppress(ImportError):
        brotli = import_module("brotli")
        # Before version 1.2 it decoded everything at once, without a limit.
        if hasattr(brotli.Decompressor, "can_accept_more_data"):
            errors.append(brotli.error)
            codings["br"] = _Brotli
    return {**codings, "gzip": _Gzip, "deflate": _Deflate}, tuple(errors)


_CODINGS, _DECODING_ERRORS = _available()

#: The codings that can be decoded, the best first.
CONTENT_CODINGS = tuple(_CODINGS)


def decoder_for(header: str, deadline: float) -> ContentDecoder | None:
    """Return the decoder for a Content-Encoding header.

    Returns:
        The decoder, or None if there is nothing to decode or a coding is unknown. The body then stays as it is.

    Raises:
        TransportFailure: ``protocol``: the header names too many codings.
    """
    names = [name.strip().lower().removeprefix("x-") for name in header.split(",")]
    names = [name for name in names if name not in ("", "identity")]
    if len(names) > _MOST_CODINGS:
        raise TransportFailure("protocol", f"Content-Encoding names more than {_MOST_CODINGS} codings")
    if not names or not _CODINGS.keys() >= set(names):
        return None
    return ContentDecoder([_CODINGS[name]() for name in reversed(names)], deadline)
