"""The backplane ``nats`` against a real NATS: what the contract suite does not know."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_clients import connected, frozen, make, peer, refused, run
from engines import Inbox, NatsEngine
from nats_accounts import make_accounts

from zcli_core.errors import BackplaneFailure


@pytest.fixture(scope="module")
def engine() -> Iterator[NatsEngine]:
    with NatsEngine() as running:
        yield running


def test_nats_foreign_message_arrives_as_bytes(engine: NatsEngine) -> None:
    """What another program publishes on a subject of ours, also with headers, is passed on as it is."""

    async def scenario() -> None:
        async with connected(make("nats", "shop", url=engine.url)) as (connection, inbox):
            await connection.subscribe(["all"])
            subject = b"shop." + b"all".hex().encode()
            with socket.create_connection(("127.0.0.1", engine.port)) as foreign:
                foreign.sendall(b'CONNECT {"headers":true,"verbose":false}\r\n')
                foreign.sendall(b"PUB %b reply.to 3\r\n\x80\x04.\r\n" % subject)
                foreign.sendall(b"HPUB %b 18 19\r\nNATS/1.0\r\nA: b\r\n\r\nx\r\nPING\r\n" % subject)
                assert await inbox.received(2) == [("all", b"\x80\x04."), ("all", b"x")]

    run(scenario())


def test_nats_names_of_channels_are_free(engine: NatsEngine) -> None:
    """Characters that NATS does not allow in a subject, or that are wildcards, work."""

    async def scenario() -> None:
        names = ["r:*", "r:>", "r:a b", "r:a.b", "r:\u20ac", "r:" + "x" * 255]
        async with connected(make("nats", url=engine.url)) as (connection, inbox):
            await connection.subscribe(names)
            for name in names:
                await connection.publish(name, name.encode())
            assert await inbox.received(len(names)) == [(name, name.encode()) for name in names]

    run(scenario())


def test_nats_publish_returns_when_the_server_has_it(engine: NatsEngine) -> None:
    """A frozen server confirms nothing, so the core notices it; what was given up before it was sent is not sent."""

    async def scenario() -> None:
        async with connected(make("nats", url=engine.url)) as (connection, inbox):
            await connection.subscribe(["r"])
            with frozen(engine):
                given_up = asyncio.ensure_future(connection.publish("r", b"given up"))
                kept = asyncio.ensure_future(connection.publish("r", b"kept"))
                await asyncio.sleep(0)
                given_up.cancel()
                for _ in range(50):
                    await asyncio.sleep(0.001)
                assert not kept.done()
            await kept
            assert await inbox.received(1) == [("r", b"kept")]

    run(scenario())


def test_nats_given_up_subscribe_counts(engine: NatsEngine) -> None:
    """A subscription that was given up in a freeze is there afterwards, or is made by the next call; never deaf."""

    async def scenario() -> None:
        async with connected(make("nats", url=engine.url)) as (connection, inbox):
            for wait in (0, 1, 3):
                with frozen(engine):
                    call = asyncio.ensure_future(connection.subscribe([f"r{wait}"]))
                    for _ in range(wait):
                        await asyncio.sleep(0)
                    call.cancel()
                    await asyncio.wait({call})
                await connection.subscribe([f"r{wait}"])
                await connection.publish(f"r{wait}", b"x")
                await inbox.received(1)
                inbox.messages.clear()

    run(scenario())


def test_nats_too_large_hurts_nobody(engine: NatsEngine) -> None:
    """The limit of the server is checked before, because the server would end the connection."""

    async def scenario() -> None:
        async with connected(make("nats", url=engine.url)) as (connection, inbox):
            assert connection.max_payload == 1 << 20
            await refused(connection.publish("r", bytes((1 << 20) + 1)), "too_large", "1048577 bytes", "max_payload")
            await connection.subscribe(["r"])
            await connection.publish("r", bytes(1 << 20))
            assert await inbox.received(1) == [("r", bytes(1 << 20))]

    run(scenario())


def test_nats_report_compares_the_size() -> None:
    """A max_payload below the largest message is named."""

    async def scenario() -> None:
        with NatsEngine("max_payload: 1000") as engine:
            async with connected(make("nats", url=engine.url)) as (connection, _):
                report = await connection.report(1000)
                assert report.engine.startswith("NATS 2.")
                assert report.problems == ()
                (problem,) = (await connection.report(1001)).problems
                assert "max_payload is 1000 bytes" in problem

    run(scenario())


def test_nats_close_while_frozen_leaves_nothing(engine: NatsEngine) -> None:
    """It does not wait for a server that reads nothing, although much waits to be sent."""

    async def scenario() -> None:
        inbox = Inbox()
        connection = await make("nats", url=engine.url).connect("0" * 16, inbox)
        with frozen(engine):
            calls = [asyncio.ensure_future(connection.publish("r", bytes(1 << 20))) for _ in range(20)]
            for _ in range(5):  # until some of it has been written
                await asyncio.sleep(0)
            await connection.close()
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            assert {getattr(each, "kind", each) for each in outcomes} == {"down"}
            assert not inbox.failures

    run(scenario())


# --- login ---


@pytest.fixture(scope="module")
def guarded() -> Iterator[NatsEngine]:
    users = (
        "authorization { users: ["
        "{ user: ann, password: wonderland }, "
        "{ user: bob, password: builder, permissions: { publish: 'shop.>', subscribe: 'shop.72' } }"
        "] }"
    )
    with NatsEngine(users) as running:
        yield running


@pytest.mark.parametrize(
    ("login", "settings", "words"),
    [
        ("", {}, r"set backplane\.nats\.url"),
        ("ann:wrong-1@", {}, r"check backplane\.nats\.url \(zSpark\)"),
        ("wrong-1@", {}, r"check backplane\.nats\.url \(zSpark\)"),
        ("", {"token": "wrong-1"}, r"check backplane\.nats\.token \(zSpark\)"),
        ("", {"user": "ann", "password": "wrong-1"}, r"check backplane\.nats\.password \(zSpark\)"),
    ],
)
def test_nats_wrong_login_is_refused(guarded: NatsEngine, login: str, settings: dict[str, str], words: str) -> None:
    """The error says what to do, and does not show the password."""

    async def scenario() -> None:
        backplane = make("nats", url=f"nats://{login}127.0.0.1:{guarded.port}", **settings)
        with pytest.raises(BackplaneFailure, match=words) as raised:
            await backplane.connect("0" * 16, Inbox())
        assert raised.value.kind == "refused"
        assert "wrong-1" not in str(raised.value)

    run(scenario())


def test_nats_user_and_token_log_in(guarded: NatsEngine) -> None:
    """In the URL or as settings."""

    async def scenario() -> None:
        with NatsEngine("authorization { token: 'open-sesame' }") as by_token:
            for settings in (
                {"url": f"nats://ann:wonderland@127.0.0.1:{guarded.port}"},
                {"url": guarded.url, "user": "ann", "password": "wonderland"},
                {"url": f"nats://open-sesame@127.0.0.1:{by_token.port}"},
                {"url": by_token.url, "token": "open-sesame"},
            ):
                async with connected(make("nats", **settings)) as (connection, inbox):
                    await connection.subscribe(["r"])
                    await connection.publish("r", b"x")
                    await inbox.received(1)

    run(scenario())


def test_nats_permissions_refuse_one_call_only(guarded: NatsEngine) -> None:
    """Each call gets its own refusal, also among others, and the connection stays usable."""

    async def scenario() -> None:
        login = {"url": guarded.url, "user": "bob", "password": "builder"}
        async with connected(make("nats", "shop", **login)) as (connection, inbox):
            calls = [connection.subscribe([name]) for name in ("r", "s", "r")]
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            assert [getattr(each, "kind", each) for each in outcomes] == [None, "refused", None]
            await refused(connection.subscribe(["s"]), "refused")
            await connection.publish("r", b"x")
            assert await inbox.received(1) == [("r", b"x")]
            assert not inbox.failures
        async with connected(make("nats", "other", **login)) as (connection, _):
            await refused(connection.publish("r", b"x"), "refused", "<backplane.namespace>.>")

    run(scenario())


def test_nats_credentials_file_logs_in(tmp_path: Path) -> None:
    """The key of the file signs what the server sends; another key is refused."""
    configuration, credentials = make_accounts()
    file, other = tmp_path / "user.creds", tmp_path / "other.creds"
    file.write_text(credentials)
    other.write_text(make_accounts()[1])

    async def scenario() -> None:
        with NatsEngine(configuration) as engine:
            async with connected(make("nats", url=engine.url, credentials_file=str(file))) as (connection, inbox):
                await connection.subscribe(["r"])
                await connection.publish("r", b"x")
                await inbox.received(1)
            stranger = make("nats", url=engine.url, credentials_file=str(other))
            await refused(stranger.connect("0" * 16, Inbox()), "refused", "credentials_file")

    run(scenario())


# --- TLS ---


def test_nats_tls_works_and_its_faults_are_named(engine: NatsEngine, tmp_path: Path) -> None:
    """A server that requires TLS gets it also for a nats:// URL, and a tls:// URL refuses a server without."""

    async def scenario() -> None:
        with NatsEngine(tls=True) as encrypted:
            authority = str(encrypted.folder / "ca.pem")
            for url in (encrypted.url, encrypted.url.replace("tls", "nats")):
                async with connected(make("nats", url=url, ca_file=authority)) as (connection, inbox):
                    await connection.subscribe(["r"])
                    await connection.publish("r", bytes(100_000))
                    await inbox.received(1)
            stranger = make("nats", url=encrypted.url, ca_file=str(encrypted.folder / "company.pem"))
            await refused(stranger.connect("0" * 16, Inbox()), "refused", "set backplane.nats.ca_file")
        strict = make("nats", url=engine.url.replace("nats", "tls"))
        await refused(strict.connect("0" * 16, Inbox()), "refused", "it offers no TLS")

    run(scenario())


def test_nats_tls_client_certificate_is_needed() -> None:
    """A server that requires a client certificate gets it, and is named if it does not."""

    async def scenario() -> None:
        with NatsEngine(tls=True, client_certificates=True) as engine:
            files = {"ca_file": str(engine.folder / "ca.pem")}
            await refused(make("nats", url=engine.url, **files).connect("0" * 16, Inbox()), "refused", "certificate")
            files |= {"client_cert": str(engine.folder / "client.pem"), "client_key": str(engine.folder / "key.pem")}
            async with connected(make("nats", url=engine.url, **files)) as (connection, _):
                await connection.publish("r", b"x")

    run(scenario())


# --- servers that end it ---


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (b"'Stale Connection'", "refused", "Stale Connection"),
        (b"'Slow Consumer Detected'", "down", "reading too slowly"),
        (b"'maximum connections exceeded'", "refused", "no free place"),
        (b"'User Authentication Revoked'", "refused", "was revoked"),
    ],
)
def test_nats_error_ends_the_connection(error: bytes, kind: str, words: str) -> None:
    """An error that the server closes the connection for is the reason of the end."""

    async def scenario() -> None:
        ready = asyncio.Event()

        async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b'INFO {"version":"2.0.0","max_payload":100}\r\n')
            await reader.readuntil(b"PING\r\n")
            writer.write(b"PONG\r\n+OK\r\nPING\r\n")
            await reader.readuntil(b"PONG\r\n")
            await ready.wait()
            writer.write(b"-ERR %b\r\n" % error)
            writer.close()

        async with peer(server) as port, connected(make("nats", url=f"nats://127.0.0.1:{port}")) as (_, inbox):
            ready.set()
            failure = await inbox.ended()
            assert failure.kind == kind
            assert words in str(failure)

    run(scenario())


def test_nats_changed_info_is_followed() -> None:
    """A server that was reconfigured says so."""

    async def scenario() -> None:
        async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b'INFO {"version":"2.0.0","max_payload":100}\r\n')
            await reader.readuntil(b"PING\r\n")
            writer.write(b'INFO {"max_payload":50}\r\nPONG\r\n')
            await reader.read()

        async with peer(server) as port, connected(make("nats", url=f"nats://127.0.0.1:{port}")) as (connection, _):
            assert connection.max_payload == 50
            await refused(connection.publish("r", bytes(51)), "too_large")

    run(scenario())
