"""The SQLite journal: what it refuses to open, and what it does when the disk misbehaves."""

import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Literal

import apsw
import pytest

from rockets.journal import (
    JournalBusy,
    JournalError,
    JournalFailed,
    JournalFull,
    JournalRefused,
    LedgerRecord,
    Note,
    NoteId,
    NoteLimits,
    NoteTotals,
    Position,
    Record,
    Round,
    SqliteJournal,
    sqlite,
    sqlite_file,
)
from tests.journal.disks import FaultyVfs, edit, foreign

START = Position(0)
OnDisk = Literal["full", "normal"]


def record(number: int, body: bytes = b"{}") -> Record:
    return Record("a", number, body, 7)


NOTE = Note("conflict", "a", 1, b"key", b"body", 11)


def wal_bytes(path: Path) -> int:
    """How far the WAL holds anything: with `full` it is made as long as it will get, of zeros."""
    return len(Path(f"{path}-wal").read_bytes().rstrip(b"\0"))


def numbers(journal: SqliteJournal) -> list[int]:
    return [found.number for found in journal.follow(START, limit=99_999)]


# Opening


@pytest.mark.parametrize(("durability", "synchronous"), [("full", 2), ("normal", 1)])
@pytest.mark.parametrize("name", ["_writer", "_reader"])
def test_both_connections_have_every_setting(
    path: Path, durability: OnDisk, synchronous: int, name: str
) -> None:
    with closing(SqliteJournal(path, durability=durability)) as opened:
        connection: apsw.Connection = getattr(opened, name)
        wanted = {
            "synchronous": synchronous,
            "journal_mode": "wal",
            "trusted_schema": 0,
            "cell_size_check": 1,
            "mmap_size": 0,
            "foreign_keys": 1,
            "busy_timeout": 5_000,
            "journal_size_limit": 64 << 20,
            "wal_autocheckpoint": 0,
            "query_only": int(name == "_reader"),
            "application_id": sqlite_file.APPLICATION_ID,
            "user_version": sqlite_file.SCHEMA_VERSION,
        }
        assert {pragma: connection.pragma(pragma) for pragma in wanted} == wanted


def test_a_setting_that_does_not_stick_is_refused(path: Path) -> None:
    vfs = FaultyVfs()
    vfs.stuck = "synchronous"

    with pytest.raises(
        JournalRefused, match=r"journal\.db: PRAGMA synchronous is 9, it has to be 2$"
    ):
        SqliteJournal(path, vfs=vfs.name)


def test_the_tables_are_strict(journal: SqliteJournal, path: Path) -> None:
    with foreign(path) as connection:
        tables = connection.execute("SELECT name, strict FROM pragma_table_list").fetchall()

    names = ("records", "notes", "note_kinds", "ledgers", "rounds", "pruned")
    assert {(name, 1) for name in names} <= set(tables)


def test_a_reopened_journal_has_everything(path: Path) -> None:
    with closing(SqliteJournal(path)) as first:
        first.append([record(1), record(2, b"two")], [NOTE])

    with closing(SqliteJournal(path)) as second:
        assert second.append([record(2), record(3)], [NOTE]).new == (False, True)
        assert numbers(second) == [1, 2, 3]
        [found] = second.read_notes("conflict", stream=None, limit=9)
        assert (found.key, found.body, found.count) == (NOTE.key, NOTE.body, 2)
        assert second.head() == 3


def test_what_was_dropped_is_counted_over_restarts(path: Path) -> None:
    for before in (NoteTotals(0, 0), NoteTotals(2, 1), NoteTotals(2, 4)):
        with closing(SqliteJournal(path, note_limits=NoteLimits(2))) as opened:
            assert opened.note_totals("conflict") == before
            first = before.kept + before.dropped
            opened.append([], [Note("conflict", "a", first + n, b"", b"", 1) for n in (1, 2, 3)])


def test_only_the_owner_can_read_any_of_the_files(journal: SqliteJournal, path: Path) -> None:
    journal.append([record(1)])

    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}

    suffixes = ("", "-wal", "-shm", ".lock")
    assert modes == {f"journal.db{suffix}": 0o600 for suffix in suffixes}


def test_a_file_that_others_could_read_is_made_private(path: Path) -> None:
    SqliteJournal(path).close()
    path.chmod(0o644)

    SqliteJournal(path).close()

    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_second_open_is_refused_with_the_holders_pid(journal: SqliteJournal, path: Path) -> None:
    with pytest.raises(JournalRefused, match=rf"journal\.db: held by process {os.getpid()}$"):
        SqliteJournal(path)

    assert journal.append([record(1)]).new == (True,)


def test_a_lock_without_a_pid_is_refused_as_well(journal: SqliteJournal, path: Path) -> None:
    os.truncate(f"{path}.lock", 0)

    with pytest.raises(JournalRefused, match=r"held by process unknown$"):
        SqliteJournal(path)


HOLDER = """
import sys
from rockets.journal import Record, SqliteJournal
journal = SqliteJournal(sys.argv[1])
journal.append([Record("a", 1, b"{}", 7)])
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
def test_a_killed_holder_leaves_a_journal_that_opens_with_everything_synced(path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"ready\n"
        with pytest.raises(JournalRefused, match=f"held by process {holder.pid}$"):
            SqliteJournal(path)
        holder.kill()
    assert wal_bytes(path) > 0

    with closing(SqliteJournal(path)) as opened:
        assert wal_bytes(path) == 0
        assert numbers(opened) == [1]


def test_a_newer_schema_is_refused_naming_both_versions(path: Path) -> None:
    SqliteJournal(path).close()
    edit(path, "PRAGMA user_version = 7")

    with pytest.raises(
        JournalRefused, match=r"schema version 7, this release works with version 3$"
    ):
        SqliteJournal(path)


@pytest.mark.parametrize(
    "sql", ["CREATE TABLE records (x)", "PRAGMA application_id = 5", "PRAGMA user_version = 1"]
)
def test_another_programs_database_is_refused_and_left_as_it_was(path: Path, sql: str) -> None:
    edit(path, sql)
    before = path.read_bytes()

    with pytest.raises(JournalRefused, match=r"is the database of another program$"):
        SqliteJournal(path)

    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (lambda path: path.write_bytes(b"no database at all" * 99), "file is not a database"),
        (lambda path: path.mkdir(), "unable to open"),
        (lambda path: Path(f"{path}.lock").mkdir(), "Is a directory"),
        (lambda path: path.parent.rmdir(), "No such file or directory"),
    ],
)
def test_what_cannot_be_opened_is_refused_in_one_line(
    path: Path, prepare: Callable[[Path], object], reason: str
) -> None:
    prepare(path)

    with pytest.raises(JournalRefused, match=rf"^[^\n]+: [^\n]*{re.escape(reason)}[^\n]*$"):
        SqliteJournal(path)


def test_a_refused_open_leaves_the_lock_free(path: Path) -> None:
    edit(path, "PRAGMA application_id = 5")
    with pytest.raises(JournalRefused):
        SqliteJournal(path)
    path.unlink()

    SqliteJournal(path).close()


@pytest.mark.parametrize("version", ["3.40.1", "3.51.2"])
def test_a_sqlite_that_can_corrupt_a_wal_is_refused(version: str) -> None:
    with pytest.raises(JournalRefused, match=f"SQLite {version} may corrupt"):
        sqlite_file._refuse_old_sqlite(version)


@pytest.mark.parametrize("version", ["3.51.3", "3.54.1", "4.0"])
def test_a_sqlite_with_the_repair_is_taken(version: str) -> None:
    sqlite_file._refuse_old_sqlite(version)


def test_a_wal_that_cannot_be_emptied_at_the_start_is_refused(path: Path) -> None:
    vfs = FaultyVfs()
    opened = SqliteJournal(path, vfs=vfs.name)
    opened.append([record(1)])
    abandon(opened)

    with foreign(path) as other:
        other.execute("BEGIN; SELECT * FROM records")
        with pytest.raises(JournalRefused, match="in the middle of using it"):
            SqliteJournal(path, busy_timeout_ms=0)


def abandon(opened: SqliteJournal) -> None:
    """Let go of the files without a checkpoint, as a killed process does."""
    opened._failure = JournalFailed("killed")
    opened.close()


# Damage


@pytest.mark.parametrize(
    "damage", ["body = x'7b7e'", "stream = 'b'", "number = 2", "checksum = x'0000000000000000'"]
)
@pytest.mark.parametrize("found_by", ["read", "follow", "append"])
def test_a_changed_row_is_found_and_poisons_the_journal(
    journal: SqliteJournal, path: Path, damage: str, found_by: str
) -> None:
    journal.append([record(1)])
    edit(path, f"UPDATE records SET {damage}")
    finders: dict[str, Callable[[], object]] = {
        "read": lambda: [journal.read(stream, 1, 2, limit=9) for stream in ("a", "b")],
        "follow": lambda: journal.follow(START, limit=9),
        "append": lambda: journal.append([Record(s, n, b"", 0) for s in "ab" for n in (1, 2)]),
    }

    with pytest.raises(JournalFailed, match="record 1 does not match its checksum"):
        finders[found_by]()

    with pytest.raises(JournalFailed, match="checksum"):
        journal.append([record(9)])


@pytest.mark.parametrize(
    ("damage", "kind"),
    [("body = x'00'", "conflict"), ("key = x'00'", "conflict"), ("kind = 'other'", "other")],
)
def test_a_changed_note_is_found(
    journal: SqliteJournal, path: Path, damage: str, kind: str
) -> None:
    journal.append([], [NOTE])
    edit(path, f"UPDATE notes SET {damage}")

    with pytest.raises(JournalFailed, match="a note about a does not match"):
        journal.read_notes(kind, stream=None, limit=9)
    with pytest.raises(JournalFailed, match="a note about a does not match"):
        journal.note(NoteId(1))
    with pytest.raises(JournalFailed, match="does not match"):
        journal.remove_note(NoteId(1))


# Errors of the disk


def test_a_full_disk_stores_nothing_and_the_journal_recovers(journal: SqliteJournal) -> None:
    journal.append([record(1)])
    pages = journal._writer.pragma("page_count")
    journal._writer.pragma("max_page_count", pages)

    for _ in range(3):
        with pytest.raises(JournalFull, match="no space"):
            journal.append([record(2), record(3, b"x" * 9_000)], [NOTE])
    assert numbers(journal) == [1]
    assert journal.count_notes("conflict") == {}
    assert journal.note_totals("conflict") == NoteTotals(0, 0)

    journal._writer.pragma("max_page_count", pages + 99)
    assert journal.append([record(2), record(3, b"x" * 9_000)], [NOTE]).new == (True, True)
    assert numbers(journal) == [1, 2, 3]


@pytest.mark.parametrize(("durability", "syncs"), [("full", [".db-wal"]), ("normal", [])])
def test_a_commit_is_synced_when_the_durability_is_full(
    path: Path, vfs: FaultyVfs, durability: OnDisk, syncs: list[str]
) -> None:
    with closing(SqliteJournal(path, durability=durability, vfs=vfs.name)) as opened:
        opened.append([record(1)])
        vfs.syncs.clear()

        opened.append([record(2)])
        assert vfs.syncs == syncs


def test_a_failed_sync_in_a_commit_poisons_the_journal(
    faulty: SqliteJournal, vfs: FaultyVfs
) -> None:
    faulty.append([record(1)])
    vfs.sync_fails = ".db-wal"
    with pytest.raises(JournalFailed, match="planted EIO"):
        faulty.append([record(2)])
    vfs.sync_fails = ""

    with pytest.raises(JournalFailed, match="planted EIO"):
        faulty.append([record(2)])
    assert numbers(faulty) == [1]


def test_a_failed_journal_touches_the_disk_no_more(
    faulty: SqliteJournal, vfs: FaultyVfs, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "WAL_PAGES_MAX", 0)
    vfs.sync_fails = ".db-wal"
    with pytest.raises(JournalFailed):
        faulty.append([record(1)])
    vfs.syncs.clear()

    faulty.maintain()
    faulty.close()

    assert vfs.syncs == []
    with closing(SqliteJournal(path)) as again:
        assert numbers(again) in ([], [1])


def test_a_full_disk_at_the_commit_stores_nothing_and_the_journal_recovers(
    faulty: SqliteJournal, vfs: FaultyVfs, path: Path
) -> None:
    faulty.append([record(1)])
    vfs.write_is_full = ".db-wal"
    with pytest.raises(JournalFull, match="planted ENOSPC"):
        faulty.append([record(2)])
    vfs.write_is_full = ""

    assert numbers(faulty) == [1]
    assert faulty.append([record(3)]).head == 2
    faulty.close()
    with closing(SqliteJournal(path)) as again:
        assert numbers(again) == [1, 3]


# Locks of other programs


def test_a_foreign_lock_fails_the_append_and_the_next_one_works(path: Path) -> None:
    with closing(SqliteJournal(path, busy_timeout_ms=1)) as opened, foreign(path) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalBusy, match="another program"):
            opened.append([record(1)])
        assert numbers(opened) == []
        other.execute("ROLLBACK")

        assert opened.append([record(1)]).new == (True,)


def test_a_foreign_lock_while_it_opens_is_refused(path: Path) -> None:
    SqliteJournal(path).close()
    with foreign(path) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE; BEGIN IMMEDIATE").fetchall()
        with pytest.raises(JournalRefused, match="locked"):
            SqliteJournal(path, busy_timeout_ms=1)


# Checkpoints


@pytest.fixture
def short_wal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "WAL_PAGES_MAX", 8)


def fill(opened: SqliteJournal, first: int, commits: int = 5) -> None:
    for number in range(first, first + commits):
        opened.append([record(number, b"x" * 3_000)])


@pytest.mark.usefixtures("short_wal")
def test_a_long_wal_is_copied_and_begins_anew(faulty: SqliteJournal, vfs: FaultyVfs) -> None:
    fill(faulty, 1)
    vfs.syncs.clear()
    faulty.maintain()
    assert vfs.syncs == [".db-wal", ".db"]

    faulty.maintain()
    assert vfs.syncs == [".db-wal", ".db"]

    faulty.append([record(99)])
    assert faulty._wal_pages < 8
    fill(faulty, 10)
    vfs.syncs.clear()
    faulty.maintain()
    assert vfs.syncs == [".db-wal", ".db"]


def test_a_short_wal_is_left_alone(faulty: SqliteJournal, vfs: FaultyVfs) -> None:
    fill(faulty, 1)
    vfs.syncs.clear()

    faulty.maintain()

    assert vfs.syncs == []


@pytest.mark.usefixtures("short_wal")
def test_what_a_foreign_reader_still_needs_is_copied_later(
    faulty: SqliteJournal, vfs: FaultyVfs, path: Path
) -> None:
    with foreign(path) as other:
        other.execute("BEGIN; SELECT * FROM records").fetchall()
        fill(faulty, 1)
        vfs.syncs.clear()
        faulty.maintain()
        assert vfs.syncs == []

    faulty.maintain()
    assert vfs.syncs == [".db-wal", ".db"]


@pytest.mark.usefixtures("short_wal")
@pytest.mark.parametrize("suffix", [".db-wal", ".db"])
def test_a_failed_sync_in_a_checkpoint_poisons_the_journal(
    faulty: SqliteJournal, vfs: FaultyVfs, suffix: str
) -> None:
    fill(faulty, 1)
    vfs.sync_fails = suffix
    with pytest.raises(JournalFailed, match="planted EIO"):
        faulty.maintain()

    with pytest.raises(JournalFailed, match="planted EIO"):
        faulty.append([record(99)])


@pytest.mark.usefixtures("short_wal")
def test_a_full_disk_puts_a_checkpoint_off_until_the_wal_has_grown(
    faulty: SqliteJournal, vfs: FaultyVfs
) -> None:
    fill(faulty, 1)
    vfs.write_is_full = ".db"
    faulty.maintain()
    vfs.write_is_full = ""
    vfs.syncs.clear()

    faulty.maintain()
    assert vfs.syncs == []
    fill(faulty, 10)
    vfs.syncs.clear()
    faulty.maintain()
    assert vfs.syncs == [".db-wal", ".db"]
    assert numbers(faulty) == [1, 2, 3, 4, 5, 10, 11, 12, 13, 14]


def test_closing_leaves_an_empty_wal(journal: SqliteJournal, path: Path) -> None:
    journal.append([record(1)])
    assert wal_bytes(path) > 0

    journal.close()

    assert wal_bytes(path) == 0
    with closing(SqliteJournal(path)) as again:
        assert numbers(again) == [1]


def test_a_checkpoint_that_fails_at_the_close_is_told_and_everything_is_released(
    faulty: SqliteJournal, vfs: FaultyVfs, path: Path
) -> None:
    faulty.append([record(1)])
    vfs.sync_fails = ".db"

    with pytest.raises(JournalFailed, match="planted EIO"):
        faulty.close()

    with closing(SqliteJournal(path)) as again:
        assert numbers(again) == [1]


def test_a_foreign_reader_at_the_close_only_leaves_a_wal(path: Path) -> None:
    opened = SqliteJournal(path, busy_timeout_ms=0)
    opened.append([record(1)])
    with foreign(path) as other:
        other.execute("BEGIN; SELECT * FROM records").fetchall()
        opened.close()
        assert wal_bytes(path) > 0

    with closing(SqliteJournal(path)) as again:
        assert numbers(again) == [1]


def test_with_full_the_wal_is_written_ahead_and_stays_empty_to_sqlite(path: Path) -> None:
    with closing(SqliteJournal(path, durability="full")) as opened:
        wal = Path(f"{path}-wal")
        assert wal.stat().st_size >= 4_000 * (4096 + 24)
        opened.append([record(1)])
        size = wal.stat().st_size
        with foreign(path) as other:
            assert other.execute("SELECT number FROM records").fetchall() == [(1,)]
        opened.append([record(2)])
        assert wal.stat().st_size == size

    with closing(SqliteJournal(path, durability="normal")) as opened:
        opened.append([record(3)])
        assert wal.stat().st_size < size
        assert numbers(opened) == [1, 2, 3]


def test_a_long_wal_is_copied_beside_the_commits_and_the_rest_between_them(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "WAL_PAGES_MAX", 8)
    with closing(SqliteJournal(path)) as opened:
        number = 0
        while not opened.maintenance_due:
            number += 1
            opened.append([record(number, bytes(4096))])
        opened.prepare_maintenance()
        assert opened.maintenance_due, "only between two commits the WAL can begin anew"
        opened.append([record(number + 1)])
        opened.maintain()
        assert not opened.maintenance_due
        opened.append([record(number + 2)])  # this one begins the WAL anew

        assert wal_bytes(path) > 0
        assert numbers(opened) == list(range(1, number + 3))


@pytest.mark.usefixtures("short_wal")
def test_the_wal_begins_anew_while_somebody_follows_slice_by_slice(journal: SqliteJournal) -> None:
    peaks = [peak_wal_pages(journal, read_everything) for _ in range(2)]

    assert max(peaks) < 30


@pytest.mark.usefixtures("short_wal")
def test_a_read_left_open_would_keep_the_wal_from_beginning_anew(journal: SqliteJournal) -> None:
    journal.append([record(1), record(2)])
    cursor = journal._reader.execute("SELECT * FROM records")
    next(cursor)

    assert peak_wal_pages(journal, lambda *_: None) > 100
    cursor.close()


def peak_wal_pages(
    journal: SqliteJournal, read: Callable[[SqliteJournal, Position], object]
) -> int:
    """Append, read a slice and maintain in turn; returns the pages of the WAL at its longest."""
    peak, first = 0, journal.head() + 1
    for number in range(first, first + 30):
        fill(journal, number * 10)
        read(journal, Position(number - 1))
        peak = max(peak, journal._wal_pages)
        journal.maintain()
    return peak


def read_everything(journal: SqliteJournal, after: Position) -> None:
    """Read a slice of everything, in each case less than there is."""
    reads: list[Callable[[], object]] = [
        lambda: journal.follow(after, limit=2),
        lambda: journal.read("a", 1, 99_999, limit=2),
        lambda: journal.read_notes("conflict", stream=None, limit=1),
        lambda: journal.note(NoteId(1)),
        lambda: journal.count_notes("conflict"),
        lambda: journal.note_totals("conflict"),
        lambda: journal.ledgers("", limit=1),
        lambda: journal.ledgers("a", limit=1),
        lambda: journal.pruned("", limit=1),
        journal.rounds,
        journal.head,
        journal.statistics,
    ]
    journal.append([], [Note("conflict", "a", n, b"key", b"body", 11) for n in (1, 2)])
    journal.keep_ledgers([LedgerRecord(stream, b"ledger") for stream in "abc"])
    journal.end_round(Round(after, "1", 0))
    journal.end_round(Round(after, "2", 0))
    for each in reads:
        each()
        assert sqlite_file.checkpoint(journal._writer, "PASSIVE").busy == 0


@pytest.mark.usefixtures("short_wal")
def test_the_figures_are_those_of_the_files(tmp_path: Path, path: Path) -> None:
    def free_bytes(folder: Path) -> int:
        return len(str(folder))

    with closing(SqliteJournal(path, reserve_bytes=0, free_bytes=free_bytes)) as opened:
        fill(opened, 1)
        figures = opened.statistics()
        assert figures.database_bytes == path.stat().st_size
        assert figures.wal_bytes == Path(f"{path}-wal").stat().st_size
        assert figures.free_bytes == len(str(tmp_path))
        assert figures.wal_pages == opened._wal_pages > 8

        opened.maintain()

        figures = opened.statistics()
        assert figures.wal_pages == 0
        assert figures.database_bytes == path.stat().st_size
    Path(f"{path}-wal").unlink()
    assert opened.statistics().wal_bytes == 0


def test_the_files_are_found_when_the_process_has_gone_elsewhere(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with closing(SqliteJournal(path.name)) as opened:
        monkeypatch.chdir("/")
        assert opened.statistics().database_bytes > 0


# Processes


def test_a_forked_child_may_not_append(journal: SqliteJournal) -> None:
    child = os.fork()
    if child == 0:
        try:
            journal.append([record(1)])
        except AssertionError:
            os._exit(7)
        os._exit(0)

    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 7
    assert numbers(journal) == []


def test_every_error_is_a_journal_error() -> None:
    kinds = [JournalFull, JournalBusy, JournalFailed, JournalRefused]

    assert all(issubclass(kind, JournalError) for kind in kinds)
