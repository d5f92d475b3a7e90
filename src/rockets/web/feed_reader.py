"""One reader of the live feed: its cursor, and what it is told.

It does no input or output: who serves it asks for its `opening`, and then for `news` again and
again.
"""

import math
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager

import msgspec
import trio

from rockets import __version__
from rockets.actors.listing import matches
from rockets.actors.table_query import is_filtered
from rockets.domain.messages import Channel
from rockets.web import feed_events
from rockets.web.feed import ROCKETS_AT_ONCE, Age, Feed, FeedQuery, Part, Round
from rockets.web.feed_events import Bye, Fresh, Gone, Hello, Ready, Reset, ResetReason, Stale

SNAPSHOT_MAX = 10_000
"""The most rockets that are sent before `ready`; 6 MB."""

TOLD_MAX = 10_000
"""So many names are kept for a reader with filters, 50 bytes each."""

HEARTBEAT_S = 15.0
"""Below the 30 to 60 s after which proxies close what is silent."""


class Behind(Exception):
    """So many rockets have changed since the cursor that they are not known: open it again."""


class Told:
    """Which rockets a reader with filters holds, so that it is told once when one is gone.

    Either those that it holds are known, or those that it does not hold; of the others it is told
    that they are gone, which does no harm where it did not hold them.
    """

    def __init__(self, told_max: int) -> None:
        self._told_max = told_max
        self._names: set[Channel] = set()
        self._are_held = False

    def begin(self, *, knowing: bool) -> None:
        """Forget everything; `knowing` says that the reader holds nothing."""
        self._names.clear()
        self._are_held = knowing

    def holds(self, channel: Channel) -> None:
        """Note that the reader is told of a rocket."""
        if self._are_held:
            self._add(channel)
        else:
            self._names.discard(channel)

    def drops(self, channel: Channel) -> bool:
        """Note that a rocket does not match; says whether the reader must be told."""
        if self._are_held:
            held = channel in self._names
            self._names.discard(channel)
            return held
        if channel in self._names:
            return False
        self._add(channel)
        return True

    def _add(self, channel: Channel) -> None:
        if len(self._names) >= self._told_max:
            were_held = self._are_held
            self.begin(knowing=False)
            if were_held:
                return
        self._names.add(channel)


class Reader:
    """A cursor in the feed; see the module."""

    def __init__(self, feed: Feed, query: FeedQuery, *, retry_ms: int) -> None:
        self.query = query
        self.cursor = 0
        self.has_more = False  # after `news`: there is more to be told in this round
        self._feed = feed
        self._view = query.rockets.view
        self._retry_ms = retry_ms
        self._told = Told(TOLD_MAX) if is_filtered(query.rockets) else None
        self._spoke_at = 0.0
        self._stale_at: float | None = None  # when the reader was told so

    def due_after(self, now: float) -> float:
        """Say when the reader is served next."""
        return next_time(now, self.query.interval_ms)

    async def opening(self) -> AsyncGenerator[bytes, None]:
        """Write `hello`, then what brings the reader to the present, and `ready`.

        That present is at least the one in which the reader came, or `stale` goes before it.
        """
        event_id = self.query.last_event_id
        number = None if event_id is None else self._feed.number(event_id)
        resumed = number is not None and self._feed.is_reached(number)
        hello = Hello(self._feed.boot_id, __version__, self.query.interval_ms, resumed)
        yield feed_events.retry(self._retry_ms) + feed_events.event(hello)
        caught_up = False
        with trio.move_on_after(HEARTBEAT_S):
            caught_up = await self._feed.catch_up()
        if not caught_up:
            yield self._stale(trio.current_time(), self._feed.age())
        if number is not None and resumed:
            present = self._missed(number)
        elif event_id is None:
            present = self._fleet()
        else:
            present = self._anew("unknownId" if number is None else "tooFarBehind")
        async with aclosing(present) as texts:
            async for text in texts:
                yield text

    def reopening(self) -> AsyncGenerator[bytes, None]:
        """Write what brings a reader to the present that has fallen behind."""
        return self._anew("tooFarBehind")

    def news(self, now: float, following: Round) -> bytes:
        """Write what the reader is to be told in a round, which may be nothing.

        Raises Behind where that is not known any more.
        """
        text = b""
        self.has_more = False
        if self.cursor != self._feed.latest:
            if not self._feed.is_reached(self.cursor):
                raise Behind
            part = following.part(self.cursor)
            if part is not None:
                text = self._part_text(part)
                self.cursor, self.has_more = part.end, part.more
        if not self.has_more and (age_text := self._age_text(now, following.age)):
            text += age_text
        if not text and now + self.query.interval_ms / 1_000 - self._spoke_at > HEARTBEAT_S:
            text = feed_events.HEARTBEAT
        if text:
            self._spoke_at = now
        return text

    def bye(self) -> bytes:
        """Write the last event of a service that stops."""
        return feed_events.retry(self._retry_ms) + feed_events.event(
            Bye("stopping", self._retry_ms)
        )

    async def _missed(self, number: int) -> AsyncGenerator[bytes, None]:
        """Write what has changed since the reader was here."""
        self.cursor, until = number, self._feed.latest
        self._begin(knowing=False)
        count = 0
        while self.cursor < until and self._feed.is_reached(self.cursor):
            part = self._feed.round().part(self.cursor)
            assert part is not None, "the last change is known"
            self.cursor = part.end
            count += len(part.entries)
            yield self._part_text(part)
            await trio.lowlevel.checkpoint()
        # Who was too slow for the rest falls behind with the next change.
        yield self._ready(count, None)

    async def _anew(self, reason: ResetReason) -> AsyncGenerator[bytes, None]:
        """Write `reset` and the fleet."""
        yield feed_events.event(Reset(reason))
        async with aclosing(self._fleet()) as texts:
            async for text in texts:
                yield text

    async def _fleet(self) -> AsyncGenerator[bytes, None]:
        """Write the rockets that match, as far as they are wanted and there is room for them."""
        if not self.query.snapshot:
            self.cursor = self._feed.latest
            self._begin(knowing=False)
            yield self._ready(0, None)
            return
        query = msgspec.structs.replace(self.query.rockets, limit=SNAPSHOT_MAX)
        listed = None
        while listed is None:
            # A list that is given up here loses nothing: what it waits for goes on.
            with trio.move_on_after(HEARTBEAT_S):
                listed = await self._feed.lists.page(query)
            if listed is None:
                yield feed_events.HEARTBEAT
        # Only their names are kept: a client may take its time, and rockets take more room.
        channels = [rocket.channel for rocket in listed.page.rockets]
        total = listed.page.total
        self._begin(knowing=listed.page.following is None)
        self.cursor = listed.version
        del listed
        count = 0
        for start in range(0, len(channels), ROCKETS_AT_ONCE):
            await trio.lowlevel.checkpoint()
            texts = list(self._listed_texts(channels[start : start + ROCKETS_AT_ONCE]))
            count += len(texts)
            yield b"".join(texts)
        yield self._ready(count, total)

    def _listed_texts(self, channels: list[Channel]) -> Iterator[bytes]:
        """Write rockets as they are now; one that does not match any more is left out."""
        for channel in channels:
            rocket = self._feed.rocket(channel, self._view)
            if matches(rocket, self.query.rockets):
                if self._told is not None:
                    self._told.holds(channel)
                yield self._feed.rocket_text(rocket, self._view)

    def _part_text(self, part: Part) -> bytes:
        if self._told is None:
            return self._feed.part_text(part, self._view)
        return b"".join(self._filtered_texts(part, self._told))

    def _filtered_texts(self, part: Part, told: Told) -> Iterator[bytes]:
        for channel, number in part.entries:
            rocket = self._feed.rocket(channel, self._view)
            if matches(rocket, self.query.rockets):
                told.holds(channel)
                yield self._feed.rocket_text(rocket, self._view, number)
            elif told.drops(channel):
                yield feed_events.event(Gone(channel), self._feed.event_id(number))

    def _age_text(self, now: float, age: Age) -> bytes:
        """Write that what the reader holds is old from now on, or not any more, if that is news."""
        if self._stale_at is None:
            return self._stale(now, age) if age.is_stale else b""
        if age.is_stale or age.caught_up_at <= self._stale_at:
            return b""
        self._stale_at = None
        return feed_events.event(Fresh())

    def _stale(self, now: float, age: Age) -> bytes:
        self._stale_at = now
        return feed_events.event(Stale(math.ceil(now - age.caught_up_at)))

    def _begin(self, *, knowing: bool) -> None:
        if self._told is not None:
            self._told.begin(knowing=knowing)

    def _ready(self, count: int, total: int | None) -> bytes:
        self._spoke_at = trio.current_time()
        return feed_events.event(Ready(count, total), self._feed.event_id(self.cursor))


def next_time(now: float, interval_ms: int) -> float:
    """Give the next multiple of an interval, so that all who have the same are served together.

    (Without the small part a product that was rounded down would be its own next multiple.)
    """
    interval_s = interval_ms / 1_000
    return (math.floor(now / interval_s + 1e-6) + 1) * interval_s


@contextmanager
def reading(feed: Feed, query: FeedQuery) -> Iterator[Reader]:
    """Count a reader while the block runs."""
    retry_ms = feed.enter()
    try:
        yield Reader(feed, query, retry_ms=retry_ms)
    finally:
        feed.leave()
