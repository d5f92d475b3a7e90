"""The journal in Redis: a stream of records that several instances write to and follow.

The stream `log` has the records in commit order, with ids `position-0`; positions have no gaps but
pruned records. An entry has a header `h`, which is "checksum received_at number stream", and a body
`b`. For every stream of records a sorted set `numbers:…` has the positions by number,
which are exact as scores up to 2^53. `meta` has the store's identity and its head.
`redis_link` connects, `redis_store` runs the scripts, `redis_policy` says which servers will do;
`redis_notes`, `redis_ledgers` and `redis_pruned` have what is beside the records.

The invariants: everything an append does is done by one script, which Redis runs alone and writes
to its file as one transaction; and an answer comes after the sync of all it rests on (see
`redis_policy`). What Redis promises ends at its one server: replicas get the records later, so a
failover may lose acknowledged ones. That is then seen, and the journal raises `JournalBehind`.
"""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Literal

from . import redis_ledgers, redis_notes, redis_pruned, redis_spans
from .absence import as_refusal
from .base import (
    NOTE_LIMITS,
    Appended,
    JournalError,
    JournalFailed,
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
from .checksum import checksum
from .hurry import Hurry
from .redis_append import APPEND, append_arguments, index_of
from .redis_link import ANSWER_S, CALL_S, CONNECT_S, Interrupted, Link, Script, target_of
from .redis_store import SAME_STORE, Store
from .spans import Span

PAGE = 1_000
"""Records in one answer, which everybody else waits for: a millisecond where they follow each
other, 16 where each is looked up."""

FOLLOWER_CONNECT_S = 0.4
"""An attempt to connect cannot be interrupted."""

READ = Script(
    SAME_STORE,
    """
local entries = {}
for i, position in ipairs(
    redis.call('ZRANGEBYSCORE', KEYS[3], ARGV[4], ARGV[5], 'LIMIT', 0, ARGV[6])) do
  entries[i] = redis.call('XRANGE', KEYS[2], position, position)[1] or {position}
end
return {head, mark, entries}
""",
)


class RedisJournal:
    """Keeps records in a Redis server, together with other instances; see the module for how."""

    durability: str

    def __init__(
        self,
        url: str,
        *,
        durability: Literal["full", "normal"] = "full",
        note_limits: NoteLimits = NOTE_LIMITS,
        answer_s: float = ANSWER_S,
        call_s: float = CALL_S,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """Connect; raises `JournalRefused` with one line saying why not.

        `url` is as `redis_link.target_of` has it. A call waits `answer_s` for one answer and
        `call_s` in all. `entropy` gives random bytes: for identities and for pauses.
        """
        self.durability = durability
        self._note_limits = note_limits
        target, prefix = target_of(url, durability)
        self._hurry = hurry = Hurry()
        link = partial(Link, target, lambda: entropy(1)[0] / 255, answer_s=answer_s, call_s=call_s)
        self._writing = link(hurry, connect_s=CONNECT_S)
        self._reading = link(hurry, connect_s=CONNECT_S)
        self._following = link(hurry, connect_s=FOLLOWER_CONNECT_S)
        self._store = Store(target.name, prefix, entropy)
        self._writing.open()
        try:
            self._store.open(self._writing)
        except JournalError as error:
            self._writing.close()
            raise as_refusal(error) from error

    def append(self, records: Sequence[Record], notes: Sequence[Note] = ()) -> Appended:
        """Store what is new by one script."""
        keys, arguments = append_arguments(self._store, self._note_limits, records, notes)
        before, head, told, instead = self._store.write(self._writing, APPEND, keys, arguments)
        stored = {index: self._verified(entry) for index, entry in instead}
        for index, found in stored.items():
            self._check_index(found, records[index].stream, records[index].number)
        new = tuple([index not in stored for index in range(len(records))])
        notes_new = tuple([flag == ord("1") for flag in told])
        return Appended(new, stored, notes_new, Position(head), Position(before))

    def read(self, stream: str, first: int, last: int, *, limit: int) -> list[StoredRecord]:
        """Return records of one stream, numbers `first` to `last` inclusive, rising."""
        assert limit >= 0, "a limit is never negative"
        found: list[StoredRecord] = []
        while len(found) < limit:
            count = min(PAGE, limit - len(found))
            page = self._store.read(
                self._reading, READ, [self._index(stream)], (first, last, count)
            )
            for each in map(self._verified, page):
                self._check_index(each, stream, max(first, min(each.number, last)))
                found.append(each)
                first = each.number + 1
            if len(page) < count:
                break
        return found

    def read_each(self, spans: Sequence[Span]) -> list[StoredRecord]:
        """Return the records of many spans of numbers, in the order of these."""
        found: list[StoredRecord] = []
        for entry, (stream, first, last) in redis_spans.read(
            self._store, self._reading, spans, page=PAGE
        ):
            each = self._verified(entry)
            self._check_index(each, stream, max(first, min(each.number, last)))
            found.append(each)
        return found

    def follow(self, after: Position, *, limit: int) -> list[StoredRecord]:
        """Return the records committed after a position, in commit order."""
        assert limit >= 0, "a limit is never negative"
        found: list[StoredRecord] = []
        while len(found) < limit:
            count = min(PAGE, limit - len(found))
            wanted = "XRANGE", self._store.key("log"), after + 1, "+", "COUNT", count
            page = self._store.read_by(self._reading, wanted)
            found += map(self._verified, page)
            if len(page) < count:
                break
            after = found[-1].position
        return found

    def head(self) -> Position:
        """Ask for the position of the last record, 0 when there is none."""
        return self._store.head(self._reading)

    def wait_behind(self, position: Position, timeout_s: float) -> bool:
        """Wait until there is a record behind a position; says whether there is."""
        link = self._following
        try:
            if self._store.head(link) > position:
                return True
            block_ms = int(timeout_s * 1_000)
            if block_ms < 1:
                return False
            log = self._store.key("log")
            command = "XREAD", "COUNT", 1, "BLOCK", block_ms, "STREAMS", log, position
            return link.block(command, timeout_s) is not None
        except Interrupted:
            return False
        finally:
            link.interrupted.clear()

    def interrupt(self) -> None:
        """Make a running `wait_behind`, or else the next, return; from any thread."""
        self._following.interrupted.set()

    def hurry(self) -> None:
        """Look no longer for a server that is gone; from any thread."""
        self._hurry.begin()

    def claim_round(self) -> bool:
        """Claim the round; the claim ends by itself a minute after its last use."""
        return redis_ledgers.claim(self._store, self._writing)

    def release_round(self) -> None:
        """Give the claim up, if there is one."""
        redis_ledgers.release(self._store, self._writing)

    def read_notes(
        self, kind: str, *, stream: str | None, limit: int, before: NoteId | None = None
    ) -> list[StoredNote]:
        """Return notes of one kind, highest id first, of one stream or of all."""
        assert limit >= 0, "a limit is never negative"
        return redis_notes.read(self._store, self._reading, kind, stream, before, limit)

    def note(self, note_id: NoteId) -> StoredNote | None:
        """Return one note, None when there is none with this id."""
        return redis_notes.one(self._store, self._reading, note_id)

    def count_notes(self, kind: str) -> dict[str, int]:
        """Return how many notes of one kind each stream has."""
        return redis_notes.count_by_stream(self._store, self._reading, kind)

    def note_totals(self, kind: str) -> NoteTotals:
        """Return how many notes of one kind are kept, and how many were dropped so far."""
        return redis_notes.totals(self._store, self._reading, kind)

    def remove_note(self, note_id: NoteId) -> bool:
        """Remove a note; says whether it was there."""
        return redis_notes.remove(self._store, self._writing, note_id)

    def keep_ledgers(self, ledgers: Sequence[LedgerRecord]) -> None:
        """Keep these in place of what their streams had, by one script."""
        redis_ledgers.keep(self._store, self._writing, ledgers)

    def end_round(self, round: Round) -> None:
        """Store a round that is complete; it and the one before it are kept."""
        redis_ledgers.end_round(self._store, self._writing, round)

    def rounds(self) -> list[Round]:
        """Return the two newest rounds, newest first; a damaged one is left out."""
        return redis_ledgers.rounds(self._store, self._reading)

    def ledgers(self, after: str, *, limit: int) -> list[StoredLedger]:
        """Return the ledgers of the streams behind a name, in the order of names."""
        assert limit >= 0, "a limit is never negative"
        return redis_ledgers.read(self._store, self._reading, after, limit)

    def drop_ledgers(self) -> None:
        """Remove all ledgers and rounds, by one script."""
        redis_ledgers.drop(self._store, self._writing)

    def prune(self, prunings: Sequence[Pruned], *, limit: int) -> int:
        """Remove records of some streams, lowest first, by one script; returns how many."""
        assert limit >= 0, "a limit is never negative"
        return redis_pruned.prune(self._store, self._writing, prunings, limit)

    def pruned(self, after: str, *, limit: int) -> list[Pruned]:
        """Return what was pruned of the streams behind a name, in the order of names."""
        assert limit >= 0, "a limit is never negative"
        return redis_pruned.read(self._store, self._reading, after, limit)

    def pruned_of(self, stream: str) -> Pruned | None:
        """Return what was pruned of one stream, None where nothing was."""
        return redis_pruned.one(self._store, self._reading, stream)

    def statistics(self) -> JournalStatistics:
        """Return zeros: the files are the server's, and asking for them could fail."""
        return JournalStatistics(0, 0, 0, 0, 0)

    @property
    def maintenance_due(self) -> bool:
        """Say no: the server tidies up itself."""
        return False

    def prepare_maintenance(self) -> None:
        """Do nothing, as `maintain`."""

    def maintain(self) -> None:
        """Do nothing: the server tidies up itself."""

    def close(self) -> None:
        """Give the claim up and let the connections go; nothing may be reading any more."""
        with suppress(JournalError):  # it ends by itself, only later
            self.release_round()
        self._store.close()
        for link in (self._writing, self._reading, self._following):
            link.close()

    def _index(self, stream: str) -> bytes:
        return index_of(self._store, stream)

    def _check_index(self, found: StoredRecord, stream: str, number: int) -> None:
        if (found.stream, found.number) != (stream, number):
            words = f"the index of {stream} points at records of others"
            raise self._store.fail(JournalFailed(words))

    def _verified(self, entry: Any) -> StoredRecord:
        """Read an entry of the stream; where there is none, a script gives its position alone."""
        position = entry[0].partition(b"-")[0].decode()
        if len(entry) == 1:
            words = f"an index points at record {position}, which is not there"
            raise self._store.fail(JournalFailed(words))
        try:
            _, header, _, body = entry[1]
            mark, received_at, number, stream = header.split(b" ", 3)
            found = StoredRecord(
                Position(int(position)), stream.decode(), int(number), body, int(received_at)
            )
            is_whole = checksum(found.stream, found.number, body).hex().encode() == mark
        except (TypeError, ValueError):
            is_whole = False
        if not is_whole:
            words = f"record {position} does not match its checksum"
            raise self._store.fail(JournalFailed(words))
        return found
