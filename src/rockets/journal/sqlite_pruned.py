"""Pruning in the SQLite journal: records go, and how far, and what stands for them, is remembered.

The functions run inside a transaction or on a reading connection of `sqlite`, which owns both and
translates the errors.
The invariants: records and the memory of them change in one commit, and the last record stays,
so that SQLite's choice of max(position) + 1 never names a position again.
"""

from collections.abc import Sequence
from itertools import takewhile
from typing import Any

import apsw

from .base import JournalFailed, Position, Pruned
from .sql_rows import pruned_mark, verified_pruned

# The index alone answers this.
FIND = (
    "SELECT position, stream, number FROM records"
    " WHERE stream = ? AND number <= ? ORDER BY number LIMIT ?"
)
DELETE = "DELETE FROM records WHERE position = ? AND stream = ? AND number = ?"
REMEMBER = (
    "INSERT INTO pruned (stream, through, base, checksum) VALUES (?, ?, ?, ?)"
    " ON CONFLICT (stream) DO UPDATE"
    " SET through = excluded.through, base = excluded.base, checksum = excluded.checksum"
)
SELECT = "SELECT stream, through, base, checksum FROM pruned"


def prune(
    connection: apsw.Connection, prunings: Sequence[Pruned], limit: int, head: Position
) -> int:
    """Remove the lowest numbers of each stream, in their order, short of the record at `head`."""
    removed = 0
    for pruning in prunings:
        removed += _prune_stream(connection, pruning, limit - removed, head)
    return removed


def _prune_stream(connection: apsw.Connection, pruning: Pruned, limit: int, head: Position) -> int:
    stream = pruning.stream
    found: Any = connection.execute(FIND, (stream, pruning.through, limit)).fetchall()
    rows = list(takewhile(lambda row: row[0] != head, found))
    if not rows:
        return 0
    before = connection.total_changes()
    connection.executemany(DELETE, rows)
    if connection.total_changes() - before != len(rows):
        raise JournalFailed(f"the index of {stream} points at records of others")
    known = one(connection, stream)
    if known is None or known.through < pruning.through:
        connection.execute(REMEMBER, (stream, pruning.through, pruning.base, pruned_mark(pruning)))
    return len(rows)


def read(connection: apsw.Connection, after: str, limit: int) -> list[Pruned]:
    """Return a slice of what was pruned, in the order of streams."""
    sql = f"{SELECT} WHERE stream > ? ORDER BY stream LIMIT ?"
    rows = connection.execute(sql, (after, limit)).fetchall()
    return [verified_pruned(*row) for row in rows]


def one(connection: apsw.Connection, stream: str) -> Pruned | None:
    """Return what was pruned of one stream."""
    row: Any = connection.execute(f"{SELECT} WHERE stream = ?", (stream,)).fetchone()
    return None if row is None else verified_pruned(*row)
