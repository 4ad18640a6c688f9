"""picows as a parser: frames in, payloads out, unmasked and decoded in C.

picows means its protocol object to own a connection: it answers the upgrade, closes on errors with words of its own,
keeps a buffer that never shrinks for every connection, and cannot be told to wait. None of that fits the contract, so
one object serves a whole listener and is given complete, well-formed frames only. It then keeps nothing from one call
to the next, and a connection costs no buffer. What it is given instead of a connection leads nowhere.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, cast

import picows
from picows import WSAutoPingStrategy, WSListener
from picows.picows import WSProtocol  # type: ignore[attr-defined]  # it is in no stub

from zcli_core.contracts.websocket_parts.events import NOT_UTF8, Failure
from zcli_core.contracts.websocket_parts.frames import BINARY, FIN

if TYPE_CHECKING:
    from collections.abc import Iterable

    from picows import WSFrame, WSTransport

#: Bytes that the parser is given at once. Its buffer is larger: it doubles it where it finds it nearly full.
MAX_FED = 128 * 1024
_BUFFER = MAX_FED * 3 // 2

#: What makes picows think that a client has been let in.
_UPGRADE = (
    b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)

#: What picows logs, about each connection as it thinks, is about none.
SILENT = logging.Logger("zcli.picows.silent", logging.CRITICAL + 1)


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


class Parser:
    """Gives the payloads of complete, well-formed, masked frames. Every call stands for itself."""

    def __init__(self) -> None:
        self._taker = _Taker()
        self._start()

    def _start(self) -> None:
        taker = self._taker
        try:
            protocol = WSProtocol(
                host_port=None, ws_path=None, is_client_side=False, ws_listener_factory=lambda request: taker,
                logger=SILENT, disconnect_on_exception=False, websocket_handshake_timeout=None,
                enable_auto_ping=False, auto_ping_idle_timeout=1, auto_ping_reply_timeout=1,
                auto_ping_strategy=WSAutoPingStrategy.PING_WHEN_IDLE, enable_auto_pong=False, max_frame_size=MAX_FED,
                extra_headers=None, read_buffer_init_size=_BUFFER,
            )  # fmt: skip
        except TypeError as error:
            version = getattr(picows, "__version__", "of an unknown version")
            raise RuntimeError(f"zcli_picows does not fit picows {version}: pip install 'picows~=2.3'") from error
        protocol.connection_made(_Nowhere())
        self._get_buffer, self._buffer_updated = protocol.get_buffer, protocol.buffer_updated
        self._feed(_UPGRADE)

    def _feed(self, data: bytes | memoryview) -> None:
        size = len(data)
        self._get_buffer(-1)[:size] = data
        self._buffer_updated(size)

    def messages(self, frames: bytes | memoryview, count: int, text: bool) -> list[str | bytes | Failure]:
        """The payloads of so many frames, at most ``MAX_FED`` bytes. A Failure is the last: text that is not UTF-8."""
        taker = self._taker
        taker.text = text
        taken = taker.taken = []
        self._feed(frames)
        if len(taken) != count:
            self._start()  # nothing of this may reach the next client
            raise RuntimeError(f"picows found {len(taken)} frames where there are {count}")
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
        return cast("bytes", self.messages(header + piece, 1, text=False)[0])
