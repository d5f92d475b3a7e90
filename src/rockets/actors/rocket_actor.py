"""One rocket's loop: drain, decide, append, apply what is stored, publish and answer.

The actor owns its rocket's ledger; nothing else changes it.
Order and duplicates are handled serially here, so there is no lock.
It decides before the commit and changes after it: a failed append needs no undo.
From the return of the append to the last answer there is no checkpoint, so nobody can see a state
between "committed" and "told".
"""

from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b

import msgspec
import trio

from rockets.actors.base import read_left
from rockets.actors.run_budget import RunBudget
from rockets.domain.ledger import Ledger, Outcome, Verdict
from rockets.domain.messages import (
    MESSAGE_NUMBER_MAX,
    Channel,
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
    """Messages of one sender for one rocket, and the place where the answer is put.

    Exactly one of `replies` and `error` is there once `tell` is called, which happens once.
    A sender that gives up is told nothing, but that the actor is through with the part.
    """

    __slots__ = ("_through", "answered", "error", "messages", "received_at", "replies")

    def __init__(self, messages: Sequence[Message], received_at: int) -> None:
        self.messages = messages
        self.received_at = received_at
        self.replies: Sequence[Reply] = ()
        self.error: Exception | None = None
        self.answered = False
        self._through: Callable[[], None] | None = None

    def answer(self, replies: Sequence[Reply]) -> None:
        """Put the replies, one per message in order, unless the sender has given up."""
        if self.answered:
            self._tell_through()
            return
        self.replies = replies
        self.answered = True
        self.tell()

    def fail(self, error: Exception) -> None:
        """Answer with an error, unless there is an answer already."""
        if self.answered:
            self._tell_through()
            return
        self.error = error
        self.answered = True
        self.tell()

    def give_up(self, through: Callable[[], None]) -> None:
        """Want no answer any more; `through` is called once the actor holds the part no longer."""
        assert not self.answered, "who has an answer has nothing to give up"
        self.answered = True
        self._through = through

    def _tell_through(self) -> None:
        if self._through is not None:
            self._through()
            self._through = None

    def tell(self) -> None:
        """Tell the sender that the answer is there; must not raise and must not wait."""
        raise NotImplementedError


class AwaitedPart(Part):
    """A part whose sender is a task that waits."""

    __slots__ = ("_told",)

    def __init__(self, messages: Sequence[Message], received_at: int) -> None:
        super().__init__(messages, received_at)
        self._told = trio.Event()

    def tell(self) -> None:
        """Wake the sender."""
        self._told.set()

    async def wait_replies(self) -> Sequence[Reply]:
        """Wait for the answer; leaving early changes nothing for the batch it is in."""
        await self._told.wait()
        if self.error is not None:
            raise self.error
        return self.replies


class RocketActor:
    """The task that owns one rocket at a time; see the module."""

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
            self.fail_parts(error)
            try:
                self.parts = [self.mailbox.receive_nowait()]
            except (trio.WouldBlock, trio.EndOfChannel):
                return

    def adopt(self, ledger: Ledger) -> None:
        """Take over another rocket; only while it waits for its empty mailbox."""
        assert not self.parts, "an actor changes its rocket between two batches"
        self.ledger = ledger
        self._recent = {}

    async def _drained(self) -> bool:
        """Take all that waits; False when the mailbox is closed and empty."""
        receive_nowait = self.mailbox.receive_nowait
        count = 0
        try:
            while count < DRAIN_MESSAGES_MAX:
                part = receive_nowait()
                self.parts.append(part)
                count += len(part.messages)
        except trio.WouldBlock:
            # Waiting only where nothing is there saves a turn of the scheduler. Nobody starves:
            # what comes meanwhile comes from tasks that had theirs.
            if not self.parts:
                return await self._wait_part()
        except trio.EndOfChannel:
            return bool(self.parts)
        return True

    async def _wait_part(self) -> bool:
        """Wait for a part and take all that has come with it; False as above."""
        try:
            self.parts.append(await self.mailbox.receive())
        except trio.EndOfChannel:
            return False
        return await self._drained()

    async def _process(self) -> None:
        ledger = self.ledger
        messages = [message for part in self.parts for message in part.messages]
        reserved = 0
        try:
            known = ledger.known(messages)
            stored = await self._stored_contents(known) if known else {}
            gaps_max = self._budget.gaps_max(ledger.gap_count)
            decision = ledger.decide(messages, stored, gaps_max=gaps_max)
            records, notes = _to_append(self.parts, decision.verdicts)
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
        messages: Sequence[Message],
        verdicts: Sequence[Verdict],
        appended: Appended | None,
    ) -> list[Reply]:
        """Change the ledger by what the journal holds; give one reply per message."""
        ledger = self.ledger
        gaps_before = ledger.gap_count
        replies: list[Reply] = []
        index = 0
        instead = {} if appended is None else appended.stored
        remembered_from = len(messages) - RECENT_MAX  # of a long batch only the end stays
        try:
            for message, verdict in zip(messages, verdicts, strict=True):
                outcome: Outcome | None
                if verdict == "new":
                    if index in instead:
                        outcome = self._apply_instead(message, instead[index])
                    else:
                        if index >= remembered_from:
                            self._remember(message.number, message.payload)
                        outcome = ledger.apply(message.number, message.payload, message.time)
                    index += 1
                else:
                    outcome = None if verdict == "tooManyGaps" else verdict
                replies.append(Reply(outcome, ledger.settled_through))
        finally:
            # Also after a crash: the restore counts from what this ledger really holds.
            self._budget.change(ledger.gap_count - gaps_before)
        if appended is not None and appended.notes_new:
            ledger.conflicts += sum(appended.notes_new)
        return replies

    def _apply_instead(self, message: Message, stored: StoredRecord) -> Outcome:
        """Apply what another instance has stored in place of a message."""
        payload, time = decode_stored(stored.body)
        self._remember(message.number, payload)
        self.ledger.apply(message.number, payload, time)
        return "duplicate" if payload == message.payload else "conflict"

    def _answer(self, replies: list[Reply]) -> None:
        if len(replies) == len(self.parts):  # the usual case: a message each
            for part, reply in zip(self.parts, replies, strict=True):
                part.answer((reply,))
            return
        start = 0
        for part in self.parts:
            end = start + len(part.messages)
            part.answer(replies[start:end])
            start = end

    async def _stored_contents(self, numbers: Iterable[int]) -> dict[int, Payload]:
        """Get the content of numbers that are stored, from memory or from the journal.

        Those that were pruned are left out.
        """
        stored: dict[int, Payload] = {}
        unread: set[int] = set()
        for number in numbers:
            payload = self._recent.get(number)
            if payload is None:
                unread.add(number)
            else:
                stored[number] = payload
        for start, last in runs_of(sorted(unread)):
            first = start
            while first <= last:
                base, records = await read_left(
                    self._journal, self.ledger.channel, first, last, limit=RESTORE_SLICE
                )
                if base is not None:
                    first = base.settled_through + 1
                    continue
                wanted = min(last - first + 1, RESTORE_SLICE)
                assert len(records) == wanted, "the ledger knows what the journal does not hold"
                for record in records:
                    stored[record.number] = payload = decode_stored(record.body)[0]
                    self._remember(record.number, payload)
                first += wanted
        return stored

    def _remember(self, number: int, payload: Payload) -> None:
        recent = self._recent
        recent[number] = payload
        if len(recent) > RECENT_MAX:
            del recent[next(iter(recent))]

    async def _restored(self) -> None:
        """Fold the rocket again from what the journal really holds."""
        ledger = await fold_stored(self._journal, self.ledger.channel)
        ledger.conflicts = self.ledger.conflicts
        self._budget.change(ledger.gap_count - self.ledger.gap_count)
        self.ledger = ledger
        if ledger.run_count:
            self._publish(ledger)


async def fold_stored(journal: JournalWriter, channel: Channel) -> Ledger:
    """Fold a rocket from its base and its messages, a slice at a time; without its conflicts."""
    ledger, following = Ledger(channel), 1
    while True:
        base, records = await read_left(
            journal, channel, following, MESSAGE_NUMBER_MAX, limit=RESTORE_SLICE
        )
        if base is not None:  # it holds all that was folded so far
            ledger, following = base, base.settled_through + 1
            continue
        apply_stored(ledger, records)
        if len(records) < RESTORE_SLICE:
            return ledger
        following = records[-1].number + 1


def apply_stored(ledger: Ledger, records: Iterable[StoredRecord]) -> None:
    """Apply stored messages of one rocket to its ledger; those it holds change nothing."""
    for record in records:
        ledger.apply(record.number, *decode_stored(record.body))


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
    parts: Sequence[Part], verdicts: Sequence[Verdict]
) -> tuple[list[Record], list[Note]]:
    """Turn the verdicts into what the journal must hold: new messages, and conflicts as notes."""
    records: list[Record] = []
    notes: list[Note] = []
    following = iter(verdicts)
    for part in parts:
        for message in part.messages:
            verdict = next(following)
            if verdict == "new":
                records.append(
                    Record(message.channel, message.number, message.body, part.received_at)
                )
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
