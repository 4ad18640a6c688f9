"""The protocols of Redis and NATS, byte by byte, and what a connection does with invalid data."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from engine_clients import run
from hypothesis import given
from hypothesis import strategies as st
from zcli_nats.stream import NatsStream
from zcli_redis_backplane.resp import ErrorReply, decode, encode

from zcli_core.backplane.parts.stream import EngineStream, Incomplete
from zcli_core.errors import BackplaneFailure

REDIS = (
    (b"+OK\r\n", b"OK"),
    (b":-7\r\n", -7),
    (b"$-1\r\n", None),
    (b"$0\r\n\r\n", b""),
    (b"$5\r\n\r\n$1\r\r\n", b"\r\n$1\r"),
    (b"*-1\r\n", None),
    (b"*0\r\n", []),
    (b"*2\r\n*1\r\n$1\r\na\r\n:1\r\n", [[b"a"], 1]),
    (b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n", [b"subscribe", b"a", 1]),
    (b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\n\r\n\r\n", (b"a", b"\r\n")),
    (b"*3\r\n$7\r\nmessage\r\n$0\r\n\r\n$0\r\n\r\n", (b"", b"")),
)
NATS = (
    (b"PING\r\n", [b"PING", b""]),
    (b"-ERR 'Stale Connection'\r\n", [b"-ERR", b"'Stale Connection'"]),
    (b'INFO {"max_payload":1}\r\n', [b"INFO", b'{"max_payload":1}']),
    (b"MSG zcli.61 12 0\r\n\r\n", (b"12", b"")),
    (b"MSG zcli.61 3 _INBOX.a 6\r\n\r\nMSG \r\n", (b"3", b"\r\nMSG ")),
)
#: The rest of a message that is invalid.
_BAD = (
    b"-1\r\n$1\r\na\r\n",
    b"1\r\nab$1\r\na\r\n",
    b"1\r\na\r\n$-1\r\n\r\n",
    b"1\r\na\r\n$1\r\nabc",
    b"x\r\n",
    b"1\r\na\r\n:1\r\n\r\n",
)
INVALID = (
    b"HTTP/1.1 200 OK\r\n",
    b"\0\0\0",
    b"$2\r\nabc\r\n",
    b"*2000000\r\n",
    b"$9999999999\r\n",
    b":1.5\r\n",
    b"\r\n",
)


class Recorder(EngineStream):
    """A stream that keeps what it decodes."""

    product = "a test"

    def __init__(self, decoder: Any) -> None:
        self.failures: list[BackplaneFailure] = []
        super().__init__("test://", self.failures.append)
        self._decoder = decoder
        self.replies: list[Any] = []

    def decode(self, data: bytes, start: int) -> tuple[Any, int]:
        return self._decoder(data, start)  # type: ignore[no-any-return]

    def handle(self, reply: Any) -> None:
        self.replies.append(reply)


def nats_decode(data: bytes, start: int) -> tuple[Any, int]:
    return NatsStream.decode(None, data, start)  # type: ignore[arg-type]


@pytest.mark.parametrize(("decoder", "samples"), [(decode, REDIS), (nats_decode, NATS)], ids=["redis", "nats"])
@given(cuts=st.sets(st.integers(1, 400)), order=st.integers(0, 50))
def test_protocol_any_cuts_give_the_same(decoder: Any, samples: Any, cuts: set[int], order: int) -> None:
    """Replies are the same however the network cuts the bytes."""
    turned = samples[order % len(samples) :] + samples[: order % len(samples)]
    data = b"".join(sample for sample, _ in turned)
    ends = sorted(cut for cut in cuts if cut < len(data))

    async def scenario() -> None:
        stream = Recorder(decoder)
        for start, end in zip([0, *ends], [*ends, len(data)], strict=True):
            stream.data_received(data[start:end])
        assert stream.replies == [reply for _, reply in turned]
        assert not stream.failures

    asyncio.run(scenario())


@pytest.mark.parametrize("decoder", [decode, nats_decode], ids=["redis", "nats"])
@given(data=st.binary(min_size=1, max_size=60))
def test_protocol_random_bytes_raise_value_error(decoder: Any, data: bytes) -> None:
    """Whatever comes, the decoder returns a reply, wants more, or raises ValueError."""
    end = 1
    with contextlib.suppress(ValueError, Incomplete):
        _, end = decoder(data, 0)
    assert 0 < end <= len(data)


@pytest.mark.parametrize("data", INVALID)
def test_redis_invalid_reply_raises(data: bytes) -> None:
    """Other protocols and invalid lengths are not a reply."""
    with pytest.raises(ValueError):  # noqa: PT012 - a reply may follow a valid one
        while True:
            _, end = decode(data, 0)
            data = data[end:]


@pytest.mark.parametrize(
    "data",
    [b"SSH-2.0-x\r\n\0", b"MSG a 1 -1\r\n", b"MSG a 1\r\n", b"MSG a 1 x\r\n", b"MSG a 1 1\r\nabc", b"x" * 300_000],
)
def test_nats_invalid_data_ends_the_connection(data: bytes) -> None:
    """The failure shows the beginning of what came."""

    async def scenario() -> None:
        failures: list[BackplaneFailure] = []
        stream = NatsStream("nats://test", failures.append, lambda name, data: None)
        stream.data_received(data)
        assert [failure.kind for failure in failures] == ["protocol"]
        assert "not a NATS server" in str(failures[0])
        with pytest.raises(BackplaneFailure):
            await stream.greeting()

    run(scenario())


@pytest.mark.parametrize("info", [b"INFO []\r\n", b"INFO {\r\n", b"INFO " + b"[" * 50_000 + b"\r\n"])
def test_nats_invalid_info_ends_the_connection(info: bytes) -> None:
    """Not even nested JSON is a crash."""

    async def scenario() -> None:
        failures: list[BackplaneFailure] = []
        NatsStream("nats://test", failures.append, lambda name, data: None).data_received(info)
        assert [failure.kind for failure in failures] == ["protocol"]

    run(scenario())


def test_redis_nested_lists_have_a_limit() -> None:
    """A reply cannot exhaust the stack."""
    with pytest.raises(ValueError, match="invalid length of a list"):
        decode(b"*1\r\n" * 1000, 0)


def test_redis_commands_are_encoded() -> None:
    """Text is UTF-8, and numbers are text."""
    assert encode("SET", b"\xff", "\u00e4", 7) == b"*4\r\n$3\r\nSET\r\n$1\r\n\xff\r\n$2\r\n\xc3\xa4\r\n$1\r\n7\r\n"
    reply, end = decode(b"-NOAUTH Authentication required.\r\n", 0)
    assert isinstance(reply, ErrorReply)
    assert (reply.word, end) == ("NOAUTH", 34)


def test_stream_waits_for_the_size_of_a_message() -> None:
    """A large message in many packets is looked at once when it is complete, not with each packet."""

    async def scenario() -> None:
        calls = 0

        def counting(data: bytes, start: int) -> tuple[Any, int]:
            nonlocal calls
            calls += 1
            return decode(data, start)

        stream = Recorder(counting)
        data = b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1000000\r\n" + bytes(1_000_000) + b"\r\n"
        for start in range(0, len(data), 1000):
            stream.data_received(data[start : start + 1000])
        assert stream.replies == [(b"a", bytes(1_000_000))]
        assert calls <= 3

    run(scenario())


def test_stream_reply_without_request_ends_it() -> None:
    """Replies without a request mean that requests and replies no longer match."""

    async def scenario() -> None:
        class Careless(Recorder):
            def handle(self, reply: Any) -> None:
                self.resolve(reply)

        stream = Careless(decode)
        stream.data_received(b"+OK\r\n")
        assert [failure.kind for failure in stream.failures] == ["protocol"]
        with pytest.raises(BackplaneFailure):
            await stream.request(b"")
        await stream.close()

    run(scenario())
