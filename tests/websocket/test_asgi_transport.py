"""The transport ``uvicorn``: the same server under uvicorn, with an ASGI application on the same port."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websocket_serving import DEADLINE, TOKEN, Certificates, Served, end_of, eventually, talks
from websockets.sync.client import connect, unix_connect

from zCLI import ConfigError, ListenError, zCLI

Serve = Callable[..., Served]

_SITE = """
import contextlib
from fastapi import FastAPI, WebSocket
from starlette.staticfiles import StaticFiles

calls = []

@contextlib.asynccontextmanager
async def lifespan(app):
    calls.append("up")
    yield
    calls.append("down")

app = FastAPI(lifespan=lifespan)

@app.get("/ping")
def ping():
    return {"ping": "pong"}

app.mount("/static", StaticFiles(directory="."))

@contextlib.asynccontextmanager
async def failing(app):
    raise ValueError("no database")
    yield

broken = FastAPI(lifespan=failing)
number = 5

def make_app():
    return app

class Wsgi:
    def __call__(self, environ, start_response):
        return []

wsgi = Wsgi()

async def without_lifespan(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})
"""


@pytest.fixture
def make_served(
    isolated: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Served]]:
    """Return a function that serves with the transport ``uvicorn`` in the background, until the end of the test."""
    name = f"site_{abs(hash(request.node.nodeid))}"
    (isolated / f"{name}.py").write_text(_SITE)
    monkeypatch.syspath_prepend(isolated)
    monkeypatch.chdir(isolated)
    made: list[zCLI] = []

    def make(app: str | None = None, handler: Any = None, on_disconnect: Any = None, **settings: Any) -> Served:
        settings = {"transport": "uvicorn", "max_refusal_delay": 0, **settings}
        spark: dict[str, Any] = {"deployment": "Production", "logger": "PROD", "logger_path": str(isolated / "logs")}
        if app is not None:
            spark["asgi"] = {"app": app.replace("SITE", name)}
        made.append(zCLI({**spark, "websocket": settings}))
        where = {} if "unix_path" in settings else {"port": 0}
        start = made[-1].comm.websocket.start_background
        return Served(made[-1], start(handler=handler, on_disconnect=on_disconnect, **where))

    yield make
    for z in made:
        z.close()
        assert not z.comm.websocket.is_running
    sys.modules.pop(name, None)


def fetch(served: Served, path: str) -> tuple[int, bytes]:
    url = f"{served.url.replace('ws', 'http', 1)}{path}"
    try:
        with urllib.request.urlopen(url, timeout=DEADLINE) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_uvicorn_transport_serves_and_stops(make_served: Callable[..., Served]) -> None:
    """Handlers, broadcasts, plain HTTP and a stop with 1001 work as with our own listener."""
    ends: list[Any] = []

    async def on_disconnect(websocket: Any) -> None:
        ends.append(websocket.close_code)

    served = make_served(on_disconnect=on_disconnect)
    with served.client() as client:
        assert talks(client)
        assert served.websocket.publish("all").result(DEADLINE) == 1
        assert client.recv(timeout=DEADLINE) == "all"
        assert fetch(served, "/health") == (200, b'{"status": "ok"}\n')
        assert served.handle.stop()
        assert end_of(client) == (1001, "the server is shutting down")
    assert ends == [1001]
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", served.port))


def test_uvicorn_transport_authenticates(make_served: Callable[..., Served]) -> None:
    """The gate is the same."""
    served = make_served(require_auth=True, tokens={"alice": TOKEN})
    assert served.refusal() == (1008, "authentication required")
    with served.client(f"/?token={TOKEN}") as client:
        assert talks(client)


def test_uvicorn_transport_serves_an_application(make_served: Callable[..., Served]) -> None:
    """One port has a FastAPI application with its docs page, static files, its lifespan, and our WebSockets."""
    served = make_served("SITE:app")
    module = next(module for name, module in sys.modules.items() if name.startswith("site_") and module is not None)
    assert module.calls == ["up"]
    with served.client() as client:
        assert talks(client)
        assert json.loads(fetch(served, "/ping")[1]) == {"ping": "pong"}
        assert b"swagger" in fetch(served, "/docs")[1]
        assert b"calls = []" in fetch(served, f"/static/{module.__name__}.py")[1]
        assert fetch(served, "/health")[0] == 404  # the application answers every plain request
    served.handle.stop()
    assert module.calls == ["up", "down"]


def test_uvicorn_transport_application_without_lifespan(make_served: Callable[..., Served]) -> None:
    """An application that knows only HTTP is served too."""
    assert fetch(make_served("SITE:without_lifespan"), "/") == (204, b"")


@pytest.mark.parametrize(
    ("app", "problem"),
    [
        ("missing_module:app", r"asgi\.app \(zSpark\): no module 'missing_module' found"),
        ("SITE:missing", r"asgi\.app \(zSpark\): 'site_\d+' has no attribute 'missing'"),
        ("SITE:number", r"asgi\.app \(zSpark\): 'site_\d+:number' must be an ASGI application, got int"),
        ("SITE:make_app", r"which takes \(scope, receive, send\), got a function that takes \(\); if calling it makes"),
        ("SITE:Wsgi", r"got a class that takes \(\); if calling it makes"),
        ("SITE:wsgi", r"got a Wsgi that takes \(environ, start_response\)$"),
        (
            "json:dumps",
            r"asgi\.app \(zSpark\): 'json:dumps' must be an ASGI application.*got a function that takes \(obj",
        ),
        ("SITE:broken", r"asgi\.app \(zSpark\): 'site_\d+:broken' failed to start: ValueError: no database"),
        ("no reference", r"asgi\.app"),
    ],
)
def test_uvicorn_transport_application_is_unusable(make_served: Callable[..., Served], app: str, problem: str) -> None:
    """The error names the setting, its origin and the problem, and the port is not held."""
    with pytest.raises(ConfigError, match=problem):
        make_served(app)


@pytest.mark.parametrize(
    ("settings", "where"), [({}, "'wsproto' (the default)"), ({"transport": "wsproto"}, "'wsproto' (zSpark)")]
)
def test_asgi_app_without_uvicorn_is_a_warning(isolated: Path, settings: dict[str, str], where: str) -> None:
    """It names both settings and where they were set; without ``asgi.app`` there is no warning."""
    for asgi in ({"app": "site:app"}, {}):
        spark = {"title": "quiet", "deployment": "Production", "logger_path": str(isolated)}
        with zCLI({**spark, "asgi": asgi, "websocket": settings}):
            log = (isolated / "quiet.log").read_text()
    expected = f"asgi.app (zSpark) has no effect, because websocket.transport is {where}; set websocket.transport to"
    assert (log.count("has no effect"), log.count(expected)) == (1, 1)


def test_uvicorn_transport_port_in_use_is_an_error(make_served: Callable[..., Served]) -> None:
    """A port that another server holds gives the usual error."""
    served = make_served()
    z = zCLI({"deployment": "Production", "logger": "PROD", "websocket": {"transport": "uvicorn"}})
    with pytest.raises(ListenError, match="is in use by this process"):
        z.comm.websocket.start_background(port=served.port)
    z.close()


def test_uvicorn_transport_unix_socket(make_served: Callable[..., Served], tmp_path: Path) -> None:
    """A Unix socket is bound by us, with its mode, and removed at the end."""
    path = tmp_path / "our.sock"
    served = make_served(unix_path=str(path), unix_mode="0600")
    assert path.stat().st_mode & 0o777 == 0o600
    with unix_connect(str(path), "ws://localhost/", open_timeout=DEADLINE) as client:
        assert talks(client)
    served.handle.stop()
    assert not path.exists()


def test_uvicorn_transport_tls_and_client_certificate(
    make_served: Callable[..., Served], certificates: Certificates
) -> None:
    """TLS is ours, and handlers see the client's certificate."""
    certificate, key = certificates.issue("server")
    client_certificate, client_key = certificates.issue("client", common_name="alice")
    authority = certificate.with_name("ca.pem")
    certificates.authority.cert_pem.write_to_path(str(authority))
    subjects: list[Any] = []

    async def handler(websocket: Any, message: str) -> None:
        subjects.append(served.websocket.auth.get_client_info(websocket)["certificate_subject"])
        await websocket.send(message)

    served = make_served(
        handler=handler, ssl_enabled=True, ssl_cert=str(certificate), ssl_key=str(key), ssl_client_ca=str(authority)
    )
    assert served.url.startswith("wss://")
    context = certificates.trusting()
    context.load_cert_chain(client_certificate, client_key)
    with connect(
        served.url.replace("127.0.0.1", "localhost"), ssl=context, proxy=None, open_timeout=DEADLINE
    ) as client:
        assert talks(client)
    assert "CN=alice" in subjects[0]


def test_uvicorn_transport_reports_violations(make_served: Callable[..., Served]) -> None:
    """What uvicorn closes itself is recorded as closed by the server."""
    served = make_served(max_size=1000)
    with served.client() as client:
        client.send("x" * 1001)
        assert end_of(client)[0] == 1009
    assert "closed by the server, 1009" in served.logged("1009")


def test_uvicorn_transport_silent_client_is_closed(make_served: Callable[..., Served]) -> None:
    """The keepalive is uvicorn's, with our settings."""
    served = make_served(ping_interval=0.05, ping_timeout=0.05)
    with socket.create_connection(("127.0.0.1", served.port), DEADLINE) as sock:
        sock.sendall(
            b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        received = b""
        while b"no pong for 0.05 s" not in received:
            received += sock.recv(65536)
    assert "closed by the server, 1011 'keepalive" in served.logged("1011")


def test_uvicorn_transport_stuck_client_does_not_delay_stop(make_served: Callable[..., Served]) -> None:
    """A client that neither reads nor closes ends with close_timeout."""
    served = make_served(close_timeout=0.2)
    with socket.create_connection(("127.0.0.1", served.port), DEADLINE) as sock:
        sock.sendall(
            b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        eventually(lambda: served.websocket.client_count)
        for _ in range(40):
            served.websocket.publish(b"x" * 65536).result(DEADLINE)
        assert served.handle.stop()


def test_uvicorn_transport_in_a_running_loop(make_served: Callable[..., Served], isolated: Path) -> None:
    """``serve()`` runs in the caller's event loop."""

    async def main() -> None:
        z = zCLI({"deployment": "Production", "logger": "PROD", "websocket": {"transport": "uvicorn"}})
        serving = asyncio.ensure_future(z.comm.websocket.serve(port=0))
        while not z.comm.websocket.is_running:
            await asyncio.sleep(0.001)
        url = z.comm.websocket.url
        assert url is not None

        def talk() -> bool:
            with connect(url, proxy=None, open_timeout=DEADLINE) as client:
                return talks(client)

        assert await asyncio.to_thread(talk)
        z.comm.websocket.stop(wait=False)
        await serving
        z.close()

    asyncio.run(asyncio.wait_for(main(), DEADLINE * 2))
