"""Memory that all workers of one port share: each writes its own health, any reads all.

A slot is a time, a length, a CRC and JSON. There are no locks: each slot has one writer, and who
reads while it writes sees a wrong CRC and looks again.
Times are of CLOCK_MONOTONIC, which is the same for all processes of a machine.
"""

import mmap
import os
import tempfile
import time
import zlib
from struct import Struct

SLOT_BYTES = 16 << 10
"""Some 2 KB are written."""

_HEAD = Struct("<dII")
_LOOKS = 10


class WorkerBoard:
    """The slots of `count` workers."""

    def __init__(self, descriptor: int, count: int) -> None:
        """Map what `make` has made."""
        self.count = count
        self._memory = mmap.mmap(descriptor, SLOT_BYTES * count)

    @staticmethod
    def make(count: int) -> int:
        """Make an empty board and give its descriptor, for the workers to inherit."""
        if hasattr(os, "memfd_create"):
            descriptor = os.memfd_create("rockets-workers")
        else:  # not Linux: a file without a name
            with tempfile.TemporaryFile() as file:
                descriptor = os.dup(file.fileno())
        os.ftruncate(descriptor, SLOT_BYTES * count)
        return descriptor

    def write(self, index: int, content: bytes) -> None:
        """Replace a worker's slot; only that worker may."""
        if len(content) > SLOT_BYTES - _HEAD.size:
            raise ValueError(f"{len(content)} bytes do not fit into a slot of {SLOT_BYTES}")
        start = index * SLOT_BYTES
        body = start + _HEAD.size
        self._memory[body : body + len(content)] = content
        head = _HEAD.pack(time.monotonic(), len(content), zlib.crc32(content))
        self._memory[start:body] = head

    def clear(self, index: int) -> None:
        """Empty the slot of a worker that has ended."""
        self._memory[index * SLOT_BYTES : index * SLOT_BYTES + _HEAD.size] = bytes(_HEAD.size)

    def read(self, index: int) -> tuple[float, bytes] | None:
        """Give a worker's slot and its age in seconds; None where nothing (whole) is in it."""
        start = index * SLOT_BYTES
        body = start + _HEAD.size
        for _ in range(_LOOKS):
            at, length, crc = _HEAD.unpack(self._memory[start:body])
            content = self._memory[body : body + min(length, SLOT_BYTES - _HEAD.size)]
            if at and zlib.crc32(content) == crc:
                return time.monotonic() - at, content
        return None
