"""Reads of many spans of numbers: one after the other, or at once where each would be a trip.

A journal in this process is asked span by span. One on a server brings a `read_each` of its own:
a batch of a thousand rockets that is sent again would otherwise be a thousand round trips.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from .base import Journal, StoredRecord

Span = tuple[str, int, int]
"""A stream, and the first and last number, which is not less."""


@runtime_checkable
class ReadsSpans(Protocol):
    """A journal that reads many spans at once."""

    def read_each(self, spans: Sequence[Span]) -> list[StoredRecord]:
        """Return the records of the spans in the order of these, numbers rising; see `read`.

        A span that is given twice is read twice. It belongs to the reading thread.
        """


def read_each(journal: Journal, spans: Sequence[Span]) -> list[StoredRecord]:
    """Read spans of numbers of several streams; they are short and few enough for one answer."""
    if isinstance(journal, ReadsSpans):
        return journal.read_each(spans)
    found: list[StoredRecord] = []
    for stream, first, last in spans:
        found += journal.read(stream, first, last, limit=last - first + 1)
    return found
