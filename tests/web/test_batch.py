"""Batches: the outcomes of single messages, whatever the mixture, the order and the split."""

import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from rockets.actors.fleet import Fleet, FleetLimits
from rockets.actors.waiting import FleetUnavailable
from rockets.domain.messages import MessageInvalid, MessageMalformed, decode_message
from rockets.journal.base import Appended, JournalFull, Note, Record
from rockets.journal.memory import MemoryJournal
from rockets.web.answer_bound import answer_budget
from rockets.web.batch import (
    FIELD_BYTES,
    ITEMS_MAX,
    LINES_PER_PART,
    PART_BYTES_MAX,
    PROBLEM_BYTES,
    BatchIntake,
    BatchResult,
    form_of,
)
from rockets.web.byte_budget import ByteBudget
from rockets.web.problems import Refusal
from tests.actors.fleets import Gate, running_fleet
from tests.helpers import body


def intake(
    fleet: Fleet,
    rejected: list[bytes] | None = None,
    *,
    item_max: int = 65_536,
    items_max: int = ITEMS_MAX,
    answers: ByteBudget | None = None,
) -> BatchIntake:
    """Start a batch on this fleet."""
    return BatchIntake(
        fleet=fleet,
        wall_clock=lambda: 1,
        ask_timeout_s=8,
        item_max=item_max,
        items_max=items_max,
        answer=(answers or answer_budget(2**30)).hold(),
        request_id="id",
        reject=(rejected if rejected is not None else []).append,
    )


async def pieces(content: bytes, size: int) -> AsyncIterator[bytes]:
    """Let content arrive in pieces."""
    for start in range(0, len(content), size):
        await trio.lowlevel.checkpoint()
        yield content[start : start + size]


def mixture(randomness: random.Random, count: int) -> list[bytes]:
    """Make valid, duplicate, conflicting and invalid items over a few rockets."""
    items: list[bytes] = []
    for _ in range(count):
        channel, number = f"r{randomness.randrange(8)}", randomness.randrange(1, count // 8 + 2)
        kind = randomness.random()
        if kind < 0.8:
            items.append(body(channel, number, by=number))
        elif kind < 0.9:
            items.append(body(channel, number, by=number + 1))
        else:
            items.append(randomness.choice([b'{"metadata": 1}', b"{}", b'"text"', b"[]", b"17"]))
    return items


async def one_by_one(items: Sequence[bytes]) -> list[str | None]:
    """Send the items singly; None where one is invalid."""
    outcomes: list[str | None] = []
    async with running_fleet() as fleet:
        for item in items:
            try:
                message = decode_message(item)
            except (MessageInvalid, MessageMalformed):
                outcomes.append(None)
            else:
                [reply] = await fleet.ask(message.channel, (message,), received_at=1)
                outcomes.append(reply.outcome)
    return outcomes


async def as_array(items: Sequence[bytes]) -> BatchResult:
    """Send the items as one JSON array."""
    async with running_fleet() as fleet:
        batch = intake(fleet)
        await batch.take_array(b"[" + b",".join(items) + b"]")
        return batch.result(with_outcomes=True)


async def as_lines(items: Sequence[bytes], size: int) -> BatchResult:
    """Send the items as NDJSON in pieces of this size."""
    async with running_fleet() as fleet:
        batch = intake(fleet)
        await batch.take_lines(pieces(b"\n".join(items), size))
        return batch.result(with_outcomes=True)


@pytest.mark.slow
async def test_ten_thousand_mixed_items_have_the_outcomes_of_single_messages() -> None:
    items = mixture(random.Random(1), ITEMS_MAX)

    expected = await one_by_one(items)
    array, lines = await as_array(items), await as_lines(items, 64 * 1024)

    assert array.outcomes == lines.outcomes == expected
    assert {"applied", "held", "ignored", "duplicate", "conflict", None} >= set(expected)
    assert [problem.index for problem in array.problems] == [
        index for index, outcome in enumerate(expected) if outcome is None
    ]
    assert sum(array.counts.values()) + len(array.problems) == ITEMS_MAX


@given(seed=st.integers(0, 2**32), count=st.integers(0, 30), size=st.integers(1, 500))
async def test_any_batch_has_the_outcomes_of_single_messages(
    seed: int, count: int, size: int
) -> None:
    items = mixture(random.Random(seed), count)

    expected = await one_by_one(items)

    assert (await as_array(items)).outcomes == expected
    assert (await as_lines(items, size)).outcomes == expected


async def test_batches_over_the_same_rockets_in_opposite_order_both_end() -> None:
    journal, gate = MemoryJournal(), Gate()
    async with running_fleet(journal, gate=gate, limits=FleetLimits(mailbox_max=1)) as fleet:
        gate.shut()
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                for start in range(20):
                    channels = ["a", "b", "c"][:: 1 if start % 2 else -1]
                    items = [body(channel, start + 1) for channel in channels]
                    nursery.start_soon(intake(fleet).take_array, b"[" + b",".join(items) + b"]")
                await trio.testing.wait_all_tasks_blocked()
                gate.open()

    assert journal.head() == 60


class Appends(MemoryJournal):
    """A journal that remembers how many records of each stream every append brought."""

    def __init__(self) -> None:
        super().__init__()
        self.of: dict[str, list[int]] = {}

    def append(self, records: Sequence[Record], notes: Sequence[Note] = ()) -> Appended:
        """Count, then append."""
        for stream, count in Counter(record.stream for record in records).items():
            self.of.setdefault(stream, []).append(count)
        return super().append(records, notes)


async def test_each_rocket_gets_its_part_as_one_append() -> None:
    journal = Appends()
    async with running_fleet(journal) as fleet:
        batch = intake(fleet)
        items = [body(f"r{n % 3}", n // 3 + 1) for n in range(300)]
        await batch.take_array(b"[" + b",".join(items) + b"]")
        assert fleet.statistics().live_actors == 0

    assert batch.result(with_outcomes=False).outcomes is None
    assert journal.of == {"r0": [100], "r1": [100], "r2": [100]}
    assert journal.head() == 300


async def test_each_part_of_the_lines_is_one_append_per_rocket() -> None:
    journal = Appends()
    lines = [body(f"r{n % 2}", n // 2 + 1) for n in range(LINES_PER_PART + 10)]
    async with running_fleet(journal) as fleet:
        await intake(fleet).take_lines(pieces(b"\n".join(lines), 64 * 1024))

    half = LINES_PER_PART // 2
    assert journal.of == {"r0": [half, 5], "r1": [half, 5]}


@pytest.mark.parametrize(("over", "parts"), [(-1, [4]), (0, [3, 1]), (1, [3, 1])])
async def test_a_part_of_the_lines_ends_where_it_has_so_many_bytes(
    over: int, parts: list[int]
) -> None:
    journal = Appends()
    sizes = [PART_BYTES_MAX // 3, PART_BYTES_MAX // 3, PART_BYTES_MAX // 3 + over, 300]
    assert sum(sizes[:3]) == PART_BYTES_MAX + over
    lines = [sized(number, size) for number, size in enumerate(sizes, 1)]
    async with running_fleet(journal) as fleet:
        arriving = pieces(b"\n".join(lines), 1_024)
        await intake(fleet, item_max=PART_BYTES_MAX).take_lines(arriving)

    assert journal.of == {"r": parts}


@pytest.mark.parametrize(("room", "refused"), [(1, False), (0, False), (-1, True)])
async def test_problems_for_which_there_is_no_room_end_the_batch_in_doubt(
    room: int, refused: bool
) -> None:
    count, errors = 100, 2  # of an empty object
    answers = answer_budget(count * (PROBLEM_BYTES + errors * FIELD_BYTES) + room)
    async with running_fleet() as fleet:
        batch = intake(fleet, answers=answers)
        content = b"[" + b",".join([b"{}"] * count) + b"]"
        if refused:
            with pytest.raises(Refusal, match="too many large answers") as raised:
                await batch.take_array(content)
            assert raised.value.name == "unavailable"
        else:
            await batch.take_array(content)


async def test_lines_are_durable_while_the_rest_is_still_arriving() -> None:
    journal = MemoryJournal()
    async with running_fleet(journal) as fleet:

        async def arriving() -> AsyncIterator[bytes]:
            for number in range(1, LINES_PER_PART + 1):
                yield body("r", number) + b"\n"
            yield body("r", LINES_PER_PART + 1)
            assert journal.head() == LINES_PER_PART

        await intake(fleet).take_lines(arriving())

    assert journal.head() == LINES_PER_PART + 1


@pytest.mark.parametrize(("count", "refused"), [(9_999, False), (10_000, False), (10_001, True)])
async def test_a_batch_has_at_most_ten_thousand_items(count: int, refused: bool) -> None:
    async with running_fleet() as fleet:
        content = b"[" + b",".join([b"{}"] * count) + b"]"
        if refused:
            with pytest.raises(Refusal, match="at most 10000"):
                await intake(fleet).take_array(content)
        else:
            await intake(fleet).take_array(content)


@pytest.mark.slow
@pytest.mark.parametrize(("count", "refused"), [(9_999, False), (10_000, False), (10_001, True)])
async def test_lines_are_at_most_ten_thousand_too(count: int, refused: bool) -> None:
    async with running_fleet() as fleet:
        batch = intake(fleet)
        arriving = pieces(b"\n\n" + b"{}\n" * count + b"\n", 64 * 1024)
        if refused:
            with pytest.raises(Refusal, match="at most 10000"):
                await batch.take_lines(arriving)
        else:
            await batch.take_lines(arriving)

    assert len(batch.result(with_outcomes=False).problems) == min(count, ITEMS_MAX)


def sized(number: int, size: int) -> bytes:
    """Make a message of exactly this many bytes."""
    room = size - len(body("r", number, "Padded", padding=""))
    return body("r", number, "Padded", padding="x" * room)


@pytest.mark.parametrize("form", ["array", "lines"])
@pytest.mark.parametrize(("size", "problems"), [(399, []), (400, []), (401, [(1, 413)])])
async def test_an_item_may_be_as_long_as_the_limit_of_a_message(
    size: int, problems: list[tuple[int, int]], form: str
) -> None:
    items = [body("r", 1), sized(2, size), body("r", 3)]
    assert len(items[1]) == size
    async with running_fleet() as fleet:
        batch = intake(fleet, item_max=400)
        if form == "array":
            await batch.take_array(b"[ " + b" , ".join(items) + b" ]")
        else:
            await batch.take_lines(pieces(b"\n".join(items), 50))
        result = batch.result(with_outcomes=True)

    assert [(each.index, each.problem.status) for each in result.problems] == problems
    assert sum(result.counts.values()) == 3 - len(problems)


async def test_an_item_over_the_limit_of_a_message_harms_nobody_else() -> None:
    async with running_fleet() as fleet:
        batch = intake(fleet, item_max=400)
        long = body("r", 2, "Padded", padding="x" * 400)
        await batch.take_array(b"[" + b",".join([body("r", 1), long, body("r", 3)]) + b"]")
        result = batch.result(with_outcomes=True)

    assert result.outcomes == ["ignored", None, "held"]
    assert [(p.index, p.problem.status) for p in result.problems] == [(1, 413)]


async def test_an_item_that_opens_one_gap_too_many_is_its_own_problem() -> None:
    async with running_fleet(limits=FleetLimits(rocket_gaps_max=0)) as fleet:
        batch = intake(fleet)
        await batch.take_array(b"[" + body("r", 1) + b"," + body("r", 9) + b"]")
        result = batch.result(with_outcomes=True)

    assert result.outcomes == ["ignored", None]
    assert result.problems[0].problem.type == "/problems/too-many-gaps"


class _FullFor(MemoryJournal):
    """Has no room for one stream."""

    def append(self, records: Sequence[Record], notes: Sequence[Note] = ()) -> Appended:
        if any(record.stream == "full" for record in records):
            raise JournalFull("no space")
        return super().append(records, notes)


async def test_a_batch_of_which_one_part_is_in_doubt_gets_no_2xx() -> None:
    async with running_fleet(_FullFor()) as fleet:
        with pytest.raises(FleetUnavailable):
            await intake(fleet).take_array(b"[" + body("a", 1) + b"," + body("full", 1) + b"]")


async def test_every_invalid_item_is_handed_on_as_it_was_sent() -> None:
    rejected: list[bytes] = []
    async with running_fleet() as fleet:
        await intake(fleet, rejected).take_array(b'[ {"a": 1}, ' + body("r", 1) + b", 7 ]")

    assert rejected == [b'{"a": 1}', b"7"]


MALFORMED = [b"[", b"[1,]", b"[{}", b"[]x", b"[nul]", b"\xff[", b"[" * 70_000, b'["\xff"]']


@pytest.mark.parametrize("content", MALFORMED)
async def test_a_malformed_array_is_refused_as_a_whole(content: bytes) -> None:
    async with running_fleet() as fleet:
        with pytest.raises(MessageMalformed):
            await intake(fleet).take_array(content)


async def test_a_malformed_line_is_the_problem_of_that_line() -> None:
    async with running_fleet() as fleet:
        batch = intake(fleet)
        content = body("r", 1) + b"\r\n\n{broken\n  \n" + body("r", 2) + b"\n"
        await batch.take_lines(pieces(content, 7))
        result = batch.result(with_outcomes=True)

    assert result.outcomes == ["ignored", None, "ignored"]
    assert json.loads(json.dumps(result.problems[0].problem.status)) == 400


@pytest.mark.parametrize(
    ("content_type", "start", "form"),
    [
        (None, b"{}", "single"),
        ("application/json", b" \n\t[", "array"),
        ("text/plain", b"[", "array"),
        ("application/x-ndjson", b"{}", "ndjson"),
        ("Application/X-NDJSON; charset=utf-8", b"[", "ndjson"),
        (None, b"", "single"),
    ],
)
def test_the_form_follows_from_type_and_first_byte(
    content_type: str | None, start: bytes, form: str
) -> None:
    assert form_of(content_type, start) == form


async def test_a_batch_over_more_rockets_than_may_be_active_is_taken_in_turns() -> None:
    journal = MemoryJournal()
    async with running_fleet(journal, limits=FleetLimits(actors_max=4)) as fleet:
        items = [body(f"r{n}", 1) for n in range(50)]
        await intake(fleet).take_array(b"[" + b",".join(items) + b"]")

    assert journal.head() == 50


async def test_a_long_batch_that_is_sent_again_is_all_duplicates() -> None:
    items = b"[" + b",".join(body("r", n, by=n) for n in range(1, 2_501)) + b"]"
    async with running_fleet() as fleet:
        await intake(fleet).take_array(items)
        again = intake(fleet)
        await again.take_array(items)

    assert again.result(with_outcomes=False).counts["duplicate"] == 2_500


async def test_an_array_of_crumbs_is_refused_before_it_is_taken_apart() -> None:
    async with running_fleet() as fleet:
        with pytest.raises(Refusal, match="at most 10000"):
            await intake(fleet).take_array(b"[" + b"1," * 4_000_000 + b"1]")


@pytest.mark.parametrize("size", [1, 7, 1_000])
async def test_a_line_without_an_end_is_one_problem_and_is_not_kept(size: int) -> None:
    async with running_fleet() as fleet:
        batch = intake(fleet, item_max=400)
        content = body("r", 1) + b"\n" + b"x" * 5_000 + b"\n" + body("r", 2)
        await batch.take_lines(pieces(content, size))
        result = batch.result(with_outcomes=True)

    assert result.outcomes == ["ignored", None, "ignored"]
    assert result.problems[0].problem.status == 413


@pytest.mark.parametrize(("over", "status"), [(-1, None), (0, None), (1, 413)])
async def test_the_end_of_a_line_does_not_count_as_its_length(
    over: int, status: int | None
) -> None:
    line = body("r", 1)
    async with running_fleet() as fleet:
        batch = intake(fleet, item_max=len(line) - over)
        await batch.take_lines(pieces(line + b"\r\n", 50))
        problems = batch.result(with_outcomes=False).problems

    assert [each.problem.status for each in problems] == ([] if status is None else [status])
