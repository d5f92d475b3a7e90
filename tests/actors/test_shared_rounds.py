"""Checkpoints of several instances on one store: a start finds the same after any of them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from rockets.actors.checkpoints import CheckpointLimits, open_checkpoints
from rockets.actors.read_model import ReadModel
from rockets.actors.recovery import Recovered, recover
from rockets.actors.round_claim import RETRY_S, claim
from rockets.domain.rocket import Rocket
from rockets.journal.base import LedgerRecord
from rockets.journal.thread import inline
from rockets.journal.writer import open_writer
from tests.actors.fleets import ask
from tests.actors.instances import Instance, Store, running_instance
from tests.actors.test_checkpoints import folded, made

CHANNELS = ("a", "b", "c", "d")
MESSAGE = st.tuples(st.integers(0, 2), st.sampled_from(CHANNELS), st.integers(1, 9))
ROUND = st.tuples(st.integers(0, 2), st.just("round"))
RESTART = st.tuples(st.integers(0, 2), st.just("restart"))
STEP = st.one_of(MESSAGE, MESSAGE, MESSAGE, ROUND, ROUND, RESTART)


async def start(store: Store) -> tuple[Recovered, dict[str, Rocket | None]]:
    """Do what a start does; gives what it did and every rocket."""
    read_model = ReadModel()
    async with open_writer(store.journal, write=inline, read=inline) as writer:
        recovered = await recover(writer, read_model)
    return recovered, {channel: read_model.rocket(channel) for channel in read_model.channels()}


class Place:
    """Where an instance runs, and can be ended without a last round and started again."""

    def __init__(self, store: Store, nursery: trio.Nursery) -> None:
        self._store = store
        self._nursery = nursery
        self.instance: Instance

    async def start(self) -> None:
        self._end, self._over = trio.Event(), trio.Event()
        await self._nursery.start(self._live)

    async def stop(self) -> None:
        self._end.set()
        await self._over.wait()

    async def _live(self, *, task_status: trio.TaskStatus[None]) -> None:
        async with running_instance(self._store) as self.instance:
            task_status.started()
            await self._end.wait()
        self._over.set()


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(st.tuples(STEP, st.booleans()), max_size=40))
async def test_a_start_finds_every_rocket_whoever_made_the_rounds(
    steps: list[tuple[tuple[int, ...], bool]],
) -> None:
    """Rounds run beside messages and other rounds, or all of it one after the other."""
    store = Store()
    async with trio.open_nursery() as nursery:
        places = [Place(store, nursery) for _ in range(3)]
        for place in places:
            await place.start()
        for (where, *rest), waits in steps:
            place = places[where]
            match rest:
                case ["round"]:
                    nursery.start_soon(place.instance.checkpoints.try_round)
                case ["restart"]:
                    await wait_all_tasks_blocked()
                    await place.stop()
                    await place.start()
                case [channel, number]:
                    await ask(place.instance.fleet, made(str(channel), int(number)))
            if waits:
                await wait_all_tasks_blocked()
        await wait_all_tasks_blocked()

        _, rockets = await start(store)
        assert rockets == folded(store.journal)
        for place in places:
            await place.stop()


async def test_a_round_keeps_what_others_have_stored_as_well() -> None:
    store = Store()
    async with running_instance(store) as one, running_instance(store) as two:
        await ask(one.fleet, made("a", 1))
        await ask(two.fleet, made("b", 1))
        await two.checkpoints.round()

        recovered, rockets = await start(store)

        assert (recovered.checkpointed, recovered.records) == (2, 0)
        assert rockets == folded(store.journal)


async def test_while_one_makes_a_round_another_leaves_it() -> None:
    store = Store()
    async with running_instance(store) as one, running_instance(store) as two:
        await ask(one.fleet, made("a", 1))
        async with claim(one.writer) as claimed:
            assert claimed
            await two.checkpoints.round()
            assert store.journal.rounds() == []
        await two.checkpoints.round()
        assert [each.began for each in store.journal.rounds()] == [1]


async def test_a_round_that_fails_gives_its_claim_up() -> None:
    store = Store()
    async with running_instance(store) as one, running_instance(store) as two:
        await ask(one.fleet, made("a", 1))
        await one.replica.wait_caught_up()
        one.side.cut()
        await one.checkpoints.try_round()
        one.side.mend()
        await two.checkpoints.round()
        assert [each.began for each in store.journal.rounds()] == [1]


async def test_ledgers_that_another_instance_has_dropped_are_all_kept_again() -> None:
    store = Store()
    async with running_instance(store) as one:
        for channel in CHANNELS:
            await ask(one.fleet, made(channel, 1))
        await one.checkpoints.round()
        store.journal.drop_ledgers()
        await ask(one.fleet, made("a", 2))
        await one.checkpoints.round()

        recovered, rockets = await start(store)

        assert (recovered.checkpointed, recovered.records) == (4, 0)
        assert rockets == folded(store.journal)


async def test_damaged_ledgers_are_dropped_when_nobody_keeps_any(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = Store()
    async with running_instance(store) as one:
        await ask(one.fleet, made("a", 1))
        await one.checkpoints.round()
        store.journal.keep_ledgers([LedgerRecord("x", b"")])  # of a rocket that there is not

        async with trio.open_nursery() as nursery:
            async with claim(one.writer):
                nursery.start_soon(_run, store)
                await trio.sleep(10 * RETRY_S)
                assert store.journal.rounds() != []
            await trio.sleep(2 * RETRY_S)
            assert store.journal.rounds() == []


async def _run(store: Store) -> None:
    async with running_instance(store):
        pass


@asynccontextmanager
async def with_rounds(store: Store, limits: CheckpointLimits) -> AsyncIterator[Instance]:
    async with (
        running_instance(store) as one,
        open_checkpoints(one.writer, one.fleet.read_model, limits, one.replica),
    ):
        yield one


async def test_records_of_others_make_a_round_due_too(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = Store()
    limits = CheckpointLimits(records=3, seconds=2**40)
    async with running_instance(store) as one, with_rounds(store, limits):
        await ask(one.fleet, made("a", 1), made("a", 2))
        await trio.sleep(5)
        assert store.journal.rounds() == []
        await ask(one.fleet, made("a", 3))
        await trio.sleep(5)
        assert [each.began for each in store.journal.rounds()] == [3]


async def test_a_clean_stop_keeps_what_is_followed_by_then() -> None:
    store = Store()
    async with running_instance(store) as one:
        async with with_rounds(store, CheckpointLimits()):
            await ask(one.fleet, made("a", 1))

        recovered, _ = await start(store)

        assert (recovered.checkpointed, recovered.records) == (1, 0)
