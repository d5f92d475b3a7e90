"""One rocket's loop: drain, decide, append, apply what is stored, publish and answer.

The actor owns its rocket's ledger; nothing else changes it.
Order and duplicates are handled serially here, so there is no lock.
It decides before the commit and changes after it: a failed append needs no undo.
From the return of the append to the last answer there is no checkpoint, so nobody can see a state
between "committed" and "told".
"""

from collections.abc import Callable, Iterable, Sequence

import trio

from rockets.actors.base import read_left
from rockets.actors.part import Part, Reply
from rockets.actors.run_budget import RunBudget
from rockets.actors.turn import (
    DRAIN_MESSAGES_MAX,
    READ_SLICE,
    answer,
    apply_records,
    apply_stored,
    decode_stored,
    judge_again,
    remember,
    to_append,
)
from rockets.domain.ledger import Ledger, Verdict
from rockets.domain.messages import MESSAGE_NUMBER_MAX, Channel, Message, Payload
from rockets.domain.rocket import runs_of
from rockets.journal.base import Appended, JournalError, Note
from rockets.journal.writer import JournalWriter


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
        if any(part.is_news for part in self.parts):
            self._bring_news()
            if not self.parts:
                return
        ledger = self.ledger
        messages = [message for part in self.parts for message in part.messages]
        reserved = 0
        try:
            known = ledger.known(messages)
            stored = await self._stored_contents(known) if known else {}
            gaps_max = self._budget.gaps_max(ledger.gap_count)
            decision = ledger.decide(messages, stored, gaps_max=gaps_max)
            records, notes, contested = to_append(self.parts, decision.verdicts, ledger)
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
            if contested or appended.stored:
                late = judge_again(self.parts, decision.verdicts, replies, appended.stored)
                # What is told of these is that they are noted, which takes one more commit.
                if late and not await self._note_late(late):
                    return
        answer(self.parts, replies)

    def _bring_news(self) -> None:
        """Change the ledger by what other instances stored, and tell. No checkpoint."""
        ledger, gaps_before = self.ledger, self.ledger.gap_count
        news = [part for part in self.parts if part.is_news]
        try:
            for part in news:
                part.bring_into(ledger)
        finally:
            self._budget.change(ledger.gap_count - gaps_before)
        self._publish(ledger)
        self.parts = [part for part in self.parts if not part.is_news]
        for part in news:
            part.answer(())

    async def _note_late(self, conflicts: Sequence[Note]) -> bool:
        """Note conflicts behind their batch; where that fails all is in doubt for the senders."""
        try:
            appended = await self._journal.append([], conflicts)
        except JournalError as error:
            failed = type(error), str(error)
            self.fail_parts(lambda: failed[0](failed[1]))
            return False
        self.ledger.conflicts += sum(appended.notes_new)
        self._publish(self.ledger)
        return True

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
        instead = {} if appended is None else appended.stored
        try:
            replies = apply_stored(ledger, messages, verdicts, instead, self._recent)
        finally:
            # Also after a crash: the restore counts from what this ledger really holds.
            self._budget.change(ledger.gap_count - gaps_before)
        if appended is not None and appended.notes_new:
            ledger.conflicts += sum(appended.notes_new)
        return replies

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
                    self._journal, self.ledger.channel, first, last, limit=READ_SLICE
                )
                if base is not None:
                    first = base.settled_through + 1
                    continue
                wanted = min(last - first + 1, READ_SLICE)
                assert len(records) == wanted, "the ledger knows what the journal does not hold"
                for record in records:
                    stored[record.number] = payload = decode_stored(record.body)[0]
                    remember(self._recent, record.number, payload)
                first += wanted
        return stored

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
            journal, channel, following, MESSAGE_NUMBER_MAX, limit=READ_SLICE
        )
        if base is not None:  # it holds all that was folded so far
            ledger, following = base, base.settled_through + 1
            continue
        apply_records(ledger, records)
        if len(records) < READ_SLICE:
            return ledger
        following = records[-1].number + 1
