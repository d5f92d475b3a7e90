"""Lists of rockets, however many there are.

Up to `EXACT_MAX` rockets a list is made in the loop from the read model, and is exact.
Above, a thread reads it from the rocket table, which says whose rockets are on the page; the
rockets shown are those of the read model, and one that has left the page meanwhile is left out.

The table is brought up to date in *refreshes*: a refresh takes the names of what has changed since
the one before, makes rows of them in the loop, in slices between which all others get their turn,
and lets the thread write them.
What the table holds after a refresh is at least as new as that refresh's beginning, so the age of a
list is counted from there.
A list is read after a refresh that began when it had been asked for. One that is read in no time
makes do with a refresh that began at most `QUICK_AGE_MAX_S` ago.

Refreshes follow each other while somebody asks, and `KEEP_S` longer; then only names are noted.
The first list of all waits until the table is made, and one after a long pause until it has caught
up. (Measured: 30 s for 1,000,000 changed rockets, Python 3.11 on a shared machine with 2 cores,
2026-11-24; half of that time is the loop's, in slices. Only the names of a million rockets are
listed at once, when the table is made: 20-30 ms.)
A rocket that changes while somebody asks costs 9 µs in the loop, 6 more where it has no actor, and
15 in the thread; 40 to 50 in all, with what waits and crosses over, where two cores are busy.

Lists are read one at a time, so that a refresh waits for one of them at most.
"""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import structlog
import trio

from rockets.actors.listing import ListQuery, Page, is_on_page, sort_rockets
from rockets.actors.read_model import ReadModel
from rockets.actors.rocket_table import RocketTable, Row, TablePage, rows_of
from rockets.actors.table_query import is_quick
from rockets.domain.messages import Channel
from rockets.domain.rocket import Rocket
from rockets.journal.thread import Hop

log = structlog.get_logger()

EXACT_MAX = 10_000
"""A list of so many rockets takes 15 ms of the loop."""

QUICK_AGE_MAX_S = 0.2
"""Leaves 50 ms of the 250 that a list may be old, for reading it and for what the thread is at."""

REFRESH_S = 0.2
"""Between the beginnings of two refreshes that nobody waits for: a list that does wait finds at
most so much to make up for, 80 ms with 10,000 changes a second. (Measured: a row costs half as much
again in refreshes of 250 as in refreshes of 2,000.)"""

SHORT_REFRESH_S = 0.1
"""After a longer refresh there is another one before anybody reads: much has changed meanwhile."""

KEEP_S = 5.0
"""A client that asks more seldom waits for a refresh that makes up for the pause."""

ROWS_AT_ONCE = 150
"""One to two milliseconds; then others get their turn."""

GAPS_FOR_A_ROW = 10
"""A rocket with so many gaps takes as long as another one."""

ROWS_WRITTEN_MAX = 2_000
"""A list waits for the thread while it writes so many: 30 ms."""

ROCKETS_AT_ONCE = 100
"""Of a page; about a millisecond as well."""


class ListFailed(Exception):
    """The table could not be made, which is a mistake of the service; the next list tries again."""


class Listed(msgspec.Struct, frozen=True):
    """A page, and how old it may be; None where it is exact.

    It misses no change up to this version of the read model, and may show later ones.
    """

    page: Page
    age_ms: int | None
    version: int


class _Refresh:
    """A refresh that lists wait for."""

    def __init__(self) -> None:
        self.over = trio.Event()
        self.error: Exception | None = None


class RocketLists:
    """Answers lists; see the module."""

    def __init__(self, read_model: ReadModel, *, hop: Hop, exact_max: int) -> None:
        self._read_model = read_model
        self._hop = hop
        self._exact_max = exact_max
        self._table: RocketTable | None = None
        self._begun = 0  # so many refreshes
        self._over = 0  # the last refresh that is over, by its number
        self._as_of = -math.inf  # when that one began
        self._version = 0  # of the read model, then
        self._asked_at = -math.inf
        self._wanted = trio.Event()  # somebody waits for another refresh
        self._refresh = _Refresh()
        self._reading = trio.StrictFIFOLock()

    async def page(self, query: ListQuery) -> Listed:
        """List rockets as `list_page` does; raises ListFailed where the table cannot be made."""
        if len(self._read_model) <= self._exact_max:
            await trio.lowlevel.checkpoint()
            return Listed(self._read_model.page(query), None, self._read_model.version)
        async with self._reading:
            table = await self._wait_fresh(quick=is_quick(query))
            as_of, version = self._as_of, self._version
            found = await self._hop(table.page, query)
        page = await self._show(query, found)
        return Listed(page, math.ceil((trio.current_time() - as_of) * 1_000), version)

    async def _wait_fresh(self, *, quick: bool) -> RocketTable:
        """Wait until the table is fresh enough; the module says what that is."""
        needed = self._begun + 1
        while True:
            self._asked_at = now = trio.current_time()
            fresh = self._over >= needed or (quick and self._as_of >= now - QUICK_AGE_MAX_S)
            if fresh and self._table is not None:
                return self._table
            self._wanted.set()
            awaited = self._refresh
            await awaited.over.wait()
            if awaited.error is not None:
                raise ListFailed(repr(awaited.error)) from awaited.error

    async def _show(self, query: ListQuery, found: TablePage) -> Page:
        """Look the rockets of a page up; what has changed since may have left it or moved on it."""
        rockets: list[Rocket] = []
        for start in range(0, len(found.channels), ROCKETS_AT_ONCE):
            await trio.lowlevel.checkpoint()
            for channel in found.channels[start : start + ROCKETS_AT_ONCE]:
                rocket = self._read_model.rocket(channel, query.view)
                assert rocket is not None, "a published rocket stays published"
                if is_on_page(rocket, query, found.following):
                    rockets.append(rocket)
        return Page(found.total, sort_rockets(rockets, query.sort), found.following)

    async def keep(self) -> None:
        """Bring the table up to date while somebody asks, for ever."""
        while True:
            await self._wait_due()
            error = await self._try_catch_up()
            self._wanted = trio.Event()
            over, self._refresh = self._refresh, _Refresh()
            over.error = error
            over.over.set()

    async def _wait_due(self) -> None:
        """Wait until somebody waits for a refresh, or might soon."""
        due = self._as_of + REFRESH_S
        with trio.move_on_at(due if due < self._asked_at + KEEP_S else math.inf):
            await self._wanted.wait()

    async def _try_catch_up(self) -> Exception | None:
        """Bring the table up to date; where that fails, give the error and forget the table.

        Messages are taken all the same: no list is worth more than they are.
        """
        try:
            await self._catch_up()
        except Exception as error:
            log.exception("rocket_table_failed")
            self._table = self._read_model.unlisted = None
            self._asked_at = -math.inf
            return error
        return None

    async def _catch_up(self) -> None:
        """Make refreshes until one is short, or they get no shorter."""
        before = math.inf
        while True:
            began, version = trio.current_time(), self._read_model.version
            self._begun += 1
            await self._write(self._take_changed())
            self._over, self._as_of, self._version = self._begun, began, version
            lasted = trio.current_time() - began
            if lasted <= SHORT_REFRESH_S or lasted >= before:
                return
            before = lasted

    def _take_changed(self) -> list[Channel] | set[Channel]:
        """Give the channels that the table must be told about."""
        changed, self._read_model.unlisted = self._read_model.unlisted, set()
        if self._table is None or changed is None:
            self._table = RocketTable()
            return self._read_model.channels()
        return changed

    async def _write(self, channels: list[Channel] | set[Channel]) -> None:
        """Write the rows of these rockets.

        Takes the names out one by one: to drop a million at once would hold the loop.
        """
        assert self._table is not None
        rows: list[Row] = []
        room = float(ROWS_AT_ONCE)
        while channels:
            ledger = self._read_model.ledger(channels.pop())
            assert ledger is not None, "a published rocket stays published"
            rows += rows_of(ledger)
            room -= 1 + ledger.gap_count / GAPS_FOR_A_ROW
            if len(rows) >= ROWS_WRITTEN_MAX:
                await self._hop(self._table.put, rows)
                rows, room = [], float(ROWS_AT_ONCE)
            elif room <= 0:
                await trio.lowlevel.checkpoint()
                room = float(ROWS_AT_ONCE)
        if rows:
            await self._hop(self._table.put, rows)


@asynccontextmanager
async def open_rocket_lists(
    read_model: ReadModel, *, hop: Hop, exact_max: int = EXACT_MAX
) -> AsyncIterator[RocketLists]:
    """Keep the table of the lists until the block ends; who lists belongs inside."""
    async with trio.open_nursery() as nursery:
        lists = RocketLists(read_model, hop=hop, exact_max=exact_max)
        nursery.start_soon(lists.keep)
        yield lists
        nursery.cancel_scope.cancel()
