"""Reading an answer: its headers checked, its body decoded and never larger than allowed."""

from __future__ import annotations

import http.client
from collections.abc import Iterator

from zcli_core.contracts.http import TransportFailure
from zcli_urllib3.decoding import undo

_BLOCK = 64 * 1024
_MOST_DIGITS = 100


def header_fields(answer: http.client.HTTPResponse) -> list[tuple[str, str]]:
    """The header fields in order. Raises TransportFailure of kind ``protocol`` where they cannot be trusted.

    ``http.client`` drops whatever follows a line that is no header, and takes the first of several Content-Lengths:
    where the body ends would then be a guess.
    """
    if answer.headers.defects or answer.headers.get_payload():
        raise _protocol("a line among its headers is no header")
    fields = [(name, _unfolded(value).strip(" \t")) for name, value in answer.headers.items()]
    lengths = {length.strip(" \t") for length in answer.headers.get_all("content-length", ())}
    # "2, 2" might be read as one length (RFC 9110, section 8.6), but http.client reads it as none.
    if len(lengths) > 1 or not all(map(_is_number, lengths)):
        raise _protocol("its Content-Length is no number, or several")
    coding = answer.headers.get("transfer-encoding", "chunked")
    if coding.lower() != "chunked":
        raise _protocol("its Transfer-Encoding is not known")
    return fields


def read_body(answer: http.client.HTTPResponse, max_bytes: int, deadline: float) -> bytes:
    """The whole body with Content-Encoding undone.

    Raises TransportFailure of kind ``too_large``, as soon as that is clear.
    """
    codings = answer.headers.get_all("content-encoding")
    if codings is None and answer.length is not None:
        if answer.length > max_bytes:
            raise _too_large(max_bytes, f"Content-Length says {answer.length}")
        return answer.read()
    blocks = _blocks(answer)
    if codings is not None:
        blocks = undo(",".join(codings), blocks, deadline)
    taken: list[bytes] = []
    size = 0
    for block in blocks:
        size += len(block)
        if size > max_bytes:
            raise _too_large(max_bytes, "and there is more")
        taken.append(block)
    return b"".join(taken)


def _blocks(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    while block := answer.read(_BLOCK):
        yield block
    if answer.length:  # read in blocks, http.client does not say that less has come
        raise http.client.IncompleteRead(b"", answer.length)


def may_be_reused(answer: http.client.HTTPResponse) -> bool:
    """Whether another request may be sent on the connection that this answer, read to its end, came on."""
    if answer.will_close or not answer.isclosed() or answer.status == 101:
        return False
    # Both at once is an attempt to make two readers disagree (RFC 9112, section 6.1).
    return not ("transfer-encoding" in answer.headers and "content-length" in answer.headers)


def _unfolded(value: str) -> str:
    """RFC 9112, section 5.2: a value that goes on in the next line is one value."""
    return " ".join(line.strip(" \t") for line in value.split("\r\n")) if "\r\n" in value else value


def _is_number(text: str) -> bool:
    # More digits than any body has bytes: Python refuses thousands of them, upon which http.client ignores the field.
    return text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS


def _protocol(message: str) -> TransportFailure:
    return TransportFailure("protocol", f"the answer is no valid HTTP: {message}")


def _too_large(max_bytes: int, how: str) -> TransportFailure:
    return TransportFailure("too_large", f"the body is larger than {max_bytes} bytes (http.max_bytes), {how}")
