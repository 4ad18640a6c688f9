"""A slow ``socket.getaddrinfo``, for tests of deadlines."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

#: The name that it does not resolve while the block runs.
SLOW_HOST = "slow-to-resolve.invalid"


@contextlib.contextmanager
def slow_resolver() -> Iterator[None]:
    """Resolve :data:`SLOW_HOST` only after the block."""
    release, resolver = threading.Event(), socket.getaddrinfo

    def slow(host: Any, *arguments: Any, **options: Any) -> Any:
        if host == SLOW_HOST.encode():
            release.wait(60)
        return resolver(host, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", slow)
        try:
            yield
        finally:
            release.set()
