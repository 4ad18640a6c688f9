"""The upgrade, without input or output: from a request's bytes to a :class:`Request`, from a decision to a response.

:mod:`.request_head` reads the head; the limits and the checks of RFC 6455, section 4.2.1, are here.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import http
import re
from typing import TYPE_CHECKING, Any

from zcli_core.net.headers import Headers
from zcli_core.websocket.contract import Address, PlainResponse, Request
from zcli_core.websocket.parts.request_head import MalformedRequest, RequestHead, parse_request_head

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from zcli_core.websocket.contract import Limits

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_END_OF_HEAD = re.compile(rb"\n\r?\n")
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
#: The length, in bytes, to which :func:`shorten_lines` shortens a line.
_SHORT_LINE = 512
_ABSOLUTE_FORM = re.compile(r"(?:http|ws)s?://([^/?#]*)(.*)", re.IGNORECASE)
_VALUE = re.compile(r"[^\x00-\x1f\x7f]*")


class BadRequest(Exception):  # noqa: N818 - the name of the status
    """A request that gets an error status and one sentence, without asking the core."""

    def __init__(self, status: int, text: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(text)
        kind = ("Content-Type", "text/plain; charset=utf-8")
        self.response = PlainResponse(status, (text + "\n").encode(), (kind, *headers))


def head_too_large(limit: int) -> BadRequest:
    """Make the error for a head over its limit in bytes."""
    return BadRequest(431, f"The request's head is over {limit} bytes.")


def split_head(data: bytes, limits: Limits) -> tuple[bytes, bytes] | None:
    """Return the head of a request and what follows it; None if the head is not complete.

    Raises:
        BadRequest: The head is over a limit.
    """
    match = _END_OF_HEAD.search(data)
    size = match.end() if match else len(data)
    if size > limits.max_header_bytes:
        raise head_too_large(limits.max_header_bytes)
    if match is None:
        return None
    if data.count(b"\n", 0, size) > limits.max_headers + 2:
        raise BadRequest(431, f"The request has more than {limits.max_headers} headers.")
    return data[:size], data[size:]


def shorten_lines(data: bytes) -> bytes:
    """Shorten the long lines of a head that is too large, so that the kind of request can still be read.

    The result must only lead to a refusal. The end of a line is kept too, because the request line ends with the
    version.
    """
    return b"\n".join(
        line if len(line) <= _SHORT_LINE else line[: _SHORT_LINE - 64] + line[-64:] for line in data.split(b"\n")
    )


def parse_head(
    head: bytes,
    remote: Address,
    local: Address,
    tls: bool,
    certificate: Mapping[str, Any] | None = None,
    accepted_at: float | None = None,
) -> tuple[Request, str | None]:
    """Return the request, and its Sec-WebSocket-Key if it is a valid WebSocket upgrade.

    Raises:
        BadRequest: The head is not valid HTTP, or the upgrade violates RFC 6455.
    """
    try:
        read = parse_request_head(head)
    except MalformedRequest as error:
        raise BadRequest(error.status, "Malformed HTTP request.") from None
    if not read.version.startswith("1."):
        raise BadRequest(505, "This server supports HTTP/1.1 only.")
    target, headers = _origin_form(read.target, read.headers)
    path, _, query = target.partition("?")
    wants_websocket = "websocket" in _tokens(headers, "upgrade")
    key = _check_upgrade(read, headers) if wants_websocket else None
    request = Request(
        read.method, path, query, headers, remote, local, tls,
        _subprotocols(headers) if wants_websocket else (), certificate, accepted_at=accepted_at,
    )  # fmt: skip
    return request, key


def _origin_form(target: str, headers: Headers) -> tuple[str, Headers]:
    """Return the path and query of a target that may be a whole URL, whose authority then replaces ``Host``.

    A server must accept the absolute form from every client (RFC 9112, 3.2.2).

    Raises:
        BadRequest: The URL has no authority, or user information in it (RFC 9110, 4.2.4).
    """
    match = None if target.startswith("/") else _ABSOLUTE_FORM.fullmatch(target)
    if match is None:
        return target, headers
    authority, rest = match.groups()
    if not authority or "@" in authority:
        raise BadRequest(400, "The request target is not a valid URL.")
    others = [(name, value) for name, value in headers.items() if name.lower() != "host"]
    return rest if rest.startswith("/") else f"/{rest}", Headers([("Host", authority), *others])


def _tokens(headers: Headers, name: str) -> list[str]:
    return [token.strip().lower() for value in headers.get_all(name) for token in value.split(",")]


def _check_upgrade(read: RequestHead, headers: Headers) -> str:
    """Return the key of an upgrade that meets RFC 6455, 4.2.1; raise BadRequest for any other."""
    if read.method != "GET":
        raise BadRequest(405, "A WebSocket upgrade must use GET.", (("Allow", "GET"),))
    if read.version != "1.1":
        raise BadRequest(426, "A WebSocket upgrade must use HTTP/1.1.", (("Upgrade", "websocket"),))
    if "upgrade" not in _tokens(headers, "connection"):
        raise BadRequest(400, "The Connection header of an upgrade must contain 'Upgrade'.")
    if headers.get_all("sec-websocket-version") != ["13"]:
        raise BadRequest(
            426, "This server supports version 13 of the WebSocket protocol.",
            (("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")),
        )  # fmt: skip
    if headers.get_all("content-length") not in ([], ["0"]) or "transfer-encoding" in headers:
        raise BadRequest(400, "An upgrade request must have no body.")
    keys = headers.get_all("sec-websocket-key")
    if len(keys) != 1 or not _is_key(keys[0]):
        raise BadRequest(400, "An upgrade must have one Sec-WebSocket-Key: 16 bytes in base64.")
    return keys[0]


def _is_key(key: str) -> bool:
    try:
        return len(key) == 24 and len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False


def _subprotocols(headers: Headers) -> tuple[str, ...]:
    """Return the subprotocols that the client offers.

    Empty elements of a list are ignored (RFC 9110, 5.6.1.2), so an empty header offers nothing.

    Raises:
        BadRequest: A name is not a token, or occurs twice (RFC 6455, 4.1).
    """
    values = headers.get_all("sec-websocket-protocol")
    offered = [name for value in values for part in value.split(",") if (name := part.strip(" \t"))]
    if len(set(offered)) != len(offered) or not all(_NAME.fullmatch(name) for name in offered):
        raise BadRequest(400, "Sec-WebSocket-Protocol must list different names.")
    return tuple(offered)


def accept_response(
    key: str, subprotocol: str | None, extensions: str | None, headers: Iterable[tuple[str, str]] = ()
) -> bytes:
    """Return the 101 response that opens the connection (RFC 6455, 4.2.2)."""
    accept = base64.b64encode(hashlib.sha1(key.encode() + _GUID).digest()).decode()  # noqa: S324 - the RFC's choice
    lines = (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n"
    )
    if subprotocol is not None:
        lines += f"Sec-WebSocket-Protocol: {subprotocol}\r\n"
    if extensions is not None:
        lines += f"Sec-WebSocket-Extensions: {extensions}\r\n"
    return (lines + _header_lines(headers) + "\r\n").encode("latin-1")


def http_response(response: PlainResponse, with_body: bool = True) -> bytes:
    """Return the bytes of a plain HTTP response, after which the connection is closed.

    Raises:
        ValueError: The status is not that of a final response, or a header is not allowed in HTTP.
    """
    status = response.status
    if not 200 <= status <= 599:
        raise ValueError(f"status must be 200 to 599, got {status}")
    lines = f"HTTP/1.1 {status} {_phrase(status)}\r\nConnection: close\r\n"
    if status in (204, 304):
        with_body = False  # these have no content, and no length of it (RFC 9110, 8.6 and 15)
    else:
        lines += f"Content-Length: {len(response.body)}\r\n"
    head = (lines + _header_lines(response.headers) + "\r\n").encode("latin-1")
    return head + response.body if with_body else head


def _phrase(status: int) -> str:
    """Return the reason phrase; empty, as RFC 9112, 4 allows, for a status that Python does not know."""
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return ""


def _header_lines(headers: Iterable[tuple[str, str]] | Sequence[tuple[str, str]]) -> str:
    lines = ""
    for name, value in headers:
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise ValueError(f"cannot send the header {name!r}: its name or value is not allowed in HTTP")
        lines += f"{name}: {value}\r\n"
    return lines
