"""A verdict compares medians, sees a miss, and gives no figure where a round failed."""

from collections.abc import Mapping

import pytest

from rockets.bench.cases import AtLeast, Case, LanesHold, NoTarget, P99AtMost
from rockets.bench.outcome import Failed, Outcome
from rockets.bench.verdict import Verdict, cells, judge, remarks

POST = Case("ours", "", AtLeast(0.5), reference="floor", no_op="no-op")
BATCH = Case("ours", "", AtLeast(0.5, rate=100_000), reference="floor")
LATENCY = Case("ours", "", P99AtMost(2, extra_ms=3), reference="floor")
MIXED = Case("mixed", "", LanesHold())


def rates(**measured: list[float]) -> dict[str, list[Outcome | Failed]]:
    """Write the rounds of measurements that have a rate only."""
    return {
        name.replace("_", "-"): [Outcome(rate) for rate in values]
        for name, values in measured.items()
    }


def test_the_ratio_is_that_of_the_medians() -> None:
    results = rates(ours=[700, 100, 600], floor=[1000, 1100, 10], no_op=[50, 60, 40])

    verdict = judge(POST, results)

    assert cells(verdict) == ("ours", "600/s", "1,000/s", "0.60 x", "≥ 0.5 x", "yes", "12.0 x")
    assert verdict.passed


def test_without_a_target_the_ratio_is_the_median_of_the_rounds_ratios() -> None:
    rounds = zip([100, 400, 900], [500, 1000, 1000], strict=True)
    results: dict[str, list[Outcome | Failed]] = {"ours": [], "inserts": []}
    for ours, reference in rounds:
        results["ours"].append(Outcome(ours, 2, 8, {"recordsPerCommit": 30.4}))
        results["inserts"].append(Outcome(reference, details={"rows": 300, "commits": 10}))

    verdict = judge(Case("ours", "", NoTarget(), reference="inserts"), results)

    assert cells(verdict) == ("ours", "400/s", "1,000/s", "0.40 x", "no target", "-", "-")
    assert verdict.passed
    assert remarks([verdict]) == [
        "ours: ratios from 0.20 to 0.90; 30 records to a commit, the reference has 30; "
        "p50 2.00 ms, p99 8.00 ms"
    ]


def test_without_a_target_a_failure_is_one_all_the_same() -> None:
    results: dict[str, list[Outcome | Failed]] = {
        "ours": [Outcome(1)],
        "inserts": [Failed("no server")],
    }

    verdict = judge(Case("ours", "", NoTarget(), reference="inserts"), results)

    assert (cells(verdict)[5], verdict.passed) == ("failed", False)


@pytest.mark.parametrize(
    ("ours", "reached", "times"), [(499, "NO", "10.0 x"), (500, "yes", "10.0 x")]
)
def test_a_miss_is_seen(ours: float, reached: str, times: str) -> None:
    verdict = judge(POST, rates(ours=[ours], floor=[1000], no_op=[ours / 10]))

    assert cells(verdict)[5:] == (reached, times)
    assert verdict.passed == (reached == "yes")


def test_too_little_above_the_no_op_is_a_miss_of_its_own() -> None:
    verdict = judge(POST, rates(ours=[900], floor=[1000], no_op=[91]))

    assert cells(verdict)[5:] == ("yes", "9.9 x, not 10")
    assert not verdict.passed


@pytest.mark.parametrize(
    ("ours", "reference", "reached"),
    [(100_000, 900_000, True), (60_000, 120_000, True), (59_000, 120_000, False)],
)
def test_a_batch_reaches_either_target(ours: float, reference: float, reached: bool) -> None:
    assert judge(BATCH, rates(ours=[ours], floor=[reference])).reached == reached


@pytest.mark.parametrize(("p99_ms", "reached"), [(5.0, True), (5.1, False)])
def test_latency_is_compared_in_its_percentile(p99_ms: float, reached: bool) -> None:
    ours = Outcome(1000, p99_ms=p99_ms, details={"latenessP99Ms": 0.25})

    verdict = judge(LATENCY, {"ours": [ours], "floor": [Outcome(9, p99_ms=1.0)]})

    assert verdict.reached == reached
    assert cells(verdict)[1:4] == (f"{p99_ms:.2f} ms", "1.00 ms", f"{p99_ms:.2f} x")
    assert remarks([verdict]) == [
        "ours: sent 1,000/s; p99 of the sender's own lateness: 0.25 ms",
    ]


LANES: Mapping[str, float] = {"posts": 900, "gets": 100, "fast": 900, "lent": 100}


@pytest.mark.parametrize(
    ("differing", "hold"),
    [
        ({}, True),
        ({"lent": 101}, True),  # the question for the counts itself
        ({"lent": 102}, False),
        ({"fast": 840, "lent": 96}, True),  # 64 were under way at the end
        ({"fast": 839, "lent": 96}, False),
        ({"fast": 901}, False),
        ({"fast": 500, "lent": 500}, False),  # connections stayed on the slow lane
        ({"fast": 0, "lent": 1000}, False),
    ],
)
def test_lanes_hold_only_when_nothing_but_the_gets_was_lent(
    differing: dict[str, float], hold: bool
) -> None:
    good = Outcome(1, details=LANES)

    verdict = judge(MIXED, {"mixed": [good, Outcome(1, details={**LANES, **differing}), good]})

    assert verdict.reached == hold
    assert cells(verdict)[2:5] == ("-", "-", "only GETs lent")
    [remark] = remarks([verdict])
    assert "lent for 100 GETs sent" in remark


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("ours", "ours: 3 reads"),
        ("floor", "ours: floor: 3 reads"),
        ("no-op", "ours: no-op: 3 reads"),
    ],
)
def test_one_failed_round_takes_the_figure_away(bad: str, words: str) -> None:
    results = rates(ours=[700, 700], floor=[1000, 1000], no_op=[50, 50])
    results[bad][1] = Failed("3 reads")

    verdict = judge(POST, results)

    assert cells(verdict) == ("ours", "-", "-", "-", "≥ 0.5 x", "failed", "-")
    assert remarks([verdict]) == [words]
    assert not verdict.passed


def test_what_is_only_measured_beside_it_must_work_too() -> None:
    case = Case("ours", "", AtLeast(0.5), reference="floor", beside=("more",))
    results = rates(ours=[700], floor=[1000]) | {"more": [Failed("broken")]}

    assert judge(case, results) == Verdict("ours", "≥ 0.5 x", False, failure="more: broken")
