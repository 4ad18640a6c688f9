"""The part of the HTTP suite about what is sent: request line, header fields, bodies."""

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

#: What the transport itself adds: the rest of a request is as it was given.
_OWN_FIELDS = ("host", "content-length", "transfer-encoding")


class Interruption(Exception):  # noqa: N818 - a name for a test
    """Raised by a body while it is read."""


def others(request: ReceivedRequest) -> list[tuple[str, str]]:
    """The fields that were given, in order."""
    return [field for field in request.fields if field[0].lower() not in _OWN_FIELDS]


class SendingContract(HttpContract):
    """What is sent is what was asked for, byte for byte."""

    @pytest.mark.parametrize("method", METHODS)
    def test_every_method_is_sent_as_it_is(self, caller: Caller, method: str) -> None:
        """The request line has the method and the target; the body is the caller's, for every method alike."""
        body = None if method in ("GET", "HEAD", "TRACE") else b"body"
        with ScriptedServer(responding(response(b"" if method == "HEAD" else b"ok"))) as server:
            raw = caller.send(f"{server.url}/path?a=b", method, body=body)
            request = server.requests[0]
        assert raw.status == 200
        assert request.startswith(f"{method} /path?a=b HTTP/1.1\r\n".encode())
        assert request.body == (body or b"")

    @pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS", "M-SEARCH"])
    def test_a_body_is_sent_with_any_method(self, caller: Caller, method: str) -> None:
        """Under its length, and with no header that was not given."""
        with ScriptedServer(responding(response(b"" if method == "HEAD" else b"ok"))) as server:
            caller.send(server.url, method, body=b"\0body")
            request = server.requests[0]
        assert (request.method, request.all("content-length"), request.body) == (method, ["5"], b"\0body")
        assert others(request) == []

    def test_the_target_is_sent_as_it_is(self, caller: Caller) -> None:
        """Nothing in it is normalised or encoded a second time: the core has done what is to be done."""
        target = "/a/./b/../c//d;p=1/%7Euser/%2F%2e%2E/?q=a%2Fb&empty=&x=1&y=%7B%7D&=?/!$'()*+,;:@"
        with ScriptedServer(responding(response())) as server:
            caller.send(server.url + target)
            assert server.requests[0].target == target

    def test_host_is_added_once_and_with_the_port(self, caller: Caller) -> None:
        """RFC 9110, section 7.2; the port of the scheme alone would be left out."""
        with ScriptedServer(responding(response())) as server:
            caller.send(server.url)
            caller.send(server.url.replace("127.0.0.1", "localhost"))
            found = [request.all("host") for request in server.requests]
        assert found == [[f"127.0.0.1:{server.port}"], [f"localhost:{server.port}"]]

    def test_a_host_header_that_is_given_is_the_only_one(self, caller: Caller) -> None:
        """Tests of virtual hosts send their own."""
        with ScriptedServer(responding(response())) as server:
            caller.send(server.url, headers=[("Host", "virtual.example")])
            assert server.requests[0].all("host") == ["virtual.example"]

    def test_an_ipv6_address_is_reached_and_has_brackets_in_host(self, caller: Caller) -> None:
        """RFC 3986, section 3.2.2."""
        try:
            server = ScriptedServer(responding(response()), host="::1")
        except OSError:
            pytest.skip("this machine has no IPv6 loopback")
        with server:
            caller.send(server.url)
            assert server.requests[0].all("host") == [f"[::1]:{server.port}"]

    @pytest.mark.parametrize("body", [None, b"body", bytes(2 * 1024 * 1024)], ids=["no body", "a body", "a large body"])
    def test_no_header_is_sent_that_was_not_given(self, caller: Caller, body: bytes | None) -> None:
        """No User-Agent, Accept, Accept-Encoding, Content-Type, Connection or Expect of the transport's own."""
        with ScriptedServer(responding(response())) as server:
            caller.send(server.url, "POST" if body else "GET", body=body)
            assert others(server.requests[0]) == []

    def test_headers_are_sent_as_they_are_given(self, caller: Caller) -> None:
        """In their case and order, with names that occur twice, without a value, and in Latin-1."""
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

    def test_a_large_header_is_sent(self, caller: Caller) -> None:
        """Tokens and cookies are, at times."""
        with ScriptedServer(responding(response())) as server:
            caller.send(server.url, headers=[("X-Large", "a" * 16_000)])
            assert others(server.requests[0]) == [("X-Large", "a" * 16_000)]

    @pytest.mark.parametrize(
        ("method", "size"),
        [("POST", 0), ("POST", 1), ("POST", 3 * 1024 * 1024), ("PUT", 0), ("PATCH", 100_000), ("DELETE", 1)],
    )
    def test_bytes_are_sent_under_their_length(self, caller: Caller, method: str, size: int) -> None:
        """Content-Length once, no Transfer-Encoding, and every byte."""
        body = bytes(itertools.islice(itertools.cycle(range(251)), size))
        with ScriptedServer(responding(response())) as server:
            caller.send(server.url, method, body=body)
            request = server.requests[0]
        assert request.all("content-length") == [str(size)]
        assert request.all("transfer-encoding") == []
        assert request.body == body

    def test_a_request_without_body_has_a_length_only_where_one_is_expected(self, caller: Caller) -> None:
        """RFC 9110, section 8.6: POST, PUT and PATCH say that there is nothing; others say nothing."""
        with ScriptedServer(responding(response(b""))) as server:
            for method in METHODS:
                caller.send(server.url, method)
        for request in server.requests:
            expected = [["0"]] if request.method in ("POST", "PUT", "PATCH") else [[]]
            if request.method in ("PROPFIND", "QUERY"):  # a method of which the transport may know nothing
                expected = [[], ["0"]]
            assert request.all("content-length") in expected, request.method
            assert request.all("transfer-encoding") == []

    def test_an_iterable_is_sent_under_the_length_that_is_given(self, caller: Caller) -> None:
        """In one piece for the server, whatever it came in, the length not said twice."""
        blocks = [b"first", b"", bytes(300_000), b"last"]
        body = b"".join(blocks)
        with ScriptedServer(responding(response())) as server:
            caller.send(server.url, "POST", [("Content-Length", str(len(body)))], iter(blocks))
            request = server.requests[0]
        assert request.all("content-length") == [str(len(body))]
        assert request.all("transfer-encoding") == []
        assert request.body == body

    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
    def test_an_iterable_of_unknown_length_is_sent_in_chunks(self, caller: Caller, method: str) -> None:
        """RFC 9112, section 7.1; an empty block does not end it."""
        blocks = [b"first", b"", bytes(1024 * 1024), b"last"]
        with ScriptedServer(responding(response())) as server:
            caller.send(server.url, method, body=(block for block in blocks))
            request = server.requests[0]
        assert [coding.lower() for coding in request.all("transfer-encoding")] == ["chunked"]
        assert request.all("content-length") == []
        assert request.body == b"".join(blocks)

    def test_an_iterable_without_content_is_an_empty_body(self, caller: Caller) -> None:
        """One chunk of no size, and the connection goes on."""
        with ScriptedServer(responding(response())) as server:
            for _ in range(2):
                caller.send(server.url, "POST", body=iter(()))
            assert [request.body for request in server.requests] == [b"", b""]
            assert server.connections == 1

    @pytest.mark.parametrize("length", [None, "1000000"], ids=["in chunks", "under a length"])
    @pytest.mark.parametrize("error", [Interruption("mine"), TransportFailure("unrepeatable_body", "mine"), OSError(5)])
    def test_what_a_body_raises_comes_out_as_it_is(self, caller: Caller, error: Exception, length: str | None) -> None:
        """It is the caller's, and no failure of the network; the server never has a complete request of it, and what
        comes next has a connection of its own."""

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
    def test_rest_is_sent_though_a_response_has_begun(
        self, make_caller: MakeCaller, ca_file: str, secure: bool
    ) -> None:
        """A server may say 200 at once, and go on when it has read everything."""
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

    def test_a_call_may_be_made_while_the_body_of_another_is_read(self, caller: Caller) -> None:
        """A body may come out of another call, in the same thread."""
        with ScriptedServer(responding(response(b"block"))) as server:

            def body() -> Iterator[bytes]:
                for _ in range(3):
                    yield caller.send(f"{server.url}/source").body

            caller.send(f"{server.url}/sink", "PUT", body=body())
            assert server.requests[-1].body == b"block" * 3
            assert server.connections == 2
