"""The part of the HTTP suite about valid responses."""

from __future__ import annotations

import gzip
import zlib

import pytest

from zcli_core.http.contract import RawResponse
from zcli_core.testing.http.base import Caller, HttpContract
from zcli_core.testing.http.peer import ScriptedServer, chunked, responding, response

BODY = bytes(range(256)) * 1000
EXTENDED = b'HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n%X;a=b;c="d;e"\r\n%s\r\n000;x\r\n\r\n' % (
    len(BODY),
    BODY,
)

#: Responses without a body (RFC 9112, section 6.3): the method, the response.
BODILESS = {
    "HEAD with a length": ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5000000000\r\n\r\n"),
    "HEAD in chunks": ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "HEAD with a coding": ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Encoding: gzip\r\n\r\n"),
    "HEAD, 404": ("HEAD", b"HTTP/1.1 404 Not Found\r\nContent-Length: 100\r\n\r\n"),
    "204": ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
    "204 to DELETE": ("DELETE", b"HTTP/1.1 204 No Content\r\n\r\n"),
    "304": ("GET", b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n"),
    "304 with a length": ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5000000000\r\n\r\n"),
    "a length of 0": ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    "an empty chunked body": ("GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "an empty coded body": ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Encoding: gzip\r\n\r\n"),
}


def packed(coding: str, body: bytes) -> bytes:
    """Return a body in a content coding."""
    if coding in ("gzip", "x-gzip"):
        return gzip.compress(body)
    if coding == "deflate":
        return zlib.compress(body)
    if coding == "raw deflate":  # without the zlib format, as some servers send it
        packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        return packer.compress(body) + packer.flush()
    raise ValueError(coding)


def response_to(caller: Caller, raw: bytes, method: str = "GET", keep_open: bool = True) -> RawResponse:
    """Return the transport's result for a response of these bytes."""
    with ScriptedServer(responding(raw, keep_open=keep_open)) as server:
        return caller.send(server.url, method)


class ResponsesContract(HttpContract):
    """Valid responses are returned complete and decoded."""

    @pytest.mark.parametrize(
        "raw",
        [
            response(BODY),
            chunked(BODY),
            chunked(*(BODY[i : i + 1000] for i in range(0, len(BODY), 1000))),
            EXTENDED,
            b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + BODY,
            b"HTTP/1.0 200 OK\r\n\r\n" + BODY,
        ],
        ids=["Content-Length", "one chunk", "many chunks", "chunk extensions", "to the end", "HTTP/1.0"],
    )
    def test_body_is_read_to_its_end(self, caller: Caller, raw: bytes) -> None:
        """The end is known from a length, from chunks or from the connection (RFC 9112, section 6.3)."""
        found = response_to(caller, raw, keep_open=False)
        assert (found.status, found.reason, found.body) == (200, "OK", BODY)

    @pytest.mark.parametrize("case", BODILESS)
    def test_response_without_body_ends_at_once(self, caller: Caller, case: str) -> None:
        """The transport does not wait for a body that the headers announce, and keeps the connection."""
        method, raw = BODILESS[case]
        with ScriptedServer(responding(raw)) as server:
            for _ in range(2):
                assert caller.send(server.url, method, max_bytes=1000).body == b""
            assert server.connections == 1

    @pytest.mark.parametrize("status", [100, 102, 103, 199])
    def test_interim_responses_are_skipped(self, caller: Caller, status: int) -> None:
        """There may be any number of them, with headers (RFC 9110, section 15.2)."""
        interim = f"HTTP/1.1 {status} Interim\r\nLink: </style.css>\r\nX-Interim: 1\r\n\r\n".encode()
        found = response_to(caller, interim * 3 + response(b"final", "201 Created", "X-Final: 1"))
        assert (found.status, found.reason, found.body) == (201, "Created", b"final")
        assert found.headers == [("Content-Length", "5"), ("X-Final", "1")]

    def test_101_ends_the_connection(self, caller: Caller) -> None:
        """A 101 that was not requested is the response or a failure, and its connection is not used again."""
        with ScriptedServer(responding(b"HTTP/1.1 101 Switching Protocols\r\n\r\n", keep_open=False)) as server:
            for expected in (1, 2):
                found = caller.may_fail({"protocol", "reset"}, server.url)
                assert found is None or found.status == 101
                assert server.connections == expected

    @pytest.mark.parametrize(
        "status", ["200 OK", "201 Created", "400 Bad Request", "404 Not Found", "418 I'm a teapot", "500 Oops", "599 ?"]
    )
    def test_every_status_is_a_response(self, caller: Caller, status: str) -> None:
        """It has its reason and its body."""
        found = response_to(caller, response(b"body", status))
        assert (f"{found.status} {found.reason}", found.body) == (status, b"body")

    @pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
    def test_redirects_are_returned(self, caller: Caller, status: int) -> None:
        """The core follows redirects."""
        with ScriptedServer(responding(response(b"moved", f"{status} Moved", "Location: /elsewhere"))) as server:
            found = caller.send(server.url, "POST", body=b"body")
            assert (found.status, found.body) == (status, b"moved")
            assert ("Location", "/elsewhere") in found.headers
            assert len(server.requests) == 1

    @pytest.mark.parametrize("status", [401, 407, 425, 429, 503])
    def test_retry_statuses_are_returned(self, caller: Caller, status: int) -> None:
        """The core does authentication and retries."""
        fields = ('WWW-Authenticate: Basic realm="r"', "Retry-After: 0")
        with ScriptedServer(responding(response(b"", f"{status} Again", *fields))) as server:
            assert caller.send(server.url).status == status
            assert len(server.requests) == 1

    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            (b"HTTP/1.1 200 ", ""),
            (b"HTTP/1.1 200", ""),
            (b"HTTP/1.1 200 Many words here", "Many words here"),
            (b"HTTP/1.1 200 Tr\xe8s bien", "Très bien"),
        ],
        ids=["empty", "none", "words", "Latin-1"],
    )
    def test_reason_is_returned(self, caller: Caller, line: bytes, reason: str) -> None:
        """It may be missing (RFC 9112, section 4)."""
        found = response_to(caller, line + b"\r\nContent-Length: 2\r\n\r\nok")
        assert (found.status, found.reason, found.body) == (200, reason, b"ok")

    def test_headers_are_returned_unchanged(self, caller: Caller) -> None:
        """Case and order are kept, fields are not joined, and values are Latin-1 without white space around them."""
        raw = (
            b"HTTP/1.1 200 OK\r\nX-Case-Is-KEPT: 1\r\nSet-Cookie: a=1; Expires=Wed, 21 Oct 2099 07:28:00 GMT\r\n"
            b"x-lower:2\r\nset-cookie:   b=2  \r\nX-Latin: Gr\xfc\xdfe\r\nX-Empty:\r\nSet-Cookie: a=3\r\n"
            b"X-Colons: a:b: c\r\nContent-Length: 2\r\n\r\nok"
        )
        assert response_to(caller, raw).headers == [
            ("X-Case-Is-KEPT", "1"),
            ("Set-Cookie", "a=1; Expires=Wed, 21 Oct 2099 07:28:00 GMT"),
            ("x-lower", "2"),
            ("set-cookie", "b=2"),
            ("X-Latin", "Grüße"),
            ("X-Empty", ""),
            ("Set-Cookie", "a=3"),
            ("X-Colons", "a:b: c"),
            ("Content-Length", "2"),
        ]

    def test_folded_value_is_one_value(self, caller: Caller) -> None:
        """A value that continues in the next line is obsolete, but is read (RFC 9112, section 5.2)."""
        raw = b"HTTP/1.1 200 OK\r\nX-Folded: one\r\n two\r\n\tthree\r\nContent-Length: 2\r\n\r\nok"
        assert ("X-Folded", "one two three") in response_to(caller, raw).headers

    def test_trailers_are_not_headers(self, caller: Caller) -> None:
        """A field after the body must not be taken for one before it (RFC 9110, section 6.5.1)."""
        raw = chunked(b"body", end=b"0\r\nSet-Cookie: planted=1\r\nX-Trailer: 1\r\n\r\n")
        with ScriptedServer(responding(raw)) as server:
            for _ in range(2):
                found = caller.send(server.url)
                assert found.headers == [("Transfer-Encoding", "chunked")]
                assert found.body == b"body"
            assert server.connections == 1

    def test_large_headers_are_read(self, caller: Caller) -> None:
        """Values of 8 kB, 90 fields and 60 kB in all are valid."""
        fields = [f"X-{number}: {'a' * (8000 if number < 6 else 100)}" for number in range(90)]
        found = response_to(caller, response(b"ok", "200 OK", *fields))
        assert [f"{name}: {value}" for name, value in found.headers[1:]] == fields

    # --- content codings ---

    def test_content_codings_are_listed(self, caller: Caller) -> None:
        """Every transport decodes gzip and deflate, because servers send them without being asked."""
        codings = caller.transport.content_codings
        assert isinstance(codings, tuple)
        assert all(isinstance(coding, str) and coding == coding.lower().strip() and coding for coding in codings)
        assert {"gzip", "deflate"} <= set(codings)
        assert "identity" not in codings

    @pytest.mark.parametrize("coding", ["gzip", "x-gzip", "deflate", "raw deflate"])
    @pytest.mark.parametrize("framing", ["length", "chunks", "end"])
    def test_content_codings_are_decoded(self, caller: Caller, coding: str, framing: str) -> None:
        """The headers are not changed (RFC 9110, section 8.4.1)."""
        body, field = packed(coding, BODY), f"Content-Encoding: {coding.removeprefix('raw ')}"
        raw = {
            "length": response(body, "200 OK", field),
            "chunks": chunked(body[:10], body[10:], headers=(field,)),
            "end": f"HTTP/1.0 200 OK\r\n{field}\r\n\r\n".encode() + body,
        }[framing]
        found = response_to(caller, raw, keep_open=False)
        assert found.body == BODY
        assert ("Content-Encoding", coding.removeprefix("raw ")) in found.headers

    @pytest.mark.parametrize(
        "fields",
        [("Content-Encoding: deflate, gzip",), ("Content-Encoding: deflate", "content-encoding: gzip")],
        ids=["one field", "two fields"],
    )
    def test_several_codings_are_decoded_in_reverse(self, caller: Caller, fields: tuple[str, ...]) -> None:
        """The header has them in the order in which they were applied (RFC 9110, section 8.4)."""
        body = packed("gzip", packed("deflate", BODY))
        assert response_to(caller, response(body, "200 OK", *fields)).body == BODY

    @pytest.mark.parametrize("field", ["Content-Encoding: identity", "Content-Encoding: "])
    def test_uncoded_body_is_unchanged(self, caller: Caller, field: str) -> None:
        """A coding is not guessed from the bytes."""
        body = packed("gzip", BODY)
        assert response_to(caller, response(body, "200 OK", field, "Content-Type: application/gzip")).body == body
        assert response_to(caller, response(body, "200 OK", "Content-Type: application/gzip")).body == body

    def test_unknown_coding_is_kept_or_refused(self, caller: Caller) -> None:
        """The body is returned unchanged, or the call fails."""
        raw = response(b"as it came", "200 OK", "Content-Encoding: x-unknown")
        with ScriptedServer(responding(raw)) as server:
            found = caller.may_fail("protocol", server.url)
        assert found is None or found.body == b"as it came"
