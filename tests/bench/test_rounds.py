"""In every round everything comes once, in one order, whatever fails."""

from collections.abc import Mapping
from pathlib import Path

from rockets.bench.measurements import Measure
from rockets.bench.outcome import Failed, MeasurementFailed, Outcome
from rockets.bench.processes import Cores
from rockets.bench.rounds import failures, run_rounds
from rockets.bench.stand import Stand

STAND = Stand(Path(), cores=Cores(0, 0), seconds=1, wrk="")


def test_ours_and_the_references_alternate() -> None:
    order: list[str] = []
    said: list[str] = []

    def measure(name: str) -> Measure:
        def noted(_stand: Stand, _found: Mapping[str, Outcome]) -> Outcome:
            order.append(name)
            return Outcome(len(order))

        return noted

    results = run_rounds(
        {"floor": measure("floor"), "ours": measure("ours")}, STAND, rounds=2, say=said.append
    )

    assert order == ["floor", "ours", "floor", "ours"]
    assert results == {"floor": [Outcome(1), Outcome(3)], "ours": [Outcome(2), Outcome(4)]}


def test_a_failure_is_noted_and_the_others_go_on_without_its_figure() -> None:
    said: list[str] = []
    known: list[list[str]] = []

    def fail(_stand: Stand, _found: Mapping[str, Outcome]) -> Outcome:
        raise MeasurementFailed("3 reads that failed")

    def measure(_stand: Stand, found: Mapping[str, Outcome]) -> Outcome:
        known.append(list(found))
        return Outcome(1000, p99_ms=2)

    table = {"first": measure, "bad": fail, "last": measure}
    results = run_rounds(table, STAND, rounds=1, say=said.append)

    assert results["bad"] == [Failed("3 reads that failed")]
    assert known == [[], ["first"]]
    assert said == [
        "round 1 of 1: first: 1,000/s, p99 2.00 ms",
        "round 1 of 1: bad: failed: 3 reads that failed",
        "round 1 of 1: last: 1,000/s, p99 2.00 ms",
    ]


def test_a_reason_is_told_once() -> None:
    assert failures([Failed("a"), Outcome(1), Failed("b"), Failed("a")]) == ["a", "b"]
