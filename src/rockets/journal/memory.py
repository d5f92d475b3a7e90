"""A journal in memory: the whole contract, and nothing left when the process ends.

It serves `--durability memory` and tests, so it is bounded like everything that is served.
A reading thread beside the writing one may see part of a batch, which is fine:
here nothing is durable anyhow, and a record becomes visible only when it is complete.
"""

from bisect import bisect_left, bisect_right, insort
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import count, islice
from operator import attrgetter

from msgspec.structs import replace

from .base import (
    NOTE_LIMITS,
    Appended,
    JournalError,
    JournalFull,
    JournalStatistics,
    LedgerRecord,
    Note,
    NoteId,
    NoteLimits,
    NoteTotals,
    Position,
    Pruned,
    Record,
    Round,
    StoredLedger,
    StoredNote,
    StoredRecord,
)

HISTORY_MAX = 1_000_000
"""Records: about half a gigabyte, what a small machine can spare."""

STATISTICS = JournalStatistics(0, 0, 0, 0, 0)


class MemoryJournal:
    """Keeps records in lists and dictionaries, at most `history_max`, then it is full."""

    durability: str = "memory"

    def __init__(
        self, *, history_max: int = HISTORY_MAX, note_limits: NoteLimits = NOTE_LIMITS
    ) -> None:
        """Start empty."""
        self._history_max = history_max
        # In commit order; what was pruned lingers there, up to an eighth of all.
        self._log: list[StoredRecord] = []
        self._lingering = 0
        self._stored: dict[tuple[str, int], StoredRecord] = {}
        self._numbers: defaultdict[str, list[int]] = defaultdict(list)
        self._note_limits = note_limits
        self._notes: defaultdict[str, _Notes] = defaultdict(_Notes)
        self._note_ids = count(1)
        self._ledgers: dict[str, bytes] = {}
        self._ledger_order: list[str] = []
        self._rounds: list[Round] = []
        self._pruned: dict[str, Pruned] = {}
        self._closed = False

    def append(self, records: Sequence[Record], notes: Sequence[Note] = ()) -> Appended:
        """Store what is new, all or nothing."""
        self._refuse_when_closed()
        before = self.head()
        new, fresh = self._sort_out(records)
        self._check_room(len(fresh))
        before = self.head()
        for stored in fresh.values():
            self._keep(stored)
        notes_new = tuple([self._keep_note(note) for note in notes])
        for kind in {note.kind for note in notes}:
            self._notes[kind].bound(self._note_limits)
        instead = {} if len(fresh) == len(records) else self._instead_of(records, new)
        return Appended(new, instead, notes_new, self.head(), before)

    def read(self, stream: str, first: int, last: int, *, limit: int) -> list[StoredRecord]:
        """Return records of one stream, numbers `first` to `last` inclusive, rising."""
        assert limit >= 0, "a limit is never negative"
        numbers = self._numbers.get(stream, [])
        start, stop = bisect_left(numbers, first), bisect_right(numbers, last)
        wanted = numbers[start : min(stop, start + limit)]
        found = [self._stored.get((stream, number)) for number in wanted]
        return [record for record in found if record is not None]  # not pruned meanwhile

    def follow(self, after: Position, *, limit: int) -> list[StoredRecord]:
        """Return the records committed after a position, in commit order."""
        assert limit >= 0, "a limit is never negative"
        log = self._log
        start = bisect_right(log, after, key=attrgetter("position"))
        return list(islice(filter(self._is_there, islice(log, start, None)), limit))

    def read_notes(
        self, kind: str, *, stream: str | None, limit: int, before: NoteId | None = None
    ) -> list[StoredNote]:
        """Return notes of one kind, highest id first; the cost grows with the notes of the kind."""
        assert limit >= 0, "a limit is never negative"
        newest_first = reversed(list(self._notes[kind].by_id.values()))
        wanted = (
            note
            for note in newest_first
            if (before is None or note.id < before) and stream in (None, note.stream)
        )
        return list(islice(wanted, limit))

    def note(self, note_id: NoteId) -> StoredNote | None:
        """Return one note, None when there is none with this id."""
        found = (notes.by_id.get(note_id) for notes in list(self._notes.values()))
        return next(filter(None, found), None)

    def count_notes(self, kind: str) -> dict[str, int]:
        """Return how many notes of one kind each stream has."""
        return dict(Counter(note.stream for note in list(self._notes[kind].by_id.values())))

    def note_totals(self, kind: str) -> NoteTotals:
        """Return how many notes of one kind are kept, and how many were dropped so far."""
        return NoteTotals(len(self._notes[kind].by_id), self._notes[kind].dropped)

    def remove_note(self, note_id: NoteId) -> bool:
        """Remove a note; says whether it was there."""
        self._refuse_when_closed()
        return any(notes.remove(note_id) for notes in list(self._notes.values()))

    def keep_ledgers(self, ledgers: Sequence[LedgerRecord]) -> None:
        """Keep these in place of what their streams had."""
        self._refuse_when_closed()
        self._ledgers.update({each.stream: each.data for each in ledgers})

    def end_round(self, round: Round) -> None:
        """Store a round that is complete; it and the one before it are kept."""
        self._refuse_when_closed()
        self._rounds = [round, *self._rounds[:1]]

    def rounds(self) -> list[Round]:
        """Return the two newest rounds, newest first."""
        return list(self._rounds)

    def ledgers(self, after: str, *, limit: int) -> list[StoredLedger]:
        """Return the ledgers of the streams behind a name; new names cost sorting all."""
        assert limit >= 0, "a limit is never negative"
        ledgers = self._ledgers
        if len(self._ledger_order) != len(ledgers):
            self._ledger_order = sorted(ledgers)
        order = self._ledger_order
        start = bisect_right(order, after)
        return [StoredLedger(name, ledgers[name]) for name in order[start : start + limit]]

    def drop_ledgers(self) -> None:
        """Remove all ledgers and rounds."""
        self._refuse_when_closed()
        self._ledgers, self._ledger_order, self._rounds = {}, [], []

    def prune(self, prunings: Sequence[Pruned], *, limit: int) -> int:
        """Remove records of some streams, lowest first; returns how many."""
        assert limit >= 0, "a limit is never negative"
        self._refuse_when_closed()
        removed = 0
        for pruning in prunings:
            removed += self._prune_stream(pruning, limit - removed)
        return removed

    def _prune_stream(self, pruning: Pruned, limit: int) -> int:
        stream = pruning.stream
        numbers = self._numbers.get(stream, [])
        gone = numbers[: min(limit, bisect_right(numbers, pruning.through))]
        last = self._log[-1] if self._log else None
        if last is not None and last.stream == stream:
            gone = gone[: bisect_left(gone, last.number)]
        if gone:
            self._forget(stream, gone)
            known = self._pruned.get(stream)
            if known is None or known.through < pruning.through:
                self._pruned[stream] = pruning
        return len(gone)

    def pruned(self, after: str, *, limit: int) -> list[Pruned]:
        """Return what was pruned of the streams behind a name; the cost grows with all of them."""
        assert limit >= 0, "a limit is never negative"
        wanted = sorted(stream for stream in list(self._pruned) if stream > after)
        return [self._pruned[stream] for stream in wanted[:limit]]

    def pruned_of(self, stream: str) -> Pruned | None:
        """Return what was pruned of one stream, None where nothing was."""
        return self._pruned.get(stream)

    def head(self) -> Position:
        """Return the position of the last record, 0 when there is none."""
        return self._log[-1].position if self._log else Position(0)

    def statistics(self) -> JournalStatistics:
        """Return zeros: there is no file."""
        return STATISTICS

    @property
    def maintenance_due(self) -> bool:
        """Say no: there is no file to tidy."""
        return False

    def prepare_maintenance(self) -> None:
        """Do nothing, as `maintain`."""

    def maintain(self) -> None:
        """Do nothing: there is no file to tidy."""

    def close(self) -> None:
        """Take no more appends; what is here stays readable until the object goes."""
        self._closed = True

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise JournalError("the journal is closed")

    def _keep_note(self, note: Note) -> bool:
        return self._notes[note.kind].keep(note, self._note_ids)

    def _sort_out(
        self, records: Sequence[Record]
    ) -> tuple[tuple[bool, ...], dict[tuple[str, int], StoredRecord]]:
        stored = self._stored
        position: int = self.head()
        fresh: dict[tuple[str, int], StoredRecord] = {}
        new = []
        for record in records:
            key = record.stream, record.number
            is_new = key not in stored and key not in fresh
            new.append(is_new)
            if is_new:
                position += 1
                fresh[key] = StoredRecord(Position(position), *key, record.body, record.received_at)
        return tuple(new), fresh

    def _check_room(self, records: int) -> None:
        if records and len(self._stored) + records > self._history_max:
            raise JournalFull(f"the journal in memory holds at most {self._history_max:,} records")

    def _keep(self, record: StoredRecord) -> None:
        # The record goes in before its number does, so that a reading thread that finds
        # the number also finds the record.
        self._stored[record.stream, record.number] = record
        insort(self._numbers[record.stream], record.number)
        self._log.append(record)

    def _is_there(self, record: StoredRecord) -> bool:
        return self._stored.get((record.stream, record.number)) is record

    def _forget(self, stream: str, numbers: list[int]) -> None:
        # A reading thread keeps the lists it has begun with, hence new ones.
        self._numbers[stream] = self._numbers[stream][len(numbers) :]
        for number in numbers:
            del self._stored[stream, number]
        self._lingering += len(numbers)
        if self._lingering * 8 > len(self._log):
            self._log = list(filter(self._is_there, self._log))
            self._lingering = 0

    def _instead_of(
        self, records: Sequence[Record], new: tuple[bool, ...]
    ) -> dict[int, StoredRecord]:
        return {
            index: self._stored[record.stream, record.number]
            for index, record in enumerate(records)
            if not new[index]
        }


class _Notes:
    """The notes of one kind, oldest first, and how many had to go."""

    def __init__(self) -> None:
        self.by_id: dict[NoteId, StoredNote] = {}
        self.dropped = 0
        self._ids: dict[tuple[str, int, bytes], NoteId] = {}
        self._bytes = 0

    def keep(self, note: Note, ids: Iterator[int]) -> bool:
        key = note.stream, note.number, note.key
        known = self._ids.get(key)
        if known is not None:
            old = self.by_id[known]
            last_at = max(old.last_at, note.noted_at)
            self.by_id[known] = replace(old, count=old.count + 1, last_at=last_at)
            return False
        new = self._ids[key] = NoteId(next(ids))
        self.by_id[new] = StoredNote(
            new, note.kind, *key, note.body, note.noted_at, 1, note.noted_at
        )
        self._bytes += len(note.body)
        return True

    def bound(self, limits: NoteLimits) -> None:
        while len(self.by_id) > limits.count_max or self._bytes > limits.bytes_max:
            self.remove(next(iter(self.by_id)))
            self.dropped += 1

    def remove(self, note_id: NoteId) -> bool:
        note = self.by_id.pop(note_id, None)
        if note is None:
            return False
        del self._ids[note.stream, note.number, note.key]
        self._bytes -= len(note.body)
        return True
