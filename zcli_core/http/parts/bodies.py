"""Bodies: one that comes, decoded and never larger than allowed, and one that goes, as long as it was said to be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from zcli_core.http.contract import HttpRequest
from zcli_core.http.parts import failures
from zcli_core.http.parts.codings import decoder_for
from zcli_core.http.parts.heads import Framing

# Smaller blocks are held as one: an object for each would take many times the memory of what is in them.
_SMALL = 1024


class BodyReceiver:
    """Takes a response's body block by block. Raises TransportFailure as soon as something is wrong with it."""

    __slots__ = ("_blocks", "_decoder", "_max_bytes", "_size")

    def __init__(self, framing: Framing, max_bytes: int, deadline: float) -> None:
        """Raises TransportFailure: ``too_large`` if the length says so already, ``protocol``."""
        self._max_bytes = max_bytes
        self._size = 0
        self._blocks: list[bytes | bytearray] = []
        self._decoder = decoder_for(framing.codings, deadline) if framing.codings else None
        if self._decoder is None and framing.length is not None and framing.length > max_bytes:
            raise failures.body_too_large(max_bytes, f"Content-Length says {framing.length}")

    def add(self, block: bytes) -> None:
        """Take the next block, as it was sent.

        Raises TransportFailure: ``too_large``; ``protocol`` if it is not coded as it is said to be; ``timeout``.
        """
        if self._decoder is None:
            self._keep(block)
        else:
            for part in self._decoder.decode(block):
                self._keep(part)

    def finish(self) -> bytes:
        """The whole body, which is held no longer. Raises TransportFailure if its coding has not come to an end."""
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
    """A request's body that is read while it is sent. Items that are empty are left out.

    ``length`` is what the request's Content-Length says, or None for a body that goes in chunks. ``error`` is what
    iterating raised: it belongs to the caller and is not a failure of the network.
    """

    def __init__(self, request: HttpRequest, blocks: Iterable[bytes]) -> None:
        stated = request.headers.get("content-length", "")
        self.length = int(stated) if stated.isascii() and stated.isdigit() else None
        self.error: BaseException | None = None
        self._blocks = blocks

    def __iter__(self) -> Iterator[bytes]:
        """Raises TransportFailure of kind ``body`` for a source that gives more or less than ``length``.

        The server never has a complete request then: a surplus would be taken for the next one.
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
                last = last or block  # held back until the source has ended
            elif block:
                yield block
        if self.length is not None and sent < self.length:
            raise failures.wrong_length(self.length, "less")
        if last:
            yield last
