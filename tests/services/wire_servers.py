"""The MongoDB stand-in of the extra, and messages of MongoDB's wire protocol."""

from __future__ import annotations

import contextlib
import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

from service_servers import free_ports, process


@contextlib.contextmanager
def mongodb(folder: Path) -> Iterator[int]:
    """Run nx-27017 on a free port and give the port."""
    port = free_ports(1)[0]
    files = [f"--pid-file={folder / 'pid'}", f"--log-file={folder / 'log'}", f"--data-dir={folder / 'data'}"]
    command = [Path(sys.executable).with_name("nx-27017"), "--host=127.0.0.1", f"--port={port}", *files]
    with process(command, port, env={**os.environ, "PYTHONWARNINGS": "ignore"}):
        yield port


def message(response_to: int, document: bytes) -> bytes:
    """Return an OP_MSG with one document."""
    body = struct.pack("<i", 0) + b"\0" + document
    return struct.pack("<iiii", 16 + len(body), 99, response_to, 2013) + body
