"""One SQLite file that several instances share: turns, following, rounds, and a lost file."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from threading import Event, Timer

import apsw
import pytest

from rockets.journal import (
    JournalBehind,
    JournalFailed,
    JournalRefused,
    Position,
    Record,
    Round,
    SharedJournal,
    SharedSqliteJournal,
    SqliteJournal,
    hold_file,
    sqlite,
)
from rockets.journal.sqlite_file import checkpoint

START = Position(0)

Join = Callable[[], SharedSqliteJournal]


def record(stream: str, number: int) -> Record:
    return Record(stream, number, b"{}", 7)


@pytest.fixture
def join(path: Path) -> Iterator[Join]:
    """Give what opens one more journal on the file, which is held."""
    with ExitStack() as opened:
        opened.enter_context(hold_file(path))
        yield lambda: opened.enter_context(closing(SharedSqliteJournal(path)))


def test_it_is_a_shared_journal_and_the_plain_one_is_not(join: Join, tmp_path: Path) -> None:
    assert isinstance(join(), SharedJournal)
    with closing(SqliteJournal(tmp_path / "plain.db")) as plain:
        assert not isinstance(plain, SharedJournal)


def test_a_file_that_nobody_holds_is_refused(path: Path) -> None:
    with pytest.raises(JournalRefused):  # there is none
        SharedSqliteJournal(path)
    with closing(SqliteJournal(path)):
        pass
    with pytest.raises(JournalRefused, match="nobody holds it"):
        SharedSqliteJournal(path)


def test_a_held_file_is_refused_to_whoever_wants_it_alone(path: Path, join: Join) -> None:
    with pytest.raises(JournalRefused, match="held by process"):
        SqliteJournal(path)


def test_instances_see_each_others_records_in_the_order_of_commits(join: Join) -> None:
    one, two = join(), join()
    one.append([record("a", 1)])

    appended = two.append([record("a", 1), record("b", 1)])
    again = one.append([record("b", 1), record("b", 2)])

    assert (appended.new, appended.before, appended.head) == ((False, True), 1, 2)
    assert (again.new, again.before, again.head) == ((False, True), 2, 3)
    everything = [(each.position, each.stream, each.number) for each in one.follow(START, limit=9)]
    assert everything == [(1, "a", 1), (2, "b", 1), (3, "b", 2)]
    assert one.head() == two.head() == 3


def test_commits_of_several_threads_take_turns(join: Join) -> None:
    """Shuffled duplicates from three sides: one winner for each, positions without a hole."""
    done = Event()

    def work(journal: SharedSqliteJournal, side: int) -> tuple[int, int]:
        commits = added = 0
        while not done.is_set():
            numbers = range(commits * 2, commits * 2 + 6)
            batch = [record("r", 1 + number) for number in (numbers, numbers[::-1])[side % 2]]
            appended = journal.append(batch)
            assert appended.head - appended.before == sum(appended.new)
            added += sum(appended.new)
            commits += 1
        return commits, added

    with ThreadPoolExecutor() as pool:
        journals = [join() for _ in range(3)]
        working = [pool.submit(work, each, side) for side, each in enumerate(journals)]
        time.sleep(1)  # how many turns each gets in a second is what is looked at
        done.set()
        results = [each.result() for each in working]

    head = journals[0].head()
    assert sum(added for _, added in results) == head
    positions = [each.position for each in journals[1].follow(START, limit=10**6)]
    assert positions == list(range(1, head + 1))
    commits = [commits for commits, _ in results]
    assert min(commits) * 3 > max(commits), "one of them starves"


def test_a_wait_ends_with_the_commit_of_another_or_of_its_own(join: Join) -> None:
    one, two = join(), join()
    with ThreadPoolExecutor() as pool:
        for writer in (one, two):
            head = one.head()
            waiting = pool.submit(two.wait_behind, head, 20.0)
            writer.append([record("r", head + 1)])

            assert waiting.result(timeout=5)
    assert two.wait_behind(START, 0.0)


def test_a_wait_for_nothing_ends_in_time(join: Join) -> None:
    one = join()
    one.append([record("r", 1)])
    began = time.monotonic()

    assert not one.wait_behind(one.head(), 0.05)

    assert 0.05 <= time.monotonic() - began < 2


def test_an_interrupted_wait_ends_at_once(join: Join) -> None:
    one = join()
    began = time.monotonic()
    Timer(0.05, one.interrupt).start()

    assert not one.wait_behind(START, 20.0)

    assert time.monotonic() - began < 0.55


def test_one_at_a_time_claims_a_round(join: Join) -> None:
    one, two = join(), join()

    assert one.claim_round()
    assert not two.claim_round()
    one.end_round(Round(START, "1", 0))
    assert two.claim_round()
    assert not one.claim_round()
    two.release_round()
    assert one.claim_round()
    one.close()
    assert two.claim_round()


def test_a_file_that_has_lost_records_is_told_by_whatever_asks_it(path: Path, join: Join) -> None:
    asks: tuple[Callable[[SharedSqliteJournal], object], ...] = (
        lambda journal: journal.head(),
        lambda journal: journal.follow(Position(2), limit=9),
        lambda journal: journal.append([record("b", 1)]),
        lambda journal: journal.wait_behind(Position(2), 0.1),
    )
    for ask in asks:
        one = join()
        one.append([record("a", 1), record("a", 2)])
        assert one.head() >= 2
        with closing(apsw.Connection(str(path))) as foreign:
            foreign.execute("DELETE FROM records")

        with pytest.raises(JournalBehind, match="position 0"):
            ask(one)

        with pytest.raises(JournalFailed):
            one.append([record("a", 3)])
        one.close()


def test_another_file_in_its_place_is_told(path: Path, join: Join) -> None:
    one = join()
    one.append([record("a", 1)])
    path.rename(path.with_suffix(".old"))

    with pytest.raises(JournalBehind, match="another file"):
        one.head()


def test_a_long_wal_begins_anew_while_others_are_there(
    path: Path, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "WAL_PAGES_MAX", 100)
    one, two = join(), join()
    for number in range(1, 61):
        writer = (one, two)[number % 2]
        writer.append([Record("r", number, os.urandom(60_000), 1)])
        if writer.maintenance_due:
            writer.prepare_maintenance()
            writer.maintain()

    with closing(apsw.Connection(str(path))) as foreign:
        pages = checkpoint(foreign, "PASSIVE").pages
    assert 0 < pages < 400, "nine hundred were written"
    assert len(one.read("r", 1, 60, limit=999)) == 60


APPENDING = """
import sys
from rockets.journal import Record, SharedSqliteJournal

journal = SharedSqliteJournal(sys.argv[1])
number = 0
while True:
    number += 1
    journal.append([Record(sys.argv[2], number, b"{}", 1)])
    print(number, flush=True)
"""


@pytest.mark.slow
def test_a_process_that_is_killed_in_its_turn_holds_up_no_other(path: Path, join: Join) -> None:
    one = join()
    for life in range(5):
        stream = f"killed-{life}"
        command = [sys.executable, "-c", APPENDING, str(path), stream]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            for number in range(1, 20 + life):
                one.append([record(f"own-{life}", number)])
            process.kill()
            last = int(([b"1", *process.stdout.read().split()])[-1])

        began = time.monotonic()
        one.append([record("after", life + 1)])

        assert time.monotonic() - began < 1
        held = [each.number for each in one.read(stream, 1, 2**53, limit=10**6)]
        assert held[:last] == list(range(1, last + 1)), "nothing acknowledged is lost"
        assert len(held) <= last + 1
