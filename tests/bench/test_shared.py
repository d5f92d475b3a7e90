"""What is shared is measured beside inserts of the same size, on a stand where nothing runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from rockets.bench import batches, commits
from rockets.bench.outcome import MeasurementFailed, Outcome
from rockets.bench.processes import Cores
from rockets.bench.shared import BATCHES, COMMITS, INSERTS, SHARED, Plan
from rockets.bench.stand import Stand
from rockets.bench.stores import Kind
from rockets.bench.wrk import Load

URL = "http://127.0.0.1:7"


class PaperStand(Stand):
    """Notes what it is asked for and finds the same every time."""

    def __init__(self) -> None:
        super().__init__(Path(), cores=Cores(0, 0), seconds=3, wrk="")
        self.asked: list[object] = []

    @contextmanager
    def store(self, kind: Kind) -> Iterator[str]:
        yield f"{kind}://here"

    @contextmanager
    def server(self, durability: str, *more: str, pinned: bool = True) -> Iterator[str]:
        self.asked.append((durability, *more, pinned))
        yield URL

    def wrk(self, load: Load, url: str) -> Outcome:
        self.asked.append(load)
        return Outcome(1)

    def load(self, module: str, plan: msgspec.Struct) -> Outcome:
        self.asked += [module, plan]
        return Outcome(1)

    bare = load


def answer_health(monkeypatch: pytest.MonkeyPatch, **counts: int) -> None:
    """Let GET /health answer with these counts."""
    content = msgspec.json.encode({"counts": counts})
    monkeypatch.setattr("rockets.bench.shared.ask", lambda *_: content)


@pytest.mark.parametrize(
    ("place", "flags"),
    [
        ("sqlite", ("full", True)),
        ("sqlite-2", ("full", "--workers", "2", False)),
        ("postgresql", ("full", "--journal", "postgresql://here", True)),
        ("redis", ("full", "--journal", "redis://here", True)),
    ],
)
def test_each_place_gets_both_loads(
    monkeypatch: pytest.MonkeyPatch, place: str, flags: tuple[object, ...]
) -> None:
    answer_health(monkeypatch, commits=10, committedRecords=305)
    stand = PaperStand()

    posted = SHARED[f"post-{place}"](stand, {})
    SHARED[f"batch-{place}"](stand, {})

    plan = batches.Plan(7, 3, "ndjson")
    assert stand.asked == [flags, Load("distinct", connections=64), flags, BATCHES, plan]
    assert posted == Outcome(1, details={"recordsPerCommit": 30.5})


@pytest.mark.parametrize("counts", [{}, {"commits": 0, "committedRecords": 0}])
def test_a_service_that_tells_no_commits_leaves_no_figure(
    monkeypatch: pytest.MonkeyPatch, counts: dict[str, int]
) -> None:
    answer_health(monkeypatch, **counts)

    with pytest.raises(MeasurementFailed, match="GET /health tells no commits"):
        SHARED["post-redis"](PaperStand(), {})


@pytest.mark.parametrize(("per_commit", "rows"), [(0.2, 1), (31.6, 32)])
def test_single_messages_are_held_against_commits_of_their_size(
    per_commit: float, rows: int
) -> None:
    found = {
        f"post-{place}": Outcome(1, details={"recordsPerCommit": per_commit})
        for place in ("redis", "sqlite-2")
    }
    stand = PaperStand()

    SHARED["inserts-post-redis"](stand, found)
    SHARED["inserts-post-sqlite-2"](stand, found)

    module, plan, other, on_file = stand.asked
    assert (module, plan) == (INSERTS, Plan("redis", "redis://here", 3, rows))
    assert other == COMMITS
    assert isinstance(on_file, commits.Plan)
    assert (on_file.rows_per_commit, on_file.durability) == (rows, "full")


def test_without_that_size_there_is_no_reference() -> None:
    with pytest.raises(MeasurementFailed, match="no post-redis whose commits"):
        SHARED["inserts-post-redis"](PaperStand(), {})


def test_batches_are_held_against_a_thousand_rows() -> None:
    stand = PaperStand()

    SHARED["inserts-batch-postgresql"](stand, {})

    assert stand.asked == [INSERTS, Plan("postgresql", "postgresql://here", 3, 1_000)]
