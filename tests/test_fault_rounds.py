"""How many rounds of faults are run, and that a night runs all tests that have any."""

import re
from pathlib import Path

import pytest

import tests.fault_rounds
from tests.fault_rounds import rounds

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("percent", "whole", "expected"),
    [(100, 50, 50), (100, 10_000, 10_000), (5, 100, 5), (5, 50, 3), (5, 10, 1), (1, 10, 1)],
)
def test_a_part_of_the_rounds_is_never_none(
    monkeypatch: pytest.MonkeyPatch, percent: int, whole: int, expected: int
) -> None:
    monkeypatch.setattr(tests.fault_rounds, "ROUNDS", percent)

    assert rounds(whole) == expected


def test_a_night_runs_every_test_that_has_rounds() -> None:
    nightly = re.findall(r"(?m)^\t\$\(NIGHTLY\) (.+)$", (ROOT / "Makefile").read_text())
    having = {
        path.relative_to(ROOT).as_posix()
        for path in ROOT.glob("tests/**/test_*.py")
        if "from tests.fault_rounds import" in path.read_text() and path != Path(__file__)
    }

    assert sorted(" ".join(nightly).split()) == sorted(having)
