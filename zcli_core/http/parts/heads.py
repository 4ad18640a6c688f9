"""Reading the head of a response by the rules of HTTP (RFC 9112): status line, header fields, framing of the body.

Python's ``http.client`` reads heads by the rules of e-mail, which has other line ends. An attacker could make it take
one response for two.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from zcli_core.http.parts import failures

#: Statuses without a body, whatever the headers say (RFC 9112, section 6.3). 101 is followed by another protocol.
_BODILESS = frozenset({101, 204, 304})

# libcurl writes responses of HTTP/2 and HTTP/3 as those of HTTP/1, with "HTTP/2" and "HTTP/3" as their version. An
# unknown version HTTP/1.x is read as HTTP/1.1 (RFC 9110, section 2.5).
_STATUS_LINE = re.compile(r"(HTTP/(?:1\.[0-9]|[23])) +([1-9][0-9]{2})(?: (.*))?")
# Servers also send field names that are not tokens (RFC 9110, section 5.1), which does no harm. But two programs would
# read a name with a space before the colon differently (RFC 9112, section 5.1).
_FIELD = re.compile(r"^([^\0- \x7f:]+):[ \t]*([^\n]*)", re.MULTILINE)
_FOLD = re.compile(r"\n[ \t]+")
_WHITE = " \t"

_FRAMING = frozenset({"content-length", "transfer-encoding", "content-encoding", "connection"})

# A Content-Length with more digits is invalid.
_MOST_DIGITS = 19


class Head(NamedTuple):
    """Status and header fields. Names and values are decoded as Latin-1 and are in the order of the response."""

    version: str
    status: int
    reason: str
    fields: list[tuple[str, str]]

    @property
    def is_interim(self) -> bool:
        """Whether this is an interim response, which another head follows (RFC 9110, section 15.2)."""
        return self.status < 200 and self.status != 101


class Framing(NamedTuple):
    """Where the body ends, and how it is coded.

    Attributes:
        length: In bytes. None if the body is in chunks or ends with the connection.
        is_chunked: Whether the body is in chunks.
        codings: The value of Content-Encoding, or an empty string.
        may_be_reused: Whether the connection can be used again after the body.
    """

    length: int | None
    is_chunked: bool
    codings: str
    may_be_reused: bool


def parse_head(data: bytes, max_headers: int) -> Head:
    """Parse a head.

    A line may end with a bare LF (RFC 9112, section 2.2), and a value may continue in the next line (section 5.2).

    Args:
        data: The lines with their ends, without the empty line.
        max_headers: The largest number of header fields.

    Raises:
        TransportFailure: ``protocol``, ``too_large``.
    """
    text = data.decode("latin-1").replace("\r\n", "\n")
    if "\r" in text or "\0" in text:
        raise failures.invalid("a bare CR or a NUL among its headers")
    line, _, text = text.partition("\n")
    start = _STATUS_LINE.fullmatch(line.rstrip(_WHITE))
    if start is None:
        raise failures.no_status_line(line)
    if ("\n " in text or "\n\t" in text) and not text.startswith((" ", "\t")):
        text = _FOLD.sub(" ", text)
    count = text.count("\n")
    if count > max_headers:
        raise failures.too_many_headers(max_headers)
    fields = _FIELD.findall(text)
    if len(fields) != count:
        raise failures.invalid("a line among its headers is not a header")
    if " \n" in text or "\t\n" in text:
        fields = [(name, value.rstrip(_WHITE)) for name, value in fields]
    version, status, reason = start.groups()
    return Head(version, int(status), (reason or "").strip(_WHITE), fields)


def check_trailer(line: bytes) -> None:
    """Check a line of the trailers, with its end (RFC 9110, section 6.5).

    Trailers are dropped. But a line that two programs could read differently is refused, as among the headers.

    Raises:
        TransportFailure: ``protocol``.
    """
    text = line.rstrip(b"\n").removesuffix(b"\r")
    if b":" not in text or text[:1] in b" \t" or b"\r" in text or b"\0" in text:
        raise failures.invalid("a line among its trailers is not a header")


def framing_of(head: Head, method: str) -> Framing:
    """Return the framing of the body in a response to a request with this method (RFC 9112, section 6.3).

    Raises:
        TransportFailure: ``protocol``: two programs could disagree on where the body ends.
    """
    lengths: list[str] = []
    transfer: list[str] = []
    codings: list[str] = []
    options: list[str] = []
    for name, value in [field for field in head.fields if field[0].lower() in _FRAMING]:
        lowered = name.lower()
        if lowered == "content-length":
            lengths += [length.strip(_WHITE) for length in value.split(",")]
        elif lowered == "transfer-encoding":
            transfer.append(value.lower())
        elif lowered == "content-encoding":
            codings.append(value)
        else:
            options += [option.strip(_WHITE).lower() for option in value.split(",")]
    is_old = head.version == "HTTP/1.0"
    reusable = "keep-alive" in options if is_old else "close" not in options
    if method == "HEAD" or head.status in _BODILESS:
        # A 204 must not state a body (RFC 9110, section 8.6). A server that states one may also send one.
        states_body = head.status == 204 and (bool(transfer) or any(length != "0" for length in lengths))
        return Framing(0, False, "", reusable and head.status != 101 and not states_body)
    # A part of a coded body cannot be decoded (RFC 9110, section 14.2).
    coding = "" if head.status == 206 else ",".join(codings)
    if transfer:
        if set(transfer) != {"chunked"}:
            raise failures.invalid(f"its Transfer-Encoding is not supported: {failures.one_line(transfer[0])!r}")
        # With a length, or in HTTP/1.0, two programs could read the response differently (RFC 9112, section 6.1).
        return Framing(None, True, coding, reusable and not lengths and not is_old)
    if lengths:
        if len(set(lengths)) > 1 or not _is_number(lengths[0]):
            raise failures.invalid("its Content-Length is not a number, or there are different ones")
        return Framing(int(lengths[0]), False, coding, reusable)
    return Framing(None, False, coding, reusable and not head.version.startswith("HTTP/1"))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS
