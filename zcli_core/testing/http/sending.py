"""The part of the HTTP suite about requests: request line, header fields, bodies."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Iterator

import pytest

from zcli_core.http.contract import TransportFailure
from zcli_core.testing.certificates import server_tls
from zcli_core.testing.http.base import ENOUGH, Caller, HttpContract, MakeCaller
from zcli_core.testing.http.peer import ReceivedRequest, ScriptedServer, chunked, responding, response

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "PROPFIND", "QUERY")

#: The headers that a transport adds.
_OWN_FIELDS = ("host", "content-length", "transfer-encoding")


class Interruption(Exception):  # noqa: N818 - a name for a test
    """An exception that a body raises while it is read."""


def others(request: ReceivedRequest) -> list[tuple[str, str]]:
    """Return the fields that were given, in order."""
    return [field for field in request.fields if field[0].lower() not in _OWN_FIELDS]


class SendingContract(HttpContract):
    """Requests are sent unchanged, byte for byte."""

    @pytest.mark.parametrize("method", METHODS)
    def test_every_method_is_sent_unchanged(self, caller: Caller, method: str) -> None:
        """The request line has the method and the target."""
        body = None if method in ("GET", "HEAD", "TRACE") else b"body"
        with ScriptedServer(responding(response(b"" if method == "HEAD" else b"ok"))) as server:
            raw = caller.send(f"{server.url}/path?a=b", method, body=body)
            request = server.requests[0]
        assert raw.status == 200
        assert request.startswith(f"{method} /path?a=b HTTP/1.1\r\n".encode())
        assert request.body == (body or b"")

    @pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS", "M-SEARCH"])
    def test_body_is_sent_with_every_method(self, caller: Caller, method: str) -> None:
        """It has its Content-Length, and no header is added."""
        with ScriptedServer(responding(response(b"" if method == "HEAD" else b"ok"))) as server:
            caller.send(server.url, method, body=b"\0body")
            request = server.requests[0]
        assert (request.method, request.all("content-length"), request.body) == (method, ["5"], b"\0body")
        assert others(request) == []

    def test_target_is_sent_unchanged(self, caller: Caller) -> None:
        """The core has normalised and encoded it."""
        target = "/a/./b/../c//d;p=1/%7Euser/%2F%2e%2E/?q=a%2Fb&empty=&x=1&y=%7B%7D&=?/!$'()*+,;:@"
        with ScriptedServer(responding(response())) as server:
            caller.send(server.url + target)
            assert server.requests[0].target == target

    def test_host_is_added_once_with_the_port(self, caller: Caller) -> None:
        """Only a default port would be left out (RFC 9110, section 7.2)."""
        with ScriptedServer(responding(response())) as server:
            caller.send(server.url)
            caller.send(server.url.replace("127.0.0.1", "localhost"))
            found = [request.all("host") for request in server.requests]
        assert found == [[f"127.0.0.1:{server.port}"], [f"localhost:{server.port}"]]

    def test_given_host_header_is_the_only_one(self, caller: Caller) -> None:
        """Scripts set Host to test virtual hosts."""
        with ScriptedServer(responding(response())) as server:
            caller.send(server.url, headers=[("Host", "virtual.example")])
            assert server.requests[0].all("host") == ["virtual.example"]

    def test_ipv6_address_has_brackets_in_host(self, caller: Caller) -> None:
        """RFC 3986, section 3.2.2."""
        try:
            server = ScriptedServer(responding(response()), host="::1")
        except OSError:
            pytest.skip("this machine has no IPv6 loopback")
        with server:
            caller.send(server.url)
            assert server.requests[0].all("host") == [f"[::1]:{server.port}"]

    @pytest.mark.parametrize("body", [None, b"body", bytes(2 * 1024 * 1024)], ids=["no body", "a body", "a large body"])
    def test_no_other_header_is_added(self, caller: Caller, body: bytes | None) -> None:
        """The transport adds no User-Agent, Accept, Accept-Encoding, Content-Type, Connection or Expect."""
        with ScriptedServer(responding(response())) as server:
            caller.send(server.url, "POST" if body else "GET", body=body)
            assert others(server.requests[0]) == []

    def test_headers_are_sent_unchanged(self, caller: Caller) -> None:
        """Case, order, repeated names, empty values and Latin-1 are kept."""
        given = [
            ("X-Case-Is-KEPT", "1"),
            ("x-twice", "first"),
            ("Accept", "*/*"),
            ("X-Twice", "second"),
            ("User-Agent", "mine/1.0"),
            ("Accept-Encoding", "identity"),
            ("X-Latin", "Grüße, déjà vu\xa0;"),
            ("Expect", "nothing;x"),
            ("X-Empty", ""),
            ("X-Commas", 'a, b; c="d, e"'),
            ("Authorization", "Bearer 0123456789"),
            ("Cookie", "a=b; c=d"),
        ]
        with ScriptedServer(responding(response())) as server:
            caller.send(server.url, headers=given)
            assert others(server.requests[0]) == given

    def test_large_header_is_sent(self, caller: Caller) -> None:
        """Tokens and cookies can be large."""
        with ScriptedServer(responding(response())) as server:
            caller.send(server.url, headers=[("X-Large", "a" * 16_000)])
            assert others(server.requests[0]) == [("X-Large", "a" * 16_000)]

    @pytest.mark.parametrize(
        ("method", "size"),
        [("POST", 0), ("POST", 1), ("POST", 3 * 1024 * 1024), ("PUT", 0), ("PATCH", 100_000), ("DELETE", 1)],
    )
    def test_bytes_are_sent_with_their_length(self, caller: Caller, method: str, size: int) -> None:
        """Content-Length occurs once, and there is no Transfer-Encoding."""
        body = bytes(itertools.islice(itertools.cycle(range(251)), size))
        with ScriptedServer(responding(response())) as server:
            caller.send(server.url, method, body=body)
            request = server.requests[0]
        assert request.all("content-length") == [str(size)]
        assert request.all("transfer-encoding") == []
        assert request.body == body

    def test_request_without_body_has_expected_length(self, caller: Caller) -> None:
        """Only POST, PUT and PATCH have Content-Length: 0 (RFC 9110, section 8.6)."""
        with ScriptedServer(responding(response(b""))) as server:
            for method in METHODS:
                caller.send(server.url, method)
        for request in server.requests:
            expected = [["0"]] if request.method in ("POST", "PUT", "PATCH") else [[]]
            if request.method in ("PROPFIND", "QUERY"):  # a method that the transport may not know
                expected = [[], ["0"]]
            assert request.all("content-length") in expected, request.method
            assert request.all("transfer-encoding") == []

    def test_iterable_is_sent_with_the_given_length(self, caller: Caller) -> None:
        """Content-Length occurs once, and there are no chunks."""
        blocks = [b"first", b"", bytes(300_000), b"last"]
        body = b"".join(blocks)
        with ScriptedServer(responding(response())) as server:
            caller.send(server.url, "POST", [("Content-Length", str(len(body)))], iter(blocks))
            request = server.requests[0]
        assert request.all("content-length") == [str(len(body))]
        assert request.all("transfer-encoding") == []
        assert request.body == body

    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
    def test_iterable_of_unknown_length_is_chunked(self, caller: Caller, method: str) -> None:
        """An empty block does not end the body (RFC 9112, section 7.1)."""
        blocks = [b"first", b"", bytes(1024 * 1024), b"last"]
        with ScriptedServer(responding(response())) as server:
            caller.send(server.url, method, body=(block for block in blocks))
            request = server.requests[0]
        assert [coding.lower() for coding in request.all("transfer-encoding")] == ["chunked"]
        assert request.all("content-length") == []
        assert request.body == b"".join(blocks)

    def test_empty_iterable_is_an_empty_body(self, caller: Caller) -> None:
        """The connection can be used again."""
        with ScriptedServer(responding(response())) as server:
            for _ in range(2):
                caller.send(server.url, "POST", body=iter(()))
            assert [request.body for request in server.requests] == [b"", b""]
            assert server.connections == 1

    @pytest.mark.parametrize("length", [None, "1000000"], ids=["in chunks", "under a length"])
    @pytest.mark.parametrize("error", [Interruption("mine"), TransportFailure("unrepeatable_body", "mine"), OSError(5)])
    def test_exception_of_a_body_is_raised_unchanged(
        self, caller: Caller, error: Exception, length: str | None
    ) -> None:
        """The server never has the complete request, and the next request is sent on another connection."""

        def body() -> Iterator[bytes]:
            yield b"first"
            raise error

        headers = [("Content-Length", length)] if length else []
        with ScriptedServer(responding(response())) as server:
            with pytest.raises(type(error)) as caught:
                caller.send(server.url, "POST", headers, body())
            assert caught.value is error
            assert caller.send(f"{server.url}/next").body == b"ok"
            assert [request.target for request in server.requests] == ["/next"]
            assert server.connections == 2

    @pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
    def test_rest_is_sent_after_a_response_has_begun(self, make_caller: MakeCaller, ca_file: str, secure: bool) -> None:
        """A server may send 200 at once, and the body when it has read everything."""
        has_begun = threading.Event()
        half = 100_000

        def script(server: ScriptedServer, connection: socket.socket) -> None:
            received = b""
            while b"\r\n\r\n" not in received:
                received += connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            has_begun.set()
            left = 2 * half - len(received.partition(b"\r\n\r\n")[2])
            while left and (block := connection.recv(65536)):
                left -= len(block)
            connection.sendall(chunked(b"all" if not left else b"less").partition(b"\r\n\r\n")[2])

        def body() -> Iterator[bytes]:
            yield bytes(half)
            has_begun.wait(ENOUGH)
            yield bytes(half)

        with ScriptedServer(script, server_tls() if secure else None) as server:
            caller = make_caller(ca_file=ca_file)
            found = caller.send(server.url, "POST", [("Content-Length", str(2 * half))], body())
            assert found.body == b"all"

    def test_body_may_make_another_call(self, caller: Caller) -> None:
        """A body may come from another call in the same thread."""
        with ScriptedServer(responding(response(b"block"))) as server:

            def body() -> Iterator[bytes]:
                for _ in range(3):
                    yield caller.send(f"{server.url}/source").body

            caller.send(f"{server.url}/sink", "PUT", body=body())
            assert server.requests[-1].body == b"block" * 3
            assert server.connections == 2
