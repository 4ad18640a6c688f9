"""Unmasking (RFC 6455, 5.3): XOR with a repeated key of four bytes. Python has no operation for it.

Short payloads are converted to integers. From about 1 KiB on, translating each of the four byte positions with a table
is faster; it is done in pieces that fit into the processor's cache. Both cost more than a nanosecond a byte. If the
package ``websockets`` is installed (the extra ``fast``), its C routine is used for all but the shortest payloads.
"""

from __future__ import annotations

from collections.abc import Callable

Buffer = bytes | bytearray | memoryview

_BY_TABLE = 1024
_PIECE = 16 * 1024
_tables: list[bytes] = []


def unmask_by_integers(data: Buffer, mask: bytes) -> bytes:
    """Unmask by integers, which is fastest for short payloads."""
    length = len(data)
    words = (length + 3) >> 2
    number = int.from_bytes(data, "little") ^ int.from_bytes(mask * words, "little")
    plain = number.to_bytes(words << 2, "little")
    return plain[:length] if length & 3 else plain


def unmask_by_tables(data: Buffer, mask: bytes) -> bytes:
    """Unmask by translation tables, which is fastest for long payloads."""
    if not _tables:
        _tables.extend(bytes(byte ^ key for byte in range(256)) for key in range(256))
    length = len(data)
    if length <= _PIECE:
        return bytes(_translate(bytearray(data), mask))
    view = memoryview(data)
    return b"".join([_translate(bytearray(view[at : at + _PIECE]), mask) for at in range(0, length, _PIECE)])


def _translate(piece: bytearray, mask: bytes) -> bytearray:
    for position in range(4):
        piece[position::4] = piece[position::4].translate(_tables[mask[position]])
    return piece


def unmask_in_python(data: Buffer, mask: bytes) -> bytes:
    """Return ``data`` XOR the repeated ``mask``, without C code."""
    return unmask_by_integers(data, mask) if len(data) < _BY_TABLE else unmask_by_tables(data, mask)


def _choose() -> Callable[[Buffer, bytes], bytes]:
    """Return the C routine if it is installed and accepts all forms of data; versions differ in what they accept."""
    try:
        from websockets.speedups import apply_mask
    except ImportError:
        return unmask_in_python
    data, mask = bytes(range(11)), b"\x01\x80\xff\x10"
    try:
        results = [apply_mask(form, mask) for form in (data, bytearray(data), memoryview(data))]
    except Exception:  # noqa: BLE001 - other versions may raise anything
        return unmask_in_python
    if any(type(result) is not bytes or result != unmask_by_integers(data, mask) for result in results):
        return unmask_in_python
    return apply_mask  # type: ignore[no-any-return,unused-ignore]


#: Returns ``data`` XOR the repeated ``mask``.
unmask: Callable[[Buffer, bytes], bytes] = _choose()
