"""Which rockets have changed lately, in the order of their last change.

Changes are numbered: by the versions of the read model. Each moves its rocket to the end of an
ordered map, so what has changed since any number is the end of the map, and who follows the changes
needs no more than that number.
"""

from collections import OrderedDict

from rockets.domain.messages import Channel

CHANGED_MAX = 10_000
"""So many rockets are remembered, 130 bytes each; who has missed more must read them all."""


class Changes:
    """The rockets that have changed since a number, the one that did last at the end."""

    def __init__(self, since: int, *, changed_max: int = CHANGED_MAX) -> None:
        self._changed_max = changed_max
        self._changed: OrderedDict[Channel, int] = OrderedDict()
        self._forgotten = since  # nothing at or before it is known

    def note(self, channel: Channel, number: int) -> None:
        """Note a change; the numbers rise."""
        changed = self._changed
        changed[channel] = number
        changed.move_to_end(channel)
        if len(changed) > self._changed_max:
            self._forgotten = changed.popitem(last=False)[1]

    def reaches(self, number: int) -> bool:
        """Say whether all rockets that have changed after this change are still known."""
        return number >= self._forgotten

    def since(self, number: int) -> list[tuple[Channel, int]]:
        """Give the rockets that have changed after a change that is reached, oldest change first.

        Each stands there once, with the number of its last change.
        """
        assert self.reaches(number), "who has missed too much reads everything"
        newest_first = []
        for channel, changed in reversed(self._changed.items()):
            if changed <= number:
                break
            newest_first.append((channel, changed))
        newest_first.reverse()
        return newest_first
