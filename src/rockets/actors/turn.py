"""One rocket's turn, for whoever owns it: what goes to the journal, and what comes of it.

`to_append` is made of the verdicts before the commit and changes nothing.
`apply_stored` changes the ledger afterwards, by what the journal holds, `judge_again` corrects what
comes of another instance's being faster, and `answer` tells the senders.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b

import msgspec

from rockets.actors.part import Part, Reply
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
from rockets.journal.base import Note, Record, StoredRecord

# Content of this many recent numbers is kept, so that a resend costs no read of the journal.
# The test program resends after 10 s at the earliest, and only what got no answer.
RECENT_MAX = 64

# One append of an actor holds at most about this many messages, so that it stays one short commit.
DRAIN_MESSAGES_MAX = 10_000

# The journal is read in slices of this many records.
READ_SLICE = 1_000


def to_append(
    parts: Sequence[Part], verdicts: Sequence[Verdict], ledger: Ledger
) -> tuple[list[Record], list[Note], bool]:
    """Turn the verdicts into what the journal must hold: new messages, and conflicts as notes.

    Also says whether there are conflicts with a new message, which are noted once it is known
    whether that is what was stored.
    """
    records: list[Record] = []
    notes: list[Note] = []
    contested = False
    following = iter(verdicts)
    for part in parts:
        for message in part.messages:
            verdict = next(following)
            if verdict == "new":
                records.append(
                    Record(message.channel, message.number, message.body, part.received_at)
                )
            elif verdict == "conflict":
                if ledger.knows(message.number):
                    notes.append(_conflict(message, part.received_at))
                else:
                    contested = True
    return records, notes, contested


def _conflict(message: Message, noted_at: int) -> Note:
    return Note(
        "conflict",
        message.channel,
        message.number,
        content_key(message),
        message.body,
        noted_at,
    )


def apply_stored(
    ledger: Ledger,
    messages: Sequence[Message],
    verdicts: Sequence[Verdict],
    instead: Mapping[int, StoredRecord],
    recent: dict[int, Payload],
) -> list[Reply]:
    """Change the ledger by what the journal holds; give one reply per message.

    `instead` holds what was stored before in place of a record, by the index of that record.
    Contents are remembered in `recent`.
    """
    replies: list[Reply] = []
    index = 0
    remembered_from = len(messages) - RECENT_MAX  # of a long batch only the end stays
    for message, verdict in zip(messages, verdicts, strict=True):
        outcome: Outcome | None
        if verdict == "new":
            if index in instead:
                outcome = _apply_instead(ledger, message, instead[index], recent)
            else:
                if index >= remembered_from:
                    remember(recent, message.number, message.payload)
                outcome = ledger.apply(message.number, message.payload, message.time)
            index += 1
        else:
            outcome = None if verdict == "tooManyGaps" else verdict
        replies.append(Reply(outcome, ledger.settled_through))
    return replies


def _apply_instead(
    ledger: Ledger, message: Message, stored: StoredRecord, recent: dict[int, Payload]
) -> Outcome:
    """Apply what another instance has stored in place of a message."""
    payload, time = decode_stored(stored.body)
    remember(recent, message.number, payload)
    ledger.apply(message.number, payload, time)
    return "duplicate" if payload == message.payload else "conflict"


def judge_again(
    parts: Sequence[Part],
    verdicts: Sequence[Verdict],
    replies: list[Reply],
    instead: Mapping[int, StoredRecord],
) -> list[Note]:
    """Judge what shares its number with a new message of this turn by what is stored now.

    That may be another instance's content. Corrects the replies, and gives the conflicts.
    """
    contents: dict[int, Payload] = {}
    conflicts: list[Note] = []
    index = 0
    each = ((part, message) for part in parts for message in part.messages)
    for place, (part, message) in enumerate(each):
        if verdicts[place] == "new":
            refused = instead.get(index)
            index += 1
            if refused is None:
                contents[message.number] = message.payload
                continue
            contents[message.number] = decode_stored(refused.body)[0]
        content = contents.get(message.number)
        if content is None or verdicts[place] == "tooManyGaps":
            continue
        outcome: Outcome = "duplicate" if content == message.payload else "conflict"
        replies[place] = Reply(outcome, replies[place].settled_through)
        if outcome == "conflict":
            conflicts.append(_conflict(message, part.received_at))
    return conflicts


def remember(recent: dict[int, Payload], number: int, payload: Payload) -> None:
    """Keep the content of a stored number, and forget the oldest where there are many."""
    recent[number] = payload
    if len(recent) > RECENT_MAX:
        del recent[next(iter(recent))]


def answer(parts: Sequence[Part], replies: Sequence[Reply]) -> None:
    """Give every part its own replies."""
    if len(parts) == 1:
        parts[0].answer(replies)
        return
    if len(replies) == len(parts):  # the usual case: a message each
        for part, reply in zip(parts, replies, strict=True):
            part.answer((reply,))
        return
    start = 0
    for part in parts:
        end = start + len(part.messages)
        part.answer(replies[start:end])
        start = end


def slices_of(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Cut numbers into what one read of the journal gives: inclusive ranges, rising."""
    for first, last in runs_of(sorted(numbers)):
        for start in range(first, last + 1, READ_SLICE):
            yield start, min(last, start + READ_SLICE - 1)


def apply_records(ledger: Ledger, records: Iterable[StoredRecord]) -> None:
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


def content_key(message: Message) -> bytes:
    """Name a content in 16 bytes, so that a conflict is kept once per differing content."""
    content = msgspec.json.encode((message.message_type, message.payload))
    return blake2b(content, digest_size=16).digest()
