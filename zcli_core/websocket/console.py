"""What the server says on the console: where it listens, and how it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zcli_core.log import FILE_ONLY
from zcli_core.printable import print_line

if TYPE_CHECKING:
    from zcli_core.websocket.server_core import Report

__all__ = ["FILE_ONLY", "ending", "print_line"]


def ending(report: Report) -> str:
    """How a server ended, in one line."""
    clients = f"{report.clients} client{'' if report.clients == 1 else 's'} closed"
    slow = f"; {report.slow} had been dropped for reading too slowly" if report.slow else ""
    return f"stopped: {clients}, {report.endpoint} released, {report.seconds:.1f} s{slow}"
