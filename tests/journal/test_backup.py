"""Backups of a journal that is in use: whole, verified, or not there at all."""

import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rockets.journal import (
    BackupFailed,
    BackupProgress,
    JournalFailed,
    LedgerRecord,
    Note,
    Position,
    Pruned,
    Record,
    Round,
    SqliteJournal,
    StoredLedger,
    StoredRecord,
    backup,
)
from tests.journal.disks import edit
from tests.journal.prunings import BASE

START = Position(0)


def record(number: int, size: int = 1_000) -> Record:
    return Record("a", number, b"x" * size, 7)


def fill(journal: SqliteJournal, first: int, last: int) -> None:
    for number in range(first, last + 1):
        journal.append([record(number)])


def records(path: Path) -> list[StoredRecord]:
    """Open a copy as the journal that it is."""
    with closing(SqliteJournal(path)) as opened:
        return opened.follow(START, limit=99_999)


def run(steps: Iterator[BackupProgress]) -> list[BackupProgress]:
    return list(steps)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "copies"
    folder.mkdir()
    return folder / "copy ?#%.db"


@pytest.fixture
def journal(journal: SqliteJournal) -> SqliteJournal:
    fill(journal, 1, 40)
    return journal


def test_a_copy_is_a_journal_with_everything(journal: SqliteJournal, target: Path) -> None:
    journal.append([], [Note("conflict", "a", 1, b"k", b"said", 11)])
    journal.keep_ledgers([LedgerRecord("a", b"ledger")])
    journal.end_round(Round(Position(9), "1", 0))
    journal.prune([Pruned("a", 3, BASE)], limit=9)

    run(backup(journal._path, target))

    with closing(SqliteJournal(target)) as copy:
        assert copy.follow(START, limit=99) == journal.follow(START, limit=99)
        assert len(copy.read_notes("conflict", stream=None, limit=9)) == 1
        assert copy.ledgers("", limit=9) == [StoredLedger("a", b"ledger")]
        assert copy.rounds() == [Round(Position(9), "1", 0)]
        assert copy.pruned("", limit=9) == [Pruned("a", 3, BASE)]
        assert copy.append([record(41)]).head == 41


def test_the_copy_alone_is_left_and_only_the_owner_can_read_it(
    journal: SqliteJournal, target: Path
) -> None:
    run(backup(journal._path, target))

    assert list(target.parent.iterdir()) == [target]
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert target.stat().st_nlink == 1


def test_an_empty_journal_can_be_copied(path: Path, target: Path) -> None:
    with closing(SqliteJournal(path)):
        run(backup(path, target))

    assert records(target) == []


def test_what_a_killed_service_left_in_the_wal_is_in_the_copy_and_stays_where_it_is(
    journal: SqliteJournal, path: Path, target: Path
) -> None:
    journal._failure = JournalFailed("killed")
    journal.close()
    wal = Path(f"{path}-wal")
    before = path.read_bytes(), wal.read_bytes()

    run(backup(path, target))

    assert (path.read_bytes(), wal.read_bytes()) == before
    assert len(records(target)) == 40


@pytest.mark.parametrize(("more", "steps"), [(-1, 2), (0, 1), (1, 1)])
def test_a_step_copies_so_many_pages(
    journal: SqliteJournal, target: Path, more: int, steps: int
) -> None:
    total = journal._writer.pragma("page_count")
    assert isinstance(total, int)

    progress = run(backup(journal._path, target, pages=total + more))

    assert len(progress) == steps
    assert progress[-1] == BackupProgress(total, total)


def test_progress_rises_to_the_whole(journal: SqliteJournal, target: Path) -> None:
    progress = run(backup(journal._path, target, pages=1))

    assert [each.copied for each in progress] == list(range(1, progress[0].total + 1))
    assert {each.total for each in progress} == {len(progress)}


def test_the_copy_is_what_was_there_at_the_first_step_whatever_comes_between(
    journal: SqliteJournal, target: Path
) -> None:
    numbers = count(41)
    before = journal.follow(START, limit=999)
    for _ in backup(journal._path, target, pages=1):
        journal.append([record(next(numbers))])
        journal.prune([Pruned("a", 5, BASE)], limit=1)
        journal.maintain()

    assert records(target) == before
    assert next(numbers) > 50


@pytest.mark.slow
@settings(max_examples=25, deadline=None)  # a busy disk is not a failure
@given(
    before=st.integers(0, 30),
    between=st.lists(st.integers(0, 3), max_size=20),
    pages=st.integers(1, 9),
)
def test_any_appends_between_the_steps_leave_a_prefix_with_all_from_before(
    before: int, between: list[int], pages: int
) -> None:
    with TemporaryDirectory() as folder:
        path, target = Path(folder) / "journal.db", Path(folder) / "copy.db"
        with closing(SqliteJournal(path, durability="normal")) as journal:
            fill(journal, 1, before)
            steps = backup(path, target, pages=pages)
            last = before
            for appends, _ in zip([*between, 0], steps, strict=False):
                fill(journal, last + 1, last + appends)
                last += appends
            run(steps)
            everything = journal.follow(START, limit=999)

        assert records(target) == everything[:before]


LIVE = """
import sys
from rockets.journal import backup
for progress in backup(sys.argv[1], sys.argv[2], pages=1):
    print(progress.copied, flush=True)
    sys.stdin.readline()
"""


@pytest.mark.slow
def test_another_process_copies_a_journal_that_is_appended_to(
    journal: SqliteJournal, path: Path, target: Path
) -> None:
    before = journal.follow(START, limit=999)
    last = 40
    command = [sys.executable, "-c", LIVE, str(path), str(target)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as copying:
        assert copying.stdin is not None
        assert copying.stdout is not None
        for _ in copying.stdout:
            last += 1
            journal.append([record(last)])
            journal.maintain()
            copying.stdin.write("\n")
            copying.stdin.flush()
    assert copying.returncode == 0

    assert records(target) == before
    assert journal.head() == last > 41


# Refused


@pytest.mark.parametrize("ending", ["", "-wal", "-shm", "-journal"])
def test_a_target_or_side_file_that_exists_is_refused_and_left_as_it_was(
    journal: SqliteJournal, target: Path, ending: str
) -> None:
    taken = Path(f"{target}{ending}")
    taken.write_text("precious")

    with pytest.raises(BackupFailed, match=rf"db{ending} exists already$"):
        run(backup(journal._path, target))

    assert taken.read_text() == "precious"
    assert list(target.parent.iterdir()) == [taken]


def test_a_link_to_nowhere_is_a_target_that_exists(journal: SqliteJournal, target: Path) -> None:
    target.symlink_to("nowhere")

    with pytest.raises(BackupFailed, match=r"db exists already$"):
        run(backup(journal._path, target))


def test_a_target_that_comes_meanwhile_is_left_as_it_is(
    journal: SqliteJournal, target: Path
) -> None:
    steps = backup(journal._path, target)
    next(steps)
    target.write_text("precious")

    with pytest.raises(BackupFailed, match=r"db exists already$"):
        run(steps)

    assert target.read_text() == "precious"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (lambda path: None, "unable to open"),
        (lambda path: path.mkdir(), "unable to open"),
        (lambda path: path.write_bytes(b"no database at all" * 99), "not a database"),
        (lambda path: path.touch(), "it is not a journal"),
        (lambda path: edit(path, "CREATE TABLE other (x)"), "it is not a journal"),
    ],
)
def test_what_is_no_journal_is_refused_in_one_line_and_leaves_nothing(
    path: Path, target: Path, prepare: Callable[[Path], object], reason: str
) -> None:
    prepare(path)

    with pytest.raises(BackupFailed, match=rf"^no backup of [^\n]*{reason}[^\n]*$"):
        run(backup(path, target))

    assert list(target.parent.iterdir()) == []


def test_a_folder_that_is_not_there_is_refused(journal: SqliteJournal, target: Path) -> None:
    target.parent.rmdir()

    with pytest.raises(BackupFailed, match="No such file or directory"):
        run(backup(journal._path, target))


# Interrupted


def test_a_backup_that_is_given_up_leaves_nothing_and_the_wal_begins_anew(
    journal: SqliteJournal, target: Path
) -> None:
    steps = backup(journal._path, target, pages=1)
    next(steps)
    assert len(list(target.parent.iterdir())) == 1

    steps.close()

    assert list(target.parent.iterdir()) == []
    assert journal._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").get == (0, 0, 0)


def test_an_interrupt_between_two_steps_leaves_nothing(
    journal: SqliteJournal, target: Path
) -> None:
    steps = backup(journal._path, target, pages=1)
    next(steps)

    with pytest.raises(KeyboardInterrupt):
        steps.throw(KeyboardInterrupt)

    assert list(target.parent.iterdir()) == []


FULL = """
import resource, sys
from rockets.journal import BackupFailed, backup
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
try:
    list(backup(sys.argv[1], sys.argv[2], pages=1))
except BackupFailed as error:
    sys.exit(str(error))
finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
"""


@pytest.mark.slow
@pytest.mark.parametrize("share", [0, 0.5])
def test_without_room_for_all_of_it_nothing_is_left(
    journal: SqliteJournal, path: Path, target: Path, share: float
) -> None:
    """A file may not grow past a limit, which is how a full disk looks to who writes."""
    journal._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    room = int(path.stat().st_size * share) // 4096 * 4096
    command = [sys.executable, "-c", FULL, str(path), str(target), str(room)]

    copying = subprocess.run(command, capture_output=True, text=True, check=False)

    assert copying.returncode == 1
    assert copying.stderr.startswith("no backup of ")
    assert list(target.parent.iterdir()) == []
    assert len(journal.follow(START, limit=99)) == 40


# Verified


def test_a_copy_that_the_disk_has_damaged_is_found(journal: SqliteJournal, target: Path) -> None:
    steps = backup(journal._path, target)
    next(steps)
    [part] = target.parent.iterdir()
    content = bytearray(part.read_bytes())
    content[4096:8192] = bytes(4096)
    part.write_bytes(content)

    with pytest.raises(BackupFailed, match="the copy is damaged: "):
        run(steps)

    assert list(target.parent.iterdir()) == []


def test_a_copy_that_ends_too_early_is_found(journal: SqliteJournal, target: Path) -> None:
    steps = backup(journal._path, target)
    next(steps)
    [part] = target.parent.iterdir()
    edit(part, "DELETE FROM records WHERE position = 40")

    with pytest.raises(BackupFailed, match=r"the copy ends at position 39, the source at 40$"):
        run(steps)

    assert list(target.parent.iterdir()) == []
