"""A journal in memory: the whole contract, and nothing left when the process ends.

It serves `--durability memory` and tests, so it is bounded like everything that is served.
A reading thread beside the writing one may see part of a batch, which is fine:
here nothing is durable anyhow, and a record becomes visible only when it is complete.
"""

from bisect import bisect_left, bisect_right, insort
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import islice

from .base import Appended, JournalError, JournalFull, Note, Position, Record, StoredRecord

HISTORY_MAX = 1_000_000
"""Records, and as many notes: about half a gigabyte, what a small machine can spare."""


class MemoryJournal:
    """Keeps records in lists and dictionaries, at most `history_max`, then it is full."""

    durability: str = "memory"

    def __init__(self, *, history_max: int = HISTORY_MAX) -> None:
        """Start empty."""
        self._history_max = history_max
        self._log: list[StoredRecord] = []
        self._stored: dict[tuple[str, int], StoredRecord] = {}
        self._numbers: defaultdict[str, list[int]] = defaultdict(list)
        self._notes: dict[tuple[str, str, int, bytes], Note] = {}
        self._closed = False

    def append(self, records: Sequence[Record], notes: Sequence[Note] = ()) -> Appended:
        """Store what is new, all or nothing."""
        if self._closed:
            raise JournalError("the journal is closed")
        new, fresh = self._sort_out(records)
        notes_new, notes_fresh = self._sort_out_notes(notes)
        self._check_room(len(fresh), len(notes_fresh))
        for stored in fresh.values():
            self._keep(stored)
        self._notes.update(notes_fresh)
        return Appended(new, self._instead_of(records, new), notes_new, self.head())

    def read(self, stream: str, first: int, last: int, *, limit: int) -> list[StoredRecord]:
        """Return records of one stream, numbers `first` to `last` inclusive, rising."""
        assert limit >= 0, "a limit is never negative"
        numbers = self._numbers.get(stream, [])
        start, stop = bisect_left(numbers, first), bisect_right(numbers, last)
        wanted = numbers[start : min(stop, start + limit)]
        return [self._stored[stream, number] for number in wanted]

    def follow(self, after: Position, *, limit: int) -> list[StoredRecord]:
        """Return the records committed after a position, in commit order."""
        assert limit >= 0, "a limit is never negative"
        return self._log[after : after + limit]

    def read_notes(self, kind: str, *, stream: str | None, limit: int) -> list[Note]:
        """Return notes of one kind, newest first; the cost grows with the notes of all kinds."""
        assert limit >= 0, "a limit is never negative"
        newest_first = reversed(list(self._notes.values()))
        wanted = (n for n in newest_first if n.kind == kind and stream in (None, n.stream))
        return list(islice(wanted, limit))

    def count_notes(self, kind: str) -> dict[str, int]:
        """Return how many notes of one kind each stream has."""
        return dict(
            Counter(note.stream for note in list(self._notes.values()) if note.kind == kind)
        )

    def head(self) -> Position:
        """Return the position of the last record, 0 when there is none."""
        return Position(len(self._log))

    def maintain(self) -> None:
        """Do nothing: there is no file to tidy."""

    def close(self) -> None:
        """Take no more appends; what is here stays readable until the object goes."""
        self._closed = True

    def _sort_out(
        self, records: Sequence[Record]
    ) -> tuple[tuple[bool, ...], dict[tuple[str, int], StoredRecord]]:
        fresh: dict[tuple[str, int], StoredRecord] = {}
        new = []
        for record in records:
            key = record.stream, record.number
            new.append(key not in self._stored and key not in fresh)
            if new[-1]:
                position = Position(len(self._log) + len(fresh) + 1)
                fresh[key] = StoredRecord(position, *key, record.body, record.received_at)
        return tuple(new), fresh

    def _sort_out_notes(
        self, notes: Sequence[Note]
    ) -> tuple[tuple[bool, ...], dict[tuple[str, str, int, bytes], Note]]:
        fresh: dict[tuple[str, str, int, bytes], Note] = {}
        new = []
        for note in notes:
            key = note.kind, note.stream, note.number, note.key
            new.append(key not in self._notes and key not in fresh)
            fresh.setdefault(key, note)
        return tuple(new), {key: note for key, note in fresh.items() if key not in self._notes}

    def _check_room(self, records: int, notes: int) -> None:
        most = max(len(self._log) + records, len(self._notes) + notes)
        if (records or notes) and most > self._history_max:
            raise JournalFull(f"the journal in memory holds at most {self._history_max:,} records")

    def _keep(self, record: StoredRecord) -> None:
        # The record goes in before its number does, so that a reading thread that finds
        # the number also finds the record.
        self._stored[record.stream, record.number] = record
        insort(self._numbers[record.stream], record.number)
        self._log.append(record)

    def _instead_of(
        self, records: Sequence[Record], new: tuple[bool, ...]
    ) -> dict[int, StoredRecord]:
        return {
            index: self._stored[record.stream, record.number]
            for index, record in enumerate(records)
            if not new[index]
        }
