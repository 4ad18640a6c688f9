"""As much of PostgreSQL's frontend/backend protocol 3.0 as a greeting takes.

https://www.postgresql.org/docs/current/protocol-message-formats.html
"""

from __future__ import annotations

from collections.abc import Iterator

from zcli_core.contracts.service import Answer, Exchange, NotThisService, Probe

_SSL_REQUEST = bytes.fromhex("0000000804d2162f")
_TERMINATE = b"X\0\0\0\x04"
_PROTOCOL = bytes.fromhex("00030000")

# https://www.postgresql.org/docs/current/errcodes-appendix.html
_STARTING = "57P03"
_FULL = "53300"
_NO_RIGHT = ("28000", "28P01")

#: Types of authentication that ask for nothing we would have to know.
_AUTHENTICATED = 0


def probe(user: str, database: str) -> Probe:
    """Ask for TLS, which the server answers quietly whoever it is set to admit; then begin a session and leave.

    A session is begun as the configured user: the only other way to learn whether the server is ready would leave the
    same lines in its log. No password is sent, whatever is asked for.
    """
    offered = yield Exchange(_SSL_REQUEST, bool)
    if offered[:1] == b"E":  # too old for TLS, or too loaded to fork
        return _answer(offered)
    if offered not in (b"S", b"N"):
        raise NotThisService(offered)
    greeting = yield Exchange(_startup(user, database), _is_complete, tls=offered == b"S")
    answer = _answer(greeting or offered)
    if answer.needs_auth is False:  # amid a login, the server would complain of anything but a password
        yield Exchange(_TERMINATE)
    return answer


def _startup(user: str, database: str) -> bytes:
    words = ("user", user, "database", database, "application_name", "zcli")
    body = _PROTOCOL + b"".join(word.encode() + b"\0" for word in words) + b"\0"
    return (len(body) + 4).to_bytes(4, "big") + body


def messages(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The complete messages in what has come: (type, body).

    :raises NotThisService: a length that no message can have.
    """
    while len(data) >= 5:
        length = int.from_bytes(data[1:5], "big")
        if not 4 <= length < 2**24 or not data[:1].isalpha():
            raise NotThisService(data)
        if len(data) < length + 1:
            return
        yield data[:1], data[5 : length + 1]
        data = data[length + 1 :]


def _is_complete(data: bytes) -> bool:
    try:
        return any(kind in b"EZ" or (kind == b"R" and _method(body)) for kind, body in messages(data))
    except NotThisService:
        return True


def _method(body: bytes) -> int:
    if len(body) < 4:
        raise NotThisService(body)
    return int.from_bytes(body[:4], "big")


def _answer(data: bytes) -> Answer:
    version = None
    for kind, body in messages(data):
        if kind == b"E":
            return _of_error(body)
        if kind == b"R" and _method(body) != _AUTHENTICATED:
            return Answer(needs_auth=True)
        if kind == b"S":
            name, _, rest = body.partition(b"\0")
            if name == b"server_version":
                version = rest.rstrip(b"\0").decode("utf-8", "replace").partition(" ")[0]
        if kind == b"Z":
            return Answer(version=version, needs_auth=False)
    raise NotThisService(data)


def _of_error(body: bytes) -> Answer:
    fields = {part[:1]: part[1:].decode("utf-8", "replace") for part in body.split(b"\0") if part}
    code, message = fields.get(b"C", ""), fields.get(b"M", "")
    if len(code) != 5:
        raise NotThisService(body)
    if code == _STARTING:
        return Answer(ready=False, detail=message)
    if code == _FULL:
        return Answer(ready=False, needs_auth=None, detail=message)
    return Answer(needs_auth=True if code in _NO_RIGHT else None, detail=message)
