"""The table that long lists are read from: SQLite in memory, since a query lets go of the GIL.

A rocket has one row for both views, or one for each where they differ: behind a gap.
A row holds what lists sort and filter by, not the rocket; who reads a page looks that up.
Nothing here may run in the loop: a scan takes 0.1 s and more for a million rockets.

Every call is one statement, or a few: each return of SQLite to Python has to wait for the GIL, up
to 5 ms while the loop is busy. So rows go in, and pages come out, as one JSON text each.

Measured with 1,000,000 rockets (Python 3.11, a shared machine with 2 cores, 2026-11-24):

| | |
|---|---|
| memory for each rocket | 160 bytes of SQLite, 175 of the process |
| bringing a row up to date | 13-15 µs, of them 5 for the index by speed, 3 for reading JSON |
| a page by channel or speed, anywhere in the list | below 1 ms |
| a page by anything else | 0.1-0.2 s |
| a count of what filters leave, once after each change | 0.1-0.15 s |
| the count of all | 2 ms |

An index for another key would be 55 bytes for each rocket, and 5 µs for each that changes.
"""

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import apsw
import msgspec

from rockets.actors.listing import Cursor, ListQuery
from rockets.actors.table_query import (
    BOTH_VIEWS,
    LATEST_ALONE,
    SETTLED_ALONE,
    Query,
    clamp,
    count_query,
    cursor_of,
    is_filtered,
    page_query,
)
from rockets.domain.ledger import Ledger
from rockets.domain.message_time import instant_parts
from rockets.domain.messages import Channel
from rockets.domain.rocket import Rocket

TOTALS_MAX = 1_000
"""So many counts are remembered while nothing changes."""

_COLUMNS = (
    "channel TEXT NOT NULL",
    "view INTEGER NOT NULL",
    "speed INTEGER",
    "status TEXT NOT NULL",
    "type TEXT",
    "mission TEXT",
    "reason TEXT",
    "missing INTEGER NOT NULL",
    "last INTEGER NOT NULL",
    # An instant in nanoseconds takes more than 64 bits.
    "launched INTEGER",
    "launched_nanos INTEGER",
    "updated INTEGER",
    "updated_nanos INTEGER",
)
_NAMES = [column.split()[0] for column in _COLUMNS]
Row: TypeAlias = tuple[str | int | None, ...]

_SCHEMA = (
    "PRAGMA page_size = 16384",  # a tenth faster to change than 4 KiB, and smaller
    # The table is made of the rockets, so nothing is lost that a rollback would bring back.
    "PRAGMA journal_mode = OFF",
    f"CREATE TABLE rockets ({', '.join(_COLUMNS)}, PRIMARY KEY (channel, view)) "
    "STRICT, WITHOUT ROWID",
    "CREATE INDEX by_speed ON rockets (speed DESC, channel, view)",
)
_REMOVE = "DELETE FROM rockets WHERE channel IN (SELECT value FROM json_each(?))"
# The strange condition keeps the parser from reading ON as a part of FROM.
_PUT = (
    f"INSERT INTO rockets SELECT {', '.join(f'value ->> {i}' for i in range(len(_NAMES)))} "
    "FROM jsonb_each(?) WHERE true ON CONFLICT DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _NAMES[2:])
)


_decode_rows = msgspec.json.Decoder(list[list[str | int | None]]).decode


class TablePage(msgspec.Struct, frozen=True):
    """A page of a list: whose rockets are on it, in their order; the rest is as in `Page`."""

    total: int
    channels: list[Channel]
    following: Cursor | None


class RocketTable:
    """The rows of all rockets; to be used by one thread at a time."""

    def __init__(self) -> None:
        self._database = apsw.Connection(":memory:")
        for statement in _SCHEMA:
            self._database.execute(statement)
        self._apart: set[Channel] = set()  # of these the views differ
        self._totals: dict[Query, int] = {}  # since the last change

    def put(self, rows: Sequence[Row]) -> None:
        """Bring rockets up to date: all rows of each, as `rows_of` makes them."""
        self._totals.clear()
        self._remove_outdated(rows)
        self._database.execute(_PUT, (msgspec.json.encode(rows).decode(),))

    def _remove_outdated(self, rows: Iterable[Row]) -> None:
        """Remove the rows of rockets that had one row and have two now, or the other way round."""
        apart = {Channel(str(row[0])) for row in rows if row[1] != BOTH_VIEWS}
        outdated = (apart - self._apart) | {
            channel
            for channel in self._apart.intersection(row[0] for row in rows)
            if channel not in apart
        }
        if outdated:
            self._database.execute(_REMOVE, (msgspec.json.encode(outdated).decode(),))
            self._apart ^= outdated

    def page(self, query: ListQuery) -> TablePage:
        """List rockets, exactly as `list_page` does."""
        total = self._total(query)
        rows = _decode_rows(self._value(page_query(query)))
        more = len(rows) > query.limit
        rows = rows[: query.limit]
        following = cursor_of(rows[-1], query.sort) if more else None
        return TablePage(total, [Channel(str(row[0])) for row in rows], following)

    def _total(self, query: ListQuery) -> int:
        """Count what matches, once after each change of the table."""
        counting = count_query(query)
        total = self._totals.get(counting)
        if total is None:
            total = int(self._value(counting))
            if not is_filtered(query):
                total -= len(self._apart)
            if len(self._totals) >= TOTALS_MAX:
                self._totals.clear()
            self._totals[counting] = total
        return total

    def _value(self, query: Query) -> str:
        """Run a query that has one value for an answer."""
        [(value,)] = self._database.execute(*query).fetchall()
        return str(value)


def rows_of(ledger: Ledger) -> tuple[Row, ...]:
    """Make the rows of a rocket."""
    latest = ledger.rocket("latest")
    if latest.sequence.complete:
        return (row_of(latest, BOTH_VIEWS),)
    return row_of(latest, LATEST_ALONE), row_of(ledger.rocket("settled"), SETTLED_ALONE)


def row_of(rocket: Rocket, view: int) -> Row:
    """Make a row of a rocket as it is shown. (This is what a change costs the loop: 5 µs.)"""
    speed = rocket.speed
    launched, launched_nanos = _parts(rocket.launched_at)
    updated, updated_nanos = _parts(rocket.updated_at)
    return (
        rocket.channel,
        view,
        None if speed is None else clamp(speed),
        rocket.status,
        rocket.type,
        rocket.mission,
        rocket.explosion_reason,
        rocket.sequence.missing_count,
        rocket.last_message_number,
        launched,
        launched_nanos,
        updated,
        updated_nanos,
    )


def _parts(time: str | None) -> tuple[int | None, int | None]:
    return (None, None) if time is None else instant_parts(time)
