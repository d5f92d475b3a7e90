"""A row reaches its target at the bound and not beyond it."""

import pytest

from rockets.bench.outcome import Failed
from rockets.bench.scale_cases import CASES
from rockets.bench.scale_found import HEADINGS, Found, Row, cells

FASTER = Row("fast", "/s", "ratio at least", 0.5, "another")
SHORTER = Row("short", " ms", "ratio at most", 2, "another")
SMALLER = Row("small", " B", "at most", 1024)


@pytest.mark.parametrize(
    ("row", "found", "reached"),
    [
        (FASTER, Found(501, 1000), True),
        (FASTER, Found(500, 1000), True),
        (FASTER, Found(499, 1000), False),
        (SHORTER, Found(1.9, 1.0), True),
        (SHORTER, Found(2.0, 1.0), True),
        (SHORTER, Found(2.1, 1.0), False),
        (SMALLER, Found(1023), True),
        (SMALLER, Found(1024), True),
        (SMALLER, Found(1025), False),
    ],
)
def test_the_bound_itself_is_enough(row: Row, found: Found, reached: bool) -> None:
    verdict = row.judge(found)

    assert (verdict.reached, verdict.passed) == (reached, reached)


def test_what_failed_reached_nothing_and_says_why() -> None:
    verdict = FASTER.judge(Failed("wrk is not installed"))

    assert not verdict.passed
    assert verdict.failure == "wrk is not installed"
    assert cells(verdict) == ("fast", "-", "-", "-", "≥ 0.5 x", "failed")


@pytest.mark.parametrize(
    ("row", "found", "texts"),
    [
        (FASTER, Found(1600, 2000), ("fast", "1,600/s", "2,000/s", "0.80 x", "≥ 0.5 x", "yes")),
        (SHORTER, Found(9.0, 3.0), ("short", "9.00 ms", "3.00 ms", "3.00 x", "≤ 2 x", "NO")),
        (SMALLER, Found(900.4), ("small", "900 B", "-", "-", "≤ 1,024 B", "yes")),
    ],
)
def test_a_row_is_written_under_the_headings(
    row: Row, found: Found, texts: tuple[str, ...]
) -> None:
    assert cells(row.judge(found)) == texts
    assert len(texts) == len(HEADINGS)


def test_the_rows_have_names_of_their_own_and_ratios_a_reference() -> None:
    rows = [row for case in CASES.values() for row in case.rows]

    assert len({row.name for row in rows}) == len(rows)
    assert all((row.reference is None) == (row.bound == "at most") for row in rows)


def test_the_targets_are_those_that_were_agreed() -> None:
    targets = {row.name: row.target for case in CASES.values() for row in case.rows}

    assert targets == {
        "memory": "≤ 1,024 B",
        "single-million": "≥ 0.5 x",
        "batch-million": "≥ 0.6 x",
        "list-p99": "≤ 150 ms",
        "list-cpu": "≤ 1.15 x",
        "start-clean": "≤ 10 s",
        "start-killed": "≤ 15 s",
        "history": "≥ 0.8 x",
        "reverse": "≤ 64 MiB",
        "hot-rocket": "≤ 2 x",
    }
