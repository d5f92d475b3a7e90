"""The journal in one SQLite file that several processes of one machine share.

Somebody holds the file for them (`hold_file`): it is locked against everybody else, in order, and
synced before the first of them joins.

They take turns: each commit is made under a lock on a side file, `<database>.turn`. SQLite's own
lock is not a queue, and of two processes one would starve (16,360 commits against 1 in 4 s).
A process that is stopped in its turn holds the others up until it goes on; one that ends gives its
turn back. One at a time keeps ledgers, under a lock on `<database>.round`.

Nobody sees a row before it is synced: SQLite puts the end of the WAL forward, for other connections
to see, only after it has synced what it has written there. And a process that finds the index of
the WAL broken, because another was killed while it wrote that, reads what was synced before.

Inheritance, against the rule: all but the turns is `SqliteJournal`, and twenty methods that only
pass a call on would say less.
"""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any, Literal

from .base import (
    NOTE_LIMITS,
    Appended,
    JournalBehind,
    Note,
    NoteLimits,
    Position,
    Record,
    Round,
    StoredRecord,
)
from .space import RESERVE_BYTES
from .sqlite import SqliteJournal
from .sqlite_file import BUSY_TIMEOUT_MS, connect_reader, join_file, last_position

LOOK_S = 0.005
"""Between two looks for other instances' commits; a look takes 5 µs."""


class SharedSqliteJournal(SqliteJournal):
    """One instance's side of the file; keeps the contract of `SharedJournal`."""

    _open_file = staticmethod(join_file)
    # Others read and write, so the WAL cannot be emptied here.
    _last_checkpoint = "PASSIVE"

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durability: Literal["full", "normal"] = "full",
        busy_timeout_ms: int = BUSY_TIMEOUT_MS,
        note_limits: NoteLimits = NOTE_LIMITS,
        reserve_bytes: int = RESERVE_BYTES,
    ) -> None:
        """Join the file; `JournalRefused` where nobody holds it. The rest is as in the base."""
        super().__init__(
            path,
            durability=durability,
            busy_timeout_ms=busy_timeout_ms,
            note_limits=note_limits,
            reserve_bytes=reserve_bytes,
        )
        with self._opened as opened:
            self._follower = connect_reader(self._path, durability, busy_timeout_ms, None, opened)
            self._turn = _open_lock(Path(f"{self._path}.turn"))
            opened.callback(os.close, self._turn)
            self._round = _open_lock(Path(f"{self._path}.round"))
            opened.callback(os.close, self._round)
            self._opened = opened.pop_all()
        self._file = _identity(self._path)
        self._seen = Position(0)
        self._interrupted = Event()

    def append(self, records: Sequence[Record], notes: Sequence[Note] = ()) -> Appended:
        """Store what is new in one transaction."""
        seen = self._seen
        appended = super().append(records, notes)
        self._see(appended.before, at_least=seen)
        self._seen = max(self._seen, appended.head)
        return appended

    def follow(self, after: Position, *, limit: int) -> list[StoredRecord]:
        """Return the records committed after a position, in commit order."""
        records = super().follow(after, limit=limit)
        if not records:
            self.head()
        return records

    def head(self) -> Position:
        """Return the position of the last record, 0 when there is none."""
        seen = self._seen
        return self._see(super().head(), at_least=seen)

    def end_round(self, round: Round) -> None:
        """Store a round that is complete, and give the claim up."""
        super().end_round(round)
        self.release_round()

    def wait_behind(self, position: Position, timeout_s: float) -> bool:
        """Look until there is a record behind a position; says whether there is."""
        until = monotonic() + timeout_s
        version: Any = None
        while not self._interrupted.is_set():
            seen = self._seen
            with self._errors_translated():
                now = self._follower.pragma("data_version")
                head = last_position(self._follower) if now != version else None
            version = now
            if head is not None and self._see(head, at_least=seen) > position:
                return True
            rest_s = until - monotonic()
            if rest_s <= 0:
                break
            self._interrupted.wait(min(LOOK_S, rest_s))
        return False

    def interrupt(self) -> None:
        """Make a `wait_behind` that is running, and every later one, return at once."""
        self._interrupted.set()

    def hurry(self) -> None:
        """Do nothing: the file is here."""

    def claim_round(self) -> bool:
        """Claim the right to keep ledgers and to end a round; False where another has it."""
        self._refuse_failed()
        try:
            fcntl.flock(self._round, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release_round(self) -> None:
        """Give the claim up, if there is one."""
        fcntl.flock(self._round, fcntl.LOCK_UN)

    def maintain(self) -> None:
        """Copy the rest of a long WAL, in a turn of its own, so that it can begin anew."""
        if self._failure is None:
            with self._in_turn():
                super().maintain()

    def _see(self, head: Position, *, at_least: Position) -> Position:
        """Note where the file ends; `JournalBehind` where it holds less, or is another one.

        `at_least` is what any of the three threads had seen before the file was asked: what they
        see meanwhile is no measure for this answer.
        """
        if head < at_least:
            self._failure = JournalBehind(
                f"the journal ends at position {head}, position {at_least} was there before"
            )
            raise self._failure
        if _identity(self._path) != self._file:
            self._failure = JournalBehind("another file has taken the place of the journal")
            raise self._failure
        self._seen = max(self._seen, head)
        return head

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._in_turn(), super()._transaction():
            yield

    @contextmanager
    def _in_turn(self) -> Iterator[None]:
        """Wait for this instance's turn, and end it."""
        self._refuse_failed()
        fcntl.flock(self._turn, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._turn, fcntl.LOCK_UN)


def _open_lock(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)


def _identity(path: Path) -> tuple[int, int] | None:
    """Say which file has this name; None where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
