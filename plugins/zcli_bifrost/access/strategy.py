"""The auth strategy ``bifrost``: operators by their token, and users of an application by their key.

The claims of a client are its ``tier``, ``role``, ``app`` and ``user``; those of a user of an application also have the
id of the ``key``. An operator has no app: it is None.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote_to_bytes

from zcli_bifrost.access.key_watch import KeyWatch
from zcli_bifrost.access.keys import KeyRecord, has_digest, id_of
from zcli_bifrost.access.names import operator_identity, user_identity
from zcli_core.auth.contract import Identified, Rejected, Verdict
from zcli_core.auth.parts import MAX_LENGTH, BearerToken, StaticTokens, find_bearer_token

if TYPE_CHECKING:
    from zcli_bifrost.access.key_table import KeyTable
    from zcli_core.auth.contract import IdentifiedClients
    from zcli_core.websocket.contract import Request


class Operators(NamedTuple):
    """The operators: their tokens, and their roles by name."""

    tokens: StaticTokens
    roles: Mapping[str, str]

    def identify(self, token: BearerToken, *, unguessable: bool = False) -> Identified | Rejected | None:
        """Return the operator of a token; None if the token is not configured."""
        name = self.tokens.holder(token.value, unguessable=unguessable)
        if name is None:
            return None
        role = self.roles.get(name)
        if role is None:
            return Rejected(f"bifrost.operators gives no role to {name!r}", counts=False)
        claims = {"tier": "zSession", "role": role, "app": None, "user": name}
        return Identified(operator_identity(name), claims, token.subprotocol)


class Users:
    """The users of the application, whose keys are in a table."""

    def __init__(self, keys: KeyTable) -> None:
        self.keys = keys

    def identify(self, token: BearerToken, app: bytes | None) -> Identified | Rejected | None:
        """Return the user of a key; None if the token does not have the format of a key.

        It waits for the database. An unknown id and a wrong secret take the same time and are refused alike.
        """
        key_id = id_of(token.value)
        if key_id is None:
            return None
        record = self.keys.find(key_id)
        is_right = has_digest(token.value, None if record is None else record.digest)
        if record is None or not is_right:
            return Rejected(f"the key {key_id} is not known, or its secret is wrong")
        problem = record.problem(time.time())
        if problem:
            return Rejected(f"the key {key_id} {problem}")
        if app is not None and app != record.app.encode():
            return Rejected(f"app_name is not the app of the key {key_id}")
        return _identified(record, token.subprotocol)


def _identified(record: KeyRecord, subprotocol: str | None) -> Identified:
    claims = {
        "tier": "application", "role": record.role, "app": record.app, "user": record.name, "key": record.id
    }  # fmt: skip
    return Identified(user_identity(record.app, record.name), claims, subprotocol, record.expires_at)


class BifrostStrategy:
    """Identifies the clients of a tier: operators, users of the application, or both."""

    def __init__(self, operators: Operators | None, users: Users | None, cookie: str | None) -> None:
        """Make the strategy.

        Args:
            operators: None in the tier ``application``.
            users: None in the tier ``zSession``.
            cookie: Name of a cookie that may contain the token or key; None ignores cookies.
        """
        self._operators = operators
        self._users = users
        self._cookie = cookie
        #: Keys are looked up in the database.
        self.never_blocks = users is None

    def authenticate(self, request: Request) -> Verdict:
        """Identify a client by its token or key."""
        found = self._find(request)
        if not isinstance(found, BearerToken):
            return found
        verdict = None if self._operators is None else self._operators.identify(found)
        if verdict is None and self._users is not None:
            app = _app_name(request)
            verdict = app if isinstance(app, Rejected) else self._users.identify(found, app)
        return verdict or Rejected("unknown token" if self._users is None else "unknown token or key")

    def authenticate_throttled(self, request: Request) -> Identified | None:
        """Identify an operator by a token that is too long to be guessed. Keys would have to wait for the database."""
        found = self._find(request)
        if self._operators is None or not isinstance(found, BearerToken):
            return None
        verdict = self._operators.identify(found, unguessable=True)
        return verdict if isinstance(verdict, Identified) else None

    async def watch(self, clients: IdentifiedClients) -> None:
        """Close the clients whose keys are revoked, or whose users have got another role."""
        if self._users is not None:
            await KeyWatch(self._users.keys, clients).run()

    def _find(self, request: Request) -> BearerToken | Rejected | None:
        found = find_bearer_token(request, self._cookie)
        if isinstance(found, BearerToken) and not 0 < len(found.value) <= MAX_LENGTH:
            return Rejected(f"the token has {len(found.value)} bytes; it must have 1 to {MAX_LENGTH}")
        return found

    def __repr__(self) -> str:
        tiers = [name for name, part in (("operators", self._operators), ("users", self._users)) if part is not None]
        return f"<BifrostStrategy: {' and '.join(tiers)}>"


def _app_name(request: Request) -> bytes | Rejected | None:
    """Return the parameter ``app_name`` of a request; None if there is none."""
    found = list(_app_names(request.query))
    if len(found) > 1:
        return Rejected("more than one app_name was given")
    return found[0] if found else None


def _app_names(query: str) -> Iterator[bytes]:
    for part in query.split("&"):
        name, _, value = part.partition("=")
        if unquote_to_bytes(name) == b"app_name":
            yield unquote_to_bytes(value)
