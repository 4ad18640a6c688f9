"""Rooms of one process: joining, leaving, sending to rooms and identities, and who is there."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import pickle
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from tests.websocket.websocket_serving import DEADLINE, Served, end_of, eventually
from zcli_core.errors import BackplaneFailure, ConnectionClosed
from zcli_core.websocket.loop_bridge import LoopBridge
from zcli_core.websocket.recipients import Delivery
from zcli_core.websocket.rooms import Rooms, identity_room

Serve = Callable[..., Served]

ALICE, BOB = "token-of-alice-0123456789", "token-of-bob-0123456789"
WITH_IDENTITIES = {"require_auth": True, "tokens": {"alice": ALICE, "bob": BOB}}


async def obey(websocket: Any, message: str) -> None:
    """Join or leave the rooms that the client names, and confirm it: ``+news,chat`` or ``-news``."""
    for room in message[1:].split(","):
        await (websocket.join(room) if message[0] == "+" else websocket.leave(room))
    await websocket.send(f"in {','.join(websocket.rooms)}")


def obey_plain(websocket: Any, message: str) -> None:
    """Do the same in a thread."""
    for room in message[1:].split(","):
        if message[0] == "+":
            websocket.join(room)
        else:
            websocket.leave(room)
    websocket.send(f"in {','.join(websocket.rooms)}")


class Clients:
    """Clients of one server, by their number."""

    def __init__(self, stack: contextlib.ExitStack, served: Served, *rooms: str) -> None:
        self.served = served
        self.clients = []
        for number, names in enumerate(rooms):
            client = stack.enter_context(served.client())
            self.clients.append(client)
            eventually(lambda number=number: served.websocket.client_count == number + 1)
            if names:
                self.says(number, f"+{names}")
        self.connections = served.websocket.clients

    def says(self, number: int, message: str) -> str:
        self.clients[number].send(message)
        return str(self.clients[number].recv(timeout=DEADLINE))

    def get(self) -> list[list[str]]:
        """Return what each client has got."""
        self.served.websocket.publish("the end").result(DEADLINE)
        found = []
        for client in self.clients:
            messages = iter(lambda client=client: client.recv(timeout=DEADLINE), "the end")
            found.append([str(message) for message in messages])
        return found


@pytest.mark.parametrize("handler", [obey, obey_plain])
def test_broadcast_to_room_reaches_its_members(serve: Serve, handler: Any) -> None:
    """A client that left or is in another room gets nothing."""
    with contextlib.ExitStack() as stack:
        clients = Clients(stack, serve(handler), "news", "news,chat", "chat", "")
        websocket = clients.served.websocket
        assert websocket.publish("n", to="news").result(DEADLINE) == 2
        assert websocket.rooms == {"news": 2, "chat": 2}
        assert clients.get() == [["n"], ["n"], [], []]
        assert clients.says(1, "-news") == "in chat"
        assert asyncio.run(websocket.broadcast("m", to="news")) == 1
        assert websocket.publish("x", to="empty").result(DEADLINE) == 0
        assert clients.get() == [["m"], [], [], []]


@pytest.mark.parametrize(
    ("to", "exclude", "expected"),
    [
        (["news", "chat"], None, [0, 1, 2]),
        (["news", "news"], None, [0, 1]),
        (("news", 2), None, [0, 1, 2]),
        (["news", 1], None, [0, 1]),
        ("news", 1, [0]),
        (["news", "chat"], [0, 2], [1]),
        ([], None, []),
    ],
)
def test_broadcast_reaches_each_client_once(serve: Serve, to: Any, exclude: Any, expected: list[int]) -> None:
    """A client in two of the rooms gets the message once; numbers stand for clients."""
    with contextlib.ExitStack() as stack:
        clients = Clients(stack, serve(obey), "news", "news,chat", "chat", "")

        def named(value: Any) -> Any:
            if isinstance(value, (list, tuple)):
                return type(value)(named(each) for each in value)
            return clients.connections[value] if isinstance(value, int) else value

        sent = clients.served.websocket.publish("hello", to=named(to), exclude=named(exclude)).result(DEADLINE)
        assert sent == len(expected)
        assert [number for number, got in enumerate(clients.get()) if got == ["hello"]] == expected


def test_broadcast_to_identity_reaches_all_its_clients(serve: Serve) -> None:
    """A client joins the room of its identity by itself, and the room does not show in ``rooms``."""
    served = serve(**WITH_IDENTITIES)
    with contextlib.ExitStack() as stack:
        headers = [{"Authorization": f"Bearer {token}"} for token in (ALICE, ALICE, BOB)]
        alice, phone, bob = (stack.enter_context(served.client(additional_headers=each)) for each in headers)
        websocket = served.websocket
        eventually(lambda: websocket.client_count == 3)
        assert websocket.publish("to alice", to="@alice").result(DEADLINE) == 2
        assert websocket.publish("not alice", exclude="@alice").result(DEADLINE) == 1
        assert websocket.publish("to carol", to="@carol").result(DEADLINE) == 0
        assert [client.recv(timeout=DEADLINE) for client in (alice, phone, bob)] == ["to alice"] * 2 + ["not alice"]
        assert websocket.rooms == {}
        assert [member.identity for member in asyncio.run(websocket.presence("@alice"))] == ["alice", "alice"]
        assert asyncio.run(websocket.disconnect("@alice", 4001, "signed out")) == 2
        assert end_of(alice) == end_of(phone) == (4001, "signed out")
        eventually(lambda: websocket.publish("x", to="@alice").result(DEADLINE) == 0)


def test_identity_room_of_any_identity_is_valid() -> None:
    """An identity with control characters, or a very long one, gets a room that its hash names."""
    names = {identity_room(identity) for identity in ("ann", "a\nb", "x" * 300, "x" * 301, "\ud800")}
    assert len(names) == 5
    assert "@ann" in names
    assert identity_room(identity_room("a\nb")[1:]) not in names
    assert all(len(name.encode()) <= 255 and name.isprintable() for name in names)


@pytest.mark.parametrize(
    ("room", "error", "text"),
    [
        ("", ValueError, "'' is empty"),
        ("x" * 256, ValueError, "has 256"),
        ("é" * 128, ValueError, "has 256"),
        ("a\nb", ValueError, "has a control character"),
        ("a\x9bb", ValueError, "has a control character"),
        ("\ud800", ValueError, "has a lone surrogate"),
        ("@alice", ValueError, "must not begin with @, got '@alice'; each"),
        (b"news", TypeError, "must be a string, got bytes"),
        (None, TypeError, "must be a string, got NoneType"),
    ],
)
def test_join_invalid_name_raises(serve: Serve, room: Any, error: type[Exception], text: str) -> None:
    """The client stays where it is."""
    caught: list[Exception] = []

    async def handler(websocket: Any, message: str) -> None:
        await websocket.join("before")
        for call in (websocket.join(room), websocket.leave(room)):
            try:
                await call
            except (TypeError, ValueError) as failure:
                caught.append(failure)
        await websocket.send(",".join(websocket.rooms))

    served = serve(handler)
    with served.client() as client:
        client.send("go")
        assert client.recv(timeout=DEADLINE) == "before"
    assert [type(each) for each in caught] == [error, error]
    assert all(text in str(each) for each in caught), caught
    if isinstance(room, str) and not room.startswith("@"):
        with pytest.raises(ValueError, match=text):
            served.websocket.publish("x", to=room)


def test_join_longest_name_works(serve: Serve) -> None:
    """255 bytes, with spaces, dots, stars and other scripts."""
    room = "a b.*>:/é" + "x" * 245
    assert len(room.encode()) == 255
    served = serve(obey)
    with served.client() as client:
        client.send(f"+{room}")
        assert client.recv(timeout=DEADLINE) == f"in {room}"
        assert served.websocket.rooms == {room: 1}


def test_join_over_limit_names_the_setting(serve: Serve) -> None:
    """10,000 joins of one client are refused after the limit; joining a room again is not a further room."""
    caught: list[Exception] = []

    async def handler(websocket: Any, message: str) -> None:
        for number in range(10_000):
            try:
                await websocket.join(f"room {number}")
            except RuntimeError as failure:
                caught.append(failure)
        await websocket.join("room 0")
        await websocket.send(str(len(websocket.rooms)))

    served = serve(handler, max_rooms=10)
    with served.client() as client:
        client.send("go")
        assert client.recv(timeout=DEADLINE) == "10"
        assert len(served.websocket.rooms) == 10
    assert len(caught) == 9990
    assert str(caught[0]) == ("the client is in 10 rooms already, which is the limit (websocket.max_rooms (zSpark))")
    eventually(lambda: served.websocket.rooms == {})


@pytest.mark.parametrize(
    ("data", "error", "text"),
    [
        ({"name": 5}, TypeError, "data must be a mapping of str to str"),
        ("Ann", TypeError, "data must be a mapping of str to str"),
        ({"name": "x" * 1021}, ValueError, "data must be at most 1024 bytes, got 1025"),
    ],
)
def test_join_invalid_data_raises(serve: Serve, data: Any, error: type[Exception], text: str) -> None:
    """And the client has not joined."""
    caught: list[Exception] = []

    async def handler(websocket: Any, message: str) -> None:
        try:
            await websocket.join("chat", data)
        except (TypeError, ValueError) as failure:
            caught.append(failure)
        await websocket.send(str(websocket.rooms))

    with serve(handler).client() as client:
        client.send("go")
        assert client.recv(timeout=DEADLINE) == "()"
    assert type(caught[0]) is error
    assert text in str(caught[0])


def test_presence_shows_data_in_order_of_joining(serve: Serve) -> None:
    """Joining again replaces the data and keeps the place."""

    async def handler(websocket: Any, message: str) -> None:
        await websocket.join("chat", {"name": message})
        await websocket.send("joined")

    served = serve(handler)
    websocket = served.websocket
    with contextlib.ExitStack() as stack:
        first, second = (stack.enter_context(served.client()) for _ in range(2))
        for client, name in ((first, "Ann"), (second, "Bob"), (first, "Anna")):
            client.send(name)
            assert client.recv(timeout=DEADLINE) == "joined"
        members = asyncio.run(websocket.presence("chat"))
        assert [dict(member.data) for member in members] == [{"name": "Anna"}, {"name": "Bob"}]
        assert len({member.process for member in members}) == 1
        assert len({member.connection for member in members}) == 2
        assert asyncio.run(websocket.presence("chat", limit=1)) == members[:1]
        with pytest.raises(ValueError, match="limit must not be negative, got -1"):
            asyncio.run(websocket.presence("chat", limit=-1))
        assert asyncio.run(websocket.count("chat")) == 2
        assert asyncio.run(websocket.count("empty")) == 0
    eventually(lambda: asyncio.run(websocket.count("chat")) == 0)


def test_presence_while_the_server_stops_is_empty(serve: Serve) -> None:
    """A server that takes no calls any longer does not look like a cancellation of the caller."""
    served = serve(obey)
    (server,) = served.websocket._servers
    server.sessions.bridge.close()
    assert asyncio.run(served.websocket.presence("news")) == ()
    assert asyncio.run(served.websocket.count("news")) == 0


def test_bridge_into_a_closed_loop_is_cancelled() -> None:
    """A server whose event loop was closed without stopping it does not make a broadcast fail."""
    loop = asyncio.new_event_loop()
    bridge = LoopBridge(loop)
    loop.close()
    assert bridge.post(int).cancelled()
    assert bridge.run(lambda: asyncio.sleep(0)).cancelled()


def test_confirm_identity_of_a_gone_client_adds_nothing() -> None:
    """A client may disconnect before its task begins; nothing would ever remove the channel of its identity."""

    class Link:
        added: tuple[str, ...] = ()

        async def add(self, room: str) -> None:
            self.added += (room,)

    rooms = Rooms(1, "", None, None)
    rooms.link = link = Link()  # type: ignore[assignment]
    client: Any = SimpleNamespace(_admission=SimpleNamespace(identity="alice"))
    asyncio.run(rooms.confirm_identity(client))
    assert link.added == ()


def test_rooms_are_left_at_the_end(serve: Serve) -> None:
    """on_disconnect still sees the rooms that the client was in, and can send to them."""
    left: list[Any] = []

    async def on_disconnect(websocket: Any) -> None:
        left.append((websocket.rooms, await served.websocket.broadcast("gone", to=websocket.rooms)))

    served = serve(obey, on_disconnect=on_disconnect)
    with served.client() as other:
        other.send("+news")
        other.recv(timeout=DEADLINE)
        with served.client() as client:
            client.send("+news,chat")
            assert client.recv(timeout=DEADLINE) == "in news,chat"
        assert other.recv(timeout=DEADLINE) == "gone"
        eventually(lambda: left == [(("news", "chat"), 1)])
        assert served.websocket.rooms == {"news": 1}


def test_join_after_end_raises(serve: Serve) -> None:
    """A client that has disconnected cannot join."""
    caught: list[Any] = []

    async def on_disconnect(websocket: Any) -> None:
        try:
            await websocket.join("late")
        except ConnectionClosed as closed:
            caught.append((closed.code, closed.connection is websocket))
        await websocket.leave("late")

    served = serve(obey, on_disconnect=on_disconnect)
    with served.client() as client:
        client.close(4000, "bye")
    eventually(lambda: caught == [(4000, True)])
    assert served.websocket.rooms == {}


def test_join_in_on_connect_precedes_messages(serve: Serve) -> None:
    """A client that is added to a room in on_connect gets every later message of the room."""

    async def on_connect(websocket: Any) -> None:
        await websocket.join("lobby")

    served = serve(on_connect=on_connect)
    with served.client() as client:
        eventually(lambda: served.websocket.rooms == {"lobby": 1})
        served.websocket.publish("hello", to="lobby").result(DEADLINE)
        assert client.recv(timeout=DEADLINE) == "hello"


def test_broadcast_while_members_leave_is_complete(serve: Serve) -> None:
    """Clients that leave and join during broadcasts disturb neither them nor the others."""
    served = serve(obey)
    with contextlib.ExitStack() as stack:
        stays, moves = (stack.enter_context(served.client()) for _ in range(2))
        stays.send("+news")
        assert stays.recv(timeout=DEADLINE) == "in news"
        done = threading.Event()

        def move() -> None:
            for number in range(300):
                moves.send("+news" if number % 2 == 0 else "-news")
            done.set()

        mover = threading.Thread(target=move)
        mover.start()
        sent = 0
        while sent < 300 or not done.is_set():
            assert served.websocket.publish(str(sent), to="news").result(DEADLINE) >= 1
            sent += 1
        mover.join()
        assert [stays.recv(timeout=DEADLINE) for _ in range(sent)] == [str(number) for number in range(sent)]


def test_room_hooks_run_in_order(serve: Serve, site: Any) -> None:
    """Joining twice is once; the end of the connection leaves every room before on_disconnect runs."""
    site.plugin(
        "zcli_room_witness",
        """
        from zcli_core import hookimpl
        ZCLI_CONTRACT = 1
        calls = []
        @hookimpl
        def zcli_websocket_joined(connection, room, context):
            calls.append(("joined", room))
        @hookimpl
        def zcli_websocket_left(connection, room):
            calls.append(("left", room))
        @hookimpl
        def zcli_websocket_closed(connection):
            calls.append(("closed",))
        """,
    )
    served = serve(obey)
    with served.client() as client:
        for message in ("+news,chat", "+news", "-chat", "-chat"):
            client.send(message)
            client.recv(timeout=DEADLINE)
    import zcli_room_witness

    calls = zcli_room_witness.calls
    expected = [("joined", "news"), ("joined", "chat"), ("left", "chat"), ("left", "news"), ("closed",)]
    eventually(lambda: calls == expected, str(calls))


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (("news", 1005), ValueError, "1005"),
        (("nobody is here", 70000), ValueError, "70000"),
        (("nobody is here", 1008, "x" * 124), ValueError, "123"),
        ((None,), TypeError, "got None"),
        ((5,), TypeError, "got int"),
    ],
)
def test_disconnect_invalid_argument_raises(serve: Serve, arguments: Any, error: type[Exception], text: str) -> None:
    """Nothing is closed."""
    served = serve(obey)
    with contextlib.ExitStack() as stack:
        clients = Clients(stack, served, "news")
        with pytest.raises(error, match=text):
            asyncio.run(served.websocket.disconnect(*arguments))
        assert clients.says(0, "-news") == "in "


def test_disconnect_closes_with_default_code(serve: Serve) -> None:
    """A handler may close its own room, its own client included."""

    async def handler(websocket: Any, message: str) -> None:
        await websocket.join("news")
        await websocket.send("joined")
        if message == "close":
            closed.append(await served.websocket.disconnect("news"))

    closed: list[int] = []
    served = serve(handler)
    with served.client() as first, served.client() as second:
        for client, message in ((first, "join"), (second, "close")):
            client.send(message)
            assert client.recv(timeout=DEADLINE) == "joined"
        assert end_of(first) == end_of(second) == (1008, "")
    eventually(lambda: closed == [2])


def test_broadcast_lets_the_event_loop_run(serve: Serve) -> None:
    """Other tasks run while a handler only broadcasts."""

    async def handler(websocket: Any, message: str) -> None:
        done = asyncio.ensure_future(asyncio.sleep(0))
        sent = 0
        while not done.done():
            await served.websocket.broadcast("tick", to="empty")
            sent += 1
        await websocket.send("done")

    served = serve(handler)
    with served.client() as client:
        client.send("go")
        assert client.recv(timeout=DEADLINE) == "done"


def test_rooms_of_stopping_server_are_empty(serve: Serve) -> None:
    """A call that the server accepts no longer counts no client, and cancels nothing."""
    served = serve(obey)
    with served.client() as client:
        client.send("+news")
        assert client.recv(timeout=DEADLINE) == "in news"
        served.websocket._servers[0].sessions.bridge.close()
        assert asyncio.run(served.websocket.presence("news")) == ()
        assert asyncio.run(served.websocket.broadcast("hello", to="news")) == 0
        assert asyncio.run(served.websocket.disconnect("news")) == 0


def test_delivery_is_an_int() -> None:
    """It counts, prints, pickles and copies like one, and keeps what it knows."""
    failure = BackplaneFailure("down", "no connection")
    delivery = Delivery(3, 2, failure)
    assert (delivery + 1, str(delivery), f"{delivery:02d}", bool(Delivery(0))) == (4, "3", "03", False)
    assert repr(delivery).startswith("Delivery(3, processes=2, failure=BackplaneFailure(")
    assert repr(Delivery(3)) == "Delivery(3)"
    for twin in (pickle.loads(pickle.dumps(delivery)), copy.copy(delivery)):
        assert (twin, twin.processes, twin.failure.kind, str(twin.failure)) == (3, 2, "down", "no connection")
