"""One append to the PostgreSQL journal: a transaction that can find out whether it has happened.

    BEGIN; lock of all appends            with the next three lines in one round trip
    marker of this batch, in place of the one of the batch before;
    the head before; insert what is not stored under its key; wake the followers:
    all this in one statement             but where there are only notes
    what is stored instead                only where not everything was new
    notes                                 only where there are any
    COMMIT

The lock puts the transactions of all instances in a row until they have committed. So positions
rise in commit order, following is `position > last` without a hole that fills later, and shuffled
duplicates cannot deadlock. It comes first because a statement sees what was committed before it.

**An ambiguous commit.** Where the connection is lost after COMMIT was sent, it may have happened.
The batch is run again on a new connection, and first looks for its marker, which was written in
that same commit. Behind the lock the answer is final: a server process that is still busy with the
old transaction holds it. With the marker there, the answer is the one worked out the first time:
nothing is counted twice, and what this batch stored is `new`, not a duplicate of itself. Without
it, nothing had happened, and the batch runs as if for the first time.

**Nobody else's promise.** A server flushes the WAL up to a transaction's own commit record before
it answers COMMIT, and one that wrote nothing waits for nothing. What it found may be another
connection's commit that only this server has so far: a wait for a synchronous standby that was cut
short, by a crash or a cancellation, makes a commit visible all the same. A duplicate must not be
answered on the strength of that. Therefore every append writes, at least its marker, and so its own
commit record comes behind everything it has seen and is waited for as the server is set up.
(Having a transaction id alone would not do: a commit without WAL of its own is not flushed.)

The marker is a new row each time and the one before is deleted. A row that is updated would be
found ever more slowly while a backup's snapshot keeps all of its versions.

The invariant: an answer is given only after a COMMIT that was seen to succeed without a warning.
"""

from collections.abc import Sequence
from typing import Any

import psycopg

from . import postgresql_notes
from .base import Appended, JournalFailed, Note, NoteLimits, Position, Record, StoredRecord
from .checksum import checksum
from .postgresql_link import CommitUncertain, Connection, begin, transaction
from .postgresql_store import HEAD, Seen, Store, seen
from .sql_rows import record_row, verified_record

# Written anew for the commit to wait for.
MARKED = "UPDATE markers SET written_at = now() WHERE journal = %s AND batch = %s"
MARK = "INSERT INTO markers (journal, batch) VALUES (%s, %s)"
FORGET = "DELETE FROM markers WHERE journal = %s AND batch < %s"
COLUMNS = "position, stream, number, body, received_at, checksum"
# In both of these the lookup is a subquery that the planner cannot turn into a join: it could read
# all records for a join while they are few, and keep that plan when they are many.
KNOWN = f"""
SELECT {COLUMNS} FROM unnest(%b::text[], %b::bigint[]) AS given (stream, number)
CROSS JOIN LATERAL (
    SELECT position, body, received_at, checksum FROM records AS known
    WHERE known.stream = given.stream AND known.number = given.number OFFSET 0
) AS known
WHERE position <= %s
"""
# ON CONFLICT is for somebody who writes without the lock; that is found by what comes back.
INSERT = f"""
INSERT INTO records ({COLUMNS})
SELECT (SELECT coalesce(max(position), 0) FROM records) + row_number() OVER (ORDER BY nth),
    stream, number, body, received_at, checksum
FROM unnest(%b::text[], %b::bigint[], %b::bytea[], %b::bigint[], %b::bytea[]) WITH ORDINALITY
    AS given (stream, number, body, received_at, checksum, nth)
WHERE (
    SELECT position FROM records AS known
    WHERE known.stream = given.stream AND known.number = given.number
) IS NULL
ORDER BY nth
ON CONFLICT DO NOTHING
RETURNING position
"""

# One statement, since the driver sends each by itself and takes 0.1 ms of processor time for it.
# All parts see what was committed before, so the head is the one before.
# The notification goes out with the commit; where nothing was new it wakes in vain.
APPEND = f"""
WITH forgotten AS ({FORGET}), marked AS ({MARK}), head AS ({HEAD}), inserted AS ({INSERT})
SELECT (SELECT position FROM head), (SELECT checksum FROM head),
    ARRAY(SELECT position FROM inserted ORDER BY position), pg_notify(%s, '')
"""

Key = tuple[str, int]


class Append:
    """A batch of one instance, until it is answered; `run` may be called again after a loss."""

    def __init__(
        self,
        store: Store,
        limits: NoteLimits,
        marker: tuple[object, int],
        records: Sequence[Record],
        notes: Sequence[Note],
    ) -> None:
        """Prepare the rows; `marker` is the instance's id and the batch's number in it."""
        self._store = store
        self._limits = limits
        self._marker = marker
        self._records = records
        self._notes = notes
        # The earliest of a key is the one that counts.
        self._first: dict[Key, int] = {}
        for index, record in enumerate(records):
            self._first.setdefault((record.stream, record.number), index)
        self._rows = [record_row(records[index]) for index in self._first.values()]
        # Where COMMIT was sent: the answer if it has happened.
        self._unsure: Appended | None = None

    @property
    def is_in_doubt(self) -> bool:
        """Whether COMMIT was sent: until `run` returns, what is said of another try says little."""
        return self._unsure is not None

    def run(self, connection: Connection) -> Appended:
        """Store what is new, in one transaction; may raise `CommitUncertain`."""
        with transaction(connection):
            answer = self._unsure
            if answer is None or not self._is_marked(connection):
                self._unsure = None
                answer = self._store_new(connection, begun=answer is not None)
                self._unsure = answer
        self._store.watermark.rise(self._newest(answer))
        return answer

    def _is_marked(self, connection: Connection) -> bool:
        """Say whether the commit in doubt has happened, and write for this one to wait for."""
        try:
            with connection.pipeline():
                begin(connection, self._store.locks.append)
                marked = connection.execute(MARKED, self._marker)
        except psycopg.Error as error:
            # Such as: the old transaction still holds the lock. Of any other append this would
            # say that nothing is stored, of this one nothing is known yet.
            raise CommitUncertain(f"a batch is in doubt: {error}") from error
        return marked.rowcount == 1

    def _store_new(self, connection: Connection, *, begun: bool) -> Appended:
        floor = self._store.watermark.seen
        columns = [list(column) for column in zip(*self._rows, strict=True)]
        with connection.pipeline():
            if not begun:
                begin(connection, self._store.locks.append)
            if columns:
                values = *self._marker, *self._marker, *columns, self._store.channel
                came = connection.execute(APPEND, values)
            else:
                came = connection.execute(HEAD)
                connection.execute(FORGET, self._marker)
                connection.execute(MARK, self._marker)
        before, places = _found(came.fetchone())
        self._store.watermark.check(floor, before)
        stored: dict[Key, StoredRecord] = {}
        # All new is the normal case, and then nothing has to be looked up.
        if len(places) < len(self._rows):
            known = connection.execute(KNOWN, (*columns[:2], before.position), binary=True)
            held = [verified_record(*row) for row in known.fetchall()]
            stored = {(record.stream, record.number): record for record in held}
        if len(stored) + len(places) != len(self._rows) or places != list(
            range(before.position + 1, before.position + 1 + len(places))
        ):
            raise JournalFailed("another program writes to the journal")
        self._add_fresh(stored, before.position)
        notes_new = postgresql_notes.keep(connection, self._notes, self._limits)
        head_after = Position(before.position + len(places))
        return self._answer(stored, notes_new, before.position, head_after)

    def _add_fresh(self, stored: dict[Key, StoredRecord], before: Position) -> None:
        """Add what the store did not hold, at the places the store gives it."""
        position: int = before
        for key, index in self._first.items():
            if key not in stored:
                position += 1
                record = self._records[index]
                stored[key] = StoredRecord(
                    Position(position), *key, record.body, record.received_at
                )

    def _answer(
        self,
        stored: dict[Key, StoredRecord],
        notes_new: tuple[bool, ...],
        before: Position,
        head: Position,
    ) -> Appended:
        new, instead = [], {}
        for index, record in enumerate(self._records):
            key = record.stream, record.number
            is_new = stored[key].position > before and self._first[key] == index
            new.append(is_new)
            if not is_new:
                instead[index] = stored[key]
        return Appended(tuple(new), instead, notes_new, head, before)

    def _newest(self, answer: Appended) -> Seen:
        """Return the last record that this batch has stored; without any, the first of all."""
        last = max((index for index, new in enumerate(answer.new) if new), default=None)
        if last is None:
            return Seen(answer.head)
        record = self._records[last]
        return Seen(answer.head, checksum(record.stream, record.number, record.body))


def _found(row: Any) -> tuple[Seen, list[int]]:
    """Read what `APPEND` or `HEAD` has found: the head before, and the places of what is new."""
    if row is None or row[0] is None:
        return seen(None), [] if row is None else row[2]
    return seen(row[:2]), row[2] if len(row) > 2 else []
