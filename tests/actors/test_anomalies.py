"""Anomalies: the list agrees with the figure of the rocket, whatever came in which order."""

from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from rockets.actors import anomalies as module
from rockets.actors.anomalies import (
    KINDS,
    Anomalies,
    AnomalyCursor,
    AnomalyQuery,
    Conflict,
    ListedKind,
)
from rockets.actors.anomaly_index import Anomaly, AnomalyIndex
from rockets.actors.fleet import Fleet, FleetLimits, open_fleet
from rockets.actors.history import HistoryUnavailable
from rockets.actors.read_model import ReadModel
from rockets.domain.messages import Channel, Message
from rockets.journal.base import JournalBusy, NoteLimits, StoredRecord
from rockets.journal.memory import MemoryJournal
from rockets.journal.thread import Hop, inline
from rockets.journal.writer import open_writer
from tests.actors.fleets import Gate
from tests.actors.prunings import prune_through
from tests.domain.histories import messages, reference
from tests.helpers import message

R = Channel("r")


@asynccontextmanager
async def running(
    journal: MemoryJournal | None = None, *, read: Hop = inline, entries_max: int = 1_000
) -> AsyncIterator[tuple[Fleet, Anomalies]]:
    """Run a fleet and the list of its anomalies."""
    model = ReadModel()
    async with (
        open_writer(journal or MemoryJournal(), write=inline, read=read) as writer,
        open_fleet(journal=writer, read_model=model, limits=FleetLimits()) as fleet,
    ):
        index = AnomalyIndex(entries_max=entries_max)
        yield fleet, Anomalies(writer, model, index=index)


async def send(fleet: Fleet, arriving: Iterable[Message], *, at: int = 0) -> None:
    """Hand over one by one; the n-th is received at microsecond n."""
    for time, each in enumerate(arriving, at + 1):
        await fleet.ask(each.channel, (each,), received_at=time)


async def walk(
    anomalies: Anomalies,
    *,
    limit: int = 100,
    channel: Channel | None = None,
    kinds: frozenset[ListedKind] = frozenset(),
) -> list[Anomaly | Conflict]:
    """Read all pages."""
    found: list[Anomaly | Conflict] = []
    after = AnomalyCursor()
    while True:
        page = await anomalies.page(
            AnomalyQuery(channel=channel, kinds=kinds, limit=limit, after=after)
        )
        assert len(page.items) <= limit
        found += page.items
        if page.following is None:
            return found
        assert page.items, "a page that has a following one shows something"
        assert page.following != after, "a walk gets further"
        after = page.following


def kind_of(item: Anomaly | Conflict) -> str:
    return "conflict" if isinstance(item, Conflict) else item.kind


def briefly(items: Iterable[Anomaly | Conflict]) -> list[tuple[str, int, str]]:
    return [(item.channel, item.number, kind_of(item)) for item in items]


LAUNCH, AGAIN = message("r", 1, "RocketLaunched"), message("r", 2, "RocketLaunched")
EARLY, ODD = message("s", 1), message("s", 2, "RocketRefuelled", litres=5)
BOOM, AFTER = message("r", 3, "RocketExploded"), message("r", 4)
OTHER = message("s", 1, by=1)
STORY = (LAUNCH, EARLY, AGAIN, ODD, BOOM, OTHER, AFTER)
TOLD = [
    ("r", 4, "afterExplosion"),
    ("s", 1, "conflict"),
    ("s", 2, "unknownType"),
    ("r", 2, "secondLaunch"),
    ("s", 1, "beforeLaunch"),
]


@pytest.mark.parametrize("limit", [1, 2, 4, 5, 6])
async def test_every_kind_is_told_newest_first(limit: int) -> None:
    async with running() as (fleet, anomalies):
        await send(fleet, STORY)

        assert briefly(await walk(anomalies, limit=limit)) == TOLD


@pytest.mark.parametrize("limit", [1, 100])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_filter_shows_its_kind_and_its_rocket_only(kind: ListedKind, limit: int) -> None:
    async with running() as (fleet, anomalies):
        await send(fleet, STORY)

        for channel in (None, Channel("r"), Channel("s"), Channel("unknown")):
            found = await walk(anomalies, limit=limit, channel=channel, kinds=frozenset({kind}))
            assert briefly(found) == [
                each for each in TOLD if each[2] == kind and channel in (None, each[0])
            ]


async def test_an_item_says_what_came_when_and_what_it_met() -> None:
    async with running() as (fleet, anomalies):
        await send(fleet, STORY)
        found = await walk(anomalies, channel=Channel("s"))

    conflict, unknown, early = found
    assert isinstance(conflict, Conflict)
    assert conflict == Conflict(
        conflict.note, "s", 1, refused=OTHER.body, stored=EARLY.body, received_at=6
    )
    assert isinstance(unknown, Anomaly)
    assert (unknown.message_type, unknown.time, unknown.received_at) == (
        "RocketRefuelled",
        ODD.time,
        4,
    )
    assert isinstance(early, Anomaly)
    assert early.message_type == "RocketSpeedIncreased"


async def test_what_is_not_settled_yet_is_told_once_it_is() -> None:
    async with running() as (fleet, anomalies):
        await send(fleet, [LAUNCH, BOOM, AFTER])
        assert await walk(anomalies) == []

        await send(fleet, [AGAIN])

        assert [item.number for item in await walk(anomalies)] == [2, 4]


class Reads(MemoryJournal):
    """Remembers which numbers were read."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[tuple[int, int]] = []

    def read(self, stream: str, first: int, last: int, *, limit: int) -> list[StoredRecord]:
        self.reads.append((first, last))
        return super().read(stream, first, last, limit=limit)


async def test_a_rocket_is_read_on_from_where_it_was_and_only_when_there_is_more() -> None:
    journal = Reads()
    async with running(journal) as (fleet, anomalies):
        await send(fleet, [LAUNCH, AGAIN])
        await walk(anomalies)
        await send(fleet, [message("r", 3), message("r", 4), message("clean", 1, "RocketLaunched")])
        await walk(anomalies)
        await send(fleet, [message("r", 5, "RocketLaunched")])
        await walk(anomalies)
        await walk(anomalies)

    assert journal.reads == [(1, 2), (3, 5)]


async def test_a_long_rocket_is_read_in_slices() -> None:
    journal = Reads()
    count = 2 * module.READ_RECORDS
    async with running(journal) as (fleet, anomalies):
        await fleet.ask(R, [message("r", n) for n in range(1, count + 1)], received_at=1)

        assert len(await walk(anomalies, limit=10_000)) == count

    assert journal.reads == [(1, count), (module.READ_RECORDS + 1, count)]


async def test_many_rockets_are_looked_at_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEDGERS_AT_ONCE", 2)
    async with running() as (fleet, anomalies):
        await send(fleet, [message(f"r{number}", 1) for number in range(5)])

        assert len(await walk(anomalies)) == 5


async def test_two_requests_at_once_find_everything_once() -> None:
    results: list[list[Anomaly | Conflict]] = []
    journal = Reads()

    async def ask(channel: Channel | None) -> None:
        results.append(await walk(anomalies, channel=channel))

    async with running(journal) as (fleet, anomalies):
        await send(fleet, [message("r", number) for number in range(1, 80)])
        async with trio.open_nursery() as nursery:
            for channel in (None, R, None):
                nursery.start_soon(ask, channel)

    assert [len(found) for found in results] == [79, 79, 79]
    assert journal.reads == [(1, 79)]


async def test_a_request_that_takes_too_long_is_refused_and_the_next_gets_further(
    autojump_clock: trio.testing.MockClock,
) -> None:
    gate = Gate()
    async with running(read=gate) as (fleet, anomalies):
        await send(fleet, STORY)
        gate.shut()

        with pytest.raises(HistoryUnavailable, match="still being read"):
            await walk(anomalies)

        assert trio.current_time() == module.REQUEST_S
        gate.open()
        assert briefly(await walk(anomalies)) == TOLD


async def test_a_page_of_conflicts_ends_when_the_time_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "REQUEST_S", -1)
    async with running() as (fleet, anomalies):
        await send(fleet, [LAUNCH, *(message("r", 1, by=by) for by in range(9))])

        query = AnomalyQuery(kinds=frozenset({"conflict"}))
        page = await anomalies.page(query)
        assert len(page.items) == 1
        assert page.following is not None
        assert len(await walk(anomalies, kinds=frozenset({"conflict"}))) == 9


async def test_a_page_ends_where_its_conflicts_get_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE_BYTES_MAX", 1_000)
    async with running() as (fleet, anomalies):
        await send(fleet, [LAUNCH, *(message("r", 1, by=by) for by in range(9))])

        page = await anomalies.page(AnomalyQuery())

        assert 1 < len(page.items) < 9
        assert len(await walk(anomalies)) == 9


@pytest.mark.parametrize(("count", "kept"), [(2, 2), (3, 3), (4, 3), (9, 3)])
async def test_the_index_is_bounded_and_drops_the_oldest(count: int, kept: int) -> None:
    async with running(entries_max=3) as (fleet, anomalies):
        await send(fleet, [message("rs"[n % 2], n // 2 + 1) for n in range(count)])
        page = await anomalies.page(AnomalyQuery())

        assert [item.received_at for item in page.items] == list(range(count, count - kept, -1))
        assert page.dropped == count - kept
        for channel in "rs":
            found = await walk(anomalies, channel=Channel(channel))
            assert found == [item for item in page.items if item.channel == channel]


async def test_dropped_conflicts_are_counted_with_the_dropped_entries() -> None:
    journal = MemoryJournal(note_limits=NoteLimits(2))
    async with running(journal, entries_max=1) as (fleet, anomalies):
        await send(fleet, [EARLY, ODD, *(message("s", 1, by=by) for by in range(5))])

        assert (await anomalies.page(AnomalyQuery())).dropped == 3 + 1
        conflicts = AnomalyQuery(kinds=frozenset({"conflict"}))
        assert (await anomalies.page(conflicts)).dropped == 3
        others = AnomalyQuery(kinds=frozenset({"unknownType"}))
        assert (await anomalies.page(others)).dropped == 1


async def test_a_journal_that_cannot_be_read_is_said() -> None:
    class Busy(MemoryJournal):
        def read(self, stream: str, first: int, last: int, *, limit: int) -> list[StoredRecord]:
            raise JournalBusy("busy")

    async with running(Busy()) as (fleet, anomalies):
        await send(fleet, [EARLY])

        with pytest.raises(HistoryUnavailable, match="busy"):
            await walk(anomalies)


async def test_a_restart_tells_the_same() -> None:
    journal = MemoryJournal()
    async with running(journal) as (fleet, anomalies):
        await send(fleet, STORY)
        before = await walk(anomalies)

    async with running(journal) as (_, anomalies):
        assert await walk(anomalies) == before


@pytest.mark.parametrize(
    ("through", "listed"),
    [(1, [5, 4, 2]), (2, [5, 4]), (3, [5, 4]), (4, [5]), (5, [])],
)
async def test_what_was_pruned_is_counted_and_no_longer_listed(
    through: int, listed: list[int]
) -> None:
    """A launch or an explosion that was pruned still says what its followers are."""
    journal = MemoryJournal()
    async with running(journal) as (fleet, _):
        await send(fleet, [LAUNCH, AGAIN, BOOM, AFTER, message("r", 5), message("x", 1)])
    prune_through(journal, "r", through)

    async with running(journal) as (fleet, anomalies):
        assert [item.number for item in await walk(anomalies, channel=R)] == listed
        rocket = fleet.read_model.rocket(R)
        assert rocket is not None
        assert rocket.anomalies == 3
        await send(fleet, [message("r", 6)])
        assert [item.number for item in await walk(anomalies, channel=R)] == [6, *listed]


async def test_what_is_pruned_between_two_looks_is_skipped() -> None:
    journal = MemoryJournal()
    async with running(journal) as (fleet, anomalies):
        await send(fleet, [LAUNCH, AGAIN])
        assert [item.number for item in await walk(anomalies)] == [2]
        await send(fleet, [BOOM, AFTER, message("r", 5), message("x", 1, "RocketLaunched")])
        prune_through(journal, "r", 4)

        assert [item.number for item in await walk(anomalies)] == [5, 2]


@pytest.mark.slow
@settings(max_examples=150, deadline=None)  # a busy machine is not a failure
@given(arriving=messages(), split=st.integers(0, 24), limit=st.integers(1, 7))
async def test_the_pages_add_up_to_the_figure_of_the_rocket(
    arriving: list[Message], split: int, limit: int
) -> None:
    async with running() as (fleet, anomalies):
        # An earlier look must not change what a later one finds.
        await send(fleet, arriving[:split])
        await walk(anomalies, limit=limit)
        await send(fleet, arriving[split:], at=split)

        found = await walk(anomalies, limit=limit)

        if arriving:
            rocket = fleet.read_model.rocket(arriving[0].channel)
            assert rocket is not None
            assert len(found) == rocket.anomalies
            assert len(found) == reference(arriving, settled=True)["anomalies"]
    assert Counter(briefly(found)) == Counter(expected(arriving))


def expected(arriving: Iterable[Message]) -> list[tuple[str, int, str]]:
    """What the rules call an anomaly, read from the rules and not from the product."""
    stored: dict[int, Message] = {}
    conflicts = set()
    for each in arriving:
        if stored.setdefault(each.number, each).payload != each.payload:
            conflicts.add((each.channel, each.number, "conflict", each.payload))
    told: list[tuple[str, int, str]] = [conflict[:3] for conflict in conflicts]
    number, happened = 1, set[str]()
    while number in stored:
        kind = stored[number].message_type
        why = None
        if "RocketExploded" in happened:
            why = "afterExplosion"
        elif kind == "RocketRefuelled":
            why = "unknownType"
        elif kind == "RocketLaunched" and kind in happened:
            why = "secondLaunch"
        elif "Speed" in kind and "RocketLaunched" not in happened:
            why = "beforeLaunch"
        if why is not None:
            told.append((stored[number].channel, number, why))
        happened.add(kind)
        number += 1
    return told
