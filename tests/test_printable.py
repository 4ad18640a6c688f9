"""Text of other programs, made safe for terminals and logs."""

from __future__ import annotations

import io
import unicodedata

import pytest

from zcli_core.printable import print_line, printable


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
