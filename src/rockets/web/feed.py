"""The live feed: what all of its readers share.

It carries states and not messages. A reader is a cursor, the number of the last change it was told
of: it gets each rocket that has changed since then once, as it is now. So there is no buffer, and a
slow reader costs nothing.
Nobody waits for a reader: what the feed costs a message is its entry in `Changes`.

Where instances share the journal this one may be cut off from it, or behind: readers are told when
that begins and when it is over.

What readers get is made once for all that stand at the same change. For that they are served in
*rounds*, and all who read at the same interval stand at the same change after each.
"""

import math
import re
from collections.abc import Iterator

import msgspec
import trio

from rockets.actors.changes import Changes
from rockets.actors.listing import ListQuery
from rockets.actors.read_model import ReadModel
from rockets.actors.replica import Replica, ReplicaUnavailable
from rockets.actors.rocket_lists import RocketLists
from rockets.domain.messages import Channel
from rockets.domain.rocket import Rocket, View
from rockets.web import feed_events
from rockets.web.problems import Refusal

INTERVAL_MS = 250
INTERVAL_MIN_MS = 50
INTERVAL_MAX_MS = 15_000
"""That of heartbeats, which are told like everything else."""

ROCKETS_AT_ONCE = 100
"""One or two milliseconds, and some 60 KB; then others get their turn."""

ENCODED_MAX = 10_000
"""So many rockets are kept as JSON for each view; half a kilobyte each."""

_EVENT_ID = re.compile(r"([0-9A-Za-z]{1,64})-([0-9]{1,18})")


class FeedQuery(msgspec.Struct, frozen=True, kw_only=True):
    """What a reader wants: filters and view of a list, how often, and where it goes on."""

    rockets: ListQuery = ListQuery()
    interval_ms: int = INTERVAL_MS
    snapshot: bool = True
    last_event_id: str | None = None


class Age(msgspec.Struct, frozen=True):
    """When everything that was stored then was last known to be here, and whether that is long ago.

    The time is trio's; a journal that is our own is always whole here.
    """

    caught_up_at: float = math.inf
    is_stale: bool = False


class Part:
    """Some rockets that have changed, in the order of their last change, with its number."""

    def __init__(self, entries: list[tuple[Channel, int]], *, more: bool) -> None:
        self.entries = entries
        self.more = more
        self.texts: dict[View, bytes] = {}

    @property
    def end(self) -> int:
        """The cursor of who was told all of it."""
        return self.entries[-1][1]


class Feed:
    """What all readers share; see the module."""

    def __init__(
        self,
        read_model: ReadModel,
        lists: RocketLists,
        *,
        boot_id: str,
        replica: Replica | None = None,
        readers_max: int = 1_000,
    ) -> None:
        """`boot_id` names this run of this instance: numbers of changes begin anew with it."""
        self.lists = lists
        self.boot_id = boot_id
        self.readers = 0
        self.stopping = trio.Event()
        self._read_model = read_model
        self._replica = replica
        self._readers_max = readers_max
        self._entered = 0
        self._encoded: dict[View, dict[Channel, tuple[Rocket, bytes]]] = {
            "latest": {},
            "settled": {},
        }

    @property
    def latest(self) -> int:
        """The number of the last change."""
        return self._read_model.version

    def check_room(self) -> None:
        """Raise Refusal where one more reader would be too many."""
        if self.readers >= self._readers_max:
            raise Refusal("too-many-readers", f"{self._readers_max} clients read the feed already")

    def enter(self) -> int:
        """Count a reader; gives how long it should wait before it comes again, in milliseconds."""
        self.readers += 1
        self._entered += 1
        self._read_model.follow()
        # Spread evenly over 1 to 5 s: those who are cut off together come back one by one.
        return 1_000 + self._entered * 2_477 % 4_001

    def leave(self) -> None:
        """Count a reader that has gone."""
        self.readers -= 1

    def event_id(self, number: int) -> str:
        """Name a change for those who come back."""
        return f"{self.boot_id}-{number}"

    def number(self, event_id: str) -> int | None:
        """Give the change that an id names; None where this run cannot have given that id."""
        match = _EVENT_ID.fullmatch(event_id)
        if match is None or match[1] != self.boot_id or int(match[2]) > self.latest:
            return None
        return int(match[2])

    def is_reached(self, number: int) -> bool:
        """Say whether all that has changed since a change is known."""
        return self._read_model.follow().reaches(number)

    def age(self) -> Age:
        """Say how old what is told may be."""
        if self._replica is None:
            return Age()
        return Age(self._replica.caught_up_at, self._replica.trouble() is not None)

    async def catch_up(self) -> bool:
        """Wait until all that is stored by now can be told; says whether that is so."""
        if self._replica is None:
            return True
        if self._replica.trouble() is not None:
            return False
        try:
            await self._replica.wait_caught_up()
        except ReplicaUnavailable:
            return False
        return True

    def round(self) -> "Round":
        """Begin a round."""
        return Round(self._read_model.follow(), self.age())

    def part_text(self, part: Part, view: View) -> bytes:
        """Write the events about all rockets of a part."""
        text = part.texts.get(view)
        if text is None:
            text = part.texts[view] = b"".join(self._part_texts(part, view))
        return text

    def _part_texts(self, part: Part, view: View) -> Iterator[bytes]:
        for channel, number in part.entries:
            yield self.rocket_text(self.rocket(channel, view), view, number)

    def rocket(self, channel: Channel, view: View) -> Rocket:
        """Show a rocket that has changed, or was listed, as it is now."""
        rocket = self._read_model.rocket(channel, view)
        assert rocket is not None, "a published rocket stays published"
        return rocket

    def rocket_text(self, rocket: Rocket, view: View, number: int | None = None) -> bytes:
        """Write the event about a rocket; the JSON is made once for each of its states."""
        encoded = self._encoded[view]
        kept = encoded.get(rocket.channel)
        if kept is None or kept[0] is not rocket:
            if len(encoded) >= ENCODED_MAX:
                encoded.clear()
            kept = encoded[rocket.channel] = rocket, msgspec.json.encode(rocket)
        event_id = None if number is None else self.event_id(number)
        return feed_events.text("rocket", kept[1], event_id)


class Round:
    """What has changed, looked up once for all readers at one change.

    What changes while a round runs may be left to the next one.
    """

    def __init__(self, changes: Changes, age: Age) -> None:
        self.age = age
        self._changes = changes
        self._parts: dict[int, Part] = {}  # by the cursor in front of each

    def part(self, cursor: int) -> Part | None:
        """Give the first rockets that have changed since a change that is reached, if any have."""
        if cursor not in self._parts:
            self._divide(self._changes.since(cursor), cursor)
        return self._parts.get(cursor)

    def _divide(self, entries: list[tuple[Channel, int]], cursor: int) -> None:
        for start in range(0, len(entries), ROCKETS_AT_ONCE):
            end = start + ROCKETS_AT_ONCE
            part = Part(entries[start:end], more=end < len(entries))
            self._parts[cursor] = part
            cursor = part.end
