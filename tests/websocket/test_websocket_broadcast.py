"""Broadcast, publish and send: to whom, from where, and what a client that does not read costs the others."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from websocket_serving import DEADLINE, Served, eventually

Serve = Callable[..., Served]


def _clients(stack: contextlib.ExitStack, served: Served, count: int) -> list[Any]:
    clients = [stack.enter_context(served.client()) for _ in range(count)]
    eventually(lambda: served.websocket.client_count == count)
    return clients


def test_broadcast_reaches_everybody_but_the_excluded_and_says_how_many(serve: Serve) -> None:
    """The guide's handler."""
    counts: list[int] = []

    async def handler(websocket: Any, message: str) -> None:
        counts.append(await served.websocket.broadcast(f"{message}!", exclude=websocket))

    served = serve(handler)
    with contextlib.ExitStack() as stack:
        first, *others = _clients(stack, served, 4)
        first.send("hello")
        assert [client.recv(timeout=DEADLINE) for client in others] == ["hello!"] * 3
        with pytest.raises(TimeoutError):
            first.recv(timeout=0.1)
    assert counts == [3]


def test_publish_reaches_everybody_from_any_thread(serve: Serve) -> None:
    """Without waiting; the future has the count. In one thread's order."""
    served = serve()
    with contextlib.ExitStack() as stack:
        clients = _clients(stack, served, 3)
        with ThreadPoolExecutor(4) as pool:
            counts = list(pool.map(lambda number: served.websocket.publish(f"{number}").result(DEADLINE), range(40)))
        assert counts == [3] * 40
        for client in clients:
            assert sorted(int(client.recv(timeout=DEADLINE)) for _ in range(40)) == list(range(40))
        served.websocket.publish(b"one")
        served.websocket.publish("two")
        assert [clients[0].recv(timeout=DEADLINE) for _ in range(2)] == [b"one", "two"]


def test_publish_to_one_client_or_to_all_but_several(serve: Serve) -> None:
    """``to`` names one, ``exclude`` one or several."""
    served = serve()
    with contextlib.ExitStack() as stack:
        clients = _clients(stack, served, 3)
        connections = served.websocket.clients
        assert served.websocket.publish("for you", to=connections[1]).result(DEADLINE) == 1
        assert served.websocket.publish("rest", exclude=connections[1:]).result(DEADLINE) == 1
        assert clients[1].recv(timeout=DEADLINE) == "for you"
        assert clients[0].recv(timeout=DEADLINE) == "rest"
        clients[1].close()
        eventually(lambda: served.websocket.client_count == 2)
        assert served.websocket.publish("anybody?", to=connections[1]).result(DEADLINE) == 0


@pytest.mark.parametrize("how", ["publish", "broadcast in a handler", "broadcast elsewhere"])
@pytest.mark.parametrize(
    ("pick", "expected"),
    [
        (lambda clients: clients[0], [0]),
        (lambda clients: clients[0].blocking, [0]),
        (lambda clients: clients[:2], [0, 1]),
        (lambda clients: (client for client in clients[1:]), [1, 2]),
        (lambda clients: [clients[1], clients[1].blocking, clients[1]], [1]),
        (lambda clients: {"a": clients[2]}.values(), [2]),
        (lambda clients: [], []),
        (lambda clients: set(), []),
    ],
    ids=["one", "blocking", "several", "generator", "twice", "values", "none in a list", "none in a set"],
)
def test_recipients_get_a_message_once_each(serve: Serve, pick: Any, expected: list[int], how: str) -> None:
    """And nobody else, whichever way it is sent."""
    found: list[int] = []

    async def handler(websocket: Any, message: str) -> None:
        found.append(await served.websocket.broadcast("chosen", to=pick(served.websocket.clients)))

    served = serve(handler)
    with contextlib.ExitStack() as stack:
        clients = _clients(stack, served, 3)
        to = pick(served.websocket.clients)
        if how == "publish":
            found.append(served.websocket.publish("chosen", to=to).result(DEADLINE))
        elif how == "broadcast elsewhere":
            found.append(asyncio.run(served.websocket.broadcast("chosen", to=to)))
        else:
            clients[0].send("go")
        eventually(lambda: found)
        assert served.websocket.publish("end").result(DEADLINE) == 3
        for place, client in enumerate(clients):
            messages = [client.recv(timeout=DEADLINE)]
            while messages[-1] != "end":
                messages.append(client.recv(timeout=DEADLINE))
            assert messages == ["chosen"] * (place in expected) + ["end"]
    assert found == [len(expected)]


@pytest.mark.parametrize("wrong", [None, "alice", 5, [None], {"alice": 1}, b"x"])
def test_recipients_that_are_not_clients_raise(serve: Serve, wrong: Any) -> None:
    """None too: a script that looks for a client and finds none must not speak to everybody."""
    served = serve()
    with served.client() as client:
        eventually(lambda: served.websocket.client_count == 1)
        with pytest.raises(TypeError, match=r"^(each item of )?to must be a client\b.*, got (None|str|int|bytes)"):
            served.websocket.publish("secret", to=wrong)
        with pytest.raises(TypeError, match=r"^(each item of )?to must be a client\b.*, got (None|str|int|bytes)"):
            asyncio.run(served.websocket.broadcast("secret", to=wrong))
        with pytest.raises(TypeError, match="client must be a client"):
            asyncio.run(served.websocket.send(wrong, "secret"))
        served.websocket.publish("end")
        assert client.recv(timeout=DEADLINE) == "end"


def test_excluded_recipients_get_nothing(serve: Serve) -> None:
    """Also if they are among those to send to."""
    served = serve()
    with contextlib.ExitStack() as stack:
        clients = _clients(stack, served, 3)
        connections = served.websocket.clients
        assert served.websocket.publish("x", to=connections[:2], exclude=connections[0]).result(DEADLINE) == 1
        assert served.websocket.publish("end").result(DEADLINE) == 3
        assert [client.recv(timeout=DEADLINE) for client in clients] == ["end", "x", "end"]


def test_broadcast_and_send_work_in_another_event_loop(serve: Serve) -> None:
    """A script with a loop of its own awaits them there."""
    served = serve()

    async def elsewhere() -> list[Any]:
        (connection,) = served.websocket.clients
        return [
            await served.websocket.broadcast("to all"),
            await served.websocket.send(connection, "to you"),
        ]

    with served.client() as client:
        eventually(lambda: served.websocket.client_count == 1)
        assert asyncio.run(elsewhere()) == [1, True]
        assert [client.recv(timeout=DEADLINE) for _ in range(2)] == ["to all", "to you"]


def test_send_says_whether_the_client_was_still_there(serve: Serve) -> None:
    """A client that has gone is no error."""
    sent: list[bool] = []

    async def handler(websocket: Any, message: str) -> None:
        sent.extend([await served.websocket.send(other, "hello") for other in known])

    served = serve(handler)
    with served.client() as asking:
        with served.client() as other:
            eventually(lambda: served.websocket.client_count == 2)
            known = served.websocket.clients
        eventually(lambda: served.websocket.client_count == 1)
        asking.send("go")
        assert asking.recv(timeout=DEADLINE) == "hello"
        eventually(lambda: sent == [True, False])
        assert other.state.name == "CLOSED"


def test_without_a_running_server_nobody_is_reached(make_z: Any) -> None:
    """Zero clients is a count, not an error: a publisher's thread need not know when the server stops."""
    server = make_z().comm.websocket
    assert server.publish("hello").result(0) == 0
    assert asyncio.run(server.broadcast("hello")) == 0
    assert (server.clients, server.client_count, server.slow_client_count, server.url) == ((), 0, 0, None)


@pytest.mark.parametrize("wrong", ["alice", 5, ["alice"]])
def test_what_is_no_client_cannot_be_excluded(serve: Serve, wrong: Any) -> None:
    """A mistake, said at once."""
    with pytest.raises(TypeError, match=r"^(each item of )?exclude must be a client\b.*, got (str|int)"):
        serve().websocket.publish("hello", exclude=wrong)


def _lazy_client(served: Served) -> socket.socket:
    """A client that opens and never reads again."""
    lazy = socket.socket()
    lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    lazy.connect(("127.0.0.1", served.port))
    lazy.sendall(
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    return lazy


def test_a_client_that_stops_reading_is_dropped_and_disturbs_nobody(serve: Serve) -> None:
    """Of 10,000 messages the others get all; it is closed with 1013 and counted, and what waits for it is bounded."""
    limit = 256 * 1024
    served = serve(max_send_buffer=limit)
    count, size = 10_000, 1024  # more than the system buffers
    received: list[int] = []

    def read_all(client: Any) -> None:
        received.append(sum(len(client.recv(timeout=DEADLINE)) == size for _ in range(count)))

    with contextlib.ExitStack() as stack, _lazy_client(served) as lazy:
        clients = _clients_beside(stack, served, 2, 3)
        (connection,) = [c for c in served.websocket.clients if c.remote_address == lazy.getsockname()]
        readers = [threading.Thread(target=read_all, args=(client,)) for client in clients]
        for reader in readers:
            reader.start()
        largest = 0
        for _ in range(count):
            served.websocket.publish("x" * size).result(DEADLINE)
            largest = max(largest, connection._connection.write_buffer_size)
        for reader in readers:
            reader.join(DEADLINE)
        assert received == [count, count]
        eventually(lambda: served.websocket.slow_client_count == 1)
        assert largest < limit + 64 * 1024
        eventually(lambda: connection.close_code == 1013)
    served.logged("read too slowly and was dropped")
    served.handle.stop()
    assert "1 had been dropped for reading too slowly" in served.log()


def test_client_that_closes_with_1013_is_not_slow(serve: Serve) -> None:
    """Only a client that the server closes with this code counts as one that read too slowly."""
    served = serve()
    with served.client() as client:
        client.close(1013, "later")
    served.logged("left: closed by the client, 1013 'later'")
    assert served.websocket.slow_client_count == 0


def _clients_beside(stack: contextlib.ExitStack, served: Served, count: int, total: int) -> list[Any]:
    clients = [stack.enter_context(served.client()) for _ in range(count)]
    eventually(lambda: served.websocket.client_count == total)
    return clients


def test_a_handler_that_answers_a_client_that_does_not_read_waits_and_no_other_does(serve: Serve) -> None:
    """Sending one by one holds the sender back instead: that is what ``await`` is for."""
    sent = 0
    limit = 1024 * 1024

    async def flood(websocket: Any) -> None:
        nonlocal sent
        if websocket.path == "/flood":
            return
        for _ in range(1000):
            await websocket.send(b"x" * 10_000)
            sent += 1

    async def echo(websocket: Any, message: str) -> None:
        await websocket.send(message)

    served = serve(echo, on_connect=flood, max_send_buffer=limit)
    with _lazy_client(served):
        eventually(lambda: sent > 0)
        with served.client("/flood") as other:
            other.send("hello")
            assert other.recv(timeout=DEADLINE) == "hello"
        (slow,) = eventually(lambda: [c for c in served.websocket.clients if c.path == "/"])
        assert slow._connection.write_buffer_size <= limit
        assert sent < 1000


def test_a_broadcast_is_encoded_once_for_all(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are."""
    served = serve()
    with contextlib.ExitStack() as stack:
        _clients(stack, served, 5)
        listener = served.websocket._server.listener
        prepared: list[str] = []
        original = listener.prepare
        monkeypatch.setattr(listener, "prepare", lambda message: (prepared.append(message), original(message))[1])
        assert served.websocket.publish("hello").result(DEADLINE) == 5
    assert prepared == ["hello"]


def test_a_broadcast_that_runs_into_the_end_of_the_server_is_told(serve: Serve) -> None:
    """Whoever waits for a count gets one, whenever the server stops."""
    served = serve()
    futures = []
    with served.client() as client:
        stopper = threading.Thread(target=served.handle.stop)
        for number in range(2000):
            futures.append(served.websocket.publish("x"))
            if number == 500:
                stopper.start()
        assert set(client) <= {"x"}  # until it is closed
        stopper.join(DEADLINE)
    end = time.monotonic() + DEADLINE
    assert {future.result(end - time.monotonic()) for future in futures} <= {0, 1}
