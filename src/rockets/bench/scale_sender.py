"""Sends what a fleet is made of: batches on a few connections, single messages until a kill.

The invariant: what is said to be stored was acknowledged, every batch to the last message.
"""

import select
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from http.client import HTTPConnection, HTTPException
from time import perf_counter

import msgspec

from rockets.bench.bodies import Sent, request
from rockets.bench.open_loop import Connection
from rockets.bench.outcome import MeasurementFailed
from rockets.bench.scale_march import Batch

CONNECTIONS = 2
TIMEOUT_S = 60.0
HEADERS = {"Content-Type": "application/x-ndjson"}
# Held is stored as well: another connection may be ahead.
STORED = ("applied", "held")
DUPLICATE = ("duplicate",)

# Slower than this over the whole of a load and it is given up.
PER_SECOND_MIN = 2_000
GRACE_S = 60.0
PROGRESS_S = 10.0
# How long to wait for what is under way; the server answers within 8 s.
REST_S = 10.0
POLL_S = 0.05


class _Answer(msgspec.Struct, frozen=True):
    """What the server says about a batch."""

    counts: dict[str, int]
    problems: list[object]


def send_batches(
    port: int,
    batches: Iterable[Batch],
    *,
    total: int,
    connections: int = CONNECTIONS,
    outcomes: tuple[str, ...] = STORED,
    say: Callable[[str], None] = lambda line: None,
) -> float:
    """Send every batch and wait for every answer; gives the seconds it took.

    MeasurementFailed unless each message had one of the outcomes, or when it takes far too long
    for `total` messages.
    """
    idle: deque[HTTPConnection] = deque()
    busy: deque[tuple[HTTPConnection, int]] = deque()
    done = 0

    def finish_oldest() -> None:
        nonlocal done
        connection, count = busy.popleft()
        _check(connection, count, outcomes)
        done += count
        idle.append(connection)

    with ExitStack() as opened:
        for _ in range(connections):
            connection = HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
            opened.callback(connection.close)
            idle.append(connection)
        start = told = perf_counter()
        deadline = start + GRACE_S + total / PER_SECOND_MIN
        try:
            for batch in batches:
                if not idle:
                    finish_oldest()
                connection = idle.popleft()
                busy.append((connection, batch.count))
                connection.request("POST", "/messages", batch.body, HEADERS)
                if (now := perf_counter()) > deadline:
                    raise MeasurementFailed(f"only {done:,} of {total:,} messages in time")
                if now - told > PROGRESS_S:
                    told = now
                    say(f"{done:,} of {total:,} messages, {done / (now - start):,.0f}/s")
            while busy:
                finish_oldest()
        except (OSError, HTTPException) as error:
            raise MeasurementFailed(f"a batch was not answered: {error!r}") from error
    return perf_counter() - start


def _check(connection: HTTPConnection, count: int, outcomes: tuple[str, ...]) -> None:
    response = connection.getresponse()
    body = response.read()
    if response.status != 200:
        raise MeasurementFailed(f"a batch was answered with {response.status}")
    answer = msgspec.json.decode(body, type=_Answer)
    right = sum(answer.counts.get(outcome, 0) for outcome in outcomes)
    if right != count:
        wanted = " or ".join(outcomes)
        raise MeasurementFailed(f"of {count:,} messages {right:,} were {wanted}: {answer.counts}")


class Fates(msgspec.Struct):
    """What became of single messages: acknowledged, or sent and never answered."""

    acknowledged: list[Sent]
    unknown: list[Sent]


def send_singles(
    port: int,
    messages: Iterator[Sent],
    *,
    connections: int,
    seconds: float,
    kill: Callable[[], None] = lambda: None,
) -> Fates:
    """Send single messages for these seconds, and then wait for what is under way.

    `kill` may end the server before that, and then some of it is never answered.
    MeasurementFailed when anything but a 204 comes before.
    """
    with ExitStack() as opened:
        singles = _Singles(port, messages, connections, opened)
        singles.send_for(seconds)
        kill()
        singles.finish()
    return Fates(singles.acknowledged, [*singles.under_way.values()])


class _Singles:
    """Connections that carry one message each."""

    def __init__(
        self, port: int, messages: Iterator[Sent], connections: int, opened: ExitStack
    ) -> None:
        self.acknowledged: list[Sent] = []
        self.under_way: dict[int, Sent] = {}
        self._messages = messages
        self._poller = opened.enter_context(select.epoll())
        self._connections: dict[int, Connection] = {}
        for _ in range(connections):
            connection = Connection(port)
            opened.callback(connection.sock.close)
            self._poller.register(connection.sock, select.EPOLLIN)
            self._connections[connection.sock.fileno()] = connection

    def send_for(self, seconds: float) -> None:
        """Send on every connection whenever it has its answer."""
        end = perf_counter() + seconds
        for descriptor in self._connections:
            self._send(descriptor)
        while perf_counter() < end:
            for descriptor, _ in self._poller.poll(POLL_S):
                if self._receive(descriptor):
                    self._send(descriptor)

    def finish(self) -> None:
        """Read the answers that still come, until all are there or their connections broke."""
        waiting = set(self.under_way)
        end = perf_counter() + REST_S
        while waiting and perf_counter() < end:
            for descriptor, _ in self._poller.poll(POLL_S):
                try:
                    is_answered = self._receive(descriptor)
                except MeasurementFailed:
                    self._poller.unregister(descriptor)
                    waiting.discard(descriptor)
                else:
                    waiting -= {descriptor} if is_answered else set()

    def _send(self, descriptor: int) -> None:
        message = next(self._messages)
        self.under_way[descriptor] = message
        self._connections[descriptor].send(request(message.body))

    def _receive(self, descriptor: int) -> bool:
        is_answered = self._connections[descriptor].receive()
        if is_answered:
            self.acknowledged.append(self.under_way.pop(descriptor))
        return is_answered
