"""The handlers of level 2 give the same results on zCLI's own server and on every ASGI server."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import psutil
import pytest
from asgi_demo import application
from demo_pages import FOLDER, TIMEOUT, click, expect_received, expect_state, send_message
from playwright.sync_api import Page
from script_runs import plain_environment, started_script

from zcli_core.testing.websocket.client import until

#: The token of the demos, in the .zEnv beside them.
TOKEN = "demo_secure_token_123"

#: Command lines of ASGI servers on a free port, with and without TLS.
SERVERS = {
    "uvicorn": ["uvicorn", "--host", "127.0.0.1", "--port", "0"],
    "hypercorn": ["hypercorn", "--bind", "127.0.0.1:0"],
    "granian": ["granian", "--interface", "asgi", "--host", "127.0.0.1", "--port", "0"],
}
TLS_OPTIONS = {
    "uvicorn": ("--ssl-certfile", "--ssl-keyfile"),
    "hypercorn": ("--certfile", "--keyfile"),
    "granian": ("--ssl-certificate", "--ssl-keyfile"),
}


class Session(Protocol):
    """An open connection of a client."""

    def send(self, message: str | bytes) -> None:
        """Send a message."""

    def receive(self) -> str | bytes:
        """Return the next message."""

    def refusal(self) -> tuple[int, str]:
        """Return the code and the reason with which the server closes the connection."""


#: Opens a connection, with the query of its URL.
Connect = Callable[[str], contextlib.AbstractContextManager[Session]]


# What is the same everywhere --------------------------------------------------------------------------------------


def talk(demo: str, connect: Connect) -> list[Any]:
    """Use a demo's server as a client; return everything that it has sent."""
    if demo.startswith(("1_", "2_")):
        return _talk_openly(connect)
    heard: list[Any] = [_refused(connect, ""), _refused(connect, "?token=a_wrong_token")]
    heard += _talk_to_each_other(connect) if demo.startswith("5_") else [_answer(connect, f"?token={TOKEN}", "hello")]
    return heard


def _talk_openly(connect: Connect) -> list[Any]:
    with connect("") as session:
        heard = []
        for message in ("hello", "dänke 😀", "x" * 70_000):
            session.send(message)
            heard.append(session.receive())
        return heard


def _answer(connect: Connect, query: str, message: str) -> Any:
    with connect(query) as session:
        session.send(message)
        return session.receive()


def _refused(connect: Connect, query: str) -> tuple[int, str]:
    with connect(query) as session:
        return session.refusal()


def _talk_to_each_other(connect: Connect) -> list[Any]:
    """Each of three clients gets the messages of the others; their addresses differ from run to run."""
    query = f"?token={TOKEN}"
    with connect(query) as one, connect(query) as two, connect(query) as three:
        one.send("from one")
        heard = [two.receive(), three.receive()]
        two.send("from two")
        heard += [one.receive(), three.receive()]
    return [re.sub(r"^\S+:\d+ says", "CLIENT says", str(message)) for message in heard]


REFUSED = [(1008, "authentication required"), (1008, "authentication failed")]
EXPECTED = {
    "1_websocket_server.py": ["hello", "dänke 😀", "x" * 70_000],
    "2_websocket_echo.py": ["Echo: hello", "Echo: dänke 😀", "Echo: " + "x" * 70_000],
    "3_websocket_secure.py": [*REFUSED, "[Secure Echo]: hello"],
    "4_websocket_wss.py": [*REFUSED, "[Encrypted Echo]: hello"],
    "5_websocket_broadcast.py": [*REFUSED, *["CLIENT says: from one"] * 2, *["CLIENT says: from two"] * 2],
}
every_demo = pytest.mark.parametrize("demo", EXPECTED)


# Clients ----------------------------------------------------------------------------------------------------------


class NetworkSession(NamedTuple):
    """A connection of the package ``websockets``."""

    socket: Any

    def send(self, message: str | bytes) -> None:
        self.socket.send(message)

    def receive(self) -> str | bytes:
        received: str | bytes = self.socket.recv(timeout=TIMEOUT / 1000)
        return received

    def refusal(self) -> tuple[int, str]:
        from websockets.exceptions import ConnectionClosed

        with pytest.raises(ConnectionClosed) as closed:
            self.socket.recv(timeout=TIMEOUT / 1000)
        assert closed.value.rcvd is not None
        return closed.value.rcvd.code, closed.value.rcvd.reason


def network(url: str) -> Connect:
    """Connect to a server, which may have the certificate of demo 4."""
    from websockets.sync.client import connect

    context = ssl.create_default_context() if url.startswith("wss") else None
    if context is not None:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    @contextlib.contextmanager
    def open_(query: str) -> Iterator[Session]:
        with connect(f"{url}/{query}", ssl=context, proxy=None) as socket:
            yield NetworkSession(socket)

    return open_


class StarletteSession(NamedTuple):
    """A connection of FastAPI's TestClient."""

    session: Any

    def send(self, message: str | bytes) -> None:
        if isinstance(message, str):
            self.session.send_text(message)
        else:
            self.session.send_bytes(message)

    def receive(self) -> str | bytes:
        event = self.session.receive()
        received: str | bytes = event["text"] if event.get("text") is not None else event["bytes"]
        return received

    def refusal(self) -> tuple[int, str]:
        from starlette.websockets import WebSocketDisconnect

        with pytest.raises(WebSocketDisconnect) as closed:
            self.session.receive_text()
        return closed.value.code, closed.value.reason


# Servers ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def serving(server: str, demo: str, folder: Path) -> Iterator[str]:
    """Run a demo's handlers in a process of an ASGI server; yield the URL for clients."""
    command = [sys.executable, "-m", *SERVERS[server]]
    if demo.startswith("4_"):
        certificate, key = TLS_OPTIONS[server]
        command += [certificate, str(FOLDER / "certs" / "demo.cert"), key, str(FOLDER / "certs" / "demo.key")]
        _make_certificate(folder)
    variables = {"LEVEL_2_DEMO": demo, "PYTHONPATH": str(Path(__file__).parent)}
    if demo.startswith(
        "2_"
    ):  # without authentication, only zCLI's own server admits pages opened from a file by itself
        variables["WEBSOCKET_ALLOWED_ORIGINS"] = "file://"
    log = folder / "server.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [*command, "asgi_demo:app"], cwd=folder, env=plain_environment(folder, variables),
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    try:
        port = until(lambda: _port(process), "the server does not listen", TIMEOUT / 1000)
        yield f"{'wss' if demo.startswith('4_') else 'ws'}://127.0.0.1:{port}"
    finally:
        # hypercorn waits for its clients for ever, with any application (Python 3.12 and later).
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    printed = log.read_text()
    # uvicorn logs the whole URL of each upgrade itself, and a browser can send a token only there.
    assert TOKEN not in printed or server == "uvicorn"
    assert "Traceback" not in printed, printed


def _port(process: subprocess.Popen[Any]) -> int | None:
    """Return the port on which a process or one of its children listens; not every server prints it."""
    assert process.poll() is None, "the server has ended"
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(process.pid)
        for each in (parent, *parent.children(recursive=True)):
            for connection in each.net_connections("tcp"):
                if connection.status == psutil.CONN_LISTEN:
                    return int(connection.laddr.port)
    return None


def _make_certificate(folder: Path) -> None:
    subprocess.run(
        [sys.executable, str(FOLDER / "demo_certificate.py")], cwd=folder, env=plain_environment(folder), check=True
    )


# Tests ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@every_demo
def test_level_2_own_server_gives_the_results(demo: str, tmp_path: Path) -> None:
    """The results to compare with are those of zCLI's own server."""
    with started_script(FOLDER / demo, folder=tmp_path, variables={"WEBSOCKET_PORT": "0"}) as process:
        assert process.stdout is not None
        url = next(line.split()[3] for line in process.stdout if line.startswith("[WebSocket] listening on "))
        assert talk(demo, network(url)) == EXPECTED[demo]


@every_demo
def test_level_2_testclient_gives_the_same(demo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The application is mounted in a FastAPI application, under a prefix."""
    fastapi = pytest.importorskip("fastapi")
    from fastapi.testclient import TestClient

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZCLI_CONFIG_DIR", str(tmp_path))
    app = fastapi.FastAPI()
    app.mount("/live", application(demo))
    with TestClient(app, base_url="https://testserver" if demo.startswith("4_") else "http://testserver") as client:

        @contextlib.contextmanager
        def open_(query: str) -> Iterator[Session]:
            with client.websocket_connect(f"/live/{query}") as session:
                yield StarletteSession(session)

        assert talk(demo, open_) == EXPECTED[demo]


@pytest.mark.slow
@every_demo
@pytest.mark.parametrize("server", SERVERS)
def test_level_2_asgi_server_gives_the_same(server: str, demo: str, tmp_path: Path) -> None:
    """The server needs no special setting, and logs no traceback."""
    pytest.importorskip(server)
    with serving(server, demo, tmp_path) as url:
        assert talk(demo, network(url)) == EXPECTED[demo]


@pytest.mark.slow
@pytest.mark.xdist_group("chromium")
@pytest.mark.parametrize("server", SERVERS)
def test_level_2_page_works_on_asgi_server(server: str, open_page: Callable[..., Page], tmp_path: Path) -> None:
    """Chromium gets the code of a refusal, and the broadcasts of the other windows."""
    pytest.importorskip(server)
    with serving(server, "5_websocket_broadcast.py", tmp_path) as url:
        windows = [open_page("5_client_broadcast.html", url) for _ in range(3)]
        click(windows[0], "Test Wrong Token")
        expect_state(windows[0], "refused", "code 1008 · authentication failed")
        for window in windows:
            click(window, "Connect")
            expect_state(window, "open", "the server accepted the token")
        send_message(windows[0], "<b>hello</b>")
        for window in windows[1:]:
            expect_received(window, "<b>hello</b>")
        click(windows[2], "Disconnect")
        expect_state(windows[2], "closed", "code 1000")


@pytest.mark.slow
@pytest.mark.xdist_group("chromium")
@pytest.mark.parametrize("server", SERVERS)
def test_level_2_echo_page_on_asgi_server(server: str, open_page: Callable[..., Page], tmp_path: Path) -> None:
    """Chromium offers compression, and gets its message back."""
    pytest.importorskip(server)
    with serving(server, "2_websocket_echo.py", tmp_path) as url:
        page = open_page("2_client_echo.html", url)
        click(page, "Connect")
        expect_state(page, "open", "Connected")
        for message in ("hello", "x" * 5000):
            send_message(page, message)
            expect_received(page, f"Echo: {message}")
