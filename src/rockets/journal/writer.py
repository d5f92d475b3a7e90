"""One task that commits what many tasks append, together: a group commit.

It owns the append side of a journal. It never retries, never looks into a record, and uses
no timer: while one commit runs the next batch gathers by itself, so a batch is as long as
the disk is slow and a lone record does not wait for company.

The invariant: every part that was accepted is answered exactly once, with its own result
or with an error, whatever happens to the task that sent it or to the journal.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial

import msgspec
import trio

from .base import (
    PASSING,
    Appended,
    Journal,
    JournalError,
    JournalFailed,
    JournalStatistics,
    LedgerRecord,
    Note,
    NoteId,
    NoteTotals,
    Position,
    Pruned,
    Record,
    Round,
    SharedJournal,
    StoredLedger,
    StoredNote,
    StoredRecord,
    as_failure,
)
from .part import Part, share
from .spans import Span, read_each
from .thread import Hop, T

QUEUE_MAX = 4_096
"""Parts that wait: at the slowest disk worth having (512 in 300 ms) 2.4 s, then senders wait."""

BATCH_PARTS_MAX = 512
"""Measured: a commit costs one sync, and past a few hundred parts the sync no longer shows."""

BATCH_BYTES_MAX = 1 << 20
"""Keeps one commit short on a disk that writes slowly, whatever the size of the records."""

QUIET_TURNS_MAX = 4
"""Turns of the loop without a new part after which no more company is expected. A message takes
three from its socket through its actor to here. (Measured with 3 connections: 2.9 records in a
commit in place of 1.5; without any limit of time, since a turn is as long as there is work.)"""


class WriterStatistics(msgspec.Struct, frozen=True, gc=False):
    """What the writer has done: `records` counts the new ones, `peak_batch` is in parts."""

    queued: int
    batches: int
    records: int
    peak_batch: int


class JournalWriter:
    """The tasks' side of the journal: appends join a batch, reads go to the reading thread.

    `failure` is set once the journal has failed, and never cleared.
    `head` is the position of the last record of the last batch that was answered, 0 before that.
    `on_commit` is told of every batch as a whole, just before its parts are; `shared` is the
    journal itself where several instances share it.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        write: Hop,
        read: Hop,
        queue_max: int,
        batch_parts_max: int,
        batch_bytes_max: int,
    ) -> None:
        """Prepare only; `open_writer` starts the task."""
        assert batch_parts_max > 0, "a batch has room for a part"
        self.failure: JournalFailed | None = None
        self.on_commit: Callable[[Appended], None] = lambda whole: None
        self.head = Position(0)
        self.shared = journal if isinstance(journal, SharedJournal) else None
        self._failed = trio.Event()
        self._journal = journal
        self._write = write
        self._read = read
        self._parts_in, self._parts_out = trio.open_memory_channel[Part](queue_max)
        self._batch_parts_max = batch_parts_max
        self._batch_bytes_max = batch_bytes_max
        self._batch: list[Part] = []
        self._held_over: Part | None = None
        self._last_parts = 0, 0
        self._nursery: trio.Nursery
        self._preparing = self._prepared = False
        self._batches = self._records = self._peak_batch = 0

    async def append(self, records: Sequence[Record], notes: Sequence[Note] = ()) -> Appended:
        """Store the part with whatever else waits; returns when it is durable.

        Waits while the queue is full. Cancelled in that wait, nothing has happened;
        cancelled later, the part is stored all the same, since a batch belongs to many.
        Raises `JournalError`; of its kinds only `JournalFull` and `JournalBusy`
        say that the part is not stored.
        """
        part = Part(records, notes)
        try:
            try:
                # A turn of the scheduler less where there is room, which is nearly always.
                self._parts_in.send_nowait(part)
            except trio.WouldBlock:
                await self._parts_in.send(part)
        except (trio.ClosedResourceError, trio.BrokenResourceError):
            raise JournalError("the journal writer is closed") from None
        await part.answered.wait()
        return part.result()

    async def read(self, stream: str, first: int, last: int, *, limit: int) -> list[StoredRecord]:
        """Return records of one stream, numbers `first` to `last` inclusive, rising."""
        return await self.ask(partial(self._journal.read, stream, first, last, limit=limit))

    async def read_each(self, spans: Sequence[Span]) -> list[StoredRecord]:
        """Return records of several streams, each with its first and last number, in one go."""
        return await self.ask(partial(read_each, self._journal, spans))

    async def follow(self, after: Position, *, limit: int) -> list[StoredRecord]:
        """Return the records committed after a position, in commit order."""
        return await self.ask(partial(self._journal.follow, after, limit=limit))

    async def read_notes(
        self, kind: str, *, stream: str | None, limit: int, before: NoteId | None = None
    ) -> list[StoredNote]:
        """Return notes of one kind, highest id first, of one stream or of all."""
        return await self.ask(
            partial(self._journal.read_notes, kind, stream=stream, limit=limit, before=before)
        )

    async def note(self, note_id: NoteId) -> StoredNote | None:
        """Return one note, None when there is none with this id."""
        return await self.ask(partial(self._journal.note, note_id))

    async def note_totals(self, kind: str) -> NoteTotals:
        """Return how many notes of one kind are kept, and how many were dropped so far."""
        return await self.ask(partial(self._journal.note_totals, kind))

    async def remove_note(self, note_id: NoteId) -> bool:
        """Remove a note, in a commit of its own; says whether it was there.

        Raises `JournalError`. Cancelled, it may have happened.
        """
        return await self.alone(partial(self._journal.remove_note, note_id))

    async def count_notes(self, kind: str) -> dict[str, int]:
        """Return how many notes of one kind each stream has."""
        return await self.ask(partial(self._journal.count_notes, kind))

    async def wait_failed(self) -> None:
        """Return when the journal has failed; then the process must end."""
        await self._failed.wait()

    def statistics(self) -> WriterStatistics:
        """Return the figures of this moment."""
        waiting = self._parts_out.statistics()
        queued = waiting.current_buffer_used + waiting.tasks_waiting_send
        queued += self._held_over is not None
        return WriterStatistics(queued, self._batches, self._records, self._peak_batch)

    def close(self) -> None:
        """Take no more parts; those that were accepted are still committed."""
        self._parts_in.close()

    async def run(self) -> None:
        """Commit batches until closed and drained; `open_writer` starts this, once."""
        try:
            async with trio.open_nursery() as self._nursery:
                while await self._gather():
                    await self._commit()
        finally:
            # After a normal end nothing is left. After a cancellation somebody outside the
            # cancelled scope may still wait, and must not wait for ever.
            self._parts_in.close()
            while self._gather_nowait():
                self._answer_all(JournalError("the journal writer was stopped"))
            self._parts_out.close()

    async def _gather(self) -> bool:
        """Wait for a part and take along what else is there; false once closed and drained."""
        if not self._gather_nowait():
            try:
                self._held_over = await self._parts_out.receive()
            except trio.EndOfChannel:
                return False
            self._gather_nowait()
        await self._gather_company()
        return True

    async def _gather_company(self) -> None:
        """Wait for as many parts as the last batches had, while the loop still brings some.

        Who was answered together asks again together, and a lone sender waits for nobody.
        """
        quiet_turns = 0
        while len(self._batch) < max(self._last_parts) and quiet_turns < QUIET_TURNS_MAX:
            before = len(self._batch)
            await trio.lowlevel.checkpoint()
            self._gather_nowait()
            quiet_turns = quiet_turns + 1 if len(self._batch) == before else 0
        self._last_parts = self._last_parts[1], len(self._batch)

    def _gather_nowait(self) -> bool:
        """Fill the batch in the order of sending; a part too big for its rest is held over.

        A part is never split, so one that alone exceeds the bytes makes a batch of its own.
        """
        size = sum(part.size for part in self._batch)
        while len(self._batch) < self._batch_parts_max:
            part = self._held_over or self._next_nowait()
            self._held_over = part
            if part is None or (self._batch and size + part.size > self._batch_bytes_max):
                break
            self._held_over = None
            self._batch.append(part)
            size += part.size
        return bool(self._batch)

    def _next_nowait(self) -> Part | None:
        try:
            return self._parts_out.receive_nowait()
        except (trio.WouldBlock, trio.EndOfChannel):
            return None

    async def _commit(self) -> None:
        if self.failure is not None:
            self._answer_all(self.failure)
            return
        records = [record for part in self._batch for record in part.records]
        notes = [note for part in self._batch if part.notes for note in part.notes]
        try:
            whole = await self._write(self._journal.append, records, notes)
            assert len(whole.new) == len(records), "the journal answers every record"
            assert len(whole.notes_new) == len(notes), "the journal answers every note"
            self._share_out(whole)
            if self._journal.maintenance_due:
                await self._maintain()
        except PASSING as error:
            # From maintenance this concerns nobody: the batch is answered and safe in the WAL.
            self._answer_all(error)
        except Exception as error:
            # Whatever else came out of a commit, its outcome is unknown. It stays here, because an
            # exception out of this task would cancel every waiter before it could be told why.
            self._answer_all(self._fail(error))

    async def _maintain(self) -> None:
        """Tidy up: first the long part, beside the commits, then the rest between two of them."""
        if self._prepared:
            self._prepared = False
            await self._write(self._journal.maintain)
        elif not self._preparing:
            self._preparing = True
            self._nursery.start_soon(self._prepare)

    async def _prepare(self) -> None:
        try:
            with suppress(*PASSING):  # then the rest will be as long as the whole
                await self._read(self._journal.prepare_maintenance)
        except Exception as error:
            self._fail(error)
        self._preparing, self._prepared = False, True

    def _share_out(self, whole: Appended) -> None:
        """Give every part its own share.

        No checkpoint until the last is told: nobody sees some of a batch answered and some not.
        """
        self._batches += 1
        self._records += sum(whole.new)
        self.head = whole.head
        self.on_commit(whole)
        self._peak_batch = max(self._peak_batch, len(self._batch))
        record, note = 0, 0
        for part in self._batch:
            record_end, note_end = record + len(part.records), note + len(part.notes)
            part.answer(share(whole, slice(record, record_end), slice(note, note_end)))
            record, note = record_end, note_end
        self._batch.clear()

    def _answer_all(self, error: JournalError) -> None:
        for part in self._batch:
            part.answer(error)
        self._batch.clear()

    async def ask(self, fn: Callable[[], T], *, hop: Hop | None = None) -> T:
        """Run a read in the reading thread, or by the hop to another."""
        try:
            return await (hop or self._read)(fn)
        except JournalFailed as error:
            # Found while reading, and as bad: a damaged journal must not take more.
            self._fail(error)
            raise

    def _fail(self, error: Exception) -> JournalFailed:
        if self.failure is None:
            self.failure = as_failure(error)
            self._failed.set()
        return self.failure

    # What follows asks the journal as its contract says. The first four are commits of their own
    # between two batches: they raise `JournalError`, and cancelled, they may have happened.

    async def keep_ledgers(self, ledgers: Sequence[LedgerRecord]) -> None:
        """Keep these in place of what their streams had."""
        await self.alone(partial(self._journal.keep_ledgers, tuple(ledgers)))

    async def end_round(self, round: Round) -> None:
        """Store a round that is complete; it and the one before it are kept."""
        await self.alone(partial(self._journal.end_round, round))

    async def drop_ledgers(self) -> None:
        """Remove all ledgers and rounds."""
        await self.alone(self._journal.drop_ledgers)

    async def prune(self, prunings: Sequence[Pruned], *, limit: int) -> int:
        """Remove records of some streams, lowest first; returns how many."""
        return await self.alone(partial(self._journal.prune, prunings, limit=limit))

    async def rounds(self) -> list[Round]:
        """Return the two newest rounds, newest first; a damaged one is left out."""
        return await self.ask(self._journal.rounds)

    async def ledgers(self, after: str, *, limit: int) -> list[StoredLedger]:
        """Return the ledgers of the streams behind a name; may raise `LedgersDamaged`."""
        return await self.ask(partial(self._journal.ledgers, after, limit=limit))

    async def pruned(self, after: str, *, limit: int) -> list[Pruned]:
        """Return what was pruned of the streams behind a name, in the order of names."""
        return await self.ask(partial(self._journal.pruned, after, limit=limit))

    async def pruned_of(self, stream: str) -> Pruned | None:
        """Return what was pruned of one stream, None where nothing was."""
        return await self.ask(partial(self._journal.pruned_of, stream))

    async def journal_statistics(self) -> JournalStatistics:
        """Return what the journal takes of the disk."""
        return await self.ask(self._journal.statistics)

    async def alone(self, fn: Callable[[], T]) -> T:
        """Run a commit of its own, and after it the housekeeping that it made due."""
        if self.failure is not None:
            raise JournalFailed(str(self.failure)) from self.failure
        try:
            done = await self._write(fn)
            if self._journal.maintenance_due:
                with suppress(*PASSING):  # as after a batch, it concerns nobody
                    await self._read(self._journal.prepare_maintenance)
                    await self._write(self._journal.maintain)
        except PASSING:
            raise
        except Exception as error:
            # As after an append: whatever else came out of a commit, its outcome is unknown.
            raise JournalFailed(*self._fail(error).args) from error
        return done


@asynccontextmanager
async def open_writer(
    journal: Journal,
    *,
    write: Hop,
    read: Hop,
    queue_max: int = QUEUE_MAX,
    batch_parts_max: int = BATCH_PARTS_MAX,
    batch_bytes_max: int = BATCH_BYTES_MAX,
) -> AsyncIterator[JournalWriter]:
    """Run a writer for the journal; `write` and `read` are the hops to its two threads.

    Leaving commits what was accepted. Cancelled, or left with an exception, it answers what
    is still unanswered with `JournalError`. It does not close the journal.
    """
    writer = JournalWriter(
        journal,
        write=write,
        read=read,
        queue_max=queue_max,
        batch_parts_max=batch_parts_max,
        batch_bytes_max=batch_bytes_max,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        try:
            yield writer
        finally:
            writer.close()
