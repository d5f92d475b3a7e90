"""Rejections: kept once per body, never in the way of an answer, given back in pages."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from rockets.actors import rejections as module
from rockets.actors.history import HistoryUnavailable
from rockets.actors.rejections import Rejection, Rejections, RejectionTotals, open_rejections
from rockets.domain.messages import Channel
from rockets.journal.base import (
    Appended,
    JournalBusy,
    JournalError,
    JournalFull,
    Note,
    NoteId,
    NoteLimits,
    NoteTotals,
    Record,
    StoredNote,
)
from rockets.journal.memory import MemoryJournal
from rockets.journal.thread import inline
from rockets.journal.writer import open_writer
from tests.actors.fleets import Gate
from tests.helpers import body

BAD = body("r", 7, by=-1)


@asynccontextmanager
async def running(
    journal: MemoryJournal | None = None, *, gate: Gate | None = None
) -> AsyncIterator[Rejections]:
    """Keep rejections in a journal; the clock gives 1, 2, 3 and so on."""
    ticks = iter(range(1, 1_000_000))
    async with (
        open_writer(journal or MemoryJournal(), write=gate or inline, read=inline) as writer,
        open_rejections(writer, wall_clock=lambda: next(ticks)) as rejections,
    ):
        yield rejections


async def every(rejections: Rejections, *, limit: int = 9_999) -> list[Rejection]:
    return (await rejections.page(channel=None, before=None, limit=limit)).rejections


async def test_who_was_refused_finds_its_body_at_once() -> None:
    async with running() as rejections:
        rejections.keep_nowait(BAD)

        [found] = await every(rejections)

        assert found == Rejection(found.id, "r", 7, BAD, 1, 1, 1)
        assert await rejections.find(found.id) == found
        assert await rejections.totals() == RejectionTotals(1, 0, 0)


async def test_a_body_is_kept_once_with_a_count_and_its_last_time() -> None:
    async with running() as rejections:
        for content in (BAD, b"other", BAD):
            rejections.keep_nowait(content)
        await every(rejections)
        rejections.keep_nowait(BAD)

        other, found = await every(rejections)

        assert (found.body, found.count, found.first_at, found.last_at) == (BAD, 3, 1, 4)
        assert (other.body, other.count) == (b"other", 1)


@pytest.mark.parametrize(
    ("content", "channel", "number"),
    [
        (BAD, "r", 7),
        (b"", None, None),
        (b"nonsense", None, None),
        (b"\xff", None, None),
        (b"[1]", None, None),
        (b"[" * 20, None, None),
        (b'{"metadata":7}', None, None),
        (b'{"metadata":{"channel":"a b","messageNumber":0}}', None, None),
        (b'{"metadata":{"channel":"x","messageNumber":true}}', "x", None),
        (b'{"metadata":{"channel":5,"messageNumber":3}}', None, 3),
        (b'{"metadata":{"messageNumber":9007199254740992}}', None, None),
        (
            b'{"metadata":{"channel":"193270A9-C9CF-404A-8F83-838E71D9AE67"}}',
            "193270a9-c9cf-404a-8f83-838e71d9ae67",
            None,
        ),
    ],
)
async def test_channel_and_number_are_kept_where_they_are_readable_and_legal(
    content: bytes, channel: str | None, number: int | None
) -> None:
    async with running() as rejections:
        rejections.keep_nowait(content)

        [found] = await every(rejections)

    assert (found.channel, found.number, found.body) == (channel, number, content)


@pytest.mark.parametrize(("count", "kept"), [(99, 99), (100, 100), (101, 100), (150, 100)])
async def test_at_most_a_hundred_wait_and_the_others_are_counted(count: int, kept: int) -> None:
    gate, journal = Gate(), MemoryJournal()
    async with running(journal, gate=gate) as rejections:
        gate.shut()
        rejections.keep_nowait(b"in hand")
        await wait_all_tasks_blocked()
        for number in range(count):
            rejections.keep_nowait(b"%d" % number)
        gate.open()

        totals = await rejections.totals()

    assert totals == RejectionTotals(1 + kept, 0, count - kept)


@pytest.mark.parametrize(("size", "kept"), [(65_535, 1), (65_536, 1), (65_537, 0)])
async def test_a_body_over_the_limit_of_a_message_is_only_counted(size: int, kept: int) -> None:
    async with running() as rejections:
        rejections.keep_nowait(b"x" * size)

        assert await rejections.totals() == RejectionTotals(kept, 0, 1 - kept)


async def test_large_bodies_are_committed_a_few_at_a_time() -> None:
    journal = Counting()
    async with running(journal) as rejections:
        for number in range(10):
            rejections.keep_nowait(b"%d" % number * 65_000)

        assert len(await every(rejections)) == 10

    assert journal.appends == [5, 5]


class Counting(MemoryJournal):
    """Remembers how many notes came with each append."""

    def __init__(self) -> None:
        super().__init__()
        self.appends: list[int] = []

    def append(self, records: Sequence[Record], notes: Sequence[Note] = ()) -> Appended:
        self.appends.append(len(notes))
        return super().append(records, notes)


class Troubled(MemoryJournal):
    """Fails while it has a trouble."""

    trouble: JournalError | None = None

    def _fail(self) -> None:
        if self.trouble is not None:
            raise self.trouble

    def append(self, records: Sequence[Record], notes: Sequence[Note] = ()) -> Appended:
        self._fail()
        return super().append(records, notes)

    def remove_note(self, note_id: NoteId) -> bool:
        self._fail()
        return super().remove_note(note_id)

    def read_notes(
        self, kind: str, *, stream: str | None, limit: int, before: NoteId | None = None
    ) -> list[StoredNote]:
        self._fail()
        return super().read_notes(kind, stream=stream, limit=limit, before=before)

    def note(self, note_id: NoteId) -> StoredNote | None:
        self._fail()
        return super().note(note_id)

    def note_totals(self, kind: str) -> NoteTotals:
        self._fail()
        return super().note_totals(kind)


@pytest.mark.parametrize("trouble", [JournalFull("full"), JournalBusy("busy")])
async def test_what_a_journal_cannot_take_is_counted_and_later_ones_are_kept(
    trouble: JournalError,
) -> None:
    journal = Troubled()
    async with running(journal) as rejections:
        journal.trouble = trouble
        rejections.keep_nowait(b"lost")
        with pytest.raises(HistoryUnavailable):
            await every(rejections)
        with pytest.raises(HistoryUnavailable):
            await rejections.totals()
        with pytest.raises(HistoryUnavailable):
            await rejections.find(1)
        journal.trouble = None
        rejections.keep_nowait(b"kept")

        assert [found.body for found in await every(rejections)] == [b"kept"]
        assert await rejections.totals() == RejectionTotals(1, 0, 1)


async def test_a_rejection_that_cannot_be_removed_stays() -> None:
    journal = Troubled()
    async with running(journal) as rejections:
        rejections.keep_nowait(BAD)
        [found] = await every(rejections)
        journal.trouble = JournalBusy("busy")
        await rejections.resolve(found)
        journal.trouble = None
        assert await every(rejections) == [found]

        await rejections.resolve(found)
        await rejections.resolve(found)

        assert await every(rejections) == []
        assert await rejections.find(found.id) is None


async def test_a_note_of_another_kind_is_no_rejection() -> None:
    journal = MemoryJournal()
    journal.append([], [Note("conflict", "r", 1, b"", b"", 1)])
    async with running(journal) as rejections:
        assert await rejections.find(1) is None
        assert await rejections.find(2) is None


async def test_pages_show_each_rejection_once_newest_first() -> None:
    async with running() as rejections:
        for number in range(150):
            rejections.keep_nowait(body("ab"[number % 2], number, by=-1))
            await every(rejections, limit=1)

        for channel, numbers in ((None, range(149, -1, -1)), (Channel("b"), range(149, 0, -2))):
            for limit in (1, 64, 65, 75, 150, 151):
                seen: list[int] = []
                before: int | None = None
                while True:
                    page = await rejections.page(channel=channel, before=before, limit=limit)
                    assert len(page.rejections) <= limit
                    seen += [found.number or 0 for found in page.rejections]
                    before = page.following
                    if before is None:
                        break
                assert seen == list(numbers)


async def test_a_page_ends_where_its_bodies_get_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE_BYTES_MAX", 100)
    async with running() as rejections:
        for content in (b"a" * 200, b"b" * 50, b"c" * 50):
            rejections.keep_nowait(content)

        first = await rejections.page(channel=None, before=None, limit=9)
        second = await rejections.page(channel=None, before=first.following, limit=9)

    assert [found.body[:1] for found in first.rejections] == [b"c", b"b"]
    assert [found.body[:1] for found in second.rejections] == [b"a"]
    assert second.following is None


async def test_a_flood_drops_old_rejections_and_counts_them() -> None:
    async with running(MemoryJournal(note_limits=NoteLimits(2))) as rejections:
        for number in range(5):
            rejections.keep_nowait(b"%d" % number)

        assert await rejections.totals() == RejectionTotals(2, 3, 0)


async def test_the_end_keeps_what_waits_and_takes_nothing_more() -> None:
    journal = MemoryJournal()
    async with running(journal) as rejections:
        for number in range(50):
            rejections.keep_nowait(b"%d" % number)

    rejections.keep_nowait(b"late")

    assert journal.note_totals("rejection").kept == 50
    assert rejections.not_kept == 1


async def test_a_reader_waits_no_longer_than_a_second_for_a_hanging_disk(
    autojump_clock: trio.testing.MockClock,
) -> None:
    gate = Gate()
    async with running(gate=gate) as rejections:
        gate.shut()
        rejections.keep_nowait(BAD)

        assert await every(rejections) == []
        assert trio.current_time() == module.SETTLE_S
        gate.open()
