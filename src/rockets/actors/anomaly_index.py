"""Which settled messages changed nothing, found again from the journal when somebody asks.

The ledgers count anomalies and hold no message, so a list of them is read from the journal: for
each rocket on from where the last request stopped, and only while its ledger counts more than the
index has found.
The settled prefix never changes, so what was found stays true.

Invariant: `found` counts every anomaly in the numbers up to `through`; at most `entries_max`
entries are held in all, those of the newest commits.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence

import msgspec

from rockets.actors.turn import decode_stored
from rockets.domain.ledger import Ledger
from rockets.domain.messages import Channel, RocketExploded, RocketLaunched, UnknownMessage
from rockets.domain.rocket import AnomalyKind, anomaly
from rockets.journal.base import Position, StoredRecord

ENTRIES_MAX = 100_000
"""About 40 MB when full."""


class Anomaly(msgspec.Struct, frozen=True, gc=False):
    """One settled message that changed nothing, and why."""

    position: Position
    channel: Channel
    number: int
    message_type: str
    kind: AnomalyKind
    time: str
    received_at: int


class _Scan:
    """How far one rocket has been read, and what had happened to it up to there."""

    __slots__ = ("exploded", "found", "launched", "positions", "through")

    def __init__(self) -> None:
        self.through = 0
        self.found = 0
        self.launched = False
        self.exploded = False
        self.positions: list[Position] = []


class AnomalyIndex:
    """The anomalies found so far; it reads nothing itself, see `anomalies`."""

    def __init__(self, *, entries_max: int = ENTRIES_MAX) -> None:
        self.dropped = 0
        self._entries_max = entries_max
        self._scans: dict[Channel, _Scan] = {}
        self._entries: dict[Position, Anomaly] = {}
        self._positions: list[Position] = []

    def next_number(self, ledger: Ledger) -> int | None:
        """Say from which number this rocket has to be read on; None when all is found."""
        scan = self._scans.get(ledger.channel)
        if scan is None:
            return 1 if ledger.settled_anomalies else None
        return scan.through + 1 if scan.found < ledger.settled_anomalies else None

    def skip(self, base: Ledger) -> None:
        """Go on behind what was pruned: it is counted, and not listed."""
        scan = self._scans.setdefault(base.channel, _Scan())
        scan.through, scan.found = base.settled_through, base.settled_anomalies
        scan.launched = base.settled.launch is not None
        scan.exploded = base.settled.explosion is not None

    def take(self, channel: Channel, record: StoredRecord) -> None:
        """Take the next settled record of a rocket."""
        scan = self._scans.setdefault(channel, _Scan())
        assert record.number == scan.through + 1, "settled numbers have no gap"
        scan.through = record.number
        self._judge(scan, channel, record)

    def _judge(self, scan: _Scan, channel: Channel, record: StoredRecord) -> None:
        payload, time = decode_stored(record.body)
        kind = anomaly(payload, launched=scan.launched, exploded=scan.exploded)
        if kind is None:
            scan.launched = scan.launched or isinstance(payload, RocketLaunched)
            scan.exploded = scan.exploded or isinstance(payload, RocketExploded)
            return
        scan.found += 1
        name = type(payload).__name__
        if isinstance(payload, UnknownMessage):
            name = payload.message_type
        self._add(
            scan,
            Anomaly(record.position, channel, record.number, name, kind, time, record.received_at),
        )

    def _add(self, scan: _Scan, entry: Anomaly) -> None:
        self._entries[entry.position] = entry
        insort(self._positions, entry.position)
        insort(scan.positions, entry.position)
        if len(self._positions) > self._entries_max:
            oldest = self._entries.pop(self._positions.pop(0))
            self._scans[oldest.channel].positions.pop(0)
            self.dropped += 1

    def newest_first(self, channel: Channel | None, *, before: int | None) -> Iterator[Anomaly]:
        """Give what was found, of one rocket or of all; use it up before the next checkpoint."""
        positions: Sequence[Position] = self._positions
        if channel is not None:
            scan = self._scans.get(channel)
            positions = scan.positions if scan is not None else ()
        end = len(positions) if before is None else bisect_left(positions, before)
        for place in range(end - 1, -1, -1):
            yield self._entries[positions[place]]
