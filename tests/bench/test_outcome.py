"""Percentiles by nearest rank, medians figure by figure."""

import pytest

from rockets.bench.outcome import MeasurementFailed, Outcome, median_of, percentile, tell


@pytest.mark.parametrize(
    ("share", "value"), [(0, 1), (0.01, 1), (0.5, 50), (0.99, 99), (0.991, 100), (1, 100)]
)
def test_a_percentile_is_a_value_that_was_measured(share: float, value: float) -> None:
    assert percentile(range(1, 101), share) == value


def test_of_one_value_every_percentile_is_that() -> None:
    assert percentile([7.0], 0.99) == 7.0


def test_each_figure_has_a_median_of_its_own() -> None:
    outcomes = [
        Outcome(10, 1.0, 9.0, {"a": 1, "b": 5}),
        Outcome(30, 3.0, 7.0, {"a": 3}),
        Outcome(20, 2.0, 8.0, {"a": 2}),
    ]

    assert median_of(outcomes) == Outcome(20, 2.0, 8.0, {"a": 2})
    assert median_of([Outcome(1), Outcome(2)]) == Outcome(1.5)


def test_a_process_tells_its_outcome_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    tell(lambda: Outcome(2.0, p99_ms=1.5))

    assert capsys.readouterr().out == '{"rate":2.0,"p99Ms":1.5}\n'


def test_a_process_without_a_figure_ends_with_the_reason() -> None:
    def measure() -> Outcome:
        raise MeasurementFailed("nobody answered")

    with pytest.raises(SystemExit, match="nobody answered"):
        tell(measure)
