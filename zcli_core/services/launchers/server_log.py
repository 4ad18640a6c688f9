"""The log file of a local server: what it writes to standard output and standard error."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from zcli_core.services.launchers.commands import last_lines
from zcli_core.system.safe_files import open_private

_LONGEST = 10_000_000
_TAIL = 16_384


class ServerLog:
    """The file ``server.log`` in zCLI's folder for a server."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "server.log"

    def open(self) -> BinaryIO:
        """Open the file to append to it. Only our user may read it."""
        return open(open_private(self._file, os.O_APPEND), "ab")

    def size(self) -> int:
        """Return its size in bytes; 0 for a file that is too long and was renamed."""
        try:
            size = self._file.stat().st_size
        except OSError:
            return 0
        if size > _LONGEST:
            self._file.replace(self._file.with_name(f"{self._file.name}.1"))
            return 0
        return size

    def lines_since(self, start: int) -> tuple[str, ...]:
        """Return the last lines after the byte ``start``."""
        try:
            with self._file.open("rb") as log:
                size = log.seek(0, os.SEEK_END)
                log.seek(max(start, size - _TAIL))
                return last_lines(log.read().decode("utf-8", "replace"))
        except OSError:
            return ()
