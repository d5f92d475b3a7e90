"""Reads the records of a journal on a server beside the instances that share it.

It goes by the contract of journals alone, page by page, and gives what was stored when it began.
It connects as an instance does, so it must be of their release; its checks are those of `normal`,
since it stores nothing.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from random import random
from types import TracebackType
from typing import Self

from rockets.cli.stored_records import Page, RecordsDamaged
from rockets.domain.messages import MESSAGE_NUMBER_MAX
from rockets.journal import (
    JournalFailed,
    JournalRefused,
    JournalUnreachable,
    Position,
    Pruned,
    SharedJournal,
    open_postgresql,
    open_redis,
)
from rockets.settings import Settings

# With the longest messages 16 MiB.
PAGE_RECORDS = 250


class SharedRecords:
    """The records of one store; use it in `with`, which closes the connections.

    What it gives and raises is as of `StoredRecords`. Of a page with damage nothing is given.
    """

    def __init__(self, settings: Settings) -> None:
        """Connect; JournalRefused says in one line why that is impossible."""
        self._journal = _open(settings)
        try:
            with _refusals():
                self.head = self._journal.head()
        except BaseException:
            self._journal.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._journal.close()

    def has(self, stream: str) -> bool:
        """Say whether any record of this stream is stored."""
        with _refusals():
            return bool(self._journal.read(stream, 1, MESSAGE_NUMBER_MAX, limit=1))

    def pruned(self, streams: Sequence[str] = ()) -> Iterator[Pruned]:
        """Give what was pruned of these streams or of all, in the order of streams."""
        for stream in sorted(set(streams)):
            with _refusals():
                found = self._journal.pruned_of(stream)
            yield from () if found is None else (found,)
        after, more = "", not streams
        while more:
            with _refusals():
                page = self._journal.pruned(after, limit=PAGE_RECORDS)
            yield from page
            after, more = page[-1].stream if page else "", bool(page)

    def by_position(self, streams: Sequence[str] = ()) -> Iterator[Page]:
        """Give the records in commit order, of these streams or of all, page by page."""
        wanted = frozenset(streams)
        after = Position(0)
        while after < self.head:
            with _refusals():
                page = self._journal.follow(after, limit=PAGE_RECORDS)
            if not page:  # pruned since
                return
            after = page[-1].position
            yield [
                record
                for record in page
                if record.position <= self.head and (not wanted or record.stream in wanted)
            ]

    def by_stream(self, streams: Sequence[str] = ()) -> Iterator[Page]:
        """Give the records stream by stream in number order, of these streams or of all.

        Which streams there are only the records themselves tell: for all they are read twice.
        """
        names = set(streams) or {each.stream for page in self.by_position() for each in page}
        for stream in sorted(names):
            first = 1
            while first:
                with _refusals():
                    page = self._journal.read(stream, first, MESSAGE_NUMBER_MAX, limit=PAGE_RECORDS)
                yield [record for record in page if record.position <= self.head]
                first = page[-1].number + 1 if len(page) == PAGE_RECORDS else 0


def _open(settings: Settings) -> SharedJournal:
    if settings.journal_kind == "redis":
        return open_redis(settings.journal, durability="normal")
    return open_postgresql(settings.journal, durability="normal", jitter=random)


@contextmanager
def _refusals() -> Iterator[None]:
    """Say what a journal says in the words of a command."""
    try:
        yield
    except JournalUnreachable as error:
        raise JournalRefused(str(error)) from error
    except JournalFailed as error:
        raise RecordsDamaged(str(error)) from error
