"""The contract every journal keeps: values, errors and the `Journal` protocol.

A journal is a table of records keyed by (stream, number), in the order of their commits.
It holds bytes and never looks into them: it knows nothing of rockets, actors or HTTP.
The invariant: of all records ever given for one key exactly the first stays, unchanged, until it
is pruned, and no position is ever used for another record.

Beside the records stands what their user made of them: one ledger for each stream, and rounds.
A round says from which position on the records have to be applied to the ledgers, since it was
begun there and every ledger that was older has been kept anew before it ended.
Ledgers need no consistent cut: one may be newer than the beginning of the round, because records
that a ledger holds already change nothing in it. So the earlier of two rounds only means more work.
"""

from collections.abc import Sequence
from typing import NewType, Protocol, runtime_checkable

import msgspec

Position = NewType("Position", int)
"""Where a record stands in commit order: 1 for the first, 0 means "before all"."""

NoteId = NewType("NoteId", int)
"""Names a note for ever: ids rise in the order of first keeping and are never used again."""

NOTE_COUNT_MAX = 100_000
NOTE_BYTES_MAX = 64 << 20
"""Enough to look into any fault, little enough beside the records of a busy day."""


class Record(msgspec.Struct, frozen=True, gc=False):
    """What a caller wants stored; `received_at` is in microseconds since the epoch."""

    stream: str
    number: int
    body: bytes
    received_at: int


class StoredRecord(msgspec.Struct, frozen=True, gc=False):
    """What the journal holds for one key, with its place in commit order."""

    position: Position
    stream: str
    number: int
    body: bytes
    received_at: int


class Note(msgspec.Struct, frozen=True, gc=False):
    """A remark beside the records, kept once per (kind, stream, number, key) and then counted.

    Notes have no position and are not followed; `noted_at` is in microseconds since the epoch.
    """

    kind: str
    stream: str
    number: int
    key: bytes
    body: bytes
    noted_at: int


class StoredNote(msgspec.Struct, frozen=True, gc=False):
    """What the journal holds for one key of a note: the first body, and how often it was noted.

    `noted_at` is the time of the first, `last_at` the latest time of all.
    """

    id: NoteId
    kind: str
    stream: str
    number: int
    key: bytes
    body: bytes
    noted_at: int
    count: int
    last_at: int


class NoteLimits(msgspec.Struct, frozen=True, gc=False):
    """How many notes of each kind are kept, and how many bytes of their bodies."""

    count_max: int = NOTE_COUNT_MAX
    bytes_max: int = NOTE_BYTES_MAX


NOTE_LIMITS = NoteLimits()


class NoteTotals(msgspec.Struct, frozen=True, gc=False):
    """How many notes of a kind are kept, and how many had to go because of the limits."""

    kept: int = 0
    dropped: int = 0


class LedgerRecord(msgspec.Struct, frozen=True, gc=False):
    """What the journal's user made of a stream's records, to begin from at the next start."""

    stream: str
    data: bytes


class StoredLedger(msgspec.Struct, frozen=True, gc=False):
    """A ledger as it was kept; `data` is None where the record is damaged.

    The damage may be in the name as well. Where the journal has no record of that stream, another
    stream's ledger is missing, which only dropping all ledgers and a replay of everything repairs.
    """

    stream: str
    data: bytes | None


class Round(msgspec.Struct, frozen=True, gc=False):
    """Says that every ledger holds at least the records up to `began`, by the version `rules`.

    `ledgers` is how many are kept when it ends: fewer at a start mean that some are missing, more
    came with a later round that did not end.
    """

    began: Position
    rules: str
    ledgers: int


class Pruned(msgspec.Struct, frozen=True, gc=False):
    """Says that a stream's records up to and including the number `through` may be gone.

    `base` is what the journal's user made of them, to begin from in their place.
    """

    stream: str
    through: int
    base: bytes


class JournalStatistics(msgspec.Struct, frozen=True, gc=False):
    """What the journal takes of the disk, in bytes, and how far the database is behind its WAL.

    `free_bytes` is what a program without privileges may still use of the journal's file system.
    `wal_pages` counts the pages that are committed and not yet copied into the database.
    While fewer than `reserve_bytes` are free nothing new is taken.
    """

    database_bytes: int
    wal_bytes: int
    free_bytes: int
    wal_pages: int
    reserve_bytes: int


class Appended(msgspec.Struct, frozen=True, gc=False):
    """What an append did: `new` and `notes_new` are aligned with what was given.

    `stored` maps the index of every record that was not new to what the journal holds instead.
    `head` is the position of the last record in the journal after the append, `before` the one
    right before it: between the two stand this append's own new records and nothing else.
    """

    new: tuple[bool, ...]
    stored: dict[int, StoredRecord]
    notes_new: tuple[bool, ...]
    head: Position
    before: Position


class JournalError(Exception):
    """Raised when the journal did not do what was asked; catch a subclass to know what to do."""


class JournalFull(JournalError):
    """Raised when there is no space: nothing of the append is stored, a later one may work."""


class JournalBusy(JournalError):
    """Raised when a foreign lock outlasted the wait: nothing is stored, a later one may work."""


class JournalUnreachable(JournalError):
    """Raised when the store cannot be asked or written now; a later call may work.

    Of an append any record may be stored or not, so sending them again is right.
    """


class JournalFailed(JournalError):
    """Raised when the outcome is unknown: the journal takes no more, the process must end.

    The records may or may not be there after the next start, so sending them again is right
    and treating them as absent is wrong.
    """


def as_failure(error: Exception) -> JournalFailed:
    """Make a failure of whatever came out of a journal: its outcome is unknown as well."""
    if isinstance(error, JournalFailed):
        return error
    failure = JournalFailed(f"the journal has failed: {error!r}")
    failure.__cause__ = error
    return failure


class JournalBehind(JournalFailed):
    """Raised when a shared store holds less than was seen of it before, or is another one.

    A failover, a restored backup or an emptied server: what was answered may be gone, so nothing
    more may be served.
    """


class JournalRefused(JournalError):
    """Raised when a journal cannot be opened; the text is one line for whoever started it."""


class JournalHeld(JournalRefused):
    """Raised when a journal cannot be opened because another process has it; the text names it."""


PASSING = (JournalFull, JournalBusy, JournalUnreachable)
"""What a journal gets over: a call fails with it, and a later one may work."""


class LedgersDamaged(JournalError):
    """Raised when the ledgers as a whole cannot be read; the records are not concerned.

    Drop the ledgers and apply every record again.
    """


class Journal(Protocol):
    """The store of records; synchronous, so that a plain thread can drive it.

    `append`, `remove_note`, `keep_ledgers`, `end_round`, `drop_ledgers`, `prune`, `maintain` and
    `close` belong to the writing thread, the others to the reading thread. The two threads may be
    the same one.

    Every read takes a limit and is over when it returns: nothing stays open that would keep the
    WAL from beginning anew. Who needs more reads slice by slice, for at most a second at a time,
    and goes on behind the last number, position or name it has seen.
    What these methods raise beside their own errors: `JournalFailed`, also for damage.
    """

    durability: str

    @property
    def maintenance_due(self) -> bool:
        """Say whether `maintain` has something to do; may be asked from any thread."""

    def append(self, records: Sequence[Record], notes: Sequence[Note] = ()) -> Appended:
        """Store what is new in one commit that is durable when this returns.

        Of several records with one key the earliest wins, also within the call.
        A note that is kept already is counted once more. Where a kind is over its limits now, its
        oldest notes, those with the lowest ids, are dropped in the same commit and counted; other
        kinds lose nothing.
        A number that was pruned is stored as new: the journal does not look, its user knows from
        the stream's ledger that it was there and must not append it again.
        Raises `JournalFull`, `JournalBusy` or `JournalFailed`.
        """

    def read(self, stream: str, first: int, last: int, *, limit: int) -> list[StoredRecord]:
        """Return records of one stream, numbers `first` to `last` inclusive, rising."""

    def follow(self, after: Position, *, limit: int) -> list[StoredRecord]:
        """Return the records committed after a position, in commit order.

        Positions rise; where records were pruned some are missing.
        """

    def read_notes(
        self, kind: str, *, stream: str | None, limit: int, before: NoteId | None = None
    ) -> list[StoredNote]:
        """Return notes of one kind, highest id first, of one stream or of all.

        `before` goes on behind the note with this id, whether or not that is still there.
        """

    def note(self, note_id: NoteId) -> StoredNote | None:
        """Return one note, None when there is none or no longer any with this id."""

    def count_notes(self, kind: str) -> dict[str, int]:
        """Return how many notes of one kind each stream has; streams without any are left out."""

    def note_totals(self, kind: str) -> NoteTotals:
        """Return how many notes of one kind are kept, and how many were dropped so far."""

    def remove_note(self, note_id: NoteId) -> bool:
        """Remove a note that is settled, durably; says whether it was there. Not a drop."""

    def keep_ledgers(self, ledgers: Sequence[LedgerRecord]) -> None:
        """Keep these in place of what their streams had, in one commit; the last of a stream wins.

        Neighbours by name share a page on the disk: a thousand that follow each other in the order
        of streams take half the time and a tenth of the WAL of a thousand far from each other.
        Raises as `append` does.
        """

    def end_round(self, round: Round) -> None:
        """Store a round that is complete, durably; it and the one before it are kept, no others.

        The one before is the newest that is not damaged. Raises as `append` does.
        """

    def rounds(self) -> list[Round]:
        """Return the two newest rounds, or fewer, newest first; a damaged one is left out."""

    def ledgers(self, after: str, *, limit: int) -> list[StoredLedger]:
        """Return the ledgers of the streams behind a name, in the order of names.

        `after` is empty, or the last name of the slice before: that it is found again shows that
        nothing was skipped. A slice of 10,000 takes about 30 ms.
        Raises `LedgersDamaged` where their names cannot be read, are out of order or not found.
        """

    def drop_ledgers(self) -> None:
        """Remove all ledgers and rounds, in one commit. Raises as `append` does."""

    def prune(self, prunings: Sequence[Pruned], *, limit: int) -> int:
        """Remove at most `limit` records, numbers up to `through` of each stream, lowest first.

        Returns how many, fewer than `limit` when no more can go. It is one commit, which also
        remembers each pruning of which a record is removed, unless a higher number of its stream
        is remembered already; what `limit` leaves of it goes the next time.
        A hundred take 2 ms, and appends wait as long.
        The other records keep their positions, and no position is used again: therefore the last
        record of the journal is never removed, nor what has a higher number in its stream, until
        another record follows.
        Raises as `append` does.
        """

    def pruned(self, after: str, *, limit: int) -> list[Pruned]:
        """Return what was pruned of the streams behind a name, in the order of names."""

    def pruned_of(self, stream: str) -> Pruned | None:
        """Return what was pruned of one stream, None where nothing was."""

    def head(self) -> Position:
        """Return the position of the last record, 0 when there is none."""

    def statistics(self) -> JournalStatistics:
        """Return the figures of this moment; all zero where there is no file.

        Raises plain `JournalError` where the file system does not say; that fails nothing.
        """

    def prepare_maintenance(self) -> None:
        """Do the long part of the housekeeping that is due, beside the commits."""

    def maintain(self) -> None:
        """Do the housekeeping that is due; called between commits, when nobody waits for one."""

    def close(self) -> None:
        """Release everything; later appends raise `JournalError`. Closing twice is fine."""


@runtime_checkable
class SharedJournal(Journal, Protocol):
    """A store of records that several instances of the service have in common.

    `head` asks the store each time. `append`, `head`, `follow` and `wait_behind` raise
    `JournalBehind` as soon as they see it, and whatever asks the store `JournalUnreachable`.
    `wait_behind` belongs to a third thread, the following one; `claim_round` and `release_round`
    to the writing one.

    Of all instances one at a time keeps ledgers and ends a round: it claims that, asks for the
    head, applies everything up to there, keeps its changed ledgers and ends the round that began
    there. So every ledger that is kept holds at least what the newest round says.
    """

    def wait_behind(self, position: Position, timeout_s: float) -> bool:
        """Wait until there is a record behind a position; says whether there is.

        At most so long, and perhaps not as long.
        """

    def interrupt(self) -> None:
        """Make a running `wait_behind`, or else the next, return within 0.5 s; from any thread."""

    def hurry(self) -> None:
        """Look no longer for a store that is gone, since the process stops; from any thread.

        Calls, also those under way, then end within 2 s where the store does not answer.
        """

    def claim_round(self) -> bool:
        """Claim the right to keep ledgers and to end a round; False where another instance has it.

        It is held until `end_round`, `release_round` or the end of the connection. In that last
        case keeping and ending raise `JournalUnreachable` until it is released or claimed anew.
        """

    def release_round(self) -> None:
        """Give the claim up, if there is one."""
