"""Open-loop load: requests at fixed times, whatever became of those before.

Run as `python -m rockets.bench.open_loop PLAN`, a process of its own on a core of its own.

A closed loop waits for a slow answer and so sends less just when the server is slow; the wait
of all the requests it did not send is missing from its percentiles ("coordinated omission").
Here latency counts from the time at which a request was due: when all connections wait for an
answer, the next requests queue up and the queueing is part of their latency.

The invariant: a reported figure stands for requests that were all answered with 204.
"""

import gc
import select
import socket
import sys
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import islice
from time import perf_counter

import msgspec

from rockets.bench.bodies import messages, request
from rockets.bench.outcome import MeasurementFailed, Outcome, percentile, tell

# The first request is due this long after the connections are open.
LEAD_S = 0.05
# epoll sleeps in whole milliseconds, so what is due sooner is waited for without sleeping.
SPIN_S = 0.002
IDLE_POLL_S = 0.05
# Longer than the 8 s in which the server answers or refuses.
DRAIN_S = 10.0
RECEIVE_BYTES = 65536


class Plan(msgspec.Struct, frozen=True):
    """How many messages a second for how many seconds, to which port of this machine."""

    port: int
    rate: float
    seconds: float
    connections: int


class Connection:
    """One connection: when what it carries was due, and since when it carries nothing."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        self.due = self.free_since = 0.0
        self.index = 0
        self.received = b""

    def send(self, content: bytes) -> None:
        """Write a whole request; nothing may be under way."""
        if self.sock.send(content) != len(content):
            raise MeasurementFailed("a request did not fit into an empty socket")

    def receive(self) -> bool:
        """Read what has come; says whether the answer is complete."""
        try:
            data = self.sock.recv(RECEIVE_BYTES)
        except ConnectionError as error:
            raise MeasurementFailed(f"a connection broke: {error}") from error
        self.received += data
        if not data or not b"HTTP/1.1 204".startswith(self.received[:12]):
            line = self.received.partition(b"\r\n")[0].decode("latin-1")
            raise MeasurementFailed(f"not answered with 204 but with {line!r}")
        # A 204 has no body, and only one request is under way.
        if not self.received.endswith(b"\r\n\r\n"):
            return False
        self.received = b""
        return True


class OpenLoop:
    """Sends requests when they are due, each on a connection that waits for no answer.

    Only the latency of each `every`-th request counts, from the first on.
    """

    def __init__(self, requests: Sequence[bytes], *, rate: float, every: int = 1) -> None:
        self._requests = requests
        self._every = every
        self._answered = 0
        self._interval_s = 1 / rate
        self._next = 0
        self._start = 0.0
        self._idle: deque[Connection] = deque()
        self._latencies: list[float] = []
        self._lateness: list[float] = []
        self._waited = 0

    def run(self, *, port: int, connections: int) -> Outcome:
        """Send everything and wait for every answer; MeasurementFailed where one is wrong."""
        with ExitStack() as opened:
            poller = opened.enter_context(select.epoll())
            by_descriptor = {}
            for _ in range(connections):
                connection = Connection(port)
                opened.callback(connection.sock.close)
                poller.register(connection.sock, select.EPOLLIN)
                by_descriptor[connection.sock.fileno()] = connection
            self._idle.extend(by_descriptor.values())
            self._start = perf_counter() + LEAD_S
            deadline = self._due(len(self._requests)) + DRAIN_S
            while (missing := len(self._requests) - self._answered) > 0:
                self._send_due()
                for descriptor, _ in poller.poll(self._sleep_s()):
                    self._receive(by_descriptor[descriptor])
                if perf_counter() > deadline:
                    raise MeasurementFailed(f"{missing:,} answers missing after {DRAIN_S:g} s")
        return self._outcome(perf_counter() - self._start)

    def _due(self, index: int) -> float:
        return self._start + index * self._interval_s

    def _send_due(self) -> None:
        while self._idle and self._next < len(self._requests):
            due = self._due(self._next)
            now = perf_counter()
            if due > now:
                return
            connection = self._idle.popleft()
            # Late by our own fault is only what comes after both were there, time and connection.
            self._lateness.append(now - max(due, connection.free_since))
            self._waited += connection.free_since > due
            connection.due = due
            connection.index = self._next
            connection.send(self._requests[self._next])
            self._next += 1

    def _receive(self, connection: Connection) -> None:
        if connection.receive():
            connection.free_since = now = perf_counter()
            self._answered += 1
            if connection.index % self._every == 0:
                self._latencies.append(now - connection.due)
            self._idle.append(connection)

    def _sleep_s(self) -> float:
        if not self._idle or self._next == len(self._requests):
            return IDLE_POLL_S
        return max(0.0, self._due(self._next) - perf_counter() - SPIN_S)

    def _outcome(self, elapsed_s: float) -> Outcome:
        latencies, lateness = sorted(self._latencies), sorted(self._lateness)
        return Outcome(
            rate=self._answered / elapsed_s,
            p50_ms=percentile(latencies, 0.5) * 1000,
            p99_ms=percentile(latencies, 0.99) * 1000,
            details={
                "maxMs": latencies[-1] * 1000,
                "latenessP99Ms": percentile(lateness, 0.99) * 1000,
                "requests": self._answered,
                "waitedForAConnection": self._waited,
            },
        )


def _measure(plan: Plan) -> Outcome:
    # Whole before the clock starts.
    count = max(1, int(plan.rate * plan.seconds))
    requests = [request(sent.body) for sent in islice(messages(), count)]
    # A collection would make us late, and there are no cycles here.
    gc.disable()
    return OpenLoop(requests, rate=plan.rate).run(port=plan.port, connections=plan.connections)


if __name__ == "__main__":
    tell(lambda: _measure(msgspec.json.decode(sys.argv[1], type=Plan)))
