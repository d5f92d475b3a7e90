"""The journal in a PostgreSQL database, which several instances share.

`postgresql_link` makes the connections and makes them anew, `postgresql_store` has the tables and
what a connection must find, `postgresql_append` the append and how an ambiguous one is resolved;
`postgresql_notes`, `postgresql_ledgers` and `postgresql_pruned` have the tables beside the records.

Three connections, each made at its first use and belonging to one thread: one writes, one reads,
one follows. The following one is woken by NOTIFY, which every append that stores something sends
with its commit; since a notification can be lost with a connection, it also asks every second.

The invariant: an append that returned is on the server's stable storage (durability `full`), and
no answer rests on a commit that was not seen to succeed.
"""

import os
import select
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any, Literal, TypeVar

import psycopg
from psycopg import sql

from . import postgresql_ledgers, postgresql_notes, postgresql_pruned, postgresql_spans
from .absence import as_refusal
from .base import (
    NOTE_LIMITS,
    Appended,
    JournalBusy,
    JournalError,
    JournalFailed,
    JournalFull,
    JournalStatistics,
    JournalUnreachable,
    LedgerRecord,
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
from .hurry import Hurry
from .postgresql_append import COLUMNS, Append
from .postgresql_link import (
    Connection,
    Link,
    Patience,
    Target,
    begin,
    transaction,
)
from .postgresql_store import Seen, Store
from .postgresql_store import head as stored_head
from .spans import Span
from .sql_rows import verified_record

ANSWER_S = 3.0
"""The longest wait for one answer: longer than a commit takes behind those of several instances on
a disk worth having, short enough to try again within the 8 s in which a sender is answered."""

CALL_S = 6.0
"""The longest that one call takes with connecting anew and running again."""

POLL_S = 1.0
"""How often the follower asks where no notification comes."""

# Of another journal that ended; nobody is in doubt about a batch for so long.
FORGET_OLD = "DELETE FROM markers WHERE written_at < now() - interval '1 day'"
BYTES = """
SELECT coalesce(sum(pg_total_relation_size(pg_class.oid)), 0)::bigint
FROM pg_class JOIN pg_namespace ON relnamespace = pg_namespace.oid
WHERE nspname = current_schema() AND relkind = 'r'
"""

T = TypeVar("T")


class PostgresqlJournal:
    """Keeps records in a schema of a PostgreSQL database; see the module for what it owns."""

    durability: str

    def __init__(
        self,
        url: str,
        *,
        durability: Literal["full", "normal"] = "full",
        jitter: Callable[[], float],
        schema: str = "rockets",
        answer_s: float = ANSWER_S,
        call_s: float = CALL_S,
        note_limits: NoteLimits = NOTE_LIMITS,
    ) -> None:
        """Connect, create the tables where they are missing; raises `JournalRefused`.

        `url` is what libpq takes; its own timeouts count before ours. `jitter` returns random
        numbers from 0 to 1. With durability `normal` the server may run without fsync.
        """
        self.durability = durability
        self._note_limits = note_limits
        self._pid = os.getpid()
        self._failure: JournalFailed | None = None
        self._batch = 0
        self._closed = False
        self._claimed_on: int | None = None
        self._store = Store(schema, durability, answer_s)
        self._hurry = hurry = Hurry()
        target = Target.of(url, answer_s)

        def link(prepare: Callable[[Connection], None]) -> Link:
            patience = Patience(hurry, answer_s=answer_s, call_s=call_s)
            return Link(target, prepare, patience, jitter)

        self._writing = link(lambda fresh: self._store.prepare(fresh, read_only=False))
        self._reading = link(lambda fresh: self._store.prepare(fresh, read_only=True))
        self._following = link(self._prepare_following)
        self._woken = False
        self._waking, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            self._writing.open()
            self._id = self._writing.ask(_begin_anew)
        except JournalError as error:
            self._release()
            raise as_refusal(error) from error

    def append(self, records: Sequence[Record], notes: Sequence[Note] = ()) -> Appended:
        """Store what is new in one transaction; run again where its outcome is not known."""
        self._batch += 1
        marker = self._id, self._batch
        batch = Append(self._store, self._note_limits, marker, records, notes)
        try:
            return self._write(batch.run)
        except (JournalBusy, JournalFull) as error:
            if batch.is_in_doubt:
                # Met by another try, it does not say that the first has stored nothing.
                raise JournalUnreachable(*error.args) from error
            raise

    def read(self, stream: str, first: int, last: int, *, limit: int) -> list[StoredRecord]:
        """Return records of one stream, numbers `first` to `last` inclusive, rising."""
        where = "WHERE stream = %s AND number BETWEEN %s AND %s ORDER BY number LIMIT %s"
        return self._read(lambda c: _select(c, where, (stream, first, last, limit)))

    def read_each(self, spans: Sequence[Span]) -> list[StoredRecord]:
        """Return the records of many spans of numbers, in the order of these."""
        return self._read(lambda c: postgresql_spans.read(c, spans))

    def follow(self, after: Position, *, limit: int) -> list[StoredRecord]:
        """Return the records committed after a position, in commit order."""

        def follow(connection: Connection) -> list[StoredRecord]:
            known = self._store.watermark.seen
            floor = known if known.position >= after else Seen(after)
            self._store.watermark.check(floor, stored_head(connection))
            where = "WHERE position > %s ORDER BY position LIMIT %s"
            return _select(connection, where, (after, limit))

        return self._read(follow)

    def read_notes(
        self, kind: str, *, stream: str | None, limit: int, before: NoteId | None = None
    ) -> list[StoredNote]:
        """Return notes of one kind, highest id first, of one stream or of all."""
        return self._read(lambda c: postgresql_notes.read(c, kind, stream, before, limit))

    def note(self, note_id: NoteId) -> StoredNote | None:
        """Return one note, None when there is none with this id."""
        return self._read(lambda c: postgresql_notes.one(c, note_id))

    def count_notes(self, kind: str) -> dict[str, int]:
        """Return how many notes of one kind each stream has."""
        return self._read(lambda c: postgresql_notes.count_by_stream(c, kind))

    def note_totals(self, kind: str) -> NoteTotals:
        """Return how many notes of one kind are kept, and how many were dropped so far."""
        return self._read(lambda c: postgresql_notes.totals(c, kind))

    def remove_note(self, note_id: NoteId) -> bool:
        """Remove a note in one transaction; says whether it was there."""
        return self._write_alone(lambda c: postgresql_notes.remove(c, note_id))

    def keep_ledgers(self, ledgers: Sequence[LedgerRecord]) -> None:
        """Keep these in place of what their streams had, in one transaction.

        Raises `JournalBusy` where another instance has claimed the round.
        """
        self._write_claimed(lambda c: postgresql_ledgers.keep(c, ledgers))

    def end_round(self, round: Round) -> None:
        """Store a round that is complete; it and the one before it are kept. Ends the claim."""
        self._write_claimed(lambda c: postgresql_ledgers.end_round(c, round))
        self.release_round()

    def rounds(self) -> list[Round]:
        """Return the two newest rounds, newest first; a damaged one is left out."""
        return self._read(postgresql_ledgers.rounds)

    def ledgers(self, after: str, *, limit: int) -> list[StoredLedger]:
        """Return the ledgers of the streams behind a name, in the order of names."""
        return self._read(lambda c: postgresql_ledgers.read(c, after, limit))

    def drop_ledgers(self) -> None:
        """Remove all ledgers and rounds in one transaction."""
        self._write_claimed(postgresql_ledgers.drop)

    def claim_round(self) -> bool:
        """Claim the round for this instance; False where another has it."""
        lock = self._store.locks.round
        if self._claimed_on is not None and self._writing.has(self._claimed_on):
            return True
        claimed = self._write(lambda c: postgresql_ledgers.claim(c, lock))
        self._claimed_on = self._writing.connections if claimed else None
        return claimed

    def release_round(self) -> None:
        """Give the claim back; where its connection is gone it is given back already."""
        claimed_on, self._claimed_on = self._claimed_on, None
        if claimed_on is not None and self._writing.has(claimed_on):
            lock = self._store.locks.round
            with suppress(JournalUnreachable):
                self._write(lambda c: postgresql_ledgers.release(c, lock))

    def prune(self, prunings: Sequence[Pruned], *, limit: int) -> int:
        """Remove records of some streams, lowest first, in one transaction; returns how many."""
        return self._write_alone(lambda c: postgresql_pruned.prune(c, prunings, limit))

    def pruned(self, after: str, *, limit: int) -> list[Pruned]:
        """Return what was pruned of the streams behind a name, in the order of names."""
        return self._read(lambda c: postgresql_pruned.read(c, after, limit))

    def pruned_of(self, stream: str) -> Pruned | None:
        """Return what was pruned of one stream, None where nothing was."""
        return self._read(lambda c: postgresql_pruned.one(c, stream))

    def head(self) -> Position:
        """Return the position of the last record in the store, 0 when there is none."""
        return self._read(self._checked_head)

    def wait_behind(self, position: Position, timeout_s: float) -> bool:
        """Wait until the store holds a record behind a position; says whether it does."""
        until = monotonic() + timeout_s
        interrupted = self._following.patience.interrupted
        try:
            return self._ask(self._following, lambda c: self._wait(c, position, until))
        except JournalUnreachable:
            if interrupted.is_set():
                return False
            raise
        finally:
            interrupted.clear()

    def interrupt(self) -> None:
        """Make a running `wait_behind`, or else the next, return; from any thread."""
        self._following.patience.interrupted.set()
        with suppress(BlockingIOError):  # full of others
            os.write(self._wake, b".")

    def hurry(self) -> None:
        """Look no longer for a server that is gone; from any thread."""
        self._hurry.begin()

    def statistics(self) -> JournalStatistics:
        """Return the bytes of the tables; of the server's disk nothing is known."""
        row = self._read(lambda c: c.execute(BYTES).fetchone())
        return JournalStatistics(row[0] if row else 0, 0, 0, 0, 0)

    @property
    def maintenance_due(self) -> bool:
        """Say no: the server does its own housekeeping."""
        return False

    def prepare_maintenance(self) -> None:
        """Do nothing, as `maintain`."""

    def maintain(self) -> None:
        """Do nothing: the server does its own housekeeping."""

    def close(self) -> None:
        """Let the connections go; nothing may be using them any more."""
        if not self._closed:
            self._closed = True
            self._failure = JournalFailed("the journal is closed")
            self._release()

    def _release(self) -> None:
        for link in (self._writing, self._reading, self._following):
            link.close()
        os.close(self._waking)
        os.close(self._wake)

    def _prepare_following(self, connection: Connection) -> None:
        self._store.prepare(connection, read_only=True)
        connection.add_notify_handler(self._note_woken)
        connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self._store.channel)))

    def _note_woken(self, _: psycopg.Notify) -> None:
        self._woken = True

    def _wait(self, connection: Connection, position: Position, until: float) -> bool:
        patience = self._following.patience
        while True:
            # Before the question: a notification that comes with its answer is not lost.
            self._woken = False
            patience.begin()
            if self._checked_head(connection) > position:
                return True
            left = until - monotonic()
            if left <= 0 or patience.interrupted.is_set():
                return False
            if not self._woken:
                self._sleep(connection, min(left, POLL_S))

    def _sleep(self, connection: Connection, timeout_s: float) -> None:
        """Wait for a notification, for the connection to end or for `interrupt`."""
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLIN)
        poll.register(self._waking, select.POLLIN)
        poll.poll(timeout_s * 1000)
        with suppress(BlockingIOError):  # nothing in it, as nearly always
            os.read(self._waking, 1 << 16)

    def _checked_head(self, connection: Connection) -> Position:
        floor = self._store.watermark.seen
        head = stored_head(connection)
        self._store.watermark.check(floor, head)
        return head.position

    def _read(self, fn: Callable[[Connection], T]) -> T:
        return self._ask(self._reading, fn)

    def _write(self, fn: Callable[[Connection], T]) -> T:
        return self._ask(self._writing, fn)

    def _write_alone(self, fn: Callable[[Connection], T]) -> T:
        """Run a transaction that keeps everybody from appending; ambiguous, it is not run again."""

        def run(connection: Connection) -> T:
            with transaction(connection):
                with connection.pipeline():
                    begin(connection, self._store.locks.append)
                return fn(connection)

        return self._ask(self._writing, run, repeatable=False)

    def _write_claimed(self, fn: Callable[[Connection], None]) -> None:
        """Run a transaction that nobody else's round is in the way of, and our own not lost."""

        def run(connection: Connection) -> None:
            if self._claimed_on is not None and not self._writing.has(self._claimed_on):
                # Another instance may have ended a round since, with newer ledgers than ours.
                raise JournalUnreachable("the claim of the round went with its connection")
            with transaction(connection):
                postgresql_ledgers.begin(connection, self._store.locks.round)
                fn(connection)

        self._ask(self._writing, run, repeatable=False)

    def _ask(self, link: Link, fn: Callable[[Connection], T], *, repeatable: bool = True) -> T:
        # A connection that crosses a fork would be spoken to by two processes.
        assert os.getpid() == self._pid, "the journal was opened by another process"
        if self._failure is not None:
            raise type(self._failure)(*self._failure.args) from self._failure
        try:
            return link.ask(fn, repeatable=repeatable)
        except JournalFailed as error:
            # A reader that finds damage poisons the journal as well: what else is damaged?
            self._failure = error
            raise
        except JournalBusy as error:
            if link is self._writing:
                raise
            # What only reads has nothing that could be busy but the store.
            raise JournalUnreachable(*error.args) from error
        except JournalError:
            raise
        except Exception as error:
            self._failure = JournalFailed(f"the journal has failed: {error!r}")
            raise self._failure from error


def _select(
    connection: Connection, where: str, values: tuple[str | int, ...]
) -> list[StoredRecord]:
    rows = connection.execute(f"SELECT {COLUMNS} FROM records {where}", values, binary=True)
    return [verified_record(*row) for row in rows.fetchall()]


def _begin_anew(connection: Connection) -> object:
    """Return an id for this journal's markers, and forget those of others that ended long ago."""
    connection.execute(FORGET_OLD)
    row: Any = connection.execute("SELECT gen_random_uuid()").fetchone()
    return row[0]
