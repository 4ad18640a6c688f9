"""Proxies named by the environment, over a small proxy that is real: it forwards, and tunnels with CONNECT."""

from __future__ import annotations

import select
import socket
import ssl
import time
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trustme
from http_servers import RawServer, closed_port, response

from zcli_core.comm.http import HttpClient
from zcli_core.contracts.http import Url
from zcli_core.contracts.http_proxies import proxy_for

LOGIN = b"Basic " + b64encode(b"user:p@ss")


def proxy(server: RawServer, connection: socket.socket) -> None:
    """Serves one client."""
    while request := server.read_request(connection):
        head = request.partition(b"\r\n\r\n")[0]
        method, target, _ = head.split(b"\r\n")[0].decode().split(" ")
        if b"/needs-login" in head and LOGIN not in head:
            connection.sendall(response(b"", "407 Proxy Authentication Required"))
        elif method == "CONNECT":
            tunnel(connection, target)
            return
        else:
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
    """Sets a proxy variable; ``make_http`` comes first, for it clears them."""
    return monkeypatch.setenv


def failed(http: HttpClient, kind: str, why: str) -> None:
    assert http.last_failure is not None
    assert http.last_failure.kind == kind, http.last_failure
    assert why in http.last_failure.message


def test_http_is_forwarded(http: HttpClient, proxied: Any, httpbin: str) -> None:
    with RawServer(proxy) as server:
        proxied("HTTP_PROXY", server.url)
        for _ in range(2):
            found = http.get(f"{httpbin}/get?a=b", headers={"Accept": "x/y"})
            assert found is not None, http.last_failure
            assert found.json()["headers"]["X-Through"] == "proxy"
            assert found.json()["args"] == {"a": "b"}
        assert server.requests[0].startswith(f"GET {httpbin}/get?a=b HTTP/1.1\r\n".encode())
        assert server.connections == 1


def test_https_goes_through_a_tunnel_and_is_verified_end_to_end(
    make_http: Callable[..., HttpClient], proxied: Any, httpbin_https: Any
) -> None:
    http = make_http(ca_file=httpbin_https.ca_file)
    with RawServer(proxy) as server:
        proxied("https_proxy", server.url.removeprefix("http://"))
        for _ in range(2):
            assert http.post(f"{httpbin_https.url}/post", data={"a": 1}), http.last_failure
        assert make_http().get(httpbin_https.url) is None
        assert server.connections == 2
        assert all(request.startswith(b"CONNECT 127.0.0.1:") for request in server.requests)
        assert b"User-Agent: zcli" not in b"".join(server.requests)


def test_a_proxy_may_want_a_login_which_no_server_sees(
    make_http: Callable[..., HttpClient], proxied: Any, httpbin: str, httpbin_https: Any
) -> None:
    http = make_http(ca_file=httpbin_https.ca_file)
    with RawServer(proxy) as server:
        proxied("ALL_PROXY", server.url.replace("://", "://user:p%40ss@"))
        found = http.get(f"{httpbin}/headers")
        assert found is not None
        assert LOGIN in server.requests[0]
        found = http.get(f"{httpbin_https.url}/headers")
        assert found is not None
        assert "Proxy-Authorization" not in found.json()["headers"]
        assert LOGIN in server.requests[1]


def test_a_proxy_that_refuses_the_tunnel_is_a_failure_of_kind_proxy(http: HttpClient, proxied: Any) -> None:
    def refuse(server: RawServer, connection: socket.socket) -> None:
        server.read_request(connection)
        connection.sendall(response(b"", "407 Proxy Authentication Required"))

    with RawServer(refuse) as server:
        proxied("HTTPS_PROXY", server.url.replace("://", "://user:hidden@"))
        assert http.get("https://example.com/") is None
        failed(http, "proxy", "407 Proxy Authentication Required")
        assert "hidden" not in str(http.last_failure)


def test_a_407_to_a_forwarded_request_is_an_answer(http: HttpClient, proxied: Any, httpbin: str) -> None:
    with RawServer(proxy) as server:
        proxied("HTTP_PROXY", server.url)
        found = http.get(f"{httpbin}/needs-login")
        assert found is not None
        assert found.status_code == 407


@pytest.mark.parametrize("url", ["http://example.com/", "https://example.com/"])
def test_a_proxy_that_is_not_there_is_a_failure_of_kind_proxy(http: HttpClient, proxied: Any, url: str) -> None:
    proxied("ALL_PROXY", f"http://user:hidden@127.0.0.1:{closed_port()}")
    assert http.get(url) is None
    failed(http, "proxy", "refused the connection")
    assert "hidden" not in str(http.last_failure)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("socks5://user:hidden@127.0.0.1:1080", "HTTP_PROXY names a socks5:// proxy"),
        ("http://user:hidden@127.0.0.1:port", "HTTP_PROXY is no address"),
        ("http://", "HTTP_PROXY is no address"),
        ("http://us\udcffer:hidden@127.0.0.1:1", "HTTP_PROXY is no address"),
        ("http://proxy\x7f:1", "HTTP_PROXY is no address"),
    ],
)
def test_a_proxy_variable_that_cannot_be_used_is_named_without_its_value(
    http: HttpClient, proxied: Any, value: str, why: str
) -> None:
    proxied("HTTP_PROXY", value)
    assert http.get("http://example.com/") is None
    failed(http, "proxy", why)
    assert "hidden" not in str(http.last_failure)


@pytest.mark.parametrize("silent", [True, False])
def test_a_tunnel_that_takes_too_long_ends_at_the_deadline(http: HttpClient, proxied: Any, silent: bool) -> None:
    def stall(server: RawServer, connection: socket.socket) -> None:
        server.read_request(connection)
        if silent:
            server.hold(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
        server.trickle(connection)

    with RawServer(stall) as server:
        proxied("HTTPS_PROXY", server.url)
        started = time.monotonic()
        assert http.get("https://example.com/", timeout=0.4) is None
        assert time.monotonic() - started < 8
        failed(http, "timeout", "the deadline passed")


def test_a_handshake_after_a_slow_tunnel_has_only_what_is_left(http: HttpClient, proxied: Any) -> None:
    def stall(server: RawServer, connection: socket.socket) -> None:
        server.read_request(connection)
        server.closing.wait(0.3)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        server.hold(connection)

    with RawServer(stall) as server:
        proxied("HTTPS_PROXY", server.url)
        assert http.get("https://example.com/", timeout=0.5) is None
        failed(http, "timeout", "the deadline passed")
        assert http.last_failure is not None
        assert http.last_failure.elapsed < 8


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_may_speak_tls_itself(
    make_http: Callable[..., HttpClient],
    local_httpbin: Any,
    proxied: Any,
    tmp_path: Path,
    httpbin: str,
    httpbin_https: Any,
    scheme: str,
) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    both = tmp_path / "both.pem"
    both.write_bytes(authority.cert_pem.bytes() + httpbin_https.ca_file.read_bytes())
    http = make_http(ca_file=both)
    with RawServer(proxy, context) as server:
        proxied("ALL_PROXY", server.url)
        url = httpbin if scheme == "http" else httpbin_https.url
        for _ in range(2):
            found = http.get(f"{url}/bytes/50000")
            assert found is not None, http.last_failure
            assert len(found.content) == 50_000
        assert server.connections == 1


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_whose_certificate_is_not_accepted_is_named(http: HttpClient, proxied: Any, scheme: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with RawServer(proxy, context) as server:
        proxied("ALL_PROXY", server.url)
        assert http.get(f"{scheme}://example.com/") is None
        failed(http, "proxy", f"the proxy 127.0.0.1:{server.port}: its certificate was not accepted")


def test_the_environment_is_left_alone_where_trust_env_is_false(
    make_http: Callable[..., HttpClient], proxied: Any, httpbin: str
) -> None:
    proxied("HTTP_PROXY", f"http://127.0.0.1:{closed_port()}")
    assert make_http(trust_env=False).get(f"{httpbin}/get")


def test_no_proxy_applies_as_of_now(http: HttpClient, proxied: Any, httpbin: str) -> None:
    proxied("HTTP_PROXY", f"http://127.0.0.1:{closed_port()}")
    assert http.get(f"{httpbin}/get") is None
    proxied("NO_PROXY", "localhost, 127.0.0.0/8")
    assert http.get(f"{httpbin}/get")


@pytest.mark.parametrize(
    ("no_proxy", "host", "exempt"),
    [
        ("*", "example.com", True),
        ("example.com", "example.com", True),
        ("example.com", "api.example.com", True),
        (".example.com", "example.com", True),
        ("*.example.com", "api.example.com", True),
        ("EXAMPLE.com", "example.com", True),
        ("example.com.", "example.com", True),
        ("example.com:80", "example.com", True),
        ("example.com:443", "example.com", False),
        ("other.org example.com", "example.com", True),
        ("example.com", "notexample.com", False),
        ("example.com", "example.com.evil.org", False),
        ("", "example.com", False),
        (",.,", "example.com", False),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("::1", "::1", True),
        ("[::1]:80", "::1", True),
        ("[::1]:81", "::1", False),
        ("fd00::/8", "fd12::1", True),
    ],
)
def test_no_proxy_names_hosts_domains_networks_and_ports(
    monkeypatch: pytest.MonkeyPatch, no_proxy: str, host: str, exempt: bool
) -> None:
    for name in ("http_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert (proxy_for(Url("http", host, 80, "/")) is None) == exempt


def test_http_proxy_is_not_believed_in_a_cgi_program(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", "http://evil.example")
    monkeypatch.setenv("REQUEST_METHOD", "GET")
    assert proxy_for(Url("http", "example.com", 80, "/")) is None


def test_an_empty_lower_case_variable_switches_the_proxy_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("http_proxy", "")
    assert proxy_for(Url("http", "example.com", 80, "/")) is None


def test_a_proxy_is_shown_without_its_login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("https_proxy", "http://user:hidden@proxy.example:3128")
    assert repr(proxy_for(Url("https", "example.com", 443, "/"))) == "<Proxy http://proxy.example:3128>"
