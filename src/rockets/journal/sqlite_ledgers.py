"""The ledgers and rounds of the SQLite journal: kept, read a slice at a time, dropped.

The functions run inside a transaction or on a reading connection of `sqlite`, which owns both and
translates the errors.
The invariant: what is damaged is told as damaged, never as a ledger and never as a failure of the
journal, because all of this can be made again from the records.
"""

from collections.abc import Sequence
from operator import lt
from typing import Any

import apsw

from .base import LedgerRecord, LedgersDamaged, Position, Round, StoredLedger
from .checksum import checksum, light_checksum

KEEP = (
    "INSERT INTO ledgers (stream, data, checksum) VALUES (?, ?, ?)"
    " ON CONFLICT (stream) DO UPDATE SET data = excluded.data, checksum = excluded.checksum"
)
SELECT = "SELECT stream, data, checksum FROM ledgers WHERE stream >= ? ORDER BY stream LIMIT ?"
# As bytes, because damaged text may be no UTF-8, which would be an error of the whole query.
SELECT_ROUNDS = (
    "SELECT began, ifnull(CAST(rules AS BLOB), x''), ledgers, checksum"
    " FROM rounds ORDER BY newer DESC"
)
INSERT_ROUND = "INSERT INTO rounds (newer, began, rules, ledgers, checksum) VALUES (?, ?, ?, ?, ?)"


def keep(connection: apsw.Connection, ledgers: Sequence[LedgerRecord]) -> None:
    """Insert or replace every ledger."""
    rows = [(each.stream, each.data, light_checksum(each.stream, each.data)) for each in ledgers]
    connection.executemany(KEEP, rows)


def read(connection: apsw.Connection, after: str, limit: int) -> list[StoredLedger]:
    """Return a slice of the ledgers, in the order of streams."""
    try:
        rows: Any = connection.execute(SELECT, (after, limit + (after != ""))).fetchall()
        # A damaged name can lead the search astray, and then past others; so a slice begins with
        # the end of the one before, and rises.
        if after and (not rows or rows.pop(0)[0] != after):
            raise LedgersDamaged(f"the ledger of {after!r} cannot be found again")
        streams = [row[0] for row in rows]
        if not all(map(lt, [after, *streams], streams)):
            raise LedgersDamaged(f"the ledgers behind {after!r} are not in the order of streams")
        return [
            StoredLedger(stream, data if light_checksum(stream, data) == mark else None)
            for stream, data, mark in rows
        ]
    except (UnicodeDecodeError, TypeError) as error:
        # Text that is none, or a column that has become one of another type.
        raise LedgersDamaged(f"the ledgers behind {after!r} cannot be read: {error}") from error


def end_round(connection: apsw.Connection, ended: Round) -> None:
    """Make this the newest round, and the newest whole one of before the other."""
    kept = [*rounds(connection)[:1], ended]
    connection.execute("DELETE FROM rounds")
    for newer, each in enumerate(kept):
        mark = _round_mark(each.began, each.rules.encode(), each.ledgers)
        connection.execute(INSERT_ROUND, (newer, each.began, each.rules, each.ledgers, mark))


def rounds(connection: apsw.Connection) -> list[Round]:
    """Return the rounds that are not damaged, newest first."""
    rows: Any = connection.execute(SELECT_ROUNDS).fetchall()
    return [
        Round(Position(began), rules.decode(), ledgers)
        for began, rules, ledgers, mark in rows
        if _round_mark(began, rules, ledgers) == mark
    ]


def drop(connection: apsw.Connection) -> None:
    """Remove all of them."""
    connection.execute("DELETE FROM ledgers; DELETE FROM rounds")


def _round_mark(began: int, rules: bytes, ledgers: int) -> bytes:
    return checksum(f"{ledgers} ledgers", began, rules)
