"""Batches are prepared whole, and only count when every message of them was stored."""

import msgspec
import pytest
import trio

from rockets.bench.batches import Form, Plan, prepare, send
from rockets.bench.outcome import MeasurementFailed, Outcome
from rockets.domain.messages import decode_message
from tests.cli.tiny_server import UNAVAILABLE, Answer, ok, open_tiny_server


def counts(**counted: int) -> bytes:
    """Write the answer to a batch."""
    body = {"counts": {"applied": 0, "held": 0, "duplicate": 0} | counted, "problems": []}
    return ok(msgspec.json.encode(body))


async def run(answer: Answer, *, seconds: float = 60.0) -> Outcome:
    """Send three batches to a tiny server."""
    async with open_tiny_server(answer) as server:
        plan = Plan(server.port, seconds, "ndjson")
        return await trio.to_thread.run_sync(lambda: send(prepare(3, "ndjson"), plan))


def take_apart(batch: bytes, form: Form) -> list[bytes]:
    """Give the messages of a batch."""
    if form == "ndjson":
        return batch.split(b"\n")
    return [bytes(item) for item in msgspec.json.decode(batch, type=list[msgspec.Raw])]


@pytest.mark.parametrize("form", ["array", "ndjson"])
def test_every_batch_has_a_thousand_valid_messages_that_come_once(form: Form) -> None:
    parts = [take_apart(batch, form) for batch in prepare(2, form)]

    assert [len(part) for part in parts] == [1_000, 1_000]
    messages = [decode_message(item) for part in parts for item in part]
    assert len({(message.channel, message.number) for message in messages}) == 2_000


async def test_all_batches_are_sent_and_their_messages_counted() -> None:
    outcome = await run(lambda *_: counts(applied=900, held=100))

    assert outcome.details == {"batches": 3}
    assert outcome.rate > 0


async def test_when_the_time_is_over_no_further_batch_is_sent() -> None:
    outcome = await run(lambda *_: counts(applied=1_000), seconds=0)

    assert outcome.details == {"batches": 1}


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (counts(applied=999), "of a batch 999 messages were stored"),
        (counts(applied=500, duplicate=500), "of a batch 500 messages were stored"),
        (UNAVAILABLE, "answered with 503"),
        (b"", "was not answered"),
    ],
)
async def test_a_batch_that_was_not_all_stored_leaves_no_figure(reply: bytes, words: str) -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(MeasurementFailed, match=words)):
        await run(lambda *_: reply)
