"""HTTP/2, which libcurl uses with servers that offer it in the TLS handshake."""

from __future__ import annotations

import gzip
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import h2.errors
import pytest
import trustme
from http2_server import Http2Server, Request

from zcli_core.http.client import HttpClient
from zcli_core.http.contract import HttpFailure
from zcli_core.testing.http.peer import ScriptedServer, responding, response, wait_until


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def http(make_curl: Callable[..., HttpClient], authority: trustme.CA, tmp_path: Path) -> HttpClient:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return make_curl(ca_file=tmp_path / "ca.pem", max_response_bytes=100_000)


def failure(http: HttpClient) -> HttpFailure:
    assert http.last_failure is not None
    return http.last_failure


def test_http2_is_used_if_offered(http: HttpClient, authority: trustme.CA) -> None:
    """The TLS handshake agrees on HTTP/2."""

    def respond(server: Http2Server, request: Request) -> None:
        server.send(request, b'{"a": 1}', 404, ("content-type", "application/json"), ("x-two", "1"), ("x-two", "2"))

    with Http2Server(respond, authority) as server:
        for call in range(3):
            found = http.get(f"{server.url}/path?call={call}", headers={"X-Mixed-Case": "ü", "X-Empty": ""})
            assert found is not None, http.last_failure
            assert (found.status_code, found.reason, found.json()) == (404, "Not Found", {"a": 1})
            assert found.headers.get_all("X-Two") == ["1", "2"]
        assert server.connections == 1
    request = server.seen[-1]
    assert request[":method"] == "GET"
    assert request[":path"] == "/path?call=2"
    assert request[":authority"] == f"127.0.0.1:{server.port}"
    assert request["x-mixed-case"] == "ü"
    assert request["x-empty"] == ""
    assert request["user-agent"].startswith("zcli-core/")


def test_http1_is_used_without_http2(http: HttpClient, authority: trustme.CA) -> None:
    """The server does not offer HTTP/2."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    context.set_alpn_protocols(["http/1.1"])
    with ScriptedServer(responding(response()), context) as server:
        assert http.get(server.url), http.last_failure
        assert server.requests[0].startswith(b"GET / HTTP/1.1\r\n")


@pytest.mark.parametrize("kind", ["bytes", "iterable", "iterable of known length", "empty"])
def test_http2_bodies_are_sent(http: HttpClient, authority: trustme.CA, kind: str) -> None:
    """Bodies of bytes and of iterables arrive complete."""
    body = b"" if kind == "empty" else bytes(range(256)) * 1000

    def blocks() -> Iterator[bytes]:
        yield body[:1000]
        yield b""
        yield body[1000:]

    headers = {"Content-Length": str(len(body))} if "known" in kind else {}
    with Http2Server(Http2Server.send, authority) as server:
        for method in ("POST", "PUT", "REPORT"):
            data = blocks() if kind.startswith("iterable") else body
            found = http.request(method, server.url, data=data, headers=headers)
            assert found is not None, http.last_failure
            request = server.seen[-1]
            assert request[":method"] == method
            assert request.body == body
            names = [name for name, _ in request.headers]
            assert "transfer-encoding" not in names
            assert "expect" not in names
            assert names.count("content-length") <= 1
        assert server.connections == 1


def test_http2_body_is_limited_and_decoded(http: HttpClient, authority: trustme.CA) -> None:
    """The limit holds for the decoded body."""

    def respond(server: Http2Server, request: Request) -> None:
        size = int(request[":path"][1:])
        server.send(request, gzip.compress(bytes(size)), 200, ("content-encoding", "gzip"))

    with Http2Server(respond, authority) as server:
        found = http.get(f"{server.url}/100000")
        assert found is not None, http.last_failure
        assert found.content == bytes(100_000)
        assert http.get(f"{server.url}/100001") is None
        assert failure(http).kind == "too_large"


def test_http2_interim_and_trailers_are_skipped(http: HttpClient, authority: trustme.CA) -> None:
    """Neither is part of the response."""

    def respond(server: Http2Server, request: Request) -> None:
        server.connection.send_headers(request.stream, [(":status", "103"), ("link", "</style.css>")])
        server.connection.send_headers(request.stream, [(":status", "200"), ("x-field", "header")])
        server.connection.send_data(request.stream, b"ok")
        server.connection.send_headers(request.stream, [("x-field", "trailer")], end_stream=True)

    with Http2Server(respond, authority) as server:
        found = http.get(server.url)
        assert found is not None, http.last_failure
        assert (found.status_code, found.content, found.headers.get_all("x-field")) == (200, b"ok", ["header"])


def test_http2_response_without_body(http: HttpClient, authority: trustme.CA) -> None:
    """HEAD, 204 and 304 have no body."""

    def respond(server: Http2Server, request: Request) -> None:
        server.send(request, b"", 204 if request[":path"] == "/204" else 200, ("content-encoding", "gzip"))

    with Http2Server(respond, authority) as server:
        for method, path in (("GET", "/204"), ("HEAD", "/"), ("GET", "/"), ("OPTIONS", "/")):
            found = http.request(method, server.url + path)
            assert found is not None, http.last_failure
            assert found.content == b""
        assert http.head(server.url, data=b"body"), http.last_failure


@pytest.mark.parametrize("begun", [False, True], ids=["before the answer", "within it"])
def test_http2_stream_reset_fails(http: HttpClient, authority: trustme.CA, begun: bool) -> None:
    """The server resets the stream before the response or within it."""

    def respond(server: Http2Server, request: Request) -> None:
        if begun:
            server.connection.send_headers(request.stream, [(":status", "200")])
            server.connection.send_data(request.stream, b"a part")
        server.connection.reset_stream(request.stream, h2.errors.ErrorCodes.INTERNAL_ERROR)

    with Http2Server(respond, authority) as server:
        assert http.get(server.url) is None
        assert failure(http).kind in ("reset", "protocol"), http.last_failure
        assert failure(http).message.isprintable()
        assert len(server.seen) == 1


def test_http2_body_shorter_than_its_length_fails(http: HttpClient, authority: trustme.CA) -> None:
    """A partial body is not returned."""

    def respond(server: Http2Server, request: Request) -> None:
        server.send(request, b"short", 200, ("content-length", "100"))

    with Http2Server(respond, authority) as server:
        assert http.get(server.url) is None
        assert failure(http).kind == "protocol", http.last_failure


@pytest.mark.parametrize(("method", "sent"), [("GET", 2), ("POST", 1)])
def test_http2_close_at_the_request(http: HttpClient, authority: trustme.CA, method: str, sent: int) -> None:
    """It is not known whether the request was carried out: an idempotent one is sent again, another is not."""

    def respond(server: Http2Server, request: Request) -> None:
        if len(server.seen) == 2:
            raise ConnectionAbortedError
        server.send(request)

    with Http2Server(respond, authority) as server:
        assert http.get(server.url)
        found = http.request(method, server.url)
        assert (found is not None) == (sent == 2), http.last_failure
        assert len(server.seen) == 1 + sent
        if found is None:
            assert failure(http).kind == "reset"


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_http2_connection_after_goaway_is_replaced(http: HttpClient, authority: trustme.CA, method: str) -> None:
    """The server has sent GOAWAY on the idle connection."""

    def respond(server: Http2Server, request: Request) -> None:
        server.send(request)
        server.leave()

    with Http2Server(respond, authority) as server:
        for expected in range(1, 4):
            assert http.request(method, server.url, timeout=30), http.last_failure
            assert (server.connections, len(server.seen)) == (expected, expected)


def test_http2_deadline_holds(http: HttpClient, authority: trustme.CA) -> None:
    """The call ends at its deadline."""
    with Http2Server(lambda server, request: None, authority) as server:
        assert http.get(server.url, timeout=0.2) is None
        assert failure(http).kind == "timeout"
        assert failure(http).elapsed < 20
        wait_until(lambda: server.closed == 1)
