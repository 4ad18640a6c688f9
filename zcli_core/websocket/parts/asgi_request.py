"""The request of an ASGI scope, with the path below the place where the application is mounted."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from zcli_core.net.headers import Headers
from zcli_core.websocket.contract import Address, Request
from zcli_core.websocket.parts.addresses import parse_ip
from zcli_core.websocket.parts.upgrade import BadRequest, head_too_large

if TYPE_CHECKING:
    from zcli_core.websocket.contract import Limits

Scope = Mapping[str, Any]

#: The extension with which a server can refuse an upgrade by an HTTP response.
_HTTP_RESPONSE = "websocket.http.response"
#: Where the transport ``uvicorn`` puts the client's certificate, as :meth:`ssl.SSLSocket.getpeercert` returns it.
CLIENT_CERTIFICATE = "zcli.client_certificate"


def make_request(scope: Scope) -> Request:
    """Return the request of a scope of the types ``websocket`` and ``http``."""
    headers = Headers([(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]])
    extensions = scope.get("extensions") or {}
    return Request(
        scope.get("method", "GET"),
        _path_below_mount(scope),
        scope.get("query_string", b"").decode("latin-1"),
        headers,
        _address(scope.get("client")),
        _local_address(scope.get("server")),
        scope.get("scheme") in ("wss", "https"),
        tuple(filter(None, scope.get("subprotocols") or ())),  # uvicorn passes on empty ones
        extensions.get(CLIENT_CERTIFICATE),
        scope["type"] != "websocket" or _HTTP_RESPONSE in extensions,
        time.monotonic(),  # the server does not say when it has accepted the connection
    )


def encode_headers(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """Encode the headers of a response for ASGI, because not every server refuses a line break.

    Raises:
        ValueError: A name or a value has a line break or a null byte.
    """
    for name, value in headers:
        if not {"\r", "\n", "\0"}.isdisjoint(name + value):
            raise ValueError(f"the header {name!r} has a line break or a null byte")
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]


def check_head(headers: Headers, limits: Limits) -> None:
    """Check the limits of a head, which the server has read with limits of its own.

    Raises:
        BadRequest: The head is over a limit.
    """
    fields = headers.items()
    if len(fields) > limits.max_headers:
        raise BadRequest(431, f"The request has more than {limits.max_headers} headers.")
    if sum(len(name) + len(value) + 4 for name, value in fields) > limits.max_header_bytes:
        raise head_too_large(limits.max_header_bytes)


def _path_below_mount(scope: Scope) -> str:
    """Return the path, percent-encoded, without the prefix under which a framework has mounted the application.

    ``root_path`` is that prefix. ``path`` begins with it if the framework or server follows the specification of ASGI;
    hypercorn and older frameworks leave it out.
    """
    path, root = scope["path"], scope.get("root_path", "").rstrip("/")
    mounted = bool(root) and (path == root or path.startswith(f"{root}/"))
    below = (path[len(root) :] if mounted else path) or "/"
    raw = scope.get("raw_path")
    if raw is not None:
        encoded: str = raw.decode("latin-1").partition("?")[0]
        for start in (len(quote(root)), len(root.encode())) if mounted else (0,):
            if unquote(encoded[start:] or "/") == below:
                return encoded[start:] or "/"
    return quote(below, safe="/!$&'()*+,;=:@~")


def _address(client: Any) -> Address:
    """Return the client's address; None for a client of a Unix socket."""
    if not client or not client[0]:
        return None
    return str(client[0]), int(client[1] or 0)


def _local_address(server: Any) -> Address:
    """Return the server's address; None for a Unix socket, and for a name, which a client may have chosen."""
    if not server or not server[0] or server[1] is None or parse_ip(server[0]) is None:
        return None
    return str(server[0]), int(server[1])
