"""Reads one response from what libcurl receives: header lines first, then blocks of the body."""

from __future__ import annotations

from zcli_core.http.contract import MAX_HEAD_BYTES, RawResponse
from zcli_core.http.parts import failures
from zcli_core.http.parts.bodies import BodyReceiver
from zcli_core.http.parts.heads import Head, check_trailer, framing_of, parse_head

_LINE_ENDS = (b"\r\n", b"\n")


class ResponseReader:
    """The state of a response that is being received.

    Attributes:
        lines, blocks: The header lines and body blocks that :meth:`process` has not processed yet. Their ``append`` is
            libcurl's callback. It runs no Python code in which the exception of a signal handler could be lost.
        may_be_reused: Whether the connection can be used again.
        is_request_sent: Whether libcurl has begun to send the request. Data before that is a proxy's response to
            CONNECT.
    """

    def __init__(self, method: str, deadline: float, max_bytes: int, max_headers: int) -> None:
        self._method = method
        self._deadline = deadline
        self._max_bytes = max_bytes
        self._max_headers = max_headers
        self._head: Head | None = None
        self._body: BodyReceiver | None = None
        self._left: int | None = None
        self.lines: list[bytes] = []
        self.blocks: list[bytes] = []
        self.may_be_reused = False
        self.is_request_sent = False

    @property
    def has_begun(self) -> bool:
        """Whether any data was received."""
        return bool(self.lines) or self.has_head

    @property
    def has_head(self) -> bool:
        """Whether the status and all headers were received."""
        return self._head is not None

    @property
    def is_upgrade(self) -> bool:
        """Whether the status is 101. libcurl would wait for a body in the protocol that follows."""
        return self._head is not None and self._head.status == 101

    @property
    def version(self) -> str:
        """The version of HTTP, or an empty string before the head was received."""
        return self._head.version if self._head else ""

    @property
    def is_complete(self) -> bool:
        """Whether the body has reached its length. False if the length is not known."""
        return self._left == 0

    @property
    def is_head_too_large(self) -> bool:
        """Whether the headers are above the limit. libcurl may have stopped because of its own limit."""
        return self._head is None and sum(map(len, self.lines)) > MAX_HEAD_BYTES

    @property
    def status_line(self) -> str:
        """The first line that was received, or an empty string."""
        return self.lines[0].decode("latin-1").strip() if self.lines else ""

    def start(self) -> None:
        """Note that libcurl begins to send the request."""
        self.is_request_sent = True
        self.lines.clear()

    def process(self) -> None:
        """Process the data that was received.

        Raises:
            TransportFailure: The response is invalid or too large.
        """
        if not self.is_request_sent:
            return
        if self.lines:
            self._take_lines()
        if self.blocks and self._body is not None:
            for block in self.blocks:
                part = block if self._left is None else block[: self._left]  # after a 101 comes another protocol
                self._body.add(part)
                if self._left is not None:
                    self._left -= len(part)
            self.blocks.clear()

    def finish(self, peer: str) -> RawResponse:
        """Return the whole response after libcurl has completed it.

        Raises:
            TransportFailure: ``reset``: the head is cut off; ``protocol``: the content coding is cut off.
        """
        if self._head is None or self._body is None:
            raise failures.head_cut_off(peer)
        head, body = self._head, self._body
        self._body = None  # the handle keeps this object until the next request
        return RawResponse(head.status, head.reason or _usual_reason(head), head.fields, body.finish())

    def _take_lines(self) -> None:
        lines = self.lines
        while self._head is None:
            end = lines.index(b"\r\n") if b"\r\n" in lines else lines.index(b"\n") if b"\n" in lines else None
            if end is None:
                if self.is_head_too_large:
                    raise failures.head_too_large()
                return
            data = b"".join(lines[:end])
            del lines[: end + 1]
            if len(data) > MAX_HEAD_BYTES:
                raise failures.head_too_large()
            head = parse_head(data, self._max_headers)
            if not head.is_interim:
                framing = framing_of(head, self._method)
                self._head, self._left = head, framing.length
                self._body = BodyReceiver(framing, self._max_bytes, self._deadline)
                self.may_be_reused = framing.may_be_reused
        for line in lines:
            if line not in _LINE_ENDS:
                check_trailer(line)
        lines.clear()


def _usual_reason(head: Head) -> str:
    """Return the usual reason phrase for HTTP/2, which has none (RFC 9113, section 8.3.1)."""
    if head.version.startswith("HTTP/1"):
        return ""
    from http import HTTPStatus

    try:
        return HTTPStatus(head.status).phrase
    except ValueError:
        return ""
