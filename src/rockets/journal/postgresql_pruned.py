"""Pruning in the PostgreSQL journal: records go, and how far, and what stands for them, is kept.

The functions run inside a transaction that has the lock of all appends, or on a reading connection.
The invariants: records and the memory of them change in one commit, and the last record stays,
so that max(position) + 1 never names a position again.
"""

from collections.abc import Sequence

from .base import Pruned
from .postgresql_link import Connection
from .sql_rows import pruned_mark, verified_pruned

# Numbers short of the last record's, where that is of this stream.
DELETE = """
DELETE FROM records WHERE position = ANY (ARRAY(
    SELECT position FROM records
    WHERE stream = %(stream)s AND number <= %(through)s AND number < coalesce((
        SELECT number FROM (SELECT * FROM records ORDER BY position DESC LIMIT 1) AS last
        WHERE stream = %(stream)s
    ), 9223372036854775807)
    ORDER BY number LIMIT %(limit)s
))
"""
REMEMBER = """
INSERT INTO pruned (stream, through, base, checksum) VALUES (%s, %s, %s, %s)
ON CONFLICT (stream) DO UPDATE
SET through = excluded.through, base = excluded.base, checksum = excluded.checksum
"""
SELECT = "SELECT stream, through, base, checksum FROM pruned"


def prune(connection: Connection, prunings: Sequence[Pruned], limit: int) -> int:
    """Remove the lowest numbers of each stream, in their order, short of the last record."""
    removed = 0
    for pruning in prunings:
        removed += _prune_stream(connection, pruning, limit - removed)
    return removed


def _prune_stream(connection: Connection, pruning: Pruned, limit: int) -> int:
    stream, through = pruning.stream, pruning.through
    values = {"stream": stream, "through": through, "limit": limit}
    gone = connection.execute(DELETE, values).rowcount
    if gone:
        known = one(connection, stream)
        if known is None or known.through < through:
            mark = pruned_mark(pruning)
            connection.execute(REMEMBER, (stream, through, pruning.base, mark))
    return gone


def read(connection: Connection, after: str, limit: int) -> list[Pruned]:
    """Return a slice of what was pruned, in the order of streams."""
    sql = f"{SELECT} WHERE stream > %s ORDER BY stream LIMIT %s"
    rows = connection.execute(sql, (after, limit), binary=True).fetchall()
    return [verified_pruned(*row) for row in rows]


def one(connection: Connection, stream: str) -> Pruned | None:
    """Return what was pruned of one stream."""
    found = connection.execute(f"{SELECT} WHERE stream = %s", (stream,), binary=True).fetchone()
    return None if found is None else verified_pruned(*found)
