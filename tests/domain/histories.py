"""Histories of one rocket for property tests, and an independent reading of the rules.

`reference` shares no code with `rockets.domain`: it was written from the rules alone, with plain
dictionaries, so that a mistake in the product is not repeated here.
"""

from collections.abc import Iterable
from typing import Any

import msgspec
from hypothesis import strategies as st

from rockets.domain.messages import Message
from tests.helpers import message

CHANNEL = "rocket-1"

_KINDS: list[tuple[str, list[dict[str, object]]]] = [
    (
        "RocketLaunched",
        [
            {"type": kind, "launchSpeed": speed, "mission": mission}
            for kind, speed, mission in (("A", 0, "M"), ("B", 7, "N"))
        ],
    ),
    ("RocketSpeedIncreased", [{"by": 1}, {"by": 10}]),
    ("RocketSpeedDecreased", [{"by": 3}, {"by": 0}]),
    ("RocketMissionChanged", [{"newMission": "P"}, {"newMission": "Q"}]),
    ("RocketExploded", [{"reason": "X"}, {"reason": "Y"}]),
    ("RocketRefuelled", [{"litres": 5}]),
]

# Explosions are rare, or most histories would be over before they begin.
_CONTENTS = [
    (kind, content)
    for kind, contents in _KINDS
    for content in contents * (1 if kind == "RocketExploded" else 4)
]


@st.composite
def messages(draw: st.DrawFn, *, number_max: int = 14, count_max: int = 24) -> list[Message]:
    """Draw messages in an order of arrival, with gaps, duplicates and conflicts."""
    numbers = draw(st.lists(st.integers(1, number_max), max_size=count_max))
    return [
        message(CHANNEL, number, kind, time=f"2022-02-02T19:39:{index % 60:02d}Z", **content)
        for index, (number, (kind, content)) in enumerate(
            (number, draw(st.sampled_from(_CONTENTS))) for number in numbers
        )
    ]


def reference(arrived: Iterable[Message], *, settled: bool) -> dict[str, object]:
    """Fold by the rules of the design, as directly as they are written there."""
    stored: dict[int, Message] = {}
    conflicts = set()
    for each in arrived:
        kept = stored.setdefault(each.number, each)
        if kept.payload != each.payload:
            conflicts.add((each.number, each.payload))
    through = max((n for n in stored if all(i in stored for i in range(1, n + 1))), default=0)
    prefix = _fold([stored[n] for n in sorted(stored) if n <= through])
    state = prefix if settled else _fold([stored[n] for n in sorted(stored)])
    highest = max(stored, default=0)
    missing = [n for n in range(1, highest) if n not in stored]
    number = through if settled else highest
    anomalies = prefix["anomalies"] + len(conflicts)
    return state | {
        "lastMessageNumber": number,
        "anomalies": anomalies,
        "settledThrough": through,
        "received": len(stored),
        "missing": missing,
    }


_FIELDS = (
    "type",
    "mission",
    "speed",
    "explosionReason",
    "launchSpeed",
    "launchedAt",
    "explodedAt",
    "updatedAt",
)


def _fold(ordered: list[Message]) -> dict[str, Any]:
    state: dict[str, Any] = dict.fromkeys(_FIELDS) | {"status": "awaitingLaunch", "anomalies": 0}
    for each in ordered:
        changed = _change(state, each) if state["explodedAt"] is None else {}
        if changed:
            state |= changed | {"updatedAt": each.time}
        else:
            state["anomalies"] += 1
    return state


def _change(state: dict[str, Any], each: Message) -> dict[str, Any]:
    kind, content = each.message_type, msgspec.to_builtins(each.payload)
    launched = state["launchedAt"] is not None
    if kind == "RocketLaunched" and not launched:
        speed = content["launchSpeed"]
        launch = {"launchedAt": each.time, "status": "launched", "speed": speed}
        return {**content, **launch}
    if kind == "RocketSpeedIncreased" and launched:
        return {"speed": state["speed"] + content["by"]}
    if kind == "RocketSpeedDecreased" and launched:
        return {"speed": state["speed"] - content["by"]}
    if kind == "RocketMissionChanged":
        return {"mission": content["newMission"]}
    if kind == "RocketExploded":
        reason = content["reason"]
        return {"explosionReason": reason, "explodedAt": each.time, "status": "exploded"}
    return {}
