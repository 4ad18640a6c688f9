"""Response bodies, decoded and limited in size; request bodies, checked against their Content-Length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from zcli_core.http.contract import HttpRequest
from zcli_core.http.parts import failures
from zcli_core.http.parts.codings import decoder_for
from zcli_core.http.parts.heads import Framing

#: Methods whose requests state that their body is empty if there is none (RFC 9110, section 8.6).
METHODS_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})

# Smaller blocks, in bytes, are joined: an object for each would take many times the memory of its bytes.
_SMALL = 1024


class BodyReceiver:
    """Receives the body of a response block by block."""

    __slots__ = ("_blocks", "_decoder", "_max_bytes", "_size")

    def __init__(self, framing: Framing, max_bytes: int, deadline: float) -> None:
        """Prepare to receive a body.

        Args:
            framing: The length and codings of the body.
            max_bytes: The largest decoded body.
            deadline: Ends decoding; a reading of :func:`time.monotonic`.

        Raises:
            TransportFailure: ``too_large``: Content-Length is above ``max_bytes``; ``protocol``: too many codings.
        """
        self._max_bytes = max_bytes
        self._size = 0
        self._blocks: list[bytes | bytearray] = []
        self._decoder = decoder_for(framing.codings, deadline) if framing.codings else None
        if self._decoder is None and framing.length is not None and framing.length > max_bytes:
            raise failures.body_too_large(max_bytes, f"Content-Length says {framing.length}")

    def add(self, block: bytes) -> None:
        """Add the next block as the server sent it.

        Raises:
            TransportFailure: ``too_large``; ``protocol``: the block is not in the stated coding; ``timeout``.
        """
        if self._decoder is None:
            self._keep(block)
        else:
            for part in self._decoder.decode(block):
                self._keep(part)

    def finish(self) -> bytes:
        """Return the whole body and release it.

        Raises:
            TransportFailure: ``protocol``: the body ends before its content coding does.
        """
        if self._decoder is not None and not self._decoder.is_at_end:
            raise failures.invalid("its body ends before its Content-Encoding does")
        body, self._blocks = b"".join(self._blocks), []
        return body

    def _keep(self, block: bytes) -> None:
        self._size += len(block)
        if self._size > self._max_bytes:
            raise failures.body_too_large(self._max_bytes, "and there is more")
        last = self._blocks[-1] if self._blocks else b""
        if len(block) >= _SMALL:
            self._blocks.append(block)
        elif isinstance(last, bytearray):
            last += block
        else:
            self._blocks.append(bytearray(block))


class BodySource:
    """A request's body that is read while it is sent. Empty items are left out.

    Attributes:
        length: The request's Content-Length, or None if the body is sent in chunks.
        error: What iterating raised, or None. It is an error of the caller, not of the network.
    """

    def __init__(self, request: HttpRequest, blocks: Iterable[bytes]) -> None:
        stated = request.headers.get("content-length", "")
        self.length = int(stated) if stated.isascii() and stated.isdigit() else None
        self.error: BaseException | None = None
        self._blocks = blocks

    def __iter__(self) -> Iterator[bytes]:
        """Yield the blocks to send.

        Raises:
            TransportFailure: ``body``: the source gives more or fewer bytes than ``length``. The server has not got a
                complete request then; it would take surplus bytes for the next request.
        """
        try:
            yield from self._measured()
        except GeneratorExit:
            raise
        except BaseException as error:
            self.error = error
            raise

    def _measured(self) -> Iterator[bytes]:
        sent, last = 0, b""
        for block in self._blocks:
            sent += len(block)
            if self.length is not None and sent > self.length:
                raise failures.wrong_length(self.length, "more")
            if sent == self.length:
                last = last or block  # sent only after the source has ended
            elif block:
                yield block
        if self.length is not None and sent < self.length:
            raise failures.wrong_length(self.length, "fewer")
        if last:
            yield last
