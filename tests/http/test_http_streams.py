"""Bodies that are read while they are sent, multipart bodies, and what None means."""

from __future__ import annotations

import enum
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from click.testing import CliRunner
from in_memory import in_memory, raw_response

from zcli_core.http.contract import Headers, HttpRequest, TransportFailure, Url
from zcli_core.http.parts.bodies import BodySource
from zcli_core.http.request_body import MISSING
from zcli_core.http.streamed_body import StreamedBody

URL = "http://host.example/"


class Remote:
    """A file like those of paramiko: seek() returns None, and there is nothing else."""

    def __init__(self, content: bytes) -> None:
        self.file = io.BytesIO(content)

    def read(self, size: int = -1) -> bytes:
        return self.file.read(size)

    def tell(self) -> int:
        return self.file.tell()

    def seek(self, offset: int, whence: int = 0) -> None:
        self.file.seek(offset, whence)


class Unseekable(Remote):
    def seek(self, offset: int, whence: int = 0) -> None:
        raise NotImplementedError


class Broken(Remote):
    """Can go to its end, but not back."""

    def seek(self, offset: int, whence: int = 0) -> None:
        if whence == os.SEEK_SET:
            raise OSError(5, "cannot go back")
        super().seek(offset, whence)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[IO[bytes]]:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    with path.open("r+b") as opened:
        yield opened


def test_file_whose_seek_returns_none_is_sent() -> None:
    """The length comes from tell(), and the file can be sent again after a redirect."""
    http, transport = in_memory(raw_response(307, ("Location", "/b")), raw_response())
    assert http.put(URL, data=Remote(b"hello"))
    assert [(sent.body, sent.header("Content-Length")) for sent in transport.sent] == [(b"hello", "5")] * 2
    http.post(URL, files={"f": Remote(b"hello")})
    assert b"\r\n\r\nhello\r\n" in transport.last.body


def test_file_that_cannot_seek_is_sent_in_chunks() -> None:
    """A file without a length has no Content-Length."""
    http, transport = in_memory()
    http.put(URL, data=Unseekable(b"hello"))
    assert (transport.last.body, transport.last.header("Content-Length")) == (b"hello", None)


def test_file_that_cannot_go_back_raises() -> None:
    """An empty body must not be sent in place of a file whose position was lost."""
    http, transport = in_memory()
    with pytest.raises(OSError, match="cannot go back"):
        http.put(URL, data=Broken(b"hello"))
    assert not transport.sent


def test_file_beyond_its_end_is_empty(file: IO[bytes]) -> None:
    """A position behind the end is not a negative length."""
    http, transport = in_memory()
    file.seek(50)
    http.put(URL, data=file)
    assert (transport.last.body, transport.last.header("Content-Length")) == (b"", "0")


def test_file_that_grows_is_sent_as_it_was(file: IO[bytes]) -> None:
    """What is appended after the call began is not sent, so that the length stays true."""
    http, transport = in_memory(raw_response(307, ("Location", "/b")), raw_response())

    def grow(request: Any) -> None:
        Path(file.name).write_bytes(b"0123456789 and more")

    assert http.put(URL, data=file, auth=grow)
    assert [sent.body for sent in transport.sent] == [b"0123456789"] * 2


@pytest.mark.parametrize("how", ["data", "file", "path"])
def test_file_that_shrinks_gives_none(file: IO[bytes], how: str) -> None:
    """A file that became shorter ends the call with a cause, not with a ValueError."""
    http, _ = in_memory()
    bodies: dict[str, Any] = {"data": {"data": file}, "file": {"files": {"f": file}}}
    body = bodies.get(how, {"files": {"f": Path(file.name)}})

    def shrink(request: Any) -> None:
        file.truncate(3)

    assert http.put(URL, auth=shrink, **body) is None
    assert http.last_failure is not None
    assert http.last_failure.kind == "body"
    assert "the request's body has fewer than the" in http.last_failure.message


def test_file_of_proc_is_not_empty() -> None:
    """A file that says that it is empty and is not is sent."""
    if not Path("/proc/self/status").exists():
        pytest.skip("there is no /proc on this system")
    http, transport = in_memory()
    with open("/proc/self/status", "rb") as opened:
        http.put(URL, data=opened)
    assert b"Pid:" in transport.last.body
    http.put(URL, files={"f": Path("/proc/self/status")})
    assert b"Pid:" in transport.last.body


@pytest.mark.parametrize(
    "opened",
    [
        lambda path: path.open("ab"),
        lambda path: path.open("w+"),
        lambda path: tempfile.NamedTemporaryFile("w+"),  # noqa: SIM115
        lambda path: tempfile.SpooledTemporaryFile(mode="w+"),  # noqa: SIM115
    ],
    ids=["write-only", "text", "temporary text", "spooled text"],
)
@pytest.mark.parametrize("is_closed", [False, True])
def test_file_that_cannot_be_read_raises_at_once(
    tmp_path: Path, opened: Callable[[Path], IO[Any]], is_closed: bool
) -> None:
    """A file that is closed, write-only or of text is a mistake in an argument."""
    http, transport = in_memory()
    with opened(tmp_path / "file") as source:
        if is_closed:
            source.close()
        for body in ({"data": source}, {"files": {"f": source}}):
            with pytest.raises((TypeError, ValueError), match="a file that is sent must be open"):
                http.post(URL, **body)
    assert not transport.sent


@pytest.mark.parametrize("block", [None, "text"])
def test_file_whose_read_returns_no_bytes_raises(block: Any) -> None:
    """Such a file would be read without end."""
    source = Unseekable(b"")
    source.read = lambda size=-1: block  # type: ignore[method-assign]
    with pytest.raises(TypeError, match="must return bytes, got"):
        in_memory()[0].put(URL, data=source)


def test_path_of_a_folder_raises_before_sending(tmp_path: Path) -> None:
    """A file that cannot be opened is an error before anything is sent."""
    http, transport = in_memory()
    with pytest.raises(OSError, match=str(tmp_path)):
        http.post(URL, files={"f": tmp_path})
    assert not transport.sent


def test_error_of_a_source_keeps_its_cause() -> None:
    """What the caller's iterable raises comes out with the cause that it had."""
    cause = KeyError("the reason")

    def blocks() -> Iterator[bytes]:
        yield b"first"
        raise RuntimeError("broken") from cause

    with pytest.raises(RuntimeError, match="broken") as caught:
        in_memory()[0].post(URL, data=blocks())
    assert caught.value.__cause__ is cause


def test_body_longer_than_announced_fails() -> None:
    """The surplus of an iterable is not sent."""
    request = HttpRequest("POST", Url("http", "host.example", 80, "/"), Headers([("Content-Length", "3")]))
    sent = []
    with pytest.raises(TransportFailure, match="more than the 3 bytes of its Content-Length"):
        sent += list(BodySource(request, StreamedBody(iter([b"12", b"34"]))))
    assert not sent


def test_multipart_field_has_no_file_name() -> None:
    """With None as its file name an item of files is a form field, with a type if one is given."""
    http, transport = in_memory()
    http.post(URL, files={"a": (None, "1"), "b": (None, "{}", "application/json"), "c": (None, [1, 2])})
    heads = [part.partition(b"\r\n\r\n")[0] for part in transport.last.body.split(b"--")[1:-1]]
    text = transport.last.body.decode()
    assert "filename" not in text
    assert 'name="a"\r\n\r\n1\r\n' in text
    assert 'name="b"\r\nContent-Type: application/json\r\n\r\n{}\r\n' in text
    assert text.count('name="c"') == 2
    assert heads


def test_multipart_file_name_may_be_empty() -> None:
    """An empty file name is sent, as a browser does for an input without a file."""
    http, transport = in_memory()
    http.post(URL, files={"a": ("", b"")})
    assert b'name="a"; filename=""' in transport.last.body


def test_multipart_form_without_files_is_sent() -> None:
    """An empty ``files`` sends the form as multipart; nothing at all cannot be sent."""
    http, transport = in_memory()
    http.post(URL, form={"a": 1}, files={})
    assert (transport.last.header("Content-Type") or "").startswith("multipart/form-data; boundary=")
    assert b'name="a"\r\n\r\n1\r\n' in transport.last.body
    with pytest.raises(ValueError, match="files and form are empty"):
        http.post(URL, form={}, files=[])


@pytest.mark.parametrize("file", [(None, None), (Path("x"), b""), (b"x", b""), ("x", 1), (None, {})], ids=repr)
def test_multipart_item_of_other_type_raises(file: Any) -> None:
    """A file name is text or None; a content is not made by str()."""
    with pytest.raises(TypeError, match="'f' in files"):
        in_memory()[0].post(URL, files={"f": file})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("multipart/form-data", "multipart/form-data; boundary={}"),
        ("Multipart/Form-Data; charset=utf-8;", "Multipart/Form-Data; charset=utf-8; boundary={}"),
        ("multipart/related", "multipart/related; boundary={}"),
        ("multipart/form-data; boundary=mine", "multipart/form-data; boundary=mine"),
        ('multipart/form-data; Boundary="my own"', 'multipart/form-data; Boundary="my own"'),
    ],
)
def test_multipart_content_type_of_the_caller_fits(given: str, expected: str) -> None:
    """The header and the body have the same boundary, also if the caller wrote the header."""
    http, transport = in_memory()
    http.post(URL, files={"f": b"x"}, headers={"content-type": given})
    boundary = transport.last.body.partition(b"\r\n")[0].removeprefix(b"--").decode()
    assert transport.last.header("Content-Type") == expected.format(boundary)
    assert transport.last.body.endswith(f"--{boundary}--\r\n".encode())
    assert transport.last.header("Content-Length") == str(len(transport.last.body))


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", {"files": {"f": b"x"}}),
        ("multipart/form-data; boundary=" + "x" * 71, {"files": {"f": b"x"}}),
        ('multipart/form-data; boundary="a\tb"', {"files": {"f": b"x"}}),
        ("multipart/form-data; boundary=", {"files": {"f": b"x"}}),
        ("multipart/form-data", {"form": {"a": 1}}),
        ("multipart/form-data", {"data": {"a": 1}}),
    ],
)
def test_content_type_that_cannot_fit_raises(content_type: str, body: Any) -> None:
    """A server could not read the body by this header."""
    with pytest.raises(ValueError, match=r"Content-Type|boundary"):
        in_memory()[0].post(URL, headers={"Content-Type": content_type}, **body)


def test_json_none_sends_null() -> None:
    """A missing json and json=None are different."""
    http, transport = in_memory()
    http.post(URL, json=None)
    assert (transport.last.body, transport.last.header("Content-Type")) == (b"null", "application/json")
    http.request("PUT", URL, json=None)
    assert transport.last.body == b"null"
    http.post(URL)
    assert (transport.last.body, transport.last.header("Content-Type")) == (b"", None)
    with pytest.raises(ValueError, match="data and json were given"):
        http.post(URL, data="x", json=None)


def test_command_http_sends_null(monkeypatch: pytest.MonkeyPatch) -> None:
    """``zcli http -d null`` sends null; without -d there is no body."""
    from zcli_core.cli import http as module

    asked: list[Any] = []

    class Facade:
        http = type("Http", (), {"last_failure": None})

        def http_request(self, method: str, url: str, **arguments: Any) -> None:
            asked.append(arguments["json"])

        def close(self) -> None:
            pass

    monkeypatch.setattr(module, "comm", Facade)
    CliRunner().invoke(module.command, ["POST", URL, "-d", "null"])
    CliRunner().invoke(module.command, ["POST", URL])
    CliRunner().invoke(module.command, ["POST", URL, "-d", json.dumps({"a": None})])
    assert asked == [None, MISSING, {"a": None}]
    assert repr(MISSING) == "<not given>"


def test_data_that_is_an_enum_class_raises() -> None:
    """The members of a class are not the blocks of a body."""
    with pytest.raises(TypeError, match="data must be"):
        in_memory()[0].post(URL, data=enum.Enum("Blocks", {"A": b"a"}))  # type: ignore[arg-type]
