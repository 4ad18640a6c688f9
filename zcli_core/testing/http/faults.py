"""The part of the HTTP suite about invalid responses and failing connections."""

from __future__ import annotations

import contextlib
import socket

import pytest

from zcli_core.http.contract import FailureKind, TransportFailure
from zcli_core.testing.http.base import Caller, HttpContract
from zcli_core.testing.http.peer import (
    ScriptedServer,
    after_request,
    chunked,
    closed_port,
    reset,
    responding,
    response,
)
from zcli_core.testing.http.responses import packed

#: The kinds for a body that ends early with a regular end of the connection. Transports differ in which they report.
_CUT_OFF: set[FailureKind] = {"protocol", "reset"}

_CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

#: Responses that are not valid HTTP; the server closes the connection after them.
INVALID_RESPONSES = {
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n",
    "garbage": bytes(range(128, 256)) * 8 + b"\r\n\r\n",
    "a status that is not a number": b"HTTP/1.1 abc OK\r\n\r\n",
    "a line that is not a header": b"HTTP/1.1 200 OK\r\nno header\r\nContent-Length: 2\r\n\r\nok",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
    "two lengths in one": b"HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nok!",
    "a length below 0": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    "a length with a sign": b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
    "a length of 5000 digits": b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\nless",
    "a length that is not a number": b"HTTP/1.1 200 OK\r\nContent-Length: 1_0\r\n\r\n" + bytes(10),
    "a content coding as a transfer coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    **{
        f"version {version}": f"{version} 200 OK\r\nContent-Length: 2\r\n\r\nok".encode()
        for version in ("HTTP/0.9", "HTTP/1", "HTTP/2", "HTTP/2.0", "HTTP/3", "HTTP/4.0", "HTTP/1.10")
    },
    "an unknown transfer coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: x-own, chunked\r\n\r\n0\r\n\r\n",
}

#: Bodies with invalid chunks (RFC 9112, section 7.1); the server closes the connection after them.
INVALID_CHUNKS = {
    "no hex": _CHUNKS + b"xyz\r\nabc\r\n0\r\n\r\n",
    "below 0": _CHUNKS + b"-1\r\na\r\n0\r\n\r\n",
    "a prefix": _CHUNKS + b"0x2\r\nok\r\n0\r\n\r\n",
    "an underscore": _CHUNKS + b"0_2\r\nok\r\n0\r\n\r\n",
    "no size": _CHUNKS + b"\r\nok\r\n0\r\n\r\n",
    "too many digits": _CHUNKS + b"1" * 40 + b"\r\nok\r\n0\r\n\r\n",
    "one digit too many": _CHUNKS + b"1" * 17 + b"\r\nok\r\n0\r\n\r\n",
    "more than its size": _CHUNKS + b"2\r\nokay\r\n0\r\n\r\n",
    "a space before the size": _CHUNKS + b" 2\r\nok\r\n0\r\n\r\n",
    "a CR for a line break": _CHUNKS + b"2\rok\r\n0\r\n\r\n",
}

#: Lines after the last chunk that are not header fields, or that two programs could read differently.
INVALID_TRAILERS = {
    "no colon": b"no trailer\r\n",
    "a line that begins with a space": b" X: 1\r\n",
    "a value that goes on": b"X: 1\r\n 2\r\n",
    "a bare CR": b"X: 1\rY: 2\r\n",
    "a bare CR before CRLF": b"X: 1\r\r\n",
    "a NUL": b"X: \0\r\n",
}

#: Bodies that end early.
TRUNCATED = {
    "Content-Length": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nless",
    "nothing of it": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n",
    "in a chunk": _CHUNKS + b"5\r\nab",
    "after a chunk": _CHUNKS + b"2\r\nab\r\n",
    "in a chunk's size": _CHUNKS + b"2\r\nab\r\n1",
    "packed, with a length": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 100\r\n\r\n"
    + packed("gzip", b"less"),
}

#: Complete messages whose content coding is not the stated one or is cut off: the stated coding, the body.
BROKEN_CODINGS = {
    "no gzip": ("gzip", b"this is not gzip"),
    "corrupt gzip": ("gzip", packed("gzip", bytes(1000))[:15] + b"\xff" * 20),
    "wrong checksum": ("gzip", packed("gzip", b"text")[:-8] + bytes(8)),
    "no deflate": ("deflate", b"\xff\xff this is not deflate"),
    "gzip cut off": ("gzip", packed("gzip", bytes(range(256)) * 40)[:-20]),
    "gzip without its end": ("gzip", packed("gzip", b"text")[:-4]),
    "gzip of one byte": ("gzip", b"\x1f"),
    "deflate cut off": ("deflate", packed("deflate", bytes(range(256)) * 40)[:-20]),
    "deflate in gzip without its end": ("deflate, gzip", packed("gzip", packed("deflate", b"text"))[:-4]),
    "gzip in gzip cut off": ("gzip, gzip", packed("gzip", packed("gzip", bytes(range(256)) * 40)[:-20])),
}


class FaultsContract(HttpContract):
    """Every fault is a TransportFailure of the right kind: never another exception, a hang or a partial body."""

    # --- no connection ---

    def test_port_without_listener_is_refused(self, caller: Caller) -> None:
        """The call fails at once, with the address in the message."""
        port = closed_port()
        failure = caller.fails("refused", f"http://127.0.0.1:{port}/")
        assert "127.0.0.1" in failure.message
        assert str(port) in failure.message

    @pytest.mark.parametrize("host", ["no-such-host.invalid", "xn--bcher-kva.invalid"])
    def test_name_without_address_is_dns(self, caller: Caller, host: str) -> None:
        """No name below .invalid exists (RFC 6761, section 6.4)."""
        assert host in caller.fails("dns", f"http://{host}/").message

    # --- a connection that breaks ---

    def test_reset_without_response_is_reset(self, caller: Caller) -> None:
        """The request is not sent again after a reset of a new connection."""
        with ScriptedServer(after_request(lambda _, connection: reset(connection))) as server:
            caller.fails("reset", server.url)
            assert server.connections == 1

    def test_close_without_response_is_reset(self, caller: Caller) -> None:
        """The server closes the connection in the regular way without a response."""
        with ScriptedServer(after_request(lambda server, connection: None)) as server:
            caller.fails("reset", server.url)
            assert server.connections == 1

    @pytest.mark.parametrize(
        "beginning",
        [b"HTTP/1.1 200 OK\r\nX-Begun: ", b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + bytes(5000)],
        ids=["headers", "body"],
    )
    def test_reset_within_a_response_is_reset(self, caller: Caller, beginning: bytes) -> None:
        """The part that was received is not returned."""

        def script(server: ScriptedServer, connection: socket.socket) -> None:
            connection.sendall(beginning)
            connection.settimeout(0.2)
            with contextlib.suppress(TimeoutError):  # so that the client has read the beginning
                connection.recv(1)
            reset(connection)

        with ScriptedServer(after_request(script)) as server:
            caller.fails("reset", server.url)
            assert server.connections == 1

    @pytest.mark.parametrize("beginning", [b"HT", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nX-Begun: "])
    def test_close_within_the_headers_fails(self, caller: Caller, beginning: bytes) -> None:
        """The part that was received is not returned."""
        with ScriptedServer(responding(beginning, keep_open=False)) as server:
            caller.fails(_CUT_OFF, server.url)

    @pytest.mark.parametrize("case", TRUNCATED)
    def test_body_that_ends_early_fails(self, caller: Caller, case: str) -> None:
        """A partial body is not returned."""
        with ScriptedServer(responding(TRUNCATED[case], keep_open=False)) as server:
            caller.fails(_CUT_OFF, server.url)

    def test_call_after_a_failure_is_unaffected(self, caller: Caller) -> None:
        """It has its own connection and its own response."""
        bad = (*INVALID_RESPONSES.values(), *INVALID_CHUNKS.values(), *TRUNCATED.values())
        script = responding(*(raw for each in bad for raw in (each, response(b"good"))), keep_open=False)
        with ScriptedServer(script) as server:
            for _ in bad:
                with pytest.raises(TransportFailure):
                    caller.send(server.url)
                assert caller.send(server.url).body == b"good"

    # --- invalid responses ---

    @pytest.mark.parametrize("case", INVALID_RESPONSES)
    def test_invalid_response_is_protocol(self, caller: Caller, case: str) -> None:
        """A guess where it ends could let one response pass for two (RFC 9112, section 11.1)."""
        with ScriptedServer(responding(INVALID_RESPONSES[case], keep_open=False)) as server:
            caller.fails("protocol", server.url)

    def test_message_has_no_control_characters(self, caller: Caller) -> None:
        """A message may quote the peer, but not its control characters."""
        with ScriptedServer(responding(b"\x1b[2JHTTP\x07\x9b31m abc\r\n\r\n", keep_open=False)) as server:
            caller.fails("protocol", server.url)

    @pytest.mark.parametrize("case", INVALID_CHUNKS)
    def test_invalid_chunks_fail(self, caller: Caller, case: str) -> None:
        """An invalid chunk size is not corrected."""
        with ScriptedServer(responding(INVALID_CHUNKS[case], keep_open=False)) as server:
            caller.fails(_CUT_OFF, server.url)

    @pytest.mark.parametrize("case", INVALID_TRAILERS)
    def test_trailer_invalid_line_is_refused(self, caller: Caller, case: str) -> None:
        """Trailers are dropped, but another program may read such a line as a header."""
        raw = _CHUNKS + b"2\r\nok\r\n0\r\n" + INVALID_TRAILERS[case] + b"\r\n"
        with ScriptedServer(responding(raw, keep_open=False)) as server:
            caller.fails("protocol", server.url)

    def test_endless_trailers_are_too_large(self, caller: Caller) -> None:
        """They count as headers."""
        line = b"X: " + b"a" * 1000 + b"\r\n"
        with ScriptedServer(responding(_CHUNKS + b"2\r\nok\r\n0\r\n" + line * 400, keep_open=False)) as server:
            caller.fails("too_large", server.url)

    def test_length_with_chunks_ends_the_connection(self, caller: Caller) -> None:
        """It may be request smuggling (RFC 9112, section 6.3): the call fails, or the chunks are read and the
        connection is closed."""
        raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n2\r\nok\r\n0\r\n\r\n"
        with ScriptedServer(responding(raw)) as server:
            for expected in (1, 2):
                found = caller.may_fail("protocol", server.url)
                assert found is None or found.body == b"ok"
                assert server.connections == expected

    @pytest.mark.parametrize("length", ["2, 2", "2\r\nContent-Length: 2"], ids=["in one", "in two"])
    def test_same_length_twice_is_one_or_refused(self, caller: Caller, length: str) -> None:
        """RFC 9110, section 8.6, allows both."""
        with ScriptedServer(responding(f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\nok".encode())) as server:
            found = caller.may_fail("protocol", server.url)
        assert found is None or found.body == b"ok"

    @pytest.mark.parametrize("line", [b"X-Endless: a\r\n", b"a"], ids=["fields", "a line"])
    def test_endless_headers_are_too_large(self, caller: Caller, line: bytes) -> None:
        """The call fails long before the memory is full or the deadline passes."""
        sent = 0

        def script(server: ScriptedServer, connection: socket.socket) -> None:
            nonlocal sent
            connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
            while sent < 256 * 1024 * 1024:
                sent += connection.send(line * 5000)

        with ScriptedServer(after_request(script)) as server:
            caller.fails("too_large", server.url)
        assert sent < 32 * 1024 * 1024

    # --- content codings ---

    @pytest.mark.parametrize("framing", ["length", "chunks", "end"])
    @pytest.mark.parametrize("case", BROKEN_CODINGS)
    def test_invalid_content_coding_fails(self, caller: Caller, case: str, framing: str) -> None:
        """The body is returned neither unchanged nor in part, even if the message is complete."""
        coding, body = BROKEN_CODINGS[case]
        field = f"Content-Encoding: {coding}"
        raw = {
            "length": response(body, "200 OK", field),
            "chunks": chunked(body, headers=(field,)),
            "end": f"HTTP/1.0 200 OK\r\n{field}\r\n\r\n".encode() + body,
        }[framing]
        with ScriptedServer(responding(raw, keep_open=False)) as server:
            caller.fails("protocol", server.url)
