"""The ends of connections: the close handshake with its one deadline, keepalive, pings, the end of the listener."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from typing import Any

import pytest
from websocket_frames import BINARY, CLOSE, PING, PONG, TEXT, close, frame
from wsproto_server import Client, Echo, Frame, Server, read_all, until

from zcli_core.contracts.websocket import Closed, ClosedBy, Connection, Limits, State
from zcli_core.errors import ConnectionClosed

SOON = Limits(close_timeout=0.3)


def only(server: Server) -> Connection:
    """The connection of the only client."""
    return until(lambda: server.connections)[0]


# The close handshake --------------------------------------------------------------------------------------------


def test_a_close_by_the_server_is_finished_by_the_clients_answer() -> None:
    """Messages that cross it are dropped; the server closes TCP."""
    with Server() as server, server.connect() as client:
        connection = only(server)
        server.call(connection.close, 4000, "enough")
        assert connection.state is State.CLOSING
        assert client.read() == Frame(CLOSE, (4000).to_bytes(2, "big") + b"enough")
        client.send(frame(TEXT, b"crossing"), frame(PING), close(4000))
        assert client.read_to_end() == []
        assert server.wait(connection.wait_closed()) == (4000, "enough", ClosedBy.SERVER)
        assert (server.messages, connection.state) == ([], State.CLOSED)
        assert server.closed == [Closed(4000, "enough", ClosedBy.SERVER)]


def test_a_close_by_the_client_is_told_with_code_and_reason() -> None:
    """Once."""
    with Server() as server, server.connect() as client:
        client.send(close(3001, b"bye"))
        assert client.ending() == ([], 3001, "bye")
        client.sock.close()
        assert until(lambda: server.closed) == [Closed(3001, "bye", ClosedBy.CLIENT)]


@pytest.mark.parametrize("way", ["close", "reset"])
def test_a_client_that_vanishes_is_1006(way: str) -> None:
    """Nobody said goodbye."""
    with Server() as server:
        client = server.connect()
        until(lambda: server.connections)
        if way == "reset":
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.sock.close()
        (closed,) = until(lambda: server.closed)
        assert (closed.code, closed.by) == (1006, ClosedBy.NETWORK)
        assert closed.reason


@pytest.mark.parametrize("behaviour", ["silent", "drips", "floods", "half a frame"])
@pytest.mark.parametrize("begun_by", ["server", "client", "breach"])
def test_the_close_handshake_has_one_deadline(begun_by: str, behaviour: str) -> None:
    """Whatever the client does meanwhile."""
    with Server(SOON) as server, server.connect() as client:
        connection = only(server)
        if begun_by == "server":
            server.call(connection.close)
        else:
            client.send(close(1000) if begun_by == "client" else frame(3))
        data = {"silent": b"", "drips": b"\x81", "floods": frame(BINARY, bytes(50_000)), "half a frame": b"\x82\xff"}
        client.sock.settimeout(0.02)

        def gone() -> bool:
            client.try_to_send(data[behaviour])
            return bool(server.closed)

        until(gone)
        assert len(server.closed) == 1
        assert not server.listener.connections


def test_abort_drops_without_a_close_frame() -> None:
    """And what waits for the connection is told."""
    with Server() as server, server.connect() as client:
        connection = only(server)
        waiting = asyncio.run_coroutine_threadsafe(connection.wait_closed(), server.loop)
        server.call(connection.abort)
        assert read_all(client.sock) == b""
        assert waiting.result(10)[:2] == (1006, "dropped")


@pytest.mark.parametrize(
    ("code", "reason"), [(1005, ""), (1006, ""), (1015, ""), (65000, ""), (999, ""), (1000, "é" * 62)]
)
def test_a_close_that_may_not_be_sent_is_a_valueerror(code: int, reason: str) -> None:
    """And leaves the connection open."""
    with Server() as server, server.connect() as client:
        with pytest.raises(ValueError, match="RFC 6455"):
            server.call(only(server).close, code, reason)
        assert client.echo() == b"are you there?"


def test_nothing_can_be_sent_on_a_connection_that_closes() -> None:
    """send and ping raise, send_prepared says so, close is harmless."""
    with Server() as server, server.connect():
        connection = only(server)

        def use() -> None:
            unanswered = connection.ping()
            connection.close(1001, "over")
            for use in (lambda: connection.send("x"), connection.ping):
                with pytest.raises(ConnectionClosed) as caught:
                    use()
                assert (caught.value.code, caught.value.reason) == (1001, "over")
            assert not connection.send_prepared(server.listener.prepare("x"))
            assert isinstance(unanswered.exception(), ConnectionClosed)
            connection.close(1000)
            connection.resume_delivery()

        server.call(use)


@pytest.mark.parametrize("message", [3, None, ["x"], {"a": 1}])
def test_what_is_no_message_is_a_typeerror(message: Any) -> None:
    """The connection stays open."""
    with Server() as server, server.connect() as client:
        with pytest.raises(TypeError, match="str or bytes"):
            server.call(only(server).send, message)
        with pytest.raises(TypeError, match="str or bytes"):
            server.call(server.listener.prepare, message)
        assert client.echo() == b"are you there?"


# Answers before the end -----------------------------------------------------------------------------------------


class Busy(Echo):
    """Does not say that it has dealt with everything before it is asked to go on."""

    def end(self) -> bool:
        self.server.messages.append("end")
        return False


@pytest.mark.parametrize("ending", [close(1000), frame(3)], ids=["close", "breach"])
def test_what_came_before_the_end_is_answered_before_it(ending: bytes) -> None:
    """The close frame waits for resume_delivery."""
    with Server(receiver=Busy) as server, server.connect() as client:
        client.send(frame(TEXT, b"question"), ending)
        until(lambda: "end" in server.messages)
        connection = only(server)

        def answer_late() -> None:
            connection.send("late answer")
            connection.resume_delivery()

        server.call(answer_late)
        before, code, _ = client.ending()
        assert [frame_.payload for frame_ in before] == [b"question", b"late answer"]
        assert code in (1000, 1002)


def test_a_core_that_never_finishes_does_not_keep_a_client_that_closes() -> None:
    """It has half a second."""
    with Server(receiver=Busy) as server, server.connect() as client:
        client.send(close(1000))
        assert client.close_code() == 1000


# Pings and keepalive --------------------------------------------------------------------------------------------


def test_a_ping_gives_the_seconds_until_its_pong() -> None:
    """And the latency."""
    with Server() as server, server.connect() as client:
        connection = only(server)

        async def ping() -> float:
            return await connection.ping(b"p")

        waiting = asyncio.run_coroutine_threadsafe(ping(), server.loop)
        assert client.read() == Frame(PING, b"p")
        client.send(frame(PONG, b"other"), frame(PONG, b"p"))
        assert 0 < waiting.result(10) == connection.latency


def test_a_pong_answers_the_pings_before_it() -> None:
    """RFC 6455, 5.5.3; but not those after it."""
    with Server() as server, server.connect() as client:
        connection = only(server)
        futures = server.call(lambda: [connection.ping(b"%d" % at) for at in range(4)])
        client.send(frame(PONG, b"2"))
        until(futures[2].done)
        assert [future.done() for future in futures] == [True, True, True, False]


def test_a_ping_that_cannot_be_sent_is_a_valueerror() -> None:
    """Too long, or under way already."""
    with Server() as server, server.connect():
        connection = only(server)
        server.call(connection.ping, b"once")
        for payload in (b"once", b"x" * 126):
            with pytest.raises(ValueError, match="ping"):
                server.call(connection.ping, payload)


def test_a_silent_client_is_pinged_and_then_closed_with_1011() -> None:
    """And dropped when it does not answer that either."""
    with Server(Limits(ping_interval=0.1, ping_timeout=0.3, close_timeout=0.2)) as server, server.connect() as client:
        ping, last = client.read(), client.read()
        assert (ping.opcode, len(ping.payload)) == (PING, 4)
        assert last.opcode == CLOSE
        assert last.payload[:2] == (1011).to_bytes(2, "big")
        assert b"keepalive" in last.payload
        assert until(lambda: server.closed)[0].code == 1011


@pytest.mark.parametrize("sign", ["pong", "message", "a byte at a time"])
def test_any_byte_from_the_client_counts_as_life(sign: str) -> None:
    """A large upload on a slow line need not answer pings."""
    limits = Limits(ping_interval=0.4, ping_timeout=0.8)
    slow = iter(frame(BINARY, b"x" * 10_000))
    with Server(limits) as server, server.connect() as client:
        end = time.monotonic() + 2.5
        while time.monotonic() < end:
            if sign == "a byte at a time":
                client.send(bytes([next(slow)]))
            elif sign == "message":
                client.send(frame(TEXT, b"x"))
            else:
                client.send(frame(PONG, b"unasked"))
            time.sleep(0.02)
        assert server.closed == []


class Held(Echo):
    """Has its hands full and asks to wait."""

    def message(self, message: Any) -> bool:
        self.server.messages.append(message)
        return False


def test_a_client_that_we_do_not_listen_to_is_not_called_silent() -> None:
    """While the core holds delivery, reading is paused, and nothing can be heard."""
    limits = Limits(ping_interval=0.1, ping_timeout=0.1)
    with Server(limits, receiver=Held) as server, server.connect() as client:
        client.send(frame(TEXT, b"x"))
        until(lambda: server.messages)
        client.send(frame(TEXT, b"y"))  # read once more, then no longer
        pings = [client.read() for _ in range(8)]
        assert {ping.opcode for ping in pings} == {PING}
        assert server.closed == []


def test_pings_that_are_never_answered_are_not_collected() -> None:
    """A client may send for ever and answer none."""
    limits = Limits(ping_interval=0.1, ping_timeout=60)
    with Server(limits) as server, server.connect() as client:
        for _ in range(5):
            assert client.read().opcode == PING
            client.send(frame(PONG, b"not the answer"))
        pings = only(server)._pings  # type: ignore[attr-defined]
        assert len(pings._sent) == 1


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="the system has no SIGKILL")
def test_a_client_that_is_killed_is_gone_once() -> None:
    """The system closes its socket."""
    code = (
        "import socket, sys; s = socket.create_connection(('127.0.0.1', int(sys.argv[1])));"
        "s.sendall(sys.stdin.buffer.read()); print(s.recv(1), flush=True); s.recv(100000); s.recv(1)"
    )
    from wsproto_server import upgrade_request

    with Server() as server:
        command = [sys.executable, "-c", code, str(server.port)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(upgrade_request())
            process.stdin.close()
            assert process.stdout.readline() == b"b'H'\n"
            os.kill(process.pid, signal.SIGKILL)
        until(lambda: server.closed)
        assert [closed.code for closed in server.closed] == [1006]


# The end of the listener ----------------------------------------------------------------------------------------


def test_a_listener_that_closes_says_1001_to_all_and_leaves_nothing() -> None:
    """Whoever answers is gone at once, whoever does not after ``close_timeout``."""
    with Server(SOON) as server:
        clients = [server.connect() for _ in range(30)]
        silent = server.connect()
        until(lambda: len(server.connections) == 31)
        closing = asyncio.run_coroutine_threadsafe(server.listener.close(1001, "going"), server.loop)
        for client in clients:
            assert client.read() == Frame(CLOSE, (1001).to_bytes(2, "big") + b"going")
            client.send(close(1001))
            assert client.read_to_end() == []
        closing.result(10)
        assert len(server.closed) == 31
        assert {closed[:2] for closed in server.closed} == {(1001, "going")}
        assert not server.listener.connections
        assert silent.ending()[1] == 1001
        for client in clients:
            client.sock.close()
        silent.sock.close()


def test_a_listener_that_has_closed_leaves_no_timer_and_no_task() -> None:
    """The loop is as it was before."""

    async def scenario() -> None:
        import logging

        from zcli_wsproto.transport import WsprotoTransport

        from zcli_core.contracts.websocket import Endpoint

        server = Server(Limits(close_timeout=0.2))
        server.loop = asyncio.get_running_loop()
        server.listener = await WsprotoTransport(logging.getLogger("zcli.test")).listen(
            Endpoint(port=0), server, server.limits
        )
        clients = await asyncio.gather(*[asyncio.to_thread(Client, server) for _ in range(3)])
        bare = server.socket()
        while len(server.listener.openings) != 1:
            await asyncio.sleep(0.005)
        await server.listener.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        for client in clients:
            client.sock.close()
        bare.close()
        await asyncio.sleep(0)
        timers = [timer for timer in server.loop._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]
        assert timers == []

    asyncio.run(scenario())
