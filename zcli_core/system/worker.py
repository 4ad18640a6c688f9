"""Whether this process is a worker of a server with ``websocket.workers``."""

from __future__ import annotations

import os

#: The supervisor puts ``<number>:...`` into it; the number counts from 1.
WORKER_VARIABLE = "ZCLI_WORKER"


def worker_number() -> int | None:
    """Return the number of the worker that this process is, or None if it is not a worker."""
    number = os.environ.get(WORKER_VARIABLE, "").partition(":")[0]
    return int(number) if number.isascii() and number.isdigit() and len(number) < 6 else None
