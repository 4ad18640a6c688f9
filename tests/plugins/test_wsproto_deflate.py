"""Offers of permessage-deflate and their responses (RFC 7692, 5 and 7.1)."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websocket_transports import serve
from zcli_wsproto.deflate import negotiate

from zcli_core.testing.websocket.client import DEFLATE_OFFER, Client, until
from zcli_core.testing.websocket.flow_control import Holding
from zcli_core.testing.websocket.frames import BINARY, TEXT, close, deflated, frame
from zcli_core.websocket.contract import ClosedBy, Compression, Limits

D = "permessage-deflate"
NO = "server_no_context_takeover"


@pytest.mark.parametrize(
    ("window_bits", "offer", "response"),
    [
        (15, D, D),
        (12, D, D),
        (12, f"{D}; client_max_window_bits", f"{D}; client_max_window_bits=12"),
        (12, f"{D}; client_max_window_bits=15", f"{D}; client_max_window_bits=12"),
        (12, f"{D}; client_max_window_bits=9", f"{D}; client_max_window_bits=9"),
        (12, f"{D}; client_max_window_bits=8", f"{D}; client_max_window_bits=8"),
        (15, f"{D}; server_max_window_bits=10", f"{D}; server_max_window_bits=10"),
        (10, f"{D}; server_max_window_bits=15", f"{D}; server_max_window_bits=10"),
        (15, f'{D}; server_max_window_bits="11"', f"{D}; server_max_window_bits=11"),
        (15, f"{D}; client_no_context_takeover", f"{D}; client_no_context_takeover"),
        (15, f"{D}; {NO}", f"{D}; {NO}"),
        (15, f"  {D} ;  {NO}  ", f"{D}; {NO}"),
        # Declined, as the RFC requires.
        (15, f"{D}; client_max_window_bits=abc", None),
        (15, f"{D}; client_max_window_bits=", None),
        (15, f'{D}; client_max_window_bits=""', None),
        (15, f"{D}; client_max_window_bits=16", None),
        (15, f"{D}; client_max_window_bits=7", None),
        (15, f"{D}; client_max_window_bits=010", None),
        (15, f"{D}; client_max_window_bits=\N{ARABIC-INDIC DIGIT NINE}", None),
        (15, f"{D}; server_max_window_bits", None),
        (15, f"{D}; server_max_window_bits=8", None),
        (15, f"{D}; server_max_window_bits=10; server_max_window_bits=10", None),
        (15, f"{D}; {NO}; {NO}", None),
        (15, f"{D}; {NO}=1", None),
        (15, f"{D}; client_no_context_takeover=true", None),
        (15, f"{D}; unheard_of", None),
        (15, f"{D};", None),
        (15, "x-webkit-deflate-frame", None),
        (15, "permessage-bzip2", None),
        (15, "", None),
        # The first supported offer is accepted, and an earlier offer has no effect on it.
        (15, f"{D}; unheard_of, {D}", D),
        (15, f"{D}; server_max_window_bits=8; client_no_context_takeover, {D}", D),
        (15, f"foo; a=1, {D}; server_max_window_bits=9, {D}", f"{D}; server_max_window_bits=9"),
    ],
)
def test_negotiate_offer_has_its_response(window_bits: int, offer: str, response: str | None) -> None:
    """The offer may be in one header or in two."""
    for values in ([offer], ["", offer], offer.split(",")):
        agreed = negotiate(values, Compression(window_bits=window_bits))
        assert (agreed.header if agreed else None) == response


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(st.characters(max_codepoint=255), max_size=30) | st.sampled_from([D, ";", ",", "=", NO])))
def test_negotiate_any_text_raises_nothing(pieces: list[str]) -> None:
    """The result is an agreement or None."""
    negotiate(["".join(pieces)], Compression())


@pytest.mark.parametrize("bits", [9, 10, 12, 15])
def test_compression_uses_the_agreed_window(bits: int) -> None:
    """A client with a smaller window could not decompress the data, whatever the setting is."""
    half = bytes(byte for byte in range(256)) * 2 + b"".join(bytes([at, at ^ 0x5A, 7]) for at in range(256)) * 3
    payload = half * 40
    limits = Limits(compression=Compression(window_bits=15, memory_level=9, threshold=0))
    with serve("wsproto", limits) as server, server.connect(extensions=f"{D}; server_max_window_bits={bits}") as client:
        client.send(frame(BINARY, payload))
        received = client.read()
        assert (received.rsv, len(received.payload) < len(payload)) == (4, True)
        assert zlib.decompressobj(-bits).decompress(received.payload + b"\x00\x00\xff\xff") == payload


def test_connections_share_no_deflate_parameters() -> None:
    """The agreement of one connection has no effect on another."""
    with serve("wsproto", Limits(compression=Compression(window_bits=15))) as server:
        responses = []
        for offer in (f"{D}; server_max_window_bits=9", D):
            with server.connect(extensions=offer) as client:
                responses.append(client.headers["sec-websocket-extensions"])
    assert responses == [f"{D}; server_max_window_bits=9", D]


@pytest.mark.parametrize(("size", "compressed"), [(255, False), (256, True)])
def test_message_under_the_threshold_is_uncompressed(size: int, compressed: bool) -> None:
    """Compression would cost more than it saves."""
    with (
        serve("wsproto", Limits(compression=Compression(threshold=256))) as server,
        server.connect(extensions=D) as client,
    ):
        client.send(frame(TEXT, b"x" * size))
        assert (client.read().rsv == 4) == compressed


def test_incompressible_message_is_uncompressed() -> None:
    """Compression would make it larger."""
    import random

    noise = random.Random(1).randbytes(5000)
    with serve("wsproto", Limits(compression=Compression())) as server, server.connect(extensions=D) as client:
        client.send(frame(BINARY, noise))
        assert client.read() == (BINARY, noise, True, 0)


@pytest.mark.parametrize(
    "message", ["text " * 100, b"bytes" * 100, bytearray(b"array" * 100), memoryview(b"view" * 100)]
)
def test_every_message_type_is_compressed(message: Any) -> None:
    """Memory views of larger items are sent too."""
    with serve("wsproto", Limits(compression=Compression())) as server, server.connect(extensions=D) as client:
        connection = until(lambda: server.connections)[0]

        def send() -> None:
            connection.send(message)
            connection.send_prepared(server.listener.prepare(message))

        server.call(send)
        expected = message.encode() if isinstance(message, str) else bytes(message)
        for _ in range(2):
            received = client.read()
            assert zlib.decompressobj(-12).decompress(received.payload + b"\x00\x00\xff\xff") == expected


# Messages -------------------------------------------------------------------------------------------------------


@pytest.fixture
def deflating() -> Iterator[Client]:
    """A client that has agreed on compression."""
    limits = Limits(compression=Compression(threshold=0))
    with serve("wsproto", limits) as server, server.connect(extensions=DEFLATE_OFFER) as client:
        assert client.extensions
        yield client


@pytest.mark.parametrize("size", [64, 1000, 131_072, 1_000_000])
def test_compressed_echo_is_compressed(deflating: Client, size: int) -> None:
    """Messages are compressed in both directions."""
    payload = (b"the quick brown fox " * (size // 20 + 1))[:size]
    deflating.send(frame(BINARY, deflated(payload, 12), rsv=4))
    received = deflating.read()
    assert (received.rsv, len(received.payload) < size) == (4, True)
    assert deflating.inflated(received) == (BINARY, payload)


def test_clients_window_is_kept_between_messages(deflating: Client) -> None:
    """It is not kept if the client says so (RFC 7692, 7.1.1.2)."""
    compressor = zlib.compressobj(6, zlib.DEFLATED, -12)
    payload = bytes(range(256))
    sizes = []
    for _ in range(5):
        data = (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
        sizes.append(len(data))
        deflating.send(frame(BINARY, data, rsv=4))
        assert deflating.read_message() == (BINARY, payload)
    assert sizes[-1] < sizes[0] / 5, "otherwise it has not been put to use"


@pytest.mark.parametrize(
    "data",
    [
        b"\xf2\x48\xcd\xc9\xc9\x07\x00",  # RFC 7692, 7.2.3.1
        b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00",  # 7.2.3.3: a block with no compression
        b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00",  # 7.2.3.4: a final block
        b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00",  # 7.2.3.5: two blocks
        deflated(b"Hello", level=0),
        deflated(b"Hello", level=9),
    ],
)
def test_examples_of_the_rfc_are_decompressed(deflating: Client, data: bytes) -> None:
    """They have every form of deflate block; a second message shows that the state is valid."""
    deflating.send(frame(TEXT, data, rsv=4), frame(TEXT, deflated(b"again", level=1), rsv=4))
    assert [deflating.read_message()[1] for _ in range(2)] == [b"Hello", b"again"]


@pytest.mark.parametrize("count", [2, 40], ids=["decoded", "not decoded"])
def test_close_frame_behind_large_data_is_found(count: int) -> None:
    """The client has closed normally, even if counting its messages would take too long."""
    limits = Limits(compression=Compression(threshold=0), close_timeout=0.2)
    with serve("wsproto", limits, receiver=Holding) as server:
        with server.connect(extensions=DEFLATE_OFFER) as client:
            large = frame(BINARY, deflated(bytes(900_000), 12), rsv=4)
            client.send(frame(TEXT, b"held"), large * count, close(4001, b"bye"))
            client.read_message()
        closed = server.has_closed()
    assert (closed.code, closed.by, closed.dropped < count) == (
        (4001, ClosedBy.CLIENT, False) if count == 2 else (1005, ClosedBy.CLIENT, True)
    )
