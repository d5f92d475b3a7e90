"""The contract every journal keeps: values, errors and the `Journal` protocol.

A journal is a table of records keyed by (stream, number), in the order of their commits.
It holds bytes and never looks into them: it knows nothing of rockets, actors or HTTP.
The invariant: of all records ever given for one key exactly the first stays, unchanged, for ever.
"""

from collections.abc import Sequence
from typing import NewType, Protocol

import msgspec

Position = NewType("Position", int)
"""Where a record stands in commit order: 1 for the first, 0 means "before all"."""


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
    """A remark beside the records, kept once per (kind, stream, number, key).

    Notes have no position and are not followed; `noted_at` is in microseconds since the epoch.
    """

    kind: str
    stream: str
    number: int
    key: bytes
    body: bytes
    noted_at: int


class Appended(msgspec.Struct, frozen=True, gc=False):
    """What an append did: `new` and `notes_new` are aligned with what was given.

    `stored` maps the index of every record that was not new to what the journal holds instead.
    `head` is the position of the last record in the journal after the append.
    """

    new: tuple[bool, ...]
    stored: dict[int, StoredRecord]
    notes_new: tuple[bool, ...]
    head: Position


class JournalError(Exception):
    """Raised when the journal did not do what was asked; catch a subclass to know what to do."""


class JournalFull(JournalError):
    """Raised when there is no space: nothing of the append is stored, a later one may work."""


class JournalBusy(JournalError):
    """Raised when a foreign lock outlasted the wait: nothing is stored, a later one may work."""


class JournalFailed(JournalError):
    """Raised when the outcome is unknown: the journal takes no more, the process must end.

    The records may or may not be there after the next start, so sending them again is right
    and treating them as absent is wrong.
    """


class JournalRefused(JournalError):
    """Raised when a journal cannot be opened; the text is one line for whoever started it."""


class Journal(Protocol):
    """The store of records; synchronous, so that a plain thread can drive it.

    `append`, `maintain` and `close` belong to the writing thread, the others to the reading thread.
    The two threads may be the same one.
    """

    durability: str

    def append(self, records: Sequence[Record], notes: Sequence[Note] = ()) -> Appended:
        """Store what is new in one commit that is durable when this returns.

        Of several records with one key the earliest wins, also within the call.
        Raises `JournalFull`, `JournalBusy` or `JournalFailed`.
        """

    def read(self, stream: str, first: int, last: int, *, limit: int) -> list[StoredRecord]:
        """Return records of one stream, numbers `first` to `last` inclusive, rising."""

    def follow(self, after: Position, *, limit: int) -> list[StoredRecord]:
        """Return the records committed after a position, in commit order."""

    def read_notes(self, kind: str, *, stream: str | None, limit: int) -> list[Note]:
        """Return notes of one kind, newest first, of one stream or of all."""

    def count_notes(self, kind: str) -> dict[str, int]:
        """Return how many notes of one kind each stream has; streams without any are left out."""

    def head(self) -> Position:
        """Return the position of the last record, 0 when there is none."""

    def maintain(self) -> None:
        """Do housekeeping that is due; called between commits, when nobody waits for one."""

    def close(self) -> None:
        """Release everything; later appends raise `JournalError`. Closing twice is fine."""
