"""What a rocket is, and the plain rules that make it.

`evolve` is the specification: one message, one step, in message-number order (design rules of
`docs/architecture.md`, "State of a rocket").
`fold` applies it to a whole history.
Production never folds from the start: it combines effects (`domain.effect`), and the property
tests hold the two against each other.
"""

from collections.abc import Iterable
from typing import Literal, assert_never

import msgspec

from rockets.domain.messages import (
    Channel,
    Message,
    Payload,
    RocketExploded,
    RocketLaunched,
    RocketMissionChanged,
    RocketSpeedDecreased,
    RocketSpeedIncreased,
    UnknownMessage,
)

Status = Literal["awaitingLaunch", "launched", "exploded"]
View = Literal["latest", "settled"]
AnomalyKind = Literal["secondLaunch", "beforeLaunch", "afterExplosion", "unknownType"]

# More ranges than this say nothing a person can use, and an answer must stay small.
MISSING_RANGES_MAX = 100


class Sequence(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """Which message numbers of a rocket are stored; the same in both views.

    `missing` holds the first 100 inclusive ranges of numbers not stored below the highest one.
    """

    settled_through: int = 0
    received: int = 0
    missing_count: int = 0
    missing: tuple[tuple[int, int], ...] = ()
    complete: bool = True


class Rocket(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """The state of a rocket as clients see it; null until a message says otherwise."""

    channel: Channel
    type: str | None = None
    mission: str | None = None
    speed: int | None = None
    status: Status = "awaitingLaunch"
    explosion_reason: str | None = None
    launch_speed: int | None = None
    launched_at: str | None = None
    exploded_at: str | None = None
    updated_at: str | None = None
    last_message_number: int = 0
    anomalies: int = 0
    sequence: Sequence = Sequence()


def anomaly(payload: Payload, *, launched: bool, exploded: bool) -> AnomalyKind | None:
    """Say why a message changes nothing on such a rocket, or None where it changes something."""
    if exploded:
        return "afterExplosion"
    match payload:
        case UnknownMessage():
            return "unknownType"
        case RocketLaunched():
            return "secondLaunch" if launched else None
        case RocketSpeedIncreased() | RocketSpeedDecreased():
            return None if launched else "beforeLaunch"
        case RocketMissionChanged() | RocketExploded():
            return None
    assert_never(payload)


def evolve(rocket: Rocket, message: Message) -> Rocket:
    """Apply one message; messages must come in ascending number. Total: it never raises."""
    launched, exploded = rocket.launched_at is not None, rocket.exploded_at is not None
    rocket = msgspec.structs.replace(rocket, last_message_number=message.number)
    if anomaly(message.payload, launched=launched, exploded=exploded) is not None:
        return msgspec.structs.replace(rocket, anomalies=rocket.anomalies + 1)
    return msgspec.structs.replace(_changed(rocket, message), updated_at=message.time)


def _changed(rocket: Rocket, message: Message) -> Rocket:
    """Apply a message that is known to change this rocket."""
    replace = msgspec.structs.replace
    match message.payload:
        case RocketLaunched(type=kind, launch_speed=speed, mission=mission):
            return replace(
                rocket,
                status="launched",
                type=kind,
                mission=mission,
                speed=speed,
                launch_speed=speed,
                launched_at=message.time,
            )
        case RocketSpeedIncreased(by=by):
            return replace(rocket, speed=(rocket.speed or 0) + by)
        case RocketSpeedDecreased(by=by):
            return replace(rocket, speed=(rocket.speed or 0) - by)
        case RocketMissionChanged(new_mission=mission):
            return replace(rocket, mission=mission)
        case RocketExploded(reason=reason):
            return replace(
                rocket, status="exploded", explosion_reason=reason, exploded_at=message.time
            )
        case UnknownMessage():
            return rocket
    assert_never(message.payload)


def fold(
    channel: Channel, messages: Iterable[Message], *, view: View = "latest", conflicts: int = 0
) -> Rocket:
    """Fold a history in any order; of two messages with one number the first counts."""
    first: dict[int, Message] = {}
    for message in messages:
        first.setdefault(message.number, message)
    ordered = sorted(first)
    settled = 0
    while settled + 1 in first:
        settled += 1
    prefix = Rocket(channel)
    for number in range(1, settled + 1):
        prefix = evolve(prefix, first[number])
    rocket = prefix
    if view == "latest":
        for number in ordered[settled:]:
            rocket = evolve(rocket, first[number])
    return msgspec.structs.replace(
        rocket,
        # Anomalies are judged where nothing can change any more: over the settled prefix.
        anomalies=prefix.anomalies + conflicts,
        sequence=sequence_of(runs_of(ordered)),
    )


def sequence_of(runs: Iterable[tuple[int, int]]) -> Sequence:
    """Describe stored numbers given as ascending, separate, inclusive runs."""
    settled = received = missing_count = last = 0
    missing: list[tuple[int, int]] = []
    for start, end in runs:
        if start == 1:
            settled = end
        elif start > last + 1:
            missing_count += start - last - 1
            if len(missing) < MISSING_RANGES_MAX:
                missing.append((last + 1, start - 1))
        received += end - start + 1
        last = end
    return Sequence(settled, received, missing_count, tuple(missing), missing_count == 0)


def unbroken_sequence(last: int) -> Sequence:
    """Describe the stored numbers 1 to `last`, as `sequence_of` does."""
    return Sequence(last, last)


def runs_of(ordered: list[int]) -> list[tuple[int, int]]:
    """Join ascending numbers into inclusive runs."""
    runs: list[tuple[int, int]] = []
    for number in ordered:
        if runs and runs[-1][1] == number - 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return runs
