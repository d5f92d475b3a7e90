"""The notes of the SQLite journal: kept once and counted, bounded by kind, paged, removed.

The functions run inside a transaction or on a reading connection of `sqlite`, which owns both and
translates the errors.
The invariant: `note_kinds` says how many notes of a kind there are, since triggers keep it in the
commit that changes them.
"""

from collections.abc import Sequence
from typing import Any

import apsw

from .base import Note, NoteId, NoteLimits, NoteTotals, StoredNote
from .sql_rows import note_mark, verified_note

KEEP = (
    "INSERT INTO notes (kind, stream, number, key, body, noted_at, last_at, checksum)"
    " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, ?7)"
    " ON CONFLICT (kind, stream, number, key)"
    " DO UPDATE SET count = count + 1, last_at = max(last_at, excluded.last_at)"
    " RETURNING count"
)
SELECT = (
    "SELECT note, kind, stream, number, key, body, noted_at, count, last_at, checksum FROM notes"
)
DROP_OLDEST = (
    "DELETE FROM notes WHERE note = (SELECT note FROM notes WHERE kind = ? ORDER BY note LIMIT 1)"
)


def keep(
    connection: apsw.Connection, notes: Sequence[Note], limits: NoteLimits
) -> tuple[bool, ...]:
    """Keep or count every note, then bound the kinds; says which notes were new."""
    new = tuple(connection.execute(KEEP, _row(note)).get == 1 for note in notes)
    # Sorted, so that equal appends do equal work.
    for kind in sorted({note.kind for note in notes}):
        _bound(connection, kind, limits)
    return new


def read(
    connection: apsw.Connection, kind: str, stream: str | None, before: NoteId | None, limit: int
) -> list[StoredNote]:
    """Return a page of notes, highest id first."""
    where, values = "kind = ?", [kind]
    if stream is not None:
        where, values = "kind = ? AND stream = ?", [kind, stream]
    last = before - 1 if before is not None else 2**63 - 1
    sql = f"{SELECT} WHERE {where} AND note <= ? ORDER BY note DESC LIMIT ?"
    rows = connection.execute(sql, (*values, last, limit)).fetchall()
    return [verified_note(*row) for row in rows]


def one(connection: apsw.Connection, note_id: NoteId) -> StoredNote | None:
    """Return one note."""
    row: Any = connection.execute(f"{SELECT} WHERE note = ?", (note_id,)).fetchone()
    return None if row is None else verified_note(*row)


def count_by_stream(connection: apsw.Connection, kind: str) -> dict[str, int]:
    """Return how many notes of one kind each stream has."""
    sql = "SELECT stream, count(*) FROM notes WHERE kind = ? GROUP BY stream"
    return dict(connection.execute(sql, (kind,)))


def totals(connection: apsw.Connection, kind: str) -> NoteTotals:
    """Return what `note_kinds` says."""
    sql = "SELECT kept, dropped FROM note_kinds WHERE kind = ?"
    row: Any = connection.execute(sql, (kind,)).fetchone()
    return NoteTotals() if row is None else NoteTotals(*row)


def remove(connection: apsw.Connection, note_id: NoteId) -> bool:
    """Remove one note; says whether it was there."""
    connection.execute("DELETE FROM notes WHERE note = ?", (note_id,))
    return connection.changes() > 0


def _bound(connection: apsw.Connection, kind: str, limits: NoteLimits) -> None:
    """Drop the oldest notes of a kind until it is within its limits, and count them."""
    dropped = 0
    while _is_over(connection, kind, limits):
        connection.execute(DROP_OLDEST, (kind,))
        dropped += 1
    if dropped:
        sql = "UPDATE note_kinds SET dropped = dropped + ? WHERE kind = ?"
        connection.execute(sql, (dropped, kind))


def _is_over(connection: apsw.Connection, kind: str, limits: NoteLimits) -> bool:
    sql = "SELECT kept, bytes FROM note_kinds WHERE kind = ?"
    row: Any = connection.execute(sql, (kind,)).get
    kept, size = row
    return bool(kept > limits.count_max or size > limits.bytes_max)


def _row(note: Note) -> tuple[str, str, int, bytes, bytes, int, bytes]:
    values = note.kind, note.stream, note.number, note.key, note.body, note.noted_at
    return *values, note_mark(note)
