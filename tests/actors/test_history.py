"""Time travel is the fold of a prefix, and no history is too long to read beside other work."""

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from itertools import pairwise
from typing import get_args

import msgspec
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from rockets.actors import history as history_module
from rockets.actors.fleet import FleetLimits, open_fleet
from rockets.actors.history import (
    READ_RECORDS,
    SCANS_MAX,
    SLICE_BYTES,
    History,
    HistoryUnavailable,
    StoredMessage,
)
from rockets.actors.read_model import ReadModel
from rockets.domain.messages import Channel, Message, instant
from rockets.domain.rocket import View, fold
from rockets.journal.base import JournalBusy, Position, Record, StoredRecord
from rockets.journal.memory import MemoryJournal
from rockets.journal.thread import inline
from rockets.journal.writer import open_writer
from tests.actors.fleets import Gate, ask, running_fleet
from tests.domain.histories import CHANNEL, messages
from tests.helpers import body, message

ROCKET = Channel(CHANNEL)
VIEWS: tuple[View, ...] = get_args(View)


@asynccontextmanager
async def running_history(
    *arrived: Message, journal: MemoryJournal | None = None
) -> AsyncIterator[History]:
    """Give the history of a fleet that took these messages, one after the other."""
    async with running_fleet(journal) as fleet:
        for each in arrived:
            await ask(fleet, each)
        yield History(fleet._journal, fleet.read_model)


def stored_as_is(*bodies: bytes) -> MemoryJournal:
    """Give a journal that holds these bodies under the numbers from 1, received a second apart."""
    journal = MemoryJournal()
    journal.append(
        [Record(ROCKET, i + 1, each, 1_000_000 * i + 7) for i, each in enumerate(bodies)]
    )
    return journal


class CountingJournal(MemoryJournal):
    """Notes how many records every read asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.limits: list[int] = []

    def read(self, stream: str, first: int, last: int, *, limit: int) -> list[StoredRecord]:
        self.limits.append(limit)
        return super().read(stream, first, last, limit=limit)


class BusyJournal(MemoryJournal):
    """Refuses every read, as SQLite does while another program holds the file."""

    def read(self, stream: str, first: int, last: int, *, limit: int) -> list[StoredRecord]:
        raise JournalBusy("another program holds the journal")


def first_of_each(arrived: list[Message]) -> dict[int, Message]:
    """Keep the first message of every number."""
    stored: dict[int, Message] = {}
    for each in arrived:
        stored.setdefault(each.number, each)
    return stored


def conflicts_up_to(number: int, arrived: list[Message]) -> int:
    """Count the differing contents that came for the numbers up to this one."""
    stored = first_of_each(arrived)
    different = {
        (each.number, each.payload)
        for each in arrived
        if each.payload != stored[each.number].payload and each.number <= number
    }
    return len(different)


# --- time travel ----------------------------------------------------------------------------


@given(arrived=messages())
async def test_a_rocket_at_a_number_is_the_fold_of_the_messages_up_to_it(
    arrived: list[Message],
) -> None:
    stored = first_of_each(arrived)
    async with running_history(*arrived) as history:
        for number in range(1, max(stored, default=1) + 2):
            prefix = [each for each in stored.values() if each.number <= number]
            for view in VIEWS:
                shown = await history.rocket_at(ROCKET, number, view)
                conflicts = conflicts_up_to(number, arrived)
                wanted = fold(ROCKET, prefix, view=view, conflicts=conflicts) if prefix else None
                assert shown == wanted


@pytest.mark.parametrize("ranges", [99, 100, 101])
async def test_of_very_many_gaps_in_the_past_the_first_hundred_are_listed(ranges: int) -> None:
    numbers = range(2, 2 * ranges + 2, 2)
    stored = [message(ROCKET, number, by=number) for number in (*numbers, 10_000)]

    async with running_history(*stored) as history:
        shown = await history.rocket_at(ROCKET, 9_999, "latest")

    assert shown == fold(ROCKET, stored[:-1])
    assert shown is not None
    assert len(shown.sequence.missing) == min(ranges, 100)


@given(arrived=messages(), seconds=st.integers(-1, 25))
async def test_the_number_at_a_time_is_the_highest_one_not_later(
    arrived: list[Message], seconds: int
) -> None:
    moment = instant("2022-02-02T19:39:00Z") + seconds * 1_000_000_000
    not_later = [n for n, each in first_of_each(arrived).items() if instant(each.time) <= moment]

    async with running_history(*arrived) as history:
        assert await history.number_at(ROCKET, moment) == max(not_later, default=None)


async def test_the_time_of_a_message_is_compared_as_an_instant_to_the_nanosecond() -> None:
    time = "2022-02-02T19:39:05.000000001+01:00"
    async with running_history(message(ROCKET, 3, time=time)) as history:
        moment = instant("2022-02-02T18:39:05.000000001Z")
        assert await history.number_at(ROCKET, moment) == 3
        assert await history.number_at(ROCKET, moment - 1) is None


async def test_a_rocket_nobody_knows_has_no_past() -> None:
    async with running_history() as history:
        assert not history.knows(ROCKET)
        assert await history.rocket_at(ROCKET, 1, "latest") is None
        assert await history.number_at(ROCKET, 2**62) is None


async def test_conflicts_are_counted_over_all_their_pages() -> None:
    conflicts = [message(ROCKET, number, by=7) for number in range(1, READ_RECORDS + 21)]
    stored = [message(ROCKET, number, by=1) for number in range(1, READ_RECORDS + 31)]
    async with running_fleet() as fleet:
        await ask(fleet, *stored)
        await ask(fleet, *conflicts)
        past = await History(fleet._journal, fleet.read_model).rocket_at(
            ROCKET, READ_RECORDS + 10, "latest"
        )

    assert past is not None
    assert past.anomalies == 2 * (READ_RECORDS + 10)  # each also came before a launch


# --- messages -------------------------------------------------------------------------------


async def test_a_message_is_shown_as_it_was_sent() -> None:
    sent = (
        b'{"message": {"by": 1}, "metadata" : {"channel":"rocket-1", "messageNumber":1,'
        b'"messageTime":"2022-02-02T19:39:05.10+01:00","messageType":"RocketSpeedIncreased"},'
        b'"message" :\t{ "by":\n 7.0e0, "by" : 5, "caf\xc3\xa9": "\\u00e9 \\/" } }'
    )
    async with running_history(journal=stored_as_is(sent)) as history:
        [shown] = (await history.messages(ROCKET, 0, 10)).messages

    assert shown.type == "RocketSpeedIncreased"
    assert shown.time == "2022-02-02T19:39:05.10+01:00"
    assert shown.received_at == "1970-01-01T00:00:00.000007Z"
    assert shown.payload is not None
    assert bytes(shown.payload) == b'{ "by":\n 7.0e0, "by" : 5, "caf\xc3\xa9": "\\u00e9 \\/" }'


@pytest.mark.parametrize("unreadable", [b"\xff", b"[]", b"{}", b'{"metadata": {}, "message": {}}'])
async def test_a_body_that_cannot_be_read_is_shown_without_its_content(unreadable: bytes) -> None:
    launch = body(ROCKET, 1, "RocketLaunched")
    more = body(ROCKET, 3, by=40)
    async with running_history(journal=stored_as_is(launch, unreadable, more)) as history:
        page = await history.speeds(ROCKET, 0, 10)
        past = await history.rocket_at(ROCKET, 2, "settled")
        at_the_epoch = await history.number_at(ROCKET, 0)

    assert page.messages[1] == StoredMessage(
        2, "unreadable", None, None, "1970-01-01T00:00:01.000007Z", 500
    )
    assert [each.speed for each in page.messages] == [500, 500, 540]
    assert past is not None
    assert (past.last_message_number, past.speed, past.anomalies) == (2, 500, 1)
    assert at_the_epoch is None


@given(numbers=st.sets(st.integers(1, 12)), after=st.integers(0, 13), limit=st.integers(1, 5))
async def test_walking_the_pages_shows_every_message_once_and_in_order(
    numbers: set[int], after: int, limit: int
) -> None:
    walked: list[int] = []
    following: int | None = after
    async with running_history(*(message(ROCKET, number) for number in numbers)) as history:
        while following is not None:
            page = await history.messages(ROCKET, following, limit)
            assert len(page.messages) == limit or page.following is None
            walked += [each.number for each in page.messages]
            following = page.following

    assert walked == sorted(number for number in numbers if number > after)


async def test_a_page_ends_before_it_gets_too_large_but_never_empty(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bodies = [body(ROCKET, number) for number in range(1, 8)]
    async with running_history(journal=stored_as_is(*bodies)) as history:
        monkeypatch.setattr(history_module, "PAGE_BYTES_MAX", 3 * len(bodies[0]))
        page = await history.messages(ROCKET, 1, 10)
        thinned = await history.speeds(ROCKET, 0, 10)
        monkeypatch.setattr(history_module, "PAGE_BYTES_MAX", 1)
        tiny = await history.messages(ROCKET, 1, 10)
        ends = await history.speeds(ROCKET, 0, 10)

    assert ([each.number for each in page.messages], page.following) == ([2, 3, 4], 4)
    assert ([each.number for each in tiny.messages], tiny.following) == ([2], 2)
    assert [each.number for each in thinned.messages] == [1, 5, 7]
    assert [each.number for each in ends.messages] == [1, 5, 7]


# --- speeds ---------------------------------------------------------------------------------


@given(arrived=messages(), after=st.integers(0, 15))
async def test_each_speed_is_that_of_the_fold_up_to_its_message(
    arrived: list[Message], after: int
) -> None:
    stored = first_of_each(arrived)
    async with running_history(*arrived) as history:
        page = await history.speeds(ROCKET, after, 100)
        plain = await history.messages(ROCKET, after, 100)

    numbers = sorted(number for number in stored if number > after)
    assert page.following is None
    assert [(each.number, each.speed) for each in page.messages] == [
        (n, fold(ROCKET, [stored[m] for m in stored if m <= n]).speed) for n in numbers
    ]
    assert all(each.speed is msgspec.UNSET for each in plain.messages)
    assert [each.payload for each in page.messages] == [each.payload for each in plain.messages]


@given(count=st.integers(0, 70), limit=st.integers(1, 12))
async def test_thinning_keeps_both_ends_and_equal_steps_within_the_limit(
    count: int, limit: int
) -> None:
    bodies = [body(ROCKET, number) for number in range(1, count + 1)]
    async with running_history(journal=stored_as_is(*bodies)) as history:
        page = await history.speeds(ROCKET, 0, limit)

    kept = [each.number for each in page.messages]
    assert len(kept) <= limit
    assert kept[-1:] == [count] * bool(count)
    if limit > 1:
        assert kept[:1] == [1] * bool(count)
    if count <= limit:
        assert kept == list(range(1, count + 1))
    elif limit > 1:
        steps = [after - before for before, after in pairwise(kept)]
        assert len(set(steps[:-1])) <= 1
        assert len(kept) > limit // 2
        assert steps[-1] <= 2 * 2 ** math.ceil(math.log2(count / limit))


# --- slices ---------------------------------------------------------------------------------


async def test_a_long_history_is_read_in_slices_with_a_checkpoint_after_each() -> None:
    count = 3 * READ_RECORDS + 5
    bodies = [body(ROCKET, number) for number in range(1, count + 1)]
    journal = CountingJournal()
    journal.append([Record(ROCKET, i + 1, each, 1) for i, each in enumerate(bodies)])
    slices_min = sum(map(len, bodies)) // SLICE_BYTES
    async with running_history(journal=journal) as history:
        for question in (
            partial(history.rocket_at, ROCKET, count - 1, "latest"),
            partial(history.number_at, ROCKET, 0),
            partial(history.messages, ROCKET, 0, 10_000),
            partial(history.speeds, ROCKET, 0, 10),
        ):
            journal.limits.clear()
            turns = await turns_of_others(question)
            assert turns >= slices_min > 5
            assert journal.limits == [READ_RECORDS] * 4


async def turns_of_others(question: Callable[[], Awaitable[object]]) -> int:
    """Count how often another task runs while a question is answered."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        await question()
        nursery.cancel_scope.cancel()
    return turns


def test_a_slice_never_holds_more_bytes_than_a_turn_may_take() -> None:
    sizes = (100, SLICE_BYTES, 1, 1, 2 * SLICE_BYTES, 1, SLICE_BYTES - 1, 2)
    records = [
        StoredRecord(Position(i + 1), ROCKET, i + 1, b"x" * size, 1) for i, size in enumerate(sizes)
    ]

    counts = []
    while records:
        counts.append(history_module._count_within(records, SLICE_BYTES))
        records = records[counts[-1] :]

    assert counts == [1, 1, 2, 1, 2, 1]


async def test_a_short_page_reads_no_more_than_it_needs() -> None:
    journal = CountingJournal()
    async with running_history(
        *(message(ROCKET, number) for number in range(1, 9)), journal=journal
    ) as history:
        journal.limits.clear()
        await history.messages(ROCKET, 0, 3)

    assert journal.limits == [4]


async def test_of_many_scans_a_few_run_and_the_others_wait_their_turn() -> None:
    gate, read_model = Gate(), ReadModel()
    journal = stored_as_is(body(ROCKET, 1), body(ROCKET, 2))
    pages: list[int] = []
    async with (
        open_writer(journal, write=inline, read=gate) as writer,
        open_fleet(journal=writer, read_model=read_model, limits=FleetLimits()),
    ):
        history = History(writer, read_model)

        async def scan() -> None:
            pages.append(len((await history.messages(ROCKET, 0, 10)).messages))

        gate.shut()
        async with trio.open_nursery() as nursery:
            for _ in range(SCANS_MAX + 3):
                nursery.start_soon(scan)
            await trio.testing.wait_all_tasks_blocked()
            assert gate.waiting == SCANS_MAX
            gate.open()

    assert pages == [2] * (SCANS_MAX + 3)


async def test_a_journal_that_cannot_be_read_makes_the_history_unavailable() -> None:
    journal = BusyJournal()
    journal.append([Record(ROCKET, n, body(ROCKET, n), 1) for n in (1, 2)])
    async with running_history(journal=journal) as history:
        for question in (
            partial(history.rocket_at, ROCKET, 1, "latest"),
            partial(history.number_at, ROCKET, 1),
            partial(history.messages, ROCKET, 0, 1),
            partial(history.speeds, ROCKET, 0, 1),
        ):
            with pytest.raises(HistoryUnavailable, match="another program holds"):
                await question()
