"""One rocket that takes most of the load, or does not, and how long the others wait.

Run as `python -m rockets.bench.scale_hot PLAN`, a process of its own on the core of the load.
The others' messages are due at the same times with the hot rocket and without it.
"""

import gc
import sys
from collections.abc import Iterator
from typing import Literal

import msgspec

from rockets.bench.bodies import request
from rockets.bench.open_loop import OpenLoop
from rockets.bench.outcome import Outcome, tell
from rockets.bench.scale_march import March, rocket_by_rocket, sent

# Nine of ten messages are the hot rocket's.
OTHERS_EVERY = 10
OTHERS = March(1_000, 1)
HOT = OTHERS.rockets
CONNECTIONS = 64
# What a server does for the first time takes long and is not what this is about.
WARM_UP = 500
WARM_UP_RATE = 500.0

Mode = Literal["hot", "alone", "even"]


class Plan(msgspec.Struct, frozen=True):
    """At which rate all together, to which port; all rockets have been launched.

    `hot` has the hot rocket, `alone` leaves its messages out, `even` has as many of other rockets.
    """

    port: int
    rate: float
    seconds: float
    mode: Mode


def requests(mode: Mode, count: int) -> Iterator[bytes]:
    """Write the requests of a mode; of `hot` and `even` every tenth one counts, from the first."""
    others = OTHERS.after(WARM_UP).messages(count)
    if mode == "even":
        yield from (request(message.body) for message in others)
        return
    number = 1
    for index in range(count):
        if index % OTHERS_EVERY == 0:
            yield request(next(others).body)
        elif mode == "hot":
            number += 1
            yield request(sent(HOT, number).body)


def launches() -> Iterator[bytes]:
    """Write the messages that must be stored before: one of each rocket."""
    return rocket_by_rocket(HOT + 1, 1)


def _measure(plan: Plan) -> Outcome:
    count = max(OTHERS_EVERY, int(plan.rate * plan.seconds))
    whole = list(requests(plan.mode, count))
    every, rate = OTHERS_EVERY, plan.rate
    if plan.mode == "alone":
        every, rate = 1, plan.rate / OTHERS_EVERY
    # A collection would make us late, and there are no cycles here.
    gc.disable()
    first = [request(message.body) for message in OTHERS.messages(WARM_UP)]
    OpenLoop(first, rate=WARM_UP_RATE).run(port=plan.port, connections=CONNECTIONS)
    return OpenLoop(whole, rate=rate, every=every).run(port=plan.port, connections=CONNECTIONS)


if __name__ == "__main__":
    tell(lambda: _measure(msgspec.json.decode(sys.argv[1], type=Plan)))
