"""ASGI servers for the tests: one in memory, whose every event a test decides, and real ones in threads."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from websocket_serving import DEADLINE, eventually


class InMemoryServer:
    """The server's side of one scope: a test puts events in, and sees what the application sends."""

    def __init__(self, app: Any, path: str = "/", **scope: Any) -> None:
        self.scope: dict[str, Any] = {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "ws",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(b"host", b"server.example")],
            "client": ("127.0.0.1", 50000),
            "server": ("127.0.0.1", 80),
            "subprotocols": [],
            "extensions": {"websocket.http.response": {}},
            **scope,
        }
        self.events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        #: Cleared, ``send`` blocks, as for a client that does not read.
        self.writable = asyncio.Event()
        self.writable.set()
        #: What ``send`` raises.
        self.error: BaseException | None = None
        self.task = asyncio.get_running_loop().create_task(app(self.scope, self.receive, self.send))

    async def receive(self) -> dict[str, Any]:
        return await self.events.get()

    async def send(self, event: dict[str, Any]) -> None:
        await self.writable.wait()
        if self.error is not None:
            raise self.error
        self.sent.put_nowait(event)

    def put(self, kind: str, **fields: Any) -> None:
        self.events.put_nowait({"type": kind, **fields})

    def put_text(self, text: str) -> None:
        self.put("websocket.receive", text=text)

    async def next(self) -> dict[str, Any]:
        """The next event that the application sends."""
        return await asyncio.wait_for(self.sent.get(), DEADLINE)

    async def open(self) -> InMemoryServer:
        """Connect and wait until the application accepts."""
        self.put("websocket.connect")
        assert (await self.next())["type"] == "websocket.accept"
        return self

    async def leave(self, code: int = 1000, **fields: Any) -> None:
        """Report that the client has left, and wait until the application returns."""
        self.put("websocket.disconnect", code=code, **fields)
        await self.ended()

    async def ended_by_shutdown(self) -> None:
        """Send lifespan.shutdown and wait until the application returns."""
        self.put("lifespan.shutdown")
        await self.ended()

    async def ended(self) -> None:
        """Wait until the application returns."""
        # Without a cancellation, which would end the application too.
        done, _ = await asyncio.wait([self.task], timeout=DEADLINE)
        assert done, "the application does not return"
        self.task.result()


@contextlib.contextmanager
def _in_thread(main: Callable[[], object], stop: Callable[[], None]) -> Iterator[None]:
    errors: list[BaseException] = []

    def work() -> None:
        try:
            main()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop()
        thread.join(DEADLINE)
        assert not thread.is_alive()
    assert not errors, errors


@contextlib.contextmanager
def _listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


@contextlib.contextmanager
def on_uvicorn(app: Any, **options: Any) -> Iterator[int]:
    """Run an application under uvicorn; yield the port."""
    import uvicorn

    with _listening() as sock:
        config = uvicorn.Config(app, log_config=None, ws="websockets-sansio", timeout_graceful_shutdown=10, **options)
        server = uvicorn.Server(config)

        def stop() -> None:
            server.should_exit = True

        with _in_thread(lambda: asyncio.run(server.serve(sockets=[sock])), stop):
            eventually(lambda: server.started)
            yield sock.getsockname()[1]


@contextlib.contextmanager
def on_hypercorn(app: Any, **options: Any) -> Iterator[int]:
    """Run an application under hypercorn; yield the port."""
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    with _listening() as sock:
        port = sock.getsockname()[1]
        config = Config()
        config.bind = [f"fd://{sock.detach()}"]
        config.errorlog = config.accesslog = None
        for name, value in options.items():
            setattr(config, name, value)
        loops: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

        async def main() -> None:
            ended = asyncio.Event()
            loops.append((asyncio.get_running_loop(), ended))
            await serve(app, config, shutdown_trigger=ended.wait)  # type: ignore[arg-type]

        def stop() -> None:
            loop, ended = loops[0]
            loop.call_soon_threadsafe(ended.set)

        with _in_thread(lambda: asyncio.run(main()), stop):
            eventually(lambda: loops)
            yield port


@contextlib.contextmanager
def on_granian(folder: Path, module: str) -> Iterator[str]:
    """Run the variable ``app`` of a module in a folder under granian; yield the path of its Unix socket."""
    path = str(folder / "granian.sock")
    command = [sys.executable, "-m", "granian", "--interface", "asgi", "--uds", path, f"{module}:app"]
    process = subprocess.Popen(command, cwd=folder)

    def accepts() -> bool:
        assert process.poll() is None
        with socket.socket(socket.AF_UNIX) as sock, contextlib.suppress(OSError):
            sock.connect(path)
            return True
        return False

    try:
        eventually(accepts)
        yield path
    finally:
        process.terminate()
        assert process.wait(DEADLINE) == 0
