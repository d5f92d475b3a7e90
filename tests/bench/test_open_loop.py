"""The open loop sends when it is time, and a stall shows in every request that was due in it."""

import time
from itertools import islice

import pytest
import trio

from rockets.bench.bodies import messages, request
from rockets.bench.open_loop import OpenLoop
from rockets.bench.outcome import MeasurementFailed, Outcome
from tests.cli.tiny_server import NO_CONTENT, UNAVAILABLE, WITH_BODY, Answer, open_tiny_server


async def send(
    answer: Answer, *, count: int, rate: float, connections: int = 16
) -> tuple[Outcome, list[bytes]]:
    """Send so many messages to a tiny server; gives what was measured and the bodies it saw."""
    requests = [request(sent.body) for sent in islice(messages(), count)]
    loop = OpenLoop(requests, rate=rate)
    async with open_tiny_server(answer) as server:
        outcome = await trio.to_thread.run_sync(
            lambda: loop.run(port=server.port, connections=connections)
        )
    return outcome, server.bodies


@pytest.mark.slow
async def test_every_message_is_sent_once_at_the_rate_asked_for() -> None:
    outcome, bodies = await send(lambda *_: NO_CONTENT, count=200, rate=400)

    assert sorted(bodies) == sorted(sent.body for sent in islice(messages(), 200))
    assert outcome.details["requests"] == 200
    # 200 intervals of 2.5 ms; a slow machine may take longer, a correct loop never less.
    assert 100 < outcome.rate < 403


@pytest.mark.slow
async def test_a_stall_of_the_server_is_in_all_that_was_due_meanwhile() -> None:
    stalls = iter([True])

    def answer(_target: str, body: bytes) -> bytes:
        if b'"messageNumber": 3' in body and next(stalls, False):
            time.sleep(0.2)
        return NO_CONTENT

    outcome, _ = await send(answer, count=240, rate=400, connections=4)

    # Of 240 messages 80 were due in these 0.2 s. A closed loop on 4 connections would have seen
    # 4 slow answers, too few for the 99th percentile of a longer run.
    assert outcome.p99_ms is not None
    assert outcome.p99_ms > 150
    assert outcome.details["maxMs"] >= 199
    assert outcome.details["waitedForAConnection"] > 30
    # The server was slow, not the sender.
    assert outcome.details["latenessP99Ms"] < 100


@pytest.mark.slow
async def test_only_every_so_many_requests_count_and_all_are_waited_for() -> None:
    slow = {sent.body for index, sent in enumerate(islice(messages(), 60)) if index % 10 == 1}

    def answer(_target: str, body: bytes) -> bytes:
        if body in slow:
            time.sleep(0.01)
        return NO_CONTENT

    requests = [request(sent.body) for sent in islice(messages(), 60)]
    # So far apart that a slow answer is over before the next request is due.
    counted = OpenLoop(requests, rate=50, every=10)
    async with open_tiny_server(answer) as server:
        outcome = await trio.to_thread.run_sync(
            lambda: counted.run(port=server.port, connections=4)
        )

    assert outcome.details["requests"] == len(server.bodies) == 60
    assert len(counted._latencies) == 6
    assert outcome.p50_ms is not None
    assert outcome.p50_ms < 10


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (UNAVAILABLE, "but with 'HTTP/1.1 503"),
        (WITH_BODY, "but with 'HTTP/1.1 200"),
        (b"", "but with ''"),
    ],
)
async def test_another_answer_leaves_no_figure(reply: bytes, words: str) -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(MeasurementFailed, match=words)):
        await send(lambda *_: reply, count=20, rate=1000)
