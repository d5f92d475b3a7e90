"""What was: one rocket's stored messages, and the rocket as it was at a number or a time.

It reads the journal and owns nothing that lasts.
A history can be long and the loop is everybody's, so it is read in slices: each begins where
the last one ended, is part of no longer transaction, and lets all other tasks have their turn.
A message that is stored while its rocket's history is read may be in the answer or not.
Where messages were pruned a history begins behind them, and a fold with their base.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import msgspec
import trio

from rockets.actors.base import base_of, read_left
from rockets.actors.read_model import ReadModel
from rockets.actors.turn import decode_stored
from rockets.domain.effect import combine, effect_of, rocket_after
from rockets.domain.ledger import Ledger
from rockets.domain.messages import (
    MESSAGE_NUMBER_MAX,
    Channel,
    Message,
    MessageInvalid,
    MessageMalformed,
    Payload,
    decode_message,
    instant,
)
from rockets.domain.rocket import MISSING_RANGES_MAX, Rocket, Sequence, View
from rockets.journal.base import JournalError, StoredRecord
from rockets.journal.writer import JournalWriter

# One read of the journal fetches this many records, as whole as they are.
READ_RECORDS = 200

# Of these so many bytes are worked on before all other tasks get their turn. Measured: an ordinary
# message has 250 bytes and costs 15 to 25 µs, so a slice takes 1.0 to 1.6 ms; small messages of
# unknown types full of nested objects cost 70 µs, so a slice of them takes up to 4.5 ms.
# One record is never split: 64 KiB of nested objects take 9 ms, as they did when they came.
SLICE_BYTES = 16 * 1024

# A page is built and sent whole, so it ends early where its payloads grow beyond this.
PAGE_BYTES_MAX = 1 << 20

# Each scan takes its slice whenever the loop comes round to it: with many at once a message
# would wait for all of them, so the rest of the scans wait instead.
SCANS_MAX = 4

UNREADABLE = "unreadable"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class HistoryUnavailable(Exception):
    """The journal could not be read; ask again later."""


class MessagesPruned(Exception):
    """The answer needs messages that were pruned; `first_number` is the lowest one left."""

    def __init__(self, first_number: int) -> None:
        super().__init__(f"the messages before number {first_number} were pruned")
        self.first_number = first_number


class StoredMessage(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """One message as it was stored; `speed` is there only where it was asked for.

    Of a body that this version cannot read nothing but the number and the arrival is known: its
    type is "unreadable", its time and payload are null.
    """

    number: int
    type: str
    time: str | None
    payload: msgspec.Raw | None
    received_at: str
    speed: int | msgspec.UnsetType | None = msgspec.UNSET


class HistoryPage(msgspec.Struct, frozen=True):
    """A part of a history; `following` is the number behind which the next part begins.

    The messages up to the number `pruned_through` are no longer there; 0 where all are.
    """

    messages: list[StoredMessage]
    following: int | None
    pruned_through: int


class History:
    """Answers questions about the past of one rocket; see the module.

    Every method raises HistoryUnavailable where the journal cannot be read.
    """

    def __init__(self, journal: JournalWriter, read_model: ReadModel) -> None:
        self._journal = journal
        self._read_model = read_model
        self._scans = trio.CapacityLimiter(SCANS_MAX)

    def knows(self, channel: Channel) -> bool:
        """Say whether any message of this rocket is stored."""
        return self._read_model.knows(channel)

    async def rocket_at(self, channel: Channel, number: int, view: View) -> Rocket | None:
        """Show the rocket as its stored messages up to a number make it; None where there is none.

        The cost grows with the messages up to that number. MessagesPruned where that is not left.
        """
        latest = self._read_model.rocket(channel)
        if latest is None or number >= latest.last_message_number:
            await trio.lowlevel.checkpoint()
            return self._read_model.rocket(channel, view)
        async with self._slices(channel, 1, number) as slices:
            past = _Past(slices.base)
            if number < slices.first_number:
                raise MessagesPruned(slices.first_number)
            while records := await slices.take():
                for record in records:
                    past.add(record.number, *decode_stored(record.body))
            if past.received == 0:
                return None
            conflicts = await self._conflicts(channel, number)
        return past.rocket(channel, view, conflicts)

    async def number_at(self, channel: Channel, time: int) -> int | None:
        """Give the highest number with a messageTime not later than an instant in nanoseconds.

        Times are in no order, so this reads the whole history. MessagesPruned where none of the
        messages that are left is as old, since some that are not may be.
        """
        found: int | None = None
        async with self._slices(channel, 1, MESSAGE_NUMBER_MAX) as slices:
            while records := await slices.take():
                for record in records:
                    message = _decoded(record)
                    if message is not None and instant(message.time) <= time:
                        found = record.number
            if found is None and slices.base.run_count:
                raise MessagesPruned(slices.first_number)
        return found

    async def messages(self, channel: Channel, after: int, limit: int) -> HistoryPage:
        """Give the messages behind a number, in number order.

        A page also ends where it gets too large, so it may hold fewer than `limit` and not be the
        last one.
        """
        page: list[StoredMessage] = []
        size = 0
        async with self._slices(channel, after + 1, MESSAGE_NUMBER_MAX, limit + 1) as slices:
            while records := await slices.take():
                for record in records:
                    full = len(page) == limit or size + len(record.body) > PAGE_BYTES_MAX
                    if page and full:
                        return HistoryPage(page, page[-1].number, slices.base.settled_through)
                    page.append(_stored_message(record, _decoded(record)))
                    size += len(record.body)
        return HistoryPage(page, None, slices.base.settled_through)

    async def speeds(self, channel: Channel, after: int, limit: int) -> HistoryPage:
        """Give the messages behind a number, each with the speed after it, thinned to the limit.

        It is always the whole rest of the history, from the first to the last.
        """
        thinned = _Thinned(limit)
        async with self._slices(channel, 1, MESSAGE_NUMBER_MAX) as slices:
            effect = slices.base.settled
            while records := await slices.take():
                for record in records:
                    message = _decoded(record)
                    if message is not None:
                        effect = combine(effect, effect_of(message.payload, message.time))
                    if record.number > after:
                        speed = effect.launch.speed if effect.launch else None
                        shown = _stored_message(record, message, speed)
                        thinned.add(shown, len(record.body))
        return HistoryPage(thinned.result(), None, slices.base.settled_through)

    @asynccontextmanager
    async def _slices(
        self, channel: Channel, first: int, last: int, wanted: int = READ_RECORDS
    ) -> "AsyncIterator[_Slices]":
        """Begin a scan, when it is its turn; it reads little where little is wanted."""
        async with self._scans:
            try:
                records = min(wanted, READ_RECORDS)
                base = await base_of(self._journal, channel) or Ledger(channel)
                yield _Slices(self._journal, base, first, last, records=records)
            except JournalError as error:
                raise HistoryUnavailable(f"the journal cannot be read: {error}") from error

    async def _conflicts(self, channel: Channel, number: int) -> int:
        """Count the conflicts noted on numbers up to this one."""
        ledger = self._read_model.ledger(channel)
        if ledger is None or ledger.conflicts == 0:
            return 0
        count, before = 0, None
        while True:
            notes = await self._journal.read_notes(
                "conflict", stream=channel, limit=READ_RECORDS, before=before
            )
            count += sum(note.number <= number for note in notes)
            if len(notes) < READ_RECORDS:
                return count
            before = notes[-1].id


class _Past:
    """A rocket's past state, grown message by message in number order.

    A ledger would do, but it combines all runs when it is shown, in one stretch of 1 µs a gap;
    here that is part of each slice.
    """

    def __init__(self, base: Ledger) -> None:
        self.received = self._settled_through = self._last = base.settled_through
        self._settled = self._latest = base.settled
        self._missing_count = 0
        self._missing: list[tuple[int, int]] = []

    def add(self, number: int, payload: Payload, time: str) -> None:
        """Take the next stored message; its number is higher than all before."""
        effect = effect_of(payload, time)
        if number == self._settled_through + 1:
            self._settled = combine(self._settled, effect)
            self._settled_through = number
        self._latest = combine(self._latest, effect)
        if number > self._last + 1:
            self._missing_count += number - self._last - 1
            if len(self._missing) < MISSING_RANGES_MAX:
                self._missing.append((self._last + 1, number - 1))
        self._last = number
        self.received += 1

    def rocket(self, channel: Channel, view: View, conflicts: int) -> Rocket:
        """Show the rocket."""
        settled = view == "settled"
        return msgspec.structs.replace(
            rocket_after(channel, self._settled if settled else self._latest),
            last_message_number=self._settled_through if settled else self._last,
            anomalies=self._settled.anomalies_unlaunched + conflicts,
            sequence=Sequence(
                self._settled_through,
                self.received,
                self._missing_count,
                tuple(self._missing),
                self._missing_count == 0,
            ),
        )


class _Slices:
    """The stored messages of one rocket in number order, a slice at a time, behind its base."""

    def __init__(
        self, journal: JournalWriter, base: Ledger, first: int, last: int, *, records: int
    ) -> None:
        self.base = base
        self.first_number = base.settled_through + 1
        self._journal = journal
        self._first = max(first, self.first_number)
        self._last = last
        self._records_max = records
        self._records: list[StoredRecord] = []
        self._ended = False

    async def take(self) -> list[StoredRecord]:
        """Give the next slice, empty at the end. Every call is a checkpoint."""
        if self._records or self._ended:
            await trio.lowlevel.checkpoint()
        else:
            await self._read()
        count = _count_within(self._records, SLICE_BYTES)
        taken, self._records = self._records[:count], self._records[count:]
        return taken

    async def _read(self) -> None:
        pruned, self._records = await read_left(
            self._journal, self.base.channel, self._first, self._last, limit=self._records_max
        )
        if pruned is not None:
            raise HistoryUnavailable("messages were pruned while they were read; ask again")
        self._ended = len(self._records) < self._records_max
        if not self._ended:
            self._first = self._records[-1].number + 1


class _Thinned:
    """At most `limit` of any number of messages, evenly spread, with the first and the last.

    It keeps every `stride`-th one and doubles the stride whenever there are too many, so it never
    holds more than the limit however many come.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._stride = 1
        self._count = 0
        self._size = 0
        self._kept: list[tuple[StoredMessage, int]] = []
        self._last: StoredMessage | None = None

    def add(self, message: StoredMessage, size: int) -> None:
        """Take the next message, which holds about `size` bytes."""
        while len(self._kept) == self._limit or self._too_large(size):
            # Only the message at hand decides: one that falls between the strides needs no room.
            if self._count % self._stride:
                break
            self._halve()
        if self._count % self._stride == 0:
            self._kept.append((message, size))
            self._size += size
        self._count += 1
        self._last = message

    def _too_large(self, size: int) -> bool:
        return len(self._kept) > 1 and self._size + size > PAGE_BYTES_MAX

    def _halve(self) -> None:
        self._kept = self._kept[::2]
        self._size = sum(size for _, size in self._kept)
        self._stride *= 2

    def result(self) -> list[StoredMessage]:
        """Give what was kept, ending with the last message."""
        messages = [message for message, _ in self._kept]
        if self._last is not None and messages[-1] is not self._last:
            if len(messages) == self._limit:
                messages.pop()
            messages.append(self._last)
        return messages


class _Sent(msgspec.Struct, frozen=True, gc=False):
    """The part of a body that is shown as it was sent."""

    message: msgspec.Raw


_decode_sent = msgspec.json.Decoder(_Sent).decode


def payload_as_sent(body: bytes) -> msgspec.Raw:
    """Cut the `message` out of a body that this version can read."""
    return _decode_sent(body).message


def _decoded(record: StoredRecord) -> Message | None:
    try:
        return decode_message(record.body)
    except (MessageInvalid, MessageMalformed):
        return None


def _stored_message(
    record: StoredRecord,
    message: Message | None,
    speed: int | msgspec.UnsetType | None = msgspec.UNSET,
) -> StoredMessage:
    received_at = rfc3339(record.received_at)
    if message is None:
        return StoredMessage(record.number, UNREADABLE, None, None, received_at, speed)
    payload = payload_as_sent(record.body)
    return StoredMessage(
        record.number, message.message_type, message.time, payload, received_at, speed
    )


def rfc3339(microseconds: int) -> str:
    """Write a time of the journal, in microseconds since the epoch, in UTC."""
    time = (_EPOCH + timedelta(microseconds=microseconds)).isoformat(timespec="microseconds")
    return time.replace("+00:00", "Z")


def _count_within(records: list[StoredRecord], size_max: int) -> int:
    """Say how many of the first records fit into so many bytes; the first always does."""
    size = 0
    for count, record in enumerate(records):
        size += len(record.body)
        if count and size > size_max:
            return count
    return len(records)
