"""The values of the HTTP contract: URLs, header fields, requests and responses.

Import them from :mod:`zcli_core.http.contract`.
"""

from __future__ import annotations

import codecs
import json
import re
import time
from collections.abc import Iterable, Mapping
from json import JSONDecodeError
from typing import Any, NamedTuple

from zcli_core.errors import ZCLIError
from zcli_core.net.headers import Headers
from zcli_core.printable import printable
from zcli_core.redaction import redact_query

#: A request's body. A transport may send bytes or None again. It must iterate over an iterable at most once in each
#: call of ``send``, because only the core knows whether it can be read again.
Body = bytes | Iterable[bytes] | None

#: Methods that may be repeated without another effect on the server (RFC 9110, section 9.2.2).
IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})

#: The largest head of a response, in bytes. libcurl accepts 300 kB at most.
MAX_HEAD_BYTES = 256 * 1024

#: The port of a URL without one, by scheme.
DEFAULT_PORTS: Mapping[str, int] = {"http": 80, "https": 443}


class Url(NamedTuple):
    """The parts of an absolute http or https URL, normalised, without user, password and fragment.

    Attributes:
        scheme: ``"http"`` or ``"https"``.
        host: In ASCII (IDNA) and lower case. An IPv6 address has no brackets.
        port: From 1 to 65535.
        target: The path and query as they are sent in the request line (RFC 9112, section 3.2.1).
    """

    scheme: str
    host: str
    port: int
    target: str

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host and port. Two URLs with the same origin are the same site (RFC 6454)."""
        return self[:3]

    @property
    def authority(self) -> str:
        """Host and port as in the Host header, without the scheme's default port.

        The zone of a link-local address is left out too, because it has a meaning on this machine only (RFC 6874,
        section 4).
        """
        return self._with_port(f"[{self.host.partition('%')[0]}]" if ":" in self.host else self.host)

    @property
    def absolute_form(self) -> str:
        """The URL as it is sent to a proxy in the request line (RFC 9112, section 3.2.2), without a zone."""
        return f"{self.scheme}://{self.authority}{self.target}"

    def __str__(self) -> str:
        """Return the URL as text, which can be parsed again without loss."""
        return f"{self._base}{self.target}"

    def redacted(self) -> str:
        """Return the URL for a log: with ``***`` in place of query values, which may be keys or tokens."""
        return self._base + redact_query(self.target)

    @property
    def _base(self) -> str:
        # RFC 6874: the % before a zone is written %25 in a URL.
        host = f"[{self.host.replace('%', '%25')}]" if ":" in self.host else self.host
        return f"{self.scheme}://{self._with_port(host)}"

    def _with_port(self, host: str) -> str:
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


def sooner(deadline: float, seconds: float | None) -> float:
    """Return the deadline, or the time in ``seconds`` from now if that is sooner; None stands for no limit."""
    return deadline if seconds is None else min(deadline, time.monotonic() + seconds)


class HttpRequest:
    """A request that is about to be sent.

    The hook ``zcli_http_request`` and a callable ``auth`` get it and may change ``headers``. It can be pickled and
    deep-copied; the copy has no body if the body is a file or an iterable, which belongs to the caller.

    Attributes:
        method: In upper case.
        url: The URL, without credentials.
        headers: All headers except those that the transport adds: Host if it is missing, and what frames the body.
        body: The body, see :data:`Body`.
        connect_timeout, read_timeout: The caller's limits for one attempt, in seconds, or None.
        shows_certificate: Whether the server may see the client certificate (``http.client_cert``). The core sets it
            before each request, because a redirect must not send the certificate to another site.
    """

    __slots__ = ("body", "connect_timeout", "headers", "method", "read_timeout", "shows_certificate", "url")

    def __init__(self, method: str, url: Url, headers: Headers, body: Body = None) -> None:
        self.method = method
        self.url = url
        self.headers = headers
        self.body = body
        self.connect_timeout: float | None = None
        self.read_timeout: float | None = None
        self.shows_certificate = False

    def __getstate__(self) -> tuple[None, dict[str, Any]]:
        state = {name: getattr(self, name) for name in HttpRequest.__slots__}
        return None, {**state, "body": self.body if isinstance(self.body, bytes) else None}

    def __copy__(self) -> HttpRequest:
        found = HttpRequest(self.method, self.url, self.headers, self.body)
        found.connect_timeout, found.read_timeout = self.connect_timeout, self.read_timeout
        found.shows_certificate = self.shows_certificate
        return found

    def __repr__(self) -> str:
        return f"<HttpRequest {self.method} {self.url.scheme}://{self.url.authority}>"


class RawResponse(NamedTuple):
    """A complete response as a transport returns it.

    Attributes:
        status: The status code, such as 404.
        reason: The reason phrase; it may be empty.
        headers: Names and values in their order, with the names as the server wrote them, decoded as Latin-1.
        body: The body with Content-Encoding decoded.
    """

    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes


class HttpStatusError(ZCLIError):
    """Raised by :meth:`HttpResponse.raise_for_status`; ``response`` is the :class:`HttpResponse`."""

    def __init__(self, response: HttpResponse) -> None:
        super().__init__(response)
        self.response = response

    def __str__(self) -> str:
        r = self.response
        return f"{r.request.method} {r.request.url.redacted()}: {r.status_code} {r.reason}".rstrip()


#: Statuses of redirects (RFC 9110, section 15.4).
_REDIRECTS = frozenset({301, 302, 303, 307, 308})

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

# A link and its parameters (RFC 8288, section 3). No text matches in two ways, so that the patterns do not backtrack.
# They are compiled when they are first used.
_PARAMETER = r""";\s*([^\s=;,"]+)(?:\s*=(?:\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]+)))?)?"""
_LINK = r"""<([^<>]*)>((?:\s*;\s*[^\s=;,"]+(?:\s*=(?:\s*(?:"(?:[^"\\]|\\.)*"|[^\s;,"]+))?)?)*)"""


def parse_date(text: str) -> float | None:
    """Return an HTTP date in seconds since the epoch, or None if the text is not a date.

    The three forms of RFC 9110, section 5.6.7 are read. Each of them is in UTC.
    """
    from email.utils import mktime_tz, parsedate_tz

    try:
        # Unlike parsedate_to_datetime(), this reads a date without a zone as UTC. The form of asctime() has no zone.
        parts = parsedate_tz(text)
        return None if parts is None else mktime_tz(parts)
    except (IndexError, OverflowError, TypeError, ValueError):
        return None


class HttpResponse:
    """A response of any status. It is always true, so that ``if response:`` tests whether there is a response.

    It can be pickled and copied; the copy's request has no body if the body was a file or an iterable.

    Attributes:
        status_code: The status code, such as ``404``.
        reason: The reason phrase, such as ``"Not Found"``, with control characters escaped.
        headers: A :class:`Headers`.
        content: The body as bytes, with Content-Encoding decoded.
        elapsed: Seconds from the beginning of the call to the end of this response, including redirects and retries.
        history: The redirects that led here, oldest first, each a response.
        request: The :class:`HttpRequest` that this responds to.
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
        """The URL of this response, after redirects, without user, password and fragment."""
        return str(self.request.url)

    @property
    def ok(self) -> bool:
        """Whether the status is below 400."""
        return self.status_code < 400

    @property
    def is_redirect(self) -> bool:
        """Whether this is a redirect with a Location. Calls return one with ``follow_redirects=False`` only."""
        return self.status_code in _REDIRECTS and "location" in self.headers

    @property
    def encoding(self) -> str:
        """The charset of Content-Type, or ``"utf-8"`` if there is none or Python does not have it."""
        return self._declared_charset() or "utf-8"

    @property
    def apparent_encoding(self) -> str:
        """The charset that the bytes of the body suggest; Content-Type is ignored.

        It is that of a byte order mark (``utf-8-sig``, ``utf-16``, ``utf-32``), otherwise ``utf-8`` if the body is
        valid UTF-8, otherwise ``windows-1252``, as in browsers. To read the text:
        ``response.content.decode(response.apparent_encoding, "replace")``.
        """
        for mark, charset in _BYTE_ORDER_MARKS:
            if self.content.startswith(mark):
                return charset
        try:
            self.content.decode()
        except UnicodeDecodeError:
            return "windows-1252"
        return "utf-8"

    def _declared_charset(self) -> str | None:
        for content_type in self.headers.get_all("content-type")[-1:]:
            if ";" not in content_type:
                break
            for parameter in content_type.split(";")[1:]:
                name, _, value = parameter.partition("=")
                if name.strip().lower() == "charset":
                    charset = value.strip().strip("'\"")
                    return charset if _is_charset(charset) else None
        return None

    @property
    def text(self) -> str:
        """The body decoded with :attr:`encoding`; U+FFFD replaces bytes that are invalid in it."""
        text = self.content.decode(self.encoding, "replace")
        return text.removeprefix("\ufeff")

    def json(self, **options: Any) -> Any:
        """Parse the body as JSON.

        The text is read in the charset that Content-Type declares, otherwise in UTF-8, UTF-16 or UTF-32 (RFC 8259).

        Args:
            options: Passed to :func:`json.loads`.

        Raises:
            json.JSONDecodeError: The body is not JSON, is not text in that charset, is nested too deeply, or has a
                number of more digits than Python converts. The exception is a ValueError.
        """
        try:
            return json.loads(self._json_text(), **options)
        except JSONDecodeError as error:
            raise self._not_json(error.msg, error.doc, error.pos) from None
        except UnicodeDecodeError as error:
            raise self._not_json(f"it is not text in {error.encoding}", self.text, 0) from None
        except RecursionError:
            raise self._not_json("it is nested too deeply", self.text, 0) from None
        except ValueError as error:  # too many digits, or what a function among the options raised
            raise self._not_json(str(error), self.text, 0) from error

    def _json_text(self) -> str:
        charset = self._declared_charset() or json.detect_encoding(self.content)
        return self.content.decode(charset).removeprefix("\ufeff")

    def _not_json(self, reason: str, text: str, position: int) -> JSONDecodeError:
        content_type = printable(self.headers.get("content-type", "no Content-Type"))
        return JSONDecodeError(f"the body of {self.status_code} ({content_type}) is not JSON: {reason}", text, position)

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies that this response sets, by name. Cookies that it deletes are left out."""
        found: dict[str, str] = {}
        for field in self.headers.get_all("set-cookie"):
            pair, *attributes = field.split(";")
            name, mark, value = pair.partition("=")
            if mark and name.strip():
                found[name.strip()] = value.strip()
                if _is_deletion(attributes):
                    del found[name.strip()]
        return found

    @property
    def links(self) -> dict[str, dict[str, str]]:
        """The Link headers (RFC 8288), by relation: ``response.links["next"]["url"]``.

        Each link is a dict of its parameters and of ``url``, which is absolute. The key of a link without ``rel`` is
        its url.
        """
        from urllib.parse import urljoin

        found: dict[str, dict[str, str]] = {}
        for field in self.headers.get_all("link"):
            for target, parameters in re.findall(_LINK, field):
                try:
                    link = {"url": urljoin(self.url, target)}
                except ValueError:  # such as an IPv6 address without its second bracket
                    continue
                for name, quoted, plain in re.findall(_PARAMETER, parameters):
                    link.setdefault(name.lower(), re.sub(r"\\(.)", r"\1", quoted) or plain)
                for relation in link.get("rel", "").split() or [link["url"]]:
                    found.setdefault(relation, link)
        return found

    def raise_for_status(self) -> HttpResponse:
        """Return the response itself.

        Raises:
            HttpStatusError: The status is 400 or above.
        """
        if not self.ok:
            raise HttpStatusError(self)
        return self

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"<HttpResponse {self.status_code} {self.reason}>"


#: The name of a charset (RFC 2978, section 2.3), and the separators of its words.
_CHARSET = re.compile(r"[a-z0-9]+(?:[-_.:][a-z0-9]+)*")
_SEPARATOR = re.compile(r"[-_.:]")
#: Python's charsets without an alias.
_UNALIASED = frozenset({
    "cp1006", "cp720", "cp737", "cp856", "cp874", "cp875", "iso8859_1", "koi8_t", "koi8_u", "mac_arabic",
    "mac_croatian", "mac_farsi", "mac_romanian", "palmos", "utf_8_sig",
})  # fmt: skip


def _is_charset(name: str) -> bool:
    """Return whether Python can decode text in a charset that a server names.

    The name is looked up in Python's tables first, because the codecs module keeps every name that it is called with.
    """
    from encodings.aliases import aliases

    lowered = name.lower()
    if len(name) > 40 or not _CHARSET.fullmatch(lowered):
        return False
    known = _SEPARATOR.sub("_", lowered)
    if known not in aliases and known not in _UNALIASED and known not in aliases.values():
        return False
    try:
        b"\xff-\xff".decode(name, "replace")  # some codecs are not of text, or cannot replace
    except (LookupError, ValueError):
        return False
    return True


def _is_deletion(attributes: list[str]) -> bool:
    """Return whether these attributes of Set-Cookie delete the cookie; Max-Age wins over Expires (RFC 6265, 5.3)."""
    given = {name.strip().lower(): value.strip() for name, _, value in (item.partition("=") for item in attributes)}
    age = given.get("max-age", "")
    if re.fullmatch("-?[0-9]+", age):
        return age.startswith("-") or not age.strip("0")
    expiry = parse_date(given.get("expires", ""))
    return expiry is not None and expiry <= time.time()
