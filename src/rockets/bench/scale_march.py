"""The messages of a large fleet: whose, which number, and the bytes, made cheaply.

A fleet is loaded rocket by rocket.
Then it marches: every rocket gets its next number before any gets another one, in an order in
which neighbours are far apart.
So the next message is nearly always that of a rocket nobody has heard of for long, and one figure,
how many have been sent, says what comes next; `messages.lua` knows the same march.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from math import gcd

import msgspec

from rockets.bench.bodies import Sent

MESSAGES_PER_BATCH = 1_000
INCREASE = 500

# Channel, number, two parts of the time and the launch speed are filled in, here and in
# messages.lua. The white space is that of the challenge's test program.
_METADATA = (
    '{"metadata": {"channel": "%s", "messageNumber": %d, '
    '"messageTime": "2022-02-02T19:39:%02d.%05d+01:00", "messageType": '
)
LAUNCHED = (
    _METADATA + '"RocketLaunched"}, "message": {"type": "Falcon-9", "launchSpeed": %d, '
    '"mission": "ARTEMIS"}}'
)
INCREASED = _METADATA + '"RocketSpeedIncreased"}, "message": {"by": 500}}'
_LAUNCHED, _INCREASED = LAUNCHED.encode(), INCREASED.encode()

# A multiplication with an odd number and a remainder of a power of two only changes the order.
_MULTIPLIER = 2_654_435_761
_GOLDEN = 0.618_034


class Batch(msgspec.Struct, frozen=True):
    """Messages with line ends between them, and how many."""

    body: bytes
    count: int


class March(msgspec.Struct, frozen=True):
    """A fleet whose rockets have `each` messages, and how many of the march are sent already."""

    rockets: int
    each: int
    sent: int = 0

    def place(self, index: int) -> tuple[int, int]:
        """Say which rocket a message of the march is of, and its number."""
        turn, place = divmod(index, self.rockets)
        return place * self.stride % self.rockets, self.each + 1 + turn

    @property
    def stride(self) -> int:
        """How far apart two rockets are that follow each other; in the end it meets them all."""
        stride = max(1, int(self.rockets * _GOLDEN))
        while gcd(stride, self.rockets) > 1:
            stride += 1
        return stride

    def messages(self, count: int) -> Iterator[Sent]:
        """Yield the next messages that have not been sent."""
        stride, rockets, first = self.stride, self.rockets, self.each + 1
        for index in range(self.sent, self.sent + count):
            turn, place = divmod(index, rockets)
            yield sent(place * stride % rockets, first + turn)

    def batches(self, count: int) -> Iterator[Batch]:
        """Yield the same messages in batches."""
        return in_batches(message.body for message in self.messages(count))

    def after(self, count: int) -> "March":
        """Go on by so many messages, or back by a negative number, at most to the beginning."""
        return March(self.rockets, self.each, max(0, self.sent + count))

    def last_number(self, rocket: int) -> int:
        """Say which number of a rocket is its last one sent."""
        turns, places = divmod(self.sent, self.rockets)
        # The stride is coprime to the number of rockets, so it can be undone.
        place = rocket * pow(self.stride, -1, self.rockets) % self.rockets
        return self.each + turns + (place < places)


def channel(rocket: int) -> str:
    """Name a rocket by its index: a UUID, and neighbours are far apart in the order of names."""
    return f"{rocket * _MULTIPLIER % 2**32:08x}-5ca1-4e00-8000-{rocket:012x}"


def sent(rocket: int, number: int) -> Sent:
    """Make one message: a launch as number 1, then one increase after the other."""
    name = channel(rocket)
    return Sent(name, number, _body(name.encode(), number, rocket))


def _body(name: bytes, number: int, launch_speed: int) -> bytes:
    second, fraction = number // 100_000 % 60, number % 100_000
    if number == 1:
        return _LAUNCHED % (name, 1, second, fraction, launch_speed)
    return _INCREASED % (name, number, second, fraction)


def speed(rocket: int, number: int) -> int:
    """Say how fast a rocket is after the message of this number, with all before it."""
    return rocket + (number - 1) * INCREASE


def rocket_by_rocket(rockets: int, each: int) -> Iterator[bytes]:
    """Yield the bodies of a whole fleet, one rocket after the other."""
    for rocket in range(rockets):
        name = channel(rocket).encode()
        for number in range(1, each + 1):
            yield _body(name, number, rocket)


def in_reverse(rocket: int, last: int) -> Iterator[bytes]:
    """Yield the bodies of one rocket from its highest number down to its launch."""
    name = channel(rocket).encode()
    for number in range(last, 0, -1):
        yield _body(name, number, rocket)


def in_batches(bodies: Iterable[bytes], size: int = MESSAGES_PER_BATCH) -> Iterator[Batch]:
    """Put bodies together, the last batch with what is left."""
    bodies = iter(bodies)
    while part := list(islice(bodies, size)):
        yield Batch(b"\n".join(part), len(part))
