"""The backplane ``redis`` against a real Redis, and against servers that cannot be one."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import redis
from engine_clients import connected, frozen, make, peer, refused, resp_server, run
from engines import Inbox, RedisEngine
from service_servers import free_ports

from zcli_core.errors import BackplaneFailure
from zcli_core.testing import certificates


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisEngine]:
    with RedisEngine() as running:
        yield running


def client_of(engine: RedisEngine, **options: Any) -> redis.Redis:
    return redis.Redis(port=engine.port, password=engine.password, **options)


# --- messages ---


def test_redis_message_reaches_the_subscriber(engine: RedisEngine) -> None:
    """A message arrives as it was, and the publisher learns how many connections took it."""

    async def scenario() -> None:
        backplane = make("redis", url=engine.url)
        async with connected(backplane) as (one, inbox), connected(backplane) as (other, _):
            await one.subscribe(["r:news", "r:a b.*\u20ac"])
            assert await other.publish("r:news", b"") == 1
            assert await other.publish("r:a b.*\u20ac", b"\0\r\n$5\r\n") == 1
            assert await other.publish("r:nobody", b"x") == 0
            assert await inbox.received(2) == [("r:news", b""), ("r:a b.*\u20ac", b"\0\r\n$5\r\n")]

    run(scenario())


def test_redis_many_tasks_keep_order_and_counts(engine: RedisEngine) -> None:
    """Many publishes at once are sent in the order of the calls, and each gets its own result."""

    async def scenario() -> None:
        backplane = make("redis", url=engine.url)
        async with connected(backplane) as (one, inbox), connected(backplane) as (other, _):
            await one.subscribe(["even"])
            calls = (other.publish("even" if number % 2 == 0 else "odd", b"%d" % number) for number in range(2000))
            assert await asyncio.gather(*calls) == [1, 0] * 1000
            received = await inbox.received(1000)
            assert [int(data) for _, data in received] == list(range(0, 2000, 2))

    run(scenario())


def test_redis_large_message_arrives_whole(engine: RedisEngine) -> None:
    """A message of many packets arrives as it was."""

    async def scenario() -> None:
        data = bytes(range(256)) * 40_000
        async with connected(make("redis", url=engine.url)) as (connection, inbox):
            await connection.subscribe(["r"])
            assert await connection.publish("r", data) == 1
            assert await inbox.received(1) == [("r", data)]

    run(scenario())


def test_redis_foreign_message_arrives_as_bytes(engine: RedisEngine) -> None:
    """What another program publishes on a channel of ours is passed on as it is; only the core can judge it."""

    async def scenario() -> None:
        foreign = pickle.dumps({"method": "emit"})
        async with connected(make("redis", "shop", url=engine.url)) as (connection, inbox):
            await connection.subscribe(["all"])
            with client_of(engine) as client:
                client.publish("shop:all", foreign)
            assert await inbox.received(1) == [("all", foreign)]

    run(scenario())


def test_redis_namespaces_are_apart(engine: RedisEngine) -> None:
    """Two applications on one Redis see neither messages nor members of each other."""

    async def scenario() -> None:
        one, other = make("redis", url=engine.url), make("redis", url=engine.url)
        async with connected(one) as (first, inbox), connected(other) as (second, _):
            await first.subscribe(["all"])
            await second.beat(5)
            assert await second.publish("all", b"x") == 0
            assert await first.processes() == ()
            assert inbox.messages == []

    run(scenario())


def test_redis_unsubscribe_ends_the_messages(engine: RedisEngine) -> None:
    """No message arrives after it; nothing else is unsubscribed, also not by an empty list."""

    async def scenario() -> None:
        async with connected(make("redis", url=engine.url)) as (connection, inbox):
            await connection.subscribe(["a", "b"])
            await connection.unsubscribe(["b", "never"])
            await connection.unsubscribe([])
            await connection.subscribe([])
            assert await connection.publish("b", b"x") == 0
            assert await connection.publish("a", b"y") == 1
            assert await inbox.received(1) == [("a", b"y")]

    run(scenario())


def test_redis_subscribe_anew_while_unsubscribing(engine: RedisEngine) -> None:
    """The latest call counts."""

    async def scenario() -> None:
        async with connected(make("redis", url=engine.url)) as (connection, inbox):
            await connection.subscribe(["a"])
            await asyncio.gather(connection.unsubscribe(["a"]), connection.subscribe(["a"]))
            assert await connection.publish("a", b"x") == 1
            assert await inbox.received(1) == [("a", b"x")]

    run(scenario())


def test_redis_unix_socket_works(engine: RedisEngine) -> None:
    """A URL may name a Unix socket and a database."""

    async def scenario() -> None:
        backplane = make("redis", "unix", url=f"unix://{engine.path}?db=3")
        assert backplane.address == f"the socket {engine.path}"
        async with connected(backplane) as (connection, inbox):
            await connection.subscribe(["all"])
            await connection.publish("all", b"x")
            await inbox.received(1)
            await connection.beat(5)
            with client_of(engine, db=3) as client:
                assert client.exists("unix:lives")

    run(scenario())


# --- faults ---


def test_redis_killed_ends_everything_that_waits(tmp_path: Path) -> None:
    """The sink learns the end once, all calls fail with it, and a new connection works after a new start."""

    async def scenario() -> None:
        with RedisEngine() as engine:
            backplane = make("redis", url=engine.url)
            async with connected(backplane) as (connection, inbox):
                engine.freeze()
                calls = [asyncio.ensure_future(connection.publish("r", b"x")) for _ in range(3)]
                calls.append(asyncio.ensure_future(connection.subscribe(["a"])))
                for _ in range(5):
                    await asyncio.sleep(0)
                engine.kill()
                outcomes = await asyncio.gather(*calls, return_exceptions=True)
                failure = await inbox.ended()
                assert {getattr(each, "kind", each) for each in outcomes} == {"down"}
                assert str(failure) in {str(each) for each in outcomes}
                assert outcomes[0].maybe_delivered  # type: ignore[union-attr]
                await refused(connection.publish("r", b"x"), "down")
                await refused(backplane.connect("0" * 16, Inbox()), "down", backplane.address)
                engine.start()
                async with connected(backplane) as (again, _):
                    assert await again.publish("r", b"x") == 0

    run(scenario())


def test_redis_frozen_publish_may_be_given_up(tmp_path: Path) -> None:
    """A cancelled publish arrives at most once, and the results of the others are still their own."""

    async def scenario() -> None:
        with RedisEngine() as engine:
            async with connected(make("redis", url=engine.url)) as (connection, inbox):
                await connection.subscribe(["r"])
                with frozen(engine):
                    late = asyncio.ensure_future(connection.publish("r", b"late"))
                    for _ in range(5):
                        await asyncio.sleep(0)
                    late.cancel()
                    waiting = asyncio.ensure_future(connection.publish("nobody", b"x"))
                    await asyncio.sleep(0)
                assert await waiting == 0
                assert await connection.publish("r", b"end") == 1
                assert await inbox.received(2) == [("r", b"late"), ("r", b"end")]

    run(scenario())


def test_redis_frozen_drops_what_is_not_written(tmp_path: Path) -> None:
    """A publish that is given up while the socket takes no more is never sent."""

    async def scenario() -> None:
        with RedisEngine() as engine:
            async with connected(make("redis", url=engine.url)) as (connection, inbox):
                await connection.subscribe(["last", "dropped"])
                with frozen(engine):
                    calls = [asyncio.ensure_future(connection.publish("large", bytes(1 << 20))) for _ in range(20)]
                    for _ in range(5):
                        await asyncio.sleep(0)
                    dropped = asyncio.ensure_future(connection.publish("dropped", b"x"))
                    for _ in range(5):
                        await asyncio.sleep(0)
                    dropped.cancel()
                assert await asyncio.gather(*calls) == [0] * 20
                assert await connection.publish("last", b"x") == 1
                assert await inbox.received(1) == [("last", b"x")]

    run(scenario())


def test_redis_frozen_close_leaves_nothing(tmp_path: Path) -> None:
    """It does not wait for a server that reads nothing, although much waits to be sent."""

    async def scenario() -> None:
        with RedisEngine() as engine:
            inbox = Inbox()
            connection = await make("redis", url=engine.url).connect("0" * 16, inbox)
            await connection.beat(5)
            with frozen(engine):
                calls = [asyncio.ensure_future(connection.publish("r", bytes(1 << 20))) for _ in range(20)]
                for _ in range(5):  # until some of it has been written
                    await asyncio.sleep(0)
                await connection.close()
                await connection.close()
                outcomes = await asyncio.gather(*calls, return_exceptions=True)
                assert {getattr(each, "kind", each) for each in outcomes} == {"down"}
                assert not inbox.failures

    run(scenario())


def test_redis_cancelled_close_drops_both_sockets(engine: RedisEngine) -> None:
    """The end of an event loop cancels what closes the connection."""

    async def scenario() -> None:
        process = "c" * 16
        connection = await make("redis", url=engine.url).connect(process, Inbox())
        closing = asyncio.ensure_future(connection.close())
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.wait([closing])
        with redis.Redis(port=engine.port) as client:
            for _ in range(1000):
                if not any(each["name"] == f"zcli-{process}" for each in client.client_list()):
                    break
                await asyncio.sleep(0.002)
            else:
                pytest.fail("a socket is still open")
        await connection.close()

    run(scenario())


def test_redis_cuts_a_slow_subscriber_is_told(tmp_path: Path) -> None:
    """If the server disconnects a process that reads too slowly, the sink learns it."""

    async def scenario() -> None:
        with RedisEngine("--client-output-buffer-limit", "pubsub 64kb 64kb 1") as engine:
            async with connected(make("redis", "slow", url=engine.url)) as (connection, inbox):
                await connection.subscribe(["r"])
                # The event loop does not run meanwhile, so nothing reads.
                with client_of(engine) as client:
                    while client.publish("slow:r", bytes(1 << 20)):
                        pass
                assert (await inbox.ended()).kind == "down"
                await refused(connection.publish("r", b"x"), "down")

    run(scenario())


def test_redis_flood_lets_the_event_loop_run(engine: RedisEngine) -> None:
    """Other callbacks run after at most 256 messages."""

    async def scenario() -> None:
        async with connected(make("redis", "flood", url=engine.url)) as (connection, inbox):
            await connection.subscribe(["r"])
            with client_of(engine) as client:
                pipeline = client.pipeline(transaction=False)
                for _ in range(5000):
                    pipeline.publish("flood:r", b"x")
                pipeline.execute()
            steps = [0]
            while len(inbox.messages) < 5000:
                await asyncio.sleep(0)
                steps.append(len(inbox.messages))
            assert max(after - before for before, after in pairwise(steps)) <= 256

    run(scenario())


def test_redis_error_in_the_sink_ends_the_connection(engine: RedisEngine) -> None:
    """A bug must not leave a connection that is open and not read."""

    async def scenario() -> None:
        class Broken(Inbox):
            def message(self, channel: str, data: bytes) -> None:
                raise RuntimeError("a bug")

        inbox = Broken()
        connection = await make("redis", url=engine.url).connect("0" * 16, inbox)
        await connection.subscribe(["r"])
        await connection.publish("r", b"x")
        failure = await inbox.ended()
        assert failure.kind == "protocol"
        assert "a bug" in str(failure)
        await connection.close()

    run(scenario())


def test_redis_connect_cancelled_leaves_nothing(tmp_path: Path) -> None:
    """The core gives up when the time of connecting is over."""

    async def scenario() -> None:
        with RedisEngine() as engine, frozen(engine):
            call = asyncio.ensure_future(make("redis", url=engine.url).connect("0" * 16, Inbox()))
            for _ in range(20):
                await asyncio.sleep(0.001)
            assert not call.done()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call

    run(scenario())


# --- login ---


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisEngine]:
    """A Redis with a password, with an ACL user for the namespace ``shop``, and with one that may do almost nothing."""
    users = (
        ("--user", "ann on >wonderland +@all -@dangerous +info resetchannels &shop:* ~shop:*"),
        ("--user", "bob on >builder +publish +subscribe +unsubscribe +select &shop:* ~shop:*"),
    )
    options = [part for user in users for part in (user[0], *user[1].split())]
    with RedisEngine(*options, password="open-sesame") as running:
        yield running


def _url(engine: RedisEngine, login: str) -> str:
    return f"redis://{login}127.0.0.1:{engine.port}"


def test_redis_password_from_url_or_setting_works(guarded: RedisEngine) -> None:
    """Both ways log in."""

    async def scenario() -> None:
        for settings in (
            {"url": guarded.url},
            {"url": _url(guarded, ""), "password": "open-sesame"},
            {"url": _url(guarded, "ann:wonderland@")},
        ):
            async with connected(make("redis", "shop", **settings)) as (connection, _):
                await connection.subscribe(["r"])
                assert await connection.publish("r", b"x") == 1
                await connection.beat(5)

    run(scenario())


@pytest.mark.parametrize(
    ("login", "words"),
    [
        ("", "needs a password; set backplane.redis.url"),
        (":wrong-1@", r"refuses the user or the password; check backplane\.redis\.url \(zSpark\)"),
        ("eve:wrong-1@", r"refuses the user or the password; check backplane\.redis\.url \(zSpark\)"),
    ],
)
def test_redis_wrong_login_is_refused(guarded: RedisEngine, login: str, words: str) -> None:
    """The error says what to do, and does not show the password."""

    async def scenario() -> None:
        backplane = make("redis", url=_url(guarded, login))
        with pytest.raises(Exception, match=words) as raised:
            await backplane.connect("0" * 16, Inbox())
        assert getattr(raised.value, "kind", None) == "refused"
        assert "wrong-1" not in str(raised.value)
        assert "wrong-1" not in repr(vars(backplane))

    run(scenario())


def test_redis_password_of_a_server_without_is_refused(engine: RedisEngine) -> None:
    """A password that the server does not have is a mistake that the error names."""

    async def scenario() -> None:
        backplane = make("redis", url=_url(engine, ":secret-7@"))
        await refused(backplane.connect("0" * 16, Inbox()), "refused", "no password, but backplane.redis.url (zSpark)")

    run(scenario())


def test_redis_acl_refuses_another_namespace(guarded: RedisEngine) -> None:
    """The error says what the ACL must allow, and the connection stays usable."""

    async def scenario() -> None:
        async with connected(make("redis", "other", url=_url(guarded, "ann:wonderland@"))) as (connection, inbox):
            await refused(connection.subscribe(["a", "b"]), "refused", "ACL", "&<backplane.namespace>:*")
            await refused(connection.publish("a", b"x"), "refused", "ACL")
            await refused(connection.beat(5), "refused", "ACL")
            assert inbox.failures == []

    run(scenario())


def test_redis_user_with_few_rights_publishes(guarded: RedisEngine) -> None:
    """A user without INFO, CONFIG and CLIENT can publish, and the report says what it cannot check."""

    async def scenario() -> None:
        async with connected(make("redis", "shop", url=_url(guarded, "bob:builder@"))) as (connection, inbox):
            await connection.subscribe(["r"])
            assert await connection.publish("r", b"x") == 1
            await inbox.received(1)
            report = await connection.report(1000)
            assert report.engine == "Redis (unknown version)"
            assert len(report.problems) == 1
            assert "client-output-buffer-limit could not be read (NOPERM" in report.problems[0]

    run(scenario())


# --- TLS ---


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisEngine]:
    with RedisEngine("--tls-auth-clients", "yes", tls=True) as running:
        yield running


def _tls_files(engine: RedisEngine) -> dict[str, str]:
    names = {"ca_file": "ca", "client_cert": "client", "client_key": "key"}
    return {setting: str(engine.folder / f"{file}.pem") for setting, file in names.items()}


def test_redis_tls_with_client_certificate_works(encrypted: RedisEngine) -> None:
    """Messages arrive over TLS, and closing leaves nothing behind."""

    async def scenario() -> None:
        backplane = make("redis", url=encrypted.url, **_tls_files(encrypted))
        assert backplane.address == f"127.0.0.1:{encrypted.port} over TLS"
        async with connected(backplane) as (connection, inbox):
            await connection.subscribe(["r"])
            assert await connection.publish("r", bytes(100_000)) == 1
            await inbox.received(1)

    run(scenario())


def test_redis_tls_faults_are_named(encrypted: RedisEngine, tmp_path: Path) -> None:
    """An unknown authority, a missing client certificate, and TLS on one side only."""

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"-ERR Protocol error\r\n")
        await reader.read()

    async def scenario() -> None:
        async with peer(plain) as port:
            await check(port)

    async def check(port: int) -> None:
        files = _tls_files(encrypted)
        authority = tmp_path / "other.pem"
        authority.write_text(certificates.COMPANY)
        cases = (
            (encrypted.url, {**files, "ca_file": str(authority)}, "refused", "set backplane.redis.ca_file"),
            (encrypted.url, {"ca_file": files["ca_file"]}, "refused", "require a client certificate"),
            (encrypted.url.replace("rediss", "redis"), {}, "down", "rediss://"),
            (f"rediss://127.0.0.1:{port}", {"ca_file": files["ca_file"]}, "protocol", "without TLS"),
        )
        for url, settings, kind, word in cases:
            await refused(make("redis", url=url, **settings).connect("0" * 16, Inbox()), kind, word)

    run(scenario())


# --- engines that cannot be a backplane ---


def test_redis_replica_is_refused(engine: RedisEngine, tmp_path: Path) -> None:
    """A replica accepts subscriptions, but what is published elsewhere reaches it only from its primary."""

    async def scenario() -> None:
        with RedisEngine("--replicaof", f"127.0.0.1 {engine.port}") as replica:
            backplane = make("redis", url=replica.url)
            await refused(
                backplane.connect("0" * 16, Inbox()), "refused", "read-only replica", f"127.0.0.1:{engine.port}"
            )

    run(scenario())


def test_redis_that_becomes_a_replica_ends(tmp_path: Path) -> None:
    """After a failover, the next heartbeat ends the connection, so that the core connects again."""

    async def scenario() -> None:
        with RedisEngine() as engine:
            async with connected(make("redis", url=engine.url)) as (connection, inbox):
                await connection.beat(5)
                with client_of(engine) as client:
                    client.replicaof("127.0.0.1", free_ports(1)[0])
                await refused(connection.beat(5), "refused", "replica")
                assert (await inbox.ended()).kind == "refused"

    run(scenario())


def test_redis_without_free_place_is_refused(tmp_path: Path) -> None:
    """The limit of clients is a refusal, not a protocol error."""

    async def scenario() -> None:
        with RedisEngine("--maxclients", "1") as engine:
            backplane = make("redis", url=engine.url)
            await refused(backplane.connect("0" * 16, Inbox()), "refused", "max number of clients")

    run(scenario())


@pytest.mark.parametrize(
    ("info", "words"),
    [
        ("redis_version:5.0.14", "Redis 5.0.14 is too old"),
        ("redis_version:6.0.20", "install Redis 6.2 or later"),
        ("redis_version:7.2.4\r\nredis_mode:cluster", "a Redis Cluster is not supported"),
        ("redis_version:7.2.4\r\nrole:slave\r\nmaster_host:db\r\nmaster_port:6379", "replica; set .* (db:6379)"),
    ],
)
def test_redis_unsuitable_engine_is_refused(info: str, words: str) -> None:
    """The version, a cluster and a replica, as INFO states them."""

    async def scenario() -> None:
        async with resp_server({b"INFO": b"$%d\r\n%b\r\n" % (len(info), info.encode())}) as url:
            call = make("redis", url=url).connect("0" * 16, Inbox())
            await refused(call, "refused", *words.replace(" .* ", "\0").split("\0"))

    run(scenario())


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (b"MISCONF Redis is configured to save RDB snapshots, but", "refused", "cannot save its data"),
        (b"LOADING Redis is loading the dataset in memory", "down", "still loading"),
        (b"MOVED 1234 10.0.0.7:6379", "refused", "Cluster"),
        (b"ERR something\x1b[31m else", "refused", "it refuses: ERR something\\x1b[31m else"),
    ],
)
def test_redis_error_reply_becomes_a_failure(error: bytes, kind: str, words: str) -> None:
    """The error says what to do; text of the server is shown without control characters."""

    async def scenario() -> None:
        replies = {b"INFO": b"$0\r\n\r\n", b"SET": b"-%b\r\n" % error}
        async with resp_server(replies) as url, connected(make("redis", url=url)) as (connection, inbox):
            await refused(connection.beat(5), kind, words)
            assert inbox.failures == []

    run(scenario())


def test_redis_error_about_the_login_hides_it() -> None:
    """A server without AUTH repeats the password in its error."""

    async def scenario() -> None:
        error = b"-ERR unknown command 'AUTH', with args beginning with: 'secret-7'\r\n"
        async with resp_server({b"AUTH": error}) as url:
            with pytest.raises(BackplaneFailure, match="does not have the command AUTH") as raised:
                await make("redis", url=url, password="secret-7").connect("0" * 16, Inbox())
            assert "secret-7" not in str(raised.value)

    run(scenario())


@pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-x\r\n", b"*99999999\r\n", b"$-7\r\n"])
def test_redis_another_server_is_named(said: bytes) -> None:
    """What is not a reply of Redis ends the connection, and the error shows the beginning of it."""

    async def scenario() -> None:
        async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            writer.write(said)
            await reader.read()

        async with peer(other) as port:
            backplane = make("redis", url=f"redis://127.0.0.1:{port}")
            await refused(backplane.connect("0" * 16, Inbox()), "protocol", "not a Redis", said[:2].decode())

    run(scenario())


# --- the report ---


def test_redis_report_compares_the_buffer_limit(engine: RedisEngine) -> None:
    """A limit below the largest message disconnects every process, so the report names it."""

    async def scenario() -> None:
        async with connected(make("redis", url=engine.url)) as (connection, _):
            fine = await connection.report(1 << 20)
            assert fine.engine.split()[0] in ("Redis", "Valkey")
            assert fine.problems == ()
            small = await connection.report(64 << 20)
            assert ["client-output-buffer-limit is 33554432" in each for each in small.problems] == [True]

    run(scenario())


def test_redis_report_names_eviction(tmp_path: Path) -> None:
    """A server that removes keys when its memory is full removes clients from presence."""

    async def scenario() -> None:
        with RedisEngine("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru") as engine:
            async with connected(make("redis", url=engine.url)) as (connection, _):
                report = await connection.report(1000)
                assert ["maxmemory-policy is allkeys-lru" in each for each in report.problems] == [True]

    run(scenario())
