"""The ledger of one rocket: which numbers are stored, and what they did, as a list of runs.

It owns the runs and the number of conflicts; it holds no message and does no I/O.
`decide` reads and changes nothing, so a failed append needs no undo; `apply` changes, and is
called only with what the journal holds.

Invariant: runs are ascending, and there is at least one missing number between two of them.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from rockets.domain.effect import NOTHING, Effect, combine, effect_of, rocket_after
from rockets.domain.messages import Channel, Message, Payload
from rockets.domain.rocket import Rocket, View, sequence_of, unbroken_sequence

RULES = 1
"""Names the rules by which a packed ledger was made, 1 to 255. Whoever changes what messages do to
a rocket, or how a ledger is packed, changes this too: then ledgers are folded from their messages
again."""

Verdict = Literal["new", "duplicate", "conflict", "tooManyGaps"]
Outcome = Literal["applied", "held", "ignored", "duplicate", "conflict"]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[int, list[int], list[int], list[Effect]]).decode


_RULES = bytes((RULES,))
GAPS_SHOWN_MAX = 255
_BEGINNINGS = [bytes((RULES, gaps)) for gaps in range(GAPS_SHOWN_MAX + 1)]


def packed_gaps(channel: Channel, record: bytes) -> int:
    """Say how many gaps a packed ledger has, mostly without reading it."""
    if record[1] < GAPS_SHOWN_MAX:
        return record[1]
    return Ledger.unpack(channel, record).gap_count


def has_packed_conflicts(record: bytes) -> bool:
    """Say whether a packed ledger counts any conflict, without reading it."""
    return record[3] != 0  # behind the two first bytes and the head of a tuple of four


def is_packed(record: bytes) -> bool:
    """Say whether a record was packed by these rules."""
    return record[:1] == _RULES


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

    def pack(self) -> bytes:
        """Write the ledger as a small record; `unpack` reads it.

        Two bytes come first: the rules, and how many gaps there are, 255 for more.
        """
        beginning = _BEGINNINGS[min(self.gap_count, GAPS_SHOWN_MAX)]
        return beginning + _encode((self.conflicts, self._starts, self._ends, self._effects))

    @classmethod
    def unpack(cls, channel: Channel, record: bytes) -> "Ledger":
        """Read what `pack` has written by these rules; ValueError where it is something else."""
        ledger = cls(channel)
        if record[:1] != _RULES:
            raise ValueError("not packed by these rules")
        try:
            content = _decode(record[2:])
        except msgspec.DecodeError as error:
            raise ValueError(f"not a packed ledger: {error}") from error
        ledger.conflicts, ledger._starts, ledger._ends, ledger._effects = content
        return ledger

    @property
    def run_count(self) -> int:
        """How many runs there are; one more than the gaps between them."""
        return len(self._starts)

    @property
    def settled_through(self) -> int:
        """The highest number with no gap before it; 0 where number 1 is missing."""
        starts = self._starts
        return self._ends[0] if starts and starts[0] == 1 else 0

    @property
    def settled(self) -> Effect:
        """What the settled messages do together."""
        return self._effects[0] if self.settled_through else NOTHING

    @property
    def settled_anomalies(self) -> int:
        """How many of the settled messages changed nothing; conflicts are not among them."""
        return self.settled.anomalies_unlaunched

    @property
    def gap_count(self) -> int:
        """How many ranges of numbers are missing below the highest one."""
        starts = self._starts
        return len(starts) - (starts[0] == 1) if starts else 0

    def knows(self, number: int) -> bool:
        """Say whether this number is stored."""
        index = bisect_right(self._starts, number) - 1
        return index >= 0 and number <= self._ends[index]

    def continues(self, number: int) -> bool:
        """Say whether this number follows the last one: `decide` finds it new, and no gap opens."""
        ends = self._ends
        return number == (ends[-1] + 1 if ends else 1)

    def known(self, messages: Iterable[Message]) -> list[int]:
        """Give those numbers of messages that are stored."""
        last = self._ends[-1] if self._ends else 0
        return [
            message.number
            for message in messages
            if message.number <= last and self.knows(message.number)
        ]

    def decide(
        self, messages: Sequence[Message], stored: Mapping[int, Payload], *, gaps_max: int
    ) -> Decision:
        """Judge a batch in its order; `stored` holds the content of each number already stored.

        A number that is missing there was pruned: whatever its content was, it is a duplicate.
        A message that would open a run behind a gap over `gaps_max` is refused; one that touches a
        run, of the ledger or of this batch, never is, nor is number 1, which no gap comes before.
        """
        starts, ends = self._starts, self._ends
        batch: dict[int, Payload] = {}
        verdicts: list[Verdict] = []
        opened = 0
        for message in messages:
            number, payload = message.number, message.payload
            index = bisect_right(starts, number) - 1  # the last run that starts at or before it
            if number in batch:
                verdicts.append("duplicate" if batch[number] == payload else "conflict")
            elif index >= 0 and number <= ends[index]:
                same = stored.get(number, payload) == payload
                verdicts.append("duplicate" if same else "conflict")
            else:
                touches_before = index >= 0 and ends[index] == number - 1
                touches_after = index + 1 < len(starts) and starts[index + 1] == number + 1
                before = touches_before or number == 1 or number - 1 in batch
                after = touches_after or number + 1 in batch
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
        return self._insert(index, number, payload, time)

    def _insert(self, index: int, number: int, payload: Payload, time: str) -> Outcome:
        """Put a missing number behind run `index`, joining the runs it touches."""
        starts, ends, effects = self._starts, self._ends, self._effects
        effect = effect_of(payload, time)
        before = NOTHING
        if index >= 0 and ends[index] == number - 1:
            before = effects[index]
            ends[index] = number
            effect = effects[index] = combine(before, effect)
        else:
            index += 1
            starts.insert(index, number)
            ends.insert(index, number)
            effects.insert(index, effect)
        # Only behind all that is settled is it known what a message does to the rocket.
        outcome: Outcome = "held"
        if starts[index] == 1:
            changed = effect.anomalies_unlaunched == before.anomalies_unlaunched
            outcome = "applied" if changed else "ignored"
        after = index + 1
        if after < len(starts) and starts[after] == number + 1:
            effects[index] = combine(effect, effects[after])
            ends[index] = ends[after]
            del starts[after], ends[after], effects[after]
        return outcome

    def rocket(self, view: View) -> Rocket:
        """Show the rocket; `latest` combines all runs, so it costs about 1 µs for each gap."""
        last = self.settled_through
        effect = settled = self._effects[0] if last else NOTHING
        if len(self._starts) == 1 and last:
            sequence = unbroken_sequence(last)
        else:
            sequence = sequence_of(zip(self._starts, self._ends, strict=True))
            if view == "latest" and self._starts:
                effect = self._effects[0]
                for following in self._effects[1:]:
                    effect = combine(effect, following)
                last = self._ends[-1]
        return msgspec.structs.replace(
            rocket_after(self.channel, effect),
            last_message_number=last,
            anomalies=settled.anomalies_unlaunched + self.conflicts,
            sequence=sequence,
        )
