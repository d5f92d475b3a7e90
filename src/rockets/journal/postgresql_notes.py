"""The notes of the PostgreSQL journal: kept once and counted, bounded by kind, paged, removed.

What writes runs inside a transaction that has the lock of all appends, so ids rise in the order of
commits and nobody else counts at the same time.
The invariant: `note_kinds` says how many notes of a kind there are, since every statement that
changes them changes it in the same commit.
"""

from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from .base import Note, NoteId, NoteLimits, NoteTotals, StoredNote
from .postgresql_link import Connection
from .sql_rows import note_mark, verified_note

KEEP = """
INSERT INTO notes (kind, stream, number, key, body, noted_at, count, last_at, checksum)
SELECT kind, stream, number, key, body, noted_at, count, last_at, checksum
FROM unnest(%b::text[], %b::text[], %b::bigint[], %b::bytea[], %b::bytea[], %b::bigint[],
    %b::bigint[], %b::bigint[], %b::bytea[]) WITH ORDINALITY
    AS given (kind, stream, number, key, body, noted_at, count, last_at, checksum, nth)
ORDER BY nth
ON CONFLICT (kind, stream, number, sha256(key)) DO UPDATE
SET count = notes.count + excluded.count, last_at = greatest(notes.last_at, excluded.last_at)
RETURNING kind, stream, number, sha256(key), count
"""
SELECT = (
    "SELECT note, kind, stream, number, key, body, noted_at, count, last_at, checksum FROM notes"
)
# `known` is the kind's row before this change.
ADD = """
INSERT INTO note_kinds AS known (kind, kept, bytes, dropped) VALUES (%s, %s, %s, 0)
ON CONFLICT (kind) DO UPDATE
SET kept = known.kept + excluded.kept, bytes = known.bytes + excluded.bytes
RETURNING kept, bytes
"""
# Of the thousand oldest those that are too many, or too much for the bytes, with all before them.
DROP_OLDEST = """
WITH oldest AS (
    SELECT note, octet_length(body) AS size FROM notes
    WHERE kind = %(kind)s ORDER BY note LIMIT 1000
), counted AS (
    SELECT note, row_number() OVER before - 1 AS fewer, sum(size) OVER before - size AS lighter
    FROM oldest WINDOW before AS (ORDER BY note)
), gone AS (
    DELETE FROM notes WHERE note = ANY (ARRAY(
        SELECT note FROM counted
        WHERE %(kept)s - fewer > %(count_max)s OR %(bytes)s - lighter > %(bytes_max)s
    )) RETURNING octet_length(body) AS size
), sums AS (
    SELECT count(*) AS many, coalesce(sum(size), 0) AS size FROM gone
)
UPDATE note_kinds
SET kept = kept - sums.many, bytes = bytes - sums.size, dropped = dropped + sums.many
FROM sums WHERE kind = %(kind)s
RETURNING kept, bytes
"""
REMOVE = """
WITH gone AS (DELETE FROM notes WHERE note = %s RETURNING kind, octet_length(body) AS size)
UPDATE note_kinds SET kept = kept - 1, bytes = bytes - gone.size
FROM gone WHERE note_kinds.kind = gone.kind
"""

NoteKey = tuple[str, str, int, bytes]


def keep(connection: Connection, notes: Sequence[Note], limits: NoteLimits) -> tuple[bool, ...]:
    """Keep or count every note, then bound the kinds; says which notes were new."""
    if not notes:
        return ()
    first: dict[NoteKey, Note] = {}
    times: Counter[NoteKey] = Counter()
    latest: dict[NoteKey, int] = {}
    keys = [_key(note) for note in notes]
    for key, note in zip(keys, notes, strict=True):
        first.setdefault(key, note)
        times[key] += 1
        latest[key] = max(note.noted_at, latest.get(key, note.noted_at))
    rows = [_row(note, times[key], latest[key]) for key, note in first.items()]
    kept = connection.execute(KEEP, [list(column) for column in zip(*rows, strict=True)])
    counts: dict[Any, int] = {tuple(key): count for *key, count in kept.fetchall()}
    new = {key for key in first if counts[key] == times[key]}
    # Sorted, so that equal appends do equal work.
    for kind in sorted({note.kind for note in notes}):
        _bound(connection, kind, [first[key] for key in new if key[0] == kind], limits)
    # Of several that are equal the first is the new one.
    return tuple([key in new and first[key] is note for key, note in zip(keys, notes, strict=True)])


def read(
    connection: Connection, kind: str, stream: str | None, before: NoteId | None, limit: int
) -> list[StoredNote]:
    """Return a page of notes, highest id first."""
    last = before - 1 if before is not None else 2**63 - 1
    where, values = "kind = %s", [kind]
    if stream is not None:
        where, values = "kind = %s AND stream = %s", [kind, stream]
    sql = f"{SELECT} WHERE {where} AND note <= %s ORDER BY note DESC LIMIT %s"
    rows = connection.execute(sql, (*values, last, limit), binary=True).fetchall()
    return [verified_note(*row) for row in rows]


def one(connection: Connection, note_id: NoteId) -> StoredNote | None:
    """Return one note."""
    row = connection.execute(f"{SELECT} WHERE note = %s", (note_id,), binary=True).fetchone()
    return None if row is None else verified_note(*row)


def count_by_stream(connection: Connection, kind: str) -> dict[str, int]:
    """Return how many notes of one kind each stream has."""
    sql = "SELECT stream, count(*) FROM notes WHERE kind = %s GROUP BY stream"
    return dict(connection.execute(sql, (kind,)).fetchall())


def totals(connection: Connection, kind: str) -> NoteTotals:
    """Return what `note_kinds` says."""
    sql = "SELECT kept, dropped FROM note_kinds WHERE kind = %s"
    row = connection.execute(sql, (kind,)).fetchone()
    return NoteTotals() if row is None else NoteTotals(*row)


def remove(connection: Connection, note_id: NoteId) -> bool:
    """Remove one note; says whether it was there."""
    return connection.execute(REMOVE, (note_id,)).rowcount > 0


def _bound(connection: Connection, kind: str, new: list[Note], limits: NoteLimits) -> None:
    """Count the new notes of a kind, and drop the oldest until it is within its limits."""
    size = sum(len(note.body) for note in new)
    row: Any = connection.execute(ADD, (kind, len(new), size)).fetchone()
    while row[0] > limits.count_max or row[1] > limits.bytes_max:
        values = {"kind": kind, "kept": row[0], "bytes": row[1]}
        values |= {"count_max": limits.count_max, "bytes_max": limits.bytes_max}
        row = connection.execute(DROP_OLDEST, values).fetchone()


def _key(note: Note) -> NoteKey:
    return note.kind, note.stream, note.number, sha256(note.key).digest()


def _row(note: Note, count: int, last_at: int) -> tuple[Any, ...]:
    values = note.kind, note.stream, note.number, note.key, note.body, note.noted_at
    return *values, count, last_at, note_mark(note)
