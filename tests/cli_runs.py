"""Run ``zcli`` in this process, with a terminal or a file as its output, in any encoding."""

from __future__ import annotations

import io
import sys
from typing import NamedTuple

import pytest

from zcli_core.cli.main import main


class Screen(io.TextIOWrapper):
    """An output stream that is a terminal or a file, and keeps the bytes that are written to it."""

    def __init__(self, is_terminal: bool, encoding: str) -> None:
        self.written = io.BytesIO()
        self.is_terminal = is_terminal
        super().__init__(self.written, encoding=encoding, newline="\n", write_through=True)

    def isatty(self) -> bool:
        return self.is_terminal


class DoneBytes(NamedTuple):
    """The exit status of a command, the bytes of its standard output, and the text of its standard error."""

    status: int
    out: bytes
    err: str


def run_main(
    patch: pytest.MonkeyPatch, *arguments: str, terminal: bool = False, stdin: bytes = b"", encoding: str = "utf-8"
) -> DoneBytes:
    """Run ``zcli`` with these arguments.

    Args:
        patch: Replaces the standard streams and ``sys.argv`` during the run.
        arguments: The arguments of the command.
        terminal: Whether the standard streams are a terminal.
        stdin: The bytes of standard input.
        encoding: Encoding of the standard streams.
    """
    out, err = Screen(terminal, encoding), Screen(terminal, encoding)
    with patch.context() as during:
        for name, stream in (("stdout", out), ("stderr", err), ("stdin", io.TextIOWrapper(io.BytesIO(stdin)))):
            during.setattr(sys, name, stream)
        during.setattr(sys, "argv", ["zcli", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
    code = ended.value.code
    assert code is None or isinstance(code, int)
    return DoneBytes(code or 0, out.written.getvalue(), err.written.getvalue().decode(encoding, "replace"))
