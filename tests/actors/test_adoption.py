"""At the limit of live actors, one that waits for nothing takes another rocket over."""

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from rockets.actors.fleet import FleetLimits
from rockets.actors.part import AwaitedPart
from rockets.actors.waiting import FleetUnavailable
from rockets.domain.rocket import fold
from tests.actors.fleets import Gate, ask, running_fleet
from tests.helpers import message


def part(channel: str, number: int) -> AwaitedPart:
    return AwaitedPart([message(channel, number)], 1)


async def test_the_adopted_rocket_has_a_ledger_and_a_memory_of_its_own() -> None:
    async with running_fleet(limits=FleetLimits(actors_max=1)) as fleet:
        await ask(fleet, message("a", 1, "RocketLaunched"))

        first = await ask(fleet, message("b", 1, by=1))
        again = await ask(fleet, message("b", 1, by=2))

        assert [reply.outcome for reply in (*first, *again)] == ["ignored", "conflict"]
        assert fleet.statistics().live_actors == 1


async def test_an_actor_to_which_a_message_was_just_handed_is_not_quiet() -> None:
    async with running_fleet(limits=FleetLimits(actors_max=1)) as fleet:
        await ask(fleet, message("a", 1, "RocketLaunched"))
        await wait_all_tasks_blocked()
        mine = part("a", 2)
        assert fleet.post_nowait(mine.messages[0].channel, mine)

        # The actor has it, and has not had a turn since.
        with pytest.raises(FleetUnavailable, match="too many rockets"):
            fleet.post_nowait(message("b", 1).channel, part("b", 1))

        assert [reply.settled_through for reply in await mine.wait_replies()] == [2]


async def test_an_actor_that_waits_for_its_commit_is_not_quiet() -> None:
    gate = Gate()
    async with running_fleet(gate=gate, limits=FleetLimits(actors_max=1)) as fleet:
        gate.shut()
        mine = part("a", 1)
        fleet.post_nowait(mine.messages[0].channel, mine)
        await wait_all_tasks_blocked()

        with pytest.raises(FleetUnavailable, match="too many rockets"):
            fleet.post_nowait(message("b", 1).channel, part("b", 1))
        gate.open()
        await mine.wait_replies()


@settings(max_examples=60, deadline=None)
@given(
    turns=st.lists(
        st.tuples(st.sampled_from("abcde"), st.integers(1, 6), st.booleans()), max_size=60
    ),
    actors_max=st.integers(1, 3),
)
async def test_rockets_that_share_actors_never_mix(
    turns: list[tuple[str, int, bool]], actors_max: int
) -> None:
    """With a turn of the scheduler between some of the messages, and none between others."""
    stored: dict[str, list[int]] = {}
    async with running_fleet(limits=FleetLimits(actors_max=actors_max)) as fleet:
        parts = []
        for channel, number, rest in turns:
            mine = part(channel, number)
            try:
                fleet.post_nowait(mine.messages[0].channel, mine)
            except FleetUnavailable:
                continue
            parts.append(mine)
            stored.setdefault(channel, []).append(number)
            if rest:
                await trio.lowlevel.checkpoint()
        for mine in parts:
            await mine.wait_replies()

        for channel, numbers in stored.items():
            messages = [message(channel, number) for number in numbers]
            expected = fold(messages[0].channel, messages)
            assert fleet.read_model.rocket(messages[0].channel) == expected
