"""Pruning in the SQLite file: what is gone is remembered, and never more is gone than that."""

from contextlib import closing
from pathlib import Path

import pytest

from rockets.journal import (
    JournalFailed,
    JournalFull,
    Position,
    Pruned,
    Record,
    SqliteJournal,
)
from tests.journal.disks import FaultyVfs, edit, foreign
from tests.journal.prunings import BASE

START = Position(0)


def record(stream: str, number: int) -> Record:
    return Record(stream, number, b"{}", 7)


def positions(journal: SqliteJournal) -> list[int]:
    return [found.position for found in journal.follow(START, limit=99)]


@pytest.fixture
def journal(faulty: SqliteJournal) -> SqliteJournal:
    faulty.append([record(stream, number) for number in (1, 2, 3) for stream in "ab"])
    return faulty


def test_a_start_after_everything_was_pruned_uses_no_position_again(path: Path) -> None:
    with closing(SqliteJournal(path)) as first:
        first.append([record("a", number) for number in (1, 2, 3)])
        first.prune([Pruned("a", 3, BASE)], limit=9)

    with closing(SqliteJournal(path)) as second:
        assert second.head() == 3
        assert second.append([record("a", 4)]).head == 4
        assert second.prune([Pruned("a", 3, BASE)], limit=9) == 1
        assert positions(second) == [4]
        assert second.pruned("", limit=9) == [Pruned("a", 3, BASE)]


def test_after_a_pruning_an_append_still_tells_old_from_new(journal: SqliteJournal) -> None:
    journal.prune([Pruned("a", 2, BASE)], limit=9)

    appended = journal.append([record("b", 1), record("a", 4), record("a", 3), record("a", 4)])

    assert appended.new == (False, True, False, False)
    assert {index: found.position for index, found in appended.stored.items()} == {0: 2, 2: 5, 3: 7}
    assert appended.head == 7


def test_pruning_reads_the_index_alone(journal: SqliteJournal) -> None:
    sql = "EXPLAIN QUERY PLAN SELECT position, stream, number FROM records"
    plan = journal._reader.execute(
        f"{sql} WHERE stream = ? AND number <= ? ORDER BY number LIMIT ?", ("a", 1, 1)
    ).fetchall()

    assert [row[3] for row in plan] == [
        "SEARCH records USING COVERING INDEX sqlite_autoindex_records_1 (stream=? AND number<?)"
    ]


@pytest.mark.parametrize(
    "change",
    [
        "through = 1",
        "stream = 'b'",
        "base = x''",
        "base = zeroblob(length(base))",
        "checksum = x'00'",
    ],
)
def test_a_changed_memory_is_found_and_poisons_the_journal(
    journal: SqliteJournal, path: Path, change: str
) -> None:
    journal.prune([Pruned("a", 2, BASE)], limit=9)
    edit(path, f"UPDATE pruned SET {change}")

    changed = "b" if "stream" in change else "a"
    with pytest.raises(JournalFailed, match=r"what was pruned of [ab] does not match"):
        journal.pruned("", limit=9)
    with pytest.raises(JournalFailed, match=f"what was pruned of {changed} does not match"):
        journal.pruned_of(changed)

    with pytest.raises(JournalFailed, match="does not match"):
        journal.append([record("a", 9)])


def test_a_pruning_does_not_build_on_a_changed_memory(journal: SqliteJournal, path: Path) -> None:
    journal.prune([Pruned("a", 1, BASE)], limit=9)
    edit(path, "UPDATE pruned SET through = 7")

    with pytest.raises(JournalFailed, match="what was pruned of a does not match"):
        journal.prune([Pruned("a", 2, BASE)], limit=9)

    assert positions(journal) == [2, 3, 4, 5, 6]


def test_a_damaged_index_removes_no_record_of_another(path: Path) -> None:
    with closing(SqliteJournal(path)) as first:
        first.append([record(stream, number) for number in (1, 2) for stream in ("aaaa", "bbbb")])
    with foreign(path) as other:
        sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'sqlite_autoindex_records_1'"
        page = other.execute(sql).get * 4096
    content = path.read_bytes()
    index = content[page - 4096 : page].replace(b"aaaa", b"aaab")
    path.write_bytes(content[: page - 4096] + index + content[page:])

    with closing(SqliteJournal(path)) as second:
        with pytest.raises(JournalFailed, match="the index of aaab points at records of others"):
            second.prune([Pruned("aaab", 9, BASE)], limit=9)
        assert positions(second) == [1, 2, 3, 4]


def test_on_a_full_disk_nothing_is_removed_and_the_journal_recovers(
    journal: SqliteJournal, vfs: FaultyVfs
) -> None:
    vfs.write_is_full = ".db-wal"
    with pytest.raises(JournalFull, match="planted ENOSPC"):
        journal.prune([Pruned("a", 2, BASE)], limit=9)
    vfs.write_is_full = ""

    assert (positions(journal), journal.pruned("", limit=9)) == ([1, 2, 3, 4, 5, 6], [])
    assert journal.prune([Pruned("a", 2, BASE)], limit=9) == 2
    assert (positions(journal), journal.pruned("", limit=9)) == (
        [2, 4, 5, 6],
        [Pruned("a", 2, BASE)],
    )


def test_a_failed_sync_poisons_the_journal_and_the_next_start_has_both_or_neither(
    journal: SqliteJournal, vfs: FaultyVfs, path: Path
) -> None:
    vfs.sync_fails = ".db-wal"
    with pytest.raises(JournalFailed, match="planted EIO"):
        journal.prune([Pruned("a", 2, BASE)], limit=9)
    vfs.sync_fails = ""
    with pytest.raises(JournalFailed, match="planted EIO"):
        journal.prune([Pruned("a", 2, BASE)], limit=9)
    journal.close()

    with closing(SqliteJournal(path)) as again:
        found = positions(again), again.pruned("", limit=9)
    assert found in [([1, 2, 3, 4, 5, 6], []), ([2, 4, 5, 6], [Pruned("a", 2, BASE)])]


def test_a_pruning_is_one_synced_commit(journal: SqliteJournal, vfs: FaultyVfs) -> None:
    vfs.syncs.clear()

    journal.prune([Pruned("a", 2, BASE)], limit=9)
    assert vfs.syncs == [".db-wal"]

    journal.prune([Pruned("a", 2, BASE)], limit=9)
    assert vfs.syncs == [".db-wal"]
