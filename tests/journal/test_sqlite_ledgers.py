"""Ledgers and rounds in the SQLite file: damage is told and never served, errors are as appends."""

import random
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from rockets.journal import (
    JournalBusy,
    JournalFailed,
    JournalFull,
    JournalRefused,
    LedgerRecord,
    LedgersDamaged,
    Position,
    Record,
    Round,
    SqliteJournal,
    StoredLedger,
)
from tests.journal.disks import FaultyVfs, edit, foreign

LEDGERS = [
    LedgerRecord(f"stream-{number}", b"ledger of %03d bytes!" % number) for number in range(9)
]
STORED = [StoredLedger(each.stream, each.data) for each in LEDGERS]
OLDER, OLD, NEW = (Round(Position(began), "rules 1", 9) for began in (1, 2, 3))


def damage(path: Path, found: bytes, put: bytes) -> None:
    """Change bytes of a closed journal where they lie, as a failing disk does."""
    content = path.read_bytes()
    assert found in content
    path.write_bytes(content.replace(found, put))


def test_a_reopened_journal_has_its_ledgers_and_rounds(path: Path) -> None:
    with closing(SqliteJournal(path)) as first:
        first.keep_ledgers(LEDGERS)
        for ended in (OLDER, OLD, NEW):
            first.end_round(ended)

    with closing(SqliteJournal(path)) as second:
        assert second.ledgers("", limit=99) == STORED
        assert second.rounds() == [NEW, OLD]


# Damage


@pytest.mark.parametrize("change", ["data = x'00'", "data = x''", "checksum = checksum + 1"])
def test_a_damaged_ledger_is_told_and_the_others_are_there(
    journal: SqliteJournal, path: Path, change: str
) -> None:
    journal.keep_ledgers(LEDGERS)
    edit(path, f"UPDATE ledgers SET {change} WHERE stream = 'stream-4'")

    expected = [*STORED[:4], StoredLedger("stream-4", None), *STORED[5:]]
    assert journal.ledgers("", limit=99) == expected
    assert journal.ledgers("stream-3", limit=1) == expected[4:5]

    journal.keep_ledgers(LEDGERS[4:5])
    assert journal.ledgers("", limit=99) == STORED


def test_a_ledger_under_another_name_is_damaged(journal: SqliteJournal, path: Path) -> None:
    journal.keep_ledgers(LEDGERS)
    edit(path, "UPDATE ledgers SET stream = 'stream-44' WHERE stream = 'stream-4'")

    found = journal.ledgers("", limit=99)

    assert found == [*STORED[:4], StoredLedger("stream-44", None), *STORED[5:]]


@pytest.mark.parametrize(
    ("found", "put", "reason"),
    [
        (b"stream-4", b"stream-9", "not in the order of streams"),
        (b"stream-4", b"stream-3", "not in the order of streams"),
        (b"stream-4", b"stream-\xb4", "cannot be read"),
        # The types in the heads of the rows: the data become text, the names become bytes.
        (b"\x1d\x34", b"\x1d\x35", "cannot be read"),
        (b"\x1d\x34", b"\x1c\x34", "cannot be read"),
    ],
)
def test_ledgers_that_cannot_be_trusted_are_refused_as_a_whole_and_can_be_made_anew(
    path: Path, found: bytes, put: bytes, reason: str
) -> None:
    with closing(SqliteJournal(path)) as first:
        first.append([Record("a", 1, b"{}", 7)])
        first.keep_ledgers(LEDGERS)
        first.end_round(NEW)
    damage(path, found, put)

    with closing(SqliteJournal(path)) as second:
        with pytest.raises(LedgersDamaged, match=reason):
            second.ledgers("", limit=99)
        # The records are not concerned.
        assert second.append([Record("a", 1, b"{}", 7)]).new == (False,)

        second.drop_ledgers()
        second.keep_ledgers(LEDGERS)
        assert second.ledgers("", limit=99) == STORED
        assert second.rounds() == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        # The search runs into the damaged name and goes on behind it, past what is right.
        (b"stream-0", "'stream-3' cannot be found again"),
        # Here it does not, and what follows is out of order.
        (b"stream-9", "behind 'stream-3' are not in the order"),
    ],
)
def test_a_slice_that_does_not_begin_where_the_last_one_ended_is_refused(
    path: Path, name: bytes, reason: str
) -> None:
    with closing(SqliteJournal(path)) as first:
        first.keep_ledgers(LEDGERS)
    damage(path, b"stream-4", name)

    with closing(SqliteJournal(path)) as second:
        with pytest.raises(LedgersDamaged, match=reason):
            second.ledgers("stream-3", limit=9)


@pytest.mark.parametrize(
    "change",
    [
        "began = began + 1",
        "rules = 'rules 2'",
        "rules = ''",
        "ledgers = ledgers - 1",
        "checksum = x'00'",
    ],
)
def test_a_damaged_round_falls_back_to_the_one_before(
    journal: SqliteJournal, path: Path, change: str
) -> None:
    for ended in (OLDER, OLD):
        journal.end_round(ended)
    edit(path, f"UPDATE rounds SET {change} WHERE began = 2")

    assert journal.rounds() == [OLDER]

    # The next one pushes the damaged one out, not the whole one.
    journal.end_round(NEW)
    assert journal.rounds() == [NEW, OLDER]


def test_with_every_round_damaged_there_is_none(journal: SqliteJournal, path: Path) -> None:
    for ended in (OLDER, OLD):
        journal.end_round(ended)
    edit(path, "UPDATE rounds SET rules = 'other'")

    assert journal.rounds() == []
    journal.end_round(NEW)
    assert journal.rounds() == [NEW]


def test_a_round_whose_text_is_none_any_more_is_left_out(path: Path) -> None:
    with closing(SqliteJournal(path)) as first:
        first.end_round(NEW)
    damage(path, b"rules 1", b"rules \xb1")

    with closing(SqliteJournal(path)) as second:
        assert second.rounds() == []


@pytest.mark.slow
def test_no_flipped_bit_is_ever_served(path: Path) -> None:
    """Whatever flips in the page of the ledgers, what comes back as whole was kept."""
    with closing(SqliteJournal(path, durability="normal")) as first:
        first.keep_ledgers(LEDGERS)
        first.end_round(NEW)
    whole = path.read_bytes()
    page = whole.index(b"stream-4") // 4096 * 4096
    # The head of the page and the cells at its end; there is nothing in between.
    places = [*range(60), *range(4096 - 9 * 36, 4096)]
    chance = random.Random(5)

    for place in chance.sample(places, 150):
        flipped = bytearray(whole)
        flipped[page + place] ^= 1 << chance.randrange(8)
        path.write_bytes(flipped)
        try:
            with closing(SqliteJournal(path, durability="normal")) as opened:
                found = opened.ledgers("", limit=99)
        except (JournalRefused, JournalFailed, LedgersDamaged):
            continue
        served = [each for each in found if each.data is not None]
        assert all(each in STORED for each in served), (place, served)


# Errors of the disk, and locks

WRITES: dict[str, Callable[[SqliteJournal], object]] = {
    "keep_ledgers": lambda journal: journal.keep_ledgers(LEDGERS),
    "end_round": lambda journal: journal.end_round(NEW),
    "drop_ledgers": lambda journal: journal.drop_ledgers(),
}


def everything(journal: SqliteJournal) -> tuple[list[StoredLedger], list[Round]]:
    return journal.ledgers("", limit=99), journal.rounds()


@pytest.fixture
def faulty(faulty: SqliteJournal) -> SqliteJournal:
    faulty.keep_ledgers([LedgerRecord("stream-0", b"before")])
    for ended in (OLDER, OLD):
        faulty.end_round(ended)
    return faulty


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_on_a_full_disk_nothing_changes_and_the_journal_recovers(
    faulty: SqliteJournal, vfs: FaultyVfs, write: Callable[[SqliteJournal], object]
) -> None:
    before = everything(faulty)
    vfs.write_is_full = ".db-wal"
    with pytest.raises(JournalFull, match="planted ENOSPC"):
        write(faulty)
    vfs.write_is_full = ""

    assert everything(faulty) == before
    write(faulty)
    assert everything(faulty) != before


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_failed_sync_poisons_the_journal(
    faulty: SqliteJournal, vfs: FaultyVfs, write: Callable[[SqliteJournal], object]
) -> None:
    vfs.sync_fails = ".db-wal"
    with pytest.raises(JournalFailed, match="planted EIO"):
        write(faulty)
    vfs.sync_fails = ""

    with pytest.raises(JournalFailed, match="planted EIO"):
        faulty.append([Record("a", 1, b"{}", 7)])


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_each_is_one_synced_commit(
    faulty: SqliteJournal, vfs: FaultyVfs, write: Callable[[SqliteJournal], object]
) -> None:
    vfs.syncs.clear()

    write(faulty)

    assert vfs.syncs == [".db-wal"]


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_foreign_lock_fails_the_write_and_the_next_one_works(
    path: Path, write: Callable[[SqliteJournal], object]
) -> None:
    with closing(SqliteJournal(path, busy_timeout_ms=1)) as opened, foreign(path) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalBusy, match="another program"):
            write(opened)
        other.execute("ROLLBACK")

        write(opened)
