"""The decoder: bytes in, messages and control frames out, in order. It does no input or output.

A message that comes whole, in one frame, is decoded in a few operations, compressed or not. Everything else is decoded
frame by frame: fragments, incomplete frames, control frames and errors. A :class:`PartialMessage` then holds the part
of the message that has come.

Every limit is checked before memory is used: the size of a frame on its header, the size of a compressed message while
it is decompressed.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from zcli_core.websocket.parts.events import (
    NOT_UTF8,
    Event,
    Failure,
    Ping,
    Pong,
    inflates_too_big,
    read_close,
    too_big,
    too_many_fragments,
)
from zcli_core.websocket.parts.frames import BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, RSV1, TEXT
from zcli_wsproto.masking import unmask, unmask_in_python
from zcli_wsproto.partial_message import TAIL, PartialMessage, begins_as_utf8

if TYPE_CHECKING:
    from zcli_core.websocket.contract import Limits
    from zcli_wsproto.deflate import Agreement

_TEXT_FRAME, _BINARY_FRAME = FIN | TEXT, FIN | BINARY
_DEFLATED_FRAMES = frozenset({FIN | RSV1 | TEXT, FIN | RSV1 | BINARY})

#: The kind of a frame, by its first byte; 0 for a byte that is not allowed.
_MESSAGE, _CONTINUATION, _CONTROL = 1, 2, 3

#: Frames above this many bytes are taken from the read buffer directly. For smaller ones, one more copy costs less.
_LARGE = 32 * 1024

#: Payloads below this size are unmasked without a call where that is faster.
_IN_PLACE = 126 if unmask is unmask_in_python else 0

#: Steps that :meth:`MessageDecoder.next` does before other connections get their turn: each frame of a message in
#: fragments, each call of zlib, and each KiB of its output is a step.
_STEPS_IN_A_ROW = 256

#: Bytes of the input of one call of zlib, which copies those that it does not use, and bytes of its output.
_INPUT_STEP = 8 * 1024
_OUTPUT_STEP = 256 * 1024

_CORRUPT = Failure(1007, "compressed data is corrupt")


def _first_bytes(deflate: bool) -> bytes:
    """Return the kind of frame for each first byte, with or without permessage-deflate (RFC 6455, 5.2; RFC 7692, 6)."""
    kinds = bytearray(256)
    for opcode in (CLOSE, PING, PONG):
        kinds[FIN | opcode] = _CONTROL
    for fin in (0, FIN):
        kinds[fin | CONTINUATION] = _CONTINUATION
        for opcode in (TEXT, BINARY):
            kinds[fin | opcode] = _MESSAGE
            if deflate:
                kinds[fin | RSV1 | opcode] = _MESSAGE
    return bytes(kinds)


_PLAIN_KINDS, _DEFLATE_KINDS = _first_bytes(False), _first_bytes(True)


def _violation(first: int, kind: int, length: int, in_message: bool) -> Failure:
    """Return what is wrong with the first two bytes of a frame (RFC 6455, 5.1, 5.2, 5.4 and 5.5)."""
    opcode = first & 0x0F
    if opcode not in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG):
        return Failure(1002, f"unknown opcode {opcode}")
    if not kind and not first & 0x70:
        return Failure(1002, "control frame in fragments")
    if not kind:
        return Failure(1002, "reserved bits are set that no extension has defined")
    if length < 0:
        return Failure(1002, "frame without a mask")
    if kind == _CONTROL:
        return Failure(1002, "control frame of more than 125 bytes")
    return Failure(1002, "new message inside a message" if in_message else "continuation without a message")


class MessageDecoder:
    """Decodes what a client sends after the upgrade. Implements :class:`zcli_core.websocket.parts.delivery.Decoder`.

    Feed it bytes as they come, and call :meth:`next` until it returns None.
    """

    __slots__ = (
        "_agreement", "_data", "_deflated_frames", "_done", "_inflater", "_kinds", "_limits", "_max_size", "_message",
        "_not_utf8", "_pos", "_rest", "_steps", "unfinished",
    )  # fmt: skip

    def __init__(self, limits: Limits, agreement: Agreement | None = None) -> None:
        self._limits = limits
        self._max_size = limits.max_size
        self._agreement = agreement
        self._kinds = _PLAIN_KINDS if agreement is None else _DEFLATE_KINDS
        self._deflated_frames = frozenset() if agreement is None else _DEFLATED_FRAMES
        self._data = b""
        self._pos = 0
        #: The message that has begun and not ended.
        self._message: PartialMessage | None = None
        #: Made for the first compressed message. It keeps the client's window between messages, if the client does.
        self._inflater: zlib._Decompress | None = None
        #: Whether a text that was fed is not UTF-8; :meth:`next` then returns the failure.
        self._not_utf8 = False
        self._done = False
        #: Steps since other connections had their turn; see :data:`_STEPS_IN_A_ROW`.
        self._steps = 0
        #: The result of :meth:`rest` after a failure.
        self._rest: tuple[int, bytes] | None = None
        #: Whether :meth:`next` has returned None although it can go on: other connections get their turn first.
        self.unfinished = False

    def feed(self, data: bytes | memoryview) -> None:
        """Take bytes from the network. A view is not kept, so its buffer can be used again after the call."""
        if self._done:
            return
        if self._pos < len(self._data):
            data = self._data[self._pos :] + data
        elif self._message is not None or len(data) > _LARGE:
            data = self._feed_message(data)
        self._data = bytes(data)
        self._pos = 0

    def _feed_message(self, data: bytes | memoryview) -> bytes | memoryview:
        """Take the bytes of the current frame without an extra copy; return the others."""
        if self._message is None:
            data = self._feed_large(data)
        message = self._message
        if message is not None and message.missing and not message.waiting and not message.more:
            piece, data = data[: message.missing], data[message.missing :]
            try:
                message.take(piece)
            except UnicodeDecodeError:
                self._not_utf8 = True
        return data

    def _feed_large(self, data: bytes | memoryview) -> bytes | memoryview:
        """Take the header of a large message in one frame; return the other bytes."""
        first, second = data[0], data[1]
        if second < 0xFE or not first & FIN or self._kinds[first] != _MESSAGE:
            return data
        size = 8 if second == 0xFE else 14
        length = int.from_bytes(data[2 : size - 4], "big")
        if not _LARGE < length <= self._max_size or (size == 14 and length < 65536):
            return data
        self._message = PartialMessage(first, self._max_size)
        self._message.begin_frame(first, length, bytes(data[size - 4 : size]))
        return data[size:]

    @property
    def waiting(self) -> int:
        """Bytes that were fed and not decoded."""
        return len(self._data) - self._pos

    def next(self) -> Event | None:
        """Return the next event, or None if that takes more bytes or, if :attr:`unfinished`, another turn."""
        data = self._data
        pos = self._pos
        available = len(data) - pos
        if available < 6 or self._message is not None:
            return self._next_unusual() if available > 1 or self._message is not None else None
        first = data[pos]
        length = data[pos + 1] - 0x80
        if length < 0 or (first != _TEXT_FRAME and first != _BINARY_FRAME and first not in self._deflated_frames):
            return self._next_unusual()
        start = pos + 6
        if length > 125:
            start = pos + 8
            if length == 127 or (length := data[pos + 2] << 8 | data[pos + 3]) < 126:
                return self._next_unusual()
        end = start + length
        if end > pos + available or length > self._max_size:
            return self._next_unusual()
        self._pos = end
        mask = data[start - 4 : start]
        if length < _IN_PLACE:
            # This is unmask_by_integers() without a call, because nearly every message is short.
            words = (length + 3) >> 2
            number = int.from_bytes(data[start:end], "little") ^ int.from_bytes(mask * words, "little")
            payload = number.to_bytes(words << 2, "little")
            if length & 3:
                payload = payload[:length]
        else:
            payload = unmask(data[start:end], mask)
        if first == _BINARY_FRAME:
            return payload
        if first != _TEXT_FRAME:
            inflated = self._inflate_whole(first, payload)
            if type(inflated) is not bytes:
                return self._next_unusual() if inflated is None else inflated
            if first & BINARY:
                return inflated
            payload = inflated
        try:
            return payload.decode()
        except UnicodeDecodeError:
            return self._fail(NOT_UTF8)

    def rest(self) -> tuple[int, bytes]:
        """Return the missing bytes of the current frame, as a number, and the bytes that were fed and not decoded.

        After a Failure the bytes begin with the frame that failed, or with the undecoded part of it.
        """
        if self._rest is not None:
            return self._rest
        return self._message.missing if self._message is not None else 0, self._data[self._pos :]

    def finish(self) -> None:
        """Stop decoding, because data after a close frame or a failure has no meaning; release what is held."""
        self._done = True
        self._data = b""
        self._pos = 0
        self._message = self._inflater = None
        self.unfinished = False

    def _fail(self, failure: Failure) -> Failure:
        self._rest = self.rest()
        self.finish()
        return failure

    # Frames that are not whole messages -----------------------------------------------------------------------------

    def _extended_length(self, indicator: int) -> int:
        """Return the length after the indicator 126 or 127; -1 if it is malformed or, for 127, has not come."""
        start = self._pos + 2
        if indicator == 126:
            length = int.from_bytes(self._data[start : start + 2], "big")
            return length if length > 125 else -1
        length = int.from_bytes(self._data[start : start + 8], "big")
        return length if 65535 < length < 1 << 63 and self.waiting >= 10 else -1

    def _next_unusual(self) -> Event | None:
        """Return the next event if the fast path does not apply, or does not apply yet."""
        if self._done:
            return None
        if self._not_utf8:
            return self._fail(NOT_UTF8)
        if self.unfinished:
            self.unfinished = False
            self._steps = 0
        try:
            return self._next_frames()
        except UnicodeDecodeError:
            return self._fail(NOT_UTF8)

    def _next_frames(self) -> Event | None:
        kinds, data, message = self._kinds, self._data, self._message
        available = len(data)
        while True:
            if message is not None:
                if message.missing and self._pos < available and not message.waiting and not message.more:
                    source = memoryview(data) if message.missing > _LARGE else data
                    piece = source[self._pos : self._pos + message.missing]
                    self._pos += len(piece)
                    message.take(piece)
                if message.waiting or message.more:
                    failure = self._inflate(message)
                    if failure is not None:
                        return self._fail(failure)
                    if message.waiting or message.more:
                        self.unfinished = True
                        return None
                if message.missing:
                    if self._pos < available:
                        continue
                    return None
                if self._steps >= _STEPS_IN_A_ROW:
                    self.unfinished = True
                    return None
                if message.final:
                    return self._end_message(message)
            # The header of the next frame.
            pos = self._pos
            if available - pos < 2:
                return None
            first = data[pos]
            length = data[pos + 1] - 0x80
            kind = kinds[first]
            if kind == _CONTROL and 0 <= length < 126:
                return self._control(first, length)
            if length < 0 or (kind != _CONTINUATION if message is not None else kind != _MESSAGE):
                return self._fail(_violation(first, kind, length, message is not None))
            start = pos + 6
            if length > 125:
                start = pos + (8 if length == 126 else 14)
                if available < start - 4:
                    return None
                length = self._extended_length(length)
                if length < 0:
                    return self._fail(Failure(1002, "length of a frame is not in its shortest form"))
            failure = self._check_size(message, first, length)
            if failure is not None:
                return self._fail(failure)
            if available < start:
                return None
            if message is None:
                message = self._message = PartialMessage(first, self._max_size)
            self._pos = start
            self._steps += 1
            message.begin_frame(first, length, data[start - 4 : start])

    def _check_size(self, message: PartialMessage | None, first: int, length: int) -> Failure | None:
        """Check the limits for a frame on its header; return the failure if it is over one."""
        limit = self._max_size
        if message is None:
            compressed, before = bool(first & RSV1), 0
        else:
            if not length and message.empty >= self._limits.max_fragments:
                return too_many_fragments(self._limits.max_fragments)
            compressed = message.compressed
            before = message.compressed_size if compressed else limit - message.room
        # Deflate makes incompressible data a little larger. The decompressed size is checked while it grows.
        slack = (limit >> 10) + 64 if compressed else 0
        return too_big(before + length, limit) if before + length > limit + slack else None

    def _end_message(self, message: PartialMessage) -> Event:
        self._message = None
        if message.compressed and self._inflater is not None:
            assert self._agreement is not None
            if self._agreement.client_forgets or self._inflater.eof:
                self._inflater = None
        data = message.data
        return data.decode() if message.text else bytes(data)

    def _control(self, first: int, length: int) -> Event | None:
        """Decode a control frame, which may come between the fragments of a message (RFC 6455, 5.5)."""
        start = self._pos + 6
        if start + length > len(self._data):
            return None
        payload = unmask(self._data[start : start + length], self._data[start - 4 : start])
        self._pos = start + length
        if first == FIN | PING:
            return Ping(payload)
        if first == FIN | PONG:
            return Pong(payload)
        self.finish()
        return read_close(payload)

    # Decompression ----------------------------------------------------------------------------------------------------

    def _new_inflater(self) -> zlib._Decompress:
        assert self._agreement is not None
        self._inflater = zlib.decompressobj(-self._agreement.client_bits)
        return self._inflater

    def _inflate_whole(self, first: int, payload: bytes) -> bytes | Failure | None:
        """Decompress a message that came in one frame; return None if :meth:`_next_frames` must go on with it."""
        if not payload:
            return payload
        inflater = self._inflater or self._new_inflater()
        limit = min(self._max_size + 1, _OUTPUT_STEP)
        try:
            plain = inflater.decompress(payload + TAIL, limit)
        except zlib.error:
            return self._fail(_CORRUPT)
        if len(plain) < limit and not inflater.eof:
            if self._agreement.client_forgets:  # type: ignore[union-attr]  # there is one
                self._inflater = None
            return plain
        # It is large, or contains a final deflate block.
        if len(plain) > self._max_size:
            # The failure that comes first in the message, however it is cut.
            invalid = first & TEXT and not begins_as_utf8(plain)
            return self._fail(NOT_UTF8 if invalid else inflates_too_big(self._max_size))
        message = self._message = PartialMessage(first, self._max_size - len(plain))
        message.final = True
        message.data = bytearray(plain)
        message.empty = 0 if plain else 1
        message.waiting = inflater.unused_data or inflater.unconsumed_tail
        message.more = not inflater.eof
        return None

    def _inflate(self, message: PartialMessage) -> Failure | None:
        """Decompress until the turn is over; the remaining bytes stay in ``message.waiting``.

        A final block ends zlib's stream, but not the message (RFC 7692, 7.2.3.4): the next block begins a new stream.
        """
        inflater = self._inflater or self._new_inflater()
        waiting, at = message.waiting, 0
        size = len(waiting)
        ends_at = size - len(TAIL) if message.final and not message.missing else -1
        while at < size or message.more:
            if inflater.eof:
                if at == ends_at:
                    at = size  # a final block was the last: the tail belongs to no block
                    break
                inflater = self._new_inflater()
            limit = min(message.room + 1, _OUTPUT_STEP)
            piece = waiting[at : at + _INPUT_STEP]
            try:
                plain = inflater.decompress(piece, limit)
            except zlib.error:
                return _CORRUPT
            if len(plain) > message.room:
                message.append(plain, False)  # raises UnicodeDecodeError if it is invalid up to the limit
                return inflates_too_big(self._max_size)
            at += len(piece) - len(inflater.unused_data) - len(inflater.unconsumed_tail)
            message.more = len(plain) == limit and not inflater.eof
            if plain:
                message.room -= len(plain)
                message.append(plain, False)
            elif inflater.eof:
                message.empty += 1
                if message.empty > self._limits.max_fragments:
                    return too_many_fragments(self._limits.max_fragments)
            self._steps += 1 + (len(plain) >> 10)
            if self._steps >= _STEPS_IN_A_ROW:
                break
        message.waiting = waiting[at:]
        return None
