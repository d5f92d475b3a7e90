"""What a stop leaves of the patience with a store that is gone.

A process that stops has ten seconds at most, and whoever waits for it wants it to be over. A store
that answers is still given all its answers; one that does not is not looked for again.
"""

import math
from time import monotonic

CONNECT_S = 1.0
"""So long after a stop began a lost connection may still be made anew."""

ANSWER_S = 2.0
"""The longest wait for an answer then: a commit on a slow disk still comes through."""


class Hurry:
    """Whether the process stops, for all threads of a journal."""

    def __init__(self) -> None:
        """Begin without any."""
        self._since = math.inf

    def begin(self) -> None:
        """Be in a hurry from now on; from any thread."""
        self._since = min(self._since, monotonic())

    def is_over(self, asked_at: float) -> bool:
        """Say whether a wait for an answer that began then (monotonic) has lasted too long."""
        return monotonic() > max(asked_at, self._since) + ANSWER_S

    @property
    def may_connect(self) -> bool:
        """Whether there is time to look for the store once more."""
        return monotonic() <= self._since + CONNECT_S
