"""permessage-deflate (RFC 7692): the negotiation with a client, and the compression of messages."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zcli_core.websocket.parts.frames import RSV1, frame

if TYPE_CHECKING:
    from zcli_core.websocket.contract import Compression

NAME = "permessage-deflate"

_NAME = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_PARAMETER = re.compile(rf'\s*({_NAME})\s*(?:=\s*(?:({_NAME})|"({_NAME})")\s*)?')


@dataclass(frozen=True, slots=True)
class Agreement:
    """The parameters that were agreed on with one client.

    The server never keeps its window between messages. So one compressed frame serves a whole broadcast, and a
    connection holds no compressor. It sends ``server_no_context_takeover`` only to a client that offers it: any other
    client must support a kept window anyway, and some clients reject parameters that they have not offered.
    """

    #: The window that the server compresses with, as a power of two.
    server_bits: int
    #: The window that the server decompresses with: at least the one that the client compresses with.
    client_bits: int
    #: Whether the client starts each message with an empty window.
    client_forgets: bool
    #: The value of the response's Sec-WebSocket-Extensions header.
    header: str


def negotiate(values: list[str], offer: Compression) -> Agreement | None:
    """Accept the first of the client's offers that the server supports; None if there is none (RFC 7692, 5 and 7.1)."""
    for text in ",".join(values).split(","):
        parameters = _parse(text)
        agreement = None if parameters is None else _agree(parameters, offer)
        if agreement is not None:
            return agreement
    return None


def _parse(text: str) -> dict[str, str | None] | None:
    """Return the parameters of an offer; None if it is another extension, malformed, or has a parameter twice."""
    name, *pieces = text.split(";")
    found = [match for piece in pieces if (match := _PARAMETER.fullmatch(piece))]
    parameters = {match[1]: match[2] or match[3] for match in found}
    return parameters if name.strip() == NAME and len(parameters) == len(pieces) else None


def _agree(parameters: dict[str, str | None], offer: Compression) -> Agreement | None:
    server_bits = client_bits = offer.window_bits
    for name, value in parameters.items():
        if name in ("server_no_context_takeover", "client_no_context_takeover"):
            if value is not None:
                return None
        elif name == "server_max_window_bits":
            bits = _bits(value)
            if bits is None or bits < 9:
                return None  # zlib cannot compress with a window of 2**8
            server_bits = min(server_bits, bits)
        elif name == "client_max_window_bits":
            if value is not None:
                bits = _bits(value)
                if bits is None:
                    return None
                client_bits = min(client_bits, bits)
        else:
            return None  # an unknown parameter: decline (RFC 7692, 7.1)
    accepted = {
        "server_no_context_takeover": "",
        "server_max_window_bits": f"={server_bits}",
        "client_no_context_takeover": "",
        "client_max_window_bits": f"={client_bits}",
    }
    header = "; ".join([NAME, *(name + value for name, value in accepted.items() if name in parameters)])
    if "client_max_window_bits" not in parameters:
        client_bits = 15  # a client that does not offer the parameter may use the largest window
    return Agreement(server_bits, max(9, client_bits), "client_no_context_takeover" in parameters, header)


def _bits(value: str | None) -> int | None:
    """Parse a window size: 8 to 15, no leading zero (RFC 7692, 7.1.2); None for any other value."""
    return int(value) if value is not None and re.fullmatch(r"[89]|1[0-5]", value, re.ASCII) else None


class Deflater:
    """Compresses messages for every client of a listener (RFC 7692, 7.2.1).

    Each message is compressed independently: ``Z_FULL_FLUSH`` empties zlib's window. So a compressed frame can be sent
    to every client with the same window, and one compressor for each window is enough. A new compressor for each
    message would cost up to five times as much, for small messages in large windows.
    """

    def __init__(self, offer: Compression) -> None:
        self._memory_level = offer.memory_level
        self._threshold = offer.threshold
        self._compressors: dict[int, zlib._Compress] = {}

    def frame(self, first: int, payload: bytes, window_bits: int) -> bytes:
        """Encode a whole message, compressed if that makes it smaller.

        Args:
            first: The first byte of the frame if it is not compressed.
            payload: The message.
            window_bits: The client's window, as a power of two.
        """
        if len(payload) >= self._threshold:
            # A compressor that fails halfway is not used again.
            compressor = self._compressors.pop(window_bits, None) or zlib.compressobj(
                zlib.Z_DEFAULT_COMPRESSION, zlib.DEFLATED, -window_bits, self._memory_level
            )
            compressed = compressor.compress(payload) + compressor.flush(zlib.Z_FULL_FLUSH)
            self._compressors[window_bits] = compressor
            if len(compressed) - 4 < len(payload):
                return frame(first | RSV1, compressed[:-4])
        return frame(first, payload)
