"""The parsers of replies: for any bytes they end with a result or a documented error."""

from __future__ import annotations

import contextlib

import bson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire_servers import message
from zcli_mongodb import wire
from zcli_mongodb.backend import MongodbBackend
from zcli_nats.service import NatsBackend
from zcli_postgresql.protocol import messages
from zcli_postgresql.protocol import probe as postgresql_probe
from zcli_redis import resp
from zcli_redis.backend import RedisBackend

from zcli_core.services.contract import Exchange, NotThisService, Probe, ProbeResult, Reply, Target

# An example may take longer than usual on a busy machine.
BRIEF = settings(deadline=None, max_examples=60)

TARGET = Target("127.0.0.1", 1)
# Only configuration needs a context, and a probe is given its target.
REDIS = RedisBackend(None)  # type: ignore[arg-type]
MONGODB = MongodbBackend(None)  # type: ignore[arg-type]
NATS = NatsBackend(None)  # type: ignore[arg-type]

PROBES = {
    "postgresql": lambda: postgresql_probe("postgres", "postgres"),
    "redis": lambda: REDIS.probe(TARGET),
    "mongodb": lambda: MONGODB.probe(TARGET),
    "nats": lambda: NATS.probe(TARGET),
}

PIECES = st.sampled_from(
    (
        *(b"S", b"N", b"E", b"R", b"Z", b"\0\0\0\x08", b"\0\0\0\0"),
        *(b"+PONG\r\n", b"-NOAUTH x\r\n", b"*2\r\n", b"$3\r\nabc\r\n", b":1\r\n", b"*-1\r\n", b"$99999999999\r\n"),
        *(b'INFO {"server_id":"x"}\r\n', b"INFO [[\r\n", b"-ERR 'x'\r\n", b"PONG\r\n"),
        *(b"\xdd\x07\0\0", b"\0\0\0\x05", b"\xff\xff\xff\xff", b"\x15\x03\x01"),
    )
)
NOISE = st.one_of(st.binary(max_size=80), st.lists(PIECES, max_size=8).map(b"".join))


def converse(probe: Probe, replies: list[bytes]) -> ProbeResult:
    """Run a probe on these replies and then on a closed connection, and call each step's ``complete``."""
    remaining = iter(replies)
    try:
        step = next(probe)
        for _ in range(20):
            assert isinstance(step, Exchange)
            data = next(remaining, b"")
            if step.complete is not None:
                for end in range(len(data) + 1):
                    step.complete(data[:end])
            reply = Reply(data)
            reply.closed = not data
            step = probe.send(reply)
    except StopIteration as done:
        answer: ProbeResult = done.value
        return answer
    raise AssertionError("the probe goes on and on")


def _pg_error(code: str, message: str) -> bytes:
    body = f"SFATAL\0C{code}\0M{message}\0\0".encode()
    return b"E" + (len(body) + 4).to_bytes(4, "big") + body


def _hello(**fields: object) -> bytes:
    return message(1, bson.encode(fields))


_INFO = b'INFO {"server_id":"x"}\r\n'

#: What a server of the service says instead of serving: its replies, then (ready, needs_auth, part of the detail).
ERRORS = [
    ("redis", [b"-MISCONF Redis is unable to save\r\n"], (False, None, "unable to save")),
    ("redis", [b"-ERR max number of clients reached\r\n"], (False, None, "max number of clients")),
    ("redis", [b"-MASTERDOWN Link with MASTER is down\r\n"], (False, None, "MASTER is down")),
    ("redis", [b"-no upstream host\r\n"], (False, None, "no upstream host")),
    ("redis", [b"-NOAUTH Authentication required.\r\n"], (True, True, "")),
    ("redis", [b"-ERR unknown command 'PING'\r\n", b"$4\r\nzcli\r\n"], (True, False, "")),
    ("redis", [b"-ERR unknown command 'PING'\r\n", b"-LOADING loading\r\n"], (False, None, "loading")),
    ("redis", [b"-ERR unknown command 'PING'\r\n", b"-ERR unknown command 'ECHO'\r\n"], (True, None, "neither")),
    ("postgresql", [b"Ecould not fork new process: no memory\n\0"], (False, None, "could not fork")),
    ("postgresql", [b"N", _pg_error("53300", "too many clients")], (False, None, "too many clients")),
    ("postgresql", [b"N", _pg_error("57P03", "starting up")], (False, None, "starting up")),
    ("postgresql", [b"N", _pg_error("57P01", "terminating connection")], (False, None, "terminating")),
    (
        "postgresql",
        [b"N", _pg_error("08P01", "server login has been failing")],
        (False, None, "login has been failing"),
    ),
    ("postgresql", [b"S", _pg_error("28000", "requires a valid client certificate")], (True, True, "certificate")),
    ("postgresql", [b"N", _pg_error("3D000", "no such database")], (True, None, "no such database")),
    ("postgresql", [b"N", b""], (False, None, "login")),
    ("postgresql", [b"N", b"R\0\0\0\x08\0\0\0\0"], (False, None, "login")),
    ("mongodb", [_hello(ok=0.0, code=91, errmsg="shutting down")], (False, None, "shutting down")),
    ("mongodb", [_hello(ok=0.0, code=322, errmsg="apiVersion is required")], (True, None, "apiVersion")),
    (
        "mongodb",
        [_hello(ok=0.0, code=59, errmsg="no such command"), _hello(ok=1.0, ismaster=True, maxWireVersion=6)],
        (True, False, ""),
    ),
    ("nats", [_INFO + b"-ERR 'too many connections'\r\n"], (False, False, "too many connections")),
    ("nats", [_INFO, b"-ERR 'Authorization Violation'\r\n"], (True, True, "")),
    ("nats", [_INFO, b"INFO {}\r\nPONG\r\n"], (True, False, "")),
    ("nats", [_INFO], (False, False, "does not answer PING")),
]


@pytest.mark.parametrize(("service", "replies", "expected"), ERRORS)
def test_probe_error_of_the_protocol_is_a_result(
    service: str, replies: list[bytes], expected: tuple[bool, bool | None, str]
) -> None:
    """An error in the service's own protocol means that the service runs."""
    answer = converse(PROBES[service](), replies)
    assert (answer.ready, answer.needs_auth) == expected[:2]
    assert expected[2] in answer.detail


@pytest.mark.parametrize("service", PROBES)
@BRIEF
@given(replies=st.lists(NOISE, max_size=5))
def test_probe_ends_with_a_result_or_not_this_service(service: str, replies: list[bytes]) -> None:
    """Whatever bytes it receives."""
    with contextlib.suppress(NotThisService):
        assert isinstance(converse(PROBES[service](), replies), ProbeResult)


@BRIEF
@given(st.lists(st.tuples(st.sampled_from([b"R", b"S", b"E", b"Z", b"K"]), st.binary(max_size=20)), max_size=6))
def test_postgresql_messages_are_split_correctly(sent: list[tuple[bytes, bytes]]) -> None:
    """Joined messages are split into the same messages."""
    joined = b"".join(kind + (len(body) + 4).to_bytes(4, "big") + body for kind, body in sent)
    assert list(messages(joined)) == sent
    for end in range(len(joined)):
        assert list(messages(joined[:end])) == sent[: len(list(messages(joined[:end])))]


VALUES = st.recursive(
    st.one_of(st.integers(-(2**40), 2**40), st.binary(max_size=12), st.none()),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=12,
)


def _encoded(value: object) -> bytes:
    if isinstance(value, int):
        return b":%d\r\n" % value
    if value is None:
        return b"$-1\r\n"
    if isinstance(value, bytes):
        return b"$%d\r\n%s\r\n" % (len(value), value)
    assert isinstance(value, list)
    return b"*%d\r\n" % len(value) + b"".join(map(_encoded, value))


@BRIEF
@given(VALUES)
def test_redis_parser_reads_what_was_encoded(value: object) -> None:
    """An encoded value is parsed to the same value."""
    data = _encoded(value)
    assert resp.parse(data) == value
    assert not any(resp.is_complete(data[:end]) for end in range(len(data)))


@BRIEF
@given(NOISE)
def test_redis_parser_survives_any_bytes(data: bytes) -> None:
    """It raises only the errors that it documents."""
    resp.is_complete(data)
    with contextlib.suppress(resp.Incomplete, ValueError):
        resp.parse(data)


DOCUMENTS = st.recursive(
    st.one_of(
        st.integers(-(2**31), 2**31 - 1),
        st.floats(allow_nan=False),
        st.booleans(),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=10),
        st.none(),
    ),
    lambda inner: st.dictionaries(st.text("abc$", max_size=4), inner, max_size=4),
    max_leaves=10,
)


@BRIEF
@given(st.dictionaries(st.text("abcdef", max_size=6), DOCUMENTS, max_size=5))
def test_bson_parser_reads_what_pymongo_wrote(document: dict[str, object]) -> None:
    """The values of the types that a probe needs are the same."""
    data = message(7, bson.encode(document))
    assert wire.reply_to(7, data) == document
    assert wire.is_complete(data)
    assert not any(wire.is_complete(data[:end]) for end in range(len(data)))
    with pytest.raises(ValueError):
        wire.reply_to(8, data)


@BRIEF
@given(NOISE, st.integers(0, 60), st.binary(min_size=1, max_size=4))
def test_bson_parser_survives_any_bytes(noise: bytes, position: int, damage: bytes) -> None:
    """It raises only the errors that it documents."""
    whole = message(1, bson.encode({"ok": 1.0, "a": {"b": [1, "x", b"y", None]}, "c": bson.Regex("x"), "d": 2**40}))
    damaged = whole[:position] + damage + whole[position + len(damage) :]
    for data in (noise, damaged, message(1, noise)):
        wire.is_complete(data)
        with contextlib.suppress(ValueError):
            wire.reply_to(1, data)


def test_commands_are_readable_by_pymongo() -> None:
    """pymongo decodes a command to the same document."""
    data = wire.command(5, "listDatabases", nameOnly=True)
    assert int.from_bytes(data[:4], "little") == len(data)
    assert bson.decode(data[21:]) == {"listDatabases": 1, "nameOnly": True, "$db": "admin"}
    # The bytes that a MongoDB server was seen to accept as hello.
    recorded = (
        "34000000 01000000 00000000 dd070000 00000000 00 1f000000 1068656c6c6f0001000000"
        "0224646200 06000000 61646d696e00 00"
    )
    assert wire.command(1, "hello") == bytes.fromhex(recorded.replace(" ", ""))
