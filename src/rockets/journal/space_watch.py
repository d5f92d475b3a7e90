"""Looks at the journal's files and the free space now and then, so that whoever asks need not wait.

The figures come from the journal's reading thread, behind whatever that has to read, and a disk
may hang: so nobody waits for them but the one task here.
The invariant: what is given is at most `AGE_MAX_S` old, or nothing.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from .base import JournalError, JournalStatistics
from .writer import JournalWriter

LOOK_INTERVAL_S = 1.0

AGE_MAX_S = 5.0
"""Several times what reads may hold a look up for while all is well."""


class SpaceWatch:
    """What was seen last."""

    def __init__(self, journal: JournalWriter) -> None:
        self._journal = journal
        self._statistics: JournalStatistics | None = None
        self._failure = ""
        self._looked_at = trio.current_time()

    async def look(self) -> None:
        """Ask the journal once."""
        try:
            self._statistics, self._failure = await self._journal.journal_statistics(), ""
        except JournalError as error:
            self._statistics, self._failure = None, str(error)
        self._looked_at = trio.current_time()

    async def run(self) -> None:
        """Ask for ever."""
        while True:
            await trio.sleep(LOOK_INTERVAL_S)
            await self.look()

    def statistics(self) -> JournalStatistics | None:
        """Give the figures of a moment ago, None where they are not known."""
        return self._statistics if self._age_s() <= AGE_MAX_S else None

    def refusal(self) -> str | None:
        """Say why nothing new is taken; None where it is, or where that is not known."""
        seen = self.statistics()
        if seen is None or seen.free_bytes >= seen.reserve_bytes:
            return None
        return (
            f"no space: {seen.free_bytes:,} bytes are free,"
            f" the last {seen.reserve_bytes:,} are kept in reserve"
        )

    def check(self) -> str:
        """Say `ok`, or what is wrong, or that it is not known."""
        if self._age_s() > AGE_MAX_S:
            return f"not known: the journal has not answered for {self._age_s():.0f} s"
        if self._failure:
            return f"not known: {self._failure}"
        return self.refusal() or "ok"

    def _age_s(self) -> float:
        return trio.current_time() - self._looked_at


@asynccontextmanager
async def open_space_watch(journal: JournalWriter) -> AsyncIterator[SpaceWatch]:
    """Look once, and again and again until the block ends."""
    watch = SpaceWatch(journal)
    await watch.look()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        yield watch
        nursery.cancel_scope.cancel()
