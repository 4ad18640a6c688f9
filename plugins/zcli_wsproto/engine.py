"""The decoder: bytes in, messages and control frames out, in order. It does no input or output.

A message that comes whole, in one frame, is decoded in a few operations, compressed or not. Everything else (fragments,
frames of which only a part has come, control frames, errors) is decoded frame by frame with a :class:`_Message` that
holds what has come of the message so far.

Every limit is checked before memory is used: a frame's size on its header, the size of a compressed message while it is
decompressed.
"""

from __future__ import annotations

import zlib
from codecs import utf_8_decode
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

if TYPE_CHECKING:
    from zcli_core.websocket.contract import Limits
    from zcli_wsproto.deflate import Agreement

_TEXT_FRAME, _BINARY_FRAME = FIN | TEXT, FIN | BINARY
_DEFLATED_FRAMES = frozenset({FIN | RSV1 | TEXT, FIN | RSV1 | BINARY})

#: What a frame's first byte begins; 0 if it is not allowed.
_MESSAGE, _CONTINUATION, _CONTROL = 1, 2, 3

#: Frames above this many bytes are taken out of the read buffer directly: up to it, one more copy costs less.
_LARGE = 32 * 1024

#: Payloads below this size are unmasked without a call where that is faster.
_IN_PLACE = 126 if unmask is unmask_in_python else 0

#: What calls of :meth:`Decoder.next` do before they let other connections work: frames of messages in fragments, and
#: steps of decompression, where each KiB of output is a step.
_STEPS_IN_A_ROW = 256

#: Compressed bytes that zlib gets at once (it copies those that it does not use), and bytes that it gives at once.
_INPUT_STEP = 8 * 1024
_OUTPUT_STEP = 256 * 1024

#: The end of a compressed message, which is not sent (RFC 7692, 7.2.2).
_TAIL = b"\x00\x00\xff\xff"

_CORRUPT = Failure(1007, "compressed data is corrupt")


def _first_bytes(deflate: bool) -> bytes:
    """What each first byte begins, with and without permessage-deflate (RFC 6455, 5.2; RFC 7692, 6)."""
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


def _breach(first: int, kind: int, length: int, in_message: bool) -> Failure:
    """What is wrong with the first two bytes of a frame (RFC 6455, 5.1, 5.2, 5.4 and 5.5)."""
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


class _Message:
    """A message that has begun and not ended, and the frame of it that is being read."""

    __slots__ = (
        "compressed", "compressed_size", "data", "empty", "final", "mask", "missing", "more", "raw", "room", "text",
        "valid", "waiting",
    )  # fmt: skip

    def __init__(self, first: int, room: int) -> None:
        self.text = bool(first & TEXT)
        self.compressed = bool(first & RSV1)
        #: Whether nothing has to be done with a piece until all have come: :attr:`data` is then masked meanwhile.
        self.raw = first == _BINARY_FRAME
        #: The payload so far, decompressed. Bytes if it came in one piece.
        self.data: bytearray | bytes = bytearray()
        #: Bytes by which :attr:`data` may still grow.
        self.room = room
        #: Bytes of :attr:`data` that are whole UTF-8 characters.
        self.valid = 0
        #: Fragments without payload, and final deflate blocks without output.
        self.empty = 0
        #: Compressed bytes so far, and those that wait to be decompressed.
        self.compressed_size = 0
        self.waiting = b""
        #: Whether zlib may hold output although no compressed bytes wait.
        self.more = False
        #: The current frame: whether it is the last, how many bytes are still to come, and the mask for the next ones.
        self.final = False
        self.missing = 0
        self.mask = b""

    def begin_frame(self, first: int, length: int, mask: bytes) -> None:
        """Take the header of a frame."""
        self.final = first >= FIN
        self.missing = length
        self.mask = mask
        if not length:
            self.empty += 1
        if self.compressed:
            self.compressed_size += length
            if self.final and not length and self.compressed_size:
                self.waiting = _TAIL
        else:
            self.room -= length

    def take(self, piece: bytes | memoryview) -> None:
        """Take a masked piece of the current frame. Raises UnicodeDecodeError for text that is not UTF-8."""
        length = len(piece)
        self.missing -= length
        if self.raw:
            if self.missing or self.data:
                self.data += piece
                if not self.missing:
                    self.data = unmask(self.data, self.mask)
            else:
                self.data = unmask(piece, self.mask)
            return
        plain = unmask(piece, self.mask)
        if self.missing:
            turn = length & 3
            self.mask = self.mask[turn:] + self.mask[:turn]
        if self.compressed:
            self.waiting = plain if self.missing or not self.final else plain + _TAIL
        elif self.data or self.missing or not self.final:
            self.append(plain, self.final and not self.missing)
        else:
            self.data = plain

    def append(self, plain: bytes, last: bool) -> None:
        """Add decompressed payload; text is checked as it comes, so that it fails at once (RFC 6455, 8.1)."""
        data = self.data
        assert isinstance(data, bytearray)
        if not self.text or last:
            data += plain  # the last piece of a text is checked when all of it is decoded
        elif self.valid == len(data) and plain.isascii():
            data += plain
            self.valid += len(plain)
        else:
            data += plain
            self.valid += utf_8_decode(data[self.valid :], "strict", False)[1]


class Decoder:
    """Decodes what a client sends after the upgrade.

    Feed it bytes as they come and take events until there is None. After a :class:`Close` or a :class:`Failure` it
    gives nothing more. It holds what was fed and not taken, and at most one message of up to ``max_size`` bytes.
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
        self._message: _Message | None = None
        #: Made for the first compressed message. It keeps the client's window over messages, unless the client forgets.
        self._inflater: zlib._Decompress | None = None
        #: Whether bytes that were fed are not UTF-8, which :meth:`next` says.
        self._not_utf8 = False
        self._done = False
        #: What was done since others had their turn; see :data:`_STEPS_IN_A_ROW`.
        self._steps = 0
        #: What :meth:`rest` gives after a failure.
        self._rest: tuple[int, bytes] | None = None
        #: Whether :meth:`next` has returned None although it can go on: others should get their turn first.
        self.unfinished = False

    def feed(self, data: bytes | memoryview) -> None:
        """Take bytes from the network. A view is not kept: its buffer may be used again after the call."""
        if self._done:
            return
        if self._pos < len(self._data):
            data = self._data[self._pos :] + data
        elif self._message is not None or len(data) > _LARGE:
            data = self._feed_message(data)
        self._data = bytes(data)
        self._pos = 0

    def _feed_message(self, data: bytes | memoryview) -> bytes | memoryview:
        """Take what belongs to the current frame, so that it is not copied an extra time; the rest."""
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
        """Take the header of a large whole message."""
        first, second = data[0], data[1]
        if second < 0xFE or not first & FIN or self._kinds[first] != _MESSAGE:
            return data
        size = 8 if second == 0xFE else 14
        length = int.from_bytes(data[2 : size - 4], "big")
        if not _LARGE < length <= self._max_size or (size == 14 and length < 65536):
            return data
        self._message = _Message(first, self._max_size)
        self._message.begin_frame(first, length, bytes(data[size - 4 : size]))
        return data[size:]

    @property
    def waiting(self) -> int:
        """Bytes that were fed and not taken yet."""
        return len(self._data) - self._pos

    def next(self) -> Event | None:
        """The next event, or None if it takes more bytes or, if :attr:`unfinished`, another call."""
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
        """How many bytes of the current frame have not come, and the bytes that were fed and not taken.

        After a Failure they begin with the frame that failed, or with what was not taken of it.
        """
        if self._rest is not None:
            return self._rest
        return self._message.missing if self._message is not None else 0, self._data[self._pos :]

    def finish(self) -> None:
        """Decode no more: what follows a close frame or a failure means nothing."""
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
        """The length that follows the indicator 126 or 127; -1 if it is not well formed or, for 127, has not come."""
        start = self._pos + 2
        if indicator == 126:
            length = int.from_bytes(self._data[start : start + 2], "big")
            return length if length > 125 else -1
        length = int.from_bytes(self._data[start : start + 8], "big")
        return length if 65535 < length < 1 << 63 and self.waiting >= 10 else -1

    def _next_unusual(self) -> Event | None:
        """The next event where the fast path does not apply, or does not apply yet."""
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
                return self._fail(_breach(first, kind, length, message is not None))
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
                message = self._message = _Message(first, self._max_size)
            self._pos = start
            self._steps += 1
            message.begin_frame(first, length, data[start - 4 : start])

    def _check_size(self, message: _Message | None, first: int, length: int) -> Failure | None:
        """Check the limits for a frame on its header."""
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

    def _end_message(self, message: _Message) -> Event:
        self._message = None
        if message.compressed and self._inflater is not None:
            assert self._agreement is not None
            if self._agreement.client_forgets or self._inflater.eof:
                self._inflater = None
        data = message.data
        return data.decode() if message.text else bytes(data)

    def _control(self, first: int, length: int) -> Event | None:
        """A control frame, which may stand between the fragments of a message (RFC 6455, 5.5)."""
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
        """Decompress a message that came in one frame; None if :meth:`_next_frames` has to go on with it."""
        if not payload:
            return payload
        inflater = self._inflater or self._new_inflater()
        limit = min(self._max_size + 1, _OUTPUT_STEP)
        try:
            plain = inflater.decompress(payload + _TAIL, limit)
        except zlib.error:
            return self._fail(_CORRUPT)
        if len(plain) < limit and not inflater.eof:
            if self._agreement.client_forgets:  # type: ignore[union-attr]  # there is one
                self._inflater = None
            return plain
        # It is large, or has a final deflate block in it.
        if len(plain) > self._max_size:
            return self._fail(inflates_too_big(self._max_size))
        message = self._message = _Message(first, self._max_size - len(plain))
        message.final = True
        message.data = bytearray(plain)
        message.empty = 0 if plain else 1
        message.waiting = inflater.unused_data or inflater.unconsumed_tail
        message.more = not inflater.eof
        return None

    def _inflate(self, message: _Message) -> Failure | None:
        """Decompress what waits, for as long as a turn lasts; the rest stays in ``message.waiting``.

        A final block ends zlib's stream, but not the message (RFC 7692, 7.2.3.4): the next block begins a new stream.
        """
        inflater = self._inflater or self._new_inflater()
        waiting, at = message.waiting, 0
        size = len(waiting)
        ends_at = size - len(_TAIL) if message.final and not message.missing else -1
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
