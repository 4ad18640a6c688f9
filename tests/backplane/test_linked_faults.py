"""Linked servers whose engine is killed, frozen or missing, or whose path is cut or silent."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import redis
from asgi_serving import InMemoryServer
from engines import NatsEngine
from installations import Site
from linked import Linked
from websocket_serving import DEADLINE, Served, eventually

from zcli_core.backplane.envelope import Envelope, Kind
from zcli_core.errors import BackplaneFailure
from zcli_core.testing.backplane.engine import FaultyPath

#: Settings with which an outage is noticed soon.
FAST = {"timeout": 0.5, "probe_interval": 0.1, "probe_timeout": 0.5}


def readiness(served: Served) -> list[str]:
    """Return the first words of the reasons why the server is not ready."""
    (core,) = served.websocket._servers
    return [reason.partition(":")[0] for reason in core.readiness()]


def reaches(sender: Served, client: Any) -> bool:
    """Publish until the client gets a message."""
    sender.websocket.publish("are you there?").result(DEADLINE)
    try:
        client.recv(timeout=0.05)
    except TimeoutError:
        return False
    return True


def test_engine_killed_and_back_is_reported(linked: Linked) -> None:
    """While it is down a message fails at once, local clients get it, and the server is not ready."""
    one, two = linked.serve(**FAST), linked.serve(**FAST)
    with one.client() as here, two.client() as there:
        eventually(lambda: reaches(one, there))
        assert readiness(one) == []
        linked.engine.kill()
        eventually(lambda: readiness(one) == ["backplane"])
        sent = one.websocket.publish("during the outage").result(DEADLINE)
        assert sent == 1
        assert sent.failure is not None
        assert (sent.failure.kind, sent.failure.maybe_delivered) == ("down", False)
        eventually(lambda: here.recv(timeout=DEADLINE) == "during the outage")
        linked.engine.start()
        eventually(lambda: readiness(one) == readiness(two) == [])
        assert reaches(one, there)
    one.logged("is lost")
    one.logged("is back after")


def test_hook_of_changes_is_called(site: Site, linked: Linked) -> None:
    """Once when the link is proven, once when it is lost, and once when it is proven again."""
    site.plugin(
        "zcli_link_witness",
        """
        from zcli_core import hookimpl
        ZCLI_CONTRACT = 1
        calls = []
        @hookimpl
        def zcli_backplane_changed(state, failure, context):
            calls.append((state, failure and failure.kind, context.config.websocket.backplane))
        """,
    )
    served = linked.serve(**FAST)
    calls = served.z.plugins.records["zcli_link_witness"].plugin.calls
    assert calls == [("up", None, linked.name)]
    linked.engine.kill()
    eventually(lambda: len(calls) == 2)
    linked.engine.start()
    eventually(lambda: len(calls) == 3)
    assert calls[1:] == [("down", "down", linked.name), ("up", None, linked.name)]


def test_engine_frozen_is_down_and_heals(linked: Linked) -> None:
    """The probe does not come back, so the server is not ready; stopping does not wait for the engine."""
    one, two = linked.serve(**FAST), linked.serve(**FAST)
    with two.client() as there:
        eventually(lambda: reaches(one, there))
        linked.engine.freeze()
        eventually(lambda: readiness(one) == readiness(two) == ["backplane"])
        linked.engine.thaw()
        eventually(lambda: reaches(one, there))
        linked.engine.freeze()
        assert two.handle.stop()
        assert one.handle.stop()
    # Idle threads of handlers may remain, also of tests before this one. That of the control socket ends by itself.
    names = {"zcli-websocket-handler"}
    eventually(lambda: not [t for t in threading.enumerate() if t.name.startswith("zcli-") and t.name not in names])


def test_silent_path_is_noticed(linked: Linked) -> None:
    """A firewall that forgot the connection ends nothing; the probe notices it, and a new connection is proven."""
    with FaultyPath(linked.engine.port) as path:
        one, two = linked.serve(port=path.port, **FAST), linked.serve(**FAST)
        with one.client() as client:
            eventually(lambda: reaches(two, client))
            path.silence()
            eventually(lambda: readiness(one) == ["backplane"])
            assert readiness(two) == []
            path.restore()
            eventually(lambda: readiness(one) == [])
            assert reaches(two, client)
            path.cut()
            eventually(lambda: reaches(two, client))
        one.handle.stop()


@pytest.mark.parametrize("unlinked", ["redis", "nats"], indirect=True)
def test_start_without_engine_is_refused(unlinked: Linked) -> None:
    """The error names the setting, where it was set, the address, the cause and what to do."""
    with pytest.raises(BackplaneFailure) as raised:
        unlinked.serve()
    text = str(raised.value)
    for part in (
        f"cannot use the backplane '{unlinked.name}' (websocket.backplane, zSpark)",
        f"127.0.0.1:{unlinked.engine.port}: cannot connect",
        "set backplane.required to false, which is on (the default)",
    ):
        assert part in text
    if unlinked.name == "redis":
        assert "'zcli services start redis'" in text
    assert raised.value.kind == "down"


def test_start_with_refused_login_names_only_it(unlinked: Linked) -> None:
    """The engine runs already, so the error does not say to start it."""
    unlinked.engine.start()
    url = f"redis://:wrong-1@127.0.0.1:{unlinked.engine.port}"
    with pytest.raises(
        BackplaneFailure, match=r"it asks for no password, but backplane\.redis\.url \(zSpark\) has"
    ) as raised:
        unlinked.serve(redis={"url": url})
    assert raised.value.kind == "refused"
    assert "start the engine" not in str(raised.value)


def test_start_without_required_engine_waits_for_it(unlinked: Linked) -> None:
    """It serves and is not ready, until the engine comes."""
    one = unlinked.serve(required=False)
    assert readiness(one) == ["backplane"]
    with one.client() as client:
        client.send("echo")
        assert client.recv(timeout=DEADLINE) == "echo"
        unlinked.engine.start()
        eventually(lambda: readiness(one) == [])
        assert reaches(unlinked.serve(), client)


def test_join_during_outage_takes_effect_after_it(linked: Linked) -> None:
    """The client is in the room at once, and messages of other processes arrive when the engine is back."""

    async def join(websocket: Any, message: str) -> None:
        await websocket.join("news")
        await websocket.send("joined")

    one, two = linked.serve(join, **FAST), linked.serve(**FAST)
    with one.client() as client:
        linked.engine.kill()
        eventually(lambda: readiness(one) == readiness(two) == ["backplane"])
        client.send("join")
        assert client.recv(timeout=DEADLINE) == "joined"
        linked.engine.start()
        eventually(lambda: readiness(one) == readiness(two) == [])
        two.websocket.publish("hello", to="news").result(DEADLINE)
        assert client.recv(timeout=DEADLINE) == "hello"


def test_join_cancelled_is_present(unlinked: Linked) -> None:
    """The client is in the room, so the other processes see it there."""

    async def join(websocket: Any, message: str) -> None:
        with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
            await asyncio.wait_for(websocket.join("news"), 0.01)
        await websocket.send(",".join(websocket.rooms))

    unlinked.engine.start()
    one, two = unlinked.serve(join), unlinked.serve()
    with one.client() as client:
        unlinked.engine.freeze()
        client.send("join")
        assert client.recv(timeout=DEADLINE) == "news"
        unlinked.engine.thaw()
        eventually(lambda: len(asyncio.run(two.websocket.presence("news"))) == 1)


def test_foreign_disconnect_is_ignored(unlinked: Linked) -> None:
    """An envelope whose close code is not allowed is counted, logged once, and closes nothing."""

    async def join(websocket: Any, message: str) -> None:
        await websocket.join("news")
        await websocket.send("joined")

    unlinked.engine.start()
    served = unlinked.serve(join)
    with served.client() as client, redis.Redis(port=unlinked.engine.port) as foreign:
        client.send("join")
        assert client.recv(timeout=DEADLINE) == "joined"
        for number in range(3):
            foreign.publish("zcli:r:news", Envelope(Kind.DISCONNECT, b"8 bytes!", number, "bye", code=1005).encode())
        eventually(lambda: served.websocket.metrics()["backplane"]["invalid"] == 3)
        client.send("join")
        assert client.recv(timeout=DEADLINE) == "joined"
    log = served.logged("an invalid message on the channel")
    assert log.count(" WARNING ") == 1


def test_publish_while_a_loop_rests_goes_another_way(unlinked: Linked) -> None:
    """An event loop that was stopped and not closed would never publish it."""
    unlinked.engine.start()
    z, other = unlinked.make(), unlinked.serve()
    app = z.comm.websocket.asgi()
    loop = asyncio.new_event_loop()

    async def begin() -> InMemoryServer:
        server = InMemoryServer(app, type="lifespan")
        server.put("lifespan.startup")
        assert (await server.next())["type"] == "lifespan.startup.complete"
        return server

    server = loop.run_until_complete(begin())
    with other.client() as client:
        eventually(lambda: other.websocket.client_count == 1)
        assert z.comm.websocket.publish("hello").result(DEADLINE).failure is None
        assert client.recv(timeout=DEADLINE) == "hello"
    loop.run_until_complete(server.ended_by_shutdown())
    loop.close()


def test_script_without_engine_gets_the_failure(unlinked: Linked) -> None:
    """Publishing raises nothing; the result says why it reached no process."""
    websocket = unlinked.make().comm.websocket
    sent = websocket.publish("hello").result(DEADLINE)
    assert sent.failure is not None
    assert sent.failure.kind == "down"
    with pytest.raises(BackplaneFailure):
        asyncio.run(websocket.count("news"))


#: Publishes, and publishes again in a child process.
_FORK = """
import os, sys, warnings
from zCLI import zCLI

warnings.simplefilter("ignore")  # of a fork with threads
z = zCLI({"deployment": "Production", "logger": "PROD", "logger_path": "logs", **eval(sys.argv[1])})
print(z.comm.websocket.publish("from the parent").result().failure, flush=True)
child = os.fork()
if child == 0:
    print(z.comm.websocket.publish("from the child").result().failure, flush=True)
    z.close()
    os._exit(0)
os.waitpid(child, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_fork_publishes_with_a_link_of_its_own(linked: Linked, tmp_path: Path) -> None:
    """The child process does not have the thread of its parent, so it makes its own."""
    served = linked.serve()
    settings = {"websocket": {"backplane": linked.name}, **linked.engine.settings(linked.engine.port)}
    with served.client() as client:
        eventually(lambda: served.websocket.client_count == 1)
        command = [sys.executable, "-c", _FORK, repr(settings)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        assert done.stdout.split() == ["None", "None"], done.stderr
        assert client.recv(timeout=DEADLINE) == "from the parent"
        assert client.recv(timeout=DEADLINE) == "from the child"


@pytest.mark.parametrize("unlinked", ["nats"], indirect=True)
def test_engine_that_refuses_rooms_keeps_the_link(unlinked: Linked) -> None:
    """NATS that allows no further subscriptions: the rooms before that, and messages to all, still arrive."""

    async def join(websocket: Any, message: str) -> None:
        await websocket.join(message)
        await websocket.send("joined")

    # The channel of the probes, that of all clients, and two rooms.
    with NatsEngine("max_subscriptions: 4") as engine:
        unlinked.engine.port = engine.port
        one, two = unlinked.serve(join), unlinked.serve(join)
        with one.client() as client:
            for number in range(5):
                client.send(f"room-{number}")
                assert client.recv(timeout=DEADLINE) == "joined"
            two.websocket.publish("lost", to="room-4").result(DEADLINE)
            two.websocket.publish("arrives", to="room-0").result(DEADLINE)
            two.websocket.publish("for all").result(DEADLINE)
            assert [client.recv(timeout=DEADLINE) for _ in range(2)] == ["arrives", "for all"]
        assert readiness(one) == readiness(two) == []
        assert one.log().count("refuses the channel r:room-") == 1
        unlinked.end()
