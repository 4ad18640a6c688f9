"""Where a client may show a bearer token, for every auth strategy that takes one.

- ``?token=...``, all that a page's ``WebSocket`` can set besides subprotocols;
- ``Authorization: Bearer ...`` (RFC 6750, 2.1);
- the subprotocol that follows ``bearer`` in ``Sec-WebSocket-Protocol``, which unlike the query stays out of proxies'
  logs;
- the cookie that ``websocket.token_cookie`` names, if it names one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote_to_bytes

from zcli_core.auth.contract import Rejected

if TYPE_CHECKING:
    from zcli_core.websocket.contract import Request

#: The scheme's name in ``Authorization``, and the subprotocol that announces a token as the next one.
BEARER = "bearer"


class BearerToken(NamedTuple):
    """The token that a client shows; it may be empty, and hold any byte. Not in the ``repr``."""

    value: bytes
    #: The subprotocol to agree on if the token came as one: for :attr:`~.auth.Identified.subprotocol`.
    subprotocol: str | None

    def __repr__(self) -> str:
        return f"<BearerToken of {len(self.value)} bytes>"


def find_bearer_token(request: Request, cookie: str | None = None) -> BearerToken | Rejected | None:
    """The one token of a request; None if it shows none.

    Two tokens, even the same one twice, are rejected (RFC 6750, 2): a proxy may have judged the other one.

    Args:
        request: The upgrade request.
        cookie: Name of a cookie whose value is a token too: ``websocket.token_cookie``. None looks at no cookie.
    """
    found = list(_shown(request))
    if cookie is not None:
        found += _in_cookies(request, cookie)
    if len(found) > 1:
        return Rejected("more than one token was given")
    return found[0] if found else None


def _shown(request: Request) -> Iterator[BearerToken]:
    for part in request.query.split("&"):
        name, _, value = part.partition("=")
        if unquote_to_bytes(name) == b"token":
            # A plus sign stays one: tokens hold no spaces, and pages rarely escape what they put into a URL.
            yield BearerToken(unquote_to_bytes(value), None)
    for value in request.headers.get_all("authorization"):
        scheme, _, token = value.strip().partition(" ")
        if scheme.lower() == BEARER:
            yield BearerToken(token.strip().encode("latin-1", "replace"), None)
    offers = request.subprotocols
    for place, offer in enumerate(offers):
        if offer == BEARER and (place == 0 or offers[place - 1] != BEARER):
            yield BearerToken("".join(offers[place + 1 : place + 2]).encode("latin-1", "replace"), BEARER)


def _in_cookies(request: Request, cookie: str) -> Iterator[BearerToken]:
    for header in request.headers.get_all("cookie"):
        for pair in header.split(";"):
            name, found, value = pair.strip().partition("=")
            if found and name == cookie:
                # The value may stand in quotes, which are not a part of it (RFC 6265, 4.1.1 and 5.2).
                quoted = len(value) > 1 and value[0] == value[-1] == '"'
                yield BearerToken((value[1:-1] if quoted else value).encode("latin-1", "replace"), None)
