"""Retention: prunes messages that are old enough, or enough newer ones of their rocket are there.

Only settled messages go, and only those that the ledgers of both whole rounds hold: without the
newest round a start still goes on from the one before, and without both from the bases.
What goes of a rocket is folded into its base, in number order and without a gap, and removed in the
commit that remembers the base.

For the number of its messages a rocket is looked at after it has changed, for their age when a walk
over all messages in commit order comes to one of its own that is old enough. So the work is that of
what changes and goes, not of the fleet; only after a start every ledger is asked how much it holds,
and the walk meets once more what was left.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from heapq import merge
from itertools import count, takewhile

import msgspec
import structlog
import trio

from rockets.actors.base import base_of
from rockets.actors.checkpoints import Checkpoints, sorted_parts
from rockets.actors.read_model import ReadModel
from rockets.actors.recovery import usable_rounds
from rockets.actors.turn import decode_stored
from rockets.domain.ledger import Ledger
from rockets.domain.messages import Channel
from rockets.journal.base import JournalError, Position, Pruned, StoredRecord
from rockets.journal.writer import JournalWriter

log = structlog.get_logger()

RECORDS_AT_ONCE = 100
"""One read, and one commit of a few milliseconds, in which appends wait."""

SLICE_BYTES = 16 << 10
"""Ordinary messages of so many bytes cost 2 ms to fold; then others get their turn."""

LEDGERS_AT_ONCE = 200
"""About 1 ms to unpack."""

LOOK_INTERVAL_S = 60.0
"""Messages grow old without any round, too."""


class RetentionLimits(msgspec.Struct, frozen=True):
    """What stays, 0 for all; with both what either keeps. `settings` explains the values."""

    messages: int = 0
    seconds: float = 0.0

    @property
    def keep_all(self) -> bool:
        """Say whether nothing is ever pruned."""
        return not self.messages and not self.seconds


class _Bounds(msgspec.Struct, frozen=True):
    """What may go now, by position and by time of receipt, which is in microseconds."""

    position: int
    received_at: float

    def allow(self, record: StoredRecord) -> bool:
        return record.position <= self.position and record.received_at < self.received_at


class Retention:
    """Prunes the journal of a read model; see the module."""

    def __init__(
        self,
        journal: JournalWriter,
        read_model: ReadModel,
        limits: RetentionLimits,
        *,
        wall_clock: Callable[[], int],
    ) -> None:
        """Begin with a read model that is complete; the clock is the one of `received_at`."""
        self._journal = journal
        self._read_model = read_model
        self._limits = limits
        self._wall_clock = wall_clock
        # Rockets that have changed, or of which the rounds held something back.
        self._waiting: set[Channel] = set()
        self._first_look = True
        self._walked = Position(0)
        # What goes with the next commit.
        self._going: dict[Channel, Pruned] = {}
        self._going_count = 0
        self._pruned_count = 0
        if limits.messages:
            read_model.unpruned = set(read_model.channels())

    async def run(self, checkpoints: Checkpoints) -> None:
        """Prune after each round, and as time goes by, for ever."""
        while True:
            with trio.move_on_after(LOOK_INTERVAL_S):
                await checkpoints.wait_round()
            await self.try_prune()

    async def try_prune(self) -> None:
        """Prune; where the journal does not do it, what is left goes the next time."""
        try:
            pruned = await self.prune()
        except JournalError as error:
            log.warning("pruning_failed", reason=str(error))
        else:
            if pruned:
                log.info("pruned", messages=pruned)

    async def prune(self) -> int:
        """Prune all that may go now; gives how many messages that were. May raise JournalError."""
        self._going, self._going_count, self._pruned_count = {}, 0, 0
        bounds = await self._bounds()
        if bounds is not None:
            if self._limits.messages:
                await self._prune_changed(bounds)
            if self._limits.seconds:
                await self._prune_old(bounds)
        return self._pruned_count

    async def _bounds(self) -> _Bounds | None:
        """Say what may go by now; None while there are no two whole rounds."""
        rounds = usable_rounds(await self._journal.rounds())
        if len(rounds) < 2:
            return None
        # The journal never removes its last record.
        head = max(self._read_model.recovered_through, self._journal.head)
        received_at = float("inf")
        if self._limits.seconds:
            received_at = self._wall_clock() - self._limits.seconds * 1e6
        return _Bounds(min(rounds[1].began, head - 1), received_at)

    async def _prune_changed(self, bounds: _Bounds) -> None:
        """Prune the rockets that have changed; what the rounds hold back waits for the next one."""
        # Where anything fails, all of them are looked at again.
        self._waiting |= self._read_model.take_unpruned()
        if self._first_look:
            await self._leave_out_pruned()
            self._first_look = False
        held_back = set()
        # Neighbours by name share pages of what is pruned.
        channels = merge(*await sorted_parts(self._waiting))
        for looked_at, channel in enumerate(channels, 1):
            if looked_at % LEDGERS_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
            if await self._prune_rocket(channel, bounds):
                held_back.add(channel)
        await self._commit()
        self._waiting = held_back

    async def _leave_out_pruned(self) -> None:
        """Leave out the rockets that were pruned as far as they can be: after a start, most."""
        after = ""
        while pruned := await self._journal.pruned(after, limit=LEDGERS_AT_ONCE):
            self._waiting.difference_update(
                [
                    Channel(each.stream)
                    for each in pruned
                    if self._last_to_go(Channel(each.stream)) <= each.through
                ]
            )
            after = pruned[-1].stream

    async def _prune_old(self, bounds: _Bounds) -> None:
        """Walk on over what is old enough by now, and prune the rockets that it belongs to."""
        while True:
            records = await self._journal.follow(self._walked, limit=RECORDS_AT_ONCE)
            old = list(takewhile(bounds.allow, records))
            for stream in dict.fromkeys(record.stream for record in old):
                await self._prune_rocket(Channel(stream), bounds)
            await self._commit()
            if old:
                self._walked = old[-1].position
            if len(old) < RECORDS_AT_ONCE:
                return

    async def _prune_rocket(self, channel: Channel, bounds: _Bounds) -> bool:
        """Let go of a rocket what may; says whether the rounds hold back more of it."""
        last = self._last_to_go(channel)
        if last < 1:
            return False
        base = await base_of(self._journal, channel) or Ledger(channel)
        while (first := base.settled_through + 1) <= last:
            records = await self._journal.read(channel, first, last, limit=RECORDS_AT_ONCE)
            going = list(takewhile(bounds.allow, _unbroken(records, first)))
            if going:
                await _fold(base, going)
                await self._let_go(base, len(going))
            if len(going) < RECORDS_AT_ONCE:
                return len(going) < len(records) and records[len(going)].position > bounds.position
        return False

    def _last_to_go(self, channel: Channel) -> int:
        """Give the number below those that stay; the newest settled message always does."""
        ledger = self._read_model.ledger(channel)
        return 0 if ledger is None else ledger.settled_through - max(1, self._limits.messages)

    async def _let_go(self, base: Ledger, count: int) -> None:
        """Put it to what goes with the next commit, where there is room for it."""
        if self._going_count + count > RECORDS_AT_ONCE:
            await self._commit()
        self._going[base.channel] = Pruned(base.channel, base.settled_through, base.pack())
        self._going_count += count

    async def _commit(self) -> None:
        if self._going:
            self._pruned_count += await self._journal.prune(
                tuple(self._going.values()), limit=RECORDS_AT_ONCE
            )
            self._going, self._going_count = {}, 0


def _unbroken(records: Sequence[StoredRecord], first: int) -> Iterator[StoredRecord]:
    """Give the records up to the first one that is missing; of settled ones none is."""
    for record, number in zip(records, count(first), strict=False):
        if record.number != number:
            return
        yield record


async def _fold(base: Ledger, records: Sequence[StoredRecord]) -> None:
    """Apply records to a base, a slice at a time."""
    size = 0
    for record in records:
        base.apply(record.number, *decode_stored(record.body))
        size += len(record.body)
        if size > SLICE_BYTES:
            size = 0
            await trio.lowlevel.checkpoint()


@asynccontextmanager
async def open_retention(
    journal: JournalWriter,
    read_model: ReadModel,
    checkpoints: Checkpoints,
    limits: RetentionLimits,
    *,
    wall_clock: Callable[[], int],
) -> AsyncIterator[None]:
    """Prune until the block ends, where the limits let anything go; inside of the fleet."""
    if limits.keep_all:
        yield
        return
    retention = Retention(journal, read_model, limits, wall_clock=wall_clock)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(retention.run, checkpoints)
        yield
        nursery.cancel_scope.cancel()
