"""Contract suite, part: frames and messages (RFC 6455, 5 to 8).

Every test runs twice: for a client without compression, and for one that offers it. The transport may accept the offer.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from zcli_core.testing.websocket.client import DEFLATE_OFFER, Client, Frame
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
from zcli_core.testing.websocket.server import ServerUnderTest
from zcli_core.testing.websocket.suite import Serve, WebSocketSuite, requires
from zcli_core.websocket.contract import Capability, Compression, Limits

BYTES = bytes(range(256))

#: Violations of the protocol; each is closed with 1002.
BAD_FRAMES = {
    "a reserved bit": frame(TEXT, b"x", rsv=1),
    "another reserved bit": frame(BINARY, b"x", rsv=2),
    "two reserved bits": frame(TEXT, b"x", rsv=3),
    "a reserved bit on a ping": frame(PING, b"x", rsv=2),
    "a compressed ping": frame(PING, b"x", rsv=4),
    "a compressed close": frame(CLOSE, b"\x03\xe8", rsv=4),
    "a compressed continuation": frame(TEXT, b"x", fin=False) + frame(CONTINUATION, b"y", rsv=4),
    **{f"opcode {opcode}": frame(opcode, b"x") for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "opcode 3 without payload": frame(3),
    "opcode 11 not final": frame(11, fin=False),
    "no mask": frame(TEXT, b"x", mask=None),
    "no mask and no payload": frame(TEXT, mask=None),
    "no mask on 70,000 bytes": frame(BINARY, bytes(70_000), mask=None),
    "a ping without mask": frame(PING, b"x", mask=None),
    "a close without mask": frame(CLOSE, b"\x03\xe8", mask=None),
    "a continuation without mask": frame(TEXT, b"x", fin=False) + frame(CONTINUATION, b"y", mask=None),
    "a ping of 126 bytes": frame(PING, b"x" * 126),
    "a pong of 126 bytes": frame(PONG, b"x" * 126),
    "a close of 126 bytes": frame(CLOSE, b"\x03\xe8" + b"x" * 124),
    "a ping in fragments": frame(PING, b"x", fin=False),
    "a pong in fragments": frame(PONG, b"x", fin=False),
    "a close in fragments": frame(CLOSE, b"\x03\xe8", fin=False),
    "a continuation of nothing": frame(CONTINUATION, b"x"),
    "an unfinished continuation of nothing": frame(CONTINUATION, b"x", fin=False),
    "a message inside a message": frame(TEXT, b"x", fin=False) + frame(TEXT, b"y"),
    "a binary message inside a text message": frame(TEXT, b"x", fin=False) + frame(BINARY, b"y"),
    "a length of two bytes that one would hold": frame(TEXT, b"x", length_bytes=2),
    "a length of eight bytes that two would hold": frame(TEXT, b"x" * 200, length_bytes=8),
    "a length with the highest bit": frame(TEXT, declared=1 << 63, length_bytes=8),
    "a close frame of one byte": frame(CLOSE, b"\x03"),
}

GOOD_TEXTS = [
    "Hello-µ@ßöäüàá-UTF-8!!", "κόσμε", "\x00", "\x7f", "\x80", "\u07ff", "\u0800", "\uffff", "\U00010000",
    "\U0010ffff", "\ud7ff", "\ue000", "\ufffd", "\ufffe", "\U0001fffe", "\ufeffbom",
]  # fmt: skip

BAD_TEXTS = {
    "a stray continuation byte": b"\x80",
    "bytes that never occur": b"\xfe\xff",
    "a surrogate": b"\xed\xa0\x80",
    "a pair of surrogates": b"\xed\xa1\x8c\xed\xbe\xb4",
    "an overlong slash": b"\xc0\xaf",
    "an overlong null": b"\xe0\x80\x80",
    "an overlong of four bytes": b"\xf0\x8f\xbf\xbf",
    "beyond U+10FFFF": b"\xf4\x90\x80\x80",
    "five bytes": b"\xf8\x88\x80\x80\x80",
    "a character that is broken off": "κ".encode()[:1] + b"a",
}

GOOD_CODES = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]
BAD_CODES = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535]


class MessageTests(WebSocketSuite):
    """Frames, messages, control frames, text, and the codes of close frames."""

    @pytest.fixture
    def server(self, serve: Serve) -> Iterator[ServerUnderTest]:
        """A server that may compress what it sends."""
        with serve(Limits(max_size=1 << 24, compression=Compression(threshold=0))) as running:
            yield running

    @pytest.fixture(params=[None, DEFLATE_OFFER], ids=["plain", "deflate offered"])
    def client(self, request: pytest.FixtureRequest, server: ServerUnderTest) -> Iterator[Client]:
        """A connected client."""
        with server.connect(extensions=request.param) as connected:
            yield connected

    # Framing ------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 65537, 1_000_000])
    @pytest.mark.parametrize("opcode", [TEXT, BINARY], ids=["text", "binary"])
    def test_message_of_any_length_is_echoed(
        self, server: ServerUnderTest, client: Client, opcode: int, size: int
    ) -> None:
        """All three forms of the length work; text arrives as str, binary as bytes."""
        payload = b"*" * size if opcode == TEXT else (BYTES * (size // 256 + 1))[:size]
        client.send(frame(opcode, payload))
        assert client.read_message() == (opcode, payload)
        assert server.messages == [payload.decode() if opcode == TEXT else payload]

    @pytest.mark.parametrize("chop", [1, 2, 997])
    @pytest.mark.parametrize("size", [5, 300, 70_000])
    def test_message_in_pieces_is_echoed(self, client: Client, size: int, chop: int) -> None:
        """TCP may split a message anywhere, also into single bytes."""
        data = frame(TEXT, b"*" * size)
        for at in range(0, min(len(data), 300 * chop), chop):
            client.send(data[at : at + chop])
        client.send(data[300 * chop :])
        assert client.read_message() == (TEXT, b"*" * size)

    def test_messages_in_one_segment_are_in_order(self, client: Client) -> None:
        """A thousand small and large messages come together."""
        payloads = [b"%d" % at * (1 + at % 7 * 40) for at in range(1000)]
        client.send(*[frame(BINARY, payload) for payload in payloads])
        assert [client.read_message()[1] for _ in payloads] == payloads

    def test_server_frames_are_whole_and_unmasked(self, client: Client) -> None:
        """RFC 6455, 5.1; the client checks the mask."""
        client.send(frame(TEXT, b"x"))
        received = client.read()
        assert (received.opcode, received.fin, received.rsv & 3) == (TEXT, True, 0)

    @pytest.mark.parametrize("mask", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x01\x02\x03\x04"])
    @pytest.mark.parametrize("size", [1, 5, 1500, 100_001])
    def test_any_mask_is_removed(self, client: Client, mask: bytes, size: int) -> None:
        """A mask of zeros is allowed too."""
        payload = (BYTES * (size // 256 + 1))[:size]
        client.send(frame(BINARY, payload, mask=mask))
        assert client.read_message() == (BINARY, payload)

    def test_delivered_message_does_not_change(self, server: ServerUnderTest, client: Client) -> None:
        """A message stays the same when the transport reads more data."""
        payloads = [bytes([at]) * 3000 for at in range(50)]
        for payload in payloads:
            client.echo(payload, BINARY)
        assert server.messages == payloads

    # Control frames -----------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("payload", [b"", b"hello", b"\x00\xff\xfe\xfd", b"\xfe" * 125])
    def test_ping_gets_a_pong_with_its_payload(self, client: Client, payload: bytes) -> None:
        """A pong has the same payload of up to 125 bytes and is never compressed."""
        client.send(frame(PING, payload))
        assert client.read() == Frame(PONG, payload)

    def test_ten_pings_get_pongs_in_order(self, client: Client) -> None:
        """RFC 6455, 5.5.2; the pings may come in single bytes."""
        data = b"".join(frame(PING, b"%d" % at) for at in range(10))
        for at in range(len(data)):
            client.send(data[at : at + 1])
        assert [client.read() for _ in range(10)] == [Frame(PONG, b"%d" % at) for at in range(10)]

    @pytest.mark.parametrize("payload", [b"", b"unasked for"])
    def test_unasked_pong_is_ignored(self, client: Client, payload: bytes) -> None:
        """RFC 6455, 5.5.3."""
        client.send(frame(PONG, payload), frame(PING, b"next"))
        assert client.read() == Frame(PONG, b"next")

    def test_control_frames_are_not_delivered(self, server: ServerUnderTest, client: Client) -> None:
        """They do not count as messages."""
        client.send(frame(PING, b"a"), frame(PONG, b"b"), frame(TEXT, b"c"), close())
        client.read_to_end()
        assert server.messages == ["c"]

    # Fragments ----------------------------------------------------------------------------------------------------

    def test_fragments_become_one_message(self, server: ServerUnderTest, client: Client) -> None:
        """Fragments may be empty."""
        client.send(
            frame(TEXT, b"", fin=False), frame(CONTINUATION, b"frag", fin=False), frame(CONTINUATION, b"", fin=False),
            frame(CONTINUATION, b"ment", fin=False), frame(CONTINUATION),
        )  # fmt: skip
        assert client.read_message() == (TEXT, b"fragment")
        assert server.messages == ["fragment"]

    @pytest.mark.parametrize("size", [10, 20_000, 300_000])
    def test_large_fragments_become_one_message(self, client: Client, size: int) -> None:
        """All forms of the length work, with whole messages before and after."""
        parts = [bytes([at]) * size for at in range(5)]
        client.send(frame(TEXT, b"before"), frame(BINARY, parts[0], fin=False))
        client.send(*[frame(CONTINUATION, part, fin=False) for part in parts[1:]], frame(CONTINUATION))
        client.send(frame(TEXT, b"after"))
        read = [client.read_message() for _ in range(3)]
        assert read == [(TEXT, b"before"), (BINARY, b"".join(parts)), (TEXT, b"after")]

    def test_control_frames_between_fragments_are_handled(self, client: Client) -> None:
        """They are handled before the message is complete (RFC 6455, 5.4)."""
        client.send(frame(BINARY, b"a", fin=False), frame(PING, b"p"))
        assert client.read() == Frame(PONG, b"p")
        client.send(
            frame(CONTINUATION, b"b", fin=False), frame(PONG, b"q"), frame(PING, b"r"), frame(CONTINUATION, b"c")
        )
        assert client.read() == Frame(PONG, b"r")
        assert client.read_message() == (BINARY, b"abc")

    @requires(Capability.CLOSE_HANDSHAKE)
    def test_close_frame_between_fragments_ends(self, server: ServerUnderTest, client: Client) -> None:
        """The unfinished message is not delivered."""
        client.send(frame(TEXT, b"a", fin=False), close(1000))
        assert client.close_code() == 1000
        assert server.messages == []

    # Violations of the protocol -----------------------------------------------------------------------------------

    @requires(Capability.INVALID_FRAMES)
    @pytest.mark.parametrize("bad", BAD_FRAMES.values(), ids=BAD_FRAMES)
    @pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "byte by byte"])
    def test_invalid_frame_closes_with_1002(
        self, server: ServerUnderTest, client: Client, bad: bytes, bytewise: bool
    ) -> None:
        """Messages before it are handled first, and data after it is ignored."""
        data = frame(TEXT, b"before") + frame(PING, b"too") + bad + (b"" if bytewise else frame(TEXT, b"after"))
        pieces = [data[at : at + 1] for at in range(min(len(data), 400))] if bytewise else [data]
        for piece in pieces:
            client.try_to_send(piece)
        (message, pong), code, reason = client.ending()
        assert (client.inflated(message), pong) == ((TEXT, b"before"), Frame(PONG, b"too"))
        assert code == 1002
        assert reason
        assert server.messages == ["before"]

    def test_only_an_invalid_frame_closes_with_1002(self, server: ServerUnderTest) -> None:
        """The code is the same if nothing comes before or after the frame; some decoders take any form of a length."""
        for name, bad in BAD_FRAMES.items():
            if name.startswith("a length"):
                continue
            with server.connect() as client:
                client.try_to_send(bad)
                assert client.close_code() == 1002, name

    # Text ---------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("text", GOOD_TEXTS, ids=ascii)
    @pytest.mark.parametrize("way", ["whole", "fragments of a byte", "segments of a byte"])
    def test_split_utf8_text_is_echoed(self, client: Client, text: str, way: str) -> None:
        """Text may be split inside a character."""
        data = text.encode()
        if way == "fragments of a byte":
            client.send(frame(TEXT, fin=False), *[frame(CONTINUATION, bytes([byte]), fin=False) for byte in data])
            client.send(frame(CONTINUATION))
        else:
            stream = frame(TEXT, data)
            for piece in [stream] if way == "whole" else [stream[at : at + 1] for at in range(len(stream))]:
                client.send(piece)
        assert client.read_message() == (TEXT, data)

    def test_only_invalid_utf8_closes_with_1007(self, server: ServerUnderTest) -> None:
        """The code is the same if nothing comes before or after the message."""
        for name, bad in BAD_TEXTS.items():
            with server.connect() as client:
                client.send(frame(TEXT, b"good " + bad + b" good"))
                assert client.close_code() == 1007, name

    @requires(Capability.INVALID_FRAMES)
    @pytest.mark.parametrize("bad", BAD_TEXTS.values(), ids=BAD_TEXTS)
    @pytest.mark.parametrize("way", ["whole", "fragments of a byte"])
    def test_invalid_utf8_closes_with_1007(self, server: ServerUnderTest, client: Client, bad: bytes, way: str) -> None:
        """Messages before it are handled first (RFC 6455, 8.1)."""
        client.send(frame(TEXT, b"before"))
        if way == "whole":
            client.send(frame(TEXT, b"good " + bad + b" good"))
        else:
            client.send(frame(TEXT, b"good ", fin=False))
            client.try_to_send(b"".join(frame(CONTINUATION, bytes([byte]), fin=False) for byte in bad + b" good"))
            client.try_to_send(frame(CONTINUATION))
        (message,), code, _ = client.ending()
        assert (client.inflated(message), code) == ((TEXT, b"before"), 1007)
        assert server.messages == ["before"]

    @pytest.mark.parametrize("cut", [1, 2, 3])
    def test_text_ending_inside_a_character_is_1007(self, client: Client, cut: int) -> None:
        """The error is found at the last fragment."""
        client.send(frame(TEXT, b"a", fin=False), frame(CONTINUATION, "😀".encode()[:cut]))
        assert client.close_code() == 1007

    def test_binary_message_can_be_any_bytes(self, client: Client) -> None:
        """Binary messages need not be UTF-8."""
        client.send(frame(BINARY, b"\xff\xfe", fin=False), frame(CONTINUATION, b"\xed\xa0\x80"))
        assert client.read_message() == (BINARY, b"\xff\xfe\xed\xa0\x80")

    # Close codes --------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("code", GOOD_CODES)
    def test_valid_close_code_is_echoed(self, server: ServerUnderTest, client: Client, code: int) -> None:
        """The core gets the code and its reason."""
        client.send(close(code, "wärum".encode()))
        assert client.close_code() == code
        client.sock.close()
        assert server.has_closed()[:2] == (code, "wärum")

    @pytest.mark.parametrize("code", BAD_CODES)
    def test_invalid_close_code_is_1002(self, client: Client, code: int) -> None:
        """RFC 6455, 7.4."""
        client.send(close(code))
        assert client.close_code() == 1002

    def test_close_frame_of_125_bytes_is_valid(self, client: Client) -> None:
        """This is the largest close frame."""
        client.send(close(1000, b"*" * 123))
        assert client.close_code() == 1000

    def test_close_reason_not_utf8_is_1007(self, client: Client) -> None:
        """RFC 6455, 5.5.1; 1002 is allowed too."""
        client.send(close(1000, b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80"))
        assert client.close_code() in (1007, 1002)

    @requires(Capability.CLOSE_HANDSHAKE)
    @pytest.mark.parametrize(
        "after", [frame(TEXT, b"x"), frame(PING, b"x"), close(1000), b"\xff" * 100_000],
        ids=["a message", "a ping", "another close", "rubbish"],
    )  # fmt: skip
    def test_data_after_a_close_frame_is_ignored(self, server: ServerUnderTest, client: Client, after: bytes) -> None:
        """The data may come together with the close frame or later; the client still gets the server's close frame."""
        client.send(close(1000) + after)
        received = client.read()
        client.try_to_send(after)
        assert (received.opcode, client.read_to_end(), server.messages) == (CLOSE, [], [])
