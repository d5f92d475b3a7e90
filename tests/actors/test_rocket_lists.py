"""Lists of any number of rockets: exact while there are few, fresh and in turns above."""

import math
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from rockets.actors import rocket_lists
from rockets.actors.listing import ListQuery, SortBy
from rockets.actors.read_model import ReadModel
from rockets.actors.rocket_lists import ListFailed, RocketLists, open_rocket_lists
from rockets.actors.rocket_table import rows_of
from rockets.domain.messages import Channel
from rockets.domain.rocket import Rocket
from rockets.journal.thread import T, inline, open_thread
from tests.helpers import message

FASTEST = ListQuery(sort=(SortBy("speed", descending=True),), limit=2)  # quick
LAST = ListQuery(sort=(SortBy("lastMessageNumber", descending=True),), limit=2)  # not quick


class Fleet:
    """A read model with rockets that have been launched, at speeds as told."""

    def __init__(self, *speeds: int) -> None:
        self.model = ReadModel()
        for place, speed in enumerate(speeds):
            self.tell(f"r{place}", 1, "RocketLaunched", type="A", launchSpeed=speed, mission="M")

    def tell(
        self, name: str, number: int, kind: str = "RocketSpeedIncreased", **content: Any
    ) -> None:
        """Let a rocket have a message."""
        arrived = message(name, number, kind, **content)
        ledger = self.model.take_over(arrived.channel)
        ledger.apply(number, arrived.payload, arrived.time)
        self.model.publish(ledger)
        self.model.retire(arrived.channel)


async def speeds(lists: RocketLists, query: ListQuery = FASTEST) -> list[int | None]:
    """Give the speeds of a page, which must say that it is fresh."""
    listed = await lists.page(query)
    assert listed.age_ms is not None
    assert listed.age_ms <= 250
    return [rocket.speed for rocket in listed.page.rockets]


@pytest.mark.parametrize(("count", "exact"), [(2, True), (3, True), (4, False)])
async def test_up_to_a_number_of_rockets_lists_are_exact(count: int, exact: bool) -> None:
    fleet = Fleet(*range(count))
    async with open_rocket_lists(fleet.model, hop=inline, exact_max=3) as lists:
        listed = await lists.page(FASTEST)

    assert listed.page == fleet.model.page(FASTEST)
    assert (listed.age_ms is None) is exact


changes = st.lists(
    st.tuples(st.sampled_from(["r0", "r1", "r2", "r9"]), st.integers(1, 6), st.integers(0, 9)),
    max_size=8,
)
some_queries = st.builds(
    ListQuery,
    sort=st.sampled_from([(), FASTEST.sort, LAST.sort, (SortBy("mission"),)]),
    view=st.sampled_from(["latest", "settled"]),
    complete=st.sampled_from([None, None, True]),
    limit=st.integers(1, 3),
)


@given(refreshes=st.lists(st.tuples(changes, some_queries), min_size=1, max_size=4))
async def test_after_any_changes_a_list_is_that_of_the_read_model(
    refreshes: list[tuple[list[tuple[str, int, int]], ListQuery]],
) -> None:
    fleet = Fleet(5, 7)
    async with open_rocket_lists(fleet.model, hop=inline, exact_max=0) as lists:
        for told, query in refreshes:
            for name, number, by in told:
                fleet.tell(name, number, by=by)
            lists._as_of = -math.inf  # as if the last refresh had been long ago
            assert (await lists.page(query)).page == fleet.model.page(query)


async def test_a_list_shows_what_was_there_when_it_was_asked_for(autojump_clock: MockClock) -> None:
    fleet = Fleet(1, 2, 3)
    async with open_rocket_lists(fleet.model, hop=inline, exact_max=0) as lists:
        assert await speeds(lists, LAST) == [1, 2]
        for number in range(2, 9):
            fleet.tell("r2", number, by=1)
            assert await speeds(lists, LAST) == [2 + number, 1]


async def test_a_quick_list_waits_for_nothing_and_is_never_over_250_ms_old(
    autojump_clock: MockClock,
) -> None:
    fleet = Fleet(1, 2, 3)
    async with open_rocket_lists(fleet.model, hop=inline, exact_max=0) as lists:
        assert await speeds(lists) == [3, 2]
        for tick in range(1, 200):
            fleet.tell("r0", tick + 1, by=10)
            asked = trio.current_time()
            seen = await speeds(lists)
            assert trio.current_time() == asked
            assert seen[0] in {3, 1 + 10 * tick}
            await trio.sleep(0.02)
        await trio.sleep(0.25)
        assert await speeds(lists) == [1 + 10 * 199, 3]


async def test_age_is_that_of_the_round_and_its_time(autojump_clock: MockClock) -> None:
    fleet = Fleet(1, 2)

    async def slow(fn: Callable[..., T], /, *args: object) -> T:
        await trio.sleep(0.03)
        return fn(*args)

    async with open_rocket_lists(fleet.model, hop=slow, exact_max=0) as lists:
        # 30 ms to write the rows, 30 ms to read them.
        assert (await lists.page(LAST)).age_ms == 60


async def test_nothing_is_kept_up_when_nobody_asks_and_then_made_up_for(
    autojump_clock: MockClock,
) -> None:
    fleet, calls = Fleet(1, 2), []

    async def counting(fn: Callable[..., T], /, *args: object) -> T:
        calls.append(fn)
        return await inline(fn, *args)

    async with open_rocket_lists(fleet.model, hop=counting, exact_max=0) as lists:
        await trio.sleep(60)
        assert fleet.model.unlisted is None, "names are noted only once there is a table"
        await speeds(lists)
        await trio.sleep(rocket_lists.KEEP_S + 1)
        calls.clear()
        for number in range(2, 5):
            fleet.tell("r0", number, by=5)
            await trio.sleep(60)
        assert calls == []
        assert fleet.model.unlisted == {"r0"}
        assert await speeds(lists) == [16, 2]


async def test_rows_are_made_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rocket_lists, "ROWS_AT_ONCE", 5)
    monkeypatch.setattr(rocket_lists, "ROCKETS_AT_ONCE", 5)
    fleet = Fleet(*range(200))
    made = 0
    longest = 0

    def counted(ledger: Any) -> Any:
        nonlocal made
        made += 1
        return rows_of(ledger)

    async def watch() -> None:
        nonlocal longest
        before = made
        while True:
            await trio.lowlevel.checkpoint()
            longest, before = max(longest, made - before), made

    monkeypatch.setattr(rocket_lists, "rows_of", counted)
    async with open_rocket_lists(fleet.model, hop=inline, exact_max=0) as lists:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            await speeds(lists)
            # Trio runs the tasks of a turn in any order, so there may be two slices between two.
            assert (made, longest) in {(200, 5), (200, 10)}
            # A rocket with 50 gaps counts as one of six.
            for number in range(3, 103, 2):
                for name in ("r1", "r2"):
                    fleet.tell(name, number, by=1)
            longest = 0
            await speeds(lists, LAST)
            assert longest in {1, 2}
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("written_max", [1, 7, 10, 1_000])
async def test_rows_are_written_in_portions(
    written_max: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rocket_lists, "ROWS_WRITTEN_MAX", written_max)
    fleet = Fleet(*range(20))
    async with open_rocket_lists(fleet.model, hop=inline, exact_max=0) as lists:
        listed = await lists.page(msgspec.structs.replace(FASTEST, limit=100))

    assert [rocket.speed for rocket in listed.page.rockets] == [*range(19, -1, -1)]
    assert listed.page.total == 20


async def test_after_a_long_round_another_one_comes_before_the_list(
    autojump_clock: MockClock,
) -> None:
    fleet, refreshes = Fleet(1, 2), 0

    async def slow(fn: Callable[..., T], /, *args: object) -> T:
        nonlocal refreshes
        if args and not isinstance(args[0], ListQuery):
            refreshes += 1
            await trio.sleep(3 / 10**refreshes)
            fleet.tell("r0", refreshes + 1, by=1)
        return await inline(fn, *args)

    async with open_rocket_lists(fleet.model, hop=slow, exact_max=0) as lists:
        assert await speeds(lists, LAST) == [3, 2]
        assert refreshes == 2  # of 0.3 s and of 0.03 s


async def test_rounds_that_get_no_shorter_do_not_keep_a_list_for_ever(
    autojump_clock: MockClock,
) -> None:
    fleet, told = Fleet(1, 2), 0

    async def slow(fn: Callable[..., T], /, *args: object) -> T:
        nonlocal told
        if args and not isinstance(args[0], ListQuery):
            await trio.sleep(1)
            told += 1
            fleet.tell("r0", told + 1, by=1)
        return await inline(fn, *args)

    async with open_rocket_lists(fleet.model, hop=slow, exact_max=0) as lists:
        assert (await lists.page(FASTEST)).age_ms == 1_000
        assert told == 2


async def test_a_rocket_that_has_left_the_page_is_not_on_it_and_one_that_has_moved_is_in_place(
    autojump_clock: MockClock,
) -> None:
    fleet = Fleet(1, 2, 3, 4, 5)

    async def changing(fn: Callable[..., T], /, *args: object) -> T:
        found = await inline(fn, *args)
        if isinstance(args[0], ListQuery):
            fleet.tell("r4", 2, "RocketSpeedDecreased", by=100)
            fleet.tell("r2", 2, by=100)
        return found

    query = msgspec.structs.replace(FASTEST, limit=3)
    async with open_rocket_lists(fleet.model, hop=changing, exact_max=0) as lists:
        listed = await lists.page(query)

        assert [rocket.channel for rocket in listed.page.rockets] == ["r2", "r3"]
        assert listed.page.total == 5
        assert listed.page.following is not None
        # The page after goes on where this one ends, with the rocket that has fallen behind it.
        query = msgspec.structs.replace(query, after=listed.page.following)
        await trio.sleep(1)
        following = await lists.page(query)
        assert [rocket.channel for rocket in following.page.rockets] == ["r1", "r0", "r4"]


async def test_who_goes_away_does_not_stop_the_table_from_being_made() -> None:
    fleet = Fleet(1, 2)
    opened = trio.Event()

    async def gated(fn: Callable[..., T], /, *args: object) -> T:
        await opened.wait()
        return await inline(fn, *args)

    async with open_rocket_lists(fleet.model, hop=gated, exact_max=0) as lists:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lists.page, FASTEST)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        fleet.tell("r0", 2, by=9)
        opened.set()
        assert await speeds(lists, LAST) == [10, 2]


async def test_a_table_that_cannot_be_made_fails_the_list_and_is_made_anew_for_the_next() -> None:
    fleet, failing = Fleet(1, 2), True

    async def broken(fn: Callable[..., T], /, *args: object) -> T:
        if failing:
            raise MemoryError
        return await inline(fn, *args)

    async with open_rocket_lists(fleet.model, hop=broken, exact_max=0) as lists:
        with pytest.raises(ListFailed, match="MemoryError"):
            await lists.page(FASTEST)
        assert fleet.model.unlisted is None
        failing = False
        assert await speeds(lists) == [2, 1]


async def test_lists_are_read_in_a_thread() -> None:
    fleet = Fleet(*range(50))
    async with (
        open_thread("lists") as hop,
        open_rocket_lists(fleet.model, hop=hop, exact_max=0) as lists,
        trio.open_nursery() as nursery,
    ):
        for _ in range(5):
            nursery.start_soon(lists.page, LAST)
        assert await speeds(lists) == [49, 48]
        shown = fleet.model.rocket(Channel("r49"))
        assert isinstance(shown, Rocket)
