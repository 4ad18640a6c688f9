"""The ASGI application under real servers, with clients of the library ``websockets``, and HTTP/2."""

from __future__ import annotations

import contextlib
import json
import socket
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from asgi_serving import on_granian, on_hypercorn, on_uvicorn
from websocket_serving import DEADLINE, TOKEN, end_of, eventually, talks
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect, unix_connect

from zCLI import zCLI

MakeZ = Callable[..., zCLI]
Serve = Callable[..., Any]

servers = pytest.mark.parametrize("server", [on_uvicorn, on_hypercorn], ids=["uvicorn", "hypercorn"])


@contextlib.contextmanager
def client_of(port: int, path: str = "/", **options: Any) -> Iterator[ClientConnection]:
    with connect(f"ws://127.0.0.1:{port}{path}", proxy=None, open_timeout=DEADLINE, **options) as client:
        yield client


@servers
def test_asgi_server_runs_handlers_and_broadcasts(make_z: MakeZ, server: Serve) -> None:
    """Messages, broadcasts from this thread, close codes and refusals arrive at real clients."""
    z = make_z(require_auth=True, tokens={"alice": TOKEN})
    ends: list[Any] = []

    async def handler(websocket: Any, message: Any) -> None:
        if message == "close":
            await websocket.close(4000, "bye")
        elif message == "fail":
            raise ValueError("a fault")
        else:
            await websocket.send(message)

    async def on_disconnect(websocket: Any) -> None:
        ends.append(websocket.close_code)

    app = z.comm.websocket.asgi(handler, on_disconnect=on_disconnect)
    with server(app) as port:
        with client_of(port, f"/?token={TOKEN}") as one, client_of(port, f"/?token={TOKEN}") as two:
            assert talks(one)
            one.send(b"\0" * 100_000)
            assert one.recv(timeout=DEADLINE) == b"\0" * 100_000
            assert z.comm.websocket.publish("all").result(DEADLINE) == 2
            assert [each.recv(timeout=DEADLINE) for each in (one, two)] == ["all", "all"]
            one.send("close")
            assert end_of(one) == (4000, "bye")
            two.send("fail")
            assert end_of(two) == (1011, "the server failed to handle a message")
        eventually(lambda: sorted(ends) == [1011, 4000])
        with client_of(port) as refused:
            assert end_of(refused) == (1008, "authentication required")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as response:
            assert json.load(response) == {"status": "ok"}


@servers
def test_asgi_server_refuses_with_status(make_z: MakeZ, server: Serve) -> None:
    """``refuse_with: http`` sends an HTTP status."""
    app = make_z(require_auth=True, tokens={"alice": TOKEN}, refuse_with="http").comm.websocket.asgi()
    with server(app) as port, pytest.raises(InvalidStatus) as refused, client_of(port):
        pass
    assert refused.value.response.status_code == 401


def test_asgi_uvicorn_stop_ends_clients(make_z: MakeZ) -> None:
    """When uvicorn stops, on_disconnect has run before it is down, although a client is connected."""
    z = make_z()
    ends: list[Any] = []

    async def on_disconnect(websocket: Any) -> None:
        ends.append(websocket.close_code)

    with contextlib.ExitStack() as stack:
        with on_uvicorn(z.comm.websocket.asgi(on_disconnect=on_disconnect)) as port:
            assert talks(stack.enter_context(client_of(port)))
        assert ends == [1012]
    assert not z.comm.websocket.is_running


def test_asgi_uvicorn_reports_codes_of_clients(make_z: MakeZ) -> None:
    """uvicorn passes on the code and reason of the client, and a connection without a close frame is 1006."""
    ends: list[Any] = []

    async def on_disconnect(websocket: Any) -> None:
        ends.append((websocket.close_code, websocket.close_reason))

    with on_uvicorn(make_z().comm.websocket.asgi(on_disconnect=on_disconnect)) as port:
        with client_of(port) as client:
            client.close(4001, "done")
        with client_of(port) as client:
            client.socket.shutdown(socket.SHUT_RDWR)
        eventually(lambda: len(ends) == 2)
    assert ends == [(4001, "done"), (1006, "the client left without a close frame")]


def test_asgi_client_that_does_not_read_is_dropped(make_z: MakeZ) -> None:
    """A client of uvicorn that reads nothing is closed with 1013, and does not delay the others or the stop."""
    z = make_z(max_send_buffer=256 * 1024, close_timeout=0.2)
    ends: list[Any] = []

    async def on_disconnect(websocket: Any) -> None:
        ends.append(websocket.close_code)

    with (
        on_uvicorn(z.comm.websocket.asgi(on_disconnect=on_disconnect)) as port,
        client_of(port) as good,
        socket.create_connection(("127.0.0.1", port)) as slow,
    ):
        slow.sendall(_UPGRADE)
        eventually(lambda: z.comm.websocket.client_count == 2)
        stuck = next(each for each in z.comm.websocket.clients if each.remote_address[1] == slow.getsockname()[1])

        def published() -> bool:
            return bool(z.comm.websocket.publish(b"x" * 65536, to=stuck).result(DEADLINE) == 0)

        eventually(published)
        eventually(lambda: ends == [1013])
        assert talks(good)


_UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def test_asgi_http2_on_hypercorn_echoes(make_z: MakeZ) -> None:
    """A WebSocket over HTTP/2 (RFC 8441) is an ordinary client."""
    from h2.config import H2Configuration
    from h2.connection import H2Connection
    from h2.events import DataReceived, RemoteSettingsChanged, ResponseReceived

    seen: list[Any] = []

    async def on_connect(websocket: Any) -> None:
        seen.append((websocket.request.method, websocket.path, websocket.request.query))

    with (
        on_hypercorn(make_z().comm.websocket.asgi(on_connect=on_connect)) as port,
        socket.create_connection(("127.0.0.1", port), DEADLINE) as sock,
    ):
        h2 = H2Connection(H2Configuration(client_side=True))
        h2.initiate_connection()
        sock.sendall(h2.data_to_send())

        def wait_for(kind: type[Any]) -> Any:
            while True:
                for event in h2.receive_data(sock.recv(65536)):
                    if isinstance(event, kind):
                        return event
                sock.sendall(h2.data_to_send())

        wait_for(RemoteSettingsChanged)
        headers = [
            (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", "/x?y=1"),
            (":authority", "server.example"), ("sec-websocket-version", "13"),
        ]  # fmt: skip
        h2.send_headers(1, headers)
        sock.sendall(h2.data_to_send())
        assert (b":status", b"200") in [
            (_bytes(name), _bytes(value)) for name, value in wait_for(ResponseReceived).headers
        ]
        h2.send_data(1, b"\x81\x85\0\0\0\0hello")
        sock.sendall(h2.data_to_send())
        assert wait_for(DataReceived).data == b"\x81\x05hello"
        h2.send_data(1, b"\x88\x82\0\0\0\0\x03\xe8")
        sock.sendall(h2.data_to_send())
    assert seen == [("GET", "/x", "y=1")]


def _bytes(text: Any) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


_MODULE = """
from zCLI import zCLI

z = zCLI({"deployment": "Production", "logger": "PROD", "logger_path": "logs"})


async def gone(websocket):
    with open("ends", "a") as file:
        print(websocket.close_code, file=file)


app = z.comm.websocket.asgi(on_disconnect=gone)
"""


def test_asgi_granian_echoes_and_stops(tmp_path: Path) -> None:
    """granian needs no special case."""
    (tmp_path / "module.py").write_text(_MODULE)
    with on_granian(tmp_path, "module") as path:
        with unix_connect(path, "ws://localhost/", open_timeout=DEADLINE) as client:
            assert talks(client)
            client.send("x" * 2_000_000)
            assert end_of(client)[0] == 1009
        with unix_connect(path, "ws://localhost/", open_timeout=DEADLINE) as client:
            assert talks(client)
        ends = tmp_path / "ends"
        eventually(lambda: ends.exists() and ends.read_text().split() == ["1009", "1000"])
