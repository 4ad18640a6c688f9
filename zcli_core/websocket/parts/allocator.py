"""Tuning of the C library's memory allocator for large messages."""

from __future__ import annotations

#: Blocks up to this size, in bytes, are kept by the allocator instead of being returned to the system.
_KEPT_BLOCK = 4 * 1024 * 1024


def keep_large_blocks() -> None:
    """Make glibc keep the memory that large messages free.

    By default it maps each block over 128 KiB separately, and the page faults then cost more than the message. Freeing
    one large block once raises that threshold (mallopt(3), M_MMAP_THRESHOLD). Harmless with other allocators.
    """
    block = bytearray(_KEPT_BLOCK)
    del block
