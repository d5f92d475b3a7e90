"""Sends simulated messages with the habits of the closed `rockets` program.

A few workers take the messages in order and send them at the same time.
What fails, whatever the reason, is sent again after a fixed delay, for ever, beside the workers.
With `drop_at_end` whatever still waits for that when the last message was taken is lost.
"""

from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from math import inf
from time import perf_counter

import msgspec
import trio

from rockets.cli.connector import ClientError, ConnectFailed, ReplyCut, ReplyMalformed
from rockets.cli.go_client import GoClient
from rockets.simulator import SimulatedMessage

# Measured: every failure is followed by another attempt this much later.
RESEND_DELAY_S = 0.5

# How the tally names an attempt that got no reply.
FAILURES: dict[type[ClientError], str] = {
    ConnectFailed: "no connection",
    ReplyCut: "connection lost",
    ReplyMalformed: "malformed reply",
}

# A log call: level, text, and the message it is about.
Log = Callable[[str, str, SimulatedMessage], None]


class Habits(msgspec.Struct, frozen=True):
    """How the messages are sent; the defaults are those of the real program."""

    concurrency_level: int = 3
    message_delay_s: float = 0.0
    timeout_s: float = 10.0
    resend_delay_s: float = RESEND_DELAY_S
    drop_at_end: bool = False


class Tally:
    """What happened so far; written by the launcher alone."""

    def __init__(self) -> None:
        self.taken = 0
        self.delivered = 0
        self.attempts = 0
        self.resends = 0
        self.lost = 0
        # Every outcome but a 2xx: a status, or `refused`, `timeout` and the like.
        self.failures: Counter[str] = Counter()
        self.latencies_s = array("d")
        self.started_at = perf_counter()
        self.ended_at: float | None = None

    @property
    def elapsed_s(self) -> float:
        """Seconds from the start to the end, or to now."""
        return (self.ended_at or perf_counter()) - self.started_at

    @property
    def rate(self) -> float:
        """Messages delivered per second."""
        return self.delivered / max(self.elapsed_s, 1e-9)

    def latency_s(self, quantile: float) -> float:
        """The latency that this share of the replies did not exceed; 0 without any reply."""
        ranked = sorted(self.latencies_s)
        return ranked[min(len(ranked) - 1, int(quantile * len(ranked)))] if ranked else 0.0


class _Waiting(msgspec.Struct, frozen=True):
    """A message that failed, and when to send it again."""

    due: float
    message: SimulatedMessage
    body: bytes


class Launcher:
    """One run: sends every message through one client and keeps the tally."""

    def __init__(
        self,
        messages: Iterator[SimulatedMessage],
        client: GoClient,
        *,
        habits: Habits,
        messages_max: int,
        log: Log,
    ) -> None:
        self.tally = Tally()
        self._messages = messages
        self._client = client
        self._habits = habits
        self._log = log
        # Asked for once: looking it up for every message costs as much as making the message.
        self._zone = datetime.now().astimezone().tzinfo
        self._slot = -inf
        self._workers = habits.concurrency_level
        # Set when nothing is sent again any more: what fails from then on is lost.
        self._closing = trio.Event()
        # Each message waits in it at most once, so it is never full.
        self._redeliver, self._redelivered = trio.open_memory_channel[_Waiting](messages_max)

    async def run(self) -> None:
        """Send all; returns when everything is delivered, or lost where that is allowed.

        Cancelling it ends the attempts under way; the tally stays as it was.
        """
        try:
            async with trio.open_nursery() as nursery:
                for _ in range(self._habits.concurrency_level):
                    nursery.start_soon(self._work)
                    nursery.start_soon(self._resend)
        finally:
            self.tally.ended_at = perf_counter()

    async def _work(self) -> None:
        """Take one message after the other and make the first attempt to send it."""
        for message in self._messages:
            self.tally.taken += 1
            if self._habits.message_delay_s:
                await self._wait_slot()
            body = message.encode(datetime.now(self._zone).isoformat())
            await self._attempt(message, body)
            if message.number % 2:
                # In Go a connection is idle before its worker runs again, if only for a moment.
                # When three are idle at once one is closed, and soon another is opened.
                # Yielding after every second message comes near the measured shares of new
                # ones: 2-10 % with 3 workers, 46 % with 20.
                await trio.lowlevel.checkpoint()
        self._workers -= 1
        if self._habits.drop_at_end:
            self._closing.set()
        self._end_if_done()

    async def _wait_slot(self) -> None:
        """Wait for the next moment a message may be generated, one delay after the last one."""
        self._slot = max(trio.current_time(), self._slot + self._habits.message_delay_s)
        await trio.sleep_until(self._slot)

    async def _resend(self) -> None:
        """Send what failed again, in the order in which it failed."""
        async for waiting in self._redelivered:
            with trio.move_on_at(waiting.due):
                await self._closing.wait()
            if self._closing.is_set():
                self._lose(waiting.message)
            else:
                self.tally.resends += 1
                await self._attempt(waiting.message, waiting.body)

    async def _attempt(self, message: SimulatedMessage, body: bytes) -> None:
        """Send once, and see to it that a failure is sent again."""
        self.tally.attempts += 1
        failure = await self._send(body)
        if failure is None:
            self.tally.delivered += 1
            self._log("debug", "Message sent", message)
            self._end_if_done()
            return
        self.tally.failures[failure] += 1
        if self._closing.is_set():
            self._lose(message)
            return
        self._log("info", f"Retrying sending message: {failure}", message)
        due = trio.current_time() + self._habits.resend_delay_s
        self._redeliver.send_nowait(_Waiting(due, message, body))

    async def _send(self, body: bytes) -> str | None:
        """Post one body; return what went wrong in a word or two, None after a 2xx."""
        began_at = perf_counter()
        status = None
        try:
            # Not fail_after: on this path its two context managers cost as much as the parsing.
            with trio.move_on_after(self._habits.timeout_s):
                status = await self._client.post(body)
        except ClientError as error:
            return FAILURES[type(error)]
        if status is None:
            return "timeout"
        self.tally.latencies_s.append(perf_counter() - began_at)
        return None if 200 <= status < 300 else str(status)

    def _lose(self, message: SimulatedMessage) -> None:
        self.tally.lost += 1
        self._log("error", "Redelivering message failed: writer closed", message)
        self._end_if_done()

    def _end_if_done(self) -> None:
        """Let the resending tasks end once every message is delivered or lost."""
        tally = self.tally
        if self._workers == 0 and tally.delivered + tally.lost == tally.taken:
            self._redeliver.close()
