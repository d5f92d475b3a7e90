"""The journal: keeps records durably, once per (stream, number), in commit order.

- `base`: the contract, its values and its errors.
- `memory`: a journal in memory, for experiments and tests.
- `sqlite`: the journal in one SQLite file, the default.
- `sqlite_notes`: the notes in that file.
- `sqlite_file`: how that file is locked, checked and set up.
- `thread`: one thread that runs blocking calls for trio.
- `writer`: one task that commits what many tasks append, together.

Nothing here imports another folder of this package.
"""

from os import PathLike
from typing import Literal

from .base import (
    Appended,
    Journal,
    JournalBusy,
    JournalError,
    JournalFailed,
    JournalFull,
    JournalRefused,
    Note,
    NoteId,
    NoteLimits,
    NoteTotals,
    Position,
    Record,
    StoredNote,
    StoredRecord,
)
from .memory import MemoryJournal
from .sqlite import SqliteJournal
from .thread import Hop, inline, open_thread
from .writer import JournalWriter, WriterStatistics, open_writer

__all__ = [
    "Appended",
    "Durability",
    "Hop",
    "Journal",
    "JournalBusy",
    "JournalError",
    "JournalFailed",
    "JournalFull",
    "JournalRefused",
    "JournalWriter",
    "MemoryJournal",
    "Note",
    "NoteId",
    "NoteLimits",
    "NoteTotals",
    "Position",
    "Record",
    "SqliteJournal",
    "StoredNote",
    "StoredRecord",
    "WriterStatistics",
    "inline",
    "open_journal",
    "open_thread",
    "open_writer",
]

Durability = Literal["full", "normal", "memory"]


def open_journal(path: str | PathLike[str], durability: Durability = "full") -> Journal:
    """Open the journal of a durability; `memory` keeps nothing and leaves the path alone.

    Raises `JournalRefused` with one line that says what is in the way.
    """
    if durability == "memory":
        return MemoryJournal()
    return SqliteJournal(path, durability=durability)
