"""Sends lines in batches, a few at a time, until each is stored or known to be wrong.

Sending a line again is always safe, so whatever leaves its fate open is sent again.
Every connection has its batches one after the other, in the order of the file.
"""

from collections.abc import Callable

import trio

from rockets.cli.batch_answer import Busy, ImportStopped, Taken, TooLarge, Verdict, judge
from rockets.cli.client import HttpClient
from rockets.cli.connector import ClientError
from rockets.cli.import_tally import ImportTally
from rockets.cli.line_batches import LINE_BYTES_MAX, Batch

HEADERS = {"Content-Type": "application/x-ndjson", "Prefer": "return=representation"}

# A service gives a body 60 s to arrive and 8 s more to become durable.
ATTEMPT_TIMEOUT_S = 90.0
# Where no pause is asked for: the first one, doubled each time, up to the last.
PAUSE_FIRST_S = 0.1
PAUSE_MAX_S = 5.0
# Nobody gains from being asked more often, whatever they say.
PAUSE_MIN_S = 0.05


class Importer:
    """One import; `run` once, and read the tally at any time."""

    def __init__(
        self,
        take: Callable[[], Batch | None],
        client: HttpClient,
        target: str,
        *,
        connections: int,
        give_up_after_s: float,
    ) -> None:
        self.tally = ImportTally()
        self.stopped: str | None = None
        self._take = take
        self._client = client
        self._target = target
        self._connections = connections
        self._patience = _Patience(give_up_after_s)
        self._turn = trio.Lock()

    async def run(self) -> None:
        """Send everything; where that ended early, `stopped` says why."""
        async with trio.open_nursery() as nursery:
            for _ in range(self._connections):
                nursery.start_soon(self._work, nursery.cancel_scope)

    async def _work(self, whole: trio.CancelScope) -> None:
        try:
            while (taken := await self._next()) is not None:
                begin, batch = taken
                await self._deliver(batch)
                self.tally.settle(begin)
        except (ImportStopped, OSError) as error:
            self.stopped = self.stopped or str(error)
            whole.cancel()

    async def _next(self) -> tuple[int, Batch] | None:
        async with self._turn:
            # In a thread, since a pipe may have nothing for long; its answer may come too late.
            batch = await trio.to_thread.run_sync(self._take, abandon_on_cancel=True)
            return None if batch is None else (self.tally.begin(batch.through), batch)

    async def _deliver(self, batch: Batch) -> None:
        for number in batch.too_long:
            self.tally.add_problem(number, f"is over {LINE_BYTES_MAX} bytes")
        parts = [batch] if batch.lines else []
        failures = 0
        while parts:
            part = parts.pop()
            verdict = await self._ask(part)
            parts += reversed(self._settle(part, verdict))
            busy = verdict.busy if isinstance(verdict, Taken) else verdict
            if isinstance(busy, Busy):
                await self._patience.pause(busy, failures)
                failures += 1

    async def _ask(self, part: Batch) -> Verdict:
        try:
            with trio.fail_after(ATTEMPT_TIMEOUT_S):
                response = await self._client.request("POST", self._target, part.body(), HEADERS)
        except trio.TooSlowError:
            return Busy(f"no answer in {ATTEMPT_TIMEOUT_S:g} s")
        except ClientError as error:
            return Busy(str(error))
        return judge(response, part)

    def _settle(self, part: Batch, verdict: Verdict) -> list[Batch]:
        """Count what an answer settles and return what has to be sent again, and how."""
        match verdict:
            case Busy():
                return [part]
            case TooLarge() if len(part.lines) > 1:
                return list(part.halves())
            case TooLarge():
                self.tally.add_problem(part.numbers[0], verdict.reason)
                self._patience.renew()
                return []
            case Taken():
                self._count(part, verdict)
                return [part.only(verdict.again)] if verdict.again else []

    def _count(self, part: Batch, taken: Taken) -> None:
        self.tally.outcomes.update(taken.counts)
        for index, text in taken.problems:
            self.tally.add_problem(part.numbers[index], text)
        for index in taken.conflicts:
            self.tally.add_conflict(part.numbers[index])
        if len(taken.again) < len(part.lines):
            self._patience.renew()


def pause_before(asked_s: float | None, failures: int) -> float:
    """Return how long to wait, by what the service asked for and how often it failed before."""
    if asked_s is not None:
        return max(asked_s, PAUSE_MIN_S)
    return min(PAUSE_FIRST_S * 2.0 ** min(failures, 10), PAUSE_MAX_S)


class _Patience:
    """How long the service may take nothing at all, for all connections together."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._failing_since: float | None = None

    def renew(self) -> None:
        """Note that the service has taken something."""
        self._failing_since = None

    async def pause(self, busy: Busy, failures: int) -> None:
        """Wait before the next attempt; ImportStopped when that would be too long."""
        now = trio.current_time()
        self._failing_since = now if self._failing_since is None else self._failing_since
        pause_s = pause_before(busy.pause_s, failures)
        if now + pause_s > self._failing_since + self._limit_s:
            raise ImportStopped(f"given up after {self._limit_s:g} s: {busy.reason}")
        await trio.sleep(pause_s)
