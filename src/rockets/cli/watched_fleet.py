"""The fleet as the events of the live feed tell it."""

from collections import Counter, deque

import msgspec

from rockets.actors.listing import SortBy, sort_rockets
from rockets.cli.event_source import Event
from rockets.domain.messages import Channel
from rockets.domain.rocket import Rocket, Status
from rockets.web.feed_events import Gone, Ready

# The rate is that of so long.
RATE_S = 3.0


class Tiles(msgspec.Struct, frozen=True):
    """The fleet in a few numbers; `total` is there where the service has more than it has told."""

    rockets: int
    total: int | None
    status: dict[Status, int]
    with_gaps: int
    messages_per_s: float


class WatchedFleet:
    """The rockets that the service has told of, and how many messages they get."""

    def __init__(self) -> None:
        self.total: int | None = None
        self._rockets: dict[Channel, Rocket] = {}
        self._received = 0
        self._seen: deque[tuple[float, int]] = deque()

    def take(self, event: Event) -> Rocket | None:
        """Do what an event says; gives the rocket that it is about, if it is there now."""
        match event.name:
            case "rocket":
                rocket = msgspec.json.decode(event.data, type=Rocket)
                self._put(rocket)
                return rocket
            case "gone":
                self._rockets.pop(msgspec.json.decode(event.data, type=Gone).channel, None)
            case "reset":
                self._rockets.clear()
            case "ready":
                ready = msgspec.json.decode(event.data, type=Ready)
                if ready.total is not None:
                    self.total = ready.total if ready.total > ready.count else None
        return None

    def _put(self, rocket: Rocket) -> None:
        before = self._rockets.get(rocket.channel)
        if before is not None:
            self._received += max(0, rocket.sequence.received - before.sequence.received)
        self._rockets[rocket.channel] = rocket

    def forget(self) -> None:
        """Begin again: the service tells of the whole fleet next."""
        self._rockets.clear()

    def sorted(self, sort: tuple[SortBy, ...]) -> list[Rocket]:
        """Give the rockets in the order of a list."""
        return sort_rockets(self._rockets.values(), sort)

    def tiles(self, now: float) -> Tiles:
        """Count, with the rate since a few seconds before `now`."""
        counts = Counter[Status](rocket.status for rocket in self._rockets.values())
        self._seen.append((now, self._received))
        while self._seen[0][0] < now - RATE_S:
            self._seen.popleft()
        since, received = self._seen[0]
        rate = (self._received - received) / (now - since) if now > since else 0.0
        return Tiles(
            rockets=len(self._rockets),
            total=self.total,
            status=dict(counts),
            with_gaps=sum(not rocket.sequence.complete for rocket in self._rockets.values()),
            messages_per_s=rate,
        )
