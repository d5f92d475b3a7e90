"""Checkpoints: the ledgers of all changed rockets, kept in the journal now and then.

A round notes where the journal ends, then keeps one ledger after the other while messages go on,
and only when all are kept it says that it is whole. See `recovery` for why that is enough.
Of several instances one at a time makes a round, and it begins where the journal ends then: the
ledgers that others have kept hold no more than that, so what is put in their place is never older.
It costs the loop a slice of packed ledgers at a time, and the writer a short commit for each slice.
"""

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from heapq import merge
from itertools import islice

import msgspec
import structlog
import trio

from rockets.actors.read_model import ReadModel
from rockets.actors.replica import Replica, ReplicaUnavailable
from rockets.actors.round_claim import claim
from rockets.domain.ledger import RULES
from rockets.domain.messages import Channel
from rockets.journal.base import JournalError, LedgerRecord, Position, Round
from rockets.journal.writer import JournalWriter

log = structlog.get_logger()

# A slice: about 1 ms to pack on the loop, and as much for the writer beside its sync.
LEDGERS_AT_ONCE = 200

SORTED_AT_ONCE = 4_000

LOOK_INTERVAL_S = 1.0


class CheckpointLimits(msgspec.Struct, frozen=True):
    """When a round is due; `settings` explains the values."""

    records: int = 250_000
    seconds: float = 60.0


class Checkpoints:
    """Keeps the ledgers of a read model; see the module."""

    def __init__(
        self,
        journal: JournalWriter,
        read_model: ReadModel,
        limits: CheckpointLimits,
        replica: Replica | None = None,
    ) -> None:
        self._journal = journal
        self._replica = replica
        self._read_model = read_model
        self._limits = limits
        self._to_keep: set[Channel] = set()
        self._records_then = 0
        self._round_at = trio.current_time()
        self._ended = trio.Event()

    async def run(self) -> None:
        """Do a round whenever one is due, for ever."""
        while True:
            await trio.sleep(LOOK_INTERVAL_S)
            if self._is_due():
                await self.try_round()

    def _is_due(self) -> bool:
        if not self._to_keep and not self._read_model.changed:
            return False
        records = self._records() - self._records_then
        waited_s = trio.current_time() - self._round_at
        return records >= self._limits.records or waited_s >= self._limits.seconds

    async def wait_round(self) -> None:
        """Wait until a round is whole that was not when this returned the last time."""
        await self._ended.wait()
        self._ended = trio.Event()

    async def try_round(self) -> None:
        """Do a round; where the journal is full or busy, the next one goes on with what is left."""
        try:
            await self.round()
        except (JournalError, ReplicaUnavailable) as error:
            log.warning("checkpoint_failed", reason=str(error))

    async def round(self) -> None:
        """Keep every ledger that has changed since the last round, and say that all are kept.

        JournalError where the journal does not take them; nothing is lost by that.
        Where another instance is about it, this one leaves it for now.
        """
        async with claim(self._journal) as claimed:
            if claimed:
                await self._keep_all()

    async def _keep_all(self) -> None:
        self._records_then = self._records()
        self._round_at = trio.current_time()
        began = await self._begin()
        self._to_keep |= self._read_model.take_changed()
        # Of the others the ledgers are kept already, so in the end there is one of each of these.
        rockets = len(self._read_model)
        count = len(self._to_keep)
        channels = merge(*await sorted_parts(self._to_keep))
        while some := list(islice(channels, LEDGERS_AT_ONCE)):
            await self._journal.keep_ledgers(
                [LedgerRecord(channel, self._read_model.record(channel)) for channel in some]
            )
            self._to_keep.difference_update(some)
        await self._journal.end_round(Round(began, str(RULES), rockets))
        self._ended.set()
        log.info("checkpoint", ledgers=count, position=began)

    async def _begin(self) -> Position:
        """Give the position up to which every ledger of this instance holds everything."""
        if self._replica is None:
            began = max(self._read_model.recovered_through, self._journal.head)
            # The actors of the last commit have been woken, and apply it in their next turn.
            await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()
            return began
        if not await self._journal.rounds():
            # Another instance has found the ledgers damaged and dropped them.
            self._to_keep.update(self._read_model.channels())
        return await self._replica.wait_caught_up()

    def _records(self) -> int:
        """Count what has come: from clients, and from other instances."""
        followed = 0 if self._replica is None else self._replica.statistics().followed
        return self._journal.statistics().records + followed


async def sorted_parts(channels: set[Channel]) -> list[list[Channel]]:
    """Sort channels a part at a time: neighbours by name cost the journal a tenth of others."""
    rest = iter(tuple(channels))
    parts = []
    while part := sorted(islice(rest, SORTED_AT_ONCE)):
        parts.append(part)
        await trio.lowlevel.checkpoint()
    return parts


@asynccontextmanager
async def open_checkpoints(
    journal: JournalWriter,
    read_model: ReadModel,
    limits: CheckpointLimits,
    replica: Replica | None = None,
    *,
    over_by: Callable[[], float] = lambda: math.inf,
) -> AsyncIterator[Checkpoints]:
    """Do rounds until the block ends, and then a last one; whoever changes ledgers is inside.

    With a shared journal it is inside the block of its replica, without which no round is made.
    `over_by` is asked when the block has ended, and gives trio's time at which the last round is
    given up: the next start then goes on from the round before, which only takes it longer.
    """
    checkpoints = Checkpoints(journal, read_model, limits, replica)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(checkpoints.run)
        yield checkpoints
        nursery.cancel_scope.cancel()
    if journal.failure is None:
        with trio.move_on_at(over_by()) as scope:
            await checkpoints.try_round()
        if scope.cancelled_caught:
            log.warning("checkpoint_given_up")
