"""One rocket's loop: drain, decide, append, apply what is stored, publish and answer.

The actor owns its rocket's ledger; nothing else changes it.
Order and duplicates are handled serially here, so there is no lock.
It decides before the commit and changes after it: a failed append needs no undo.
From the return of the append to the last answer there is no checkpoint, so nobody can see a state
between "committed" and "told".
"""

from collections.abc import Callable, Sequence
from hashlib import blake2b

import msgspec
import trio

from rockets.actors.run_budget import RunBudget
from rockets.domain.ledger import Ledger, Outcome, Verdict
from rockets.domain.messages import (
    Message,
    MessageInvalid,
    MessageMalformed,
    Payload,
    UnknownMessage,
    decode_message,
)
from rockets.domain.rocket import runs_of
from rockets.journal.base import Appended, JournalError, Note, Record, StoredRecord
from rockets.journal.writer import JournalWriter

# Content of this many recent numbers is kept, so that a resend costs no read of the journal.
# The test program resends after 10 s at the earliest, and only what got no answer.
RECENT_MAX = 64

# One append of an actor holds at most about this many messages, so that it stays one short commit.
DRAIN_MESSAGES_MAX = 10_000

# A restore reads the journal in slices of this many records.
RESTORE_SLICE = 1_000


class ActorUnavailable(Exception):
    """The rocket's actor could not finish: what was asked is unknown; ask again later."""


class Reply(msgspec.Struct, frozen=True, gc=False):
    """What became of one message, and how far its rocket is settled."""

    outcome: Outcome | None  # None: refused, it would open one run too many
    settled_through: int


class Part:
    """Messages of one sender for one rocket, and the place where the answer is put."""

    __slots__ = ("answered", "error", "messages", "received_at", "replies")

    def __init__(self, messages: Sequence[Message], received_at: int) -> None:
        self.messages = messages
        self.received_at = received_at
        self.replies: list[Reply] = []
        self.error: Exception | None = None
        self.answered = trio.Event()

    def fail(self, error: Exception) -> None:
        """Answer with an error, unless there is an answer already."""
        if not self.answered.is_set():
            self.error = error
            self.answered.set()

    async def wait_replies(self) -> list[Reply]:
        """Wait for the answer; leaving early changes nothing for the batch it is in."""
        await self.answered.wait()
        if self.error is not None:
            raise self.error
        return self.replies


class RocketActor:
    """The task that owns one rocket; see the module."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        mailbox: trio.MemoryReceiveChannel[Part],
        journal: JournalWriter,
        budget: RunBudget,
        publish: Callable[[Ledger], None],
        restore: bool,
    ) -> None:
        self.ledger = ledger
        self.parts: list[Part] = []
        self.mailbox = mailbox
        self._journal = journal
        self._budget = budget
        self._publish = publish
        self._restore = restore
        self._recent: dict[int, Payload] = {}

    async def run(self) -> None:
        """Work until the mailbox is closed and empty. May raise: the fleet is the supervisor.

        It leaves the mailbox open: closing it here would throw away what the supervisor must
        still answer.
        """
        if self._restore:
            await self._restored()
        while await self._drained():
            await self._process()
            self.parts = []

    def fail(self, error: Callable[[], Exception]) -> None:
        """Answer every sender, those in the mailbox included, with an error of its own."""
        while True:
            for part in self.parts:
                part.fail(error())
            try:
                self.parts = [self.mailbox.receive_nowait()]
            except (trio.WouldBlock, trio.EndOfChannel):
                return

    @property
    def idle(self) -> bool:
        """Nothing is in hand; the caller also looks at the mailbox."""
        return not self.parts

    async def _drained(self) -> bool:
        """Take all that waits; False when the mailbox is closed and empty."""
        try:
            part = await self.mailbox.receive()
        except trio.EndOfChannel:
            return False
        self.parts.append(part)
        count = len(part.messages)
        while count < DRAIN_MESSAGES_MAX:
            try:
                part = self.mailbox.receive_nowait()
            except (trio.WouldBlock, trio.EndOfChannel):
                break
            self.parts.append(part)
            count += len(part.messages)
        return True

    async def _process(self) -> None:
        messages = [(part, message) for part in self.parts for message in part.messages]
        ledger = self.ledger
        reserved = 0
        try:
            stored = await self._stored_contents([message for _, message in messages])
            decision = ledger.decide(
                [message for _, message in messages],
                stored,
                gaps_max=self._budget.gaps_max(ledger.gap_count),
            )
            records, notes = _to_append(messages, decision.verdicts)
            reserved = max(0, decision.gaps_opened)
            self._budget.change(reserved)
            appended = await self._journal.append(records, notes) if records or notes else None
        except JournalError as error:
            # Whether any of them is stored is unknown; to send them again is safe.
            failed = type(error), str(error)
            self.fail_parts(lambda: failed[0](failed[1]))
            return
        finally:
            self._budget.change(-reserved)
        # No checkpoint from here on: committed, applied, published and told are one step.
        replies = self._apply(messages, decision.verdicts, appended)
        if appended is not None:
            self._publish(ledger)
        self._answer(replies)

    def fail_parts(self, error: Callable[[], Exception]) -> None:
        """Answer the senders of the batch in hand, but not the mailbox, with an error."""
        for part in self.parts:
            part.fail(error())

    def _apply(
        self,
        messages: Sequence[tuple[Part, Message]],
        verdicts: Sequence[Verdict],
        appended: Appended | None,
    ) -> list[Reply]:
        """Change the ledger by what the journal holds; give one reply per message."""
        ledger = self.ledger
        gaps_before = ledger.gap_count
        replies: list[Reply] = []
        index = 0
        try:
            for (_, message), verdict in zip(messages, verdicts, strict=True):
                outcome: Outcome | None
                if verdict == "new":
                    assert appended is not None
                    outcome = self._apply_one(message, appended.stored.get(index))
                    index += 1
                else:
                    outcome = None if verdict == "tooManyGaps" else verdict
                replies.append(Reply(outcome, ledger.settled_through))
        finally:
            # Also after a crash: the restore counts from what this ledger really holds.
            self._budget.change(ledger.gap_count - gaps_before)
        if appended is not None:
            ledger.conflicts += sum(appended.notes_new)
        return replies

    def _apply_one(self, message: Message, stored: StoredRecord | None) -> Outcome:
        """Apply a message that was appended, or what another instance stored in its place."""
        if stored is None:
            self._remember(message.number, message.payload)
            return self.ledger.apply(message.number, message.payload, message.time)
        payload, time = decode_stored(stored.body)
        self._remember(message.number, payload)
        self.ledger.apply(message.number, payload, time)
        return "duplicate" if payload == message.payload else "conflict"

    def _answer(self, replies: list[Reply]) -> None:
        start = 0
        for part in self.parts:
            end = start + len(part.messages)
            part.replies = replies[start:end]
            part.answered.set()
            start = end

    async def _stored_contents(self, messages: Sequence[Message]) -> dict[int, Payload]:
        """Get the content of the numbers that are stored already, from memory or the journal."""
        stored: dict[int, Payload] = {}
        unread: set[int] = set()
        for message in messages:
            number = message.number
            if self.ledger.knows(number):
                payload = self._recent.get(number)
                if payload is None:
                    unread.add(number)
                else:
                    stored[number] = payload
        for first, last in runs_of(sorted(unread)):
            for start in range(first, last + 1, RESTORE_SLICE):
                end = min(last, start + RESTORE_SLICE - 1)
                records = await self._journal.read(
                    self.ledger.channel, start, end, limit=RESTORE_SLICE
                )
                wanted = end - start + 1
                assert len(records) == wanted, "the ledger knows what the journal does not hold"
                for record in records:
                    stored[record.number] = payload = decode_stored(record.body)[0]
                    self._remember(record.number, payload)
        return stored

    def _remember(self, number: int, payload: Payload) -> None:
        recent = self._recent
        recent[number] = payload
        if len(recent) > RECENT_MAX:
            del recent[next(iter(recent))]

    async def _restored(self) -> None:
        """Fold the rocket again from what the journal really holds."""
        ledger, following = Ledger(self.ledger.channel), 1
        ledger.conflicts = self.ledger.conflicts
        while True:
            records = await self._journal.read(
                ledger.channel, following, 2**53 - 1, limit=RESTORE_SLICE
            )
            for record in records:
                ledger.apply(record.number, *decode_stored(record.body))
            if len(records) < RESTORE_SLICE:
                break
            following = records[-1].number + 1
        self._budget.change(ledger.gap_count - self.ledger.gap_count)
        self.ledger = ledger
        if ledger.run_count:
            self._publish(ledger)


def decode_stored(body: bytes) -> tuple[Payload, str]:
    """Decode a stored message. Total: what this version cannot read takes its number only.

    Such a body can come from a newer version; refusing it would stop every later start.
    """
    try:
        message = decode_message(body)
    except (MessageInvalid, MessageMalformed):
        return UnknownMessage("unreadable", "{}"), "1970-01-01T00:00:00Z"
    return message.payload, message.time


def _to_append(
    messages: Sequence[tuple[Part, Message]], verdicts: Sequence[Verdict]
) -> tuple[list[Record], list[Note]]:
    """Turn the verdicts into what the journal must hold: new messages, and conflicts as notes."""
    records: list[Record] = []
    notes: list[Note] = []
    for (part, message), verdict in zip(messages, verdicts, strict=True):
        if verdict == "new":
            records.append(Record(message.channel, message.number, message.body, part.received_at))
        elif verdict == "conflict":
            notes.append(
                Note(
                    "conflict",
                    message.channel,
                    message.number,
                    content_key(message),
                    message.body,
                    part.received_at,
                )
            )
    return records, notes


def content_key(message: Message) -> bytes:
    """Name a content in 16 bytes, so that a conflict is kept once per differing content."""
    content = msgspec.json.encode((message.message_type, message.payload))
    return blake2b(content, digest_size=16).digest()
