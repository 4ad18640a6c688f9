"""The guide's snippets of level 2 and of zBifrost, unchanged, on the ports that they name.

``guide_snippets`` holds exact copies. ``tests/test_guide.py`` compares them with the guide.
"""

from __future__ import annotations

import contextlib
import functools
import json
import re
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import scaffolded_transport
import trustme
from needs import usual_ports
from script_runs import ROOT, started_script
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from zcli_core.testing.tls_sockets import ThreadSafeSSLSocket

pytestmark = usual_ports

SNIPPETS = ROOT / "tests" / "guide_snippets"
TIMEOUT = 60.0  # seconds
TOKEN = "demo_secure_token_123"


def _wait_for_port(port: int) -> None:
    """Wait until no other program holds the port, such as another run of these tests."""
    end = time.monotonic() + TIMEOUT
    while time.monotonic() < end:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return
        time.sleep(0.1)
    pytest.fail(f"another program holds port {port}, on which the guide's snippet listens")


@pytest.fixture
def serving(tmp_path: Path) -> Any:
    """A context manager that runs a snippet as a script in ``tmp_path``."""
    return functools.partial(_serving, tmp_path)


@contextlib.contextmanager
def _serving(
    folder: Path, name: str, port: int = 8765, before: str = "", variables: Mapping[str, str] = {}
) -> Iterator[subprocess.Popen[str]]:
    """Run a snippet, after the code in ``before``, with the guide's .zEnv; stop it with Ctrl+C at the end."""
    script = folder / f"{name}.py"
    script.write_text(before + (SNIPPETS / f"{name}.py").read_text(encoding="utf-8"), encoding="utf-8")
    (folder / ".zEnv").write_text(f"WEBSOCKET_TOKEN={TOKEN}\n", encoding="utf-8")
    _wait_for_port(port)
    with started_script(script, folder=folder, variables=variables) as process:
        assert process.stdout is not None
        printed = ""
        for line in process.stdout:
            printed += line
            if "listening on" in line:
                break
        else:
            pytest.fail(printed)
        try:
            yield process
        except BaseException:
            process.kill()
            print(process.communicate()[0])  # the output of the server, beside the error of the client
            raise
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=TIMEOUT)
        assert process.returncode == 0, rest
        assert re.search(rf"stopped: \d clients? closed, port {port} released", rest)


def _connect(url: str, **options: Any) -> ClientConnection:
    return connect(url, proxy=None, open_timeout=TIMEOUT, **options)


def _code(client: ClientConnection) -> int:
    with pytest.raises(ConnectionClosed) as closed:
        client.recv(timeout=TIMEOUT)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code


def test_guide_zbifrost_greets_and_answers(serving: Any) -> None:
    """The snippet serves until Ctrl+C. The guide leaves the import out."""
    before = "from zCLI import zCLI\n"
    with serving("path_1_zbifrost", before=before), _connect("ws://127.0.0.1:8765") as client:
        assert json.loads(client.recv(timeout=TIMEOUT))["event"] == "connection_info"
        client.send('{"event": "greet", "_requestId": 0}')
        answer = json.loads(client.recv(timeout=TIMEOUT))
        assert answer == {"_requestId": 0, "error": "unknown event 'greet'", "code": "not_found"}


def test_guide_level_2_i_server_echoes(serving: Any) -> None:
    """The server sends messages back until Ctrl+C, and then prints that it has stopped."""
    with serving("level_2_i_websocket_server"), _connect("ws://127.0.0.1:8765") as client:
        client.send("hello")
        assert client.recv(timeout=TIMEOUT) == "hello"


def test_guide_level_2_ii_handler_echoes(serving: Any) -> None:
    """The handler sends the response that the guide shows."""
    with serving("level_2_ii_echo"), _connect("ws://127.0.0.1:8765") as client:
        client.send("Hello from browser!")
        assert client.recv(timeout=TIMEOUT) == "Echo: Hello from browser!"


@pytest.mark.parametrize(("transport", "refused"), [("wsproto", None), (scaffolded_transport.NAME, 1008)])
def test_guide_level_2_ii_uses_the_set_transport(serving: Any, transport: str, refused: int | None) -> None:
    """One variable selects the transport. The scaffolded one closes the second message of a client with 1008."""
    variables = {
        **scaffolded_transport.variables(),
        "ZCLI_WEBSOCKET_TRANSPORT": transport,
        "ZCLI_SCAFFOLDED_MESSAGES_PER_SECOND": "0.001",
    }
    with serving("level_2_ii_echo", variables=variables), _connect("ws://127.0.0.1:8765") as client:
        client.send("one")
        assert client.recv(timeout=TIMEOUT) == "Echo: one"
        client.send("two")
        if refused is None:
            assert client.recv(timeout=TIMEOUT) == "Echo: two"
        else:
            assert _code(client) == refused


def test_guide_level_2_iii_checks_token_and_origin(serving: Any) -> None:
    """The server closes clients with 1008 without the right token, and from an origin that is not allowed."""
    with serving("level_2_iii_secure"):
        for origin in (None, "null", "file://", "http://localhost"):
            with _connect(f"ws://127.0.0.1:8765?token={TOKEN}", origin=origin) as client:
                client.send("hello")
                assert client.recv(timeout=TIMEOUT) == "[Secure Echo]: hello"
        for url, origin in (("?token=wrong", None), ("", None), (f"?token={TOKEN}", "http://evil.example")):
            with _connect(f"ws://127.0.0.1:8765{url}", origin=origin) as client:
                assert _code(client) == 1008


def test_guide_level_2_iv_serves_over_tls(serving: Any, tmp_path: Path) -> None:
    """The snippet works with certificates in its folder, and with the handler that it leaves to the reader."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    (tmp_path / "certs").mkdir()
    (tmp_path / "certs" / "demo.cert").write_bytes(issued.cert_chain_pems[0].bytes())
    (tmp_path / "certs" / "demo.key").write_bytes(issued.private_key_pem.bytes())
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.sslsocket_class = ThreadSafeSSLSocket  # the client of websockets reads in another thread
    authority.configure_trust(trusting)
    handler = "async def my_handler(websocket, message):\n    await websocket.send(message)\n\n"
    with (
        serving("level_2_iv_wss", 8766, handler),
        _connect(f"wss://127.0.0.1:8766?token={TOKEN}", ssl=trusting, origin="https://localhost") as client,
    ):
        client.send("hello")
        assert client.recv(timeout=TIMEOUT) == "hello"


def test_guide_level_2_v_broadcasts_to_others(serving: Any) -> None:
    """All clients except the sender receive a message, and the server prints their number."""
    with contextlib.ExitStack() as stack:
        process = stack.enter_context(serving("level_2_v_broadcast"))
        clients = [stack.enter_context(_connect(f"ws://127.0.0.1:8765?token={TOKEN}")) for _ in range(3)]
        for client in clients[1:]:
            client.send("ready")
        for client in clients:
            for _ in range(1 if client in clients[1:] else 2):
                client.recv(timeout=TIMEOUT)
        clients[0].send("hello")
        assert {client.recv(timeout=TIMEOUT) for client in clients[1:]} == {"127.0.0.1 says: hello"}
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(3)] == ["Broadcasted to 2 client(s)\n"] * 3
