"""Content codings (RFC 9110, section 8.4.1), undone block by block: nobody holds all that a few bytes may unpack to.

urllib3's own decoders take a body that was cut off for a complete one.
"""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Iterator

from zcli_core.contracts.http import TransportFailure

_BLOCK = 64 * 1024
_MOST_CODINGS = 5
_GZIP, _ZLIB, _RAW = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS


def undo(codings: str, blocks: Iterator[bytes], deadline: float = math.inf) -> Iterator[bytes]:
    """The body without the codings that Content-Encoding names; as it came if one of them is not known.

    Raises TransportFailure of kind ``protocol``, also while it is iterated over, for a body that is in another coding,
    or ends before it does; TimeoutError once ``deadline``, a reading of ``time.monotonic``, has passed.
    """
    names = [name.strip(" \t").lower() for name in codings.split(",")]
    names = [name for name in names if name not in ("", "identity")]
    if not all(name in _DECODERS for name in names):
        return blocks
    if len(names) > _MOST_CODINGS:
        raise TransportFailure("protocol", f"the body is packed {len(names)} times over")
    for name in reversed(names):
        blocks = _undo_one(name, _in_time(blocks, deadline))
    return blocks


def _in_time(blocks: Iterator[bytes], deadline: float) -> Iterator[bytes]:
    """Each block until then: what a few bytes unpack to may be dropped by the next coding, so that no size stops it."""
    for block in blocks:
        if time.monotonic() > deadline:
            raise TimeoutError("undoing the Content-Encoding")
        yield block


def _undo_one(name: str, blocks: Iterator[bytes]) -> Iterator[bytes]:
    source = _Source(blocks)
    try:
        # HEAD, 304 and a few servers have the header and no body.
        if source.fill(1):
            yield from _DECODERS[name](source)
        source.drain()
    except zlib.error:
        raise TransportFailure(
            "protocol", f"the body is not in the Content-Encoding it is said to be, {name}"
        ) from None
    except EOFError:
        raise TransportFailure("protocol", f"the body ends before its Content-Encoding, {name}, does") from None


class _Source:
    """Blocks, and what is left of one: ``rest``."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self.rest = b""

    def fill(self, size: int) -> bool:
        """Have that many bytes in ``rest``, or as many as there are; whether there are any."""
        while len(self.rest) < size:
            block = next(self._blocks, b"")
            if not block:
                break
            self.rest += block
        return bool(self.rest)

    def drain(self) -> None:
        """Read what is left: only that tells whether the coding around this one, or the message, is complete."""
        for _ in self._blocks:
            pass

    def take(self) -> bytes:
        """The next block. Raises EOFError where there is none."""
        if not self.fill(1):
            raise EOFError
        block, self.rest = self.rest, b""
        return block


def _gunzip(source: _Source) -> Iterator[bytes]:
    yield from _inflate(source, _GZIP)
    # Several members are one body (RFC 1952, section 2.2). What is no member is padding, to everybody else too.
    while source.fill(1) and source.rest.startswith(b"\x1f"):
        yield from _inflate(source, _GZIP)


def _undeflate(source: _Source) -> Iterator[bytes]:
    # The zlib format, but some servers leave it out (RFC 9110, section 8.4.1.2). Its first bytes tell (RFC 1950, 2.2).
    source.fill(2)
    head = source.rest[:2]
    is_zlib = head[0] & 0x0F == 8 and int.from_bytes(head, "big") % 31 == 0
    yield from _inflate(source, _ZLIB if is_zlib else _RAW)


def _inflate(source: _Source, window: int) -> Iterator[bytes]:
    """One compressed stream; what comes after it stays in the source."""
    inflater = zlib.decompressobj(window)
    data = b""
    while not inflater.eof:
        # A full block may have more behind it that no input is needed for.
        more = inflater.unconsumed_tail or (b"" if len(data) == _BLOCK else source.take())
        data = inflater.decompress(more, _BLOCK)
        if data:
            yield data
    source.rest = inflater.unused_data


_DECODERS = {"gzip": _gunzip, "x-gzip": _gunzip, "deflate": _undeflate}
