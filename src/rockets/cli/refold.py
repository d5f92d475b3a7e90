"""Folds every rocket of a database again and holds what is kept of it against that.

What a start would make of the kept ledgers has to be what all messages make; the number of
conflicts is left out, since a start counts it anew (see `actors.recovery`).
What was pruned of a rocket is folded from its base; one that a service prunes meanwhile is not
compared, since its base and its messages are then of two moments.
One rocket is open at a time, and of its messages some thousand.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, groupby, islice
from operator import attrgetter

import msgspec

from rockets.actors.base import unpack_base
from rockets.actors.turn import apply_records
from rockets.cli.stored_ledgers import LedgerSlice, ledger_slices
from rockets.cli.stored_records import Page, RecordsDamaged, StoredRecords
from rockets.domain.ledger import Ledger, is_packed
from rockets.domain.messages import Channel
from rockets.domain.rocket import View
from rockets.journal import Pruned, StoredLedger, StoredRecord

APPLIED_AT_ONCE = 1_000


class Refold:
    """The comparison and what it has counted so far."""

    def __init__(
        self,
        records: StoredRecords,
        *,
        report: Callable[[str], None],
        watch: Callable[["Refold"], None],
    ) -> None:
        """Prepare; `report` gets a line for everything found, `watch` is called now and then."""
        self._records = records
        self._report = report
        self._watch = watch
        self.rockets = self.messages = self.kept = self.damaged = self.differences = 0
        self.records_damaged = self._pruned_meanwhile = 0
        self._broken: RecordsDamaged | None = None

    def run(self) -> None:
        """Compare everything; raises only where the database cannot be read at all."""
        for part in ledger_slices(self._records.connection):
            if part.damage is not None:
                self.found_damage(f"the kept ledgers cannot be read: {part.damage}")
            self._compare(part)
        if self._pruned_meanwhile:
            self._report(f"{self._pruned_meanwhile} rockets are not compared: pruned meanwhile")

    def found_damage(self, text: str) -> None:
        """Count and report something that is damaged, though a start would cope with it."""
        self.damaged += 1
        self._report(text)

    def _compare(self, part: LedgerSlice) -> None:
        self.kept += len(part.ledgers)
        kept = {ledger.stream: ledger for ledger in part.ledgers}
        after: str | None = part.after
        while after is not None:
            after = self._compare_behind(after, part, kept)
        for ledger in kept.values():
            self._found_without_messages(ledger)

    def _compare_behind(
        self, after: str, part: LedgerSlice, kept: dict[str, StoredLedger]
    ) -> str | None:
        """Compare rockets and take them out of `kept`; gives a damaged one to go on behind."""
        self._broken = None
        pages = self._until_damage(self._records.between(after, part.through, part.head))
        for channel, records in by_channel(pages):
            self._fold(channel, records, kept.pop(channel, None), part)
        if self._broken is None:
            return None
        if self._broken.stream is None:
            self._report("rockets behind it are not compared")
            kept.clear()
        else:
            kept.pop(self._broken.stream, None)
        return self._broken.stream

    def _until_damage(self, pages: Iterator[Page]) -> Iterator[Page]:
        try:
            yield from pages
        except RecordsDamaged as damage:
            self._broken = damage
            self.records_damaged += 1
            self._report(str(damage))

    def _fold(
        self,
        channel: Channel,
        records: Iterator[StoredRecord],
        kept: StoredLedger | None,
        part: LedgerSlice,
    ) -> None:
        """Fold one rocket, and beside that what a start would make of its ledger."""
        bases = part.bases
        base = bases.get(channel) if bases is not None else self._records.base(channel)
        folded, started = begun(channel, base), self._unpacked(channel, kept)
        messages, before = 0, 0
        while some := list(islice(records, APPLIED_AT_ONCE)):
            apply_records(folded, some)
            behind = [record for record in some if record.position > part.began]
            if started is not None:
                apply_records(started, behind)
            messages += len(some)
            before += len(some) - len(behind)
            self.messages += len(some)
            self._watch(self)
        self.rockets += 1
        if self._broken is not None and self._broken.stream in (channel, None):
            return  # these are not all messages of the rocket
        if self._records.base(channel) != base:
            self._pruned_meanwhile += 1
            return
        if kept is None and (before or base is not None):
            self._differ(channel, "ledger", "nothing", f"{messages} messages")
        if started is not None:
            started.conflicts = 0
            for field, found, right in differences(started, folded):
                self._differ(channel, field, found, right)

    def _unpacked(self, channel: Channel, kept: StoredLedger | None) -> Ledger | None:
        """Give the kept ledger; None where there is none, or one that a start would not take."""
        if kept is None or (kept.data is not None and not is_packed(kept.data)):
            return None
        try:
            if kept.data is not None:
                return Ledger.unpack(channel, kept.data)
        except ValueError:
            pass  # by its checksum it is a ledger, so a start would take it, and fail later
        self.found_damage(f"{channel}: the kept ledger is damaged")
        return None

    def _found_without_messages(self, kept: StoredLedger) -> None:
        if kept.data is None:
            self.found_damage(f"{kept.stream}: the kept ledger is damaged")
        else:
            self._differ(Channel(kept.stream), "ledger", "one", "no message")

    def _differ(self, channel: Channel, field: str, found: str, right: str) -> None:
        self.differences += 1
        self._report(f"{channel}: {field}: kept {found}, folded {right}")


def by_channel(pages: Iterator[Page]) -> Iterator[tuple[Channel, Iterator[StoredRecord]]]:
    """Split records in the order of streams; take each channel's before the next one is asked."""
    for stream, records in groupby(chain.from_iterable(pages), key=attrgetter("stream")):
        yield Channel(stream), records


def begun(channel: Channel, base: Pruned | None) -> Ledger:
    """Give the ledger to which the messages that are left are applied, without conflicts."""
    ledger = Ledger(channel) if base is None else unpack_base(base)
    ledger.conflicts = 0
    return ledger


def refolded(records: StoredRecords) -> Iterator[Ledger]:
    """Fold every rocket, in the order of streams, one at a time; nobody else may change them."""
    for channel, stored in by_channel(records.by_stream()):
        ledger = begun(channel, records.base(channel))
        apply_records(ledger, stored)
        yield ledger


VIEWS: Sequence[View] = ("latest", "settled")


def differences(found: Ledger, right: Ledger) -> Iterator[tuple[str, str, str]]:
    """Give each field in which two ledgers of a rocket differ, and both values as JSON.

    What differs in both views alike is given once.
    """
    if found.pack() == right.pack():
        return
    given = set()
    for view in VIEWS:
        ours, theirs = _fields(found, view), _fields(right, view)
        for field, value in ours.items():
            difference = field, value, theirs[field]
            if value != theirs[field] and difference not in given:
                given.add(difference)
                yield (field if view == "latest" else f"settled {field}"), value, theirs[field]
    if not given:
        # No view shows it yet: an effect may wait for a message that is missing.
        yield "packed ledger", found.pack().hex(), right.pack().hex()


def _fields(ledger: Ledger, view: View) -> dict[str, str]:
    rocket = msgspec.to_builtins(ledger.rocket(view))
    rocket |= rocket.pop("sequence")
    return {name: msgspec.json.encode(value).decode() for name, value in rocket.items()}
