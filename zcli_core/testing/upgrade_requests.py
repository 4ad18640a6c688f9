"""Upgrade requests for tests of auth strategies: made by hand, malformed, and with altered credentials."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from urllib.parse import quote, unquote

from zcli_core.net.headers import Headers
from zcli_core.websocket.contract import Address, Request

#: An address of a network that is reserved for documentation (RFC 5737).
_ADDRESS = ("192.0.2.1", 50000)

_BEARER = "bearer"
#: Headers without a credential: those of every upgrade, and the origin, which the core has checked before.
_NO_CREDENTIAL = frozenset(
    {"host", "upgrade", "connection", "origin", "user-agent", "sec-websocket-key", "sec-websocket-version"}
)
_SUBPROTOCOLS = "sec-websocket-protocol"
#: Shortest word that counts as a credential; shorter ones, such as ``bearer``, appear elsewhere by chance.
_MIN_LENGTH = 8


def make_request(
    *,
    path: str = "/",
    query: str = "",
    headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
    subprotocols: Sequence[str] = (),
    remote_address: Address = _ADDRESS,
    tls: bool = False,
) -> Request:
    """Make an upgrade request as a transport passes it to the core.

    Args:
        path: The path, percent-encoded.
        query: The query, percent-encoded, without the ``?``.
        headers: Headers in addition to those of every upgrade; pairs if a name is sent twice.
        subprotocols: The offered subprotocols, which also get their header.
        remote_address: The client's address.
        tls: Whether the request came over TLS.

    >>> make_request(headers={"Authorization": "Bearer s3cret"}).headers["authorization"]
    'Bearer s3cret'
    """
    pairs = list(headers.items()) if isinstance(headers, Mapping) else list(headers)
    upgrade = [
        ("Host", "127.0.0.1:8765"),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Sec-WebSocket-Version", "13"),
    ]
    offers = [("Sec-WebSocket-Protocol", ", ".join(subprotocols))] if subprotocols else []
    return Request(
        method="GET",
        path=path,
        query=query,
        headers=Headers([*upgrade, *offers, *pairs]),
        remote_address=remote_address,
        local_address=("127.0.0.1", 8765),
        tls=tls,
        subprotocols=tuple(subprotocols),
    )


def words_in(request: Request) -> set[str]:
    """Return the words of a request that may be a credential: eight characters or more, without the origin.

    The end of a longer word is included, because it is as secret as the word.
    """
    parts = [request.path, request.query]
    parts += [value for name, value in request.headers.items() if name.lower() not in _NO_CREDENTIAL]
    texts = [text for part in parts for text in (part, unquote(part))]
    words = {word for text in texts for word in re.split(r"[\s,;&=/?]+", text) if len(word) >= _MIN_LENGTH}
    return words | {word[-2 * _MIN_LENGTH :] for word in words}


# Malformed credentials ----------------------------------------------------------------------------------------------

#: Malformed values by description. Characters up to U+00FF represent bytes, as in a request.
GARBAGE: Mapping[str, str] = {
    "nothing": "",
    "a blank": " ",
    "NUL": "\0",
    "NUL among letters": "abc\0def",
    "a line break": "x\r\nINFO forged: everything is fine",
    "a terminal's escape sequence": "\x1b[2J\x1b[31mforged",
    "not ASCII": "bärbel",
    "UTF-8 read as Latin-1": "пароль".encode().decode("latin-1"),
    "every byte": bytes(range(256)).decode("latin-1"),
    "not UTF-8": "\xff\xfe\xc3\x28",
    "a truncated escape": "%",
    "a wrong escape": "%zz%u0041",
    "format specifiers": "%s%n{0}{__class__}",
    "base64 of nothing": "====",
    "dots": "..",
    "three words with dots": "e30.e30.e30",
    "JSON": '{"alg":"none"}',
    "deep JSON": "[" * 10_000,
    "a huge number": "9" * 5000,
    "quotes": "' OR '1'='1",
    "a megabyte": "a" * 1_000_000,
    "a megabyte of dots": "." * 1_000_000,
    "a megabyte that is not ASCII": "\xe4" * 1_000_000,
}
SCHEMES = ("Bearer", "bearer", "Basic", "Digest", "Negotiate", "Token", "ApiKey", "")


def garbage_requests() -> Iterator[tuple[str, Request]]:
    """Yield requests with garbage in every place where strategies look for a credential, each with a description."""
    for name, value in GARBAGE.items():
        yield f"{name} as the path", make_request(path=f"/{value}")
        yield f"{name} as the query", make_request(query=value)
        yield f"{name} as a token in the query", make_request(query=f"token={value}")
        yield (
            f"{name} as an escaped token in the query",
            make_request(query=f"token={_escaped(value)}"),
        )
        yield f"{name} as a cookie", make_request(headers={"Cookie": f"session={value}"})
        yield f"{name} as an API key", make_request(headers={"X-API-Key": value})
        for scheme in SCHEMES:
            header = {"Authorization": f"{scheme} {value}"}
            yield f"{name} as a credential of the scheme {scheme!r}", make_request(headers=header)
        for offers in ((value,), (_BEARER,), (_BEARER, value), (_BEARER, value, _BEARER, value), (value, _BEARER)):
            shown = ["it" if offer is value else offer for offer in offers]
            yield f"{name} among the subprotocols, as {shown}", make_request(subprotocols=offers)
    several = [("Authorization", "Bearer one"), ("Authorization", "Bearer two"), ("Authorization", "Basic Og==")]
    yield "several Authorization headers", make_request(headers=several)
    yield "a thousand tokens in the query", make_request(query="&".join(["token=x"] * 1000))
    yield "a thousand subprotocols", make_request(subprotocols=[_BEARER, "x"] * 500)
    yield "no address", make_request(remote_address=None)


def _escaped(value: str) -> str:
    return quote(value, encoding="latin-1")


def altered_requests(request: Request) -> Iterator[tuple[str, Request]]:
    """Yield copies of a valid request with the credential shortened, lengthened, replaced or repeated.

    Every query parameter, header and subprotocol counts as a part of the credential, except the headers of every
    upgrade, the origin and the word ``bearer``.
    """
    for name, value in GARBAGE.items():
        yield from _replaced(request, name, value)
    for place, _ in _credentials(request):
        yield from _altered(request, place)


def _credentials(request: Request) -> Iterator[tuple[tuple[str, int], str]]:
    """Yield each place of a request that contains a part of a credential, with its value."""
    for index, part in enumerate(request.query.split("&")):
        if part:
            yield ("query", index), part.partition("=")[2]
    for index, (name, value) in enumerate(request.headers.items()):
        if name.lower() not in _NO_CREDENTIAL | {_SUBPROTOCOLS}:
            yield ("header", index), value
    for index, offer in enumerate(request.subprotocols):
        if offer != _BEARER:
            yield ("subprotocol", index), offer


def _replaced(request: Request, name: str, value: str) -> Iterator[tuple[str, Request]]:
    for (kind, index), known in _credentials(request):
        # The scheme stands before the last word of a header.
        new = f"{known.rpartition(' ')[0]} {value}" if kind == "header" and " " in known else value
        yield f"{name} in its {kind}", _with(request, (kind, index), new)


def _altered(request: Request, place: tuple[str, int]) -> Iterator[tuple[str, Request]]:
    kind, known = place[0], dict(_credentials(request))[place]
    yield f"its {kind}, one character short", _with(request, place, known[:-1])
    yield f"its {kind}, one character long", _with(request, place, known + "x")
    yield f"its {kind}, followed by itself", _with(request, place, known + known)
    if kind == "query":
        parts = request.query.split("&")
        name = parts[place[1]].partition("=")[0]
        for order, query in (("before", f"{name}=wrong&{request.query}"), ("behind", f"{request.query}&{name}=wrong")):
            yield f"a second value {order} that in its query", replace(request, query=query)
    elif kind == "header":
        items = request.headers.items()
        name, value = items[place[1]]
        if name.lower() != "cookie":
            wrong = (name, f"{value.rpartition(' ')[0]} wrong".lstrip())
            yield "a second header before its own", replace(request, headers=Headers([wrong, *items]))
            yield "a second header behind its own", replace(request, headers=Headers([*items, wrong]))


def _with(request: Request, place: tuple[str, int], value: str) -> Request:
    """Return the request with another value in one place."""
    kind, index = place
    if kind == "query":
        parts = request.query.split("&")
        parts[index] = f"{parts[index].partition('=')[0]}={value}"
        return replace(request, query="&".join(parts))
    items = list(request.headers.items())
    if kind == "header":
        items[index] = (items[index][0], value)
        return replace(request, headers=Headers(items))
    offers = list(request.subprotocols)
    offers[index] = value
    kept = [item for item in items if item[0].lower() != _SUBPROTOCOLS]
    return replace(
        request, headers=Headers([*kept, ("Sec-WebSocket-Protocol", ", ".join(offers))]), subprotocols=tuple(offers)
    )
