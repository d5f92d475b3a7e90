"""Several instances in one loop on one store in memory, each of which a test can cut off."""

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import wraps
from typing import Any, cast

import trio

from rockets.actors.checkpoints import CheckpointLimits, Checkpoints
from rockets.actors.fleet import Fleet, FleetLimits, open_fleet
from rockets.actors.read_model import ReadModel
from rockets.actors.replica import WATCH_S, Replica, open_replica
from rockets.domain.messages import Channel
from rockets.domain.rocket import Rocket
from rockets.journal.base import JournalError, JournalUnreachable, Position, Round, SharedJournal
from rockets.journal.memory import MemoryJournal
from rockets.journal.thread import Hop, T, inline
from rockets.journal.writer import JournalWriter, open_writer

NEVER = CheckpointLimits(records=2**40, seconds=2**40)


class Store:
    """What the instances share; `rung` tells of an append."""

    def __init__(self) -> None:
        self.journal = MemoryJournal()
        self.keeper: Side | None = None
        self.rung = trio.Event()

    def ring(self) -> None:
        self.rung.set()
        self.rung = trio.Event()


class Side:
    """One instance's journal: the store's own, unless `error` is what every call meets.

    It counts the calls. Being in the loop it must not wait; `Doorbell` does that.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.error: JournalError | None = None
        self.calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.store.journal, name)
        return self._counted(found) if callable(found) else found

    def _counted(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(fn)
        def call(*args: Any, **options: Any) -> Any:
            self._meet(fn.__name__)
            return fn(*args, **options)

        return call

    def _meet(self, name: str) -> None:
        self.calls[name] += 1
        if self.error is not None:
            raise type(self.error)(*self.error.args)

    def cut(self) -> None:
        """Let nothing through any more."""
        self.error = JournalUnreachable("no route to the store")

    def mend(self) -> None:
        """Let everything through again."""
        self.error = None
        self.store.ring()

    def append(self, *args: Any) -> Any:
        self._meet("append")
        appended = self.store.journal.append(*args)
        self.store.ring()
        return appended

    def wait_behind(self, position: Position, timeout_s: float) -> bool:
        self._meet("wait_behind")
        return self.store.journal.head() > position

    def interrupt(self) -> None:
        self.store.ring()

    def hurry(self) -> None:
        """Do nothing: no call waits here."""

    def claim_round(self) -> bool:
        self._meet("claim_round")
        if self.store.keeper not in (None, self):
            return False
        self.store.keeper = self
        return True

    def release_round(self) -> None:
        if self.store.keeper is self:
            self.store.keeper = None

    def end_round(self, round: Round) -> None:
        self._meet("end_round")
        self.store.journal.end_round(round)
        self.release_round()


class Doorbell:
    """The hop of the following: waits until the store rings, as `wait_behind` would."""

    def __init__(self, store: Store) -> None:
        self.store = store

    async def __call__(self, fn: Callable[..., T], /, *args: object) -> T:
        until = trio.current_time() + WATCH_S
        while True:
            rung = self.store.rung
            found = await inline(fn, *args)
            if found or trio.current_time() >= until:
                return found
            with trio.move_on_at(until):
                await rung.wait()


class Instance:
    """One instance, as `server` nests it; a test starts its rounds."""

    def __init__(
        self,
        side: Side,
        writer: JournalWriter,
        fleet: Fleet,
        replica: Replica,
        checkpoints: Checkpoints,
    ) -> None:
        self.side = side
        self.writer = writer
        self.fleet = fleet
        self.replica = replica
        self.checkpoints = checkpoints

    async def rockets(self) -> dict[str, tuple[Rocket | None, Rocket | None]]:
        """Read every rocket in both views, as a request does."""
        await self.replica.wait_caught_up()
        model = self.fleet.read_model
        return {
            channel: (model.rocket(channel), model.rocket(channel, "settled"))
            for channel in sorted(model.channels())
        }

    async def rocket(self, channel: str) -> Rocket | None:
        """Read one rocket, as a request does."""
        await self.replica.wait_caught_up()
        return self.fleet.read_model.rocket(Channel(channel))


@asynccontextmanager
async def running_instance(
    store: Store,
    *,
    write: Hop = inline,
    read: Hop = inline,
    limits: FleetLimits | None = None,
    wait_s: float = 5.0,
) -> AsyncIterator[Instance]:
    """Run an instance on a store."""
    side, read_model = Side(store), ReadModel()
    async with (
        open_writer(cast(SharedJournal, side), write=write, read=read) as writer,
        open_fleet(journal=writer, read_model=read_model, limits=limits or FleetLimits()) as fleet,
        open_replica(writer, fleet, hop=Doorbell(store), wait_s=wait_s) as replica,
    ):
        yield Instance(
            side, writer, fleet, replica, Checkpoints(writer, read_model, NEVER, replica)
        )


class Late:
    """A hop that runs a function at once, but hands its result over only while it is open."""

    def __init__(self) -> None:
        self._open = trio.Event()
        self._open.set()

    def shut(self) -> None:
        """Keep results from now on."""
        self._open = trio.Event()

    def open(self) -> None:
        """Hand everything over."""
        self._open.set()

    async def __call__(self, fn: Callable[..., T], /, *args: object) -> T:
        try:
            done = await inline(fn, *args)
        except JournalError:
            await self._open.wait()
            raise
        await self._open.wait()
        return done


def gaps_of(instance: Instance) -> int:
    """Count the gaps that the instance's ledgers really have."""
    return sum(ledger.gap_count for ledger in instance.fleet.read_model.ledgers())
