"""The whole fleet in numbers, counted from the read model in one pass.

With many rockets the pass takes a while and lets others have their turn, so a rocket that changes
meanwhile is counted as it was or as it is.
"""

from collections import Counter
from collections.abc import Mapping
from typing import get_args

import msgspec
import trio

from rockets.actors.read_model import ReadModel
from rockets.domain.rocket import Rocket, Status

ROCKETS_AT_ONCE = 500
"""About a millisecond where every rocket has changed; then others get their turn."""

NAMES_MAX = 1_000
"""Of more types, missions or reasons than this the most frequent are told."""


class MessageTotals(msgspec.Struct, frozen=True):
    """How many messages are stored, how many are missing below them, and how many are settled."""

    received: int
    missing: int
    settled: int


class GapTotals(msgspec.Struct, frozen=True, rename="camel"):
    """How many rockets have gaps, and how many ranges of numbers are missing in all."""

    rockets: int
    missing_ranges: int


class FleetSummary(msgspec.Struct, frozen=True, rename="camel"):
    """The fleet in numbers; `anomalies` includes `conflicts`."""

    rockets: int
    status: Mapping[Status, int]
    type: Mapping[str, int]
    mission: Mapping[str, int]
    explosion_reason: Mapping[str, int]
    messages: MessageTotals
    gaps: GapTotals
    anomalies: int
    conflicts: int


async def summarize(read_model: ReadModel) -> FleetSummary:
    """Count everything once."""
    counts = _Counts()
    for place, ledger in enumerate(read_model.ledgers()):
        if place % ROCKETS_AT_ONCE == 0:
            await trio.lowlevel.checkpoint()
        rocket = read_model.rocket(ledger.channel)
        assert rocket is not None, "a published rocket stays published"
        counts.add(rocket, gaps=ledger.gap_count, conflicts=ledger.conflicts)
    return counts.summary()


class _Counts:
    """What has been counted so far."""

    def __init__(self) -> None:
        self._status: Counter[Status] = Counter(dict.fromkeys(get_args(Status), 0))
        self._type: Counter[str] = Counter()
        self._mission: Counter[str] = Counter()
        self._reason: Counter[str] = Counter()
        self._sums: Counter[str] = Counter()

    def add(self, rocket: Rocket, *, gaps: int, conflicts: int) -> None:
        self._status[rocket.status] += 1
        for counter, name in (
            (self._type, rocket.type),
            (self._mission, rocket.mission),
            (self._reason, rocket.explosion_reason),
        ):
            if name is not None:
                counter[name] += 1
        sequence, sums = rocket.sequence, self._sums
        sums["received"] += sequence.received
        sums["missing"] += sequence.missing_count
        sums["settled"] += sequence.settled_through
        sums["rocketsWithGaps"] += gaps > 0
        sums["ranges"] += gaps
        sums["anomalies"] += rocket.anomalies
        sums["conflicts"] += conflicts

    def summary(self) -> FleetSummary:
        sums = self._sums
        return FleetSummary(
            rockets=self._status.total(),
            status=dict(self._status),
            type=dict(self._type.most_common(NAMES_MAX)),
            mission=dict(self._mission.most_common(NAMES_MAX)),
            explosion_reason=dict(self._reason.most_common(NAMES_MAX)),
            messages=MessageTotals(sums["received"], sums["missing"], sums["settled"]),
            gaps=GapTotals(sums["rocketsWithGaps"], sums["ranges"]),
            anomalies=sums["anomalies"],
            conflicts=sums["conflicts"],
        )
