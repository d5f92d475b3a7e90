"""The run budget: both limits just under, at and over."""

import pytest

from rockets.actors.run_budget import RunBudget


@pytest.mark.parametrize(
    ("used", "mine", "runs_max"), [(0, 0, 5), (9, 3, 4), (10, 3, 3), (12, 3, 3), (4, 5, 5)]
)
def test_a_ledger_may_grow_to_its_own_limit_and_by_what_is_left_of_the_total(
    used: int, mine: int, runs_max: int
) -> None:
    budget = RunBudget(total_max=10, rocket_max=5)
    budget.change(used)

    assert budget.gaps_max(mine) == runs_max
