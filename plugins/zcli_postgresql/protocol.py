"""The part of PostgreSQL's frontend/backend protocol 3.0 that a probe needs.

https://www.postgresql.org/docs/current/protocol-message-formats.html
"""

from __future__ import annotations

from collections.abc import Iterator

from zcli_core.services.contract import Exchange, NotThisService, Probe, ProbeResult

_SSL_REQUEST = bytes.fromhex("0000000804d2162f")
_LONGEST_OLD_ERROR = 1024
_TERMINATE = b"X\0\0\0\x04"
_PROTOCOL = bytes.fromhex("00030000")

# https://www.postgresql.org/docs/current/errcodes-appendix.html
_INVALID_AUTHORIZATION = "28"  # a class: 28000, 28P01
#: The database does not exist, or the user may not connect to it. The server serves other clients.
_READY_FOR_OTHERS = ("3D000", "42501")

#: The authentication message AuthenticationOk: no credential is required.
_AUTHENTICATED = 0


def probe(user: str, database: str) -> Probe:
    """Request TLS, then start a session as the configured user and end it.

    The server replies to the TLS request without a line in its log. The reply proves that it is PostgreSQL, or a
    connection pooler for it. Only the start of a session shows whether the server is ready. No password is sent.
    """
    offered = yield Exchange(_SSL_REQUEST, _is_offer)
    if offered[:1] == b"E":  # the server is too old for TLS, or cannot start a process
        result = _result(offered)
        if result is None:
            raise NotThisService(offered)
        return result
    if offered not in (b"S", b"N"):
        raise NotThisService(offered)
    greeting = yield Exchange(_startup(user, database), _is_complete, tls=offered == b"S")
    if greeting.not_tls:
        raise NotThisService(offered)
    result = _result(greeting)
    if result is None:
        ended = "ended the connection during" if greeting.closed else "did not answer in time to"
        return ProbeResult(ready=False, detail=f"it {ended} a login")
    if result.needs_auth is False:  # during a login, the server would log an error
        yield Exchange(_TERMINATE)
    return result


def _startup(user: str, database: str) -> bytes:
    words = ("user", user, "database", database, "application_name", "zcli")
    body = _PROTOCOL + b"".join(word.encode() + b"\0" for word in words) + b"\0"
    return (len(body) + 4).to_bytes(4, "big") + body


def messages(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the complete messages in ``data`` as (type, body).

    Raises:
        NotThisService: the type or the length is invalid.
    """
    start = 0
    while len(data) >= start + 5:
        kind = data[start : start + 1]
        end = start + 1 + int.from_bytes(data[start + 1 : start + 5], "big")
        if not start + 5 <= end <= start + 2**24 or not kind.isalpha():
            raise NotThisService(data[start:])
        if len(data) < end:
            return
        yield kind, data[start + 5 : end]
        start = end


def _is_offer(data: bytes) -> bool:
    return _is_complete(data) if data[:1] == b"E" else bool(data)


def _is_complete(data: bytes) -> bool:
    if _old_error(data):
        return True
    try:
        return any(kind in b"EZ" or (kind == b"R" and _method(body)) for kind, body in messages(data))
    except NotThisService:
        return data[:1] != b"E" or len(data) > _LONGEST_OLD_ERROR


def _old_error(data: bytes) -> str:
    """Return the text of an error of protocol 2.0, which a server sends if it cannot start a process; else empty."""
    text, end, _ = data[1:_LONGEST_OLD_ERROR].partition(b"\n\0")
    return text.decode("utf-8", "replace") if data[:1] == b"E" and end and text.isascii() and text[:1].islower() else ""


def _method(body: bytes) -> int:
    if len(body) < 4:
        raise NotThisService(body)
    return int.from_bytes(body[:4], "big")


def _result(data: bytes) -> ProbeResult | None:
    """Return the result of the messages for a login; None if they are not complete.

    Raises:
        NotThisService: it is not PostgreSQL's protocol.
    """
    if error := _old_error(data):
        return ProbeResult(ready=False, detail=error)
    version = None
    for kind, body in messages(data):
        if kind == b"E":
            return _result_of_error(body)
        if kind == b"R" and _method(body) != _AUTHENTICATED:
            return ProbeResult(needs_auth=True)
        if kind == b"S":
            name, _, rest = body.partition(b"\0")
            if name == b"server_version":
                version = rest.rstrip(b"\0").decode("utf-8", "replace").partition(" ")[0]
        if kind == b"Z":
            return ProbeResult(version=version, needs_auth=False)
    return None


def _result_of_error(body: bytes) -> ProbeResult:
    fields = {part[:1]: part[1:].decode("utf-8", "replace") for part in body.split(b"\0") if part}
    code, message = fields.get(b"C", ""), fields.get(b"M", "")
    if len(code) != 5:
        raise NotThisService(body)
    if code.startswith(_INVALID_AUTHORIZATION):
        return ProbeResult(needs_auth=True, detail=message)
    # Every other error concerns all clients: the server is starting, stopping or has too many connections.
    return ProbeResult(ready=code in _READY_FOR_OTHERS, detail=message)
