"""What readers see: every rocket with at least one durable message.

The actor publishes a ledger after its commit and before it answers, without a checkpoint between,
so a client reads its own write and nobody reads what is not durable.
Reads never wake an actor: they show the ledger, and the shown rocket is kept until it changes.
"""

from collections.abc import Callable, Iterable
from typing import Literal, get_args

from rockets.domain.ledger import Ledger
from rockets.domain.messages import Channel, instant
from rockets.domain.rocket import Rocket, View

SortKey = Literal[
    "channel",
    "type",
    "mission",
    "speed",
    "status",
    "launchedAt",
    "updatedAt",
    "lastMessageNumber",
    "missingCount",
]
SORT_KEYS: tuple[SortKey, ...] = get_args(SortKey)


def _time(text: str | None) -> int | None:
    return None if text is None else instant(text)


# How a rocket compares under each key; times compare as instants, not as text.
_SORT_VALUES: dict[SortKey, Callable[[Rocket], str | int | None]] = {
    "channel": lambda rocket: rocket.channel,
    "type": lambda rocket: rocket.type,
    "mission": lambda rocket: rocket.mission,
    "speed": lambda rocket: rocket.speed,
    "status": lambda rocket: rocket.status,
    "launchedAt": lambda rocket: _time(rocket.launched_at),
    "updatedAt": lambda rocket: _time(rocket.updated_at),
    "lastMessageNumber": lambda rocket: rocket.last_message_number,
    "missingCount": lambda rocket: rocket.sequence.missing_count,
}


class ReadModel:
    """Published ledgers by channel, and the rockets they show."""

    def __init__(self) -> None:
        self._ledgers: dict[Channel, Ledger] = {}
        self._shown: dict[View, dict[Channel, Rocket]] = {"latest": {}, "settled": {}}

    def __len__(self) -> int:
        return len(self._ledgers)

    def publish(self, ledger: Ledger) -> None:
        """Make the present state of a ledger the one that readers see."""
        channel = ledger.channel
        self._ledgers[channel] = ledger
        for shown in self._shown.values():
            shown.pop(channel, None)

    def ledger(self, channel: Channel) -> Ledger | None:
        """Give the published ledger, for the actor that takes it over."""
        return self._ledgers.get(channel)

    def rocket(self, channel: Channel, view: View = "latest") -> Rocket | None:
        """Show one rocket, or None where no message of it is stored."""
        shown = self._shown[view]
        rocket = shown.get(channel)
        if rocket is None:
            ledger = self._ledgers.get(channel)
            if ledger is None:
                return None
            rocket = shown[channel] = ledger.rocket(view)
        return rocket

    def rockets(
        self, *, sort: SortKey = "channel", descending: bool = False, view: View = "latest"
    ) -> list[Rocket]:
        """List all rockets; nulls come last in both directions, ties go by channel."""
        rockets = (self.rocket(channel, view) for channel in self._ledgers)
        return sort_rockets(
            [rocket for rocket in rockets if rocket is not None], sort=sort, descending=descending
        )


def sort_rockets(
    rockets: Iterable[Rocket], *, sort: SortKey, descending: bool = False
) -> list[Rocket]:
    """Sort by one key; nulls last in both directions, ties by channel upwards."""
    value = _SORT_VALUES[sort]
    by_channel = sorted(rockets, key=lambda rocket: rocket.channel)
    filled = [rocket for rocket in by_channel if value(rocket) is not None]
    empty = [rocket for rocket in by_channel if value(rocket) is None]
    # Python's sort is stable, also reversed, so equal values stay in channel order.
    filled.sort(key=value, reverse=descending)  # type: ignore[arg-type]  # no None is left
    return filled + empty
