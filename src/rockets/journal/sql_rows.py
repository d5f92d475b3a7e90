"""Rows as both SQL journals have them: what they say, and a checksum in the last column.

The tables and the statements are each journal's own; which bytes a checksum covers is one for both.
"""

from typing import Any

from .base import JournalFailed, Note, Position, Pruned, Record, StoredNote, StoredRecord
from .checksum import checksum


def record_row(record: Record) -> tuple[str, int, bytes, int, bytes]:
    """Return what is stored of a record, without the position, in the order of the columns."""
    mark = checksum(record.stream, record.number, record.body)
    return record.stream, record.number, record.body, record.received_at, mark


def verified_record(*row: Any) -> StoredRecord:
    """Return a record as it was stored; raises `JournalFailed` where it is not."""
    position, stream, number, body, received_at, mark = row
    if checksum(stream, number, body) != mark:
        raise JournalFailed(f"record {position} does not match its checksum")
    return StoredRecord(Position(position), stream, number, body, received_at)


def note_mark(note: Note | StoredNote) -> bytes:
    """Cover what was said, not how often: that changes, and nobody acts on it."""
    body = b"%d:%b:%b" % (len(note.key), note.key, note.body)
    return checksum(f"{note.kind}:{note.stream}", note.number, body)


def verified_note(*row: Any) -> StoredNote:
    """Return a note as it was stored; raises `JournalFailed` where it is not."""
    *values, mark = row
    note = StoredNote(*values)
    if note_mark(note) != mark:
        raise JournalFailed(f"a note about {note.stream} does not match its checksum")
    return note


def pruned_mark(pruned: Pruned) -> bytes:
    """Cover all of it."""
    return checksum(pruned.stream, pruned.through, pruned.base)


def verified_pruned(*row: Any) -> Pruned:
    """Return what was pruned of a stream as it was stored; raises `JournalFailed` otherwise."""
    *values, mark = row
    pruned = Pruned(*values)
    if pruned_mark(pruned) != mark:
        raise JournalFailed(f"what was pruned of {pruned.stream} does not match its checksum")
    return pruned
