"""Pruning in the SQLite journal: records go, and how far they went is remembered.

The functions run inside a transaction or on a reading connection of `sqlite`, which owns both and
translates the errors.
The invariants: records and the memory of them change in one commit, and the last record stays,
so that SQLite's choice of max(position) + 1 never names a position again.
"""

from itertools import takewhile
from typing import Any

import apsw

from .base import JournalFailed, Position, Pruned
from .sqlite_notes import checksum

# The index alone answers this.
FIND = (
    "SELECT position, stream, number FROM records"
    " WHERE stream = ? AND number <= ? ORDER BY number LIMIT ?"
)
DELETE = "DELETE FROM records WHERE position = ? AND stream = ? AND number = ?"
REMEMBER = (
    "INSERT INTO pruned (stream, through, checksum) VALUES (?, ?, ?)"
    " ON CONFLICT (stream) DO UPDATE SET through = excluded.through, checksum = excluded.checksum"
)
SELECT = "SELECT stream, through, checksum FROM pruned"


def prune(
    connection: apsw.Connection, stream: str, through: int, limit: int, head: Position
) -> int:
    """Remove the lowest numbers of a stream up to `through` and short of the record at `head`."""
    found: Any = connection.execute(FIND, (stream, through, limit)).fetchall()
    rows = list(takewhile(lambda row: row[0] != head, found))
    if not rows:
        return 0
    before = connection.total_changes()
    connection.executemany(DELETE, rows)
    if connection.total_changes() - before != len(rows):
        raise JournalFailed(f"the index of {stream} points at records of others")
    _remember(connection, stream, rows[-1][2])
    return len(rows)


def read(connection: apsw.Connection, after: str, limit: int) -> list[Pruned]:
    """Return a slice of what was pruned, in the order of streams."""
    sql = f"{SELECT} WHERE stream > ? ORDER BY stream LIMIT ?"
    rows = connection.execute(sql, (after, limit)).fetchall()
    return [_verified(*row) for row in rows]


def _remember(connection: apsw.Connection, stream: str, number: int) -> None:
    """Keep the highest number of all: one that was stored again after it was pruned is lower."""
    known = connection.execute(f"{SELECT} WHERE stream = ?", (stream,)).fetchall()
    through = max([number, *(_verified(*row).through for row in known)])
    connection.execute(REMEMBER, (stream, through, checksum(stream, through, b"")))


def _verified(*row: Any) -> Pruned:
    stream, through, mark = row
    if checksum(stream, through, b"") != mark:
        raise JournalFailed(f"what was pruned of {stream} does not match its checksum")
    return Pruned(stream, through)
