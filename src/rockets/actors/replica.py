"""One of several instances on one journal: it follows the others and says how far it has come.

Theory.
A *catch-up* asks the store where it ends and brings in what is missing up to there, which own
commits mostly are not (`applied`). Catch-ups follow each other, one at a time. A read waits for the
first one that begins after the read has come in, so it never shows less than the store held then,
whichever instance was written to; reads that come while one runs share the next.
Between reads `watch` begins one when the store has something new, and twice a second in any case,
which is how the instance knows that it is not cut off.

Conflicts are notes and have no position. Each catch-up looks at the newest one, and where that is
another than before it takes the counts of all rockets anew.

A rocket whose actor crashes on what others have stored is restored like any other; if that crashes
again and again it is left in doubt, as after any crash, and its next message restores it.
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial

import msgspec
import structlog
import trio

from rockets.actors.applied import Applied
from rockets.actors.crashes import CRASHES_MAX
from rockets.actors.fleet import Fleet
from rockets.actors.followed import Followed, FollowedPart
from rockets.actors.part import ActorUnavailable
from rockets.actors.waiting import FleetUnavailable
from rockets.domain.messages import Channel
from rockets.journal.base import (
    JournalError,
    NoteId,
    Position,
    SharedJournal,
    StoredRecord,
)
from rockets.journal.thread import Hop
from rockets.journal.writer import JournalWriter

log = structlog.get_logger()

FOLLOW_RECORDS = 500
"""One read of the journal; the reading thread serves others in between."""

SLICE_RECORDS = 32
SLICE_BYTES = 8 << 10
"""So much is brought in before all other tasks get their turn: 1 ms where each record is of another
rocket without an actor."""

WATCH_S = 0.5
"""Longest time without a catch-up."""

PAUSE_S = 0.01
"""Between two catch-ups that no read waits for."""

RETRY_S = 0.2
"""After the store could not be watched."""

BEHIND_MAX_S = 5.0
CUT_OFF_S = 2.0
"""A load balancer that asks every second or two leaves the instance out soon enough."""

CONFLICTED_MANY = 10_000
COUNT_PAUSE_S = 1.0
"""With so many rockets in conflict counting takes some 10 ms, so it is done once a second."""


class ReplicaUnavailable(Exception):
    """It is not known that everything stored is shown here: answer 503; ask again later."""


class ReplicaStatistics(msgspec.Struct, frozen=True):
    """How many records of others were brought in, and up to where all is applied."""

    followed: int
    applied_through: Position


class _CatchUp:
    """A catch-up that somebody waits for."""

    def __init__(self) -> None:
        self.over = trio.Event()
        self.error: Exception | None = None
        self.through = Position(0)


class _Look(msgspec.Struct, frozen=True):
    """What a catch-up finds in the store; `conflicts` is None where they need no counting."""

    head: Position
    note: NoteId
    conflicts: Mapping[str, int] | None


class Replica:
    """Follows the other instances; see the module."""

    def __init__(
        self,
        *,
        writer: JournalWriter,
        fleet: Fleet,
        hop: Hop,
        wait_s: float,
    ) -> None:
        """Begin where the recovery of the fleet has ended; `hop` leads to the following thread."""
        self._applied = Applied(fleet.read_model.recovered_through)
        assert writer.shared is not None, "only a shared journal has to be followed"
        self._journal = writer.shared
        self._writer = writer
        self._fleet = fleet
        self._hop = hop
        self._wait_s = wait_s
        self._wanted = trio.Event()
        self._next = _CatchUp()
        self._caught_up_at = self._reached_at = trio.current_time()
        self._is_cut_off = False
        self._followed = 0
        self._note: NoteId | None = None  # the newest conflict that is counted
        self._conflicts: Mapping[str, int] = {}
        self._count_from = self._reached_at
        writer.on_commit = self._applied.note_own

    async def wait_caught_up(self) -> Position:
        """Wait until all that the store holds by now is applied here; gives where it ended.

        Raises ReplicaUnavailable where the store cannot be asked, or where that takes too long.
        """
        self._refuse_failed()
        awaited = self._want()
        with trio.move_on_after(self._wait_s) as scope:
            await awaited.over.wait()
        self._refuse_failed()
        if scope.cancelled_caught:
            raise ReplicaUnavailable(f"this instance was not up to date within {self._wait_s:g} s")
        if awaited.error is not None:
            raise ReplicaUnavailable(str(awaited.error)) from awaited.error
        return awaited.through

    def stale_s(self) -> float:
        """Say how long ago this instance was known to hold everything.

        Raises ReplicaUnavailable where the store is known to have lost something.
        """
        self._refuse_failed()
        return trio.current_time() - self._caught_up_at

    @property
    def caught_up_at(self) -> float:
        """The time (trio's) at which this instance was last known to hold everything."""
        return self._caught_up_at

    def trouble(self) -> str | None:
        """Say in words why nobody should be sent here; None where all is well."""
        now = trio.current_time()
        cut_off_s, behind_s = now - self._reached_at, now - self._caught_up_at
        if cut_off_s >= CUT_OFF_S:
            return f"cut off from the store for {cut_off_s:.0f} s"
        return f"{behind_s:.0f} s behind" if behind_s > BEHIND_MAX_S else None

    def statistics(self) -> ReplicaStatistics:
        """Give the figures of this moment."""
        return ReplicaStatistics(self._followed, self._applied.through)

    def _refuse_failed(self) -> None:
        """What the store may have lost is never served from memory."""
        if self._writer.failure is not None:
            raise ReplicaUnavailable(str(self._writer.failure))

    def _want(self) -> _CatchUp:
        """Ask for a catch-up that begins from now on."""
        self._wanted.set()
        return self._next

    async def keep(self) -> None:
        """Catch up whenever somebody asks, for ever."""
        while True:
            await self._wanted.wait()
            self._wanted = trio.Event()
            catch_up, self._next = self._next, _CatchUp()
            began = trio.current_time()
            try:
                catch_up.through = await self._catch_up()
            except JournalError as error:
                catch_up.error = error
                self._tell_cut_off(error)
            else:
                self._caught_up_at = began
                self._tell_reached()
            catch_up.over.set()

    async def watch(self) -> None:
        """Ask for a catch-up when others have stored something, and now and then, for ever."""
        while self._writer.failure is None:
            position = self._applied.through
            try:
                await self._writer.ask(
                    partial(self._journal.wait_behind, position, WATCH_S), hop=self._hop
                )
            except JournalError:
                await trio.sleep(RETRY_S)
            await self._applied.settle()
            recent = trio.current_time() - self._caught_up_at < WATCH_S
            # What is there may be our own; the next of somebody else keeps that back.
            if self._applied.through == position or not recent:
                await self._want().over.wait()
            await trio.sleep(PAUSE_S)

    def interrupt(self) -> None:
        """Let the following thread go, for a stop."""
        self._journal.interrupt()

    async def _catch_up(self) -> Position:
        """Bring in everything up to where the store ends now."""
        may_count = trio.current_time() >= self._count_from
        look = await self._writer.ask(
            partial(_look, self._journal, self._note, may_count=may_count)
        )
        self._reached_at = trio.current_time()
        await self._applied.settle()
        while self._applied.through < look.head:
            records = await self._writer.follow(self._applied.through, limit=FOLLOW_RECORDS)
            self._reached_at = trio.current_time()
            if not records and self._applied.through < look.head:
                raise JournalError("the journal does not give what it held a moment ago")
            await self._bring_all(records)
            await self._applied.settle()
        if look.conflicts is not None:
            await self._count_conflicts(look.conflicts)
            self._note = look.note
        return look.head

    async def _bring_all(self, records: Sequence[StoredRecord]) -> None:
        """Bring records in: all are in the ledgers when this returns."""
        waiting: list[tuple[Channel, Followed, FollowedPart]] = []
        for some in _slices(self._applied.missing(records)):
            for channel, followed in _by_rocket(some):
                part = await self._hand_over(channel, followed)
                if part is not None:
                    waiting.append((channel, followed, part))
            self._followed += len(some)
            await trio.lowlevel.checkpoint()
        # Only now: an actor that waits for its own commit holds up no other.
        for each in waiting:
            await self._wait_brought(*each)
        if records:
            self._applied.move(records[-1].position)

    async def _hand_over(self, channel: Channel, followed: Followed) -> FollowedPart | None:
        """Give it to its rocket; None where it is in the ledger, or the rocket is left in doubt."""
        for _ in range(CRASHES_MAX + 1):
            try:
                return await self._fleet.bring(channel, followed)
            except FleetUnavailable:
                continue  # the actor has just ended, or the rocket is refused for a minute
        return None

    async def _wait_brought(
        self, channel: Channel, followed: Followed, part: FollowedPart | None
    ) -> None:
        """Wait until it is in the ledger; an actor that crashes over it is followed by another."""
        while part is not None:
            try:
                return await part.wait_brought()
            except ActorUnavailable:
                part = await self._hand_over(channel, followed)

    async def _count_conflicts(self, conflicts: Mapping[str, int]) -> None:
        """Set the conflicts of every rocket for which another number was found than before."""
        for place, (stream, count) in enumerate(conflicts.items(), 1):
            channel = Channel(stream)
            if self._conflicts.get(stream) != count and self._fleet.read_model.knows(channel):
                followed = Followed(conflicts=count)
                await self._wait_brought(
                    channel, followed, await self._hand_over(channel, followed)
                )
            if place % SLICE_RECORDS == 0:
                await trio.lowlevel.checkpoint()
        self._conflicts = conflicts
        if len(conflicts) > CONFLICTED_MANY:
            self._count_from = trio.current_time() + COUNT_PAUSE_S

    # --- the store's being there -----------------------------------------------------------------

    def _tell_cut_off(self, error: Exception) -> None:
        if not self._is_cut_off and self._writer.failure is None:
            log.warning("store_unreachable", reason=str(error))
        self._is_cut_off = True

    def _tell_reached(self) -> None:
        if self._is_cut_off:
            log.info("store_reached", position=self._applied.through)
        self._is_cut_off = False


def _look(journal: SharedJournal, known: NoteId | None, *, may_count: bool) -> _Look:
    """Ask the store, in the reading thread. The notes come first: their records are before."""
    newest = journal.read_notes("conflict", stream=None, limit=1)
    note = newest[0].id if newest else NoteId(0)
    conflicts = journal.count_notes("conflict") if may_count and note != known else None
    return _Look(journal.head(), note, conflicts)


def _slices(records: Iterable[StoredRecord]) -> Iterator[list[StoredRecord]]:
    """Cut into slices of the loop's time."""
    some: list[StoredRecord] = []
    size = 0
    for record in records:
        some.append(record)
        size += len(record.body)
        if len(some) >= SLICE_RECORDS or size >= SLICE_BYTES:
            yield some
            some, size = [], 0
    if some:
        yield some


def _by_rocket(records: Iterable[StoredRecord]) -> Iterator[tuple[Channel, Followed]]:
    mine: dict[str, list[StoredRecord]] = {}
    for record in records:
        mine.setdefault(record.stream, []).append(record)
    return ((Channel(stream), Followed(found)) for stream, found in mine.items())


@asynccontextmanager
async def open_replica(
    writer: JournalWriter, fleet: Fleet, *, hop: Hop, wait_s: float
) -> AsyncIterator[Replica]:
    """Follow the others until the block ends; a read waits for at most `wait_s` seconds.

    `hop` leads to the following thread of the journal.
    """
    replica = Replica(writer=writer, fleet=fleet, hop=hop, wait_s=wait_s)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(replica.keep)
        nursery.start_soon(replica.watch)
        try:
            yield replica
        finally:
            replica.interrupt()
            nursery.cancel_scope.cancel()
