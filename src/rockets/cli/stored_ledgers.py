"""Reads the kept ledgers of a database beside a server that works on it, slice by slice.

A slice is of one moment: its ledgers, the round they belong to, the bases that stand for what was
pruned, and the last record there was.
A ledger of one moment and a round of another say nothing together, and the same slice read twice
may differ; so who compares ledgers with records takes those up to the head of the slice.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import apsw
import msgspec

from rockets.actors.recovery import usable_rounds
from rockets.cli.stored_records import ROUNDS_SINCE
from rockets.journal import (
    LedgersDamaged,
    Position,
    Pruned,
    StoredLedger,
    sqlite_ledgers,
    sqlite_pruned,
)
from rockets.journal.sqlite_file import last_position

# 250 KB, read in a few milliseconds.
SLICE_LEDGERS = 1_000
# Behind every name there can be.
LAST_NAME = "\U0010ffff"


class LedgerSlice(msgspec.Struct, frozen=True):
    """What is kept of the streams behind `after` and up to `through`, at the time of `head`.

    `began` is where a start would begin to apply records. It would do so with the first one, and
    take no ledger, where no round is usable or, by `damage`, the ledgers cannot be read. Then
    nothing is pruned either, and `bases` are not read beforehand.
    """

    after: str
    through: str
    head: Position
    began: Position = Position(0)
    ledgers: tuple[StoredLedger, ...] = ()
    bases: Mapping[str, Pruned] | None = None
    damage: str | None = None


def ledger_slices(connection: apsw.Connection) -> Iterator[LedgerSlice]:
    """Give slices that together cover every name, whether or not it has a ledger."""
    after = ""
    while True:
        read = _read(connection, after)
        yield read
        if read.through == LAST_NAME:
            return
        after = read.through


def damaged_rounds(connection: apsw.Connection) -> int:
    """Count the rounds that are stored and cannot be used, whatever the rules."""
    if not _has_rounds(connection):
        return 0
    with _one_moment(connection):
        stored: Any = connection.execute("SELECT count(*) FROM rounds").get
        return int(stored) - len(sqlite_ledgers.rounds(connection))


def _read(connection: apsw.Connection, after: str) -> LedgerSlice:
    with _one_moment(connection):
        head = last_position(connection)
        rounds = sqlite_ledgers.rounds(connection) if _has_rounds(connection) else []
        usable = usable_rounds(rounds)
        if not usable:
            return LedgerSlice(after, LAST_NAME, head)
        try:
            ledgers = sqlite_ledgers.read(connection, after, SLICE_LEDGERS)
        except (LedgersDamaged, apsw.CorruptError) as error:
            return LedgerSlice(after, LAST_NAME, head, damage=str(error))
        through = ledgers[-1].stream if len(ledgers) == SLICE_LEDGERS else LAST_NAME
        bases = _bases(connection, after, through)
    return LedgerSlice(after, through, head, usable[0].began, tuple(ledgers), bases)


def _bases(connection: apsw.Connection, after: str, through: str) -> dict[str, Pruned]:
    bases: dict[str, Pruned] = {}
    while page := sqlite_pruned.read(connection, after, SLICE_LEDGERS):
        bases |= {each.stream: each for each in page if each.stream <= through}
        after = page[-1].stream
        if after > through:
            break
    return bases


def _has_rounds(connection: apsw.Connection) -> bool:
    """Say whether the database has come as far as the version whose rounds a start uses."""
    version: Any = connection.pragma("user_version")
    return bool(version >= ROUNDS_SINCE)


@contextmanager
def _one_moment(connection: apsw.Connection) -> Iterator[None]:
    connection.execute("BEGIN")
    try:
        yield
    finally:
        if connection.in_transaction:  # after some errors SQLite has ended it itself
            connection.execute("ROLLBACK")
