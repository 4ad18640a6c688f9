"""The ASGI application inside FastAPI, Starlette and Django."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from asgi_serving import on_uvicorn
from fastapi import FastAPI, WebSocketDisconnect
from starlette.applications import Starlette
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.testclient import TestClient
from test_asgi_servers import client_of
from websocket_serving import DEADLINE, eventually, talks

from zCLI import zCLI

MakeZ = Callable[..., zCLI]


def mounted(app: Any) -> FastAPI:
    """Return a FastAPI application with a route of its own, and ``app`` mounted at /ws."""
    site = FastAPI()

    @site.get("/ping")
    def ping() -> dict[str, str]:
        return {"ping": "pong"}

    site.mount("/ws", app)
    return site


def test_asgi_testclient_echoes_and_closes(make_z: MakeZ) -> None:
    """FastAPI's TestClient makes an event loop for each connection, and on_disconnect runs before it ends."""
    z = make_z()
    ends: list[Any] = []

    async def handler(websocket: Any, message: Any) -> None:
        if message == "close":
            await websocket.close(4000, "bye")
        await websocket.send(f"{websocket.path} {message}")

    def on_disconnect(websocket: Any) -> None:
        ends.append(websocket.close_code)

    client = TestClient(mounted(z.comm.websocket.asgi(handler, on_disconnect=on_disconnect)))
    for _ in range(2):
        with client.websocket_connect("/ws/chat") as websocket:
            websocket.send_text("x")
            assert websocket.receive_text() == "/chat x"
            assert z.comm.websocket.client_count == 1
            assert z.comm.websocket.publish("all").result(DEADLINE) == 1
            assert websocket.receive_text() == "all"
    assert ends == [1000, 1000]
    with client.websocket_connect("/ws/chat") as websocket:
        websocket.send_text("close")
        with pytest.raises(WebSocketDisconnect) as closed:
            websocket.receive_text()
        assert (closed.value.code, closed.value.reason) == (4000, "bye")
    assert client.get("/ping").json() == {"ping": "pong"}
    assert client.get("/ws/health").json() == {"status": "ok"}


def test_asgi_testclient_refuses_with_code(make_z: MakeZ) -> None:
    """A refusal is a close code after the accept."""
    client = TestClient(make_z(max_connections=1).comm.websocket.asgi(path="/chat"))
    with client.websocket_connect("/other") as websocket, pytest.raises(WebSocketDisconnect) as refused:
        websocket.receive_text()
    assert (refused.value.code, refused.value.reason) == (1008, "no such path")


def test_asgi_testclient_with_lifespan_shares_a_loop(make_z: MakeZ) -> None:
    """Inside ``with TestClient(app)`` all connections are in one event loop; the lifespan ends the run."""
    z = make_z()

    async def handler(websocket: Any, message: str) -> None:
        await z.comm.websocket.broadcast(message)

    with TestClient(z.comm.websocket.asgi(handler)) as client:
        assert z.comm.websocket.is_running
        with client.websocket_connect("/") as one, client.websocket_connect("/") as two:
            one.send_text("hello")
            assert [one.receive_text(), two.receive_text()] == ["hello", "hello"]
    assert not z.comm.websocket.is_running


def test_asgi_two_mounts_under_uvicorn(make_z: MakeZ) -> None:
    """Two mounts with different handlers and a framework's own WebSocket route live on one port."""
    z = make_z()

    async def shout(websocket: Any, message: str) -> None:
        await websocket.send(message.upper())

    async def own(websocket: Any) -> None:
        await websocket.accept()
        await websocket.send_text("own")
        await websocket.close()

    async def page(request: Any) -> Any:
        from starlette.responses import JSONResponse

        return JSONResponse({"clients": z.comm.websocket.client_count})

    site = Starlette(
        routes=[
            Route("/page", page), WebSocketRoute("/own", own), Mount("/echo", z.comm.websocket.asgi()),
            Mount("/nested", routes=[Mount("/shout", z.comm.websocket.asgi({"/loud": shout}))]),
        ]
    )  # fmt: skip
    with on_uvicorn(site) as port:
        with client_of(port, "/echo/") as one, client_of(port, "/nested/shout/loud") as two:
            assert talks(one)
            two.send("x")
            assert two.recv(timeout=DEADLINE) == "X"
            with client_of(port, "/own") as third:
                assert third.recv(timeout=DEADLINE) == "own"
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/page") as response:
                assert json.load(response) == {"clients": 2}
            assert z.comm.websocket.publish("all").result(DEADLINE) == 2
            assert [each.recv(timeout=DEADLINE) for each in (one, two)] == ["all", "all"]
        eventually(lambda: z.comm.websocket.client_count == 0)
    assert not z.comm.websocket.is_running


_DJANGO = """
import asyncio, sys
sys.path.insert(0, {tests!r})
from django.conf import settings
settings.configure(DEBUG=False, ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="x")
from django.core.asgi import get_asgi_application
from django.http import JsonResponse
from django.urls import path

from zCLI import zCLI

z = zCLI({{"deployment": "Production", "logger": "PROD", "logger_path": "logs"}})


async def count(request):
    return JsonResponse({{"clients": z.comm.websocket.client_count}})


urlpatterns = [path("count", count)]
django = get_asgi_application()
sockets = z.comm.websocket.asgi(path="/chat")


async def app(scope, receive, send):
    await (sockets if scope["type"] in ("websocket", "lifespan") else django)(scope, receive, send)


import json, urllib.request
from asgi_serving import on_uvicorn
from test_asgi_servers import client_of
from websocket_serving import talks

with on_uvicorn(app) as port, client_of(port, "/chat") as client:
    assert talks(client)
    with urllib.request.urlopen(f"http://127.0.0.1:{{port}}/count") as response:
        print(json.load(response))
"""


def test_asgi_beside_django(tmp_path: Path) -> None:
    """Django's application answers HTTP, and ours WebSockets, composed by scope type."""
    tests = str(Path(__file__).parent)
    script = tmp_path / "site.py"
    script = tmp_path / "django_site.py"
    script.write_text(_DJANGO.format(tests=tests))
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.returncode) == ("{'clients': 1}\n", 0), done.stderr


def test_asgi_application_error_in_startup(make_z: MakeZ) -> None:
    """If the framework's own lifespan raises, the server does not start, and no run of ours is left."""
    z = make_z()

    @contextlib.asynccontextmanager
    async def lifespan(app: Any) -> Any:
        raise ValueError("no database")
        yield

    site = FastAPI(lifespan=lifespan)
    site.mount("/ws", z.comm.websocket.asgi())
    with pytest.raises(ValueError, match="no database"), TestClient(site):
        pass
    assert not z.comm.websocket.is_running
