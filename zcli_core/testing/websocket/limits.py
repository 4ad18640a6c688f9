"""Contract suite, part: the sizes of messages, and compression if the transport supports it."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from zcli_core.testing.websocket.client import DEFLATE_OFFER, Client, Ending, Frame
from zcli_core.testing.websocket.frames import (
    BINARY,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    deflated,
    frame,
)
from zcli_core.testing.websocket.server import ServerUnderTest
from zcli_core.testing.websocket.suite import Serve, WebSocketSuite, requires
from zcli_core.websocket.contract import Capability, Compression, Limits

MAX_SIZE = 100_000
MAX_FRAGMENTS = 100
LIMITS = Limits(max_size=MAX_SIZE, max_fragments=MAX_FRAGMENTS, compression=Compression(threshold=0))

#: Offers of compression that violate RFC 7692, 7.1, or have unknown parameters. None of them may be agreed on.
BAD_OFFERS = [
    "permessage-deflate; client_max_window_bits=abc",
    "permessage-deflate; client_max_window_bits=16",
    "permessage-deflate; server_max_window_bits=7",
    "permessage-deflate; server_max_window_bits",
    "permessage-deflate; server_no_context_takeover=1",
    "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
    "permessage-deflate; unheard_of",
    "permessage-bzip2",
    "nonsense;;;=,",
]


def in_one_frame(size: int) -> list[bytes]:
    """Return a message in one frame."""
    return [frame(BINARY, b"x" * size)]


def in_fragments(size: int) -> list[bytes]:
    """Return a message in three fragments."""
    return [
        frame(BINARY, b"x" * (size - 30_000), fin=False),
        frame(CONTINUATION, b"x" * 20_000, fin=False),
        frame(CONTINUATION, b"x" * 10_000),
    ]


def said_too_big(ending: Ending, limit: int) -> None:
    """Check that the only frame is a close frame with 1009 and the limit in the reason."""
    assert (ending.before, ending.code) == ([], 1009)
    assert str(limit) in ending.reason.replace(",", "").replace("_", "")


class LimitTests(WebSocketSuite):
    """The sizes of messages."""

    @pytest.fixture
    def limited(self, serve: Serve) -> Iterator[ServerUnderTest]:
        """A server with small limits, which may compress."""
        with serve(LIMITS) as running:
            yield running

    @pytest.fixture
    def deflating(self, limited: ServerUnderTest) -> Iterator[Client]:
        """A client that has agreed on compression with the transport."""
        with limited.connect(extensions=DEFLATE_OFFER) as client:
            if not client.extensions:
                pytest.skip("this transport does not compress")
            yield client

    @pytest.mark.parametrize("way", [in_one_frame, in_fragments])
    @pytest.mark.parametrize("offer", [None, DEFLATE_OFFER], ids=["plain", "deflate offered"])
    def test_max_size_is_exact(self, limited: ServerUnderTest, way: Any, offer: str | None) -> None:
        """One byte more is closed with 1009 and the limit in the reason, however the message is split."""

        with limited.connect(extensions=offer) as client:
            client.send(*way(MAX_SIZE))
            assert len(client.read_message()[1]) == MAX_SIZE
            client.send(*way(MAX_SIZE + 1))
            said_too_big(client.ending(), MAX_SIZE)
        assert limited.messages == [b"x" * MAX_SIZE]

    @pytest.mark.parametrize("declared", [MAX_SIZE + 1, 1 << 40, (1 << 63) - 1])
    @pytest.mark.parametrize("fin", [True, False])
    def test_oversize_frame_fails_on_its_header(self, limited: ServerUnderTest, declared: int, fin: bool) -> None:
        """The transport does not wait for the payload."""
        with limited.connect() as client:
            client.send(frame(BINARY, fin=fin, declared=declared))
            said_too_big(client.ending(), MAX_SIZE)

    def test_oversize_fragment_fails_on_its_header(self, limited: ServerUnderTest) -> None:
        """Its size counts together with the fragments before it."""
        with limited.connect() as client:
            client.send(frame(BINARY, b"x" * 60_000, fin=False), frame(CONTINUATION, declared=60_000, length_bytes=2))
            said_too_big(client.ending(), MAX_SIZE)

    def test_max_size_counts_bytes_of_text(self, limited: ServerUnderTest) -> None:
        """Text counts in UTF-8 bytes, not in characters."""
        with limited.connect() as client:
            assert len(client.echo(("é" * (MAX_SIZE // 2)).encode())) == MAX_SIZE
            client.send(frame(TEXT, ("é" * (MAX_SIZE // 2 + 1)).encode()))
            assert client.close_code() == 1009

    @requires(Capability.EXACT_LIMITS)
    def test_max_size_is_for_each_message(self, limited: ServerUnderTest) -> None:
        """Messages and control frames are not added up."""
        with limited.connect() as client:
            for _ in range(3):
                client.send(frame(BINARY, b"x" * (MAX_SIZE - 1), fin=False), frame(PING, b"p" * 125))
                assert client.read() == Frame(PONG, b"p" * 125)
                client.send(frame(CONTINUATION, b"y"))
                assert len(client.read_message()[1]) == MAX_SIZE

    @requires(Capability.EXACT_LIMITS)
    def test_max_fragments_is_exact(self, limited: ServerUnderTest) -> None:
        """It counts the empty fragments of one message, at any position; one more is closed with 1009."""

        def message(empty: int) -> bytes:
            between = frame(CONTINUATION, fin=False) * (empty - 2)
            return frame(TEXT, fin=False) + between + frame(CONTINUATION, b"x", fin=False) + frame(CONTINUATION)

        with limited.connect() as client:
            for _ in range(2):
                client.send(message(MAX_FRAGMENTS))
                assert client.read_message() == (TEXT, b"x")
            client.send(message(MAX_FRAGMENTS + 1))
            said_too_big(client.ending(), MAX_FRAGMENTS)

    @requires(Capability.TURNS, size=[1])
    @pytest.mark.parametrize("size", [1, 40])
    def test_fragments_with_payload_do_not_count(self, limited: ServerUnderTest, size: int) -> None:
        """Only ``max_size`` limits fragments with a payload, however small they are."""

        def message(length: int) -> bytes:
            between = frame(CONTINUATION, b"y" * size, fin=False) * (length // size - 2)
            return frame(TEXT, b"y" * size, fin=False) + between + frame(CONTINUATION, b"y" * size)

        with limited.connect() as client:
            client.send(message(MAX_SIZE // 5))
            assert client.read_message() == (TEXT, b"y" * (MAX_SIZE // 5))
            client.send(message(MAX_SIZE))
            assert client.read_message() == (TEXT, b"y" * MAX_SIZE)
            client.try_to_send(message(MAX_SIZE + size))
            said_too_big(client.ending(), MAX_SIZE)

    @requires(Capability.EXACT_LIMITS)
    def test_100000_empty_fragments_close_with_1009(self, limited: ServerUnderTest) -> None:
        """Keeping them would cost far more memory than their size."""
        with limited.connect() as client:
            client.try_to_send(frame(TEXT, fin=False) + frame(CONTINUATION, fin=False) * 100_000)
            assert client.close_code() == 1009

    # Compression --------------------------------------------------------------------------------------------------

    def test_compression_off_agrees_on_nothing(self, serve: Serve) -> None:
        """Compression is off by default."""
        with serve() as server, server.connect(extensions=DEFLATE_OFFER) as client:
            assert client.extensions == ""
            client.send(frame(TEXT, b"x" * 1000))
            assert client.read() == Frame(TEXT, b"x" * 1000)

    def test_compressed_frame_without_agreement_is_1002(self, limited: ServerUnderTest) -> None:
        """RSV1 is a reserved bit without an extension."""
        with limited.connect() as client:
            client.send(frame(TEXT, deflated(b"hello"), rsv=4))
            assert client.close_code() == 1002

    @requires(Capability.HANDSHAKE, offer=["nonsense;;;=,"])
    @pytest.mark.parametrize("offer", BAD_OFFERS)
    def test_unsupported_offer_is_served_uncompressed(self, limited: ServerUnderTest, offer: str) -> None:
        """The client is served as if it had offered nothing."""
        with limited.connect(extensions=offer) as client:
            assert client.extensions == ""
            client.send(frame(TEXT, b"x" * 500))
            assert client.read() == Frame(TEXT, b"x" * 500)

    def test_clients_deflate_parameters_are_obeyed(self, limited: ServerUnderTest) -> None:
        """A client with a small window cannot decompress data of a larger one (RFC 7692, 7.1.2)."""
        payload = random.Random(4).randbytes(2000) * 20  # noqa: S311 - no secret
        with limited.connect(extensions="permessage-deflate; server_max_window_bits=9") as client:
            client.send(frame(BINARY, payload))
            received = client.read()
            if client.extensions:
                assert "server_max_window_bits=9" in client.extensions.replace(" ", "")
            if received.rsv == 4:
                assert zlib.decompressobj(-9).decompress(received.payload + b"\x00\x00\xff\xff") == payload

    @pytest.mark.parametrize("parts", [1, 3, 40])
    @pytest.mark.parametrize("size", [0, 1, 1000, MAX_SIZE])
    def test_compressed_messages_are_echoed(self, deflating: Client, size: int, parts: int) -> None:
        """In one frame or in fragments, of which only the first has RSV1, with pings between (RFC 7692, 6.1)."""
        payload = (b"the quick brown fox " * (size // 20 + 1))[:size]
        data = deflated(payload, deflating.window_bits)
        step = max(1, -(-len(data) // parts))
        for at in range(0, len(data), step):
            last = at + step >= len(data)
            piece = data[at : at + step]
            deflating.send(frame(CONTINUATION if at else BINARY, piece, fin=last, rsv=0 if at else 4))
            if not last:
                deflating.send(frame(PING, b"between"))
                assert deflating.read() == Frame(PONG, b"between")
        assert deflating.read_message() == (BINARY, payload)
        deflating.send(frame(TEXT, b"plain"), frame(TEXT, deflated(b"pressed", deflating.window_bits), rsv=4))
        assert [deflating.read_message()[1] for _ in range(2)] == [b"plain", b"pressed"]

    @pytest.mark.parametrize("size", [MAX_SIZE + 1, 48 * 1024 * 1024])
    @pytest.mark.parametrize("cut", [None, 9], ids=["whole", "fragments"])
    def test_compressed_message_over_max_size_is_1009(self, deflating: Client, size: int, cut: int | None) -> None:
        """The limit holds for the decompressed size."""
        data = deflated(bytes(size), deflating.window_bits)
        if cut is None:
            deflating.try_to_send(frame(BINARY, data, rsv=4))
        else:
            deflating.try_to_send(frame(BINARY, data[:cut], rsv=4, fin=False) + frame(CONTINUATION, data[cut:]))
        said_too_big(deflating.ending(), MAX_SIZE)

    @requires(Capability.INVALID_FRAMES)
    @pytest.mark.parametrize("data", [b"\x06", b"\xff" * 20], ids=["a block of no type", "rubbish"])
    def test_invalid_deflate_data_closes(self, deflating: Client, data: bytes) -> None:
        """The code is 1007 or 1002, after the responses to earlier messages."""
        deflating.send(frame(TEXT, b"before"), frame(TEXT, data, rsv=4))
        (message,), code, _ = deflating.ending()
        assert deflating.inflated(message) == (TEXT, b"before")
        assert code in (1007, 1002)

    def test_compressed_text_must_be_utf8(self, deflating: Client) -> None:
        """Text is checked after decompression."""
        deflating.send(frame(TEXT, deflated(b"good \xff bad", deflating.window_bits), rsv=4))
        assert deflating.close_code() == 1007

    # Random bytes ------------------------------------------------------------------------------------------------

    def test_random_bytes_close_only_their_connection(
        self, limited: ServerUnderTest, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Sixty clients send random bytes, and the log has no traceback."""
        chance = random.Random(5)  # noqa: S311 - no secret
        with limited.connect() as witness:
            for _ in range(60):
                with limited.connect(extensions=chance.choice([None, DEFLATE_OFFER])) as client:
                    client.try_to_send(chance.randbytes(chance.choice([10, 200, 70_000])))
                    client.try_to_send(frame(TEXT, b"x" * MAX_SIZE) * 3)  # ends every message that has begun
                    client.try_to_send(frame(3))
                    assert client.read_to_end()
            assert witness.echo() == b"are you there?"
        assert "Traceback" not in caplog.text
