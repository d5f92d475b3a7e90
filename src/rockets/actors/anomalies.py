"""The list of anomalies: settled messages that changed nothing, and conflicts.

The first come from the index, which is brought up to date here; the second are notes in the
journal, which hold the refused contents.
Both are in an order of their own, commit order and note id, and a page merges the two by time of
arrival, so a cursor is a place in each.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, get_args

import msgspec
import trio

from rockets.actors.anomaly_index import Anomaly, AnomalyIndex
from rockets.actors.base import read_left
from rockets.actors.history import HistoryUnavailable
from rockets.actors.read_model import ReadModel
from rockets.domain.ledger import Ledger
from rockets.domain.messages import Channel
from rockets.domain.rocket import AnomalyKind
from rockets.journal.base import JournalError, NoteId, StoredNote
from rockets.journal.writer import JournalWriter

CONFLICT: Literal["conflict"] = "conflict"
ListedKind = AnomalyKind | Literal["conflict"]
KINDS: tuple[ListedKind, ...] = (*get_args(AnomalyKind), CONFLICT)

READ_RECORDS = 200

SLICE_BYTES = 16 << 10
"""Ordinary messages of so many bytes cost 2 ms; then others get their turn."""

READ_NOTES = 64
LEDGERS_AT_ONCE = 2_000

REQUEST_S = 2.0
"""A request reads for so long; what it has found is kept, so the next one gets further."""

PAGE_BYTES_MAX = 1 << 20
"""A page ends where the bodies of its conflicts get larger."""


class Conflict(msgspec.Struct, frozen=True, gc=False):
    """A refused content, and what is stored in its place; both bodies as they were sent.

    What was stored and then pruned is None.
    """

    note: int
    channel: str
    number: int
    refused: bytes
    stored: bytes | None
    received_at: int


class AnomalyCursor(msgspec.Struct, frozen=True):
    """The place behind one item: in commit order, and among the conflicts."""

    position: int | None = None
    note: int | None = None


class AnomalyQuery(msgspec.Struct, frozen=True, kw_only=True):
    """What a page shows; no kinds means all."""

    channel: Channel | None = None
    kinds: frozenset[ListedKind] = frozenset()
    limit: int = 100
    after: AnomalyCursor = AnomalyCursor()

    def shows(self, kind: ListedKind) -> bool:
        """Say whether this kind is asked for."""
        return not self.kinds or kind in self.kinds


class AnomalyPage(msgspec.Struct, frozen=True):
    """Anomalies, newest first; `dropped` counts what the limits took, of all rockets."""

    items: list[Anomaly | Conflict]
    following: AnomalyCursor | None
    dropped: int


class Anomalies:
    """Lists anomalies; see the module.

    Its methods raise HistoryUnavailable where the journal cannot be read, or not in time.
    """

    def __init__(
        self, journal: JournalWriter, read_model: ReadModel, *, index: AnomalyIndex | None = None
    ) -> None:
        self._journal = journal
        self._read_model = read_model
        self._index = index or AnomalyIndex()
        # Two requests would read the same: the second waits and then finds most of it done.
        self._turn = trio.CapacityLimiter(1)

    async def page(self, query: AnomalyQuery) -> AnomalyPage:
        """Give a page; it may end early where time or bytes run out, and then has a following one.

        What comes up to date while it runs may be on it or not.
        """
        deadline = trio.current_time() + REQUEST_S
        dropped = 0
        try:
            if query.kinds != {CONFLICT}:
                with trio.move_on_at(deadline) as scope:
                    await self._catch_up(query.channel)
                if scope.cancelled_caught:
                    raise HistoryUnavailable("the anomalies are still being read; ask again")
                dropped += self._index.dropped
            if query.shows(CONFLICT):
                dropped += (await self._journal.note_totals(CONFLICT)).dropped
            items, following = await self._merged(query, deadline)
        except JournalError as error:
            raise HistoryUnavailable(f"the journal cannot be read: {error}") from error
        return AnomalyPage(items, following, dropped)

    async def _catch_up(self, channel: Channel | None) -> None:
        """Read on wherever a ledger counts more anomalies than the index has found."""
        for count, ledger in enumerate(self._ledgers(channel), 1):
            if count % LEDGERS_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
            if self._index.next_number(ledger) is not None:
                async with self._turn:
                    await self._read_on(ledger)

    def _ledgers(self, channel: Channel | None) -> Iterable[Ledger]:
        if channel is None:
            return self._read_model.ledgers()
        ledger = self._read_model.ledger(channel)
        return [] if ledger is None else [ledger]

    async def _read_on(self, ledger: Ledger) -> None:
        """Read slice by slice; cancelled between two, the index keeps what it has."""
        while (first := self._index.next_number(ledger)) is not None:
            base, records = await read_left(
                self._journal, ledger.channel, first, ledger.settled_through, limit=READ_RECORDS
            )
            if base is not None:
                self._index.skip(base)
                continue
            assert records, "the ledger has settled numbers that the journal does not hold"
            size = 0
            for record in records:
                self._index.take(ledger.channel, record)
                size += len(record.body)
                if size > SLICE_BYTES:
                    size = 0
                    await trio.lowlevel.checkpoint()

    async def _merged(
        self, query: AnomalyQuery, deadline: float
    ) -> tuple[list[Anomaly | Conflict], AnomalyCursor | None]:
        """Merge the two orders from the newest on."""
        entries = self._entries(query)
        notes = _Notes(self._journal, query)
        items: list[Anomaly | Conflict] = []
        place, size = query.after, 0
        while True:
            entry, note = entries[-1] if entries else None, await notes.peek()
            if entry is None and note is None:
                return items, None
            late = trio.current_time() > deadline
            if items and (len(items) == query.limit or size > PAGE_BYTES_MAX or late):
                return items, place
            if entry is not None and (note is None or entry.received_at >= note.noted_at):
                items.append(entries.pop())
                place = msgspec.structs.replace(place, position=entry.position)
            else:
                conflict = await self._conflict(notes.take())
                items.append(conflict)
                size += len(conflict.refused) + len(conflict.stored or b"")
                place = msgspec.structs.replace(place, note=conflict.note)

    def _entries(self, query: AnomalyQuery) -> list[Anomaly]:
        """Give the entries that a page may need, the newest last."""
        found: list[Anomaly] = []
        for entry in self._index.newest_first(query.channel, before=query.after.position):
            if query.shows(entry.kind):
                found.append(entry)
                if len(found) > query.limit:
                    break
        return found[::-1]

    async def _conflict(self, note: StoredNote) -> Conflict:
        channel = Channel(note.stream)
        base, records = await read_left(self._journal, channel, note.number, note.number, limit=1)
        assert records or base, "a conflict is noted only where something is stored"
        stored = records[0].body if records else None
        return Conflict(note.id, channel, note.number, note.body, stored, note.noted_at)


class _Notes:
    """The conflicts of a query, newest first, read a few at a time."""

    def __init__(self, journal: JournalWriter, query: AnomalyQuery) -> None:
        self._journal = journal
        self._channel = query.channel
        self._before = None if query.after.note is None else NoteId(query.after.note)
        self._wanted = min(READ_NOTES, query.limit + 1)
        self._read: Sequence[StoredNote] = ()
        self._next = 0
        self._ended = not query.shows(CONFLICT)

    async def peek(self) -> StoredNote | None:
        """Give the next one and leave it there."""
        if self._next == len(self._read) and not self._ended:
            self._read = await self._journal.read_notes(
                CONFLICT, stream=self._channel, limit=self._wanted, before=self._before
            )
            self._next = 0
            self._ended = len(self._read) < self._wanted
            self._before = self._read[-1].id if self._read else self._before
        return self._read[self._next] if self._next < len(self._read) else None

    def take(self) -> StoredNote:
        """Take the one that was peeked at."""
        self._next += 1
        return self._read[self._next - 1]
