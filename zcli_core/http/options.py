"""The arguments of a call that are not about its body or headers: their types, and the checks of their values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

from zcli_core.http.values import Pairs
from zcli_core.net.validation import LONGEST_TIMEOUT, valid_timeout

if TYPE_CHECKING:
    from zcli_core.http.auth import Auth
    from zcli_core.http.multipart import Files

#: Seconds for the whole call; or a pair (connect, read) of limits for each attempt, where None stands for no limit.
Timeout = float | tuple[float | None, float | None]


class RequestOptions(TypedDict, total=False):
    """The keyword-only arguments that all calls of the HTTP client share.

    - ``json``: the body, any value that JSON can hold; ``None`` sends ``null``
    - ``form``: names and values, sent as an HTML form sends them
    - ``files``: files by field name, sent as multipart/form-data, together with ``form`` if that is given
    - ``auth``: (user, password) for Basic, a str for Bearer, or a function that changes the request's headers
    - ``retries``: how often a request that failed, or got the status 429, 502, 503 or 504, is sent again; the setting
      ``http.retries`` (0) by default
    - ``retry_all_methods``: whether POST and PATCH are sent again too, so that the server may carry them out twice; the
      setting ``http.retry_all_methods`` (False) by default
    - ``follow_redirects``: False returns a redirect as the response; True by default

    :meth:`zcli_core.comm.Comm.http_request` describes the accepted values and the errors.
    """

    json: Any
    form: Pairs | None
    files: Files | None
    auth: Auth | None
    retries: int | None
    retry_all_methods: bool | None
    follow_redirects: bool


# Arguments of requests, httpx and aiohttp that zCLI does not have, and what to use instead.
_INSTEAD = {
    "verify": "certificates are always verified; set http.ca_file to trust an authority of your own",
    "ssl": "certificates are always verified; set http.ca_file to trust an authority of your own",
    "cert": "set http.client_cert, http.client_key and, for more hosts than the first, http.client_cert_hosts",
    "proxies": "set HTTP_PROXY, HTTPS_PROXY and NO_PROXY in the environment, or http.trust_env: false to ignore them",
    "cookies": "use headers={'Cookie': 'name=value'}; a cookie that a redirect sets is kept within the call",
    "stream": "the whole body is read within the timeout; http.max_response_bytes limits its size",
    "allow_redirects": "use follow_redirects=",
    "max_redirects": "set http.max_redirects",
    "content": "use data=",
    "body": "use data=",
    "query": "use params=",
    "trust_env": "set http.trust_env",
    "max_bytes": "set http.max_response_bytes",
    "raise_for_status": "call raise_for_status() on the response",
}
_INSTEAD["proxy"] = _INSTEAD["proxies"]


def unknown_argument(name: str) -> TypeError:
    """Return the error for an unknown keyword argument. It says what to use instead, or the most similar name."""
    if name in _INSTEAD:
        return TypeError(f"{name}= is not an argument of HTTP calls: {_INSTEAD[name]}")
    from zcli_core.suggestions import suggestion

    known = ("params", "data", "headers", "timeout", *RequestOptions.__annotations__)
    return TypeError(f"{name}= is not an argument of HTTP calls{suggestion(name, known)}")


def checked_method(method: object) -> str:
    """Return the method in upper case.

    Raises:
        TypeError: It is not a str.
        ValueError: It is not a method (RFC 9110, section 9.1), or it is CONNECT.
    """
    if not isinstance(method, str):
        raise TypeError(f"method must be a str such as 'GET', got {type(method).__name__}")
    upper = method.upper()
    if upper in ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"):
        return upper
    if not (upper.isascii() and upper.replace("-", "").isalpha()) or upper == "CONNECT":
        raise ValueError(f"method must be letters and hyphens such as 'GET', and not CONNECT, got {method!r}")
    return upper


class Timeouts(NamedTuple):
    """Limits in seconds: of the whole call, and of connecting and reading in each attempt. None stands for no limit."""

    total: float
    connect: float | None = None
    read: float | None = None


def checked_timeout(timeout: object, default: float, attempts: int) -> Timeouts:
    """Return the limits that an argument ``timeout`` means.

    Args:
        timeout: See :data:`Timeout`; None stands for ``default``.
        default: The setting ``http.timeout``, in seconds.
        attempts: How often each request may be sent. With a pair (connect, read) the whole call has ``default``
            seconds, or as long as that many attempts need if that is longer.

    Raises:
        ValueError: It is neither a finite number above 0 nor a pair of such numbers.
    """
    if timeout is None:
        return Timeouts(default)
    if not isinstance(timeout, (tuple, list)):
        return Timeouts(valid_timeout(timeout))
    if len(timeout) != 2:
        raise ValueError(
            f"timeout must be a number of seconds above 0 for the whole call, or (connect, read), got {timeout!r}"
        )
    connect, read = timeout
    connect = None if connect is None else valid_timeout(connect, "the connect timeout")
    read = None if read is None else valid_timeout(read, "the read timeout")
    needed = attempts * ((connect or 0) + (read or 0))
    return Timeouts(min(max(default, needed), LONGEST_TIMEOUT), connect, read)


def checked_retries(retries: object) -> int:
    """Return the number of retries.

    Raises:
        ValueError: It is not an integer of at least 0.
    """
    if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
        raise ValueError(f"retries must be an integer of at least 0, got {retries!r}")
    return retries
