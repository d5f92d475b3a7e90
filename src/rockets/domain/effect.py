"""What a run of consecutive messages does to a rocket, whatever the rocket was before.

Theory.
A run is a stretch of messages with consecutive numbers.
Its effect answers, without the messages, what they do together to a rocket that has not exploded
before them (a rocket that has is changed by nothing).
That depends on one bit: had the rocket been launched?
So an effect holds both answers:

* launched before: the speed moves by `delta`, the mission becomes `mission` if that is set, and
  `touched` is the time of the last message that changed something;
* not launched before: if the run holds a launch, `launch` is the rocket after it (the first launch
  and what followed it); else only a mission can have been set, which is `mission` again, since
  mission changes count in both cases. `touched_unlaunched` is the time of the last change.

An explosion ends both, and anomalies are counted for both.

`combine` is associative: two runs that touch become one by one combination, in any order of
arrival. No message is kept, a gap blocks nothing, and closing one costs the same however long it
was open.
"""

from typing import assert_never

import msgspec

from rockets.domain.messages import (
    Channel,
    Payload,
    RocketExploded,
    RocketLaunched,
    RocketMissionChanged,
    RocketSpeedDecreased,
    RocketSpeedIncreased,
    UnknownMessage,
)
from rockets.domain.rocket import Rocket


class Launch(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The first launch of a run and where the rocket stands at the end of that run."""

    time: str
    type: str
    launch_speed: int
    speed: int
    mission: str


class Explosion(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The first explosion of a run."""

    time: str
    reason: str


class Effect(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What a run does; the module's docstring explains the fields."""

    count: int = 0
    delta: int = 0
    mission: str | None = None
    touched: str | None = None
    launch: Launch | None = None
    touched_unlaunched: str | None = None
    explosion: Explosion | None = None
    anomalies_launched: int = 0
    anomalies_unlaunched: int = 0


# The effect of no message at all: the neutral element of `combine`.
NOTHING = Effect()


def effect_of(payload: Payload, time: str) -> Effect:
    """Give the effect of a run of one message."""
    match payload:
        case RocketSpeedIncreased(by=by):
            return Effect(1, by, None, time, None, None, None, 0, 1)
        case RocketSpeedDecreased(by=by):
            return Effect(1, -by, None, time, None, None, None, 0, 1)
        case RocketMissionChanged(new_mission=mission):
            return Effect(1, 0, mission, time, None, time)
        case RocketLaunched(type=kind, launch_speed=speed, mission=mission):
            launch = Launch(time, kind, speed, speed, mission)
            return Effect(1, 0, None, None, launch, time, None, 1, 0)
        case RocketExploded(reason=reason):
            return Effect(1, 0, None, time, None, time, Explosion(time, reason))
        case UnknownMessage():
            return Effect(1, 0, None, None, None, None, None, 1, 1)
    assert_never(payload)


def combine(left: Effect, right: Effect) -> Effect:
    """Give the effect of `left` followed by `right`. Associative, `NOTHING` is neutral."""
    count = left.count + right.count
    if left.explosion is not None:
        # Whatever follows an explosion changes nothing and is an anomaly.
        return msgspec.structs.replace(
            left,
            count=count,
            anomalies_launched=left.anomalies_launched + right.count,
            anomalies_unlaunched=left.anomalies_unlaunched + right.count,
        )
    launch = left.launch
    if launch is None:
        launch = right.launch
        touched_unlaunched = right.touched_unlaunched or left.touched_unlaunched
        anomalies_unlaunched = left.anomalies_unlaunched + right.anomalies_unlaunched
    else:
        # The left run launches the rocket, so the right one meets a launched rocket.
        launch = Launch(
            launch.time,
            launch.type,
            launch.launch_speed,
            launch.speed + right.delta,
            launch.mission if right.mission is None else right.mission,
        )
        touched_unlaunched = right.touched or left.touched_unlaunched
        anomalies_unlaunched = left.anomalies_unlaunched + right.anomalies_launched
    return Effect(
        count,
        left.delta + right.delta,
        left.mission if right.mission is None else right.mission,
        right.touched or left.touched,
        launch,
        touched_unlaunched,
        right.explosion,
        left.anomalies_launched + right.anomalies_launched,
        anomalies_unlaunched,
    )


def rocket_after(channel: Channel, effect: Effect) -> Rocket:
    """Show a new rocket after this effect; number and sequence are the ledger's to fill in."""
    launch, explosion = effect.launch, effect.explosion
    return Rocket(
        channel=channel,
        type=launch.type if launch else None,
        mission=launch.mission if launch else effect.mission,
        speed=launch.speed if launch else None,
        status="exploded" if explosion else "launched" if launch else "awaitingLaunch",
        explosion_reason=explosion.reason if explosion else None,
        launch_speed=launch.launch_speed if launch else None,
        launched_at=launch.time if launch else None,
        exploded_at=explosion.time if explosion else None,
        updated_at=effect.touched_unlaunched,
        anomalies=effect.anomalies_unlaunched,
    )
