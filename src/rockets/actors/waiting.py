"""The requests that wait for a commit: how many there are, and how many bytes they have."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rockets.actors.part import Part
from rockets.domain.messages import Message


class FleetUnavailable(Exception):
    """The message may or may not be stored: answer 503; to send it again is safe."""


class Waiting:
    """Counts requests and their bytes, and refuses what is over the limits."""

    def __init__(self, requests_max: int, bytes_max: int) -> None:
        self._requests_max = requests_max
        self._bytes_max = bytes_max
        self._requests = self._bytes = 0

    def __len__(self) -> int:
        return self._requests

    def enter(self, size: int) -> None:
        """Count a request that waits, with its messages; FleetUnavailable where too much does.

        One request alone may have more bytes than all together.
        """
        if self._requests >= self._requests_max:
            raise FleetUnavailable("too many requests wait for a commit")
        if self._requests and self._bytes + size > self._bytes_max:
            raise FleetUnavailable("too many bytes wait for a commit")
        self._requests += 1
        self._bytes += size

    def leave(self, size: int) -> None:
        """Count a request that waits no more."""
        self._requests -= 1
        self._bytes -= size

    @contextmanager
    def counted(self, messages: Sequence[Message]) -> Iterator[list[Part]]:
        """Count a request; what it posts goes into the list.

        Who gives up leaves that with the actors. As long as they hold any of it, it takes memory,
        so it counts: on a disk that hangs, senders would else come and go without end.
        """
        size = sum(len(message.body) for message in messages)
        self.enter(size)
        posted: list[Part] = []
        try:
            yield posted
        finally:
            held = [part for part in posted if not part.answered]
            left = len(held)

            def one_less() -> None:
                nonlocal left
                left -= 1
                if left == 0:
                    self.leave(size)

            for part in held:
                part.give_up(one_less)
            if not held:
                self.leave(size)
