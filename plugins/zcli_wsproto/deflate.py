"""permessage-deflate (RFC 7692): negotiation, capped inflation, and the extension that wsproto is given.

wsproto's own extension is not used: it inflates without a limit, lets a ping between compressed fragments
corrupt the message, and takes offers that the RFC says to decline.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wsproto.extensions import Extension
from wsproto.frame_protocol import CloseReason, Opcode, RsvBits

if TYPE_CHECKING:
    from wsproto.frame_protocol import FrameDecoder, FrameProtocol

    from zcli_core.contracts.websocket import Compression

NAME = "permessage-deflate"
_TAIL = b"\x00\x00\xff\xff"

_NAME = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_PARAMETER = re.compile(rf'\s*({_NAME})\s*(?:=\s*(?:({_NAME})|"({_NAME})")\s*)?')


@dataclass(frozen=True, slots=True)
class Agreement:
    """What was agreed with one client.

    We never keep a window over messages when we send, so that one compressed frame serves a whole broadcast and a
    connection holds no compressor; ``server_no_context_takeover`` is therefore always part of it.
    """

    #: The window that we compress with.
    server_bits: int
    #: The window that the client compresses with.
    client_bits: int
    #: Whether the client starts each message with an empty window.
    client_forgets: bool
    #: The value of our Sec-WebSocket-Extensions header.
    header: str


def negotiate(values: list[str], offer: Compression) -> Agreement | None:
    """Choose the first of the client's offers that we can serve; None if there is none (RFC 7692, 5 and 7.1)."""
    for name, parameters in _parse(values):
        if name == NAME and parameters is not None:
            agreement = _agree(parameters, offer)
            if agreement is not None:
                return agreement
    return None


def _parse(values: list[str]) -> list[tuple[str, list[tuple[str, str | None]] | None]]:
    """Every offer as its name and parameters; the parameters are None if they are malformed."""
    offers: list[tuple[str, list[tuple[str, str | None]] | None]] = []
    for offer in ",".join(values).split(","):
        pieces = offer.split(";")
        parameters: list[tuple[str, str | None]] | None = []
        for piece in pieces[1:]:
            match = _PARAMETER.fullmatch(piece)
            if match is None or parameters is None:
                parameters = None
                break
            parameters.append((match[1], match[2] or match[3]))
        offers.append((pieces[0].strip(), parameters))
    return offers


def _agree(parameters: list[tuple[str, str | None]], offer: Compression) -> Agreement | None:
    given = dict(parameters)
    if len(given) != len(parameters):
        return None  # a parameter twice: decline (RFC 7692, 7.1)
    server_bits = client_bits = offer.window_bits
    client_may_be_told = False
    for name, value in parameters:
        if name in ("server_no_context_takeover", "client_no_context_takeover"):
            if value is not None:
                return None
        elif name == "server_max_window_bits":
            bits = _bits(value)
            if bits is None or bits < 9:
                return None  # zlib cannot make a raw stream with a window of 2**8
            server_bits = min(server_bits, bits)
        elif name == "client_max_window_bits":
            client_may_be_told = True
            if value is not None:
                bits = _bits(value)
                if bits is None:
                    return None
                client_bits = max(9, min(client_bits, bits))
        else:
            return None  # an unknown parameter: decline (RFC 7692, 7.1)
    answer = [NAME, "server_no_context_takeover"]
    if server_bits < 15 or "server_max_window_bits" in given:
        answer.append(f"server_max_window_bits={server_bits}")
    if "client_no_context_takeover" in given:
        answer.append("client_no_context_takeover")
    if client_may_be_told:
        answer.append(f"client_max_window_bits={client_bits}")
    else:
        client_bits = 15  # a client that does not offer it may use the largest window and may not be told otherwise
    return Agreement(server_bits, client_bits, "client_no_context_takeover" in given, "; ".join(answer))


def _bits(value: str | None) -> int | None:
    """A window size as RFC 7692, 7.1.2 writes it: 8 to 15, no leading zero."""
    return int(value) if value is not None and re.fullmatch(r"[89]|1[0-5]", value, re.ASCII) else None


def deflate(payload: bytes, window_bits: int, memory_level: int) -> bytes:
    """One message, compressed on its own (RFC 7692, 7.2.1)."""
    compressor = zlib.compressobj(zlib.Z_DEFAULT_COMPRESSION, zlib.DEFLATED, -window_bits, memory_level)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


class Inflater(Extension):
    """The receiving half, in the shape that wsproto asks for.

    State is kept per message and touched by data frames only. Inflation stops one byte above ``max_size``: the
    message is then known to be too big, whatever it would have become.
    """

    name = NAME

    def __init__(self, agreement: Agreement, max_size: int) -> None:
        self._agreement = agreement
        self._max_size = max_size
        self._decompressor: zlib._Decompress | None = None
        self._compressed = False
        self._data_frame = False
        self._room = max_size

    def enabled(self) -> bool:
        """Whether it was agreed on: always, or there would be no instance."""
        return True

    def offer(self) -> bool | str:
        """Only for clients."""
        return False

    def frame_inbound_header(
        self, proto: FrameDecoder | FrameProtocol, opcode: Opcode, rsv: RsvBits, payload_length: int
    ) -> CloseReason | RsvBits:
        """Take note of a frame; RSV1 is for the first frame of a message only (RFC 7692, 6)."""
        self._data_frame = not opcode.iscontrol()
        if opcode in (Opcode.TEXT, Opcode.BINARY):
            self._compressed = rsv.rsv1
            self._room = self._max_size
        elif rsv.rsv1:
            return CloseReason.PROTOCOL_ERROR
        return RsvBits(True, False, False)

    def frame_inbound_payload_data(self, proto: FrameDecoder | FrameProtocol, data: bytes) -> bytes | CloseReason:
        """Inflate what came of a frame."""
        if not self._compressed or not self._data_frame:
            return data
        return self._inflate(data)

    def frame_inbound_complete(self, proto: FrameDecoder | FrameProtocol, fin: bool) -> bytes | CloseReason | None:
        """Finish a message."""
        if not fin or not self._compressed or not self._data_frame:
            return None
        self._compressed = False
        ended = self._decompressor is not None and self._decompressor.eof
        last = b"" if ended else self._inflate(_TAIL)
        if self._agreement.client_forgets:
            self._decompressor = None
        return last

    def _inflate(self, data: bytes) -> bytes | CloseReason:
        plain = b""
        while True:
            if self._decompressor is None or self._decompressor.eof:
                # Also after a final block, which may stand inside a message (RFC 7692, 7.2.3.4).
                self._decompressor = zlib.decompressobj(-self._agreement.client_bits)
            try:
                piece = self._decompressor.decompress(data, self._room + 1)
            except zlib.error:
                return CloseReason.INVALID_FRAME_PAYLOAD_DATA
            if len(piece) > self._room:
                return CloseReason.MESSAGE_TOO_BIG
            self._room -= len(piece)
            plain = plain + piece if plain else piece
            data = self._decompressor.unused_data
            if not data:
                return plain
