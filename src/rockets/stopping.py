"""When and why the process ends, and with which exit code."""

import math
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog
import trio

from rockets.journal import JournalBehind, JournalWriter

log = structlog.get_logger()

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_REFUSED = 2
EXIT_FORCED = 3
EXIT_BEHIND = 4
EXIT_ABSENT = 5

# After the journal failed the waiting requests still get their 503; the process must end within
# a second, whatever the disk does.
FAILED_ANSWER_S = 0.4
FAILED_GRACE_S = 0.9

# Of the grace period this much is for answers and the last checkpoint; the rest is to close the
# journal.
WORK_SHARE = 0.9


class ServeRefused(Exception):
    """The service cannot start; the text is one line for the operator."""


class StartGivenUp(Exception):
    """A stop was asked for before the service had started."""


class Stop:
    """Whether the process stops, and what it ends with."""

    def __init__(self, grace_s: float) -> None:
        self.grace_s = grace_s
        self.requested = trio.Event()
        self.failed = trio.Event()
        self.code = EXIT_OK
        self._requested_at = math.inf

    def request(self) -> None:
        """Ask for a clean stop."""
        if not self.requested.is_set():
            self._requested_at = trio.current_time()
        self.requested.set()

    def signal(self) -> None:
        """Stop as a signal asks for it: the first one cleanly, the second one at once."""
        if self.requested.is_set():
            os._exit(EXIT_FORCED)
        self.request()

    def fail(self, code: int) -> None:
        """Stop because something is beyond repair."""
        self.code = code
        self.failed.set()
        self.request()

    def work_over_by(self) -> float:
        """Say until when (trio's time) there is time for anything but to close the journal."""
        return self._requested_at + self.grace_s * WORK_SHARE

    async def wait_over(self, *, stopping_s: float, failed_s: float) -> None:
        """Wait until a stop has lasted so long, or a failure."""
        await self.requested.wait()
        with trio.move_on_after(stopping_s):
            await self.failed.wait()
            await trio.sleep(failed_s)


async def watch_signals(ask: Callable[[], None]) -> None:
    """Call this for each signal that asks for a stop, for ever."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            ask()


async def enforce_grace(stop: Stop) -> None:
    """End the process when a stop takes too long, whatever it waits for: a disk may hang."""
    await stop.wait_over(stopping_s=stop.grace_s, failed_s=FAILED_GRACE_S)
    log.error("stop_forced", grace_s=stop.grace_s)
    os._exit(stop.code if stop.failed.is_set() else EXIT_FORCED)


@asynccontextmanager
async def watched(writer: JournalWriter, stop: Stop) -> AsyncIterator[None]:
    """Stop the process when the journal fails, also while the last batches are being committed."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_watch_journal, writer, stop)
        nursery.start_soon(_hurry_journal, writer, stop)
        yield
        nursery.cancel_scope.cancel()
    if writer.failure is not None and not stop.failed.is_set():
        _tell_failure(writer, stop)


async def _watch_journal(writer: JournalWriter, stop: Stop) -> None:
    await writer.wait_failed()
    _tell_failure(writer, stop)


async def _hurry_journal(writer: JournalWriter, stop: Stop) -> None:
    """Look no longer for a server that is gone: who waits for it gets a 503."""
    await stop.requested.wait()
    if writer.shared is not None:
        writer.shared.hurry()


def _tell_failure(writer: JournalWriter, stop: Stop) -> None:
    reason = str(writer.failure)
    if isinstance(writer.failure, JournalBehind):
        log.critical("journal_behind", reason=reason)
        stop.fail(EXIT_BEHIND)
    else:
        log.critical("journal_failed", reason=reason)
        stop.fail(EXIT_FAILED)
