"""Recording blocking calls of code that must not block: sleeping, opening files, connections or programs."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import Any

#: Audit events of the interpreter (PEP 578). ``time.sleep`` is one from Python 3.11 on.
_BLOCKING = frozenset(
    {"open", "os.system", "socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "subprocess.Popen"}
    | {"time.sleep"}
)
_watched = threading.local()
_install_once = threading.Lock()
_installed: list[bool] = []


def _note(event: str, _: tuple[Any, ...]) -> None:
    calls: list[str] | None = getattr(_watched, "calls", None)
    if calls is not None and event in _BLOCKING:
        calls.append(event)


@contextlib.contextmanager
def noted_blocking_calls() -> Iterator[list[str]]:
    """Record the calls of this thread inside the block that may block, by the names of their audit events."""
    with _install_once:
        if not _installed:  # an audit hook cannot be removed
            sys.addaudithook(_note)
            _installed.append(True)
    calls: list[str] = []
    _watched.calls = calls
    try:
        yield calls
    finally:
        _watched.calls = None
