"""The sans-IO decoder: it finds where frames begin and end, keeps protocol and limits, and has picows read them.

Every header is judged here, before a byte of its payload is kept; picows is given nothing that it would refuse.
Whole messages, which are nearly all traffic, go to it in runs. A frame of which only a part has come is taken piece
by piece, so that a limit or text that is not UTF-8 fails at once (RFC 6455, 8.1).
"""

from __future__ import annotations

import codecs
from collections import deque
from typing import TYPE_CHECKING

from zcli_core.contracts.websocket_parts.events import (
    NOT_UTF8,
    Close,
    Event,
    Failure,
    Ping,
    Pong,
    read_close,
    too_big,
    too_many_fragments,
)
from zcli_core.contracts.websocket_parts.frames import BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, TEXT
from zcli_picows.parser import MAX_FED

if TYPE_CHECKING:
    from zcli_core.contracts.websocket import Limits
    from zcli_picows.parser import Parser

_TEXT_MESSAGE, _BINARY_MESSAGE = FIN | TEXT, FIN | BINARY
_OPCODES = frozenset({CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG})

#: Whole messages that are decoded ahead of their delivery.
_MESSAGES_AHEAD = 128
#: A part of a payload that is unmasked at once: what the parser takes, without a header, and whole masks.
_PIECE = MAX_FED - 16

_new_validator = codecs.getincrementaldecoder("utf-8")


class Decoder:
    """Implements :class:`zcli_core.contracts.websocket_parts.connection.Decoder`."""

    __slots__ = (
        "_data", "_done", "_fin", "_fragments", "_limits", "_mask", "_max_size", "_message", "_missing", "_opcode",
        "_parser", "_pos", "_ready", "_size", "_stuck", "_validator",
    )  # fmt: skip

    unfinished = False

    def rest(self) -> tuple[int, bytes]:
        """Not known here."""
        return 0, b""

    def __init__(self, limits: Limits, parser: Parser) -> None:
        self._limits = limits
        self._max_size = limits.max_size
        self._parser = parser
        #: What was fed; up to ``_pos`` it has been decoded.
        self._data: bytes | memoryview = b""
        self._pos = 0
        #: Whether what is left takes more bytes.
        self._stuck = True
        self._ready: deque[Event] = deque()
        self._done = False
        # The message that has begun and not ended: its opcode, or None if there is none.
        self._opcode: int | None = None
        self._message = bytearray()
        self._fragments = self._size = 0
        self._validator: codecs.IncrementalDecoder | None = None
        # The frame of it of which more has to come.
        self._missing = 0
        self._fin = False
        self._mask = b""

    def only(self, data: bytes | memoryview) -> str | bytes | Failure | None:
        """The event of a read that is one short message and nothing else, as most are.

        None if it is anything else; then it has to be fed.
        """
        size = len(data)
        if not 6 <= size <= self._max_size + 6 or self._opcode is not None or self._data or self._done or self._ready:
            return None
        first, second = data[0], data[1]
        if second - 0x7A != size or second > 0xFD or (first != _TEXT_MESSAGE and first != _BINARY_MESSAGE):
            return None
        return self._parser.message(data, first == _TEXT_MESSAGE)

    def feed(self, data: bytes | memoryview) -> None:
        """Take bytes from the network, and decode the first messages."""
        if self._done:
            return
        if self._data:
            data = bytes(self._data[self._pos :]) + data
        elif self._opcode is None and self._take_whole(data):
            return
        self._data = data
        self._pos = 0
        self._decode()
        self._keep_rest()

    def next(self) -> Event | None:
        """The next event, or None if that takes more bytes."""
        ready = self._ready
        while not ready:
            if self._stuck:
                return None
            self._decode()
            if self._stuck:
                self._keep_rest()
        return ready.popleft()

    def _keep_rest(self) -> None:
        """Let go of what has been decoded, and of the buffer that it came in."""
        self._data = bytes(self._data[self._pos :])
        self._pos = 0

    def finish(self) -> None:
        """Decode no more."""
        self._end()
        self._ready.clear()

    def _end(self) -> None:
        self._done = self._stuck = True
        self._data = b""
        self._pos = 0
        self._opcode = self._validator = None
        self._message = bytearray()

    # Whole messages -----------------------------------------------------------------------------------------------

    def _decode(self) -> None:
        """Decode until enough is ready or it takes more bytes."""
        data = self._data
        size = len(data)
        enough = len(self._ready) + _MESSAGES_AHEAD
        self._stuck = False
        while len(self._ready) < enough and not self._stuck:
            pos = self._pos
            if self._missing:
                self._take_payload()
            elif size - pos < 2:
                self._stuck = True
            elif self._opcode is not None or (data[pos] != _TEXT_MESSAGE and data[pos] != _BINARY_MESSAGE):
                self._start_frame()
            else:
                end, count = self._find_run(data, pos, enough - len(self._ready))
                if count:
                    self._pos = end
                    self._take_run(data[pos:end], count)
                else:
                    self._start_frame()
            if self._pos == size:
                self._stuck = True

    def _take_whole(self, data: bytes | memoryview) -> bool:
        """Take what is nothing but whole messages of one kind, the usual burst; False if it is anything else."""
        size = len(data)
        if size < 6 or (data[0] != _TEXT_MESSAGE and data[0] != _BINARY_MESSAGE):
            return False
        end, count = self._find_run(data, 0, _MESSAGES_AHEAD)
        if end != size:
            return False
        self._take_run(data, count)
        return True

    def _take_run(self, run: bytes | memoryview, count: int) -> None:
        self._ready.extend(self._parser.messages(run, count, run[0] == _TEXT_MESSAGE))
        if type(self._ready[-1]) is Failure:
            self._end()

    def _find_run(self, data: bytes | memoryview, start: int, at_most: int) -> tuple[int, int]:
        """Whole messages of one kind, one behind the other: where they end, and how many they are."""
        first = data[start]
        last = min(len(data), start + MAX_FED)
        end = start
        count = 0
        while end + 6 <= last and count < at_most and data[end] == first:
            length = data[end + 1] - 0x80
            header = 6
            if length > 125:
                header = 8 if length == 126 else 14
                length = int.from_bytes(data[end + 2 : end + header - 4], "big")
                if length < (126 if header == 8 else 65536):
                    break
            if length < 0 or length > self._max_size or end + header + length > last:
                break
            end += header + length
            count += 1
        return end, count

    # Frame by frame -----------------------------------------------------------------------------------------------

    def _start_frame(self) -> None:
        """Judge the header of a frame that is no whole message, or not yet, and take it up."""
        data, pos = self._data, self._pos
        header = _read_header(data, pos)
        if header is None:
            self._stuck = True
            return
        if isinstance(header, Failure):
            self._fail(header)
            return
        size, length = header
        first = data[pos]
        opcode = first & 0x0F
        begin = pos + size
        failure = self._judge(opcode, first & FIN != 0, length) if opcode < CLOSE else None
        if failure is not None:
            self._fail(failure)
        elif len(data) < (begin if opcode < CLOSE else begin + length):
            self._stuck = True
        elif opcode >= CLOSE:
            self._pos = begin + length
            self._take_control(opcode, self._parser.unmask(data[begin : self._pos], bytes(data[begin - 4 : begin])))
        else:
            self._pos = begin
            self._mask = bytes(data[begin - 4 : begin])
            self._begin_payload(opcode, first & FIN != 0, length)

    def _judge(self, opcode: int, fin: bool, length: int) -> Failure | None:
        """Whether a data frame may come here, within the limits."""
        limits = self._limits
        if self._fragments >= limits.max_fragments and not (fin and self._opcode is None):
            return too_many_fragments(limits.max_fragments)
        if self._size + length > limits.max_size:
            return too_big(self._size + length, limits.max_size)
        if opcode == CONTINUATION and self._opcode is None:
            return Failure(1002, "a continuation of no message")
        if opcode != CONTINUATION and self._opcode is not None:
            return Failure(1002, "a new message inside another")
        return None

    def _take_control(self, opcode: int, payload: bytes) -> None:
        """A control frame, which may stand between the fragments of a message (RFC 6455, 5.5)."""
        if opcode == PING:
            self._ready.append(Ping(payload))
        elif opcode == PONG:
            self._ready.append(Pong(payload))
        else:
            self._fail(read_close(payload))

    def _begin_payload(self, opcode: int, fin: bool, length: int) -> None:
        if self._opcode is None:
            self._opcode = opcode
            self._fragments = self._size = 0
            self._validator = _new_validator() if opcode == TEXT else None
        self._fragments += 1
        self._size += length
        self._fin = fin
        self._missing = length
        if not length:
            self._add(b"")

    def _take_payload(self) -> None:
        """Unmask what has come of a payload."""
        piece = self._data[self._pos : self._pos + min(self._missing, _PIECE)]
        length = len(piece)
        if not length:
            self._stuck = True
            return
        plain = self._parser.unmask(piece, self._mask)
        turn = length & 3
        self._mask = self._mask[turn:] + self._mask[:turn]
        self._pos += length
        self._missing -= length
        self._add(plain)

    def _add(self, plain: bytes) -> None:
        """Add to the message what has been unmasked; deliver it, if that was the last."""
        last = self._fin and not self._missing
        if self._validator is not None:
            try:
                self._validator.decode(plain, last)
            except UnicodeDecodeError:
                self._fail(NOT_UTF8)
                return
        if not last:
            self._message += plain
            return
        if self._message:
            self._message += plain
            plain = bytes(self._message)
            self._message = bytearray()
        self._ready.append(plain.decode() if self._opcode == TEXT else plain)
        self._opcode = self._validator = None
        self._fragments = self._size = 0

    def _fail(self, end: Failure | Close) -> None:
        self._ready.append(end)
        self._end()


def _read_header(data: bytes | memoryview, pos: int) -> tuple[int, int] | Failure | None:
    """The size of a frame's header and the length of its payload; None if that has not come (RFC 6455, 5.2)."""
    first, second = data[pos], data[pos + 1]
    opcode = first & 0x0F
    if opcode not in _OPCODES:
        return Failure(1002, f"a frame with the opcode {opcode}")
    if first & 0x70:
        return Failure(1002, "a frame with a reserved bit")
    if not second & 0x80:
        return Failure(1002, "a frame without a mask")
    length = second & 0x7F
    if opcode >= CLOSE and not (first & FIN and length < 126):
        return Failure(1002, "a control frame in fragments or over 125 bytes")
    if length < 126:
        return 6, length
    size, smallest = (8, 126) if length == 126 else (14, 65536)
    if len(data) < pos + size - 4:
        return None
    length = int.from_bytes(data[pos + 2 : pos + size - 4], "big")
    if length < smallest or length >> 63:
        return Failure(1002, "a frame whose length is not in its shortest form")
    return size, length
