"""Streams of frames, valid and invalid, and the events of wsproto for them: for the tests of decoders."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from wsproto.connection import SERVER, Connection
from wsproto.events import BytesMessage, CloseConnection, TextMessage
from wsproto.events import Ping as OraclePing
from wsproto.events import Pong as OraclePong
from wsproto.extensions import PerMessageDeflate

from zcli_core.testing.websocket.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    close,
    frame,
)
from zcli_core.websocket.parts.events import Close, Failure, Ping, Pong


def decode_with(decoder: Any, chunks: list[bytes]) -> list[Any]:
    """Return every event of a decoder for bytes that come in these chunks."""
    events = []
    for chunk in chunks:
        buffer = bytearray(chunk)
        decoder.feed(memoryview(buffer))
        buffer[:] = bytes(len(buffer))  # a transport reads the next bytes into the same buffer
        while (event := decoder.next()) is not None or decoder.unfinished:
            if event is not None:
                events.append(event)
    return events


def oracle(data: bytes, compressed: bool = False) -> list[Any]:
    """Return the events of wsproto for the same bytes, with its fragments joined."""
    extension = PerMessageDeflate()
    extension._enabled = True
    connection = Connection(SERVER, [extension] if compressed else [])
    connection.receive_data(data)
    events: list[Any] = []
    parts: list[Any] = []
    for event in connection.events():
        if isinstance(event, CloseConnection):
            # wsproto distinguishes a violation from a close frame only by its state.
            by_client = connection.state.name == "REMOTE_CLOSING"
            events.append(Close(int(event.code), event.reason or "") if by_client else ("failure", int(event.code)))
            break
        if isinstance(event, OraclePing):
            events.append(Ping(bytes(event.payload)))
        elif isinstance(event, OraclePong):
            events.append(Pong(bytes(event.payload)))
        elif isinstance(event, (TextMessage, BytesMessage)):
            parts.append(event.data if isinstance(event, TextMessage) else bytes(event.data))
            if event.message_finished:
                events.append(parts[0][:0].join(parts))
                parts = []
    return events


def comparable(events: list[Any]) -> list[Any]:
    """Reduce failures to their codes, because the reasons have different texts."""
    return [("failure", event.code) if isinstance(event, Failure) else event for event in events]


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    chunks, at = [], 0
    for size in sizes:
        chunks.append(data[at : at + size])
        at += size
    return [chunk for chunk in [*chunks, data[at:]] if chunk]


masks = st.binary(min_size=4, max_size=4)
texts = st.text(max_size=40).map(str.encode) | st.just("é€😀".encode() * 60)
edges = [b"x" * size for size in (125, 126, 127, 8193, 65535, 65536, 70000)]
payloads = texts | st.binary(max_size=300) | st.sampled_from(edges)
sizes = st.lists(st.integers(1, 12) | st.integers(1, 9000), max_size=30)


@st.composite
def good_messages(draw: Any) -> bytes:
    """A whole message, in one frame or in fragments, with control frames between them."""
    mask = draw(masks)
    payload = draw(payloads)
    opcode = draw(st.sampled_from([TEXT, BINARY]))
    if opcode == TEXT:
        payload = payload.decode("utf-8", "replace").encode()
    data, first = b"", True
    for part in cut(payload, draw(st.lists(st.integers(1, 20), max_size=3))) or [b""]:
        data += frame(opcode if first else CONTINUATION, part, fin=False, mask=mask)
        if draw(st.booleans()):
            data += frame(draw(st.sampled_from([PING, PONG])), draw(st.binary(max_size=125)), mask=mask)
        first = False
    return draw(st.sampled_from([data + frame(CONTINUATION, b"", mask=mask), frame(opcode, payload, mask=mask)]))


@st.composite
def any_frames(draw: Any) -> bytes:
    """A frame that may be invalid in any way."""
    payload = draw(st.binary(max_size=130) | texts.filter(lambda text: len(text) < 1000))
    return frame(
        draw(st.sampled_from([TEXT, TEXT, BINARY, BINARY, CONTINUATION, CLOSE, PING, PONG, 0x3, 0x7, 0xB, 0xF])),
        payload,
        fin=draw(st.sampled_from([True, True, True, False])),
        rsv=draw(st.sampled_from([0, 0, 0, 0, 0, 0, 1, 2, 4])),
        mask=draw(masks | masks | masks | st.none()),
        length_bytes=draw(st.sampled_from([None, None, None, 2, 8] if len(payload) < 126 else [None, 8])),
    )


close_codes = st.integers(900, 5100).filter(lambda code: code != 1014)
closes = st.builds(close, close_codes, st.binary(max_size=20)) | st.just(close(None))
streams = st.lists(good_messages() | good_messages() | any_frames() | closes, max_size=8).map(b"".join)
