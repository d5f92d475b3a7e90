"""What readers see: every rocket with at least one durable message.

The actor publishes a ledger after its commit and before it answers, without a checkpoint between,
so a client reads its own write and nobody reads what is not durable.
Reads never wake an actor: they show the ledger, and the shown rocket is kept until it changes.
"""

from rockets.actors.listing import ListQuery, Page, list_page
from rockets.domain.ledger import Ledger
from rockets.domain.messages import Channel
from rockets.domain.rocket import Rocket, View


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

    def ledgers(self) -> list[Ledger]:
        """Give all published ledgers as of now, for a reader that takes its time."""
        return list(self._ledgers.values())

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

    def page(self, query: ListQuery) -> Page:
        """List rockets; the order and the cursor are explained in `listing`."""
        rockets = (self.rocket(channel, query.view) for channel in self._ledgers)
        return list_page((rocket for rocket in rockets if rocket is not None), query)
