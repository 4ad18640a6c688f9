"""The values that cross the HTTP contract: URLs, header fields, requests and answers.

Import them from :mod:`zcli_core.contracts.http`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from zcli_core.errors import ZCLIError

#: A request's body. Bytes and None can be sent again at will. An iterable may be gone through once per call of
#: ``exchange``; whether it can be gone through again is the core's business.
Body = bytes | Iterable[bytes] | None

#: The port of a URL that names none.
DEFAULT_PORTS: Mapping[str, int] = {"http": 80, "https": 443}


class Url(NamedTuple):
    """An absolute http or https URL, taken apart and normalised, without user, password and fragment.

    ``scheme`` and ``host`` are lower-case; ``host`` is ASCII (IDNA) and an IPv6 address has no brackets;
    ``target`` is the path and query as they go into the request line (RFC 9112, section 3.2.1).
    """

    scheme: str
    host: str
    port: int
    target: str

    @property
    def origin(self) -> tuple[str, str, int]:
        """What decides whether two URLs are the same site (RFC 6454): scheme, host and port."""
        return self[:3]

    @property
    def authority(self) -> str:
        """Host and port as they stand in the Host header; the scheme's own port is left out.

        The zone of a link-local address is left out too, because it has a meaning on this machine only (RFC 6874,
        section 4).
        """
        return self._with_port(f"[{self.host.partition('%')[0]}]" if ":" in self.host else self.host)

    @property
    def absolute_form(self) -> str:
        """The URL as a proxy gets it in the request line (RFC 9112, section 3.2.2), without a zone."""
        return f"{self.scheme}://{self.authority}{self.target}"

    def __str__(self) -> str:
        """The URL in a form that can be parsed again without loss."""
        return f"{self._base}{self.target}"

    def redacted(self) -> str:
        """The URL as it may be logged: query values, which may be keys or tokens, are replaced by ``***``."""
        path, mark, query = self.target.partition("?")
        shown = "&".join(f"{item.partition('=')[0]}=***" if "=" in item else "***" for item in query.split("&"))
        return f"{self._base}{path}{mark}{shown if query else ''}"

    @property
    def _base(self) -> str:
        # RFC 6874: the % before a zone is written %25 in a URL.
        host = f"[{self.host.replace('%', '%25')}]" if ":" in self.host else self.host
        return f"{self.scheme}://{self._with_port(host)}"

    def _with_port(self, host: str) -> str:
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


class Headers(Mapping[str, str]):
    """Header fields: names compare without regard to case, a name may occur more than once, order is kept.

    ``headers["name"]`` joins several values of a name with a comma (RFC 9110, section 5.3); :meth:`get_all` gives
    them one by one, as ``Set-Cookie`` needs. :meth:`items` gives every field, so that a name may come up twice.
    """

    __slots__ = ("_fields", "_index")

    def __init__(self, fields: Iterable[tuple[str, str]] = ()) -> None:
        self._fields: list[tuple[str, str]] = list(fields)
        self._index: dict[str, list[str]] | None = None

    def _values(self) -> dict[str, list[str]]:
        """The values by lower-case name, sorted out on the first look-up: many answers are never asked."""
        if self._index is None:
            index: dict[str, list[str]] = {}
            for name, value in self._fields:
                index.setdefault(name.lower(), []).append(value)
            self._index = index
        return self._index

    def __getitem__(self, name: str) -> str:
        return ", ".join(self._values()[name.lower()])

    def get_all(self, name: str) -> list[str]:
        """Every value of a name, in order; an empty list if there is none."""
        return list(self._values().get(name.lower(), ()))

    def __setitem__(self, name: str, value: str) -> None:
        """Set a name to one value, in place of any it had. Raises ValueError if it could not be sent."""
        check_header(name, value)
        lowered = name.lower()
        if lowered in self._values():
            self._fields = [field for field in self._fields if field[0].lower() != lowered]
        self._fields.append((name, value))
        self._index = None

    def pop(self, name: str) -> list[str]:
        """Take a name out; the values that it had, none if it was not there."""
        values = self.get_all(name)
        if values:
            lowered = name.lower()
            self._fields = [field for field in self._fields if field[0].lower() != lowered]
            self._index = None
        return values

    def add(self, name: str, value: str) -> None:
        """Add a field besides any of the same name. Raises ValueError if it could not be sent."""
        check_header(name, value)
        self._fields.append((name, value))
        self._index = None

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._values()

    def __iter__(self) -> Iterator[str]:
        names: dict[str, str] = {}
        for name, _ in self._fields:
            names.setdefault(name.lower(), name)
        return iter(names.values())

    def __len__(self) -> int:
        return len(self._values())

    def items(self) -> list[tuple[str, str]]:  # type: ignore[override]
        """Every field in order."""
        return self._fields.copy()

    def copy(self) -> Headers:
        """An independent copy."""
        return Headers(self._fields)

    def __repr__(self) -> str:
        # Names only: values may be credentials or cookies.
        return f"<Headers {', '.join(self) or '(none)'}>"


def check_header(name: str, value: str) -> None:
    """Raise ValueError if this field cannot go into a request (RFC 9110, sections 5.1 and 5.5).

    The value is not repeated in the message: it may be a credential.
    """
    if not (isinstance(name, str) and name.isascii() and name) or not _TOKEN_CHARACTERS.issuperset(name):
        raise ValueError(f"{name!r} is no header name: letters, digits and !#$%&'*+-.^_`|~ only")
    if not isinstance(value, str):
        raise TypeError(f"the value of header {name} must be str, not {type(value).__name__}")
    if "\r" in value or "\n" in value or "\0" in value:
        raise ValueError(f"the value of header {name} contains a line break or a NUL")
    try:
        value.encode("latin-1")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"the value of header {name} contains {value[error.start]!r} at position {error.start}, "
            "which a header cannot carry: only Latin-1 characters can be sent"
        ) from None


_TOKEN_CHARACTERS = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


class HttpRequest:
    """A request about to be sent; what the hook ``zcli_http_request`` and a callable ``auth`` are given.

    Both may change ``headers``. ``method`` is upper-case; ``url`` has no credentials in it. ``headers`` holds
    everything but what the transport alone can know: it adds ``Host`` where there is none, and frames the body.
    """

    __slots__ = ("body", "headers", "method", "url")

    def __init__(self, method: str, url: Url, headers: Headers, body: Body = None) -> None:
        self.method = method
        self.url = url
        self.headers = headers
        self.body = body

    def __repr__(self) -> str:
        return f"<HttpRequest {self.method} {self.url.scheme}://{self.url.authority}>"


class RawResponse(NamedTuple):
    """An answer as the transport read it, complete, with Content-Encoding undone.

    ``headers`` are decoded as Latin-1, in order, in the case they came in.
    """

    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes


class HttpStatusError(ZCLIError):
    """Raised by :meth:`HttpResponse.raise_for_status`; ``response`` is the answer."""

    def __init__(self, response: HttpResponse) -> None:
        super().__init__(response)
        self.response = response

    def __str__(self) -> str:
        r = self.response
        return f"{r.request.method} {r.request.url.redacted()}: {r.status_code} {r.reason}".rstrip()


class HttpResponse:
    """An answer, whatever its status. Always true: ``if response:`` asks whether there is an answer.

    - ``status_code``, ``reason``: as in ``404`` and ``"Not Found"``; what is not printable in a reason is U+FFFD
    - ``headers``: a :class:`Headers`
    - ``content``: the body as bytes, with Content-Encoding undone
    - ``url``: the address that answered, after redirects, without user, password and fragment
    - ``elapsed``: seconds from the beginning of the call to the end of this answer, redirects and retries included
    - ``history``: the redirects that led here, oldest first, each a response
    - ``request``: the :class:`HttpRequest` that this answers
    """

    __slots__ = ("content", "elapsed", "headers", "history", "reason", "request", "status_code")

    def __init__(
        self, raw: RawResponse, request: HttpRequest, elapsed: float, history: tuple[HttpResponse, ...] = ()
    ) -> None:
        self.status_code, self.reason, fields, self.content = raw
        self.headers = Headers(fields)
        self.request = request
        self.elapsed = elapsed
        self.history = history

    @property
    def url(self) -> str:
        """The address that answered."""
        return str(self.request.url)

    @property
    def ok(self) -> bool:
        """Whether the status is below 400."""
        return self.status_code < 400

    @property
    def encoding(self) -> str:
        """The charset that Content-Type names, or UTF-8 where it names none or one that Python cannot read text in."""
        parameters = self.headers.get("content-type", "").split(";")[1:]
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.strip().lower() == "charset":
                charset = value.strip().strip("'\"")
                try:
                    b"\xff-\xff".decode(charset, "replace")  # some codecs are none of text, or cannot replace
                except (LookupError, ValueError):
                    break
                return charset
        return "utf-8"

    @property
    def text(self) -> str:
        """The body as text; what does not fit the charset becomes U+FFFD."""
        text = self.content.decode(self.encoding, "replace")
        return text.removeprefix("\ufeff")

    def json(self, **options: Any) -> Any:
        """The body read as JSON, in UTF-8, UTF-16 or UTF-32 (RFC 8259); ``options`` go to :func:`json.loads`.

        Raises ``json.JSONDecodeError``, a ValueError, if it is none.
        """
        try:
            return json.loads(self.content, **options)
        except json.JSONDecodeError as error:
            what = f"the body of {self.status_code} ({self.headers.get('content-type', 'no Content-Type')}) is no JSON"
            raise json.JSONDecodeError(f"{what}: {error.msg}", error.doc, error.pos) from None

    def raise_for_status(self) -> HttpResponse:
        """Raise :class:`HttpStatusError` if the status is 400 or above; else return the response itself."""
        if not self.ok:
            raise HttpStatusError(self)
        return self

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"<HttpResponse {self.status_code} {self.reason}>"
