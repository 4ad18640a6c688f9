"""Find the bearer token of a request, for auth strategies.

A client may send its token as:

- ``?token=...``, which with subprotocols is all that a page's ``WebSocket`` can set;
- ``Authorization: Bearer ...`` (RFC 6750, 2.1);
- the subprotocol after ``bearer`` in ``Sec-WebSocket-Protocol``, which unlike the query is not logged by proxies;
- the cookie that ``websocket.token_cookie`` names.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote_to_bytes

from zcli_core.auth.contract import Rejected

if TYPE_CHECKING:
    from zcli_core.websocket.contract import Request

#: The scheme in ``Authorization``, and the subprotocol that stands before a token.
BEARER = "bearer"


class BearerToken(NamedTuple):
    """The token that a client sends. It may be empty or contain any byte. The ``repr`` does not show it."""

    value: bytes
    #: For :attr:`~zcli_core.auth.contract.Identified.subprotocol`, if the token was sent as a subprotocol.
    subprotocol: str | None

    def __repr__(self) -> str:
        return f"<BearerToken of {len(self.value)} bytes>"


def find_bearer_token(request: Request, cookie: str | None = None) -> BearerToken | Rejected | None:
    """Return the token of a request.

    Args:
        request: The upgrade request.
        cookie: Name of a cookie that may contain the token (``websocket.token_cookie``). None ignores cookies.

    Returns:
        None if there is no token. Rejected if there are several, even if they are equal (RFC 6750, 2), because a proxy
        may have checked another one.
    """
    found = list(_in_request(request))
    if cookie is not None:
        found += _in_cookies(request, cookie)
    if len(found) > 1:
        return Rejected("more than one token was given")
    return found[0] if found else None


def _in_request(request: Request) -> Iterator[BearerToken]:
    for part in request.query.split("&"):
        name, _, value = part.partition("=")
        if unquote_to_bytes(name) == b"token":
            # A plus sign is kept: tokens contain no spaces, and pages rarely escape a token in a URL.
            yield BearerToken(unquote_to_bytes(value), None)
    for value in request.headers.get_all("authorization"):
        scheme, _, token = value.strip().partition(" ")
        if scheme.lower() == BEARER:
            yield BearerToken(token.strip().encode("latin-1", "replace"), None)
    offers = request.subprotocols
    for index, offer in enumerate(offers):
        if offer == BEARER and (index == 0 or offers[index - 1] != BEARER):
            yield BearerToken("".join(offers[index + 1 : index + 2]).encode("latin-1", "replace"), BEARER)


def _in_cookies(request: Request, cookie: str) -> Iterator[BearerToken]:
    for header in request.headers.get_all("cookie"):
        for pair in header.split(";"):
            name, found, value = pair.strip().partition("=")
            if found and name == cookie:
                # The value may be quoted; the quotes are not part of it (RFC 6265, 4.1.1 and 5.2).
                quoted = len(value) > 1 and value[0] == value[-1] == '"'
                yield BearerToken((value[1:-1] if quoted else value).encode("latin-1", "replace"), None)
