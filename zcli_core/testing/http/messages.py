"""The part of the HTTP suite about reading responses: the head by the rules of HTTP, and the end of the body."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator

import pytest

from zcli_core.http.contract import MAX_HEAD_BYTES
from zcli_core.testing.certificates import server_tls
from zcli_core.testing.http.base import Caller, HttpContract, MakeCaller
from zcli_core.testing.http.peer import ScriptedServer, after_request, chunked, responding, response
from zcli_core.testing.http.responses import packed, response_to

#: Media types whose bodies have header lines by the rules of e-mail (RFC 2046).
STRUCTURED = ("multipart/mixed; boundary=b", "multipart/byteranges; boundary=b", "message/rfc822", "message/http")

_LENGTH = b"Content-Length: 2\r\n"

#: Heads that can be read, and the fields in them besides Content-Length.
READABLE = {
    "a name that is not ASCII": (b"X-Caf\xe9: 1\r\nX-After: 2\r\n", [("X-Café", "1"), ("X-After", "2")]),
    "other line breaks of text": (b"X: a\x0bb\x0cc\x1dd\x85e\r\n", [("X", "a\x0bb\x0cc\x1dd\x85e")]),
    "lines that end with LF": (b"X-One: 1\nX-Two: 2\n", [("X-One", "1"), ("X-Two", "2")]),
    "a value that goes on after LF": (b"X-One: 1\n 2\nX-Two: 3\r\n", [("X-One", "1 2"), ("X-Two", "3")]),
    "a value that begins in the next line": (b"X-One:\r\n\tvalue\r\n", [("X-One", "value")]),
    "an envelope of e-mail as a name": (b"From: someone\r\n>From: 1\r\n", [("From", "someone"), (">From", "1")]),
}

#: Heads that two programs could read differently.
UNREADABLE = {
    "a bare CR": b"X-Name: harmless\rSet-Cookie: planted=1\r\n",
    "a bare CR before LF": b"X-Name: value\r\r\n",
    "a NUL": b"X-Name: a\0b\r\n",
    "a space before the colon": b"X-Name : value\r\n",
    "a tab before the colon": b"Content-Length\t: 1\r\n",
    "a name that is empty": b": value\r\n",
    "a line that begins with a space": b" X-Name: value\r\n",
    "a line of e-mail's envelope": b"From someone Sat Nov 28 00:00:00 2026\r\n",
}

#: Responses without a body that state one (RFC 9112, section 6.3): the method, the response.
STATED = {
    "304 in chunks": ("GET", b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "304 with a coding": ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Encoding: gzip\r\n\r\n"),
    "304 with two lengths": ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"),
    "204 in chunks": ("GET", b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "204 with a length": ("DELETE", b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n"),
    "204 in HTTP/1.0": ("GET", b"HTTP/1.0 204 No Content\r\n\r\n"),
    "HEAD in unknown chunks": ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: x-own\r\n\r\n"),
    "HEAD to the end": ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n"),
}

_LARGE = 16 * 1024 * 1024


def large_body(kind: str) -> bytes | Iterator[bytes]:
    """Return a body that does not fit into the buffers of the system."""
    return bytes(_LARGE) if kind == "bytes" else (bytes(65536) for _ in range(_LARGE // 65536))


class MessagesContract(HttpContract):
    """Responses are read by the rules of RFC 9112."""

    # --- the head ---

    @pytest.mark.parametrize("kind", STRUCTURED)
    def test_media_type_of_email_is_read(self, caller: Caller, kind: str) -> None:
        """A body of several parts, or of a message, is read like any other."""
        body = b"--b\r\nX-Part: 1\r\n\r\npart\r\n--b--\r\n"
        found = response_to(caller, response(body, "200 OK", f"Content-Type: {kind}"))
        assert (found.body, ("Content-Type", kind) in found.headers) == (body, True)

    @pytest.mark.parametrize("case", READABLE)
    def test_head_unusual_lines_are_read(self, caller: Caller, case: str) -> None:
        """A line ends with LF, with or without a CR before it (RFC 9112, section 2.2)."""
        lines, fields = READABLE[case]
        found = response_to(caller, b"HTTP/1.1 200 OK\r\n" + lines + _LENGTH + b"\r\nok")
        assert (found.headers, found.body) == ([*fields, ("Content-Length", "2")], b"ok")

    @pytest.mark.parametrize("case", UNREADABLE)
    def test_head_ambiguous_lines_are_refused(self, caller: Caller, case: str) -> None:
        """Two programs could read them differently, so that one of them misses a header (RFC 9112, section 11)."""
        with ScriptedServer(responding(b"HTTP/1.1 200 OK\r\n" + UNREADABLE[case] + _LENGTH + b"\r\nok")) as server:
            caller.fails("protocol", server.url)

    def test_headers_many_are_read(self, caller: Caller) -> None:
        """Servers send hundreds of headers for debugging and cookies."""
        fields = [f"X-Debug-{number}: {number}" for number in range(900)]
        found = response_to(caller, response(b"ok", "200 OK", *fields))
        assert [f"{name}: {value}" for name, value in found.headers[1:]] == fields

    def test_headers_above_max_headers_are_too_large(self, make_caller: MakeCaller) -> None:
        """Exactly ``http.max_headers`` are read, including Content-Length; the message names the setting."""
        caller = make_caller(max_headers=20)
        fields = [f"X-{number}: 1" for number in range(20)]
        with ScriptedServer(
            responding(response(b"ok", "200 OK", *fields[1:]), response(b"ok", "200 OK", *fields))
        ) as s:
            assert len(caller.send(s.url).headers) == 20
            assert "http.max_headers" in caller.fails("too_large", s.url).message

    def test_head_above_256_kib_is_too_large(self, caller: Caller) -> None:
        """A head of 200 kB is read; the message for a larger one has the limit."""
        fields = [f"X-{number}: {'a' * 5000}" for number in range(70)]
        assert len(response_to(caller, response(b"ok", "200 OK", *fields[:40])).headers) == 41
        with ScriptedServer(responding(response(b"ok", "200 OK", *fields))) as server:
            failure = caller.fails("too_large", server.url)
        assert f"{MAX_HEAD_BYTES // 1024} KiB of headers" in failure.message

    # --- where the body ends ---

    @pytest.mark.parametrize("case", STATED)
    def test_bodiless_response_has_no_body(self, caller: Caller, case: str) -> None:
        """The transport ignores Content-Length and Transfer-Encoding in it."""
        method, raw = STATED[case]
        with ScriptedServer(responding(raw)) as server:
            for _ in range(2):
                assert caller.send(server.url, method).body == b""

    def test_body_of_a_204_is_dropped(self, caller: Caller) -> None:
        """A body that a server sends with a 204 is not taken for the next response."""
        planted = b"HTTP/1.1 204 No Content\r\nContent-Length: 40\r\n\r\n" + response(b"planted")
        with ScriptedServer(responding(planted, response(b"ok"))) as server:
            assert caller.send(server.url).body == b""
            assert caller.send(server.url).body == b"ok"
            assert server.connections == 2

    def test_part_of_a_coded_body_is_unchanged(self, caller: Caller) -> None:
        """A 206 has a range of the coded bytes, which cannot be decoded (RFC 9110, section 14.2)."""
        part = packed("gzip", bytes(range(256)) * 40)[100:200]
        fields = ("Content-Encoding: gzip", "Content-Range: bytes 100-199/400")
        found = response_to(caller, response(part, "206 Partial Content", *fields))
        assert (found.status, found.body) == (206, part)

    def test_transfer_encoding_twice_is_read_once(self, caller: Caller) -> None:
        """Two proxies may each add the field."""
        assert response_to(caller, chunked(b"ok", headers=("Transfer-Encoding: chunked",))).body == b"ok"

    @pytest.mark.parametrize("ending", ["close_notify", "nothing"])
    @pytest.mark.parametrize("framing", ["to the end", "a length", "chunks"])
    def test_body_over_tls_needs_close_notify(
        self, make_caller: MakeCaller, ca_file: str, framing: str, ending: str
    ) -> None:
        """If only the end of the connection ends the body, TLS must announce it (RFC 9112, section 9.8)."""
        raws = {"to the end": b"HTTP/1.1 200 OK\r\n\r\nok", "a length": response(), "chunks": chunked(b"ok")}

        def script(server: ScriptedServer, connection: socket.socket) -> None:
            assert isinstance(connection, ssl.SSLSocket)
            connection.sendall(raws[framing])
            if ending == "close_notify":
                connection.settimeout(5)
                connection.unwrap()
            else:
                os.close(connection.detach())

        with ScriptedServer(after_request(script), server_tls()) as server:
            caller = make_caller(ca_file=ca_file)
            if (framing, ending) == ("to the end", "nothing"):
                caller.fails({"reset", "protocol"}, server.url)
            else:
                assert caller.send(server.url).body == b"ok"

    # --- while the request is still being sent ---

    @pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
    @pytest.mark.parametrize("body", ["bytes", "under a length", "in chunks"])
    @pytest.mark.parametrize("status", ["413 Content Too Large", "401 Unauthorized", "200 OK"])
    def test_response_during_the_request_is_read(
        self, make_caller: MakeCaller, ca_file: str, status: str, body: str, secure: bool
    ) -> None:
        """The server reads no further and leaves the connection open (RFC 9112, section 9.5)."""

        def script(server: ScriptedServer, connection: socket.socket) -> None:
            if len(server.requests) == 0 and server.connections == 1:
                head = b""
                while b"\r\n\r\n" not in head:
                    head += connection.recv(1024)
                connection.sendall(response(b"early", status))
                server.closing.wait(60)
            else:
                server.read_request(connection)
                connection.sendall(response())

        headers = [("Content-Length", str(_LARGE))] if body == "under a length" else []
        with ScriptedServer(script, server_tls() if secure else None) as server:
            caller = make_caller(ca_file=ca_file)
            found = caller.send(server.url, "POST", headers, large_body(body))
            assert (f"{found.status} {found.reason}", found.body) == (status, b"early")
            assert caller.send(server.url).body == b"ok", "a connection on which a request is not complete is not kept"
            assert server.connections == 2

    @pytest.mark.parametrize("body", ["bytes", "in chunks"])
    def test_interim_response_does_not_end_the_request(self, caller: Caller, body: str) -> None:
        """After a 103 the rest of the request is sent."""

        def script(server: ScriptedServer, connection: socket.socket) -> None:
            connection.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n")
            if server.read_request(connection):
                connection.sendall(response(str(len(server.requests[0].body)).encode()))

        with ScriptedServer(script) as server:
            assert caller.send(server.url, "POST", body=large_body(body)).body == str(_LARGE).encode()

    # --- a source that ends early or late ---

    @pytest.mark.parametrize("blocks", [[b"12", b"3"], [b"1234567"], [b"12345", b"", b"6"], []], ids=repr)
    def test_source_of_another_length_fails(self, caller: Caller, blocks: list[bytes]) -> None:
        """The server must not get a complete request: it would wait for missing bytes, and take surplus ones for the
        next."""
        with ScriptedServer(responding(response())) as server:
            failure = caller.fails("body", server.url, "PUT", [("Content-Length", "5")], iter(blocks))
            assert "5 bytes" in failure.message
            assert caller.send(f"{server.url}/next").body == b"ok"
            assert [request.target for request in server.requests] == ["/next"]
            assert server.connections == 2
