"""The bytes held for all requests together: the bound, and giving back."""

import pytest

from rockets.web.byte_budget import ByteBudget


class Full(Exception):
    """There is no room."""


@pytest.mark.parametrize("size", [99, 100])
def test_bodies_up_to_the_total_are_held(size: int) -> None:
    budget = ByteBudget(100, full=Full)
    with budget.hold() as holding:
        holding.grow_to(size)
        assert budget.used == size
    assert budget.used == 0


def test_a_body_over_the_total_is_refused_and_holds_nothing() -> None:
    budget = ByteBudget(100, full=Full)
    with pytest.raises(Full), budget.hold() as holding:
        holding.grow_to(101)

    assert budget.used == 0


@pytest.mark.parametrize(("size", "fits"), [(39, True), (40, True), (41, False)])
def test_the_total_is_of_all_bodies_together(size: int, fits: bool) -> None:
    budget = ByteBudget(100, full=Full)
    with budget.hold() as first:
        first.grow_to(60)
        with budget.hold() as second:
            if fits:
                second.grow_to(size)
            else:
                with pytest.raises(Full):
                    second.grow_to(size)
            assert budget.used == 60 + (size if fits else 0)
        assert budget.used == 60
    assert budget.used == 0


def test_a_refused_growth_leaves_what_was_held_before() -> None:
    budget = ByteBudget(100, full=Full)
    with budget.hold() as holding:
        holding.grow_to(60)
        with pytest.raises(Full):
            holding.grow_to(101)
        assert budget.used == 60
        holding.grow_to(100)
        holding.grow_to(10)  # a share may shrink as well
        assert budget.used == 10
    assert budget.used == 0


def test_a_share_is_given_back_after_an_error_of_its_request() -> None:
    budget = ByteBudget(100, full=Full)
    with pytest.raises(ZeroDivisionError), budget.hold() as holding:
        holding.grow_to(100)
        raise ZeroDivisionError
    assert budget.used == 0

    with budget.hold() as holding:
        holding.grow_to(100)
        assert budget.used == 100


@pytest.mark.parametrize(("size", "counted"), [(9, 0), (10, 0), (11, 11)])
def test_what_is_small_is_let_in_uncounted(size: int, counted: int) -> None:
    budget = ByteBudget(20, full=Full, small_max=10)
    with budget.hold() as first:
        first.grow_to(size)
        assert budget.used == counted
    with budget.hold() as large, budget.hold() as small:
        large.grow_to(20)
        small.grow_to(10)


def test_a_share_that_was_ended_is_given_back_once() -> None:
    budget = ByteBudget(100, full=Full)
    with budget.hold() as holding:
        holding.grow_to(60)
        holding.end()
    assert budget.used == 0
