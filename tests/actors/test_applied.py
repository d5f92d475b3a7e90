"""How far an instance has applied a journal that it shares."""

import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from rockets.actors.applied import RANGES_MAX, Applied
from rockets.journal.base import Appended, Position, StoredRecord

START = Position(0)


def commit(before: int, head: int) -> Appended:
    return Appended((), {}, (), Position(head), Position(before))


def records(*positions: int) -> list[StoredRecord]:
    return [StoredRecord(Position(each), "r", each, b"", 1) for each in positions]


def missing(applied: Applied, *positions: int) -> list[int]:
    return [record.position for record in applied.missing(records(*positions))]


async def test_own_commits_that_follow_each_other_count_at_once() -> None:
    applied = Applied(START)

    applied.note_own(commit(0, 2))
    applied.note_own(commit(2, 3))
    assert applied.through == 0
    await applied.settle()

    assert applied.through == 3


async def test_an_own_commit_behind_something_of_others_counts_when_that_is_applied() -> None:
    applied = Applied(START)
    applied.note_own(commit(1, 3))
    applied.note_own(commit(4, 6))
    await applied.settle()

    assert applied.through == 0
    assert missing(applied, 1, 2, 3, 4, 5, 6, 7) == [1, 4, 7]

    applied.move(Position(1))
    assert applied.through == 3
    assert missing(applied, 2, 3, 4, 5) == [4]
    applied.move(Position(4))
    assert applied.through == 6


async def test_a_commit_of_nothing_new_moves_nothing() -> None:
    applied = Applied(Position(2))

    applied.note_own(commit(5, 5))
    await applied.settle()

    assert applied.through == 2
    assert missing(applied, 4, 5, 6) == [4, 5, 6]


async def test_ranges_that_are_forgotten_are_only_read_again() -> None:
    applied = Applied(START)
    for each in range(RANGES_MAX + 1):
        applied.note_own(commit(2 * each + 1, 2 * each + 2))
    await applied.settle()

    assert missing(applied, 1, 2, 3, 4) == [1, 2, 3]


@given(commits=st.lists(st.tuples(st.booleans(), st.integers(0, 3)), max_size=30), data=st.data())
async def test_nothing_is_passed_that_was_neither_own_nor_applied(
    commits: list[tuple[bool, int]], data: st.DataObject
) -> None:
    """Own and foreign commits in any order, with reads of any length in between."""
    applied, head = Applied(START), 0
    done: set[int] = set()
    for is_own, size in commits:
        if is_own:
            applied.note_own(commit(head, head + size))
            done |= set(range(head + 1, head + size + 1))
        head += size
        if data.draw(st.booleans()):
            await applied.settle()
        if data.draw(st.booleans()):
            last = min(head, applied.through + data.draw(st.integers(1, 4)))
            read = range(applied.through + 1, last + 1)
            done |= set(missing(applied, *read))
            applied.move(Position(last))
        assert done >= set(range(1, applied.through + 1))

    await applied.settle()
    rest = missing(applied, *range(applied.through + 1, head + 1))
    assert not rest or rest[0] == applied.through + 1, "what is next is of others"


async def test_an_own_commit_counts_only_when_its_actors_have_had_their_turn() -> None:
    applied = Applied(START)
    for number in range(1, 41):  # which of two tasks comes first is a matter of luck
        told, done = trio.Event(), trio.Event()

        async def act(told: trio.Event = told, done: trio.Event = done) -> None:
            await told.wait()
            done.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(act)
            await wait_all_tasks_blocked()
            applied.note_own(commit(number - 1, number))
            told.set()
            await applied.settle()

            assert done.is_set()
            assert applied.through == number


async def test_two_that_settle_at_once_are_both_told_the_truth() -> None:
    applied = Applied(START)
    for number in range(1, 41):
        applied.note_own(commit(number - 1, number))
        seen: list[int] = []

        async def settle(seen: list[int] = seen) -> None:
            await applied.settle()
            seen.append(applied.through)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(settle)
            nursery.start_soon(settle)

        assert seen == [number, number]
