"""One response, taken in as libcurl hands it out: header lines first, then blocks of the body."""

from __future__ import annotations

from zcli_core.http.contract import RawResponse
from zcli_core.http.parts import failures
from zcli_core.http.parts.bodies import BodyReceiver
from zcli_core.http.parts.heads import MAX_HEAD_BYTES, Head, check_trailer, framing_of, parse_head

_LINE_ENDS = (b"\r\n", b"\n")


class Response:
    """What is known of a response so far.

    ``lines`` and ``blocks`` are what libcurl handed out and :meth:`go_on` has not looked at yet. libcurl's callbacks
    are their ``append``: no Python runs within them, so nothing that a signal's handler raises can be lost there.
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
        #: Whether its connection can be used again.
        self.may_be_reused = False
        #: Whether the request is being sent. What comes before that is a proxy's response to CONNECT.
        self.was_asked_for = False

    @property
    def has_begun(self) -> bool:
        """Whether anything of it has come."""
        return bool(self.lines) or self.has_head

    @property
    def has_head(self) -> bool:
        """Whether its status and all its headers have come."""
        return self._head is not None

    @property
    def is_upgrade(self) -> bool:
        """Whether another protocol follows, in which libcurl would wait for a body."""
        return self._head is not None and self._head.status == 101

    @property
    def version(self) -> str:
        """The version of HTTP, an empty string before the head has come."""
        return self._head.version if self._head else ""

    @property
    def is_complete(self) -> bool:
        """Whether there is nothing more to wait for, as far as its length tells."""
        return self._left == 0

    @property
    def is_head_too_large(self) -> bool:
        """Whether more headers have come than are taken; libcurl may have given up by itself."""
        return self._head is None and sum(map(len, self.lines)) > MAX_HEAD_BYTES

    @property
    def status_line(self) -> str:
        """The first line of what has come, an empty string if nothing has."""
        return self.lines[0].decode("latin-1").strip() if self.lines else ""

    def ask(self) -> None:
        """The request begins to be sent, for the first time or again."""
        self.was_asked_for = True
        self.lines.clear()

    def go_on(self) -> None:
        """Take in what has come. Raises TransportFailure if the rest must not be read."""
        if not self.was_asked_for:
            return
        if self.lines:
            self._take_lines()
        if self.blocks and self._body is not None:
            for block in self.blocks:
                part = block if self._left is None else block[: self._left]  # another protocol follows a 101
                self._body.add(part)
                if self._left is not None:
                    self._left -= len(part)
            self.blocks.clear()

    def finish(self, peer: str) -> RawResponse:
        """The whole response, once libcurl has taken it for that.

        Raises TransportFailure: ``reset`` if its head is cut off, ``protocol`` if its content coding is.
        """
        if self._head is None or self._body is None:
            raise failures.head_cut_off(peer)
        head, body = self._head, self._body
        self._body = None  # the handle keeps this object until its next request
        return RawResponse(head.status, head.reason or _usual_reason(head), head.fields, body.finish())

    def _take_lines(self) -> None:
        lines = self.lines
        while self._head is None:
            end = lines.index(b"\r\n") if b"\r\n" in lines else lines.index(b"\n") if b"\n" in lines else None
            if end is None:
                if self.is_head_too_large:
                    raise failures.head_too_large(f"{MAX_HEAD_BYTES // 1024} KiB")
                return
            data = b"".join(lines[:end])
            del lines[: end + 1]
            if len(data) > MAX_HEAD_BYTES:
                raise failures.head_too_large(f"{MAX_HEAD_BYTES // 1024} KiB")
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
    """HTTP/2 has no reasons (RFC 9113, section 8.3.1): one that a script shows is not to depend on the version."""
    if head.version.startswith("HTTP/1"):
        return ""
    from http import HTTPStatus

    try:
        return HTTPStatus(head.status).phrase
    except ValueError:
        return ""
