"""The crashes of actors in the last minute, by rocket, so that none goes on and on."""

from collections import deque

import trio

from rockets.domain.messages import Channel

# A rocket whose actor crashed this often in a minute is left alone until the minute is over.
CRASHES_MAX = 5
CRASH_WINDOW_S = 60.0


class Crashes:
    """When which rocket's actor has crashed; see the module."""

    def __init__(self) -> None:
        self._times: dict[Channel, deque[float]] = {}

    def __contains__(self, channel: Channel) -> bool:
        return channel in self._times

    def note(self, channel: Channel) -> None:
        """Note a crash of this moment."""
        self._times.setdefault(channel, deque(maxlen=CRASHES_MAX)).append(trio.current_time())

    def are_too_many(self, channel: Channel) -> bool:
        """Say whether a rocket is to be left alone; forget what is longer ago than a minute."""
        times = self._times.get(channel)
        if times is None:
            return False
        if trio.current_time() - times[-1] > CRASH_WINDOW_S:
            del self._times[channel]
            return False
        return len(times) == CRASHES_MAX and times[-1] - times[0] <= CRASH_WINDOW_S
