"""The connection object that a handler gets."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from websocket_serving import DEADLINE, Served, eventually

from zcli_core.errors import ConnectionClosed
from zcli_core.websocket.contract import State

Serve = Callable[..., Served]


@pytest.mark.parametrize("plain", [False, True], ids=["async", "plain"])
def test_connection_properties_have_values(serve: Serve, plain: bool) -> None:
    """Addresses, path, query, headers, identifier, subprotocol and state."""
    found: dict[str, Any] = {}

    def note(websocket: Any) -> None:
        found.update(
            remote=websocket.remote_address,
            local=websocket.local_address,
            path=websocket.path,
            query=websocket.request.query,
            header=websocket.request.headers["x-note"],
            id=str(websocket.id),
            subprotocol=websocket.subprotocol,
            state=websocket.state,
            codes=(websocket.close_code, websocket.close_reason),
            latency=websocket.latency,
            repr=repr(websocket),
        )

    async def handler(websocket: Any, message: str) -> None:
        note(websocket)

    def plain_handler(websocket: Any, message: str) -> None:
        note(websocket)

    served = serve(plain_handler if plain else handler)
    with served.client("/a/b?c=d", additional_headers={"X-Note": "yes"}) as client:
        client.send("go")
        eventually(lambda: "repr" in found)
        assert found["remote"] == client.socket.getsockname()
        assert found["local"] == ("127.0.0.1", served.port)
    assert (found["path"], found["query"], found["header"]) == ("/a/b", "c=d", "yes")
    assert (found["subprotocol"], found["state"], found["codes"]) == (None, State.OPEN, (None, None))
    assert len(found["id"]) == 36
    assert found["latency"] == 0.0
    assert "127.0.0.1" in found["repr"]
    assert "open" in found["repr"]


@pytest.mark.parametrize("plain", [False, True], ids=["async", "plain"])
def test_ping_returns_round_trip_time(serve: Serve, plain: bool) -> None:
    """Awaiting the ping sends it, and awaiting its result waits for the pong; a thread does both in one call."""
    found: list[float] = []

    async def ping(websocket: Any, message: str) -> None:
        found.append(await (await websocket.ping("hello")))
        found.append(await (await websocket.ping()))
        found.append(websocket.latency)

    def ping_plain(websocket: Any, message: str) -> None:
        found.extend([websocket.ping("hello"), websocket.ping(), websocket.latency])

    with serve(ping_plain if plain else ping).client() as client:
        client.send("go")
        eventually(lambda: len(found) == 3)
    assert all(seconds > 0 for seconds in found)
    assert found[1] == found[2]


def test_close_invalid_code_or_reason_raises(serve: Serve) -> None:
    """RFC 6455, 7.4: some codes are never sent."""
    errors: list[str] = []

    async def close(websocket: Any, message: str) -> None:
        for code, reason in ((999, ""), (1005, ""), (1006, ""), (1015, ""), (5000, ""), (1000, "é" * 62)):
            try:
                await websocket.close(code, reason)
            except ValueError as error:
                errors.append(str(error))
        await websocket.send("still here")

    with serve(close).client() as client:
        client.send("go")
        assert client.recv(timeout=DEADLINE) == "still here"
    assert len(errors) == 6


def test_closed_connection_send_and_recv_raise(serve: Serve) -> None:
    """ConnectionClosed has the code and the reason, and close() does nothing."""
    outcome: list[Any] = []

    async def leave(websocket: Any) -> None:
        for operation in (websocket.send("x"), websocket.recv(), websocket.ping()):
            try:
                await operation
            except ConnectionClosed as closed:
                outcome.append((closed.code, closed.reason))
        await websocket.close()
        await websocket.wait_closed()
        outcome.append(websocket.state)

    served = serve(on_disconnect=leave)
    with served.client() as client:
        client.close(4001, "bye")
    eventually(lambda: len(outcome) == 4)
    assert outcome == [(4001, "bye")] * 3 + [State.CLOSED]


def test_recv_twice_at_once_raises(serve: Serve) -> None:
    """It would be undefined which call gets the message."""
    errors: list[str] = []

    async def handler(websocket: Any, message: str) -> None:
        import asyncio

        first = asyncio.ensure_future(websocket.recv())
        await asyncio.sleep(0)
        try:
            await websocket.recv()
        except RuntimeError as error:
            errors.append(str(error))
        first.cancel()
        await websocket.send("done")

    with serve(handler).client() as client:
        client.send("go")
        assert client.recv(timeout=DEADLINE) == "done"
    assert len(errors) == 1


def test_blocking_in_loop_thread_raises(serve: Serve) -> None:
    """It works in every other thread; in the loop's thread it would wait for itself."""
    errors: list[str] = []

    async def handler(websocket: Any, message: str) -> None:
        try:
            websocket.blocking.send("never")
        except RuntimeError as error:
            errors.append(str(error))
        thread = threading.Thread(target=websocket.blocking.send, args=("from a thread",))
        thread.start()

    with serve(handler).client() as client:
        client.send("go")
        assert client.recv(timeout=DEADLINE) == "from a thread"
    assert "block the event loop" in errors[0]


def test_blocking_equals_its_async_connection(serve: Serve) -> None:
    """Both can be excluded and passed to get_client_info."""
    found: list[Any] = []

    def handler(websocket: Any, message: str) -> None:
        server = served.websocket
        found.append(websocket in server.clients)
        found.append({websocket} == set(server.clients))
        found.append(server.publish("to nobody", exclude=websocket).result(DEADLINE))
        found.append(server.auth.get_client_info(websocket)["address"] == websocket.remote_address)
        websocket.send("done")

    served = serve(handler)
    with served.client() as client:
        client.send("go")
        assert client.recv(timeout=DEADLINE) == "done"
    assert found == [True, True, 0, True]


def test_blocking_after_stop_raises_closed(serve: Serve) -> None:
    """It does not wait for an event loop that has ended."""
    served = serve()
    with served.client():
        (connection,) = eventually(lambda: served.websocket.clients)
        blocking = connection.blocking
        served.handle.stop()
    with pytest.raises(ConnectionClosed) as raised:
        blocking.send("too late")
    assert raised.value.code == 1001
