"""Which rockets have changed lately: each once, in the order of their last change, and bounded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rockets.actors.changes import Changes
from rockets.actors.read_model import ReadModel
from rockets.domain.ledger import Ledger
from rockets.domain.messages import Channel

A, B, C = Channel("a"), Channel("b"), Channel("c")


def changed(*channels: Channel, changed_max: int = 10, since: int = 0) -> Changes:
    """Note a change of each of these, in their order."""
    changes = Changes(since, changed_max=changed_max)
    for number, channel in enumerate(channels, since + 1):
        changes.note(channel, number)
    return changes


def test_each_rocket_is_given_once_with_its_last_change() -> None:
    changes = changed(A, B, A, C, A)

    assert changes.since(0) == [(B, 2), (C, 4), (A, 5)]
    assert changes.since(2) == [(C, 4), (A, 5)]
    assert changes.since(4) == [(A, 5)]
    assert changes.since(5) == []


@pytest.mark.parametrize(("rockets", "reached"), [(9, 0), (10, 0), (11, 1)])
def test_past_the_limit_the_rocket_that_changed_longest_ago_is_forgotten(
    rockets: int, reached: int
) -> None:
    changes = changed(*(Channel(f"r{place}") for place in range(rockets)))

    assert [number for number in range(rockets + 1) if changes.reaches(number)] == list(
        range(reached, rockets + 1)
    )
    assert len(changes.since(reached)) == rockets - reached


def test_what_was_before_the_beginning_is_not_reached() -> None:
    changes = changed(A, since=7)

    assert not changes.reaches(6)
    assert changes.since(7) == [(A, 8)]


def test_the_read_model_notes_changes_from_the_first_time_that_somebody_follows_them() -> None:
    model = ReadModel()
    model.publish(Ledger(A))
    assert model.changes is None

    changes = model.follow()
    model.publish(Ledger(B))

    assert model.follow() is changes
    assert not changes.reaches(0)
    assert changes.since(1) == [(B, 2)]


@given(
    channels=st.lists(st.sampled_from([A, B, C, Channel("d")]), max_size=20),
    changed_max=st.integers(1, 4),
)
def test_whatever_changes_all_that_is_reached_is_given(
    channels: list[Channel], changed_max: int
) -> None:
    changes = changed(*channels, changed_max=changed_max)

    for number in range(len(channels) + 1):
        last = {channel: place for place, channel in enumerate(channels, 1)}
        missed = sorted((last, channel) for channel, last in last.items() if last > number)
        assert changes.reaches(number) == (len(missed) <= changed_max)
        if changes.reaches(number):
            assert changes.since(number) == [(channel, place) for place, channel in missed]
