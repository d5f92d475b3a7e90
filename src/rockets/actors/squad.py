"""A squad: many rockets that one actor owns for as long as it has something to do for them.

It takes the part of a batch that is of rockets nobody owns, since an actor for each would cost
several times what their messages do. It works as `rocket_actor` does, only that one append holds
what all its rockets have to add; what comes meanwhile for one of them waits in the squad's mailbox.
Its rockets stay packed: each is opened for its turn, and packed again in the step that publishes
it. So a failed append needs no undo, and a squad that ends leaves nothing behind.
A rocket for which nothing waits after an append is given back at once.
What other instances have stored comes first of all that waits.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice

import trio

from rockets.actors.base import base_of
from rockets.actors.part import Part, Reply
from rockets.actors.read_model import ReadModel
from rockets.actors.run_budget import RunBudget
from rockets.actors.turn import (
    DRAIN_MESSAGES_MAX,
    READ_SLICE,
    answer,
    apply_stored,
    decode_stored,
    judge_again,
    slices_of,
    to_append,
)
from rockets.domain.ledger import Ledger, Verdict
from rockets.domain.messages import Channel, Message, Payload
from rockets.journal.base import Appended, JournalError, Note, Record, StoredRecord
from rockets.journal.writer import JournalWriter

# Before the commit others get their turn after so many rockets, about 2 ms.
TURNS_AT_ONCE = 200

_Stored = dict[Channel, dict[int, Payload]]
_NEW: Sequence[Verdict] = ("new",)
_NOTHING_STORED: Mapping[int, Payload] = {}


class _Turn:
    """What one rocket has to do with one append: its parts, and its share of the append."""

    __slots__ = (
        "contested",
        "gaps",
        "is_plain",
        "late",
        "ledger",
        "messages",
        "notes",
        "parts",
        "records",
        "replies",
        "verdicts",
    )

    def __init__(self, ledger: Ledger, parts: Sequence[Part]) -> None:
        self.ledger = ledger
        self.parts = parts
        self.messages: Sequence[Message] = (
            parts[0].messages
            if len(parts) == 1
            else [message for part in parts for message in part.messages]
        )
        # The usual case: nothing has to be looked up, and nothing to be judged.
        self.is_plain = len(self.messages) == 1 and ledger.continues(self.messages[0].number)
        self.verdicts: Sequence[Verdict] = ()
        self.records = self.notes = 0
        self.contested = False
        self.gaps = ledger.gap_count
        self.replies: list[Reply] = []
        self.late: Sequence[Note] = ()  # known to be conflicts after the append only


class Squad:
    """The task that owns the rockets of `channels`, at first those of its parts; see the module."""

    def __init__(
        self,
        parts: list[Part],
        *,
        mailbox: trio.MemoryReceiveChannel[Part],
        journal: JournalWriter,
        budget: RunBudget,
        read_model: ReadModel,
        give_back: Callable[[Iterable[Channel]], None],
    ) -> None:
        self.channels = _channels(parts)
        self.parts = parts
        self.mailbox = mailbox
        self._give_back = give_back
        self._journal = journal
        self._budget = budget
        self._read_model = read_model

    async def run(self) -> None:
        """Work until nothing waits for any of the rockets; by then all are given back.

        May raise: whoever started it is the supervisor.
        """
        while self.parts:
            await self._process()
            self._take_next()

    def _take_next(self) -> None:
        """Take all that waits, and give those rockets back for which nothing does. No checkpoint.

        Where the mailbox may hold more, nobody knows whose it is, and all of them stay.
        """
        self.parts, is_all = self._drained()
        if is_all:
            needless = self.channels - _channels(self.parts)
            self.channels -= needless
            self._give_back(needless)

    def fail(self, error: Callable[[], Exception]) -> None:
        """Answer every sender, those in the mailbox included, with an error of its own."""
        while self.parts:
            self._fail_parts(error)
            self.parts, _ = self._drained()

    def _fail_parts(self, error: Callable[[], Exception]) -> None:
        for part in self.parts:
            part.fail(error())

    def _drained(self) -> tuple[list[Part], bool]:
        """Take what waits, and say whether that is all."""
        parts: list[Part] = []
        count = 0
        try:
            while count < DRAIN_MESSAGES_MAX:
                part = self.mailbox.receive_nowait()
                parts.append(part)
                count += len(part.messages)
        except (trio.WouldBlock, trio.EndOfChannel):
            return parts, True
        return parts, False

    async def _process(self) -> None:
        await self._bring_news()
        if not self.parts:
            return
        records: list[Record] = []
        notes: list[Note] = []
        reserved = 0
        try:
            turns = await self._opened()
            stored = await self._stored_contents(turns)
            for index, turn in enumerate(turns, 1):
                if gaps_opened := self._decide(turn, stored, records, notes):
                    self._budget.change(gaps_opened)
                    reserved += gaps_opened
                if index % TURNS_AT_ONCE == 0:
                    await trio.lowlevel.checkpoint()
            appended = await self._journal.append(records, notes) if records or notes else None
        except JournalError as error:
            # Whether any of them is stored is unknown; to send them again is safe.
            failed = type(error), str(error)
            self._fail_parts(lambda: failed[0](failed[1]))
            return
        finally:
            self._budget.change(-reserved)
        # No checkpoint from here on: committed, applied, published and told are one step.
        self._apply(turns, appended)
        late = [turn for turn in turns if turn.late]
        if late:
            await self._note_late(late)

    async def _bring_news(self) -> None:
        """Change the ledgers by what other instances stored, and tell."""
        news = [part for part in self.parts if part.is_news]
        for index, part in enumerate(news, 1):
            ledger = self._read_model.opened(part.channel)
            gaps = ledger.gap_count
            if part.bring_into(ledger):
                self._budget.change(ledger.gap_count - gaps)
                self._read_model.publish_packed(ledger)
            part.answer(())
            if index % TURNS_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
        if news:
            self.parts = [part for part in self.parts if not part.is_news]

    async def _opened(self) -> list[_Turn]:
        """Open the ledgers of the rockets that have a part."""
        parts_of: dict[Channel, list[Part]] = {}
        for part in self.parts:
            parts_of.setdefault(part.channel, []).append(part)
        turns: list[_Turn] = []
        # In the order of their names their rows are neighbours where the journal looks them up.
        for channel in sorted(parts_of):
            turns.append(_Turn(self._read_model.opened(channel), parts_of[channel]))
            if len(turns) % TURNS_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
        return turns

    async def _stored_contents(self, turns: Sequence[_Turn]) -> _Stored:
        """Get the content of those numbers of the turns' messages that are stored."""
        stored: _Stored = {}
        asked: list[tuple[str, int, int]] = []
        count = 0
        for turn in turns:
            if turn.is_plain:
                continue
            known = turn.ledger.known(turn.messages)
            if not known:
                continue
            channel = turn.ledger.channel
            stored[channel] = {}
            for first, last in slices_of(set(known)):
                asked.append((channel, first, last))
                count += last - first + 1
                if count >= READ_SLICE:
                    await self._read(asked, stored)
                    asked, count = [], 0
        if asked:
            await self._read(asked, stored)
        return stored

    async def _read(self, asked: Sequence[tuple[str, int, int]], stored: _Stored) -> None:
        found = await self._journal.read_each(asked)
        for record in found:
            stored[Channel(record.stream)][record.number] = decode_stored(record.body)[0]
        if len(found) < sum(last - first + 1 for _, first, last in asked):
            await self._excuse(asked, stored)

    async def _excuse(self, asked: Sequence[tuple[str, int, int]], stored: _Stored) -> None:
        """Make sure that what the journal does not hold any more was pruned."""
        for stream, first, last in asked:
            channel = Channel(stream)
            missing = [n for n in range(first, last + 1) if n not in stored[channel]]
            if missing:
                base = await base_of(self._journal, channel)
                pruned_through = 0 if base is None else base.settled_through
                assert missing[-1] <= pruned_through, (
                    "the ledger knows what the journal does not hold"
                )

    def _decide(
        self, turn: _Turn, stored: _Stored, records: list[Record], notes: list[Note]
    ) -> int:
        """Judge a rocket's messages; gives how many gaps that may open."""
        ledger = turn.ledger
        if turn.is_plain:
            [part], [message] = turn.parts, turn.messages
            records.append(Record(message.channel, message.number, message.body, part.received_at))
            turn.verdicts, turn.records = _NEW, 1
            return 0
        decision = ledger.decide(
            turn.messages,
            stored.get(ledger.channel, _NOTHING_STORED),
            gaps_max=self._budget.gaps_max(turn.gaps),
        )
        turn.verdicts = decision.verdicts
        new, remarks, turn.contested = to_append(turn.parts, decision.verdicts, ledger)
        turn.records, turn.notes = len(new), len(remarks)
        records += new
        notes += remarks
        return max(0, decision.gaps_opened)

    def _apply(self, turns: Sequence[_Turn], appended: Appended | None) -> None:
        """Change every ledger by what the journal holds, publish it, then tell the senders.

        Those of late conflicts are told when these are noted.
        """
        record = note = 0
        for turn in turns:
            ledger = turn.ledger
            record_end, note_end = record + turn.records, note + turn.notes
            instead = _instead(appended, record, record_end)
            turn.replies = _applied(turn, instead)
            if turn.contested or instead:
                turn.late = judge_again(turn.parts, turn.verdicts, turn.replies, instead)
            if appended is not None and turn.notes:
                ledger.conflicts += sum(appended.notes_new[note:note_end])
            if turn.records or turn.notes:
                self._read_model.publish_packed(ledger)
                if gaps_opened := ledger.gap_count - turn.gaps:
                    self._budget.change(gaps_opened)
            record, note = record_end, note_end
        for turn in turns:
            if not turn.late:
                answer(turn.parts, turn.replies)

    async def _note_late(self, turns: Sequence[_Turn]) -> None:
        """Note conflicts behind their batch; where that fails they are in doubt for the senders."""
        notes = [note for turn in turns for note in turn.late]
        try:
            appended = await self._journal.append([], notes)
        except JournalError as error:
            failed = type(error), str(error)
            self._fail_parts(lambda: failed[0](failed[1]))
            return
        noted = iter(appended.notes_new)
        for turn in turns:
            turn.ledger.conflicts += sum(islice(noted, len(turn.late)))
            self._read_model.publish_packed(turn.ledger)
        for turn in turns:
            answer(turn.parts, turn.replies)


def _applied(turn: _Turn, instead: Mapping[int, StoredRecord]) -> list[Reply]:
    """Change a rocket's ledger by what the journal holds; give one reply per message."""
    ledger = turn.ledger
    if turn.is_plain and not instead:
        [message] = turn.messages
        outcome = ledger.apply(message.number, message.payload, message.time)
        return [Reply(outcome, ledger.settled_through)]
    return apply_stored(ledger, turn.messages, turn.verdicts, instead, {})


def _channels(parts: Iterable[Part]) -> set[Channel]:
    return {part.channel for part in parts}


def _instead(appended: Appended | None, start: int, end: int) -> Mapping[int, StoredRecord]:
    """Give what was stored before in place of a rocket's records, by their own index."""
    if appended is None or not appended.stored:  # nearly always
        return {}
    stored = appended.stored
    return {index - start: stored[index] for index in range(start, end) if index in stored}
