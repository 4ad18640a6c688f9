"""Text of other programs, made safe for terminals and logs."""

from __future__ import annotations

import contextlib
import io
import socket
import threading
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from zcli_core.app import zCLI
from zcli_core.errors import ConnectionClosed, ZCLIError
from zcli_core.http.contract import RawResponse, TransportFailure
from zcli_core.net.port_holder import PortHolder
from zcli_core.plugins.loading import describe_error
from zcli_core.printable import print_line, printable

EVIL = "\x1b[2J\u202e\x9b"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b[2J\x1b]0;owned\x07", "\\x1b[2J\\x1b]0;owned\\x07"),
        ("\x9b31m\x7f\x00", "\\x9b31m\\x7f\\x00"),
        ("ok\r\nINFO forged\tline", "ok\\r\\nINFO forged\\tline"),
        ("\u2028\u2029\x85\x0b\x0c", "\\u2028\\u2029\\x85\\x0b\\x0c"),
        ("abc\u202efdp.exe\u2066\u200f", "abc\\u202efdp.exe\\u2066\\u200f"),
        ("file\udcff", "file\\udcff"),
        ("grüße ✓ 漢字 👨\u200d👩\u200d👧 \\x1b a\xa0b", "grüße ✓ 漢字 👨\u200d👩\u200d👧 \\x1b a\xa0b"),
    ],
)
def test_printable_control_characters_are_escaped(text: str, expected: str) -> None:
    """What a terminal obeys becomes visible, and everything else stays as it is."""
    assert printable(text) == expected
    assert len(printable(text).splitlines()) == 1


def test_printable_no_control_character_is_left() -> None:
    """Every character of the classes Cc, Zl, Zp, Cs and every character with a direction of its own is escaped."""
    directions = {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}
    for code in range(0x10000):
        character = chr(code)
        if (
            unicodedata.category(character) in ("Cc", "Zl", "Zp", "Cs")
            or unicodedata.bidirectional(character) in directions
        ):
            assert character not in printable(character)


def test_printable_kept_characters_stay() -> None:
    """A text of several lines keeps its line breaks, but not its other control characters."""
    assert printable("a\n\tb\r\x1b", keep="\n\t") == "a\n\tb\\r\\x1b"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_print_line_any_encoding_never_raises(encoding: str) -> None:
    """A character that a console does not have is escaped."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="\n")
    print_line("✓ grün \x1b \udc80", stream)
    written = stream.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]
    assert written.endswith(" \\x1b \\udc80\n")
    assert written.startswith("✓ grün" if encoding == "utf-8" else "\\u2713 gr")


def test_print_line_closed_stream_is_no_error() -> None:
    """A program whose console is gone goes on."""
    stream = io.StringIO()
    stream.close()
    print_line("text", stream)


@pytest.fixture
def start(isolated: Path) -> Iterator[Callable[..., zCLI]]:
    """Makes one zCLI object, which is silent on the console and closed with the test."""
    with contextlib.ExitStack() as stack:
        yield lambda **settings: stack.enter_context(
            zCLI({"logger": "PROD", "logger_path": "logs", "deployment": "Testing", **settings})
        )


class _RudeTransport:
    content_codings = ()

    def __init__(self, outcome: Any) -> None:
        self.outcome = outcome

    def send(self, request: Any, deadline: float, max_bytes: int) -> RawResponse:
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome  # type: ignore[no-any-return]

    def close(self) -> None:
        pass


def _texts_of_http(start: Callable[..., zCLI]) -> Iterator[str]:
    http = start().comm.http
    http.use_transport(_RudeTransport(TransportFailure("protocol", EVIL)))
    assert http.request("GET", "http://a.example/") is None
    yield str(http.last_failure)
    http.use_transport(_RudeTransport(RawResponse(500, EVIL, [("Content-Type", EVIL)], b"{")))
    response = http.request("GET", "http://a.example/")
    assert response is not None
    for call in (response.json, response.raise_for_status):
        with pytest.raises((ValueError, ZCLIError)) as error:
            call()
        yield str(error.value)


def test_printable_python_errors_hold_no_control_character(start: Callable[..., zCLI]) -> None:
    """Python prints the text of an error as it is when a program ends with it."""
    texts = [
        str(ConnectionClosed(4000, EVIL)),
        describe_error(RuntimeError(EVIL)),
        str(PortHolder(1, EVIL, "root")),
        *_texts_of_http(start),
    ]
    for text in texts:
        assert printable(text) == text
        assert "\\x1b[2J" in text


def test_printable_service_errors_hold_no_control_character(start: Callable[..., zCLI]) -> None:
    """A server may say what it likes about why it is not ready."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def respond() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"-LOADING \x1b[2J\x9b please wait\r\n" * 3)
                connection.recv(1000)

        thread = threading.Thread(target=respond)
        thread.start()
        z = start(services={"redis": {"port": listener.getsockname()[1]}})
        status = z.comm.service_status("redis")
        thread.join()
    assert "\\x1b[2J" in status["error"]
    assert printable(status["error"]) == status["error"]


def test_log_console_of_another_encoding_shows_the_line(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a program has put a strict stream in the place of stderr."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict", write_through=True)
    with zCLI({"logger_path": "logs", "deployment": "Testing"}) as z:
        monkeypatch.setattr("sys.stderr", stream)
        z.log.warning("gr\u00fcn \u2713")
    monkeypatch.undo()
    assert stream.buffer.getvalue().endswith(b": gr\\xfcn \\u2713\n")  # type: ignore[attr-defined]
