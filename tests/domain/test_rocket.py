"""The naive rules against an independent reading of them, and their edge cases as a table."""

import msgspec
import pytest
from hypothesis import given

from rockets.domain.messages import Channel, Message
from rockets.domain.rocket import Rocket, View, fold, sequence_of
from tests.domain.histories import CHANNEL, messages, reference
from tests.helpers import TIME, message


def shown(rocket: Rocket) -> dict[str, object]:
    """Show a rocket as the reference shows it."""
    state = msgspec.to_builtins(rocket)
    sequence = state.pop("sequence")
    assert state.pop("channel") == CHANNEL
    assert sequence["complete"] == (sequence["missingCount"] == 0)
    missing = [n for first, last in sequence["missing"] for n in range(first, last + 1)]
    assert len(missing) == sequence["missingCount"]
    return {
        **state,
        "settledThrough": sequence["settledThrough"],
        "received": sequence["received"],
        "missing": missing,
    }


def conflicts_of(arrived: list[Message]) -> int:
    """Count the differing contents of numbers that are stored, each once."""
    first: dict[int, Message] = {}
    for each in arrived:
        first.setdefault(each.number, each)
    return len(
        {(each.number, each.payload) for each in arrived}
        - {(each.number, each.payload) for each in first.values()}
    )


@pytest.mark.parametrize("view", ["latest", "settled"])
@given(arrived=messages())
def test_the_fold_equals_an_independent_reading_of_the_rules(
    view: View, arrived: list[Message]
) -> None:
    rocket = fold(Channel(CHANNEL), arrived, view=view, conflicts=conflicts_of(arrived))

    assert shown(rocket) == reference(arrived, settled=view == "settled")


EDGES: list[tuple[str, list[Message], dict[str, object]]] = [
    ("nothing yet", [], {"status": "awaitingLaunch", "speed": None, "lastMessageNumber": 0}),
    (
        "a speed below zero is shown",
        [
            message(CHANNEL, 1, "RocketLaunched"),
            message(CHANNEL, 2, "RocketSpeedDecreased", by=600),
        ],
        {"speed": -100, "anomalies": 0},
    ),
    (
        "a second launch changes nothing",
        [
            message(CHANNEL, 1, "RocketLaunched"),
            message(CHANNEL, 2, "RocketLaunched", type="B", launchSpeed=9, mission="N"),
        ],
        {"type": "Falcon-9", "speed": 500, "anomalies": 1},
    ),
    (
        "a speed change before the launch changes nothing",
        [message(CHANNEL, 1), message(CHANNEL, 2, "RocketLaunched")],
        {"speed": 500, "anomalies": 1},
    ),
    (
        "a mission before the launch is shown until the launch sets its own",
        [message(CHANNEL, 1, "RocketMissionChanged", newMission="P")],
        {"mission": "P", "type": None, "speed": None, "status": "awaitingLaunch", "anomalies": 0},
    ),
    (
        "after the explosion the last speed and mission stay",
        [
            message(CHANNEL, 1, "RocketLaunched"),
            message(CHANNEL, 2, "RocketExploded"),
            message(CHANNEL, 3, by=1),
            message(CHANNEL, 4, "RocketMissionChanged", newMission="P"),
        ],
        {"status": "exploded", "speed": 500, "mission": "ARTEMIS", "anomalies": 2},
    ),
    (
        "an explosion without a launch",
        [message(CHANNEL, 1, "RocketExploded")],
        {"status": "exploded", "launchedAt": None, "explodedAt": TIME},
    ),
    (
        "an unknown type takes its number and changes nothing",
        [message(CHANNEL, 1, "RocketLaunched"), message(CHANNEL, 2, "RocketPainted", colour="red")],
        {"speed": 500, "lastMessageNumber": 2, "anomalies": 1},
    ),
]


@pytest.mark.parametrize(
    ("history", "expected"), [edge[1:] for edge in EDGES], ids=[e[0] for e in EDGES]
)
def test_edges(history: list[Message], expected: dict[str, object]) -> None:
    state = msgspec.to_builtins(fold(Channel(CHANNEL), history))

    assert {key: state[key] for key in expected} == expected


def test_only_the_first_hundred_missing_ranges_are_listed() -> None:
    sequence = sequence_of((number, number) for number in range(2, 204, 2))

    assert sequence.missing_count == 101
    assert len(sequence.missing) == 100
    assert sequence.missing[0] == (1, 1)
    assert sequence.missing[-1] == (199, 199)
