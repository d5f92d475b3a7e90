"""Makes the messages of an imagined fleet, the same ones for the same seed.

It imitates the closed `rockets` program as far as that could be measured: the number of rockets,
their types, missions and reasons, the range of speeds, the share of rockets that explode and the
way flights interleave.
It cannot make the *same* messages as that program, because the generator is closed.
An expected file of the real program can only be checked after a run of the real program.

Pure: no clock, no I/O and no randomness but that of the seed.
The abuse (`shuffled`, `repeated`, `with_gaps`) is composed on top, one function per habit:

    shuffled(repeated(flights(444, 100_000), fraction=0.1, seed=1), window=50, seed=2)
"""

from collections.abc import Iterable, Iterator
from random import Random
from uuid import NAMESPACE_URL, uuid5

import msgspec

ROCKET_TYPES = (
    "Antares",
    "Athena",
    "Atlas-H",
    "Conestoga",
    "Delta-5000",
    "Electron",
    "Falcon-1",
    "Falcon-9",
    "Juno-I",
    "Juno-II",
    "New-Shepard",
    "PGM-19-Jupiter",
    "Pegasus",
    "Saturn-I",
    "Scout",
    "Thor-Able",
    "Thor-Agena",
    "Thor-Delta",
    "Titan-IIID",
    "Titan-IV",
)
MISSIONS = ("APOLLO", "APOLLO_SOYUZ", "ARTEMIS", "GEMINI", "MERCURY", "SHUTTLE_MIR", "SKYLAB")
REASONS = (
    "FROZEN_O_RINGS",
    "PRESSURE_VESSEL_FAILURE",
    "SYSTEM_MALFUNCTION",
    "UNKNOWN_OBJECT_COLLISION",
)

SPEED_STEP = 500
SPEED_MIN = 500
# The fastest rocket seen in 100,000 messages of the real program; faster ones are slowed down.
SPEED_MAX = 26_000
CHANGE_STEPS_MAX = 6
# Six explosions were seen in 100,000 messages, none of them before the 353rd of its rocket.
EXPLOSION_CHANCE = 6 / 100_000
EXPLOSION_NUMBER_MIN = 300
MISSION_CHANGE_CHANCE = 0.1

Payload = dict[str, str | int]


class SimulatedMessage(msgspec.Struct, frozen=True, gc=False):
    """One message of an imagined rocket; only its time is left open until it is sent."""

    channel: str
    number: int
    message_type: str
    payload: Payload

    def encode(self, time: str) -> bytes:
        """Return the body to post: compact JSON, sent as if it happened at `time`."""
        metadata = {
            "channel": self.channel,
            "messageNumber": self.number,
            "messageTime": time,
            "messageType": self.message_type,
        }
        return msgspec.json.encode({"metadata": metadata, "message": self.payload})


def flights(seed: int, messages: int, rockets: int = 20) -> Iterator[SimulatedMessage]:
    """Yield exactly `messages` messages of a fleet of `rockets`, interleaved, without a gap.

    Every rocket that speaks at all starts with number 1, a launch, and ends with an explosion or
    with the last message.
    The last rocket in flight never explodes, so the messages do not run out.
    """
    random = Random(seed)
    fleet = [_Flight(_channel(seed, index), _rocket_type(index)) for index in range(rockets)]
    for _ in range(messages):
        index = int(random.random() * len(fleet))
        message = fleet[index].next_message(random, may_explode=len(fleet) > 1)
        if message.message_type == "RocketExploded":
            del fleet[index]
        yield message


def _channel(seed: int, index: int) -> str:
    """Name a rocket by its seed, so runs with different seeds do not meet on one service."""
    return str(uuid5(NAMESPACE_URL, f"rockets:simulated/{seed}/{index}"))


def _rocket_type(index: int) -> str:
    return ROCKET_TYPES[index % len(ROCKET_TYPES)]


class _Flight:
    """One rocket on its way: the number of its last message, its speed and its mission."""

    def __init__(self, channel: str, rocket_type: str) -> None:
        self._channel = channel
        self._rocket_type = rocket_type
        self._number = 0
        self._speed = 0
        self._mission = ""

    def next_message(self, random: Random, *, may_explode: bool) -> SimulatedMessage:
        self._number += 1
        message_type, payload = self._next_event(random, may_explode)
        return SimulatedMessage(self._channel, self._number, message_type, payload)

    def _next_event(self, random: Random, may_explode: bool) -> tuple[str, Payload]:
        if self._number == 1:
            return self._launch(random)
        chance = random.random()
        if chance < EXPLOSION_CHANCE and may_explode and self._number > EXPLOSION_NUMBER_MIN:
            return "RocketExploded", {"reason": random.choice(REASONS)}
        if chance > 1 - MISSION_CHANGE_CHANCE:
            return self._change_mission(random)
        return self._change_speed(random)

    def _launch(self, random: Random) -> tuple[str, Payload]:
        self._speed = _speed_change(random)
        self._mission = random.choice(MISSIONS)
        payload: Payload = {
            "type": self._rocket_type,
            "launchSpeed": self._speed,
            "mission": self._mission,
        }
        return "RocketLaunched", payload

    def _change_mission(self, random: Random) -> tuple[str, Payload]:
        self._mission = random.choice([other for other in MISSIONS if other != self._mission])
        return "RocketMissionChanged", {"newMission": self._mission}

    def _change_speed(self, random: Random) -> tuple[str, Payload]:
        by = _speed_change(random)
        faster = random.random() < 0.5
        # Turned around at both ends, so the speed stays in the range that was seen.
        if self._speed - by < SPEED_MIN:
            faster = True
        elif self._speed + by > SPEED_MAX:
            faster = False
        self._speed += by if faster else -by
        return "RocketSpeedIncreased" if faster else "RocketSpeedDecreased", {"by": by}


def _speed_change(random: Random) -> int:
    return SPEED_STEP * (1 + int(random.random() * CHANGE_STEPS_MAX))


def shuffled(
    messages: Iterable[SimulatedMessage], *, window: int, seed: int
) -> Iterator[SimulatedMessage]:
    """Reorder the messages: each is drawn at random from the next `window` ones.

    The same messages come out; none comes more than `window` - 1 places too early.
    """
    random = Random(seed)
    waiting: list[SimulatedMessage] = []
    for message in messages:
        waiting.append(message)
        if len(waiting) >= window:
            yield _draw(waiting, random)
    while waiting:
        yield _draw(waiting, random)


def _draw(waiting: list[SimulatedMessage], random: Random) -> SimulatedMessage:
    """Take one at random in constant time: the last one fills the place of the drawn one."""
    index = int(random.random() * len(waiting))
    waiting[index], waiting[-1] = waiting[-1], waiting[index]
    return waiting.pop()


def repeated(
    messages: Iterable[SimulatedMessage], *, fraction: float, seed: int
) -> Iterator[SimulatedMessage]:
    """Yield about `fraction` of the messages twice, the copy right behind the original.

    Right behind is the hard case: concurrent senders have both under way at once.
    `shuffled` on top moves the copies away.
    """
    random = Random(seed)
    for message in messages:
        yield message
        if random.random() < fraction:
            yield message


def with_gaps(
    messages: Iterable[SimulatedMessage], *, fraction: float, seed: int
) -> Iterator[SimulatedMessage]:
    """Leave out about `fraction` of the messages, so their numbers never arrive."""
    random = Random(seed)
    return (message for message in messages if random.random() >= fraction)
