"""Durations are written as in Go, and nothing else is one."""

import click
import pytest

from rockets.cli.duration import Duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0.0), ("500ms", 0.5), ("1.5s", 1.5), ("2m", 120.0), ("1m30s", 90.0), ("20µs", 2e-5)],
)
def test_a_duration_is_written_as_in_go(text: str, seconds: float) -> None:
    assert Duration().convert(text, None, None) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "ms", "-1s", "1s 2s", "1d", "1,5s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a duration such as"):
        Duration().convert(text, None, None)
