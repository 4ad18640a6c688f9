"""The sans-IO engine: bytes in, messages and control frames out, in order.

What nearly all traffic is (whole, unfragmented, uncompressed messages, and control frames) is decoded here in a
few operations. Fragmented and compressed messages, and every frame that is not well formed, go through
:mod:`zcli_wsproto.slow` to wsproto, which is also the oracle of the property test.
"""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

from zcli_core.contracts.websocket_parts.events import NOT_UTF8, Event, Failure, Ping, Pong, read_close, too_big
from zcli_core.contracts.websocket_parts.frames import BINARY, CLOSE, FIN, PING, PONG, TEXT
from zcli_wsproto.masking import unmask

if TYPE_CHECKING:
    from zcli_core.contracts.websocket import Limits
    from zcli_wsproto.deflate import Agreement
    from zcli_wsproto.slow import SlowPath

_TEXT_FRAME, _BINARY_FRAME = FIN | TEXT, FIN | BINARY
_CONTROL_FRAMES = (FIN | CLOSE, FIN | PING, FIN | PONG)

#: Frames above this many bytes are taken out of the read buffer directly.
_LARGE = 8 * 1024

_new_validator = codecs.getincrementaldecoder("utf-8")


class _Partial:
    """A whole-message frame that is large, or of which only a part has come."""

    __slots__ = ("_data", "_mask", "_validator", "missing")

    def __init__(self, text: bool, mask: bytes, length: int) -> None:
        self.missing = length
        self._mask = mask
        self._data = bytearray()
        # Text is checked as it comes, so that it fails at once (RFC 6455, 8.1); the output is not kept.
        self._validator = _new_validator() if text else None

    def add(self, piece: bytes | memoryview) -> str | bytes | None:
        """Take a piece; the message, if that was the last. Raises UnicodeDecodeError for text that is not UTF-8."""
        self.missing -= len(piece)
        if not self.missing and not self._data:
            whole = unmask(piece, self._mask)
            return whole if self._validator is None else whole.decode()
        if self._validator is None:
            self._data += piece
            return None if self.missing else unmask(self._data, self._mask)
        turn = len(self._data) & 3
        plain = unmask(piece, self._mask[turn:] + self._mask[:turn])
        self._validator.decode(plain, not self.missing)
        self._data += plain
        return None if self.missing else self._data.decode()


class Decoder:
    """Decodes what a client sends after the upgrade.

    Feed it bytes as they come and take events until there is None. After a :class:`Close` or a :class:`Failure` it
    gives nothing more. It holds what was fed and not taken, and at most one message of up to ``max_size`` bytes.
    """

    __slots__ = (
        "_agreement", "_busy", "_data", "_done", "_limits", "_max_size", "_partial", "_pos", "_ready", "_rest", "_slow",
    )  # fmt: skip

    def __init__(self, limits: Limits, agreement: Agreement | None = None) -> None:
        self._limits = limits
        self._max_size = limits.max_size
        self._agreement = agreement
        self._data = b""
        self._pos = 0
        #: Whether the next byte is not the first of a message.
        self._busy = False
        self._done = False
        self._partial: _Partial | None = None
        #: A large message that was completed by :meth:`feed` and not taken yet.
        self._ready: Event | None = None
        #: Made when it is first needed: most connections never need it.
        self._slow: SlowPath | None = None
        #: What :meth:`rest` gives after a failure.
        self._rest: tuple[int, bytes] | None = None

    def feed(self, data: bytes | memoryview) -> None:
        """Take bytes from the network. A view is not kept: its buffer may be used again after the call."""
        if self._done:
            return
        if self._pos < len(self._data):
            data = self._data[self._pos :] + data
        elif len(data) > _LARGE and not self._busy:
            data = self._feed_large(data)
        if self._partial is not None and self._ready is None:
            data = self._feed_partial(self._partial, data)
        self._data = bytes(data)
        self._pos = 0

    def _feed_large(self, data: bytes | memoryview) -> bytes | memoryview:
        """Where a large frame begins: take its header, so that its payload is not copied an extra time."""
        first, second = data[0], data[1]
        if first not in (_TEXT_FRAME, _BINARY_FRAME) or second < 0xFE:
            return data
        size = 8 if second == 0xFE else 14
        length = int.from_bytes(data[2 : size - 4], "big")
        if not _LARGE < length <= self._max_size or (size == 14 and length < 65536):
            return data
        self._partial = _Partial(first == _TEXT_FRAME, bytes(data[size - 4 : size]), length)
        self._busy = True
        return data[size:]

    def _feed_partial(self, partial: _Partial, data: bytes | memoryview) -> bytes | memoryview:
        """Add to a partial message what belongs to it; what is left."""
        rest = data[partial.missing :]
        try:
            self._ready = partial.add(data[: partial.missing])
        except UnicodeDecodeError:
            self._ready = NOT_UTF8
        if self._ready is NOT_UTF8:
            self._rest = partial.missing, bytes(rest)
        if self._ready is not None:
            self._partial = None
        return rest

    @property
    def waiting(self) -> int:
        """Bytes that were fed and not taken yet."""
        return len(self._data) - self._pos

    def next(self) -> Event | None:
        """The next event, or None if it takes more bytes."""
        data = self._data
        pos = self._pos
        available = len(data) - pos
        if available < 6 or self._busy:
            return self._next_unusual() if available > 1 or self._busy else None
        first = data[pos]
        length = data[pos + 1] - 0x80
        if length < 0 or (first != _TEXT_FRAME and first != _BINARY_FRAME):
            return self._next_unusual()
        start = pos + 6
        if length > 125:
            start = pos + (8 if length == 126 else 14)
            length = self._extended_length(length)
            if length < 0:
                return self._next_unusual()
        end = start + length
        if end > pos + available or length > self._max_size:
            return self._next_unusual()
        self._pos = end
        mask = data[start - 4 : start]
        if length < 126:
            # This is unmask_by_integers(), in place: nearly every message is short.
            words = (length + 3) >> 2
            number = int.from_bytes(data[start:end], "little") ^ int.from_bytes(mask * words, "little")
            payload = number.to_bytes(words << 2, "little")
            if length & 3:
                payload = payload[:length]
        else:
            payload = unmask(data[start:end], mask)
        if first == _BINARY_FRAME:
            return payload
        try:
            return payload.decode()
        except UnicodeDecodeError:
            return self._fail(NOT_UTF8)

    def rest(self) -> tuple[int, bytes]:
        """How many bytes of the current frame have not come, and the bytes that were fed and not taken."""
        if self._rest is not None:
            return self._rest
        if self._partial is not None:
            return self._partial.missing, self._data[self._pos :]
        return self._slow.missing if self._slow is not None else 0, self._data[self._pos :]

    def finish(self) -> None:
        """Decode no more: what follows a close frame or a failure means nothing."""
        self._done = True
        self._busy = False
        self._data = b""
        self._pos = 0
        self._partial = self._slow = self._ready = None

    # Off the fast path ------------------------------------------------------------------------------------------

    def _extended_length(self, indicator: int) -> int:
        """The length that follows the indicator 126 or 127; -1 if it has not come or is not well formed."""
        start = self._pos + 2
        if indicator == 126:
            length = int.from_bytes(self._data[start : start + 2], "big")
            return length if length > 125 else -1
        length = int.from_bytes(self._data[start : start + 8], "big")
        return length if self.waiting >= 10 and 65535 < length < 1 << 63 else -1

    def _fail(self, failure: Failure) -> Failure:
        if self._rest is None:
            self._rest = self.rest()
        self.finish()
        return failure

    def _take(self, count: int) -> bytes:
        piece = self._data[self._pos : self._pos + count]
        self._pos += len(piece)
        return piece

    def _next_unusual(self) -> Event | None:
        """The next event where the fast path does not apply, or does not apply yet."""
        if self._ready is not None:
            ready, self._ready = self._ready, None
            self._busy = False
            return self._fail(ready) if isinstance(ready, Failure) else ready
        if self._partial is not None:
            return None
        while not self._done:
            slow = self._slow
            if slow is None or not slow.in_frame:
                if self.waiting < 2:
                    return None
                first, second = self._data[self._pos], self._data[self._pos + 1]
                if first in _CONTROL_FRAMES and 0x80 <= second < 0x80 + 126:
                    return self._control(first, second - 0x80)
                if not self._busy and second >= 0x80 and first in (_TEXT_FRAME, _BINARY_FRAME):
                    size = 6 + {0xFE: 2, 0xFF: 8}.get(second, 0)
                    length = second - 0x80 if size == 6 else self._extended_length(second - 0x80)
                    if length > self._max_size:
                        return self._fail(too_big(length, self._max_size))
                    if length >= 0 and self.waiting >= size:
                        return self._start_partial(first == _TEXT_FRAME, length, size)
                    if self.waiting < size - 4:
                        return None
                    if length >= 0:
                        return None
                if slow is None:
                    from zcli_wsproto.slow import SlowPath

                    slow = self._slow = SlowPath(self._limits, self._agreement)
            if self.waiting < (1 if slow.takes_pieces else slow.needed):
                return None
            event = slow.step(self._take(slow.needed))
            self._busy = slow.in_message or slow.in_frame
            if event is not None:
                return self._fail(event) if isinstance(event, Failure) else event
        return None

    def _start_partial(self, text: bool, length: int, header: int) -> Event | None:
        self._partial = _Partial(text, self._take(header)[-4:], length)
        self._busy = True
        self._feed_partial(self._partial, self._take(length))
        return self._next_unusual()

    def _control(self, first: int, length: int) -> Event | None:
        """A control frame, which may stand between the fragments of a message (RFC 6455, 5.5)."""
        if self.waiting < 6 + length:
            return None
        mask = self._take(6)[-4:]
        payload = unmask(self._take(length), mask)
        if first == FIN | PING:
            return Ping(payload)
        if first == FIN | PONG:
            return Pong(payload)
        self.finish()
        return read_close(payload)
