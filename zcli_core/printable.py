"""Makes text of other programs safe for a terminal and for a log.

Peers, servers and files can send control characters. A terminal would execute them, and a line break would make one log
line look like two. All output of zCLI passes such text through :func:`printable`. It is written with
:func:`print_line`, which also escapes characters that the encoding of the console does not have.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TextIO

# C0 controls, DEL and C1 controls; line and paragraph separators; characters that reorder text (Unicode UAX 9).
_UNSAFE = (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, 0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F))
_UNSAFE += (*range(0x2066, 0x206A),)


def _escape(code: int) -> str:
    return {9: "\\t", 10: "\\n", 13: "\\r"}.get(code) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


_ESCAPES = {code: _escape(code) for code in _UNSAFE}


def printable(text: str, keep: str = "") -> str:
    """Return a text with an escape such as ``\\x1b`` in place of each unsafe character.

    These are control characters (C0, DEL, C1), line and paragraph separators, characters that change the direction of
    text, and lone surrogates. All other characters are kept, including backslashes.

    Args:
        text: Text that may come from another program.
        keep: Characters to keep, such as ``"\\n\\t"`` for a text of several lines. Without it the result is one line.
    """
    if text.isprintable():  # the usual case, and much faster
        return text
    escapes = {code: escape for code, escape in _ESCAPES.items() if chr(code) not in keep} if keep else _ESCAPES
    text = text.translate(escapes)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")  # lone surrogates


def encodable(text: str, stream: TextIO) -> str:
    """Return a text with an escape such as ``\\u2713`` for each character that a stream's encoding does not have."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def print_line(text: str, stream: TextIO | None = None, keep: str = "") -> None:
    """Print a line that may have text of other programs, and flush it. No text makes it raise an error.

    Args:
        text: The line, without its end.
        stream: The stream; ``sys.stdout`` by default. A missing or closed stream is not an error.
        keep: As for :func:`printable`.
    """
    stream = sys.stdout if stream is None else stream
    if stream is not None:
        with contextlib.suppress(OSError, ValueError):
            # In one piece, because other processes may print on the same terminal.
            stream.write(f"{encodable(printable(text, keep), stream)}\n")
            stream.flush()
