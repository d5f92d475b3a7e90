"""What readers see: every rocket with at least one durable message.

The actor publishes a ledger after its commit and before it answers, without a checkpoint between,
so a client reads its own write and nobody reads what is not durable.
Reads never wake an actor: they show the ledger, and the shown rocket is kept until it changes.

A rocket without an actor is a packed record of some 200 bytes; it is unpacked where it is read.
"""

from collections.abc import Iterator

from rockets.actors.changes import Changes
from rockets.actors.listing import ListQuery, Page, list_page
from rockets.domain.ledger import Ledger, has_packed_conflicts, packed_gaps
from rockets.domain.messages import Channel
from rockets.domain.rocket import Rocket, View
from rockets.journal.base import Position

# With more rockets than this shown ones are not kept, since that takes three times the room of
# what they are made of.
SHOWN_MAX = 10_000


class ReadModel:
    """Published ledgers by channel, and the rockets they show."""

    def __init__(self) -> None:
        self._live: dict[Channel, Ledger] = {}
        self._idle: dict[Channel, bytes] = {}
        self._shown: dict[View, dict[Channel, Rocket]] = {"latest": {}, "settled": {}}
        self.version = 0  # another one after every change of any rocket
        self.changed: set[Channel] = set()  # since `take_changed`
        # The position of the last record that a start has applied.
        self.recovered_through = Position(0)
        # Rockets whose actor has crashed: what is shown may miss what the journal holds.
        self.doubtful: set[Channel] = set()
        # What has changed since the table of the lists was brought up to date, once there is one.
        self.unlisted: set[Channel] | None = None
        # What has changed since its messages were looked at for pruning, once that is done.
        self.unpruned: set[Channel] | None = None
        # The last changes, numbered by version, once somebody follows them.
        self.changes: Changes | None = None

    def __len__(self) -> int:
        return len(self._live) + len(self._idle)

    def publish(self, ledger: Ledger) -> None:
        """Make the present state of a ledger, which has an actor, the one that readers see."""
        channel = ledger.channel
        self.version += 1
        self._live[channel] = ledger
        self.changed.add(channel)
        if self.unlisted is not None:
            self.unlisted.add(channel)
        if self.unpruned is not None:
            self.unpruned.add(channel)
        if self.changes is not None:
            self.changes.note(channel, self.version)
        for shown in self._shown.values():
            shown.pop(channel, None)

    def publish_packed(self, ledger: Ledger) -> None:
        """Make the state of a ledger that was `opened` the one that readers see."""
        self.publish(ledger)
        self.retire(ledger.channel)

    def follow(self) -> Changes:
        """Give the changes from the first time on that somebody has asked for them."""
        if self.changes is None:
            self.changes = Changes(self.version)
        return self.changes

    def take_over(self, channel: Channel) -> Ledger:
        """Give the published ledger, or an empty one, to the actor that changes it from now on."""
        record = self._idle.pop(channel, None)
        if record is None:
            return self._live.get(channel) or Ledger(channel)
        ledger = self._live[channel] = Ledger.unpack(channel, record)
        return ledger

    def opened(self, channel: Channel) -> Ledger:
        """Give a copy of the ledger of a rocket without an actor to whoever owns it for a turn."""
        assert channel not in self._live, "the rocket has an actor of its own"
        return self.ledger(channel) or Ledger(channel)

    def idle_gaps(self, channel: Channel) -> int:
        """Count the gaps of a rocket without an actor."""
        record = self._idle.get(channel)
        return 0 if record is None else packed_gaps(channel, record)

    def retire(self, channel: Channel) -> None:
        """Pack the ledger of a rocket that has no actor any more."""
        ledger = self._live.pop(channel, None)
        if ledger is not None:
            self.keep_idle(channel, ledger.pack())

    def keep_idle(self, channel: Channel, record: bytes) -> None:
        """Make a packed ledger the one that readers see, of a rocket without an actor."""
        self._idle[channel] = record
        if len(self) > SHOWN_MAX:
            for shown in self._shown.values():
                shown.pop(channel, None)

    def clear(self) -> None:
        """Forget every rocket; only while nobody reads or writes."""
        self._live.clear()
        self._idle.clear()
        self.changed.clear()

    def take_changed(self) -> set[Channel]:
        """Give the channels that have changed since the last time."""
        changed, self.changed = self.changed, set()
        return changed

    def take_unpruned(self) -> set[Channel]:
        """Give the channels that have changed since the last time, and note those to come."""
        changed, self.unpruned = self.unpruned, set()
        return changed or set()

    def record(self, channel: Channel) -> bytes:
        """Pack the published ledger of a rocket that has one; empty where it is in doubt."""
        if channel in self.doubtful:
            return b""
        record = self._idle.get(channel)
        return self._live[channel].pack() if record is None else record

    def gap_count(self) -> int:
        """Count the gaps of all rockets without an actor."""
        return sum(packed_gaps(channel, record) for channel, record in self._idle.items())

    def with_conflicts(self) -> list[Channel]:
        """Give the channels of all rockets without an actor that count conflicts."""
        return [channel for channel, record in self._idle.items() if has_packed_conflicts(record)]

    def knows(self, channel: Channel) -> bool:
        """Say whether any message of this rocket is stored."""
        return channel in self._live or channel in self._idle

    def ledger(self, channel: Channel) -> Ledger | None:
        """Give the published ledger to a reader, which must not change it."""
        record = self._idle.get(channel)
        return self._live.get(channel) if record is None else Ledger.unpack(channel, record)

    def channels(self) -> list[Channel]:
        """Give the channels of all rockets there are now."""
        return [*self._live, *self._idle]

    def ledgers(self) -> Iterator[Ledger]:
        """Give the published ledgers of all rockets there are now, to a reader that takes its time.

        Each is as it is when its turn comes.
        """
        for channel in self.channels():
            ledger = self.ledger(channel)
            assert ledger is not None, "a published rocket stays published"
            yield ledger

    def rocket(self, channel: Channel, view: View = "latest") -> Rocket | None:
        """Show one rocket, or None where no message of it is stored."""
        shown = self._shown[view]
        rocket = shown.get(channel)
        if rocket is None:
            ledger = self.ledger(channel)
            if ledger is None:
                return None
            rocket = ledger.rocket(view)
            if channel in self._live or len(self) <= SHOWN_MAX:
                shown[channel] = rocket
        return rocket

    def page(self, query: ListQuery) -> Page:
        """List rockets; the order and the cursor are explained in `listing`."""
        rockets = (self.rocket(channel, query.view) for channel in self.channels())
        return list_page((rocket for rocket in rockets if rocket is not None), query)
