"""Broadcast, publish and send: which clients get a message, and what a client that does not read costs the others."""

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


def test_broadcast_exclude_reaches_all_others(serve: Serve) -> None:
    """The guide's handler: the count is the number of receivers."""
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


def test_publish_from_any_thread_reaches_all(serve: Serve) -> None:
    """It does not wait; the future has the count, and the messages of one thread keep their order."""
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


def test_publish_to_and_exclude_select_clients(serve: Serve) -> None:
    """``to`` selects one client, and ``exclude`` leaves out one or several."""
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
        assert served.websocket.publish("hello", to=connections[1]).result(DEADLINE) == 0


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
def test_publish_to_duplicates_sends_once(serve: Serve, pick: Any, expected: list[int], how: str) -> None:
    """Each selected client gets one message, and no other client gets any."""
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


@pytest.mark.parametrize("wrong", [None, 5, [None], {5: 1}, b"x"])
def test_publish_to_non_clients_raises(serve: Serve, wrong: Any) -> None:
    """None is an error too, because a script that finds no client must not send to all."""
    served = serve()
    with served.client() as client:
        eventually(lambda: served.websocket.client_count == 1)
        with pytest.raises(
            TypeError, match=r"^(each item of )?to must be a room, '@identity' or a client\b.*, got (None|int|bytes)"
        ):
            served.websocket.publish("secret", to=wrong)
        with pytest.raises(
            TypeError, match=r"^(each item of )?to must be a room, '@identity' or a client\b.*, got (None|int|bytes)"
        ):
            asyncio.run(served.websocket.broadcast("secret", to=wrong))
        with pytest.raises(TypeError, match="client must be a client"):
            asyncio.run(served.websocket.send(wrong, "secret"))
        served.websocket.publish("end")
        assert client.recv(timeout=DEADLINE) == "end"


def test_publish_to_excluded_client_sends_nothing(serve: Serve) -> None:
    """``exclude`` also applies to clients in ``to``."""
    served = serve()
    with contextlib.ExitStack() as stack:
        clients = _clients(stack, served, 3)
        connections = served.websocket.clients
        assert served.websocket.publish("x", to=connections[:2], exclude=connections[0]).result(DEADLINE) == 1
        assert served.websocket.publish("end").result(DEADLINE) == 3
        assert [client.recv(timeout=DEADLINE) for client in clients] == ["end", "x", "end"]


def test_broadcast_in_other_loop_works(serve: Serve) -> None:
    """A script awaits broadcast and send in an event loop of its own."""
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


def test_send_to_gone_client_returns_false(serve: Serve) -> None:
    """A client that has disconnected is not an error."""
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


def test_publish_without_server_counts_zero(make_z: Any) -> None:
    """Zero clients is a count and not an error, because a thread cannot know when the server stops."""
    server = make_z().comm.websocket
    assert server.publish("hello").result(0) == 0
    assert asyncio.run(server.broadcast("hello")) == 0
    assert (server.clients, server.client_count, server.slow_client_count, server.url) == ((), 0, 0, None)


@pytest.mark.parametrize("wrong", ["alice", 5, ["alice"]])
def test_publish_exclude_non_client_raises(serve: Serve, wrong: Any) -> None:
    """The error is raised at once."""
    with pytest.raises(
        TypeError, match=r"^(each item of )?exclude must be a client or '@identity'.*, got (the room|int)"
    ):
        serve().websocket.publish("hello", exclude=wrong)


def _lazy_client(served: Served) -> socket.socket:
    """A client that never reads after its upgrade."""
    lazy = socket.socket()
    lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    lazy.connect(("127.0.0.1", served.port))
    lazy.sendall(
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    return lazy


def test_broadcast_slow_client_is_closed_alone(serve: Serve) -> None:
    """It is closed with 1013 and counted, its buffer is bounded, and the others get all 10,000 messages."""
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
    served.logged("read too slowly and was disconnected")
    served.handle.stop()
    assert "1 had been dropped for reading too slowly" in served.log()


def test_close_1013_by_client_is_not_slow(serve: Serve) -> None:
    """Only a client that the server closes for it counts as one that read too slowly."""
    served = serve()
    with served.client() as client:
        client.close(1013, "later")
    served.logged("disconnected: closed by the client, 1013 'later'")
    assert served.websocket.slow_client_count == 0


def _clients_beside(stack: contextlib.ExitStack, served: Served, count: int, total: int) -> list[Any]:
    clients = [stack.enter_context(served.client()) for _ in range(count)]
    eventually(lambda: served.websocket.client_count == total)
    return clients


def test_send_to_slow_client_waits_alone(serve: Serve) -> None:
    """``await send()`` holds back the sending handler and no other."""
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


def test_broadcast_is_encoded_once(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """All clients share one encoded message."""
    served = serve()
    with contextlib.ExitStack() as stack:
        _clients(stack, served, 5)
        listener = served.websocket._servers[0].listener
        prepared: list[str] = []
        original = listener.prepare
        monkeypatch.setattr(listener, "prepare", lambda message: (prepared.append(message), original(message))[1])
        assert served.websocket.publish("hello").result(DEADLINE) == 5
    assert prepared == ["hello"]


def test_publish_while_stopping_has_a_result(serve: Serve) -> None:
    """Every future gets a count, whenever the server stops."""
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
