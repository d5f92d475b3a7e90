"""The reserve of free space: just under, at and over it, and how seldom it asks."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from rockets.journal import (
    RESERVE_BYTES,
    JournalFull,
    LedgerRecord,
    Note,
    NoteId,
    Position,
    Pruned,
    Record,
    Round,
    SqliteJournal,
)
from rockets.journal.space import CHECK_BYTES, SpaceReserve, free_bytes
from tests.journal.prunings import BASE

RESERVE = 1_000_000


class Disk:
    """Says how much is free, and counts how often it was asked about which folder."""

    def __init__(self, free: int) -> None:
        self.free = free
        self.asked: list[Path] = []

    def __call__(self, path: Path) -> int:
        self.asked.append(path)
        return self.free


def record(number: int, size: int = 2) -> Record:
    return Record("a", number, b"x" * size, 7)


def test_the_default_asks_the_file_system(tmp_path: Path) -> None:
    reserve = SpaceReserve(tmp_path, 1)

    assert reserve.free_bytes() > 0
    assert reserve.free_bytes() % 512 == 0
    assert free_bytes(tmp_path) > 0
    reserve.grow(1)


@pytest.mark.parametrize(("free", "refused"), [(0, True), (RESERVE - 1, True), (RESERVE, False)])
def test_growth_is_refused_below_the_reserve(tmp_path: Path, free: int, refused: bool) -> None:
    reserve = SpaceReserve(tmp_path, RESERVE, free_bytes=Disk(free))

    if not refused:
        reserve.grow(1)
        return
    with pytest.raises(JournalFull, match=rf": {free:,} bytes are free, the last 1,000,000 are"):
        reserve.grow(1)


def test_a_reserve_of_nothing_never_asks(tmp_path: Path) -> None:
    disk = Disk(0)
    reserve = SpaceReserve(tmp_path, 0, free_bytes=disk)

    for _ in range(9):
        reserve.grow(CHECK_BYTES)

    assert disk.asked == []


@pytest.mark.parametrize(
    ("sizes", "asked"),
    [
        ([0, CHECK_BYTES - 1], 1),
        ([0, CHECK_BYTES], 2),
        ([0, CHECK_BYTES + 1], 2),
        ([0, CHECK_BYTES - 1, 0], 1),
        ([0, CHECK_BYTES - 1, 1], 2),
        ([0, CHECK_BYTES, CHECK_BYTES - 1], 2),
        ([0, *[CHECK_BYTES // 8] * 16], 3),
    ],
)
def test_it_asks_at_first_and_after_so_many_bytes(
    tmp_path: Path, sizes: list[int], asked: int
) -> None:
    disk = Disk(RESERVE)
    reserve = SpaceReserve(tmp_path, RESERVE, free_bytes=disk)

    for size in sizes:
        reserve.grow(size)

    assert disk.asked == [tmp_path] * asked


def test_after_a_refusal_it_asks_every_time_until_there_is_room(tmp_path: Path) -> None:
    disk = Disk(RESERVE - 1)
    reserve = SpaceReserve(tmp_path, RESERVE, free_bytes=disk)

    for _ in range(3):
        with pytest.raises(JournalFull):
            reserve.grow(1)
    disk.free = RESERVE
    reserve.grow(1)
    reserve.grow(1)

    assert len(disk.asked) == 4


# In the journal


def test_the_journal_keeps_64_mib_unless_told_otherwise(tmp_path: Path) -> None:
    disk = Disk(RESERVE_BYTES - 1)
    with closing(SqliteJournal(tmp_path / "journal.db", free_bytes=disk)) as journal:
        with pytest.raises(JournalFull, match="the last 67,108,864 are kept in reserve"):
            journal.append([record(1)])
        disk.free = RESERVE_BYTES
        assert journal.append([record(1)]).head == 1

    assert disk.asked == [tmp_path] * 2


def test_on_a_disk_that_fills_up_writes_stop_reads_go_on_and_room_is_used_at_once(
    tmp_path: Path,
) -> None:
    disk = Disk(RESERVE)
    with closing(
        SqliteJournal(tmp_path / "journal.db", reserve_bytes=RESERVE, free_bytes=disk)
    ) as journal:
        note = Note("conflict", "a", 1, b"k", b"said", 11)
        journal.append([record(1), record(2)], [note])
        journal.keep_ledgers([LedgerRecord("a", b"ledger")])
        disk.free = RESERVE - 1
        journal.append([record(3, CHECK_BYTES - 7)])  # the last bytes it does not ask about

        refused: list[Callable[[], object]] = [
            lambda: journal.append([record(4)]),
            lambda: journal.append([], [note]),
            lambda: journal.keep_ledgers([LedgerRecord("b", b"ledger")]),
        ]
        for write in refused:
            with pytest.raises(JournalFull, match="in reserve"):
                write()

        assert [found.number for found in journal.follow(Position(0), limit=9)] == [1, 2, 3]
        assert len(journal.ledgers("", limit=9)) == 1
        assert journal.statistics().free_bytes == RESERVE - 1
        # What makes room, or takes next to none, is not refused.
        assert journal.prune([Pruned("a", 1, BASE)], limit=9) == 1
        assert journal.remove_note(NoteId(1))
        journal.end_round(Round(Position(1), "1", 0))
        journal.maintain()

        disk.free = RESERVE
        assert journal.append([record(4)]).head == 4


def test_without_a_reserve_the_journal_leaves_it_to_sqlite(tmp_path: Path) -> None:
    disk = Disk(0)
    with closing(
        SqliteJournal(tmp_path / "journal.db", reserve_bytes=0, free_bytes=disk)
    ) as journal:
        assert journal.append([record(1)]).head == 1

    assert disk.asked == []
