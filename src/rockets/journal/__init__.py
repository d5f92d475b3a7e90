"""The journal: keeps records durably, once per (stream, number), in commit order.

- `base`: the contract, its values and its errors.
- `memory`: a journal in memory, for experiments and tests.
- `sqlite`: the journal in one SQLite file, the default.
- `sqlite_shared`: the same file, shared by several instances.
- `sqlite_notes`: the notes in that file.
- `sqlite_ledgers`: the ledgers and rounds in that file.
- `sqlite_pruned`: how records leave that file.
- `redis_streams`: the journal in a Redis server, for several instances.
- `redis_append`: the append, a script.
- `redis_policy`: which servers will do for it.
- `redis_link`: a connection to one that is made anew when it is lost.
- `redis_store`: what is known of the store, and how scripts run on it.
- `redis_notes`, `redis_ledgers`, `redis_pruned`: what is beside the records there.
- `redis_spans`: many spans of numbers at once there.
- `checksum`: how damage is found; `sql_rows`: rows that have one, of both SQL journals.
- `space`: the reserve of free space.
- `space_watch`: what the files take and how much is free, of a moment ago.
- `backup`: copies that file while it is in use.
- `sqlite_file`: how that file is locked, checked and set up.
- `absence`: a journal that cannot be opened since its server is not there yet.
- `hurry`: what a stop leaves of the patience with a server that is gone.
- `postgresql`: the journal in a PostgreSQL database, which several instances share.
- `postgresql_link`: connections that are made anew when they are lost.
- `postgresql_store`: the tables in that database, and what a connection must find.
- `postgresql_append`: the append, and how an ambiguous one is resolved.
- `postgresql_notes`, `postgresql_ledgers`, `postgresql_pruned`: the tables beside the records.
- `postgresql_spans`: many spans of numbers by one query.
- `spans`: many spans of numbers, of any journal.
- `thread`: one thread that runs blocking calls for trio.
- `part`: what one of these tasks appends, and its answer.
- `writer`: one task that commits what many tasks append, together.

Nothing here imports another folder of this package.
"""

from collections.abc import Callable
from os import PathLike
from typing import Literal

from .absence import JournalAbsent
from .backup import BackupFailed, BackupProgress, backup
from .base import (
    NOTE_LIMITS,
    Appended,
    Journal,
    JournalBehind,
    JournalBusy,
    JournalError,
    JournalFailed,
    JournalFull,
    JournalHeld,
    JournalRefused,
    JournalStatistics,
    JournalUnreachable,
    LedgerRecord,
    LedgersDamaged,
    Note,
    NoteId,
    NoteLimits,
    NoteTotals,
    Position,
    Pruned,
    Record,
    Round,
    SharedJournal,
    StoredLedger,
    StoredNote,
    StoredRecord,
)
from .memory import MemoryJournal
from .space import RESERVE_BYTES
from .sqlite import SqliteJournal
from .sqlite_file import hold_file
from .sqlite_shared import SharedSqliteJournal
from .thread import Hop, inline, open_thread
from .writer import JournalWriter, WriterStatistics, open_writer

__all__ = [
    "RESERVE_BYTES",
    "Appended",
    "BackupFailed",
    "BackupProgress",
    "Durability",
    "Hop",
    "Journal",
    "JournalAbsent",
    "JournalBehind",
    "JournalBusy",
    "JournalError",
    "JournalFailed",
    "JournalFull",
    "JournalHeld",
    "JournalRefused",
    "JournalStatistics",
    "JournalUnreachable",
    "JournalWriter",
    "LedgerRecord",
    "LedgersDamaged",
    "MemoryJournal",
    "Note",
    "NoteId",
    "NoteLimits",
    "NoteTotals",
    "Position",
    "Pruned",
    "Record",
    "Round",
    "SharedJournal",
    "SharedSqliteJournal",
    "SqliteJournal",
    "StoredLedger",
    "StoredNote",
    "StoredRecord",
    "WriterStatistics",
    "backup",
    "hold_file",
    "inline",
    "open_journal",
    "open_postgresql",
    "open_redis",
    "open_thread",
    "open_writer",
]

Durability = Literal["full", "normal", "memory"]


def open_journal(
    path: str | PathLike[str],
    durability: Durability = "full",
    *,
    reserve_bytes: int = RESERVE_BYTES,
    note_limits: NoteLimits = NOTE_LIMITS,
) -> Journal:
    """Open the journal of a durability; `memory` keeps nothing and leaves the path alone.

    A journal in a file takes nothing more while fewer than `reserve_bytes` are free beside it.
    Raises `JournalRefused` with one line that says what is in the way.
    """
    if durability == "memory":
        return MemoryJournal(note_limits=note_limits)
    return SqliteJournal(
        path, durability=durability, reserve_bytes=reserve_bytes, note_limits=note_limits
    )


def open_postgresql(
    url: str,
    *,
    durability: Literal["full", "normal"] = "full",
    jitter: Callable[[], float],
    note_limits: NoteLimits = NOTE_LIMITS,
) -> SharedJournal:
    """Open the journal in a PostgreSQL database, as libpq's `url` names it; its tables are made.

    `jitter` returns random numbers from 0 to 1, which keep instances from coming back together.
    Raises `JournalRefused` with one line that says what is in the way.
    """
    try:
        # An optional dependency, wanted only here.
        from .postgresql import PostgresqlJournal
    except ImportError as error:
        raise JournalRefused(
            f"a journal in PostgreSQL needs psycopg: pip install 'rockets[postgresql]' ({error})"
        ) from error
    return PostgresqlJournal(url, durability=durability, jitter=jitter, note_limits=note_limits)


def open_redis(
    url: str,
    *,
    durability: Literal["full", "normal"] = "full",
    note_limits: NoteLimits = NOTE_LIMITS,
) -> SharedJournal:
    """Open a journal in a Redis server, which it may share with other instances.

    `url` is `redis://[user:password@]host[:port][/db]`, with `rediss` for TLS, or `unix://path`;
    its parameter `prefix` names one of several stores on a server.
    Raises `JournalRefused` with one line that says what is in the way.
    """
    try:
        # An optional dependency, wanted only here.
        from .redis_streams import RedisJournal
    except ImportError as error:
        raise JournalRefused(
            f"a journal in Redis needs redis-py: pip install 'rockets[redis]' ({error})"
        ) from error
    return RedisJournal(url, durability=durability, note_limits=note_limits)
