"""multipart/form-data (RFC 7578): form fields and files, the files read while they are sent."""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO

from zcli_core.comm.http.bodies import StreamedBody
from zcli_core.comm.http.urls import Pairs, flat_pairs
from zcli_core.contracts.http import Body, check_header

#: The content of a file to send: bytes, text, a file opened in binary mode, or the path of one.
Content = bytes | str | IO[bytes] | Path

#: One file: its content, or (file name, content), or (file name, content, content type).
File = Content | tuple[str, Content] | tuple[str, Content, str]

#: What may be given as ``files``: files by the name of their form field. A name may occur more than once in a list.
Files = Mapping[str, File] | Iterable[tuple[str, File]]


def encode_files(form: Pairs | None, files: Files) -> tuple[Body, str]:
    """The body that holds these fields and files, and its Content-Type with the boundary.

    Raises TypeError for what is no file, OSError if the file at a path cannot be read.
    """
    boundary = os.urandom(16).hex()
    parts = [_Part(_head(name), _as_bytes(value)) for name, value in (flat_pairs(form, "form") if form else ())]
    parts += [_file_part(name, file) for name, file in _items(files)]
    return MultipartBody(parts, boundary), f"multipart/form-data; boundary={boundary}"


class _Part:
    """A part's header and content."""

    def __init__(self, head: bytes, content: bytes | StreamedBody) -> None:
        self.head = head
        self.content = content

    @property
    def length(self) -> int | None:
        """The size of the content in bytes, or None if only reading it will tell."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.length

    def __iter__(self) -> Iterator[bytes]:
        if isinstance(self.content, bytes):
            yield self.content
        else:
            yield from self.content


class MultipartBody:
    """Parts with a boundary between them; like :class:`StreamedBody` it knows its length and whether it can repeat."""

    def __init__(self, parts: list[_Part], boundary: str) -> None:
        self._parts = parts
        self._between = f"--{boundary}\r\n".encode()
        self._end = f"--{boundary}--\r\n".encode()

    @property
    def length(self) -> int | None:
        """The size in bytes, or None if a part cannot tell its own."""
        total = len(self._end)
        for part in self._parts:
            if part.length is None:
                return None
            total += len(self._between) + len(part.head) + part.length + len(b"\r\n")
        return total

    @property
    def repeatable(self) -> bool:
        """Whether every part can be sent a second time."""
        return all(isinstance(part.content, bytes) or part.content.repeatable for part in self._parts)

    def __iter__(self) -> Iterator[bytes]:
        for part in self._parts:
            yield self._between + part.head
            yield from part
            yield b"\r\n"
        yield self._end


class _FileAt:
    """The content of the file at a path, opened anew each time it is sent."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __iter__(self) -> Iterator[bytes]:
        with self._path.open("rb") as file:
            yield from StreamedBody(file)


def _items(files: Files) -> list[tuple[str, File]]:
    items = files.items() if isinstance(files, Mapping) else files
    try:
        pairs = [(name, file) for name, file in items]
    except (TypeError, ValueError):
        raise TypeError("files must be a mapping or a list of (name, file) pairs") from None
    if not pairs:
        raise ValueError("files is empty: leave it out, or name a file")
    return pairs


def _file_part(name: str, file: File) -> _Part:
    filename: str | None = None
    content_type: str | None = None
    if isinstance(file, tuple):
        if len(file) not in (2, 3):
            raise TypeError(f"the file {name!r} must be (file name, content) or (file name, content, content type)")
        filename, content, *more = file
        content_type = more[0] if more else None
    else:
        content = file
    if isinstance(content, Path):
        at_path = StreamedBody(_FileAt(content))
        at_path.length = content.stat().st_size
        body: bytes | StreamedBody = at_path
        filename = filename or content.name
    elif isinstance(content, (str, bytes, bytearray, memoryview)):
        body = _as_bytes(content)
    elif hasattr(content, "read"):
        body = StreamedBody(content)
        own_name = getattr(content, "name", None)
        filename = filename or (os.path.basename(own_name) if isinstance(own_name, str) else None)
    else:
        raise TypeError(f"the file {name!r} must be bytes, str, a Path or a file, not {type(content).__name__}")
    filename = filename or name
    return _Part(_head(name, filename, content_type or _guessed_type(filename)), body)


def _guessed_type(filename: str) -> str:
    return mimetypes.guess_type(filename)[0] or "application/octet-stream"


def _head(name: str, filename: str | None = None, content_type: str | None = None) -> bytes:
    head = f'Content-Disposition: form-data; name="{_quoted(name)}"'
    if filename is not None:
        head += f'; filename="{_quoted(filename)}"'
    if content_type is not None:
        check_header("Content-Type", content_type)
        head += f"\r\nContent-Type: {content_type}"
    return f"{head}\r\n\r\n".encode()


def _quoted(name: str) -> str:
    """As browsers do it (HTML Standard, multipart/form-data): UTF-8 with just these three encoded."""
    return str(name).replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def _as_bytes(value: str | bytes | bytearray | memoryview) -> bytes:
    return value.encode() if isinstance(value, str) else bytes(value)
