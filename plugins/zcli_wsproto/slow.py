"""The slow path of the engine: fragmented, compressed and malformed frames, decoded by wsproto under guard.

Guarded means: wsproto is fed one data frame at a time, its header first, so that a limit is checked before a payload
is buffered; it never sees a well-formed control frame (a ping between compressed fragments corrupts its state);
and after its first error it is fed nothing more (it would buffer for ever).
"""

from __future__ import annotations

import enum
import io
from typing import TYPE_CHECKING

from wsproto.connection import SERVER, Connection
from wsproto.events import BytesMessage, CloseConnection, TextMessage
from wsproto.extensions import Extension

from zcli_core.contracts.websocket_parts.events import NOT_UTF8, Event, Failure, too_big, too_many_fragments
from zcli_wsproto.deflate import Inflater

if TYPE_CHECKING:
    from zcli_core.contracts.websocket import Limits
    from zcli_wsproto.deflate import Agreement


class _Part(enum.Enum):
    """The part of a frame that comes next."""

    START = 2
    LENGTH = 8
    MASK = 4
    PAYLOAD = 0


class SlowPath:
    """Decodes frames that are handed over in pieces of at most :attr:`needed` bytes."""

    __slots__ = (
        "_compressed", "_first", "_fragments", "_length", "_limits", "_part", "_parts", "_size", "_wsproto",
        "in_message", "needed",
    )  # fmt: skip

    def __init__(self, limits: Limits, agreement: Agreement | None) -> None:
        extensions: list[Extension] = [Inflater(agreement, limits.max_size)] if agreement else []
        self._wsproto = Connection(SERVER, extensions)
        self._limits = limits
        #: Whether a message has begun and not ended.
        self.in_message = False
        #: How many bytes :meth:`step` takes next. A payload may come in pieces, anything else must come whole.
        self.needed = 2
        self._part = _Part.START
        self._first = self._length = 0
        self._compressed = False
        self._fragments = self._size = 0
        self._parts: io.StringIO | bytearray | None = None

    @property
    def in_frame(self) -> bool:
        """Whether a frame has begun and not ended."""
        return self._part is not _Part.START

    @property
    def takes_pieces(self) -> bool:
        """Whether fewer bytes than :attr:`needed` will do."""
        return self._part is _Part.PAYLOAD

    @property
    def missing(self) -> int:
        """Bytes of the current frame that have not come, as far as its header is known."""
        if self._part is _Part.PAYLOAD:
            return self.needed
        return self.needed + self._length if self._part is _Part.MASK else 0

    def step(self, piece: bytes) -> Event | None:
        """Take what comes next: the message that it completes, the failure that it is, or None."""
        if self._part is _Part.PAYLOAD:
            self.needed -= len(piece)
            if not self.needed:
                self._expect(_Part.START)
            return self._feed(piece)
        if self._part is _Part.MASK:
            self._expect(_Part.PAYLOAD if self._length else _Part.START, self._length or 2)
            failure = self._count_frame()
            if failure is not None:
                return failure
            return self._feed(piece)
        if self._part is _Part.START:
            self._first, self._length = piece[0], piece[1] & 0x7F
            extended = {126: 2, 127: 8}.get(self._length)
            self._expect(_Part.LENGTH, extended) if extended else self._expect(_Part.MASK)
        else:
            self._length = int.from_bytes(piece, "big")
            self._expect(_Part.MASK)
        return self._feed(piece)

    def _expect(self, part: _Part, needed: int | None = None) -> None:
        self._part = part
        self.needed = part.value if needed is None else needed

    def _count_frame(self) -> Failure | None:
        """Check the limits for a frame that wsproto has found well formed so far."""
        limits = self._limits
        if not self.in_message:
            self._compressed = bool(self._first & 0x40)
            self._fragments = self._size = 0
            self.in_message = True
        self._fragments += 1
        self._size += self._length
        if self._fragments > limits.max_fragments:
            return too_many_fragments(limits.max_fragments)
        # Deflate makes incompressible data a little larger; what comes out of it is counted by the Inflater.
        slack = (limits.max_size >> 10) + 64 if self._compressed else 0
        return too_big(self._size, limits.max_size) if self._size > limits.max_size + slack else None

    def _feed(self, piece: bytes) -> Event | None:
        self._wsproto.receive_data(piece)
        for event in self._wsproto.events():
            if isinstance(event, CloseConnection):
                return self._failure(int(event.code), event.reason)
            if isinstance(event, TextMessage):
                if self._parts is None:
                    self._parts = io.StringIO()
                self._parts.write(event.data)  # type: ignore[union-attr]  # wsproto keeps a message to one kind
            elif isinstance(event, BytesMessage):
                if self._parts is None:
                    self._parts = bytearray()
                self._parts += event.data  # type: ignore[operator]
            if event.message_finished:  # type: ignore[attr-defined]
                return self._finish_message()
        return None

    def _finish_message(self) -> str | bytes:
        parts, self._parts = self._parts, None
        self.in_message = False
        return parts.getvalue() if isinstance(parts, io.StringIO) else bytes(parts or b"")

    def _failure(self, code: int, reason: str | None) -> Failure:
        if code == 1009:
            limit = self._limits.max_size
            return Failure(code, f"message inflates beyond the limit of {limit} bytes (websocket.max_size)")
        if code == 1007:
            return Failure(code, "compressed data is corrupt") if reason == "error in extension" else NOT_UTF8
        return Failure(code, reason or "protocol error")
