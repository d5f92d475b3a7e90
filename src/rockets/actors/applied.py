"""How far an instance has applied a journal that it shares, its own commits included.

An own commit counts as soon as everything before it is applied: then it needs no reading back.
Own commits behind something of others are remembered as ranges of positions, and left out when the
journal is read past them.

The invariant: everything up to `through` is in the ledgers, or its rocket is in doubt.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import trio

from rockets.journal.base import Appended, Position, StoredRecord

RANGES_MAX = 10_000
"""What is forgotten is only read again."""


class _Range(NamedTuple):
    """The positions of own commits in a row: behind `before`, up to `head`."""

    before: Position
    head: Position


class Applied:
    """The position up to which everything is applied; see the module."""

    def __init__(self, through: Position) -> None:
        self.through = through
        self._answered: deque[_Range] = deque()  # their actors may still have to apply them
        self._noted = self._settled = 0  # so many of these came, and went
        self._own: deque[_Range] = deque(maxlen=RANGES_MAX)

    def note_own(self, appended: Appended) -> None:
        """Note an own commit, before its actors are told."""
        if appended.before != appended.head:
            self._answered.append(_Range(appended.before, appended.head))
            self._noted += 1
            if len(self._answered) > RANGES_MAX:
                self._answered.popleft()
                self._settled += 1

    async def settle(self) -> None:
        """Let the actors of the commits noted by now apply them, and count these.

        They have been woken, so they have applied them when two turns are over.
        """
        noted = self._noted
        await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()
        while self._settled < noted:  # others may be settling too
            _add(self._own, self._answered.popleft())
            self._settled += 1
        self.move(self.through)

    def move(self, position: Position) -> None:
        """Count everything up to a position as applied, and the own commits that follow on it."""
        self.through = max(self.through, position)
        while self._own and self._own[0].before <= self.through:
            self.through = max(self.through, self._own.popleft().head)

    def missing(self, records: Iterable[StoredRecord]) -> Iterator[StoredRecord]:
        """Give those of records in the order of positions that are not applied by now."""
        own = list(self._own)[::-1]
        through = self.through
        for record in records:
            while own and own[-1].head < record.position:
                own.pop()
            if record.position > through and not (own and own[-1].before < record.position):
                yield record


def _add(ranges: deque[_Range], new: _Range) -> None:
    """Add a range behind the others; one that goes on where the last ends makes that longer."""
    if ranges and ranges[-1].head == new.before:
        ranges[-1] = _Range(ranges[-1].before, new.head)
    else:
        ranges.append(new)
