"""Credentials: the Authorization header for the argument ``auth``."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from typing import Any

from zcli_core.http.contract import HttpRequest
from zcli_core.http.request_headers import describe_body
from zcli_core.http.values import plain_text

#: ``(user, password)`` for Basic, a string for Bearer, or a function that changes the request's headers itself.
Auth = tuple[str, str] | str | Callable[[HttpRequest], Any]


def authorize(auth: Auth) -> Callable[[HttpRequest], Any]:
    """Return a function that adds these credentials to a request.

    If ``auth`` is a function that sets headers which contradict the body, the returned function raises ValueError.

    Raises:
        TypeError, ValueError: ``auth`` has none of the forms of :data:`Auth`. The message holds no credentials.
    """
    if callable(auth):
        return _Checked(auth)
    if isinstance(auth, str):
        auth = plain_text(auth)
        if not auth or any(character <= " " or character > "~" for character in auth):
            raise ValueError("auth: a bearer token must be printable ASCII without spaces (RFC 6750)")
        return _Authorization(f"Bearer {auth}")
    if isinstance(auth, (tuple, list)) and len(auth) == 2 and all(isinstance(part, str) for part in auth):
        user, password = auth
        return basic(plain_text(user), plain_text(password))
    raise TypeError(
        f"auth must be (user, password), a bearer token or a function of the request, got {type(auth).__name__}"
    )


def basic(user: str, password: str) -> Callable[[HttpRequest], Any]:
    """Return a function that adds Basic credentials (RFC 7617), in UTF-8.

    Raises:
        ValueError: The user name has a colon.
    """
    if ":" in user:
        raise ValueError("auth: a user name cannot contain a colon (RFC 7617)")
    return _Authorization("Basic " + b64encode(f"{user}:{password}".encode()).decode("ascii"))


class _Checked:
    """Calls the caller's function, and checks that the headers still fit the body."""

    def __init__(self, function: Callable[[HttpRequest], Any]) -> None:
        self._function = function

    def __call__(self, request: HttpRequest) -> None:
        self._function(request)
        describe_body(request.headers, request.body)


class _Authorization:
    """Sets one Authorization header."""

    def __init__(self, value: str) -> None:
        self._value = value

    def __call__(self, request: HttpRequest) -> None:
        request.headers["Authorization"] = self._value
