"""A client's TLS socket that two threads use."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from zcli_core.testing.certificates import client_tls, server_tls
from zcli_core.testing.tls_sockets import ThreadSafeSSLSocket

LONGEST = 30


class Watched(ThreadSafeSSLSocket):
    """Records whether two threads called OpenSSL at the same time."""

    def read(self, len: int = 1024, buffer: Any = None) -> Any:  # noqa: A002 - the name that ssl gives it
        assert self.__dict__["_one_at_a_time"].locked()
        assert self.gettimeout() == 0, "a read that blocks keeps the writer out"
        return super().read(len, buffer)


@pytest.fixture
def pair() -> Iterator[tuple[ThreadSafeSSLSocket, ssl.SSLSocket]]:
    """A client's socket and the ordinary socket of its peer."""
    context = client_tls()
    context.sslsocket_class = Watched
    with socket.create_server(("127.0.0.1", 0)) as listening:
        accepted: list[ssl.SSLSocket] = []
        accepting = threading.Thread(
            target=lambda: accepted.append(server_tls().wrap_socket(listening.accept()[0], server_side=True))
        )
        accepting.start()
        raw = socket.create_connection(listening.getsockname(), timeout=LONGEST)
        with context.wrap_socket(raw, server_hostname="localhost") as client:
            accepting.join(LONGEST)
            with accepted[0] as peer:
                peer.settimeout(LONGEST)
                assert isinstance(client, ThreadSafeSSLSocket)
                yield client, peer


def _read(sock: ssl.SSLSocket, size: int) -> bytes:
    found = bytearray()
    while len(found) < size and (data := sock.recv(65536)):
        found += data
    return bytes(found)


def test_tls_socket_while_read_sends(pair: tuple[ThreadSafeSSLSocket, ssl.SSLSocket]) -> None:
    """A thread that waits in recv() does not keep another one from sending."""
    client, peer = pair
    client.settimeout(None)
    received: list[bytes] = []
    reading = threading.Thread(target=lambda: received.append(client.recv()))
    reading.start()
    client.sendall(b"a question")
    assert peer.recv() == b"a question"
    peer.sendall(b"a response")
    reading.join(LONGEST)
    assert received == [b"a response"]


def test_tls_socket_large_data_is_complete(pair: tuple[ThreadSafeSSLSocket, ssl.SSLSocket]) -> None:
    """More data than the system's buffers hold passes in each direction, one after the other."""
    client, peer = pair
    data = bytes(range(256)) * 16384
    received: dict[str, bytes] = {}
    threads = [
        threading.Thread(target=peer.sendall, args=(data,)),
        threading.Thread(target=lambda: received.update(client=_read(client, len(data)))),
        threading.Thread(target=client.sendall, args=(data,)),
    ]
    for thread in threads[:2]:
        thread.start()
    threads[1].join(LONGEST)
    threads[2].start()
    received["peer"] = _read(peer, len(data))
    for thread in threads:
        thread.join(LONGEST)
    assert received == {"client": data, "peer": data}


def test_tls_socket_timeout_raises(pair: tuple[ThreadSafeSSLSocket, ssl.SSLSocket]) -> None:
    """The socket's timeout limits a read, and is still set afterwards."""
    client, _ = pair
    client.settimeout(0.01)
    with pytest.raises(TimeoutError, match="timed out"):
        client.recv()
    assert client.gettimeout() == 0.01


def test_tls_socket_shutdown_ends_a_read(pair: tuple[ThreadSafeSSLSocket, ssl.SSLSocket]) -> None:
    """A waiting thread returns when another thread shuts the connection down."""
    client, _ = pair
    client.settimeout(None)
    ended = threading.Event()

    def read() -> None:
        with contextlib.suppress(OSError):
            client.recv()
        ended.set()

    threading.Thread(target=read, daemon=True).start()
    socket.socket.shutdown(client, socket.SHUT_RDWR)
    assert ended.wait(LONGEST)
