"""Text of other programs is escaped before terminals and logs show it."""

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
    """Control characters are escaped, and all other characters stay."""
    assert printable(text) == expected
    assert len(printable(text).splitlines()) == 1


def test_printable_every_control_character_is_escaped() -> None:
    """Every character of the classes Cc, Zl, Zp, Cs and every character that sets a direction is escaped."""
    directions = {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}
    for code in range(0x10000):
        character = chr(code)
        if (
            unicodedata.category(character) in ("Cc", "Zl", "Zp", "Cs")
            or unicodedata.bidirectional(character) in directions
        ):
            assert character not in printable(character)


def test_printable_kept_characters_stay() -> None:
    """Control characters in ``keep`` stay, such as line breaks, and others are escaped."""
    assert printable("a\n\tb\r\x1b", keep="\n\t") == "a\n\tb\\r\\x1b"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_print_line_any_encoding_never_raises(encoding: str) -> None:
    """A character outside the encoding of the console is escaped."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="\n")
    print_line("✓ grün \x1b \udc80", stream)
    written = stream.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]
    assert written.endswith(" \\x1b \\udc80\n")
    assert written.startswith("✓ grün" if encoding == "utf-8" else "\\u2713 gr")


def test_print_line_closed_stream_is_ignored() -> None:
    """A closed console does not stop the program."""
    stream = io.StringIO()
    stream.close()
    print_line("text", stream)


@pytest.fixture
def start(isolated: Path) -> Iterator[Callable[..., zCLI]]:
    """A function that makes a zCLI object, silent on the console and closed after the test."""
    with contextlib.ExitStack() as stack:
        yield lambda **settings: stack.enter_context(
            zCLI({"logger": "PROD", "logger_path": "logs", "deployment": "Testing", **settings})
        )


class _HostileTransport:
    """A transport with a fixed outcome."""

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
    http.use_transport(_HostileTransport(TransportFailure("protocol", EVIL)))
    assert http.request("GET", "http://a.example/") is None
    yield str(http.last_failure)
    http.use_transport(_HostileTransport(RawResponse(500, EVIL, [("Content-Type", EVIL)], b"{")))
    response = http.request("GET", "http://a.example/")
    assert response is not None
    for call in (response.json, response.raise_for_status):
        with pytest.raises((ValueError, ZCLIError)) as error:
            call()
        yield str(error.value)


def test_error_text_has_no_control_character(start: Callable[..., zCLI]) -> None:
    """The texts of errors are escaped, because Python prints them unchanged in a traceback."""
    texts = [
        str(ConnectionClosed(4000, EVIL)),
        describe_error(RuntimeError(EVIL)),
        str(PortHolder(1, EVIL, "root")),
        *_texts_of_http(start),
    ]
    for text in texts:
        assert printable(text) == text
        assert "\\x1b[2J" in text


def test_service_error_has_no_control_character(start: Callable[..., zCLI]) -> None:
    """Text that a server sends in its response to a probe is escaped."""
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


def test_log_ascii_console_shows_escaped_line(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log line is escaped even if a program has replaced stderr by a stream with strict errors."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict", write_through=True)
    with zCLI({"logger_path": "logs", "deployment": "Testing"}) as z:
        monkeypatch.setattr("sys.stderr", stream)
        z.log.warning("gr\u00fcn \u2713")
    monkeypatch.undo()
    assert stream.buffer.getvalue().endswith(b": gr\\xfcn \\u2713\n")  # type: ignore[attr-defined]
