"""Runs `rockets serve` on a disk that hangs until it is let go, as a process of its own.

The environment variable `HELD_BY` names a FIFO: the first commit waits until somebody has opened
and closed its writing end.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from rockets import storage
from rockets.cli import main
from rockets.journal import Appended, MemoryJournal, Note, Record

FIFO = Path(os.environ["HELD_BY"])


class _Held(MemoryJournal):
    held = True

    def append(self, records: Sequence[Record], notes: Sequence[Note] = ()) -> Appended:
        if self.held:
            FIFO.read_bytes()
            self.held = False
        return super().append(records, notes)


if __name__ == "__main__":
    storage.open_journal = lambda *_, **__: _Held()  # type: ignore[attr-defined]  # not its own
    main()
