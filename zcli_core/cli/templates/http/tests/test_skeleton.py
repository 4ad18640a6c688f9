"""What is Skeleton's own: when a server is left alone."""

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
    """A zCLI object that uses the transport and leaves a server alone after two failures."""
    settings = {
        "deployment": "Production",
        "logger_path": str(tmp_path),
        "http": {"transport": "skeleton"},
        "skeleton": {"failures": 2, "rest": 60},
    }
    with zCLI(settings) as made:
        yield made


def get(z: zCLI, port: int) -> str:
    """The status of the answer, or the failure."""
    response = z.comm.http_get(f"http://127.0.0.1:{port}/", timeout=10)
    return str(z.comm.http.last_failure) if response is None else str(response.status_code)


def answer_once(server: socket.socket) -> None:
    """Take one request and answer it."""
    client, _ = server.accept()
    with client:
        client.recv(65536)
        client.sendall(ANSWER)


def test_a_server_that_fails_again_and_again_is_left_alone(z: zCLI) -> None:
    """Twice it is asked; from then on it is not, although it would answer by now."""
    port = z.comm.find_free_port()
    assert "left alone" not in get(z, port)
    assert "left alone" not in get(z, port)
    with socket.create_server(("127.0.0.1", port)) as server:
        assert "failed 2 times in a row and is left alone" in get(z, port)
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


def test_an_answer_makes_a_fresh_start(z: zCLI) -> None:
    """One failure, one answer, one failure: nobody is left alone."""
    port = z.comm.find_free_port()
    assert "left alone" not in get(z, port)
    with socket.create_server(("127.0.0.1", port)) as server:
        thread = Thread(target=answer_once, args=(server,))
        thread.start()
        assert get(z, port) == "204"
        thread.join()
    assert "left alone" not in get(z, port)
    assert "left alone" not in get(z, port)


def test_servers_beyond_the_limit_are_forgotten(z: zCLI, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest first: redirects to any number of servers must not fill the memory."""
    monkeypatch.setattr(transport, "MAX_SERVERS", 2)
    ports: set[int] = set()
    while len(ports) < 3:
        ports.add(z.comm.find_free_port())
    first, second, third = ports
    for port in (first, first, second):
        assert "left alone" not in get(z, port)
    assert "left alone" in get(z, first)
    assert "left alone" not in get(z, third)
    assert "left alone" not in get(z, first)
