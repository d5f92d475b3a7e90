"""What the measurements make of what a stand finds, on a stand where nothing runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from rockets.bench import open_loop
from rockets.bench.measurements import MEASUREMENTS, OPEN_LOOP
from rockets.bench.outcome import MeasurementFailed, Outcome
from rockets.bench.processes import Cores
from rockets.bench.stand import Stand
from rockets.bench.wrk import Load


class PaperStand(Stand):
    """Notes what it is asked for and finds the same every time."""

    def __init__(self) -> None:
        super().__init__(Path(), cores=Cores(0, 0), seconds=3, wrk="")
        self.asked: list[object] = []

    @contextmanager
    def server(self, durability: str, *more: str, pinned: bool = True) -> Iterator[str]:
        self.asked.append(durability)
        yield "http://127.0.0.1:7"

    def wrk(self, load: Load, url: str) -> Outcome:
        self.asked.append(load)
        return Outcome(1000, details={"posts": 900, "gets": 100})

    def load(self, module: str, plan: msgspec.Struct) -> Outcome:
        self.asked += [module, plan]
        return Outcome(1)


def answer_health(monkeypatch: pytest.MonkeyPatch, **counts: int) -> None:
    """Let GET /health answer with these counts."""
    content = msgspec.json.encode({"counts": counts, "status": "ok"})
    monkeypatch.setattr("rockets.bench.measurements.ask", lambda *_: content)


def test_mixed_load_is_measured_with_the_counts_of_both_lanes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer_health(monkeypatch, fastAnswers=880, lentRequests=99, rockets=20)
    stand = PaperStand()

    outcome = MEASUREMENTS["mixed-64"](stand, {})

    assert stand.asked == ["full", Load("mixed", connections=64)]
    assert outcome == Outcome(1000, details={"posts": 900, "gets": 100, "fast": 880, "lent": 99})


def test_a_service_that_does_not_count_its_lanes_leaves_no_figure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer_health(monkeypatch, fastAnswers=880)

    with pytest.raises(MeasurementFailed, match="GET /health has no count 'lentRequests'"):
        MEASUREMENTS["mixed-64"](PaperStand(), {})


def test_latency_is_measured_at_half_the_rate_of_the_same_round() -> None:
    stand = PaperStand()

    MEASUREMENTS["latency-half-rate"](stand, {"post-full-64": Outcome(9000)})

    assert stand.asked == ["full", OPEN_LOOP, open_loop.Plan(7, 4500, 3, connections=64)]


def test_without_that_rate_there_is_no_latency() -> None:
    with pytest.raises(MeasurementFailed, match="no rate of post-full-64"):
        MEASUREMENTS["latency-half-rate"](PaperStand(), {})


@pytest.mark.parametrize(
    ("name", "durability", "load"),
    [
        ("post-memory-64", "memory", Load("distinct", connections=64)),
        ("post-normal-64", "normal", Load("distinct", connections=64)),
        ("post-full-64", "full", Load("distinct", connections=64)),
        ("post-full-256", "full", Load("distinct", connections=256)),
        ("post-full-3", "full", Load("distinct", connections=3)),
        ("post-new-connection", "normal", Load("distinct", connections=64, close=True)),
        ("duplicates-64", "full", Load("same", connections=64)),
        ("new-rockets-64", "full", Load("new", connections=64)),
    ],
)
def test_a_case_that_posts_is_measured_as_its_name_says(
    name: str, durability: str, load: Load
) -> None:
    stand = PaperStand()

    MEASUREMENTS[name](stand, {})

    assert stand.asked == [durability, load]
