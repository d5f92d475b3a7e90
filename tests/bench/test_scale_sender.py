"""What is said to be stored was acknowledged, in batches and one by one."""

import time

import msgspec
import pytest
import trio

from rockets.bench import scale_sender
from rockets.bench.outcome import MeasurementFailed
from rockets.bench.scale_march import March
from rockets.bench.scale_sender import DUPLICATE, Fates, send_batches, send_singles
from tests.cli.tiny_server import NO_CONTENT, UNAVAILABLE, Answer, ok, open_tiny_server

MARCH = March(100, 1)


def counts(**counted: int) -> bytes:
    """Write the answer to a batch."""
    body = {"counts": {"applied": 0, "held": 0, "duplicate": 0} | counted, "problems": []}
    return ok(msgspec.json.encode(body))


def honest(_target: str, body: bytes) -> bytes:
    """Answer that every line was applied."""
    return counts(applied=body.count(b"\n") + 1)


async def send(answer: Answer, *, outcomes: tuple[str, ...] = scale_sender.STORED) -> list[bytes]:
    """Send 2,500 messages; gives the bodies that a tiny server saw."""
    async with open_tiny_server(answer) as server:
        await trio.to_thread.run_sync(
            lambda: send_batches(server.port, MARCH.batches(2_500), total=2_500, outcomes=outcomes)
        )
    return server.bodies


async def test_every_batch_is_sent_once_and_answered() -> None:
    bodies = await send(honest)

    assert sorted(bodies) == sorted(batch.body for batch in MARCH.batches(2_500))


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (counts(applied=500, held=499), "of 1,000 messages 999 were applied or held"),
        (counts(applied=999, duplicate=1), "of 1,000 messages 999 were applied or held"),
        (UNAVAILABLE, "answered with 503"),
        (b"", "was not answered"),
    ],
)
async def test_one_message_that_was_not_stored_is_a_failure(reply: bytes, words: str) -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(MeasurementFailed, match=words)):
        await send(lambda *_: reply)


async def test_a_duplicate_that_was_new_is_a_failure() -> None:
    with pytest.RaisesGroup(
        pytest.RaisesExc(MeasurementFailed, match="of 1,000 messages 999 were duplicate")
    ):
        await send(lambda *_: counts(duplicate=999, applied=1), outcomes=DUPLICATE)


async def test_a_load_that_is_far_too_slow_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale_sender, "GRACE_S", 0.01)
    monkeypatch.setattr(scale_sender, "PER_SECOND_MIN", 10**9)

    def slow(target: str, body: bytes) -> bytes:
        time.sleep(0.05)
        return honest(target, body)

    with pytest.RaisesGroup(pytest.RaisesExc(MeasurementFailed, match="of 2,500 messages in time")):
        await send(slow)


async def send_one_by_one(answer: Answer, kill: list[bool]) -> tuple[Fates, list[bytes]]:
    """Send single messages for a moment; `kill` gets an entry when the server should die."""
    async with open_tiny_server(answer) as server:
        fates = await trio.to_thread.run_sync(
            lambda: send_singles(
                server.port,
                MARCH.messages(10**6),
                connections=4,
                seconds=0.1,
                kill=lambda: kill.append(True),
            )
        )
    return fates, server.bodies


async def test_without_a_kill_everything_sent_is_acknowledged() -> None:
    fates, bodies = await send_one_by_one(lambda *_: NO_CONTENT, [])

    assert fates.unknown == []
    assert sorted(message.body for message in fates.acknowledged) == sorted(bodies)
    assert len(bodies) > 4


async def test_what_a_dead_server_did_not_answer_is_not_acknowledged() -> None:
    kill: list[bool] = []
    answered: list[bytes] = []

    def answer(_target: str, body: bytes) -> bytes:
        if kill:
            return b""
        answered.append(body)
        return NO_CONTENT

    fates, _ = await send_one_by_one(answer, kill)

    assert sorted(message.body for message in fates.acknowledged) == sorted(answered)
    count = len(fates.acknowledged) + len(fates.unknown)
    assert sorted(message.body for message in fates.acknowledged + fates.unknown) == sorted(
        message.body for message in MARCH.messages(count)
    )


async def test_an_error_before_the_kill_is_a_failure() -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(MeasurementFailed, match="HTTP/1.1 503")):
        await send_one_by_one(lambda *_: UNAVAILABLE, [])
