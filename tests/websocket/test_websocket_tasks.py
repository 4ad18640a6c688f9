"""Tasks beside the handler (``websocket.start_task``), and the lifespan of a server."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from asgi_serving import InMemoryServer
from websocket_serving import DEADLINE, Served, end_of, eventually, talks

from zcli_core.app import zCLI

Serve = Callable[..., Served]
MakeZ = Callable[..., zCLI]
FAILED = (1011, "the server failed to handle a message")


def _starting(task: Callable[..., Any]) -> Callable[..., Any]:
    """Return a handler that starts a task for the message ``go``, and echoes all others."""

    async def handle(websocket: Any, message: str) -> None:
        if message == "go":
            websocket.start_task(task(websocket))
        else:
            await websocket.send(message)

    return handle


def test_task_runs_beside_the_next_message(serve: Serve) -> None:
    """The handler has returned, and the task can still send."""
    release = asyncio.Event()

    async def work(websocket: Any) -> None:
        await release.wait()
        await websocket.send("done")

    async def handle(websocket: Any, message: str) -> None:
        websocket.start_task(work(websocket)) if message == "go" else release.set()

    with serve(handle).client() as client:
        client.send("go")
        client.send("release")
        assert client.recv(timeout=DEADLINE) == "done"


def test_task_that_raises_ends_its_connection(serve: Serve) -> None:
    """As a handler does; the error is logged."""

    async def fail(websocket: Any) -> None:
        raise ValueError("of a task")

    served = serve(_starting(fail))
    with served.client() as client, served.client() as other:
        client.send("go")
        assert end_of(client) == FAILED
        assert talks(other)
    served.logged("ValueError: of a task")


def test_task_is_cancelled_before_on_disconnect(serve: Serve) -> None:
    """A task of a client that has left ends; its handlers never overlap with on_disconnect."""
    events: list[str] = []

    async def hang(websocket: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            events.append("task")

    async def gone(websocket: Any) -> None:
        events.append("disconnect")

    served = serve(_starting(hang), on_disconnect=gone)
    with served.client() as client:
        client.send("go")
        assert talks(client)
    assert eventually(lambda: len(events) == 2 and events) == ["task", "disconnect"]
    assert "ERROR" not in served.log()


def test_task_of_a_closing_client_may_still_answer(serve: Serve) -> None:
    """The close frame of the client waits a little for it, as for a handler."""
    begun, sent = threading.Event(), threading.Event()

    async def answer(websocket: Any) -> None:
        begun.set()
        while websocket._dispatcher._grace is None:
            await asyncio.sleep(0)
        await websocket.send("last words")
        sent.set()

    served = serve(_starting(answer))
    with served.client() as client:
        client.send("go")
        assert begun.wait(DEADLINE)
        client.close()
    assert sent.wait(DEADLINE)


@pytest.mark.parametrize("in_time", [True, False])
def test_task_has_the_drain_timeout(serve: Serve, in_time: bool) -> None:
    """A server that stops waits for it, and no longer than that."""
    begun, ended = threading.Event(), []

    async def answer(websocket: Any) -> None:
        begun.set()
        core = served.websocket._servers[0]
        try:
            while not core.is_draining or not in_time:
                await asyncio.sleep(0.001)
            await websocket.send("done")
            ended.append("done")
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    served = serve(_starting(answer), drain_timeout=60 if in_time else 0.05)
    with served.client() as client:
        client.send("go")
        assert begun.wait(DEADLINE)
        stopping = threading.Thread(target=served.handle.stop)
        stopping.start()
        if in_time:
            assert client.recv(timeout=DEADLINE) == "done"
        assert end_of(client) == (1001, "the server is shutting down")
        stopping.join(DEADLINE)
    assert ended == ["done" if in_time else "cancelled"]


# The lifespan --------------------------------------------------------------------------------------------------


class Life:
    """A lifespan that notes what happens."""

    def __init__(self, error: Exception | None = None) -> None:
        self.events: list[str] = []
        self._error = error

    @contextlib.asynccontextmanager
    async def __call__(self) -> AsyncIterator[None]:
        await asyncio.sleep(0)
        if self._error is not None:
            raise self._error
        self.events.append("begin")
        try:
            yield
        finally:
            self.events.append("end")

    async def connected(self, websocket: Any) -> None:
        self.events.append("connect")

    async def disconnected(self, websocket: Any) -> None:
        self.events.append("disconnect")


WHOLE_LIFE = ["begin", "connect", "disconnect", "end"]


def test_lifespan_surrounds_all_clients(make_z: MakeZ) -> None:
    """It is entered before the port is open, and left after the last on_disconnect."""
    life = Life()
    served = Served(z := make_z(), z.comm.websocket.start_background(
        port=0, lifespan=life, on_connect=life.connected, on_disconnect=life.disconnected
    ))  # fmt: skip
    with served.client() as client:
        assert talks(client)
        served.handle.stop()
    assert life.events == WHOLE_LIFE


def test_lifespan_that_raises_stops_the_start(make_z: MakeZ) -> None:
    """The caller gets the error; the server may be started again."""
    z = make_z()
    with pytest.raises(ValueError, match="not today"):
        z.comm.websocket.start_background(port=0, lifespan=Life(ValueError("not today")))
    with z.comm.websocket.start_background(port=0) as handle:
        assert z.comm.websocket.is_running
    assert handle.wait(0)


def test_lifespan_of_an_asgi_app_surrounds_its_clients(make_z: MakeZ) -> None:
    """Also where no framework passes ``lifespan`` on: the first client waits for it."""

    async def main(with_events: bool) -> list[str]:
        life, z = Life(), make_z()
        app = z.comm.websocket.asgi(lifespan=life, on_connect=life.connected, on_disconnect=life.disconnected)
        server = InMemoryServer(app, type="lifespan")
        if with_events:
            server.put("lifespan.startup")
            assert (await server.next())["type"] == "lifespan.startup.complete"
            assert life.events == ["begin"]
        client = await InMemoryServer(app).open()
        client.put_text("hello")
        await client.next()
        await client.leave()
        if with_events:
            await server.ended_by_shutdown()
        else:
            server.task.cancel()
            z.comm.websocket.stop(wait=False)
            await app._runs[asyncio.get_running_loop()]._task
        return life.events

    assert asyncio.run(main(True)) == WHOLE_LIFE
    assert asyncio.run(main(False)) == WHOLE_LIFE


def test_lifespan_of_an_asgi_app_that_raises_is_reported(make_z: MakeZ) -> None:
    """As a failed startup; a client gets an error instead of being served without it."""

    async def main() -> None:
        app = make_z().comm.websocket.asgi(lifespan=Life(ValueError("not today")))
        server = InMemoryServer(app, type="lifespan")
        server.put("lifespan.startup")
        event = await server.next()
        assert event == {"type": "lifespan.startup.failed", "message": "ValueError: not today"}
        await server.ended()
        with pytest.raises(ValueError, match="not today"):
            await asyncio.wait_for(InMemoryServer(app).task, DEADLINE)

    asyncio.run(main())
