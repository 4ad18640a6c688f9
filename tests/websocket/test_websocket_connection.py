"""The object that a handler is given: its names, and what they say."""

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
def test_everything_that_is_known_of_a_connection(serve: Serve, plain: bool) -> None:
    """Addresses, path, query, headers, identifier, subprotocol, state."""
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
def test_a_ping_is_answered_and_its_time_kept(serve: Serve, plain: bool) -> None:
    """Await the ping for sending it, and what it gives for the answer; a thread waits for both at once."""
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


def test_wrong_close_codes_and_reasons_are_value_errors(serve: Serve) -> None:
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


def test_after_the_end_sending_and_receiving_raise_and_closing_does_nothing(serve: Serve) -> None:
    """ConnectionClosed tells the code and the reason."""
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


def test_two_receivers_at_once_are_a_mistake(serve: Serve) -> None:
    """Which of them would get the message?"""
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


def test_the_blocking_twin_works_from_any_thread_but_the_loops_own(serve: Serve) -> None:
    """There it would wait for itself for ever, so it says so."""
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


def test_a_blocking_connection_is_the_same_client(serve: Serve) -> None:
    """It compares equal to its twin, and both can be excluded and asked about."""
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


def test_a_blocking_connection_of_a_server_that_has_stopped_is_closed(serve: Serve) -> None:
    """Instead of waiting for a loop that is no more."""
    served = serve()
    with served.client():
        (connection,) = eventually(lambda: served.websocket.clients)
        blocking = connection.blocking
        served.handle.stop()
    with pytest.raises(ConnectionClosed) as raised:
        blocking.send("too late")
    assert raised.value.code == 1001
