"""One answer, taken in as libcurl hands it out: header lines first, then blocks of the body."""

from __future__ import annotations

import io

from zcli_core.contracts.http import RawResponse, TransportFailure
from zcli_pycurl.codings import ContentDecoder, decoder_for

#: What a callback returns to make libcurl go on, and to make it give up.
GO_ON = None
GIVE_UP = 0

# 101 is followed by another protocol, the others by nothing (RFC 9112, section 6.3).
_WITHOUT_BODY = (101, 204, 304)

# More digits than any body has bytes.
_MOST_DIGITS = 19
# The header fields that say what the body is.
_FRAMING = frozenset({"content-length", "transfer-encoding", "content-encoding"})
_ENDS = (b"\r\n", b"\n")

_NOTHING = io.BytesIO()


class Answer:
    """What is known of an answer so far. Its methods are libcurl's callbacks and never raise.

    ``failure`` is what is wrong with it; ``is_complete`` that there is nothing more to wait for, though libcurl would.
    """

    def __init__(self, method: str, deadline: float, max_bytes: int, *, ends_with_head: bool = False) -> None:
        """``ends_with_head``: libcurl does not know that no body will come, and must be stopped where one would begin."""
        self._deadline = deadline
        self._max_bytes = max_bytes
        self._has_body = method != "HEAD"
        self._ends_with_head = ends_with_head
        self._lines: list[bytes] = []
        self._body = io.BytesIO()
        self._size = 0
        self._decoder: ContentDecoder | None = None
        self._fields: list[tuple[str, str]] | None = None
        self._status = 0
        self._reason = ""
        self.version = ""
        self.failure: TransportFailure | None = None
        self.is_complete = False
        self.may_be_reused = True
        #: Whether the request is being sent. What comes before that is a proxy's answer to CONNECT.
        self.was_asked_for = False

    @property
    def has_begun(self) -> bool:
        """Whether anything of it has come."""
        return bool(self._lines) or self.has_head

    @property
    def has_head(self) -> bool:
        """Whether its status and all its headers have come."""
        return self._fields is not None

    @property
    def status_line(self) -> str:
        """The first line of what has come, an empty string if nothing has."""
        return self._lines[0].decode("latin-1").strip() if self._lines else ""

    def ask(self) -> None:
        """The request begins to be sent, for the first time or again."""
        self.was_asked_for = True
        self._lines.clear()

    def take_line(self, line: bytes) -> int | None:
        """A line of the head, or the trailers, with its line end."""
        if self._fields is None and (line not in _ENDS or not self.was_asked_for):
            self._lines.append(line)  # of which libcurl takes 5000 and 300 kB at most
            return GO_ON
        try:
            if self._fields is None:
                self._take_head()
            elif line not in _ENDS:
                _field(line)  # trailers (RFC 9110, section 6.5) are nobody's business, but have to be some
        except TransportFailure as failure:
            self.failure = failure
        return GIVE_UP if self.failure is not None or self.is_complete else GO_ON

    def take_block(self, block: bytes) -> int | None:
        """A part of the body, as it was sent."""
        try:
            if self._decoder is None:
                self._keep(block)
            else:
                for part in self._decoder.decode(block):
                    self._keep(part)
        except TransportFailure as failure:
            self.failure = failure
            return GIVE_UP
        return GO_ON

    def finish(self, peer: str) -> RawResponse:
        """The whole answer, once libcurl has taken it for that.

        Raises TransportFailure: ``reset`` if its head is cut off, ``protocol`` if its content coding is.
        """
        if self._fields is None:
            raise TransportFailure("reset", f"{peer} closed the connection amid the answer's headers")
        if self._decoder is not None and not self._decoder.is_at_end:
            raise protocol("its body ends before its Content-Encoding does")
        body, self._body = self._body.getvalue(), _NOTHING  # the handle keeps this object until its next request
        return RawResponse(self._status, self._reason, self._fields, body)

    def _take_head(self) -> None:
        """Raises TransportFailure if the answer must not be read on."""
        lines, self._lines = self._lines, []
        self.version, status, reason = _status_line(lines[0])
        if 100 <= status < 200 and status != 101:
            return
        self._status, self._reason = status, reason or _usual_reason(self.version, status)
        self._has_body = self._has_body and status not in _WITHOUT_BODY
        self._fields = fields = [_field(line) for line in lines[1:]]
        framing: dict[str, list[str]] = {}
        for name, value in fields:
            lowered = name.lower()
            if lowered in _FRAMING:
                framing.setdefault(lowered, []).append(value)
        if framing:
            self._frame(framing)
        self.is_complete = self._ends_with_head or status == 101

    def _frame(self, framing: dict[str, list[str]]) -> None:
        """Refuse an answer whose end two readers could see in different places (RFC 9112, section 6.3)."""
        lengths = set(framing.get("content-length", ()))
        if len(lengths) > 1 or not all(map(_is_number, lengths)):
            raise protocol("its Content-Length is no number, or several")
        is_chunked = "transfer-encoding" in framing
        if is_chunked and ",".join(framing["transfer-encoding"]).lower() != "chunked":
            raise protocol("its Transfer-Encoding is not known")
        if lengths and is_chunked:
            self.may_be_reused = False  # an attempt to make two readers disagree (RFC 9112, section 6.1)
        if "content-encoding" in framing:
            self._decoder = decoder_for(",".join(framing["content-encoding"]), self._deadline)
        elif lengths and not is_chunked and self._has_body:
            size = int(lengths.pop())
            self._check_size(size, f"Content-Length says {size}")

    def _keep(self, part: bytes) -> None:
        self._size += len(part)
        self._check_size(self._size, "and there is more")
        self._body.write(part)

    def _check_size(self, size: int, how: str) -> None:
        if size > self._max_bytes:
            raise TransportFailure(
                "too_large", f"the body is larger than {self._max_bytes} bytes (http.max_bytes), {how}"
            )


def _status_line(line: bytes) -> tuple[str, int, str]:
    version, _, rest = line.decode("latin-1").strip().partition(" ")
    status, _, reason = rest.strip().partition(" ")
    if len(status) != 3 or not _is_number(status):
        raise protocol("it does not begin with a status")
    return version, int(status), reason.strip()


def _usual_reason(version: str, status: int) -> str:
    """HTTP/2 has no reasons (RFC 9113, section 8.3.1): one that a script shows is not to depend on the version."""
    if version.startswith("HTTP/1"):
        return ""
    from http import HTTPStatus

    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _field(line: bytes) -> tuple[str, str]:
    name, colon, value = line.decode("latin-1").partition(":")
    if not colon or not name or name[0] in " \t":  # libcurl has joined the lines of a value that goes on in the next
        raise protocol("a line among its headers is no header")
    return name, value.strip(" \t\r\n")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS


def protocol(message: str) -> TransportFailure:
    """The failure that an answer is which cannot be trusted."""
    return TransportFailure("protocol", f"the answer is no valid HTTP: {message}")
