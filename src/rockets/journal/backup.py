"""Copies a live journal into a new file, by SQLite's backup API, from any process.

It works on one snapshot, which it holds from the first step to the last: SQLite begins a copy anew
whenever somebody else has written between two steps, so on a busy journal a copy in short reads
would never end. The price is that the WAL of the journal cannot begin anew meanwhile and grows by
what is appended.

The invariant: a file of the target's name is a whole, verified journal, or one that was there
before. What is copied grows beside it, under a name of its own, and is removed if it does not
become the target; only a kill leaves it.
"""

import os
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import mkstemp
from urllib.parse import quote

import apsw
import msgspec

from .base import JournalError, Position
from .sqlite_file import APPLICATION_ID, BUSY_TIMEOUT_MS, last_position, sync_directory

PAGES_PER_STEP = 2_500
"""10 MiB, some 10 ms: short enough to be interrupted between two steps."""

INSTRUCTIONS_PER_LOOK = 100_000
"""So many of SQLite's instructions take about a millisecond."""


SIDE_FILES = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside a database; what one that is gone has left would be taken for the
copy's own."""


class BackupFailed(JournalError):
    """Raised when there is no backup, and no part of one; the text is one line for the caller."""


class BackupProgress(msgspec.Struct, frozen=True, gc=False):
    """How many pages of the snapshot are copied, and how many it has."""

    copied: int
    total: int


def backup(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    pages: int = PAGES_PER_STEP,
) -> Generator[BackupProgress, None, None]:
    """Copy the journal `source` into the new file `target`, `pages` at a step.

    It begins when the first progress is asked for and holds what was committed until then; it is
    there when the iterator has ended. After the last step the copy is synced, named and read once
    in full, which takes as long again. To pause, wait between two steps: meanwhile the WAL of the
    source grows, and the source cannot be opened by a service that starts.
    Ended early, by `close` or an exception, it leaves nothing behind.
    Raises `BackupFailed`: the target or one of its `SIDE_FILES` exists, the source is no journal,
    the disk is full, the copy does not hold what the source does.
    """
    assert pages > 0, "a step copies something"
    source, target = Path(source).absolute(), Path(target).absolute()
    with _failing(source, target), ExitStack() as opened:
        original = _open_original(source, opened)
        head = last_position(original)
        part = _make_part(target, opened)
        yield from _copy(original, part, pages)
        _sync(part)
        _verify(part, head)
        # Unlike a rename it replaces nothing that has come meanwhile.
        os.link(part, target)
        sync_directory(target.parent)


@contextmanager
def _failing(source: Path, target: Path) -> Iterator[None]:
    try:
        for ending in ("", *SIDE_FILES):
            if os.path.lexists(f"{target}{ending}"):
                raise BackupFailed(f"{target}{ending} exists already")
        yield
    except FileExistsError as error:
        raise BackupFailed(f"{target} exists already") from error
    except (BackupFailed, OSError, apsw.Error) as error:
        raise BackupFailed(f"no backup of {source} as {target}: {error}") from error


def _open_original(source: Path, opened: ExitStack) -> apsw.Connection:
    """Open the journal and its snapshot, or refuse what is none."""
    connection = apsw.Connection(str(source), flags=apsw.SQLITE_OPEN_READWRITE)
    opened.callback(connection.close)
    connection.set_busy_timeout(BUSY_TIMEOUT_MS)
    connection.pragma("query_only", 1)
    # The last one to close a journal would copy its WAL, and here nobody would see an error.
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    connection.execute("BEGIN")
    _refuse_others(connection)
    return connection


def _make_part(target: Path, opened: ExitStack) -> Path:
    """Create an empty file beside the target, readable by its owner only, until `opened` ends."""
    handle, name = mkstemp(dir=target.parent, prefix=f"{target.name}.", suffix=".part")
    os.close(handle)
    opened.callback(os.unlink, name)
    return Path(name)


def _copy(original: apsw.Connection, part: Path, pages: int) -> Iterator[BackupProgress]:
    with ExitStack() as opened:
        copy = apsw.Connection(str(part), flags=apsw.SQLITE_OPEN_READWRITE)
        opened.callback(copy.close)
        # Nobody needs half a copy, so nothing has to be safe before the whole is.
        copy.pragma("journal_mode", "off")
        copy.pragma("synchronous", 0)
        with copy.backup("main", original, "main") as steps:
            while not steps.done:
                steps.step(pages)
                yield BackupProgress(steps.page_count - steps.remaining, steps.page_count)


def _sync(path: Path) -> None:
    """Sync the copy, whose connections are closed: here are no locks that this could drop."""
    handle = os.open(path, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _verify(part: Path, head: Position) -> None:
    """Read the whole copy once: its pages are in order and it ends where the snapshot does."""
    flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    with ExitStack() as opened:
        # Immutable, so that no WAL appears beside it.
        copy = apsw.Connection(f"file:{quote(str(part))}?immutable=1", flags=flags)
        opened.callback(copy.close)
        # Python comes to look for signals, and Ctrl-C ends what would take minutes.
        copy.set_progress_handler(lambda: False, INSTRUCTIONS_PER_LOOK)
        _refuse_others(copy)
        found = copy.execute("PRAGMA quick_check(1)").get
        if found != "ok":
            raise BackupFailed(f"the copy is damaged: {found}")
        if last_position(copy) != head:
            raise BackupFailed(
                f"the copy ends at position {last_position(copy)}, the source at {head}"
            )


def _refuse_others(connection: apsw.Connection) -> None:
    if connection.pragma("application_id") != APPLICATION_ID:
        raise BackupFailed("it is not a journal")
