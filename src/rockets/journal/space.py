"""The reserve of free space: who writes stops before the disk is full, not when it is.

What is left lets the WAL be copied into the database, the process stop in order, and a person
log in and make room.
The invariant: while the free space is below the reserve no append is taken, but for what the file
system is not asked about, at most `CHECK_BYTES` and one append.
"""

import os
from collections.abc import Callable
from pathlib import Path

from .base import JournalFull

RESERVE_BYTES = 64 << 20
"""Three times what the WAL grows to between two checkpoints, with what they copy."""

CHECK_BYTES = 64 << 10
"""Asking takes 2 µs: nothing beside the commits of 64 KiB, a thousandth of the reserve."""


def free_bytes(path: Path) -> int:
    """Return the bytes that a program without privileges may still use where the path is."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


class SpaceReserve:
    """Refuses growth while less than `reserve_bytes` are free around `path`; 0 never refuses."""

    def __init__(
        self, path: Path, reserve_bytes: int, *, free_bytes: Callable[[Path], int] = free_bytes
    ) -> None:
        """Ask at the first growth, and then after every `CHECK_BYTES` of it."""
        self._path = path
        self.reserve_bytes = reserve_bytes
        self._free_bytes = free_bytes
        self._grown_bytes = CHECK_BYTES

    def free_bytes(self) -> int:
        """Return the free bytes of this moment."""
        return self._free_bytes(self._path)

    def grow(self, size: int) -> None:
        """Allow `size` bytes more or raise `JournalFull`; after a refusal every call asks anew."""
        self._grown_bytes += size
        if self.reserve_bytes == 0 or self._grown_bytes < CHECK_BYTES:
            return
        free = self.free_bytes()
        if free < self.reserve_bytes:
            raise JournalFull(
                f"no space for the journal: {free:,} bytes are free,"
                f" the last {self.reserve_bytes:,} are kept in reserve"
            )
        self._grown_bytes = 0
