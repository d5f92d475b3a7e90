"""The journal in one SQLite file: appends, reads and checkpoints.

`sqlite_file` opens it; `sqlite_notes`, `sqlite_ledgers` and `sqlite_pruned` have the tables beside
the records, `space` the reserve of free space.

One connection writes and belongs to the writing thread, one reads.
The invariant: an append that returned is on stable storage (durability `full`),
and after an error that leaves the outcome open nothing is ever appended again.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

import apsw

from . import sqlite_ledgers, sqlite_notes, sqlite_pruned
from .base import (
    NOTE_LIMITS,
    Appended,
    JournalBusy,
    JournalError,
    JournalFailed,
    JournalFull,
    JournalStatistics,
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
    StoredLedger,
    StoredNote,
    StoredRecord,
)
from .space import RESERVE_BYTES, SpaceReserve, free_bytes
from .sql_rows import record_row, verified_record
from .sqlite_file import BUSY_TIMEOUT_MS, WAL_PAGES_MAX, checkpoint, last_position, open_file

INSERT = (
    "INSERT INTO records (stream, number, body, received_at, checksum) VALUES (?, ?, ?, ?, ?)"
    " ON CONFLICT (stream, number) DO NOTHING"
)
SELECT = "SELECT position, stream, number, body, received_at, checksum FROM records"


class SqliteJournal:
    """Keeps records in a SQLite file that it alone may open; see the module for what it owns."""

    durability: str

    # How the file is opened, and what its last checkpoint is: for those who share it.
    _open_file = staticmethod(open_file)
    _last_checkpoint = "TRUNCATE"

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durability: Literal["full", "normal"] = "full",
        busy_timeout_ms: int = BUSY_TIMEOUT_MS,
        note_limits: NoteLimits = NOTE_LIMITS,
        reserve_bytes: int = RESERVE_BYTES,
        free_bytes: Callable[[Path], int] = free_bytes,
        vfs: str | None = None,
    ) -> None:
        """Open or create the file; raises `JournalRefused` with one line saying why not.

        While fewer than `reserve_bytes` are free in its folder, by `free_bytes`, records, notes
        and ledgers are refused with `JournalFull`; 0 leaves it to SQLite to find the disk full.
        `vfs` names an apsw VFS, through which tests make the disk fail.
        """
        self.durability = durability
        self._note_limits = note_limits
        # An absolute path: a file keeps its folder when the process changes its own.
        self._path = Path(path).absolute()
        self._reserve = SpaceReserve(self._path.parent, reserve_bytes, free_bytes=free_bytes)
        self._pid = os.getpid()
        self._failure: JournalFailed | None = None
        self._wal_pages = self._wal_pages_checkpointed = 0
        with ExitStack() as opened:
            file = self._open_file(self._path, durability, busy_timeout_ms, vfs, opened)
            self._writer, self._reader = file.writer, file.reader
            # The hook comes after the pragmas: wal_autocheckpoint replaces whatever hook there is.
            self._writer.set_wal_hook(self._note_wal_pages)
            self._opened = opened.pop_all()

    def append(self, records: Sequence[Record], notes: Sequence[Note] = ()) -> Appended:
        """Store what is new in one transaction."""
        rows = [record_row(record) for record in records]
        with self._transaction():
            self._reserve.grow(
                sum([len(row[2]) for row in rows]) + sum([len(n.body) for n in notes])
            )
            changes = self._writer.total_changes()
            self._writer.executemany(INSERT, rows)
            added = self._writer.total_changes() - changes
            # The connection remembers the last row it added; only an append of nothing new asks.
            head = (
                Position(self._writer.last_insert_rowid()) if added else last_position(self._writer)
            )
            before = Position(head - added)
            # All new is the normal case, and then nothing has to be looked up.
            stored = self._look_up(records, before) if added < len(records) else {}
            notes_new = sqlite_notes.keep(self._writer, notes, self._note_limits)
        new = tuple(index not in stored for index in range(len(records)))
        return Appended(new, stored, notes_new, head, before)

    def read(self, stream: str, first: int, last: int, *, limit: int) -> list[StoredRecord]:
        """Return records of one stream, numbers `first` to `last` inclusive, rising."""
        where = "WHERE stream = ? AND number BETWEEN ? AND ? ORDER BY number"
        return self._select(where, (stream, first, last), limit)

    def follow(self, after: Position, *, limit: int) -> list[StoredRecord]:
        """Return the records committed after a position, in commit order."""
        return self._select("WHERE position > ? ORDER BY position", (after,), limit)

    def read_notes(
        self, kind: str, *, stream: str | None, limit: int, before: NoteId | None = None
    ) -> list[StoredNote]:
        """Return notes of one kind, highest id first, of one stream or of all."""
        assert limit >= 0, "SQLite takes a negative limit for none"
        with self._errors_translated():
            return sqlite_notes.read(self._reader, kind, stream, before, limit)

    def note(self, note_id: NoteId) -> StoredNote | None:
        """Return one note, None when there is none with this id."""
        with self._errors_translated():
            return sqlite_notes.one(self._reader, note_id)

    def count_notes(self, kind: str) -> dict[str, int]:
        """Return how many notes of one kind each stream has."""
        with self._errors_translated():
            return sqlite_notes.count_by_stream(self._reader, kind)

    def note_totals(self, kind: str) -> NoteTotals:
        """Return how many notes of one kind are kept, and how many were dropped so far."""
        with self._errors_translated():
            return sqlite_notes.totals(self._reader, kind)

    def remove_note(self, note_id: NoteId) -> bool:
        """Remove a note in one transaction; says whether it was there."""
        with self._transaction():
            return sqlite_notes.remove(self._writer, note_id)

    def keep_ledgers(self, ledgers: Sequence[LedgerRecord]) -> None:
        """Keep these in place of what their streams had, in one transaction."""
        with self._transaction():
            self._reserve.grow(sum([len(each.data) for each in ledgers]))
            sqlite_ledgers.keep(self._writer, ledgers)

    def end_round(self, round: Round) -> None:
        """Store a round that is complete; it and the one before it are kept."""
        with self._transaction():
            sqlite_ledgers.end_round(self._writer, round)

    def rounds(self) -> list[Round]:
        """Return the two newest rounds, newest first; a damaged one is left out."""
        with self._errors_translated():
            return sqlite_ledgers.rounds(self._reader)

    def ledgers(self, after: str, *, limit: int) -> list[StoredLedger]:
        """Return the ledgers of the streams behind a name, in the order of names."""
        assert limit >= 0, "SQLite takes a negative limit for none"
        with self._errors_translated():
            return sqlite_ledgers.read(self._reader, after, limit)

    def drop_ledgers(self) -> None:
        """Remove all ledgers and rounds in one transaction; a second for a million."""
        with self._transaction():
            sqlite_ledgers.drop(self._writer)

    def prune(self, prunings: Sequence[Pruned], *, limit: int) -> int:
        """Remove records of some streams, lowest first, in one transaction; returns how many.

        The reserve is no matter: what goes leaves more room in the file than a base takes.
        """
        assert limit >= 0, "SQLite takes a negative limit for none"
        with self._transaction():
            return sqlite_pruned.prune(self._writer, prunings, limit, last_position(self._writer))

    def pruned(self, after: str, *, limit: int) -> list[Pruned]:
        """Return what was pruned of the streams behind a name, in the order of names."""
        assert limit >= 0, "SQLite takes a negative limit for none"
        with self._errors_translated():
            return sqlite_pruned.read(self._reader, after, limit)

    def pruned_of(self, stream: str) -> Pruned | None:
        """Return what was pruned of one stream, None where nothing was."""
        with self._errors_translated():
            return sqlite_pruned.one(self._reader, stream)

    def head(self) -> Position:
        """Return the position of the last record, 0 when there is none."""
        with self._errors_translated():
            return last_position(self._reader)

    def statistics(self) -> JournalStatistics:
        """Return the figures of this moment; asks only the file system, which takes 10 µs."""
        try:
            return JournalStatistics(
                database_bytes=_size(self._path),
                wal_bytes=_size(Path(f"{self._path}-wal")),
                free_bytes=self._reserve.free_bytes(),
                wal_pages=max(0, self._wal_pages - self._wal_pages_checkpointed),
                reserve_bytes=self._reserve.reserve_bytes,
            )
        except OSError as error:
            raise JournalError(f"the file system does not say how full it is: {error}") from error

    @property
    def maintenance_due(self) -> bool:
        """Say whether the WAL is long."""
        return self._wal_pages - self._wal_pages_checkpointed > WAL_PAGES_MAX

    def prepare_maintenance(self) -> None:
        """Copy most of a long WAL while commits go on; `JournalFailed` when that goes wrong.

        It takes 10 to 20 ms, in which nobody has to wait for it. What is committed meanwhile is
        left to `maintain`.
        """
        if self._failure is None:
            with self._errors_translated():
                self._checkpoint_or_full(self._reader, "PASSIVE")

    def maintain(self) -> None:
        """Copy the rest of a long WAL into the database; `JournalFailed` when that goes wrong.

        This is done here because SQLite swallows the errors of its automatic checkpoint:
        the disk would lose what was copied and nobody would know.
        PASSIVE never waits: what a reader still needs is copied next time. Only between two
        commits nothing new comes, so that the WAL can begin anew.
        """
        if self._failure is not None or not self.maintenance_due:
            return
        with self._errors_translated():
            self._wal_pages_checkpointed = self._checkpoint_or_full(self._writer, "PASSIVE")

    def close(self) -> None:
        """Empty the WAL, unless the journal has failed, and release the file and the lock.

        Nothing may be reading any more. The file is released whatever happens.
        Raises `JournalFailed` when the checkpoint went wrong; what was appended is in the WAL then.
        A foreign reader or a full disk only leaves a WAL for the next start to copy.
        """
        with self._opened:
            failure, self._failure = self._failure, JournalFailed("the journal is closed")
            if failure is None:
                with self._errors_translated():
                    self._checkpoint_or_full(self._writer, self._last_checkpoint)

    def _look_up(self, records: Sequence[Record], before: Position) -> dict[int, StoredRecord]:
        """Return, by index, what is stored for each record that was not new.

        A record is new when what is stored came with this batch, and it is the first of its key.
        """
        seen: set[Position] = set()
        stored = {}
        for index, record in enumerate(records):
            key = record.stream, record.number
            row: Any = self._writer.execute(f"{SELECT} WHERE stream = ? AND number = ?", key).get
            found = verified_record(*row)
            assert (found.stream, found.number) == key, "the index points at another record"
            if found.position <= before or found.position in seen:
                stored[index] = found
            seen.add(found.position)
        return stored

    def _select(self, where: str, values: tuple[str | int, ...], limit: int) -> list[StoredRecord]:
        assert limit >= 0, "SQLite takes a negative limit for none"
        with self._errors_translated():
            rows = self._reader.execute(f"{SELECT} {where} LIMIT ?", (*values, limit)).fetchall()
            return [verified_record(*row) for row in rows]

    def _checkpoint_or_full(self, connection: apsw.Connection, mode: str) -> int:
        try:
            return checkpoint(connection, mode).copied
        except apsw.FullError:
            # Nothing is lost: every page is still in the WAL, synced, and SQLite reads it there.
            # Counting them as copied puts the next try off until the WAL has grown again.
            return self._wal_pages

    def _note_wal_pages(self, _connection: apsw.Connection, _schema: str, pages: int) -> int:
        if pages < self._wal_pages:  # SQLite has begun the file anew
            self._wal_pages_checkpointed = 0
        self._wal_pages = pages
        return apsw.SQLITE_OK

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._refuse_failed()
        with self._errors_translated(), _transaction(self._writer):
            yield

    def _refuse_failed(self) -> None:
        # A connection that crosses a fork corrupts the file (howtocorrupt.html, section 2.6).
        assert os.getpid() == self._pid, "the journal was opened by another process"
        if self._failure is not None:
            raise JournalFailed(str(self._failure)) from self._failure

    @contextmanager
    def _errors_translated(self) -> Iterator[None]:
        try:
            yield
        except (JournalFull, LedgersDamaged):
            raise
        except apsw.FullError as error:
            # Full at COMMIT means that the frame which ends the transaction was not written:
            # it is written last. A sync that finds the disk full is an I/O error instead.
            raise JournalFull(f"no space for the journal: {error}") from error
        except (apsw.BusyError, apsw.LockedError) as error:
            raise JournalBusy(f"another program holds the journal: {error}") from error
        except Exception as error:
            # After a failed sync the kernel marks the pages clean, so that a second one
            # "succeeds" without writing them, and after a crash the rows may be there.
            # Neither "stored" nor "not stored" would be true, so nothing is tried again.
            # A reader that finds damage poisons the journal as well: what else is damaged?
            self._failure = JournalFailed(f"the journal has failed: {error}")
            raise self._failure from error


@contextmanager
def _transaction(connection: apsw.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        # After some errors SQLite has rolled back by itself and after others it has not
        # (sqlite.org/lang_transaction.html, section 3).
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _size(path: Path) -> int:
    """Return the bytes of a file, 0 when there is none; opening it would drop SQLite's locks."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
