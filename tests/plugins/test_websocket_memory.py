"""The memory that a hostile client can use: compressed bombs, floods, oversize frames, data after the end."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from websocket_transports import on_every_transport, serve

from zcli_core.testing.websocket.client import DEFLATE_OFFER
from zcli_core.testing.websocket.frames import (
    BINARY,
    CONTINUATION,
    PING,
    TEXT,
    close,
    deflated,
    frame,
)
from zcli_core.websocket.contract import Compression, Limits

# A stream of 48 equal blocks. RFC 7692, 7.2.1: the end that deflated() takes away is between them.
BOMB = b"\x00\x00\xff\xff".join([deflated(bytes(1024 * 1024), 12, 9)] * 48)
FLOODS = {
    "bomb": frame(BINARY, BOMB, rsv=4),
    "bomb in fragments": frame(BINARY, BOMB[:9999], rsv=4, fin=False) + frame(CONTINUATION, BOMB[9999:]),
    "bytes after the end": frame(3) + bytes(16 * 1024 * 1024),
    "pings unread": frame(PING, b"x" * 125) * 20_000 + close(1000),
    "oversize": frame(BINARY, bytes(16 * 1024 * 1024)),
    "empty fragments": frame(TEXT, fin=False) + frame(CONTINUATION, fin=False) * 200_000,
}


def peak_of(action: Callable[[], None]) -> int:
    """Return by how many bytes this process's memory grew at most during a call."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak (proc(5))
    before = _peak()
    action()
    return _peak() - before


def _peak() -> int:
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="measures as Linux does")
@on_every_transport
@pytest.mark.parametrize("attack", FLOODS)
def test_memory_stays_flat(name: str, attack: str) -> None:
    """Decompressed or unlimited, the data of each attack would be many times the allowed growth."""
    with serve(name, Limits(max_size=100_000, max_fragments=1000, compression=Compression())) as server:

        def once() -> None:
            with server.connect(extensions=DEFLATE_OFFER) as client:
                client.try_to_send(FLOODS[attack])
                assert client.ending()[1] in (1009, 1002, 1000)

        once()  # imports and one-time allocations have their peak here
        assert peak_of(once) < 6 * 1024 * 1024
