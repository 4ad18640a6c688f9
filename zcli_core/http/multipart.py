"""multipart/form-data bodies (RFC 7578) of form fields and files. Files are read while they are sent."""

from __future__ import annotations

import mimetypes
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from zcli_core.http.contract import check_header
from zcli_core.http.streamed_body import StreamedBody
from zcli_core.http.values import Pairs, encode_name, encode_values, name_values, pairs_of, plain_text

#: The content of a file to send: bytes, text, a file opened in binary mode, or the path of one.
Content = bytes | str | IO[bytes] | Path

#: One file: its content, or (file name, content), or (file name, content, content type). If the file name is None, it
#: is a form field, whose content may also be any value that ``form`` takes.
File = Content | tuple[str | None, Any] | tuple[str | None, Any, str | None]

#: What may be given as ``files``: files by the name of their form field. A name may occur more than once in a list.
Files = Mapping[str, File] | Iterable[tuple[str, File]]

# RFC 2046, section 5.1.1.
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
_BOUNDARY_PARAMETER = re.compile(r';\s*boundary\s*=\s*(?:"([^"]*)"|([^\s;"]*))', re.IGNORECASE)


def encode_files(form: Pairs | None, files: Files) -> MultipartBody:
    """Return the body that holds these fields and files.

    Raises:
        TypeError: A field or file has a type that cannot be sent.
        ValueError: There are no fields and no files, or a file is closed or not readable.
        OSError: The file at a path cannot be read.
    """
    parts = [_Part(_head(name), value) for name, value in (name_values(form, "form") if form is not None else ())]
    for name, file in pairs_of(files, "files"):
        parts += _file_parts(encode_name(name, "files"), f"the item {name!r} in files", file)
    if not parts:
        raise ValueError("files and form are empty: a multipart body has at least one part")
    return MultipartBody(parts)


class _Part:
    """One part: its header and its content."""

    def __init__(self, head: bytes, content: bytes | StreamedBody) -> None:
        self.head = head
        self.content = content

    @property
    def length(self) -> int | None:
        """The size of the content in bytes, or None if it is not known before reading."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.length

    def __iter__(self) -> Iterator[bytes]:
        if isinstance(self.content, bytes):
            yield self.content
        else:
            yield from self.content


class MultipartBody:
    """Parts with a boundary between them. It has ``length`` and ``repeatable`` like :class:`StreamedBody`."""

    def __init__(self, parts: list[_Part]) -> None:
        self._parts = parts
        self._boundary = os.urandom(16).hex()

    @property
    def content_type(self) -> str:
        """The media type, with the boundary."""
        return f"multipart/form-data; boundary={self._boundary}"

    def agree_with(self, content_type: str) -> str:
        """Return the caller's Content-Type with the boundary of this body. A boundary that it has already is used.

        Raises:
            ValueError: It is not a multipart type, or its boundary is invalid (RFC 2046, section 5.1.1).
        """
        if not content_type.lower().startswith("multipart/"):
            raise ValueError(
                f"the Content-Type {content_type!r} was given, but files are sent as multipart/form-data: leave out "
                "the header, or give the file as data="
            )
        named = _BOUNDARY_PARAMETER.search(content_type)
        if named is None:
            return f"{content_type.rstrip('; ')}; boundary={self._boundary}"
        boundary = named[1] or named[2] or ""
        if not _BOUNDARY.fullmatch(boundary):
            raise ValueError(f"the boundary {boundary!r} in the Content-Type header is invalid (RFC 2046)")
        self._boundary = boundary
        return content_type

    @property
    def length(self) -> int | None:
        """The size in bytes, or None if the size of a part is not known."""
        between, end = self._delimiters()
        total = len(end)
        for part in self._parts:
            if part.length is None:
                return None
            total += len(between) + len(part.head) + part.length + len(b"\r\n")
        return total

    @property
    def repeatable(self) -> bool:
        """Whether every part can be sent a second time."""
        return all(isinstance(part.content, bytes) or part.content.repeatable for part in self._parts)

    def __iter__(self) -> Iterator[bytes]:
        between, end = self._delimiters()
        for part in self._parts:
            yield between + part.head
            yield from part
            yield b"\r\n"
        yield end

    def _delimiters(self) -> tuple[bytes, bytes]:
        return f"--{self._boundary}\r\n".encode(), f"--{self._boundary}--\r\n".encode()


def _file_parts(name: bytes, what: str, file: File) -> Iterator[_Part]:
    if not isinstance(file, tuple):
        content = _content(file, what)
        filename = _own_name(file) or name.decode()
        yield _Part(_head(name, filename, _guessed_type(filename)), content)
        return
    if len(file) not in (2, 3):
        raise TypeError(f"{what} must be (file name, content) or (file name, content, content type)")
    filename_given, value, *more = file
    content_type = more[0] if more else None
    if filename_given is None:
        head = _head(name, None, content_type)
        if isinstance(value, Path) or hasattr(value, "read"):
            yield _Part(head, _content(value, what))
        elif value is None:
            raise TypeError(f"{what} must have a value, got None; leave the field out")
        else:
            yield from (_Part(head, single) for single in encode_values(value, what))
        return
    if not isinstance(filename_given, str):
        raise TypeError(f"the file name of {what} must be str or None, got {type(filename_given).__name__}")
    filename = plain_text(filename_given)
    yield _Part(_head(name, filename, content_type or _guessed_type(filename)), _content(value, what))


def _content(content: Any, what: str) -> bytes | StreamedBody:
    if isinstance(content, str):
        return content.encode()
    if isinstance(content, (bytes, bytearray, memoryview)):
        return bytes(content)
    if isinstance(content, Path) or hasattr(content, "read"):
        return StreamedBody(content)
    raise TypeError(f"{what} must be bytes, str, a Path or a file, got {type(content).__name__}")


def _own_name(file: Any) -> str | None:
    if isinstance(file, Path):
        return file.name
    own_name = None if isinstance(file, (str, bytes, bytearray, memoryview)) else getattr(file, "name", None)
    return os.path.basename(own_name) if isinstance(own_name, str) else None


def _guessed_type(filename: str) -> str:
    return mimetypes.guess_type(filename)[0] or "application/octet-stream"


def _head(name: bytes, filename: str | None = None, content_type: str | None = None) -> bytes:
    head = b'Content-Disposition: form-data; name="%b"' % _quoted(name)
    if filename is not None:
        head += b'; filename="%b"' % _quoted(filename.encode())
    if content_type is not None:
        check_header("Content-Type", content_type)
        head += b"\r\nContent-Type: %b" % plain_text(content_type).encode()
    return head + b"\r\n\r\n"


def _quoted(name: bytes) -> bytes:
    """Encode as browsers do (HTML Standard, multipart/form-data): UTF-8, with these three characters escaped."""
    return name.replace(b'"', b"%22").replace(b"\r", b"%0D").replace(b"\n", b"%0A")
