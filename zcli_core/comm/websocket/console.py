"""What the server says on the console: where it listens, and how it ended."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

from zcli_core.log import FILE_ONLY

if TYPE_CHECKING:
    from zcli_core.comm.websocket.running import Report

__all__ = ["FILE_ONLY", "ending", "say"]


def say(text: str) -> None:
    """Print a line at once, in whatever the console's encoding can say of it; a console that is gone is no error."""
    stream = sys.stdout
    if stream is None:
        return
    encoding = getattr(stream, "encoding", None) or "utf-8"
    with contextlib.suppress(OSError, ValueError):
        print(text.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)


def ending(report: Report) -> str:
    """How a server ended, in one line."""
    clients = f"{report.clients} client{'' if report.clients == 1 else 's'} closed"
    slow = f"; {report.slow} had been dropped for reading too slowly" if report.slow else ""
    return f"stopped: {clients}, {report.endpoint} released, {report.seconds:.1f} s{slow}"
