"""Load in batches: 1,000 messages in each, on two connections.

Run as `python -m rockets.bench.batches PLAN`, a process of its own on a core of its own.
All bodies are ready before the clock starts, so it measures the server and not the making.
"""

import sys
from collections import deque
from contextlib import ExitStack
from http.client import HTTPConnection, HTTPException
from itertools import islice
from time import perf_counter
from typing import Literal

import msgspec

from rockets.bench.bodies import array, messages
from rockets.bench.outcome import MeasurementFailed, Outcome, percentile, tell

MESSAGES_PER_BATCH = 1_000
CONNECTIONS = 2
# More than anything here can take.
BATCHES_PER_SECOND_MAX = 200
# 120 MB of bodies; a server that takes them sooner is measured for a shorter time.
BATCHES_MAX = 600
TIMEOUT_S = 30.0

Form = Literal["array", "ndjson"]
CONTENT_TYPES: dict[Form, str] = {"array": "application/json", "ndjson": "application/x-ndjson"}


class Plan(msgspec.Struct, frozen=True):
    """To which port of this machine, for how long at most, and how a batch is written."""

    port: int
    seconds: float
    form: Form


class _Answer(msgspec.Struct, frozen=True):
    """What the server says about a batch."""

    counts: dict[str, int]
    problems: list[object]


def send(batches: list[bytes], plan: Plan) -> Outcome:
    """Send batches until the time is over or none is left, and wait for every answer.

    MeasurementFailed unless every single message was new and stored.
    """
    headers = {"Content-Type": CONTENT_TYPES[plan.form]}
    idle: deque[HTTPConnection] = deque()
    busy: deque[tuple[HTTPConnection, float]] = deque()
    latencies: list[float] = []

    def finish_oldest() -> None:
        connection, begun = busy.popleft()
        _check(connection)
        latencies.append(perf_counter() - begun)
        idle.append(connection)

    with ExitStack() as opened:
        for _ in range(CONNECTIONS):
            connection = HTTPConnection("127.0.0.1", plan.port, timeout=TIMEOUT_S)
            opened.callback(connection.close)
            idle.append(connection)
        start = perf_counter()
        try:
            for batch in batches:
                if not idle:
                    finish_oldest()
                connection = idle.popleft()
                busy.append((connection, perf_counter()))
                connection.request("POST", "/messages", batch, headers)
                if perf_counter() - start > plan.seconds:
                    break
            while busy:
                finish_oldest()
        except (OSError, HTTPException) as error:
            raise MeasurementFailed(f"a batch was not answered: {error!r}") from error
    elapsed_s = perf_counter() - start
    latencies.sort()
    return Outcome(
        rate=len(latencies) * MESSAGES_PER_BATCH / elapsed_s,
        p50_ms=percentile(latencies, 0.5) * 1000,
        p99_ms=percentile(latencies, 0.99) * 1000,
        details={"batches": len(latencies)},
    )


def _check(connection: HTTPConnection) -> None:
    response = connection.getresponse()
    body = response.read()
    if response.status != 200:
        raise MeasurementFailed(f"a batch was answered with {response.status}")
    answer = msgspec.json.decode(body, type=_Answer)
    # Held is stored as well: the other connection may be ahead.
    stored = answer.counts["applied"] + answer.counts["held"]
    if stored != MESSAGES_PER_BATCH:
        raise MeasurementFailed(f"of a batch {stored:,} messages were stored: {answer.counts}")


def prepare(count: int, form: Form) -> list[bytes]:
    """Make this many batches, the messages of `bodies` in their order."""
    join = array if form == "array" else b"\n".join
    bodies = (sent.body for sent in messages())
    return [join(list(islice(bodies, MESSAGES_PER_BATCH))) for _ in range(count)]


def _measure(plan: Plan) -> Outcome:
    count = min(int(plan.seconds * BATCHES_PER_SECOND_MAX), BATCHES_MAX)
    return send(prepare(count, plan.form), plan)


if __name__ == "__main__":
    tell(lambda: _measure(msgspec.json.decode(sys.argv[1], type=Plan)))
