"""The messages that the benchmark sends: valid, distinct, in the order of their numbers.

Twenty rockets take turns.
Each is launched by number 1 and gets faster by 500 with every other one; the times rise too,
so that no body comes twice.
"""

from collections.abc import Iterator
from itertools import count
from typing import NamedTuple
from uuid import NAMESPACE_URL, uuid5

ROCKETS = 20
CHANNELS = tuple(str(uuid5(NAMESPACE_URL, f"rockets:bench/{index}")) for index in range(ROCKETS))

# Channel, number and time are filled in, here and in messages.lua, which is given these texts.
# The white space is that of the challenge's test program.
_METADATA = (
    '{"metadata": {"channel": "%s", "messageNumber": %d, "messageTime": "%s", "messageType": '
)
LAUNCHED = (
    _METADATA + '"RocketLaunched"}, '
    '"message": {"type": "Falcon-9", "launchSpeed": 500, "mission": "ARTEMIS"}}'
)
INCREASED = _METADATA + '"RocketSpeedIncreased"}, "message": {"by": 500}}'


class Sent(NamedTuple):
    """One message as it is sent."""

    channel: str
    number: int
    body: bytes


def messages() -> Iterator[Sent]:
    """Yield message after message without end, the same ones each time."""
    for index in count():
        number, rocket = divmod(index, ROCKETS)
        template = INCREASED if number else LAUNCHED
        body = template % (CHANNELS[rocket], number + 1, _time(index))
        yield Sent(CHANNELS[rocket], number + 1, body.encode())


def _time(index: int) -> str:
    return f"2022-02-02T19:39:{index // 100_000 % 60:02d}.{index % 100_000:05d}+01:00"


def request(body: bytes) -> bytes:
    """Write the whole HTTP request that posts a body, as messages.lua writes it."""
    return (
        b"POST /messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    )


def array(bodies: list[bytes]) -> bytes:
    """Join messages into one batch, a JSON array."""
    return b"[" + b",".join(bodies) + b"]"
