"""The tables fit together: what a case needs is measured, and all that is measured is needed."""

import pytest

from rockets.bench.cases import CASES, AtLeast, LanesHold, NoTarget, P99AtMost, Target, needed
from rockets.bench.measurements import MEASUREMENTS


def test_every_measurement_belongs_to_a_case_and_every_case_has_its_measurements() -> None:
    assert {name for case in CASES.values() for name in case.needs} == set(MEASUREMENTS)


def test_a_choice_of_cases_measures_what_they_need_in_the_order_of_a_round() -> None:
    assert needed(["get-one-64"]) == ["floor-64", "get-one-64"]
    assert needed(["latency-half-rate"]) == ["post-full-64", "commits-full", "latency-half-rate"]
    assert needed(CASES) == list(MEASUREMENTS)


def test_every_single_post_is_held_against_the_no_op_in_its_mode() -> None:
    posts = {case.name: case.no_op for case in CASES.values() if case.no_op}

    assert posts == {
        "post-memory-64": "no-op-64",
        "post-normal-64": "no-op-64",
        "post-full-64": "no-op-64",
        "post-full-256": "no-op-64",
        "post-full-3": "no-op-64",
        "post-new-connection": "no-op-new-connection",
        "duplicates-64": "no-op-64",
        "new-rockets-64": "no-op-64",
    }


@pytest.mark.parametrize(
    ("target", "text"),
    [
        (AtLeast(0.65), "≥ 0.65 x"),
        (AtLeast(0.5, rate=100_000), "≥ 0.5 x or 100,000/s"),
        (P99AtMost(2, extra_ms=3), "p99 ≤ 2 x + 3 ms"),
        (LanesHold(), "only GETs lent"),
        (NoTarget(), "no target"),
    ],
)
def test_a_target_says_what_it_asks(target: Target, text: str) -> None:
    assert str(target) == text
