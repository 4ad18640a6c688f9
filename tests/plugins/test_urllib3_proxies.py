"""Proxies over TLS with the transport urllib3. The contract suite tests what holds for every transport."""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trustme

from zcli_core.http.client import HttpClient
from zcli_core.testing.http.peer import ScriptedServer


def proxy(server: ScriptedServer, connection: socket.socket) -> None:
    """Serves one client."""
    while request := server.read_request(connection):
        head = request.partition(b"\r\n\r\n")[0]
        method, target, _ = head.split(b"\r\n")[0].decode().split(" ")
        if method == "CONNECT":
            tunnel(connection, target)
            return
        forward(connection, target, request)


def forward(connection: socket.socket, target: str, request: bytes) -> None:
    url = urlsplit(target)
    path = target.partition(url.netloc)[2].encode()
    request = request.replace(target.encode(), path, 1).replace(
        b"\r\n", b"\r\nX-Through: proxy\r\nConnection: close\r\n", 1
    )
    with socket.create_connection((url.hostname, url.port)) as upstream:
        upstream.sendall(request)
        while block := upstream.recv(65536):
            connection.sendall(block)


def tunnel(connection: socket.socket, target: str) -> None:
    host, _, port = target.rpartition(":")
    with socket.create_connection((host.strip("[]"), int(port))) as upstream:
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        pump(connection, upstream)


def pump(one: socket.socket, other: socket.socket) -> None:
    """Pass bytes both ways until either side ends."""
    while True:
        held = [side for side in (one, other) if isinstance(side, ssl.SSLSocket) and side.pending()]
        for source in held or select.select([one, other], [], [], 30)[0]:
            block = source.recv(65536)
            if not block:
                return
            (other if source is one else one).sendall(block)


@pytest.fixture
def proxied(make_http: Callable[..., HttpClient], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets a proxy variable. ``make_http`` comes first, because it removes these variables."""
    return monkeypatch.setenv


def failed(http: HttpClient, kind: str, why: str) -> None:
    assert http.last_failure is not None
    assert http.last_failure.kind == kind, http.last_failure
    assert why in http.last_failure.message


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_proxy_over_tls_is_used(
    make_http: Callable[..., HttpClient],
    local_httpbin: Any,
    proxied: Any,
    tmp_path: Path,
    httpbin: str,
    httpbin_https: Any,
    scheme: str,
) -> None:
    """The connection to the proxy is encrypted too."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    both = tmp_path / "both.pem"
    both.write_bytes(authority.cert_pem.bytes() + httpbin_https.ca_file.read_bytes())
    http = make_http(ca_file=both)
    with ScriptedServer(proxy, context) as server:
        proxied("ALL_PROXY", server.url)
        url = httpbin if scheme == "http" else httpbin_https.url
        for _ in range(2):
            found = http.get(f"{url}/bytes/50000")
            assert found is not None, http.last_failure
            assert len(found.content) == 50_000
        assert server.connections == 1


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_proxy_with_invalid_certificate_is_named(http: HttpClient, proxied: Any, scheme: str) -> None:
    """The failure names the proxy, not the server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with ScriptedServer(proxy, context) as server:
        proxied("ALL_PROXY", server.url)
        assert http.get(f"{scheme}://example.com/") is None
        failed(http, "proxy", f"the proxy 127.0.0.1:{server.port}: its certificate was not accepted")
