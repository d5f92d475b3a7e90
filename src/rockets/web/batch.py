"""A batch on `POST /messages`: a JSON array, or NDJSON taken in parts while the rest arrives.

Items are not atomic together: each is one message, judged by itself, and an invalid one never
harms its neighbours.
The answer comes when every valid item is durable.
"""

import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Literal, get_args

import msgspec
import trio

from rockets.actors.fleet import Fleet
from rockets.domain.ledger import Outcome
from rockets.domain.messages import Message, MessageInvalid, MessageMalformed, decode_message
from rockets.web.byte_budget import Holding
from rockets.web.framing import Head
from rockets.web.problems import Problem, Refusal, problem_body, refusal, too_many_gaps

# NDJSON is handed over in parts of this many lines, or of fewer that have so many bytes, so that a
# long batch becomes durable while it is still arriving, and is never held as a whole.
LINES_PER_PART = 1_000
PART_BYTES_MAX = 384 * 1024

# Decoding holds the loop; after this many messages (about 1 ms) others get their turn.
DECODED_AT_ONCE = 200

ITEMS_MAX = 10_000  # unless the settings say otherwise
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)

_JSON_WHITE_SPACE = b" \t\r\n"
# The first byte that is not white space, without copying a long body.
_FIRST = re.compile(rb"[ \t\r\n]*+([^ \t\r\n])")
_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])

# The shortest item and its comma, such as `1,`, have two bytes: so many of them would become half
# a gigabyte of small objects before they could be counted. A valid message has ten times this.
ITEM_BYTES_MIN = 16

# What the problem of one item takes until the batch is answered, and each field that is wrong.
# (Measured: a small body of ten thousand items that are none grows by a hundred times.)
PROBLEM_BYTES = 1_024
FIELD_BYTES = 256


class ItemProblem(msgspec.Struct, frozen=True):
    """What was wrong with one item of a batch; the index counts from 0."""

    index: int
    problem: Problem


class BatchResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer to a batch; `outcomes` only with `Prefer`, null where there is a problem."""

    counts: dict[Outcome, int]
    problems: list[ItemProblem]
    outcomes: list[Outcome | None] | None = None


BatchForm = Literal["single", "array", "ndjson"]


def form_of(content_type: str | None, start: bytes) -> BatchForm:
    """Say how a body is to be read, by its type and its first bytes."""
    media_type = (content_type or "").split(";")[0].strip().lower()
    if media_type == "application/x-ndjson":
        return "ndjson"
    return "array" if start.lstrip(_JSON_WHITE_SPACE).startswith(b"[") else "single"


class BatchBodies(msgspec.Struct, frozen=True):
    """The rules of the front for bodies: only a batch may be long, and lines are a stream."""

    message_max: int
    batch_max: int

    def body_max(self, head: Head, start: bytes | bytearray) -> int:
        """Give the limit; what begins with more white space than a message has room for is none.

        It looks at the start alone, since it is asked again whenever more has arrived.
        """
        if head.method != b"POST" or head.path != b"/messages":
            return self.message_max
        if self.streams(head):
            return self.batch_max
        known = _FIRST.match(start[: self.message_max])
        if known is None:
            return self.batch_max if len(start) <= self.message_max else self.message_max
        return self.batch_max if known[1] == b"[" else self.message_max

    def streams(self, head: Head) -> bool:
        """Say whether the body is taken line by line."""
        is_intake = head.method == b"POST" and head.path == b"/messages"
        return is_intake and form_of(head.header(b"content-type"), b"") == "ndjson"


class BatchIntake:
    """Takes the items of one batch in order and collects what became of them."""

    def __init__(
        self,
        *,
        fleet: Fleet,
        wall_clock: Callable[[], int],
        ask_timeout_s: float,
        item_max: int,
        items_max: int,
        answer: Holding,
        request_id: str,
        reject: Callable[[bytes], None],
    ) -> None:
        """`answer` holds what the problems take, and may refuse to."""
        self._fleet = fleet
        self._wall_clock = wall_clock
        self._ask_timeout_s = ask_timeout_s
        self._item_max = item_max
        self._items_max = items_max
        self._answer = answer
        self._answer_bytes = 0
        self._request_id = request_id
        self._reject = reject
        self._outcomes: list[Outcome | None] = []
        self._problems: list[ItemProblem] = []

    async def take_array(self, body: bytes) -> None:
        """Take a whole JSON array; a malformed one is refused as a whole."""
        try:
            body.decode()
            self._refuse_crumbs(body)
            items = _ITEMS.decode(body)
        except UnicodeDecodeError as error:
            raise MessageMalformed("the body is not UTF-8") from error
        except (msgspec.DecodeError, RecursionError) as error:
            raise MessageMalformed("the body is not a JSON array") from error
        self._check_count(len(items))
        await self._take([bytes(item) for item in items])

    async def take_lines(self, pieces: AsyncIterator[bytes]) -> None:
        """Take NDJSON as it arrives; blank lines are passed over."""
        lines = _Lines(self._item_max)
        async for piece in pieces:
            lines.add(piece)
            while lines.has_part:
                await self._take(lines.take_part())
        lines.end()
        while lines.whole:
            await self._take(lines.take_part())

    def result(self, *, with_outcomes: bool) -> BatchResult:
        """Give the answer."""
        counts = Counter(outcome for outcome in self._outcomes if outcome is not None)
        return BatchResult(
            {outcome: counts[outcome] for outcome in OUTCOMES},
            self._problems,
            self._outcomes if with_outcomes else None,
        )

    async def _take(self, items: Sequence[bytes]) -> None:
        """Take the next items; returns when the valid ones are durable."""
        first = len(self._outcomes)
        self._check_count(len(items))
        messages: dict[int, Message] = {}
        for index, item in enumerate(items, first):
            if index % DECODED_AT_ONCE == DECODED_AT_ONCE - 1:
                await trio.lowlevel.checkpoint()
            try:
                messages[index] = self._decode(item)
            except (MessageInvalid, MessageMalformed, Refusal) as error:
                self._reject(item)
                self._add_problem(index, refusal(error))
        self._outcomes += [None] * len(items)
        for index, outcome in zip(messages, await self._ask([*messages.values()]), strict=True):
            self._outcomes[index] = outcome
            if outcome is None:
                self._add_problem(index, too_many_gaps())
        self._problems.sort(key=lambda problem: problem.index)

    def _check_count(self, more: int) -> None:
        if len(self._outcomes) + more > self._items_max:
            raise self._too_many()

    def _too_many(self) -> Refusal:
        return Refusal("content-too-large", f"a batch has at most {self._items_max} messages")

    def _refuse_crumbs(self, body: bytes) -> None:
        """Refuse an array that must have far too many items before any of them is made.

        With more commas than a quarter of the bytes it is not made of messages: no JSON text that
        describes one has as many.
        """
        if len(body) > self._items_max * ITEM_BYTES_MIN and body.count(b",") * 4 > len(body):
            raise self._too_many()

    def _decode(self, item: bytes) -> Message:
        if len(item) > self._item_max:
            raise Refusal("content-too-large", f"the message is over {self._item_max} bytes")
        return decode_message(item)

    async def _ask(self, messages: Sequence[Message]) -> list[Outcome | None]:
        with trio.move_on_after(self._ask_timeout_s):
            replies = await self._fleet.ask_all(messages, received_at=self._wall_clock())
            return [reply.outcome for reply in replies]
        raise Refusal("unavailable", f"not durable within {self._ask_timeout_s:g} s")

    def _add_problem(self, index: int, refused: Refusal) -> None:
        body = problem_body(
            refused.name, refused.detail, request_id=self._request_id, errors=refused.errors
        )
        self._answer_bytes += PROBLEM_BYTES + FIELD_BYTES * len(refused.errors)
        try:
            self._answer.grow_to(self._answer_bytes)
        except Refusal as full:  # earlier items may be stored by now
            raise Refusal("unavailable", full.detail) from full
        self._problems.append(ItemProblem(index, body))


class _Lines:
    """Cuts what arrives into lines, without looking at any byte twice.

    Of a line over the limit only so much is kept as shows that it is.
    """

    def __init__(self, line_max: int) -> None:
        self.whole: list[bytes] = []
        self._size = 0  # of these
        self._line_max = line_max
        self._begun = bytearray()

    def add(self, piece: bytes) -> None:
        """Take the next piece."""
        *ends, begin = piece.split(b"\n")
        for end in ends:
            if self._begun or len(end) > self._line_max:
                self._grow(end)
                self.end()
            elif end.strip(_JSON_WHITE_SPACE):  # the usual line is taken as it is
                self._keep(end)
        self._grow(begin)

    def end(self) -> None:
        """End the line that has begun, if it holds anything."""
        if self._begun.strip(_JSON_WHITE_SPACE):
            self._keep(bytes(self._begun))
        self._begun.clear()

    @property
    def has_part(self) -> bool:
        """Enough lines wait to be handed over."""
        return len(self.whole) >= LINES_PER_PART or self._size >= PART_BYTES_MAX

    def take_part(self) -> list[bytes]:
        """Take the next lines out."""
        part, self.whole = self.whole[:LINES_PER_PART], self.whole[LINES_PER_PART:]
        self._size = sum(map(len, self.whole))
        return part

    def _keep(self, line: bytes) -> None:
        self.whole.append(line.removesuffix(b"\r"))
        self._size += len(line)

    def _grow(self, piece: bytes) -> None:
        # A line may end with a CR that does not count; what is over is cut off one byte behind.
        self._begun += piece[: self._line_max + 2 - len(self._begun)]
