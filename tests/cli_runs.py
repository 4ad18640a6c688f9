"""Running ``zcli`` in this process, on an output that is a terminal or not, in any encoding."""

from __future__ import annotations

import io
import sys
from typing import NamedTuple

import pytest

from zcli_core.cli.main import main


class Screen(io.TextIOWrapper):
    """An output that is a terminal, or a file."""

    def __init__(self, is_terminal: bool, encoding: str) -> None:
        self.written = io.BytesIO()
        self.is_terminal = is_terminal
        super().__init__(self.written, encoding=encoding, newline="\n", write_through=True)

    def isatty(self) -> bool:
        return self.is_terminal


class DoneBytes(NamedTuple):
    """The exit status of a command, the bytes it printed, and what it said on stderr."""

    status: int
    out: bytes
    err: str


def run_main(
    patch: pytest.MonkeyPatch, *arguments: str, terminal: bool = False, stdin: bytes = b"", encoding: str = "utf-8"
) -> DoneBytes:
    """Run ``zcli`` with these arguments."""
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
