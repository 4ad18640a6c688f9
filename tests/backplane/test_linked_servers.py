"""Servers of several ``zCLI`` objects on one engine: messages, rooms, presence and the end of clients."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from linked import TOKENS, Linked
from websocket_serving import DEADLINE, end_of, eventually

from zcli_core.errors import BackplaneFailure


def bearer(identity: str) -> dict[str, Any]:
    return {"additional_headers": {"Authorization": f"Bearer {TOKENS[identity]}"}}


async def join(websocket: Any, message: str) -> None:
    """Join the rooms that the message names."""
    for room in message.split():
        await websocket.join(room, {"name": room})
    await websocket.send("joined")


def joined(client: Any, rooms: str) -> None:
    client.send(rooms)
    assert client.recv(timeout=DEADLINE) == "joined"


def messages(client: Any) -> list[str | bytes]:
    """Return what arrives until the message ``end``."""
    found: list[str | bytes] = []
    while (message := client.recv(timeout=DEADLINE)) != "end":
        found.append(message)
    return found


def test_broadcast_reaches_every_process_once(linked: Linked) -> None:
    """Also the clients of the own process, once. The result counts these, and the other processes if the engine can."""
    one, two, three = (linked.serve() for _ in range(3))
    with one.client() as here, two.client() as there:
        for served in (one, two):
            eventually(lambda served=served: served.websocket.client_count == 1)
        text = one.websocket.publish("Grüße").result(DEADLINE)
        data = one.websocket.publish(b"\0\xff").result(DEADLINE)
        three.websocket.publish("end").result(DEADLINE)
        assert messages(here) == messages(there) == ["Grüße", b"\0\xff"]
        assert text == data == 1
        assert text.failure is None
        assert text.processes == (2 if linked.name == "redis" else None)


def test_broadcast_local_only_stays_here(linked: Linked) -> None:
    """It is the way out for what every process sends by itself."""
    one, two = linked.serve(), linked.serve()
    with one.client() as here, two.client() as there:
        for served in (one, two):
            eventually(lambda served=served: served.websocket.client_count == 1)
        delivery = one.websocket.publish("here", local_only=True).result(DEADLINE)
        assert (delivery, delivery.processes, delivery.failure) == (1, None, None)
        one.websocket.publish("end").result(DEADLINE)
        assert messages(here) == ["here"]
        assert messages(there) == []


def test_broadcast_to_rooms_reaches_their_members_once(linked: Linked) -> None:
    """A client in two of the rooms gets the message once, in every process."""
    one, two = linked.serve(join), linked.serve(join)
    with one.client() as here, two.client() as both, two.client() as neither:
        joined(here, "news")
        joined(both, "news chat:7")
        joined(neither, "other")
        sent = one.websocket.publish("twice?", to=["news", "chat:7"]).result(DEADLINE)
        once = one.websocket.publish("chat", to="chat:7").result(DEADLINE)
        nowhere = one.websocket.publish("nowhere", to="nobody's room").result(DEADLINE)
        one.websocket.publish("end").result(DEADLINE)
        assert messages(here) == ["twice?"]
        assert messages(both) == ["twice?", "chat"]
        assert messages(neither) == []
        assert (sent, once, nowhere) == (1, 0, 0)
        if linked.name == "redis":
            assert (sent.processes, once.processes, nowhere.processes) == (None, 1, 0)


def test_broadcast_to_very_many_rooms_is_sent_once(linked: Linked) -> None:
    """A message that was published for each of the rooms, and named all of them, would have their square in bytes."""
    one, two = linked.serve(), linked.serve(join)
    with two.client() as member, two.client() as stranger:
        joined(member, "room-1 room-999")
        joined(stranger, "other")
        rooms = [f"room-{number}" for number in range(1000)]
        sent = one.websocket.publish("hello", to=rooms, exclude="@ann").result(DEADLINE)
        assert (sent, sent.processes, sent.failure) == (0, None, None)
        one.websocket.publish("end").result(DEADLINE)
        assert messages(member) == ["hello"]
        assert messages(stranger) == []
        assert two.websocket.metrics()["backplane"]["received"] == 2


def test_wake_calls_the_functions_of_other_processes(linked: Linked) -> None:
    """Only those that wait for this topic, in the event loop, and also after one that fails."""
    called: list[tuple[str, str]] = []
    one, two, three = (linked.serve() for _ in range(3))
    # Without a server, as a script that runs from time to time.
    script = linked.make().comm.websocket

    def note(name: str, topic: str) -> Any:
        def woken() -> None:
            asyncio.get_running_loop()
            called.append((name, topic))

        return woken

    def fail() -> None:
        raise ValueError("woken")

    two.websocket.on_wake("stock", fail)
    for name, served in (("one", one), ("two", two), ("three", three)):
        for topic in ("stock", "prices"):
            served.websocket.on_wake(topic, note(name, topic))
    one.websocket.wake("stock")
    eventually(lambda: len(called) == 2)
    script.wake("prices")
    eventually(lambda: len(called) == 5)
    assert sorted(called[:2]) == [("three", "stock"), ("two", "stock")]
    assert sorted(called[2:]) == [("one", "prices"), ("three", "prices"), ("two", "prices")]
    assert "'stock' (websocket.on_wake) has failed" in two.log()


def test_metrics_count_what_is_published_at_the_end(linked: Linked) -> None:
    """What a server has still to publish when it is stopped is counted, as its callers get it."""
    served = linked.serve()
    published: list[Any] = []

    def publish_and_stop() -> None:
        published.extend(served.websocket.publish("x" * 1000) for _ in range(300))
        served.websocket.stop(wait=False)

    served.websocket._servers[0].loop.call_soon_threadsafe(publish_and_stop)
    assert served.handle.wait(DEADLINE)
    count = sum(future.result(DEADLINE).failure is None for future in published)
    assert served.websocket.metrics()["backplane"]["published"] == count > 0


def test_wake_while_a_server_ends_makes_no_link(linked: Linked) -> None:
    """No connection begins in the last step of a lifespan, because it would outlive the server."""
    websocket = linked.make().comm.websocket

    @contextlib.asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        yield
        websocket.wake("stock")

    websocket.start_background(port=0, lifespan=lifespan).stop()
    assert websocket._links._publisher is None


def test_wake_refuses_what_no_process_would_get(linked: Linked) -> None:
    """An invalid topic or function is an error of the caller, and not lost."""
    websocket = linked.make().comm.websocket

    async def function() -> None:
        """Nothing would await it."""

    for topic in (None, b"stock"):
        with pytest.raises(TypeError, match="topic must be a string"):
            websocket.wake(topic)
    for wrong in (None, function):
        with pytest.raises(TypeError, match="function must be a plain function"):
            websocket.on_wake("stock", wrong)


def test_publish_and_broadcast_keep_the_order(linked: Linked) -> None:
    """What a handler publishes without waiting is not overtaken by what it broadcasts after that."""

    async def number(websocket: Any, message: str) -> None:
        waiting = []
        for turn in range(20):
            waiting.append(one.websocket.publish(f"{turn} published", to=["news", "chat"]))
            await one.websocket.broadcast(f"{turn} broadcast", to="news")
        await asyncio.gather(*map(asyncio.wrap_future, waiting))
        await one.websocket.broadcast("end")

    one, two = linked.serve(number), linked.serve(join)
    with one.client() as here, two.client() as there:
        joined(there, "news")
        here.send("go")
        expected = [f"{turn} {how}" for turn in range(20) for how in ("published", "broadcast")]
        assert messages(there) == expected


def test_broadcast_excludes_an_identity_everywhere(linked: Linked) -> None:
    """``exclude="@ann"`` travels; a client that is excluded exists in one process only."""
    one, two = linked.serve(auth=True), linked.serve(auth=True)
    with two.client(**bearer("ann")) as ann, two.client(**bearer("bob")) as bob:
        eventually(lambda: two.websocket.client_count == 2)
        one.websocket.publish("not for Ann", exclude="@ann").result(DEADLINE)
        one.websocket.publish("for Ann", to="@ann").result(DEADLINE)
        one.websocket.publish("end").result(DEADLINE)
        assert messages(ann) == ["for Ann"]
        assert messages(bob) == ["not for Ann"]


def test_disconnect_closes_clients_everywhere(linked: Linked) -> None:
    """All connections of one identity, with the code and the reason."""
    one, two = linked.serve(auth=True), linked.serve(auth=True)
    with one.client(**bearer("ann")) as here, two.client(**bearer("ann")) as there, two.client(**bearer("bob")) as bob:
        eventually(lambda: one.websocket.client_count + two.websocket.client_count == 3)
        delivery = asyncio.run(one.websocket.disconnect("@ann", 4001, "signed out"))
        assert end_of(here) == end_of(there) == (4001, "signed out")
        assert delivery == 1
        one.websocket.publish("end").result(DEADLINE)
        assert messages(bob) == []


def test_presence_shows_all_processes(linked: Linked) -> None:
    """With an engine that can store it; another one says that it cannot."""
    one, two = linked.serve(join), linked.serve(join, auth=True)
    with one.client() as here, two.client(**bearer("ann")) as there:
        joined(here, "news")
        joined(there, "news")

        async def look() -> tuple[Any, int, int]:
            websocket = one.websocket
            return await websocket.presence("news"), await websocket.count("news"), await websocket.count("@ann")

        if linked.name == "nats":
            with pytest.raises(BackplaneFailure, match="'nats' does not offer presence"):
                asyncio.run(look())
            return
        eventually(lambda: asyncio.run(look())[1:] == (2, 1))
        members, _, _ = asyncio.run(look())
        assert {member.identity for member in members} == {None, "ann"}
        assert all(member.data == {"name": "news"} for member in members)
        assert len({member.process for member in members}) == 2
    eventually(lambda: asyncio.run(one.websocket.count("news")) == 0)


def test_script_publishes_without_serving(linked: Linked) -> None:
    """The first message starts a link, which ends with the object. It works inside any event loop, and in none."""
    served = linked.serve()
    with served.client() as client:
        eventually(lambda: served.websocket.client_count == 1)
        script = linked.make()
        delivery = script.comm.websocket.publish("from a script").result(DEADLINE)
        assert (delivery, delivery.failure) == (0, None)
        assert delivery.processes == (1 if linked.name == "redis" else None)
        assert asyncio.run(script.comm.websocket.broadcast("from a loop")).failure is None
        websocket = script.comm.websocket
        for number in range(50):
            websocket.publish(f"{number}")
        script.close()  # what waits is published first
        served.websocket.publish("end").result(DEADLINE)
        assert messages(client) == ["from a script", "from a loop", *map(str, range(50))]
        failure = websocket.publish("too late").result(DEADLINE).failure
        assert failure is not None
        assert failure.kind == "down"


def test_result_in_the_servers_loop_raises(linked: Linked) -> None:
    """It would wait for itself for ever; the message is sent all the same."""
    caught: list[Exception] = []

    async def handler(websocket: Any, message: str) -> None:
        future = served.websocket.publish("news")
        try:
            future.result()
        except RuntimeError as error:
            caught.append(error)
        await websocket.send(str(await asyncio.wrap_future(future)))

    served = linked.serve(handler)
    with served.client() as client:
        client.send("go")
        assert {client.recv(timeout=DEADLINE) for _ in range(2)} == {"news", "1"}
    assert "await z.comm.websocket.broadcast(...)" in str(caught[0])


def test_log_shows_the_address_of_the_engine(linked: Linked) -> None:
    """The setting of the URL is secret as a whole, but host and port are not."""
    served = linked.serve()
    assert f"127.0.0.1:{linked.engine.port}" in served.logged("connected to the backplane")


def test_publish_of_a_script_during_an_outage_is_quiet(unlinked: Linked) -> None:
    """A script that does not look at the result gets no traceback at its end."""
    settings = {
        "deployment": "Production", "logger_path": ".", "logger": "PROD", "websocket": {"backplane": unlinked.name},
        "backplane": unlinked.engine.settings(unlinked.engine.port)["backplane"],
    }  # fmt: skip
    script = f"from zCLI import zCLI\nwith zCLI({settings!r}) as z:\n    z.comm.websocket.publish('x')\n"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == ""
