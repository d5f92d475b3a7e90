"""The bare commits fill the journal's own table, so that they are the right thing to compare."""

from itertools import islice
from pathlib import Path

import pytest

from rockets.bench import commits
from rockets.bench.bodies import CHANNELS, messages
from rockets.journal.sqlite import SqliteJournal


@pytest.mark.parametrize("rows_per_commit", [1, 1_000])
def test_what_was_committed_is_a_journal(tmp_path: Path, rows_per_commit: int) -> None:
    path = tmp_path / "rockets.db"

    outcome = commits.measure(commits.Plan(str(path), "full", 0.1, rows_per_commit))

    rows = int(outcome.details["commits"]) * rows_per_commit
    journal = SqliteJournal(path)
    assert journal.head() == rows
    first = journal.read(CHANNELS[0], 1, 1, limit=1)  # the checksum is verified
    assert [record.body for record in first] == [next(messages()).body]
    journal.close()
    assert outcome.rate > 0
    assert outcome.p50_ms is not None
    assert outcome.p99_ms is not None
    assert outcome.p50_ms <= outcome.p99_ms


def test_a_long_wal_is_copied_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commits, "WAL_PAGES_MAX", 10)
    path = tmp_path / "rockets.db"

    commits.measure(commits.Plan(str(path), "normal", 0.1, 100))

    assert path.stat().st_size > 20 * 4096  # without a checkpoint it would have no pages of rows


def test_every_row_differs() -> None:
    rows = list(islice(commits._rows(messages()), 100))

    assert len({(channel, number) for channel, number, *_ in rows}) == 100
