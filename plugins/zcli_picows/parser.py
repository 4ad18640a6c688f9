"""picows as a parser: frames in, payloads out, unmasked and decoded in C.

picows means its protocol object to own a connection: it answers the upgrade, closes on errors with words of its own,
keeps a buffer that never shrinks for every connection, and cannot be told to wait. None of that fits the contract, so
one object serves a whole listener and is given complete, well-formed frames only. It then keeps nothing from one call
to the next, and a connection costs no buffer. What it is given instead of a connection leads nowhere.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, cast

from picows import WSAutoPingStrategy, WSListener
from picows.picows import WSProtocol  # type: ignore[attr-defined]  # it is in no stub

from zcli_core.contracts.websocket_parts.events import NOT_UTF8, Failure
from zcli_core.contracts.websocket_parts.frames import BINARY, FIN
from zcli_core.errors import ZCLIError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from picows import WSFrame, WSTransport

#: Bytes that the parser is given at once. Its buffer is larger: it doubles it where it finds it nearly full.
MAX_FED = 256 * 1024
_BUFFER = MAX_FED * 3 // 2

#: What makes picows think that a client has been let in.
_UPGRADE = (
    b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)

#: A masked text frame, to see that this picows does as it is told.
_TRIAL = b"\x81\x85\x01\x02\x03\x04" + bytes(b ^ m for b, m in zip(b"trial", b"\x01\x02\x03\x04\x01", strict=True))

#: What picows logs, about each connection as it thinks, is about none.
_SILENT = logging.Logger("zcli.picows.silent", logging.CRITICAL + 1)


class _NoSocket:
    """The socket of nobody."""

    def fileno(self) -> int:
        return -1

    def setsockopt(self, *options: int) -> None:
        pass

    def getsockopt(self, *options: int) -> int:
        return 0


class _Nowhere:
    """A transport that leads nowhere; picows asks no more of one."""

    def get_extra_info(self, name: str) -> _NoSocket | None:
        return _NoSocket() if name == "socket" else None

    def get_write_buffer_size(self) -> int:
        return 1  # so that it never writes to the socket itself

    def write(self, data: bytes) -> None:
        pass

    def writelines(self, data: Iterable[bytes]) -> None:
        pass

    def close(self) -> None:
        pass


class _Taker(WSListener):
    """Takes the payloads out of frames while they are there."""

    def __init__(self) -> None:
        self.text = False
        self.failed = False
        self.taken: list[str | bytes | Failure] = []

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take one payload (picows)."""
        if self.text:
            try:
                self.taken.append(frame.get_payload_as_utf8_text())
            except UnicodeDecodeError:
                self.failed = True
                self.taken.append(NOT_UTF8)
        else:
            self.taken.append(frame.get_payload_as_bytes())


def _misfit() -> ZCLIError:
    from importlib.metadata import version

    return ZCLIError(
        f"the WebSocket transport picows needs picows 2.3, and {version('picows')} does not do as it should: "
        "pip install 'picows>=2.3,<2.4', or choose another with websocket.transport"
    )


class Parser:
    """Gives the payloads of complete, well-formed, masked frames. Every call stands for itself."""

    def __init__(self) -> None:
        self._taker = _Taker()
        try:
            self._start()
            fits = self.message(_TRIAL, text=True) == "trial"
        except Exception as error:
            raise _misfit() from error
        if not fits:
            raise _misfit()

    def _start(self) -> None:
        taker = self._taker
        protocol = WSProtocol(
            host_port=None, ws_path=None, is_client_side=False, ws_listener_factory=lambda request: taker,
            logger=_SILENT, disconnect_on_exception=False, websocket_handshake_timeout=None,
            enable_auto_ping=False, auto_ping_idle_timeout=1, auto_ping_reply_timeout=1,
            auto_ping_strategy=WSAutoPingStrategy.PING_WHEN_IDLE, enable_auto_pong=False, max_frame_size=MAX_FED,
            extra_headers=None, read_buffer_init_size=_BUFFER,
        )  # fmt: skip
        protocol.connection_made(_Nowhere())
        self._get_buffer, self._buffer_updated = protocol.get_buffer, protocol.buffer_updated
        self._feed(_UPGRADE)

    def _feed(self, *pieces: bytes | memoryview) -> None:
        buffer = self._get_buffer(-1)
        end = 0
        for piece in pieces:
            start, end = end, end + len(piece)
            buffer[start:end] = piece
        self._buffer_updated(end)

    def _take(self, count: int) -> list[str | bytes | Failure]:
        """What was taken of so many frames."""
        taker = self._taker
        taken, taker.taken = taker.taken, []
        if len(taken) != count:
            self._start()  # nothing of this may reach the next client
            raise RuntimeError(f"picows found {len(taken)} frames where there are {count}")
        return taken

    def message(self, frame: bytes | memoryview, text: bool) -> str | bytes | Failure:
        """The payload of one frame of at most ``MAX_FED`` bytes; text that is not UTF-8 is a Failure."""
        self._taker.text = text
        size = len(frame)
        self._get_buffer(-1)[:size] = frame
        self._buffer_updated(size)
        (payload,) = self._take(1)
        self._taker.failed = False
        return payload

    def messages(self, frames: bytes | memoryview, count: int, text: bool) -> list[str | bytes | Failure]:
        """The payloads of so many frames, together at most ``MAX_FED`` bytes; nothing follows a Failure."""
        taker = self._taker
        taker.text = text
        self._feed(frames)
        taken = self._take(count)
        if taker.failed:
            taker.failed = False
            del taken[taken.index(NOT_UTF8) + 1 :]
        return taken

    def unmask(self, piece: bytes | memoryview, mask: bytes) -> bytes:
        """A part of a payload, as a frame of its own; at most ``MAX_FED`` bytes less 14 for the header."""
        length = len(piece)
        if length < 126:
            header = bytes((FIN | BINARY, 0x80 | length)) + mask
        elif length < 65536:
            header = b"\x82\xfe" + length.to_bytes(2, "big") + mask
        else:
            header = b"\x82\xff" + length.to_bytes(8, "big") + mask
        self._taker.text = False
        self._feed(header, piece)
        return cast("bytes", self._take(1)[0])
