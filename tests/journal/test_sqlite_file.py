"""Journals of earlier releases: they open, keep everything and get the tables they lack."""

from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import apsw
import pytest

from rockets.journal import (
    JournalFailed,
    JournalRefused,
    LedgerRecord,
    Position,
    Pruned,
    Record,
    Round,
    SqliteJournal,
    StoredLedger,
)
from rockets.journal.checksum import checksum
from tests.journal.disks import FaultyVfs, foreign
from tests.journal.prunings import BASE

# The text by which the first release made its file, unchanged.
SCHEMA_1 = """
CREATE TABLE records (
    position INTEGER PRIMARY KEY,
    stream TEXT NOT NULL,
    number INTEGER NOT NULL,
    body BLOB NOT NULL,
    received_at INTEGER NOT NULL,
    checksum BLOB NOT NULL,
    UNIQUE (stream, number)
) STRICT;
CREATE TABLE notes (
    -- AUTOINCREMENT, because notes are removed and an id must never name another one.
    note INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    stream TEXT NOT NULL,
    number INTEGER NOT NULL,
    key BLOB NOT NULL,
    body BLOB NOT NULL,
    noted_at INTEGER NOT NULL,
    count INTEGER NOT NULL DEFAULT 1,
    last_at INTEGER NOT NULL,
    checksum BLOB NOT NULL,
    UNIQUE (kind, stream, number, key)
) STRICT;
-- Each ends with the id, so a page is read in order whatever it filters by.
CREATE INDEX notes_by_kind ON notes (kind);
CREATE INDEX notes_by_stream ON notes (kind, stream);
CREATE TABLE note_kinds (
    kind TEXT PRIMARY KEY,
    kept INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    dropped INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TRIGGER note_comes AFTER INSERT ON notes BEGIN
    INSERT INTO note_kinds VALUES (new.kind, 1, length(new.body), 0)
    ON CONFLICT DO UPDATE SET kept = kept + 1, bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER note_goes AFTER DELETE ON notes BEGIN
    UPDATE note_kinds SET kept = kept - 1, bytes = bytes - length(old.body) WHERE kind = old.kind;
END;
PRAGMA application_id = 1380926283;
PRAGMA user_version = 1;
"""

NEWER = {"ledgers", "rounds", "pruned"}

SCHEMA_2 = """
CREATE TABLE ledgers (
    stream TEXT PRIMARY KEY,
    data BLOB NOT NULL,
    checksum INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE rounds (
    newer INTEGER PRIMARY KEY,
    began INTEGER NOT NULL,
    rules TEXT NOT NULL,
    checksum BLOB NOT NULL
) STRICT;
CREATE TABLE pruned (
    stream TEXT PRIMARY KEY,
    through INTEGER NOT NULL,
    checksum BLOB NOT NULL
) STRICT, WITHOUT ROWID;
PRAGMA user_version = 2;
"""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A journal of the first release with two records."""
    path = tmp_path / "journal.db"
    with foreign(path) as connection:
        connection.execute("PRAGMA journal_mode = wal").fetchall()
        connection.execute(f"BEGIN IMMEDIATE; {SCHEMA_1} COMMIT")
        rows = [("a", number, b"{}", 7, checksum("a", number, b"{}")) for number in (1, 2)]
        connection.executemany(
            "INSERT INTO records (stream, number, body, received_at, checksum)"
            " VALUES (?, ?, ?, ?, ?)",
            rows,
        )
    return path


def schema(path: Path) -> tuple[int, dict[str, str]]:
    """The version, and the statement that made each thing."""
    with foreign(path) as connection:
        version = connection.pragma("user_version")
        rows: Any = connection.execute("SELECT name, sql FROM sqlite_schema").fetchall()
    assert isinstance(version, int)
    return version, dict(rows)


def test_a_journal_of_the_first_release_opens_with_everything_and_the_new_tables(
    old: Path,
) -> None:
    with closing(SqliteJournal(old)) as journal:
        assert journal.append([Record("a", 2, b"{}", 7), Record("a", 3, b"{}", 7)]).head == 3
        journal.keep_ledgers([LedgerRecord("a", b"ledger")])
        journal.end_round(Round(Position(3), "1", 0))
        assert journal.prune([Pruned("a", 1, BASE)], limit=9) == 1

    with closing(SqliteJournal(old)) as journal:
        assert [found.number for found in journal.follow(Position(0), limit=9)] == [2, 3]
        assert journal.ledgers("", limit=9) == [StoredLedger("a", b"ledger")]
        assert journal.rounds() == [Round(Position(3), "1", 0)]
        assert journal.pruned("", limit=9) == [Pruned("a", 1, BASE)]


@pytest.mark.parametrize("since", ["", SCHEMA_2])
def test_a_migrated_journal_is_as_a_new_one(old: Path, tmp_path: Path, since: str) -> None:
    new = tmp_path / "new.db"
    with foreign(old) as connection:
        connection.execute(since)

    for path in (old, new):
        SqliteJournal(path).close()

    assert schema(old) == schema(new)
    assert schema(old)[0] == 3


def test_a_round_that_does_not_say_how_many_ledgers_there_are_is_forgotten(old: Path) -> None:
    with foreign(old) as connection:
        connection.execute(SCHEMA_2)
        mark = checksum("", 2, b"1")
        connection.execute("INSERT INTO rounds VALUES (0, 2, '1', ?)", (mark,))
        connection.execute("INSERT INTO ledgers VALUES ('a', x'00', 0)")

    with closing(SqliteJournal(old)) as journal:
        assert journal.rounds() == []
        assert journal.head() == 2


@pytest.mark.parametrize("version", [0, 4])
def test_a_version_that_is_not_known_is_refused_and_left_as_it_was(old: Path, version: int) -> None:
    with foreign(old) as connection:
        connection.pragma("user_version", version)
    before = schema(old)

    with pytest.raises(
        JournalRefused, match=f"schema version {version}, this release works with version 3$"
    ):
        SqliteJournal(old)

    assert schema(old) == before


def test_a_migration_on_a_full_disk_is_refused_and_leaves_the_old_schema(old: Path) -> None:
    vfs = FaultyVfs()
    vfs.write_is_full = ".db-wal"
    before = schema(old)

    with pytest.raises(JournalRefused, match="planted ENOSPC"):
        SqliteJournal(old, vfs=vfs.name)

    assert schema(old) == before
    with closing(SqliteJournal(old)) as journal:
        assert journal.head() == 2


class DyingVfs(FaultyVfs):
    """Takes so many writes to the WAL, then none: the process has died there."""

    def __init__(self, writes: int) -> None:
        super().__init__()
        self.writes = writes

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        return DyingFile(self, name, flags)


class DyingFile(apsw.VFSFile):
    def __init__(
        self, vfs: DyingVfs, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> None:
        super().__init__("", name, flags)
        self._vfs = vfs

    def xWrite(self, data: bytes, offset: int) -> None:
        if self._vfs.writes == 0:
            raise apsw.IOError("planted death")
        self._vfs.writes -= 1
        super().xWrite(data, offset)


@pytest.mark.slow
def test_wherever_a_migration_is_cut_the_schema_is_the_old_or_the_new(old: Path) -> None:
    whole = old.read_bytes()
    outcomes = []
    for writes in count():
        old.write_bytes(whole)
        Path(f"{old}-wal").unlink(missing_ok=True)
        Path(f"{old}-shm").unlink(missing_ok=True)
        vfs = DyingVfs(writes)
        try:
            opened = SqliteJournal(old, vfs=vfs.name)
        except JournalRefused:
            version, things = schema(old)
            assert (version, NEWER & set(things)) in [(1, set()), (3, NEWER)]
            outcomes.append(version)
        else:
            opened._failure = JournalFailed("no checkpoint")
            opened.close()
            break

    # It was cut before the commit and behind it, in the checkpoint.
    assert outcomes == sorted(outcomes)
    assert set(outcomes) == {1, 3}
    with closing(SqliteJournal(old)) as journal:
        assert journal.head() == 2
