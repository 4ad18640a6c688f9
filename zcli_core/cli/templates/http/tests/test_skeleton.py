"""When requests to a failing server stop."""

import socket
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest
from zCLI import zCLI

from zcli_skeleton import transport

ANSWER = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"


@pytest.fixture
def z(tmp_path: Path) -> Iterator[zCLI]:
    """A zCLI object with the transport, which stops requests to a server after two failures."""
    settings = {
        "deployment": "Production",
        "logger_path": str(tmp_path),
        "http": {"transport": "skeleton"},
        "skeleton": {"failures": 2, "rest": 60},
    }
    with zCLI(settings) as made:
        yield made


def get(z: zCLI, port: int) -> str:
    """Return the status of the response, or the failure."""
    response = z.comm.http_get(f"http://127.0.0.1:{port}/", timeout=10)
    return str(z.comm.http.last_failure) if response is None else str(response.status_code)


def answer_once(server: socket.socket) -> None:
    """Read one request and send a response."""
    client, _ = server.accept()
    with client:
        client.recv(65536)
        client.sendall(ANSWER)


def test_failing_server_gets_no_requests(z: zCLI) -> None:
    """After two failures it gets no request, although it would respond now."""
    port = z.comm.find_free_port()
    assert "gets no request" not in get(z, port)
    assert "gets no request" not in get(z, port)
    with socket.create_server(("127.0.0.1", port)) as server:
        assert "failed 2 times in a row and gets no request" in get(z, port)
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


def test_response_resets_the_failures(z: zCLI) -> None:
    """Only failures in a row count."""
    port = z.comm.find_free_port()
    assert "gets no request" not in get(z, port)
    with socket.create_server(("127.0.0.1", port)) as server:
        thread = Thread(target=answer_once, args=(server,))
        thread.start()
        assert get(z, port) == "204"
        thread.join()
    assert "gets no request" not in get(z, port)
    assert "gets no request" not in get(z, port)


def test_number_of_servers_is_limited(z: zCLI, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest is forgotten, so that redirects to many servers do not fill the memory."""
    monkeypatch.setattr(transport, "MAX_SERVERS", 2)
    ports: set[int] = set()
    while len(ports) < 3:
        ports.add(z.comm.find_free_port())
    first, second, third = ports
    for port in (first, first, second):
        assert "gets no request" not in get(z, port)
    assert "gets no request" in get(z, first)
    assert "gets no request" not in get(z, third)
    assert "gets no request" not in get(z, first)
