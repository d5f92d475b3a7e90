"""The ledger of one rocket: which numbers are stored, and what they did, as a list of runs.

It owns the runs and the number of conflicts; it holds no message and does no I/O.
`decide` reads and changes nothing, so a failed append needs no undo; `apply` changes, and is
called only with what the journal holds.

Invariant: runs are ascending, and there is at least one missing number between two of them.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from rockets.domain.effect import NOTHING, Effect, combine, effect_of, rocket_after
from rockets.domain.messages import Channel, Message, Payload
from rockets.domain.rocket import Rocket, View, anomaly, sequence_of

Verdict = Literal["new", "duplicate", "conflict", "tooManyGaps"]
Outcome = Literal["applied", "held", "ignored", "duplicate", "conflict"]


class Decision(msgspec.Struct, frozen=True):
    """What may be done with a batch: a verdict per message, and how many gaps it would open."""

    verdicts: tuple[Verdict, ...]
    gaps_opened: int


class Ledger:
    """The stored numbers of one rocket as runs with effects."""

    __slots__ = ("_effects", "_ends", "_starts", "channel", "conflicts")

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.conflicts = 0
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._effects: list[Effect] = []

    @property
    def run_count(self) -> int:
        """How many runs there are; one more than the gaps between them."""
        return len(self._starts)

    @property
    def settled_through(self) -> int:
        """The highest number with no gap before it; 0 where number 1 is missing."""
        return self._ends[0] if self._starts and self._starts[0] == 1 else 0

    @property
    def settled_anomalies(self) -> int:
        """How many of the settled messages changed nothing; conflicts are not among them."""
        return self._effects[0].anomalies_unlaunched if self.settled_through else 0

    @property
    def gap_count(self) -> int:
        """How many ranges of numbers are missing below the highest one."""
        return self.run_count - (self.settled_through > 0)

    def knows(self, number: int) -> bool:
        """Say whether this number is stored."""
        index = bisect_right(self._starts, number) - 1
        return index >= 0 and number <= self._ends[index]

    def decide(
        self, messages: Sequence[Message], stored: Mapping[int, Payload], *, gaps_max: int
    ) -> Decision:
        """Judge a batch in its order; `stored` holds the content of each number already stored.

        A message that would open a run behind a gap over `gaps_max` is refused; one that touches a
        run, of the ledger or of this batch, never is, nor is number 1, which no gap comes before.
        """
        batch: dict[int, Payload] = {}
        verdicts: list[Verdict] = []
        opened = 0
        for message in messages:
            number, payload = message.number, message.payload
            if number in batch:
                verdicts.append("duplicate" if batch[number] == payload else "conflict")
            elif self.knows(number):
                verdicts.append("duplicate" if stored[number] == payload else "conflict")
            else:
                before = number == 1 or number - 1 in batch or self.knows(number - 1)
                after = number + 1 in batch or self.knows(number + 1)
                change = 1 - before - after
                if change > 0 and self.gap_count + opened >= gaps_max:
                    verdicts.append("tooManyGaps")
                    continue
                opened += change
                batch[number] = payload
                verdicts.append("new")
        return Decision(tuple(verdicts), opened)

    def apply(self, number: int, payload: Payload, time: str) -> Outcome:
        """Take a stored message in; a number that is already in changes nothing."""
        index = bisect_right(self._starts, number) - 1
        if index >= 0 and number <= self._ends[index]:
            return "duplicate"
        settled = self.settled_through
        outcome: Outcome = "held"
        if number == settled + 1:
            outcome = self._outcome_on_settled(payload)
        self._insert(index, number, payload, time)
        return outcome

    def _outcome_on_settled(self, payload: Payload) -> Outcome:
        """Say what the next message in order does to the settled view."""
        before = self._effects[0] if self.settled_through else NOTHING
        why = anomaly(
            payload, launched=before.launch is not None, exploded=before.explosion is not None
        )
        return "applied" if why is None else "ignored"

    def _insert(self, index: int, number: int, payload: Payload, time: str) -> None:
        """Put a missing number behind run `index`, joining the runs it touches."""
        starts, ends, effects = self._starts, self._ends, self._effects
        effect = effect_of(payload, time)
        if index >= 0 and ends[index] == number - 1:
            ends[index] = number
            effects[index] = combine(effects[index], effect)
        else:
            index += 1
            starts.insert(index, number)
            ends.insert(index, number)
            effects.insert(index, effect)
        after = index + 1
        if after < len(starts) and starts[after] == number + 1:
            effects[index] = combine(effects[index], effects[after])
            ends[index] = ends[after]
            del starts[after], ends[after], effects[after]

    def rocket(self, view: View) -> Rocket:
        """Show the rocket; `latest` combines all runs, so it costs about 1 µs for each gap."""
        settled = self._effects[0] if self.settled_through else NOTHING
        effect, last = settled, self.settled_through
        if view == "latest" and self._starts:
            effect = self._effects[0]
            for following in self._effects[1:]:
                effect = combine(effect, following)
            last = self._ends[-1]
        return msgspec.structs.replace(
            rocket_after(self.channel, effect),
            last_message_number=last,
            anomalies=settled.anomalies_unlaunched + self.conflicts,
            sequence=sequence_of(zip(self._starts, self._ends, strict=True)),
        )
