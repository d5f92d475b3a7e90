"""The group commit: who shares a batch, who is told what, and what happens when a disk fails."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from rockets.journal import (
    Appended,
    JournalBusy,
    JournalError,
    JournalFailed,
    JournalFull,
    JournalStatistics,
    JournalWriter,
    LedgerRecord,
    LedgersDamaged,
    MemoryJournal,
    Note,
    NoteId,
    NoteTotals,
    Position,
    Pruned,
    Record,
    Round,
    SqliteJournal,
    StoredLedger,
    StoredRecord,
    inline,
    open_thread,
    open_writer,
)
from rockets.journal.thread import T
from tests.journal.prunings import BASE

START = Position(0)


class Gate:
    """A hop that holds every append until it is let through, and cannot be cancelled meanwhile."""

    def __init__(self) -> None:
        self._opened = trio.Event()

    async def __call__(self, fn: Callable[..., T], /, *args: object) -> T:
        await trio.lowlevel.checkpoint_if_cancelled()
        if args:
            with trio.CancelScope(shield=True):
                await self._opened.wait()
        return fn(*args)

    def open(self) -> None:
        self._opened.set()


class TroubledJournal(MemoryJournal):
    """Raises what is put in `troubles`, one per append, and `ailment` from everything else."""

    def __init__(self, *troubles: Exception | None) -> None:
        super().__init__()
        self.troubles = list(troubles)
        self.ailment: Exception | None = None
        self.batches: list[list[int]] = []
        self.prepared = self.maintained = 0
        self.due = True

    @property
    def maintenance_due(self) -> bool:
        return self.due

    def append(self, records: Sequence[Record], notes: Sequence[Note] = ()) -> Appended:
        self.batches.append([record.number for record in records])
        trouble = self.troubles.pop(0) if self.troubles else None
        if trouble is not None:
            raise trouble
        return super().append(records, notes)

    def follow(self, after: Position, *, limit: int) -> list[StoredRecord]:
        if self.ailment is not None:
            raise self.ailment
        return super().follow(after, limit=limit)

    def prepare_maintenance(self) -> None:
        self.prepared += 1
        if self.ailment is not None:
            raise self.ailment

    def maintain(self) -> None:
        self.maintained += 1
        if self.ailment is not None:
            raise self.ailment


class ShortJournal(MemoryJournal):
    """Forgets to answer."""

    def append(self, records: Sequence[Record], notes: Sequence[Note] = ()) -> Appended:
        return Appended((), {}, (), START, START)


class Senders:
    """Tasks that append a part each and keep what came of it, by number."""

    def __init__(self, nursery: trio.Nursery, writer: JournalWriter) -> None:
        self.nursery = nursery
        self._writer = writer
        self.results: dict[int, Appended | JournalError] = {}

    async def send(self, *numbers: int, body: bytes = b"{}") -> None:
        """Start one task per number; returns when each waits for its answer or has it."""
        for number in numbers:
            self.nursery.start_soon(self._append, number, body)
            await wait_all_tasks_blocked()

    async def _append(self, number: int, body: bytes) -> None:
        try:
            self.results[number] = await self._writer.append([record(number, body)])
        except JournalError as error:
            self.results[number] = error

    def kinds(self) -> dict[int, type]:
        return {number: type(result) for number, result in sorted(self.results.items())}


def record(number: int, body: bytes = b"{}") -> Record:
    return Record("a", number, body, 7)


def note(number: int) -> Note:
    return Note("conflict", "a", number, b"key", b"body", 11)


@asynccontextmanager
async def open_gated(
    journal: MemoryJournal, *, queue_max: int = 64, batch_parts_max: int = 64, bytes_max: int = 999
) -> AsyncIterator[tuple[JournalWriter, Gate, Senders]]:
    gate = Gate()
    async with (
        trio.open_nursery() as nursery,
        open_writer(
            journal,
            write=gate,
            read=inline,
            queue_max=queue_max,
            batch_parts_max=batch_parts_max,
            batch_bytes_max=bytes_max,
        ) as writer,
    ):
        yield writer, gate, Senders(nursery, writer)
        gate.open()
        await wait_all_tasks_blocked()


async def test_a_lone_part_is_committed_at_once() -> None:
    journal = MemoryJournal()
    async with open_writer(journal, write=inline, read=inline) as writer:
        appended = await writer.append([record(1)], [note(1)])

    assert appended == Appended((True,), {}, (True,), Position(1), START)
    assert len(journal.follow(START, limit=9)) == 1


async def test_a_batch_gathers_while_a_commit_runs() -> None:
    journal = TroubledJournal()
    async with open_gated(journal) as (writer, gate, senders):
        await senders.send(1, 2, 3, 4)
        assert writer.statistics().queued == 3
        gate.open()
        await wait_all_tasks_blocked()

        assert journal.batches == [[1], [2, 3, 4]]
        assert senders.kinds() == dict.fromkeys([1, 2, 3, 4], Appended)
        statistics = writer.statistics()
        assert (statistics.queued, statistics.batches, statistics.records) == (0, 2, 4)
        assert statistics.peak_batch == 3


async def test_maintenance_that_is_due_is_prepared_beside_commits_and_ended_between_them() -> None:
    journal = TroubledJournal()
    done = []
    async with open_gated(journal) as (_, gate, senders):
        gate.open()
        for number in range(1, 5):
            await senders.send(number)
            done.append((journal.prepared, journal.maintained))

    assert done == [(1, 0), (1, 1), (2, 1), (2, 2)]


async def test_without_need_nothing_is_maintained() -> None:
    journal = TroubledJournal()
    journal.due = False
    async with open_gated(journal) as (_, gate, senders):
        gate.open()
        await senders.send(1, 2, 3)

    assert (journal.prepared, journal.maintained) == (0, 0)


async def test_every_part_gets_its_own_share_of_a_batch() -> None:
    journal = MemoryJournal()
    results: dict[str, Appended] = {}
    async with open_gated(journal) as (writer, _, senders), trio.open_nursery() as nursery:

        async def append(name: str, records: list[Record], notes: list[Note]) -> None:
            results[name] = await writer.append(records, notes)

        await senders.send(99)
        nursery.start_soon(append, "first", [record(1, b"x"), record(2)], [note(1)])
        await wait_all_tasks_blocked()
        nursery.start_soon(append, "empty", [], [])
        await wait_all_tasks_blocked()
        nursery.start_soon(append, "second", [record(3), record(1, b"y")], [note(1), note(2)])
        await wait_all_tasks_blocked()
        gate_of(writer).open()

    stored = StoredRecord(Position(2), "a", 1, b"x", 7)
    assert results == {
        "first": Appended((True, True), {}, (True,), Position(4), Position(1)),
        "empty": Appended((), {}, (), Position(4), Position(1)),
        "second": Appended((True, False), {1: stored}, (False, True), Position(4), Position(1)),
    }


def gate_of(writer: JournalWriter) -> Gate:
    gate = writer._write
    assert isinstance(gate, Gate)
    return gate


@pytest.mark.parametrize(
    ("parts_max", "batches"),
    [
        (1, [[0], [1], [2], [3]]),
        (2, [[0], [1, 2], [3]]),
        (3, [[0], [1, 2, 3]]),
        (4, [[0], [1, 2, 3]]),
    ],
)
async def test_a_batch_has_at_most_so_many_parts(parts_max: int, batches: list[list[int]]) -> None:
    journal = TroubledJournal()
    async with open_gated(journal, batch_parts_max=parts_max) as (_, _, senders):
        await senders.send(0, 1, 2, 3)

    assert journal.batches == batches


@pytest.mark.parametrize(
    ("sizes", "batches"),
    [
        ([5, 4], [[1, 2]]),
        ([5, 5], [[1, 2]]),
        ([5, 6], [[1], [2]]),
        ([10, 1], [[1], [2]]),
        ([11, 1], [[1], [2]]),
        ([1, 11, 1], [[1], [2], [3]]),
        ([6, 5, 5], [[1], [2, 3]]),
        ([0, 10, 0], [[1, 2, 3]]),
    ],
)
async def test_a_batch_has_at_most_so_many_bytes_and_never_splits_a_part(
    sizes: list[int], batches: list[list[int]]
) -> None:
    journal = TroubledJournal()
    async with open_gated(journal, bytes_max=10) as (_, _, senders):
        await senders.send(0)
        for number, size in enumerate(sizes, start=1):
            await senders.send(number, body=b"x" * size)

    assert journal.batches == [[0], *batches]


async def test_the_bytes_of_notes_count_too() -> None:
    journal = TroubledJournal()
    async with open_gated(journal, bytes_max=7) as (writer, _, senders):
        await senders.send(0)
        senders.nursery.start_soon(writer.append, [], [note(1)])
        await wait_all_tasks_blocked()
        await senders.send(1, 2)
        assert writer.statistics().queued == 3

    assert journal.batches == [[0], [1], [2]]


async def test_a_part_held_over_counts_as_queued() -> None:
    async with open_gated(MemoryJournal(), bytes_max=1) as (writer, _, senders):
        await senders.send(0)
        gate = gate_of(writer)
        writer._write = Gate()
        await senders.send(1, 2)
        gate.open()
        await wait_all_tasks_blocked()

        assert list(senders.results) == [0]
        assert writer.statistics().queued == 1
        gate_of(writer).open()


async def test_a_cancelled_sender_does_not_touch_the_batch() -> None:
    journal = MemoryJournal()
    async with open_gated(journal) as (writer, gate, senders):
        scope = trio.CancelScope()

        async def append() -> None:
            with scope:
                await writer.append([record(2)])

        await senders.send(1)
        senders.nursery.start_soon(append)
        await wait_all_tasks_blocked()
        scope.cancel()
        await senders.send(3)
        gate.open()
        await wait_all_tasks_blocked()

        assert scope.cancelled_caught
        assert [found.number for found in journal.follow(START, limit=9)] == [1, 2, 3]
        assert senders.kinds() == {1: Appended, 3: Appended}


async def test_a_full_queue_makes_the_next_append_wait() -> None:
    async with open_gated(MemoryJournal(), queue_max=2) as (writer, gate, senders):
        await senders.send(1, 2, 3, 4)
        assert writer.statistics().queued == 3
        assert writer._parts_out.statistics().tasks_waiting_send == 1

        gate.open()
        await wait_all_tasks_blocked()

        assert senders.kinds() == dict.fromkeys([1, 2, 3, 4], Appended)


async def test_an_append_cancelled_at_a_full_queue_has_not_happened() -> None:
    journal = MemoryJournal()
    async with open_gated(journal, queue_max=1) as (writer, _, senders):
        await senders.send(1, 2)
        with trio.move_on_after(0):
            await writer.append([record(3)])

    assert [found.number for found in journal.follow(START, limit=9)] == [1, 2]


@pytest.mark.parametrize("kind", [JournalFull, JournalBusy])
async def test_a_passing_error_fails_its_batch_and_the_writer_goes_on(
    kind: type[JournalError],
) -> None:
    journal = TroubledJournal(None, kind("for now"))
    async with open_gated(journal) as (writer, gate, senders):
        await senders.send(1, 2, 3)
        gate.open()
        await wait_all_tasks_blocked()
        await senders.send(4)

        assert senders.kinds() == {1: Appended, 2: kind, 3: kind, 4: Appended}
        assert senders.results[2] is not senders.results[3]
        assert str(senders.results[2]) == "for now"
        assert writer.failure is None


async def test_a_failure_is_told_to_the_batch_the_queue_and_all_that_come_later() -> None:
    failure = JournalFailed("disk gone")
    journal = TroubledJournal(failure)
    async with open_gated(journal, queue_max=2, batch_parts_max=1) as (writer, gate, senders):
        await senders.send(1, 2, 3, 4)
        gate.open()
        await writer.wait_failed()
        await wait_all_tasks_blocked()
        await senders.send(5)

        assert senders.kinds() == dict.fromkeys([1, 2, 3, 4, 5], JournalFailed)
        assert len(set(map(id, senders.results.values()))) == 5
        assert {str(error) for error in senders.results.values()} == {"disk gone"}
        assert writer.failure is failure
        assert journal.batches == [[1]]


async def test_an_unexpected_exception_is_a_failure_that_names_its_cause() -> None:
    cause = RuntimeError("never seen before")
    async with open_gated(TroubledJournal(cause)) as (writer, _, senders):
        gate_of(writer).open()
        await senders.send(1)

        assert senders.kinds() == {1: JournalFailed}
        assert writer.failure is not None
        assert writer.failure.__cause__ is cause
        assert "never seen before" in str(senders.results[1])


async def test_a_failed_checkpoint_leaves_what_is_durable_and_fails_the_rest() -> None:
    journal = TroubledJournal()
    journal.ailment = JournalFailed("checkpoint")
    async with open_gated(journal) as (writer, gate, senders):
        gate.open()
        await senders.send(1)
        await writer.wait_failed()
        await senders.send(2)

        assert senders.kinds() == {1: Appended, 2: JournalFailed}
        assert [found.number for found in journal.read("a", 1, 9, limit=9)] == [1]


async def test_a_journal_that_does_not_answer_every_record_has_failed() -> None:
    async with open_gated(ShortJournal()) as (writer, gate, senders):
        gate.open()
        await senders.send(1)

        assert senders.kinds() == {1: JournalFailed}
        assert isinstance(writer.failure, JournalFailed)


async def test_the_first_failure_stays() -> None:
    journal = TroubledJournal(JournalFailed("first"))
    async with open_gated(journal) as (writer, gate, senders):
        gate.open()
        await senders.send(1)
        journal.ailment = JournalFailed("second")
        with pytest.raises(JournalFailed, match="second"):
            await writer.follow(START, limit=9)

        assert str(writer.failure) == "first"


async def test_reads_answer_as_the_journal_does() -> None:
    async with open_writer(MemoryJournal(), write=inline, read=inline) as writer:
        await writer.append([record(1), record(2)], [note(1)])

        assert [found.number for found in await writer.read("a", 2, 9, limit=9)] == [2]
        assert [found.number for found in await writer.follow(START, limit=1)] == [1]
        [kept] = await writer.read_notes("conflict", stream="a", limit=9)
        assert (kept.number, kept.key, kept.body, kept.count) == (1, b"key", b"body", 1)
        assert await writer.read_notes("conflict", stream="a", limit=9, before=kept.id) == []
        assert await writer.note(kept.id) == kept
        assert await writer.note_totals("conflict") == NoteTotals(1, 0)
        assert await writer.count_notes("conflict") == {"a": 1}
        assert await writer.remove_note(kept.id)
        assert not await writer.remove_note(kept.id)
        assert await writer.count_notes("conflict") == {}


async def test_spans_of_several_streams_are_read_in_one_go() -> None:
    journal = MemoryJournal()
    journal.append([Record(stream, number, b"x", 1) for stream in "ab" for number in (1, 2, 4)])
    hops: list[object] = []

    async def counting(fn: Callable[..., T], /, *args: object) -> T:
        hops.append(fn)
        return await inline(fn, *args)

    async with open_writer(journal, write=inline, read=counting) as writer:
        found = await writer.read_each([("b", 2, 4), ("c", 1, 9), ("a", 1, 1), ("a", 4, 4)])

        assert [(each.stream, each.number) for each in found] == [
            ("b", 2),
            ("b", 4),
            ("a", 1),
            ("a", 4),
        ]
        assert len(hops) == 1


async def test_damage_found_by_a_read_fails_the_writer() -> None:
    journal = TroubledJournal()
    async with open_gated(journal) as (writer, gate, senders):
        gate.open()
        journal.ailment = JournalFailed("checksum")
        with pytest.raises(JournalFailed, match="checksum"):
            await writer.follow(START, limit=9)
        await writer.wait_failed()
        await senders.send(1)

        assert senders.kinds() == {1: JournalFailed}
        assert journal.batches == []


async def test_a_busy_read_is_the_callers_alone() -> None:
    journal = TroubledJournal()
    async with open_gated(journal) as (writer, _, _):
        journal.ailment = JournalBusy("backup")
        with pytest.raises(JournalBusy):
            await writer.follow(START, limit=9)

        assert writer.failure is None


async def test_leaving_commits_what_was_accepted_and_then_refuses() -> None:
    journal = TroubledJournal()
    gate = Gate()
    async with (
        trio.open_nursery() as nursery,
        open_writer(journal, write=gate, read=inline, batch_parts_max=2) as writer,
    ):
        senders = Senders(nursery, writer)
        await senders.send(1, 2, 3, 4)
        nursery.start_soon(inline, gate.open)
    with pytest.raises(JournalError, match="closed"):
        await writer.append([record(5)])

    assert journal.batches == [[1], [2, 3], [4]]
    assert senders.kinds() == dict.fromkeys([1, 2, 3, 4], Appended)


async def test_leaving_turns_away_who_waits_at_a_full_queue() -> None:
    journal = TroubledJournal()
    gate = Gate()
    async with (
        trio.open_nursery() as nursery,
        open_writer(journal, write=gate, read=inline, queue_max=1) as writer,
    ):
        senders = Senders(nursery, writer)
        await senders.send(1, 2, 3)
        nursery.start_soon(inline, gate.open)

    assert senders.kinds() == {1: Appended, 2: Appended, 3: JournalError}
    assert journal.batches == [[1], [2]]


async def test_a_cancelled_writer_leaves_nobody_waiting() -> None:
    journal = TroubledJournal()
    gate = Gate()
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            async with open_writer(
                journal, write=gate, read=inline, queue_max=2, batch_parts_max=1
            ) as writer:
                senders = Senders(nursery, writer)
                await senders.send(1, 2, 3, 4)
                scope.cancel()
                gate.open()
                await trio.sleep_forever()

    assert senders.kinds() == {1: Appended} | dict.fromkeys([2, 3, 4], JournalError)
    assert journal.batches == [[1]]


async def test_a_batch_that_was_not_handed_over_when_cancelled_is_answered() -> None:
    async def cancelled(_fn: Callable[..., T], /, *_args: object) -> T:
        scope.cancel()
        await trio.lowlevel.checkpoint()
        raise AssertionError("cancelled before")

    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            async with open_writer(MemoryJournal(), write=cancelled, read=inline) as writer:
                senders = Senders(nursery, writer)
                await senders.send(1)

    assert senders.kinds() == {1: JournalError}


async def test_many_tasks_share_one_file_through_two_threads(tmp_path: Path) -> None:
    results: list[Appended] = []
    with closing(SqliteJournal(tmp_path / "journal.db")) as journal:
        async with (
            open_thread("writes") as write,
            open_thread("reads") as read,
            open_writer(journal, write=write, read=read) as writer,
        ):

            async def append(number: int) -> None:
                results.append(await writer.append([record(number), record(number % 10)]))

            async with trio.open_nursery() as nursery:
                for number in range(200):
                    nursery.start_soon(append, number)
            found = await writer.read("a", 0, 999, limit=999)
            statistics = writer.statistics()

    assert [stored.number for stored in found] == list(range(200))
    assert sum(sum(appended.new) for appended in results) == statistics.records == 200
    assert statistics.batches < 200


class Immovable(MemoryJournal):
    """Cannot remove a note."""

    def __init__(self, trouble: Exception) -> None:
        super().__init__()
        self.trouble = trouble

    def remove_note(self, note_id: NoteId) -> bool:
        raise self.trouble


@pytest.mark.parametrize("trouble", [JournalFull("full"), JournalBusy("busy")])
async def test_a_removal_that_did_not_happen_is_told_and_nothing_ends(
    trouble: JournalError,
) -> None:
    async with open_writer(Immovable(trouble), write=inline, read=inline) as writer:
        with pytest.raises(type(trouble)):
            await writer.remove_note(NoteId(1))

        assert writer.failure is None
        assert (await writer.append([record(1)])).new == (True,)


@pytest.mark.parametrize("trouble", [JournalFailed("gone"), RuntimeError("gone")])
async def test_a_removal_of_unknown_outcome_fails_the_journal(trouble: Exception) -> None:
    async with open_writer(Immovable(trouble), write=inline, read=inline) as writer:
        for _ in range(2):
            with pytest.raises(JournalFailed, match="gone"):
                await writer.remove_note(NoteId(1))

        assert writer.failure is not None
        with pytest.raises(JournalFailed, match="gone"):
            await writer.append([record(1)])


# Ledgers, rounds, pruning and figures


class Routes:
    """Two hops that say which of them took which call of the journal."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, str]] = []

    async def write(self, fn: Callable[..., T], /, *args: object) -> T:
        return await self._take("write", fn, *args)

    async def read(self, fn: Callable[..., T], /, *args: object) -> T:
        return await self._take("read", fn, *args)

    async def _take(self, way: str, fn: Callable[..., T], /, *args: object) -> T:
        self.taken.append((way, getattr(fn, "func", fn).__name__))
        return await inline(fn, *args)


async def test_ledgers_rounds_and_prunings_take_the_writing_thread_and_reads_the_other() -> None:
    routes = Routes()
    async with open_writer(MemoryJournal(), write=routes.write, read=routes.read) as writer:
        await writer.append([record(1), record(2)])
        routes.taken.clear()

        await writer.keep_ledgers([LedgerRecord("a", b"ledger")])
        await writer.end_round(Round(START, "1", 0))
        assert await writer.prune([Pruned("a", 1, BASE)], limit=9) == 1
        assert await writer.ledgers("", limit=9) == [StoredLedger("a", b"ledger")]
        assert await writer.rounds() == [Round(START, "1", 0)]
        assert await writer.pruned("", limit=9) == [Pruned("a", 1, BASE)]
        assert await writer.pruned_of("a") == Pruned("a", 1, BASE)
        assert await writer.pruned_of("b") is None
        assert await writer.journal_statistics() == JournalStatistics(0, 0, 0, 0, 0)
        await writer.drop_ledgers()
        assert await writer.ledgers("", limit=9) == []

    writes = ["keep_ledgers", "end_round", "prune", "drop_ledgers"]
    pruned = ["pruned", "pruned_of", "pruned_of"]
    reads = ["ledgers", "rounds", *pruned, "statistics", "ledgers"]
    assert [name for way, name in routes.taken if way == "write"] == writes
    assert [name for way, name in routes.taken if way == "read"] == reads


class TroubledLedgers(TroubledJournal):
    """Raises `ailment` from what concerns ledgers, too."""

    def keep_ledgers(self, ledgers: Sequence[LedgerRecord]) -> None:
        if self.ailment is not None:
            raise self.ailment
        super().keep_ledgers(ledgers)

    def ledgers(self, after: str, *, limit: int) -> list[StoredLedger]:
        if self.ailment is not None:
            raise self.ailment
        return super().ledgers(after, limit=limit)


@pytest.mark.parametrize("kind", [JournalFull, JournalBusy])
async def test_ledgers_that_could_not_be_kept_now_are_kept_later(kind: type[JournalError]) -> None:
    journal = TroubledLedgers()
    journal.due = False
    journal.ailment = kind("not now")
    async with open_writer(journal, write=inline, read=inline) as writer:
        with pytest.raises(kind, match="not now"):
            await writer.keep_ledgers([LedgerRecord("a", b"ledger")])

        assert writer.failure is None
        journal.ailment = None
        await writer.keep_ledgers([LedgerRecord("a", b"ledger")])
        assert await writer.ledgers("", limit=9) == [StoredLedger("a", b"ledger")]


@pytest.mark.parametrize("error", [JournalFailed("torn"), ValueError("torn")])
async def test_ledgers_of_which_nobody_knows_whether_they_are_kept_fail_the_journal(
    error: Exception,
) -> None:
    journal = TroubledLedgers()
    journal.due = False
    journal.ailment = error
    async with open_writer(journal, write=inline, read=inline) as writer:
        with pytest.raises(JournalFailed, match="torn"):
            await writer.keep_ledgers([LedgerRecord("a", b"ledger")])

        await writer.wait_failed()
        with pytest.raises(JournalFailed, match="torn"):
            await writer.end_round(Round(START, "1", 0))
        with pytest.raises(JournalFailed, match="torn"):
            await writer.append([record(1)])


async def test_damaged_ledgers_do_not_fail_the_journal() -> None:
    journal = TroubledLedgers()
    journal.ailment = LedgersDamaged("out of order")
    async with open_writer(journal, write=inline, read=inline) as writer:
        with pytest.raises(LedgersDamaged):
            await writer.ledgers("", limit=9)

        assert writer.failure is None


@pytest.mark.parametrize("due", [True, False])
async def test_the_housekeeping_that_ledgers_make_due_is_done_after_them(due: bool) -> None:
    journal = TroubledJournal()
    journal.due = due
    async with open_writer(journal, write=inline, read=inline) as writer:
        await writer.keep_ledgers([LedgerRecord("a", b"ledger")])

    assert journal.prepared == journal.maintained == int(due)


async def test_housekeeping_that_finds_no_room_concerns_no_ledger() -> None:
    journal = TroubledJournal()
    journal.ailment = JournalFull("no room to tidy")
    async with open_writer(journal, write=inline, read=inline) as writer:
        await writer.keep_ledgers([LedgerRecord("a", b"ledger")])

        assert journal.prepared == 1
        assert writer.failure is None


@pytest.mark.slow
async def test_ledgers_go_between_the_batches_of_a_file_in_two_threads(tmp_path: Path) -> None:
    with closing(SqliteJournal(tmp_path / "journal.db")) as journal:
        async with (
            open_thread("write") as write,
            open_thread("read") as read,
            open_writer(journal, write=write, read=read) as writer,
            trio.open_nursery() as nursery,
        ):
            for number in range(1, 41):
                nursery.start_soon(writer.append, [record(number)])
                nursery.start_soon(writer.keep_ledgers, [LedgerRecord(f"{number:02}", b"x")])
        assert journal.head() == 40
        assert len(journal.ledgers("", limit=99)) == 40
