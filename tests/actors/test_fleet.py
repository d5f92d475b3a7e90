"""The fleet: restart, passivation and its race, limits, drain, and the replay at start."""

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from rockets.actors import rocket_actor
from rockets.actors.crashes import CRASHES_MAX
from rockets.actors.fleet import Fleet, FleetLimits
from rockets.actors.part import Reply
from rockets.actors.rocket_actor import RocketActor
from rockets.actors.waiting import FleetUnavailable
from rockets.domain.ledger import Ledger, Outcome
from rockets.domain.messages import Channel, Payload
from rockets.journal.base import Record
from rockets.journal.memory import MemoryJournal
from tests.actors.fleets import Gate, ask, running_fleet
from tests.helpers import body, message


def stored(journal: MemoryJournal, channel: str) -> list[int]:
    """The numbers that the journal holds."""
    return [record.number for record in journal.read(channel, 1, 2**53 - 1, limit=10_000)]


class Bomb:
    """Makes the next applications of any ledger raise, as a bug in the product would."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = 0
        apply = Ledger.apply

        def exploding(ledger: Ledger, number: int, payload: Payload, time: str) -> Outcome:
            if self.left:
                self.left -= 1
                raise RuntimeError("planted")
            return apply(ledger, number, payload, time)

        monkeypatch.setattr(Ledger, "apply", exploding)


@pytest.fixture
def bomb(monkeypatch: pytest.MonkeyPatch) -> Bomb:
    """Give the bomb, not yet lit."""
    return Bomb(monkeypatch)


async def test_a_crash_fails_every_sender_and_the_next_message_restores_the_rocket(
    bomb: Bomb,
) -> None:
    gate, errors = Gate(), []

    async with running_fleet(gate=gate) as fleet:
        await ask(fleet, message("r", 1, "RocketLaunched"))
        gate.shut()
        async with trio.open_nursery() as nursery:

            async def send(number: int) -> None:
                try:
                    await ask(fleet, message("r", number))
                except FleetUnavailable as error:
                    errors.append(str(error))

            nursery.start_soon(send, 2)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(send, 3)  # waits in the mailbox
            await trio.testing.wait_all_tasks_blocked()
            bomb.left = 1
            gate.open()
        [resent] = await ask(fleet, message("r", 2))
        [following] = await ask(fleet, message("r", 3))
        rocket = fleet.read_model.rocket(Channel("r"))

    assert errors == ["the rocket's actor crashed: RuntimeError"] * 2
    # Number 2 was committed before the crash, so the restored rocket knows it.
    assert (resent.outcome, following.outcome) == ("duplicate", "applied")
    assert rocket is not None
    assert rocket.speed == 1500
    assert fleet.statistics().restarts == 1
    assert fleet.statistics().gaps == 0


async def test_a_sender_that_waits_for_a_full_mailbox_is_failed_by_a_crash(bomb: Bomb) -> None:
    gate, errors = Gate(), []

    async with running_fleet(gate=gate, limits=FleetLimits(mailbox_max=1)) as fleet:
        gate.shut()
        async with trio.open_nursery() as nursery:

            async def send(number: int) -> None:
                try:
                    await ask(fleet, message("r", number))
                except FleetUnavailable:
                    errors.append(number)

            for number in (1, 2, 3):
                nursery.start_soon(send, number)
                await trio.testing.wait_all_tasks_blocked()
            bomb.left = 1
            gate.open()

    assert sorted(errors) == [1, 2, 3]


async def test_a_rocket_that_crashes_again_and_again_is_left_alone_for_a_minute(
    bomb: Bomb, autojump_clock: trio.testing.MockClock
) -> None:
    async with running_fleet() as fleet:
        for number in range(1, CRASHES_MAX + 1):
            bomb.left = 1
            with pytest.raises(FleetUnavailable, match="crashed: RuntimeError"):
                await ask(fleet, message("bad", number))
        with pytest.raises(FleetUnavailable, match="too often"):
            await ask(fleet, message("bad", 9))
        [other] = await ask(fleet, message("good", 1, "RocketLaunched"))

        await trio.sleep(61)
        [again] = await ask(fleet, message("bad", 9))

    assert other.outcome == "applied"
    assert again.outcome == "held"


async def test_an_idle_actor_ends_and_the_next_message_starts_it_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running_fleet() as fleet:
        await ask(fleet, message("r", 1, "RocketLaunched"))
        assert fleet.statistics().live_actors == 1

        await trio.sleep(76)
        assert fleet.statistics().live_actors == 0
        assert fleet.read_model.rocket(Channel("r")) is not None
        [reply] = await ask(fleet, message("r", 2))

    assert reply == type(reply)("applied", 2)


async def test_an_actor_that_works_is_not_ended_by_the_sweep(
    autojump_clock: trio.testing.MockClock,
) -> None:
    gate = Gate()
    replies: list[Reply] = []

    async with running_fleet(gate=gate) as fleet, trio.open_nursery() as nursery:
        gate.shut()

        async def send() -> None:
            replies.extend(await ask(fleet, message("r", 1, "RocketLaunched")))

        nursery.start_soon(send)
        await trio.sleep(600)
        assert fleet.statistics().live_actors == 1
        gate.open()

    assert [reply.outcome for reply in replies] == ["applied"]


@given(delays=st.lists(st.sampled_from([0.0, 0.25, 0.75, 1.0, 1.25]), min_size=1, max_size=12))
async def test_no_message_is_lost_when_it_meets_a_passivation(delays: list[float]) -> None:
    journal, limits = MemoryJournal(), FleetLimits(idle_timeout_s=1.0)

    async with running_fleet(journal, limits=limits) as fleet:
        for number, delay in enumerate(delays, 1):
            async with trio.open_nursery() as nursery:
                # The send and the sweep become ready in one pass of the scheduler, which
                # Hypothesis makes run them in either order.
                nursery.start_soon(ask, fleet, message("r", number))
                if delay:
                    nursery.start_soon(_sweep, fleet)

    assert stored(journal, "r") == list(range(1, len(delays) + 1))


async def _sweep(fleet: Fleet) -> None:
    for entry in fleet._entries.values():
        entry.last_used = -1e9
    fleet._sweep_once()


@pytest.mark.parametrize(("rockets", "live"), [(2, 2), (3, 3), (4, 3)])
async def test_at_the_limit_the_actor_used_longest_ago_ends(rockets: int, live: int) -> None:
    async with running_fleet(limits=FleetLimits(actors_max=3)) as fleet:
        for index in range(rockets):
            await ask(fleet, message(f"r{index}", 1, "RocketLaunched"))

        assert fleet.statistics().live_actors == live
        assert fleet.statistics().rockets == rockets


async def test_with_every_actor_at_work_another_rocket_is_refused() -> None:
    gate = Gate()

    async with running_fleet(gate=gate, limits=FleetLimits(actors_max=1)) as fleet:
        gate.shut()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, fleet, message("a", 1))
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(FleetUnavailable, match="too many rockets"):
                await ask(fleet, message("b", 1))
            gate.open()


@pytest.mark.parametrize(("waiting", "refused"), [(1, False), (2, False), (3, True)])
async def test_more_waiting_requests_than_the_limit_are_refused(
    waiting: int, refused: bool
) -> None:
    gate, errors = Gate(), []

    async with running_fleet(gate=gate, limits=FleetLimits(waiting_max=2)) as fleet:
        gate.shut()
        async with trio.open_nursery() as nursery:

            async def send(number: int) -> None:
                try:
                    await ask(fleet, message("r", number))
                except FleetUnavailable as error:
                    errors.append(str(error))

            for number in range(1, waiting + 1):
                nursery.start_soon(send, number)
            await trio.testing.wait_all_tasks_blocked()
            gate.open()

    assert bool(errors) == refused


@pytest.mark.parametrize(("size", "refused"), [(399, False), (400, False), (401, True)])
async def test_more_waiting_bytes_than_the_limit_are_refused(size: int, refused: bool) -> None:
    gate, errors = Gate(), []
    first = message("r", 1, "Padded", padding="x" * 400)
    limits = FleetLimits(waiting_bytes_max=len(first.body) + 400)

    async with running_fleet(gate=gate, limits=limits) as fleet:
        gate.shut()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, fleet, first)
            await trio.testing.wait_all_tasks_blocked()

            async def send() -> None:
                plain = len(message("r", 2, "Padded", padding="").body)
                try:
                    await ask(fleet, message("r", 2, "Padded", padding="x" * (size - plain)))
                except FleetUnavailable as error:
                    errors.append(str(error))

            nursery.start_soon(send)
            await trio.testing.wait_all_tasks_blocked()
            gate.open()
        await ask(fleet, message("r", 3, "Padded", padding="x" * 5_000))  # alone it is taken

    assert errors == ["too many bytes wait for a commit"] * refused
    assert stored_count(fleet) == 3 - refused


def stored_count(fleet: Fleet) -> int:
    """How many messages of the rocket are published."""
    rocket = fleet.read_model.rocket(Channel("r"))
    assert rocket is not None
    return rocket.sequence.received


async def test_who_gives_up_counts_until_the_actors_are_through_with_it() -> None:
    gate = Gate()

    async with running_fleet(gate=gate, limits=FleetLimits(mailbox_max=1)) as fleet:
        gate.shut()
        for number in range(1, 4):  # one with the actor, one in the mailbox, one before it
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask, fleet, message("r", number))
                await trio.testing.wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
        async with trio.open_nursery() as nursery:
            pair = [message("a", 1), message("b", 1)]
            nursery.start_soon(lambda: fleet.ask_all(pair, received_at=1))
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()

        # Of the third nothing was handed over; the two parts of the last are one request.
        assert fleet.statistics().requests_waiting == 3
        gate.open()
        await trio.testing.wait_all_tasks_blocked()
        assert fleet.statistics().requests_waiting == 0
        assert (stored_count(fleet), len(fleet.read_model)) == (2, 3)


async def test_a_full_mailbox_makes_the_sender_wait_and_loses_nothing() -> None:
    gate, journal = Gate(), MemoryJournal()

    async with running_fleet(journal, gate=gate, limits=FleetLimits(mailbox_max=1)) as fleet:
        gate.shut()
        async with trio.open_nursery() as nursery:
            for number in range(1, 6):
                nursery.start_soon(ask, fleet, message("r", number))
            await trio.testing.wait_all_tasks_blocked()
            gate.open()

    assert stored(journal, "r") == [1, 2, 3, 4, 5]


async def test_closing_works_off_what_was_taken_and_takes_nothing_more() -> None:
    gate, journal = Gate(), MemoryJournal()
    replies: list[Reply] = []

    async with running_fleet(journal, gate=gate) as fleet:
        gate.shut()
        async with trio.open_nursery() as nursery:

            async def send(number: int) -> None:
                replies.extend(await ask(fleet, message("r", number)))

            nursery.start_soon(send, 1)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(send, 2)
            await trio.testing.wait_all_tasks_blocked()
            fleet.close()
            with pytest.raises(FleetUnavailable, match="stopping"):
                await ask(fleet, message("r", 3))
            gate.open()

    assert stored(journal, "r") == [1, 2]
    assert len(replies) == 2


async def test_a_start_folds_the_journal_and_ignores_nothing_it_cannot_read() -> None:
    journal = MemoryJournal()
    journal.append(
        [
            Record("r", 1, body("r", 1, "RocketLaunched"), 1),
            Record("r", 2, b"written by a version that never was", 1),
            Record("r", 3, body("r", 3, by=7), 1),
            Record("s", 2, body("s", 2), 1),
        ]
    )

    async with running_fleet(journal) as fleet:
        rocket = fleet.read_model.rocket(Channel("r"))
        statistics = fleet.statistics()

    assert rocket is not None
    assert (rocket.speed, rocket.anomalies, rocket.sequence.settled_through) == (507, 1, 3)
    assert (statistics.rockets, statistics.gaps, statistics.live_actors) == (2, 1, 0)


async def test_a_restart_counts_conflicts_again() -> None:
    journal = MemoryJournal()
    async with running_fleet(journal) as fleet:
        await ask(fleet, message("r", 1, by=1), message("r", 1, by=2), message("r", 1, by=3))
        before = fleet.read_model.rocket(Channel("r"))

    async with running_fleet(journal) as fleet:
        after = fleet.read_model.rocket(Channel("r"))

    assert before == after
    assert before is not None
    assert before.anomalies == 3  # a speed change before the launch, and two conflicts


async def test_from_commit_to_answer_there_is_no_checkpoint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    instrument = _Passes()
    trio.lowlevel.add_instrument(instrument)
    seen: list[int] = []
    for owner, step in ((RocketActor, "_apply"), (rocket_actor, "answer")):
        _note_passes(monkeypatch, owner, step, instrument, seen)

    async with running_fleet() as fleet:
        await ask(fleet, message("r", 1, "RocketLaunched"))

    assert len(seen) == 2
    assert len(set(seen)) == 1


def _note_passes(
    monkeypatch: pytest.MonkeyPatch,
    owner: object,
    name: str,
    instrument: "_Passes",
    seen: list[int],
) -> None:
    """Note at each call of a function how often any task was resumed before."""
    real = getattr(owner, name)

    def noting(*arguments: object) -> object:
        seen.append(instrument.steps)
        return real(*arguments)

    monkeypatch.setattr(owner, name, noting)


class _Passes(trio.abc.Instrument):
    """Counts how often any task was resumed."""

    def __init__(self) -> None:
        self.steps = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.steps += 1
