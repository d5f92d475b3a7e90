"""The ledgers and rounds of the PostgreSQL journal: claimed, kept, read a slice at a time, dropped.

One instance at a time keeps them. It claims the round by an advisory lock of its writing session,
which ends with the session; everything that writes here takes the same lock for its transaction,
so that whoever has no claim is kept out while another instance has one.
The invariant: what is damaged is told as damaged, never as a ledger and never as a failure of the
journal, because all of this can be made again from the records.
"""

from collections.abc import Sequence
from operator import lt
from typing import Any

from .base import JournalBusy, LedgerRecord, LedgersDamaged, Position, Round, StoredLedger
from .checksum import checksum, light_checksum
from .postgresql_link import Connection

KEEP = """
INSERT INTO ledgers (stream, data, checksum)
SELECT stream, data, checksum FROM unnest(%b::text[], %b::bytea[], %b::bigint[])
    AS given (stream, data, checksum)
ON CONFLICT (stream) DO UPDATE SET data = excluded.data, checksum = excluded.checksum
"""
SELECT = "SELECT stream, data, checksum FROM ledgers WHERE stream >= %s ORDER BY stream LIMIT %s"
SELECT_ROUNDS = "SELECT began, rules, ledgers, checksum FROM rounds ORDER BY newer DESC"
INSERT_ROUND = (
    "INSERT INTO rounds (newer, began, rules, ledgers, checksum) VALUES (%s, %s, %s, %s, %s)"
)


def claim(connection: Connection, lock: int) -> bool:
    """Claim for the session; once more where it is claimed already would need a second release."""
    return _is_true(connection, "SELECT pg_try_advisory_lock(%s)", lock)


def release(connection: Connection, lock: int) -> None:
    """Give the session's claim back."""
    connection.execute("SELECT pg_advisory_unlock(%s)", (lock,))


def begin(connection: Connection, lock: int) -> None:
    """Begin a transaction that has the claim, by its session or of its own; else `JournalBusy`."""
    connection.execute("BEGIN", prepare=False)
    if not _is_true(connection, "SELECT pg_try_advisory_xact_lock(%s)", lock):
        raise JournalBusy("another instance keeps the ledgers")


def keep(connection: Connection, ledgers: Sequence[LedgerRecord]) -> None:
    """Insert or replace every ledger, in the order of streams, neighbours by neighbours."""
    last = {each.stream: each.data for each in ledgers}
    rows = [(stream, data, light_checksum(stream, data)) for stream, data in sorted(last.items())]
    if rows:
        connection.execute(KEEP, [list(column) for column in zip(*rows, strict=True)])


def read(connection: Connection, after: str, limit: int) -> list[StoredLedger]:
    """Return a slice of the ledgers, in the order of streams."""
    values = after, limit + (after != "")
    rows = connection.execute(SELECT, values, binary=True).fetchall()
    # A damaged index can lead the search astray, and then past others; so a slice begins with
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


def end_round(connection: Connection, ended: Round) -> None:
    """Make this the newest round, and the newest whole one of before the other."""
    kept = [*rounds(connection)[:1], ended]
    connection.execute("DELETE FROM rounds")
    for newer, each in enumerate(kept):
        values = newer, each.began, each.rules, each.ledgers, _mark(each)
        connection.execute(INSERT_ROUND, values)


def rounds(connection: Connection) -> list[Round]:
    """Return the rounds that are not damaged, newest first."""
    kept = [
        (Round(Position(began), rules, ledgers), mark)
        for began, rules, ledgers, mark in connection.execute(SELECT_ROUNDS).fetchall()
    ]
    return [each for each, mark in kept if _mark(each) == mark]


def drop(connection: Connection) -> None:
    """Remove all of them, whatever their number."""
    connection.execute("TRUNCATE ledgers, rounds")


def _mark(each: Round) -> bytes:
    return checksum(f"{each.ledgers} ledgers", each.began, each.rules.encode())


def _is_true(connection: Connection, query: str, lock: int) -> bool:
    row: Any = connection.execute(query, (lock,)).fetchone()
    return bool(row[0])
