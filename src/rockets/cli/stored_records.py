"""Reads the records of a database beside a server that works on it, and never changes it.

A read lasts a second at most and then lets go, so that the server's log can begin anew; the next
one goes on behind the last record. All of them together give what was stored when the first began.
Every record is held against its checksum.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any, Self

import apsw

from rockets.domain.messages import MESSAGE_NUMBER_MAX
from rockets.journal import JournalRefused, Position, Pruned, StoredRecord, sqlite_pruned
from rockets.journal.checksum import checksum
from rockets.journal.sqlite import SELECT
from rockets.journal.sqlite_file import APPLICATION_ID, BUSY_TIMEOUT_MS, SCHEMA_VERSION

# A few milliseconds of reading, as long as the disk keeps up.
PAGE_RECORDS = 1_000
# Of long bodies a page has fewer, or it would be large in memory.
PAGE_BYTES = 4 << 20
# Looked at after every record: with this much room a read is over within a second even where one
# record takes long to come.
READ_S = 0.5

ROUNDS_SINCE = 3
"""The first version of the schema whose rounds count their ledgers, and that has bases."""

Page = list[StoredRecord]


class RecordsDamaged(Exception):
    """The database does not hold what was stored; the message names the place in one line.

    `stream` is whose record it was, where records are read stream by stream and that is known.
    """

    stream: str | None = None


class StoredRecords:
    """The records of one database; use it in `with`, which closes the file."""

    def __init__(
        self, path: Path, *, unchanging: bool = False, clock: Callable[[], float] = monotonic
    ) -> None:
        """Open the file for reading; JournalRefused says in one line why that is impossible.

        Of a file that nobody writes to, and that is `unchanging`, no log is made beside it.
        """
        self._path = path
        self._clock = clock
        try:
            self.connection = _open(path, unchanging)
            self.head = _head(self.connection)
            self._version: Any = self.connection.pragma("user_version")
        except (JournalRefused, OSError, apsw.Error) as error:
            raise JournalRefused(f"{path}: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.connection.close()

    def has(self, stream: str) -> bool:
        """Say whether any record of this stream is stored."""
        page, _ = self._read("in the index", f"{SELECT} WHERE stream = ? LIMIT 1", (stream,))
        return bool(page)

    def base(self, stream: str) -> Pruned | None:
        """Give what stands now for the pruned messages of a stream; JournalFailed by damage."""
        return sqlite_pruned.one(self.connection, stream) if self._version >= ROUNDS_SINCE else None

    def pruned(self, streams: Sequence[str] = ()) -> Iterator[Pruned]:
        """Give what was pruned of these streams or of all, in the order of streams."""
        if self._version < ROUNDS_SINCE:
            return
        after = ""
        try:
            for stream in sorted(set(streams)):
                found = self.base(stream)
                yield from () if found is None else (found,)
            while not streams and (
                page := sqlite_pruned.read(self.connection, after, PAGE_RECORDS)
            ):
                yield from page
                after = page[-1].stream
        except apsw.BusyError as error:
            raise JournalRefused(f"{self._path}: another program holds it: {error}") from error
        except Exception as error:
            # As of a record: damage may show itself as anything.
            raise RecordsDamaged(f"{self._path}: {error}") from error

    def by_position(self, streams: Sequence[str] = ()) -> Iterator[Page]:
        """Give the records in commit order, of these streams or of all, page by page.

        RecordsDamaged comes after the records before the damage.
        """
        # With the plus the index is not used: all reads together walk over the table once.
        wanted = "AND +stream IN (SELECT value FROM json_each(?)) " if streams else ""
        sql = f"{SELECT} WHERE position > ? AND position <= ? {wanted}ORDER BY position"
        names = (json.dumps(streams),) if streams else ()
        after = 0
        while after < self.head:
            last = min(after + PAGE_RECORDS, self.head)
            page, whole = self._read(f"behind record {after}", sql, (after, last, *names))
            after = last if whole else page[-1].position
            yield page

    def by_stream(self, streams: Sequence[str] = ()) -> Iterator[Page]:
        """Give the records stream by stream in number order, of these streams or of all.

        RecordsDamaged comes after the records before the damage.
        """
        if not streams:
            yield from self._walk("(stream, number) > (?, ?)", ("", 0), (), self.head)
        for stream in sorted(set(streams)):
            yield from self._walk("stream = ? AND number > ?", (stream, 0), (), self.head)

    def between(self, after: str, through: str, head: Position) -> Iterator[Page]:
        """Give the records of the streams behind a name and up to another, as `by_stream` does.

        They are those that were stored when `head` was the last position.
        """
        where = "(stream, number) > (?, ?) AND stream <= ?"
        begin = (after, MESSAGE_NUMBER_MAX) if after else ("", 0)
        yield from self._walk(where, begin, (through,), head)

    def _walk(
        self, where: str, after: tuple[str, int], more: tuple[str, ...], head: Position
    ) -> Iterator[Page]:
        sql = f"{SELECT} WHERE {where} AND position <= ? ORDER BY stream, number LIMIT ?"
        while True:
            place = f"behind number {after[1]} of {after[0]}" if after[1] else "at the begin"
            try:
                page, whole = self._read(place, sql, (*after, *more, head, PAGE_RECORDS))
            except RecordsDamaged as damage:
                damage.stream = self._stream_behind(after)
                raise
            if not page:
                return
            yield page
            if whole and len(page) < PAGE_RECORDS:
                return
            after = page[-1].stream, page[-1].number

    def _stream_behind(self, after: tuple[str, int]) -> str | None:
        """Say by the index alone whose record comes behind another one; None where it is damaged.

        The name in the record itself may be what is damaged.
        """
        sql = (
            "SELECT stream FROM records WHERE (stream, number) > (?, ?)"
            " ORDER BY stream, number LIMIT 1"
        )
        with suppress(apsw.CorruptError, UnicodeDecodeError):
            row: Any = self.connection.execute(sql, after).fetchone()
            if row is not None and isinstance(row[0], str):
                return row[0]
        return None

    def _read(self, place: str, sql: str, values: tuple[str | int, ...]) -> tuple[Page, bool]:
        """Read until there is no more, or enough; says whether there was no more."""
        page: Page = []
        size = 0
        deadline = self._clock() + READ_S
        try:
            with closing(self.connection.execute(sql, values)) as rows:
                for row in rows:
                    page.append(_verified(*row))
                    size += len(page[-1].body)
                    if size >= PAGE_BYTES or self._clock() >= deadline:
                        return page, False
        except apsw.BusyError as error:
            raise JournalRefused(f"{self._path}: another program holds it: {error}") from error
        except RecordsDamaged as damage:
            if not page:
                raise RecordsDamaged(f"{self._path}: {damage}") from damage
            return page, False
        # SQLite says what is wrong with a page, and what it takes for a row may hold anything.
        except Exception as error:
            if not page:
                raise RecordsDamaged(f"{self._path}: {place}: {error}") from error
            return page, False
        return page, True


def _verified(*row: Any) -> StoredRecord:
    position, stream, number, body, received_at, mark = row
    if checksum(stream, number, body) != mark:
        raise RecordsDamaged(f"record {position} of {stream} does not match its checksum")
    return StoredRecord(Position(position), stream, number, body, received_at)


def _open(path: Path, unchanging: bool) -> apsw.Connection:
    if not path.is_file():
        raise JournalRefused("there is no such file")
    name = path.absolute().as_uri() + ("?immutable=1" if unchanging else "")
    flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    connection = apsw.Connection(name, flags=flags)
    try:
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        for name, value in (("trusted_schema", 0), ("cell_size_check", 1), ("mmap_size", 0)):
            connection.pragma(name, value)
        _refuse_foreign(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _head(connection: apsw.Connection) -> Position:
    try:
        return Position(connection.execute("SELECT ifnull(max(position), 0) FROM records").get)
    except apsw.CorruptError:
        return Position(2**63 - 1)  # what is before the damage is read all the same


def _refuse_foreign(connection: apsw.Connection) -> None:
    if connection.pragma("application_id") != APPLICATION_ID:
        raise JournalRefused("is not a database of Rockets")
    version: Any = connection.pragma("user_version")
    # Every version so far has the same records.
    if not 1 <= version <= SCHEMA_VERSION:
        raise JournalRefused(
            f"has schema version {version}, this release works with version {SCHEMA_VERSION}"
        )
