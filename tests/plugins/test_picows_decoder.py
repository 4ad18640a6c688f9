"""The decoder of the transport picows against wsproto alone and against the decoder of the default transport."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websocket_streams import any_frames, comparable, cut, decode_with, good_messages, oracle, sizes, streams
from websocket_transports import serve
from zcli_picows.decoder import Decoder
from zcli_picows.parser import MAX_FED, Parser
from zcli_wsproto.engine import Decoder as WsprotoDecoder

from zcli_core.contracts.websocket import Limits
from zcli_core.contracts.websocket_parts.events import Close, Failure, Ping
from zcli_core.testing.websocket_frames import BINARY, CLOSE, CONTINUATION, PING, TEXT, close, frame
from zcli_core.testing.websocket_server import ServerUnderTest

PLAIN = Limits(max_size=1 << 24, max_fragments=10_000)


async def _make_parser() -> Parser:
    return Parser()


@pytest.fixture(scope="module")
def parser() -> Parser:
    """One parser for all tests, as one serves all connections of a listener. It is made in a running loop."""
    return asyncio.run(_make_parser())


def decode(parser: Parser, chunks: list[bytes], limits: Limits = PLAIN) -> list[Any]:
    return decode_with(Decoder(limits, parser), chunks)


# The same as wsproto ----------------------------------------------------------------------------------------------


@settings(max_examples=400, deadline=None)
@given(data=streams, cuts=sizes)
def test_any_stream_in_any_chunks_gives_the_events_of_wsproto_alone(
    parser: Parser, data: bytes, cuts: list[int]
) -> None:
    assert comparable(decode(parser, cut(data, cuts))) == oracle(data)


@settings(max_examples=400, deadline=None)
@given(
    data=st.lists(any_frames() | good_messages() | st.binary(max_size=12), max_size=5).map(b"".join),
    cuts=sizes,
    limits=st.builds(Limits, max_size=st.integers(1, 200), max_fragments=st.integers(1, 4)),
)
def test_limits_end_any_stream_where_they_end_it_for_the_default_transport(
    parser: Parser, data: bytes, cuts: list[int], limits: Limits
) -> None:
    data += close() * 3  # so that neither waits for the rest of something
    ours = decode(parser, cut(data, cuts), limits)
    assert comparable(ours) == comparable(decode_with(WsprotoDecoder(limits), [data]))
    assert not any(isinstance(event, (Close, Failure)) for event in ours[:-1])


def _outcome(name: str, server: ServerUnderTest, data: bytes) -> tuple[list[Any], int | None]:
    """What the server takes for messages, and the code with which it ends the connection."""
    before = len(server.messages)
    with server.connect(behind=b"") as client:
        client.try_to_send(data + close())
        *_, last = client.read_to_end()
        assert last.opcode == CLOSE, name
    return server.messages[before:], int.from_bytes(last.payload[:2], "big") if last.payload else None


def test_any_stream_ends_in_the_same_way_on_both_transports() -> None:
    """The whole way: messages that are delivered, and the close code."""
    with serve("wsproto", PLAIN) as one, serve("picows", PLAIN) as other:

        @settings(max_examples=60, deadline=None)
        @given(data=streams)
        def compare(data: bytes) -> None:
            data += close() * 3
            assert _outcome("picows", other, data) == _outcome("wsproto", one, data)

        compare()


# What is picows's own ---------------------------------------------------------------------------------------------


def test_more_messages_than_are_decoded_ahead_come_in_order(parser: Parser) -> None:
    messages = [str(number) for number in range(1000)]
    stream = b"".join(frame(TEXT, message.encode()) for message in messages)
    assert decode(parser, [stream]) == messages
    assert decode(parser, [stream[:3000], stream[3000:3001], stream[3001:]]) == messages


def test_what_is_decoded_ahead_is_bounded(parser: Parser) -> None:
    """A client that sends empty messages must not make a hundred thousand objects out of one read."""
    decoder = Decoder(PLAIN, parser)
    decoder.feed(frame(TEXT) * 40_000)
    assert len(decoder._ready) == 128
    count = 0
    while decoder.next() is not None:
        count += 1
        assert len(decoder._ready) <= 128
    assert count == 40_000
    assert len(decoder._data) == 0


@pytest.mark.parametrize("size", [MAX_FED - 15, MAX_FED - 14, MAX_FED - 13, MAX_FED, MAX_FED + 1, 3 * MAX_FED + 5])
def test_messages_around_what_the_parser_takes_are_whole(parser: Parser, size: int) -> None:
    payload = bytes(range(251)) * (size // 251 + 1)
    for opcode, message in ((BINARY, payload[:size]), (TEXT, "é" * (size // 2))):
        stream = frame(opcode, message if isinstance(message, bytes) else message.encode(), mask=b"\x01\x80\xff\x10")
        for chunks in ([stream], [stream[:7], stream[7:]], cut(stream, [1000, 65537, 3])):
            assert decode(parser, [*chunks, frame(PING)]) == [message, Ping(b"")]


def test_bad_text_in_a_run_of_messages_ends_it_there(parser: Parser) -> None:
    stream = frame(TEXT, b"good") + frame(TEXT, b"\xff") + frame(TEXT, b"late") + frame(TEXT, b"\xff")
    first, failure = decode(parser, [stream])
    assert (first, failure.code) == ("good", 1007)
    assert decode(parser, [frame(TEXT, b"next")]) == ["next"]


@pytest.mark.parametrize("fin", [True, False], ids=["whole frame", "fragment"])
def test_invalid_text_fails_at_the_byte_that_makes_it_invalid(parser: Parser, fin: bool) -> None:
    text = "κόσμε".encode() + b"\xf4\x90\x80\x80" + b"edited" * 100
    stream = frame(TEXT, text, fin=fin)
    bad = len(stream) - len(text) + len("κόσμε".encode()) + 2  # beyond U+10FFFF: the second byte tells
    decoder = Decoder(PLAIN, parser)
    for at in range(bad):
        decoder.feed(stream[at : at + 1])
        event = decoder.next()
        assert (event is None) == (at < bad - 1), at
    assert isinstance(event, Failure)
    assert event.code == 1007


@pytest.mark.parametrize(
    "stream",
    [
        frame(BINARY, declared=1 << 40)[:10],
        frame(BINARY, b"x" * 600, fin=False) + frame(CONTINUATION, declared=401)[:4],
    ],
    ids=["one frame", "the second fragment"],
)
def test_a_message_over_the_limit_fails_before_its_payload_comes(parser: Parser, stream: bytes) -> None:
    (failure,) = decode(parser, [stream], Limits(max_size=1000))
    assert failure.code == 1009
    assert "1000 (websocket.max_size)" in failure.reason


def test_only_takes_nothing_that_has_to_be_fed(parser: Parser) -> None:
    """One short, whole message and nothing else; the rest is left as it was."""
    decoder = Decoder(Limits(max_size=100), parser)
    assert decoder.only(frame(TEXT, b"short")) == "short"
    assert decoder.only(frame(BINARY)) == b""
    other = [
        b"", b"\x81", frame(TEXT, b"two") * 2, frame(TEXT, b"x" * 101), frame(TEXT, b"x" * 126), frame(PING),
        frame(TEXT, b"begun", fin=False), frame(TEXT, b"flat", mask=None), frame(TEXT, b"bits", rsv=1),
        frame(TEXT, declared=4),
    ]  # fmt: skip
    assert [decoder.only(data) for data in other] == [None] * len(other)
    decoder.feed(frame(TEXT, b"a", fin=False))
    assert decoder.only(frame(TEXT, b"short")) is None
    decoder.finish()
    assert decoder.only(frame(TEXT, b"short")) is None


def test_a_parser_that_is_given_nonsense_says_so_and_serves_the_next() -> None:
    """It cannot happen; if it does, nothing of one client may reach another."""

    async def run() -> None:
        parser = Parser()
        for nonsense in (b"\x83\x80abcd", frame(TEXT, b"secret")[:-1], frame(CLOSE, b"\x00\x01")):
            with pytest.raises(RuntimeError, match="0 frames where there are 1"):
                parser.message(nonsense, text=True)
            assert parser.messages(frame(TEXT, b"mine") * 2, 2, text=True) == ["mine", "mine"]
        with pytest.raises(RuntimeError, match="2 frames where there are 1"):
            parser.message(frame(TEXT, b"secret") * 2, text=True)
        assert parser.message(frame(TEXT, b"mine"), text=True) == "mine"

    asyncio.run(run())


def test_one_parser_serves_connections_whose_messages_come_in_pieces_by_turns(parser: Parser) -> None:
    """It remembers nothing between two calls."""
    decoders = [Decoder(PLAIN, parser) for _ in range(7)]
    stream = frame(TEXT, b"a" * 1000, fin=False) + frame(PING) + frame(CONTINUATION, b"b" * 70_000)
    found: list[list[Any]] = [[] for _ in decoders]
    for at in range(0, len(stream), 777):
        for decoder, events in zip(decoders, found, strict=True):
            decoder.feed(stream[at : at + 777])
            while (event := decoder.next()) is not None:
                events.append(event)
    assert found == [[Ping(b""), "a" * 1000 + "b" * 70_000]] * 7
