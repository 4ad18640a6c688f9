"""Offers of permessage-deflate and what becomes of them (RFC 7692, 5 and 7.1)."""

from __future__ import annotations

import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websocket_frames import BINARY, TEXT, frame
from wsproto_server import Server, until
from zcli_wsproto.deflate import negotiate

from zcli_core.contracts.websocket import Compression, Limits

D = "permessage-deflate"
NO = "server_no_context_takeover"


@pytest.mark.parametrize(
    ("window_bits", "offer", "answer"),
    [
        (15, D, f"{D}; {NO}"),
        (12, D, f"{D}; {NO}; server_max_window_bits=12"),
        (12, f"{D}; client_max_window_bits", f"{D}; {NO}; server_max_window_bits=12; client_max_window_bits=12"),
        (12, f"{D}; client_max_window_bits=15", f"{D}; {NO}; server_max_window_bits=12; client_max_window_bits=12"),
        (12, f"{D}; client_max_window_bits=9", f"{D}; {NO}; server_max_window_bits=12; client_max_window_bits=9"),
        (15, f"{D}; server_max_window_bits=10", f"{D}; {NO}; server_max_window_bits=10"),
        (10, f"{D}; server_max_window_bits=15", f"{D}; {NO}; server_max_window_bits=10"),
        (15, f'{D}; server_max_window_bits="11"', f"{D}; {NO}; server_max_window_bits=11"),
        (15, f"{D}; client_no_context_takeover", f"{D}; {NO}; client_no_context_takeover"),
        (15, f"{D}; {NO}", f"{D}; {NO}"),
        (15, f"  {D} ;  {NO}  ", f"{D}; {NO}"),
        # Declined: the RFC leaves no other answer.
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
        # The first offer that can be served wins, and one offer leaves nothing behind in the next.
        (15, f"{D}; unheard_of, {D}", f"{D}; {NO}"),
        (15, f"{D}; server_max_window_bits=8; client_no_context_takeover, {D}", f"{D}; {NO}"),
        (15, f"foo; a=1, {D}; server_max_window_bits=9, {D}", f"{D}; {NO}; server_max_window_bits=9"),
    ],
)
def test_an_offer_has_its_answer(window_bits: int, offer: str, answer: str | None) -> None:
    """In one header or in two."""
    for values in ([offer], ["", offer], offer.split(",")):
        agreed = negotiate(values, Compression(window_bits=window_bits))
        assert (agreed.header if agreed else None) == answer


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(st.characters(max_codepoint=255), max_size=30) | st.sampled_from([D, ";", ",", "=", NO])))
def test_any_offer_has_an_answer_or_none(pieces: list[str]) -> None:
    """And no exception."""
    negotiate(["".join(pieces)], Compression())


@pytest.mark.parametrize("offer", [f"{D}; client_max_window_bits=abc", f"{D}; unheard_of", "nonsense;;;=,"])
def test_a_client_whose_offer_is_declined_is_served_without_compression(offer: str) -> None:
    """As if it had offered nothing."""
    with Server(Limits(compression=Compression(threshold=0))) as server, server.connect(extensions=offer) as client:
        assert "sec-websocket-extensions" not in client.headers
        client.send(frame(TEXT, b"x" * 500))
        assert client.read() == (TEXT, b"x" * 500, True, 0)


def test_nothing_is_agreed_on_where_compression_is_off() -> None:
    """The default."""
    with Server() as server, server.connect(extensions=D) as client:
        assert "sec-websocket-extensions" not in client.headers


@pytest.mark.parametrize("bits", [9, 10, 12, 15])
def test_the_window_that_was_agreed_on_is_kept_to(bits: int) -> None:
    """By us, whatever the setting is; a client with a smaller window could not inflate it otherwise."""
    half = bytes(byte for byte in range(256)) * 2 + b"".join(bytes([at, at ^ 0x5A, 7]) for at in range(256)) * 3
    payload = half * 40
    limits = Limits(compression=Compression(window_bits=15, memory_level=9, threshold=0))
    with Server(limits) as server, server.connect(extensions=f"{D}; server_max_window_bits={bits}") as client:
        client.send(frame(BINARY, payload))
        answer = client.read()
        assert (answer.rsv, len(answer.payload) < len(payload)) == (4, True)
        assert zlib.decompressobj(-bits).decompress(answer.payload + b"\x00\x00\xff\xff") == payload


def test_two_connections_share_no_parameters() -> None:
    """What one agreed on is nothing to the other."""
    with Server(Limits(compression=Compression(window_bits=15))) as server:
        answers = []
        for offer in (f"{D}; server_max_window_bits=9", D):
            with server.connect(extensions=offer) as client:
                answers.append(client.headers["sec-websocket-extensions"])
    assert answers == [f"{D}; {NO}; server_max_window_bits=9", f"{D}; {NO}"]


@pytest.mark.parametrize(("size", "compressed"), [(255, False), (256, True)])
def test_messages_under_the_threshold_go_as_they_are(size: int, compressed: bool) -> None:
    """Compression would cost more than it saves."""
    with Server(Limits(compression=Compression(threshold=256))) as server, server.connect(extensions=D) as client:
        client.send(frame(TEXT, b"x" * size))
        assert (client.read().rsv == 4) == compressed


def test_a_message_that_does_not_compress_goes_as_it_is() -> None:
    """It would only grow."""
    import random

    noise = random.Random(1).randbytes(5000)
    with Server(Limits(compression=Compression())) as server, server.connect(extensions=D) as client:
        client.send(frame(BINARY, noise))
        assert client.read() == (BINARY, noise, True, 0)


@pytest.mark.parametrize(
    "message", ["text " * 100, b"bytes" * 100, bytearray(b"array" * 100), memoryview(b"view" * 100)]
)
def test_every_kind_of_message_can_be_sent_and_prepared(message: Any) -> None:
    """A memory view of wider items too."""
    with Server(Limits(compression=Compression())) as server, server.connect(extensions=D) as client:
        connection = until(lambda: server.connections)[0]

        def send() -> None:
            connection.send(message)
            connection.send_prepared(server.listener.prepare(message))

        server.call(send)
        expected = message.encode() if isinstance(message, str) else bytes(message)
        for _ in range(2):
            answer = client.read()
            assert zlib.decompressobj(-12).decompress(answer.payload + b"\x00\x00\xff\xff") == expected
