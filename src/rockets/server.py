"""One process: journal, fleet, application and listeners, as nested blocks.

The order of start is the nesting in `_serve`, and a stop is that nesting unwinding: stop accepting,
answer what runs, let the actors and the writer finish, checkpoint and close the journal.
"""

import math
import os
import resource
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial

import structlog
import trio

from rockets import __version__, health, limits, listening
from rockets.actors.anomalies import Anomalies
from rockets.actors.checkpoints import open_checkpoints
from rockets.actors.fleet import open_fleet
from rockets.actors.history import History
from rockets.actors.read_model import ReadModel
from rockets.actors.rejections import open_rejections
from rockets.actors.retention import open_retention
from rockets.actors.rocket_lists import open_rocket_lists
from rockets.journal import Journal, NoteLimits, open_journal
from rockets.journal.space_watch import open_space_watch
from rockets.journal.thread import Hop, inline, open_thread
from rockets.journal.writer import JournalWriter, open_writer
from rockets.lending import lender
from rockets.settings import Settings
from rockets.web.answer_bound import AnswerBound, answer_budget
from rockets.web.app import create_app
from rockets.web.batch import BatchBodies
from rockets.web.connections import Connections
from rockets.web.fast_lane import FastLane
from rockets.web.front import Front, Lender

log = structlog.get_logger()

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_REFUSED = 2
EXIT_FORCED = 3

# Descriptors kept for the journal, its lock, the loop and the logs.
DESCRIPTORS_RESERVED = 64
CONNECTIONS_MIN = 64
DESCRIPTORS_WISHED = 4_096

# A stop takes requests for so long that are on their way on open connections: who is cut off with
# a request sent cannot know what became of it, and a client under load sends one each millisecond.
LAST_REQUESTS_S = 0.3

# Of the grace period this much is for answers and the last checkpoint; the rest is to close the
# journal.
WORK_SHARE = 0.9

# After the journal failed the waiting requests still get their 503; the process must end within
# a second, whatever the disk does.
FAILED_ANSWER_S = 0.4
FAILED_GRACE_S = 0.9


class ServeRefused(Exception):
    """The service cannot start; the text is one line for the operator."""


class _Stop:
    """When and why the process stops."""

    def __init__(self, grace_s: float) -> None:
        self.requested = trio.Event()
        self.failed = trio.Event()
        self._grace_s = grace_s
        self._requested_at = math.inf

    def request(self) -> None:
        if not self.requested.is_set():
            self._requested_at = trio.current_time()
        self.requested.set()

    def fail(self) -> None:
        self.failed.set()
        self.request()

    def work_over_by(self) -> float:
        """Say until when there is time for anything but to close the journal."""
        return self._requested_at + self._grace_s * WORK_SHARE

    async def wait_over(self, *, stopping_s: float, failed_s: float) -> None:
        """Wait until a stop has lasted so long, or a failure."""
        await self.requested.wait()
        with trio.move_on_after(stopping_s):
            await self.failed.wait()
            await trio.sleep(failed_s)


async def serve(settings: Settings, *, started: Callable[[str], None] = lambda url: None) -> int:
    """Run the service until a signal or a failure; gives the exit code.

    `started` gets the URL once the port is open.
    Raises ServeRefused or JournalRefused where it cannot start.
    """
    stop = _Stop(settings.shutdown_grace_s)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_watch_signals, stop)
        nursery.start_soon(_enforce_grace, stop, settings.shutdown_grace_s)
        await _serve(settings, stop, started)
        failed = stop.failed.is_set()
        log.info("stopped", failed=failed)
        nursery.cancel_scope.cancel()
    return EXIT_FAILED if failed else EXIT_OK


async def _serve(settings: Settings, stop: _Stop, started: Callable[[str], None]) -> None:
    connections_max = _connections_max(settings.connections_max)
    read_model = ReadModel()
    async with (
        _open_hops(settings) as (write, read),
        _open_journal(settings, write) as journal,
        open_writer(
            journal,
            write=write,
            read=read,
            queue_max=settings.commit_queue_max,
            batch_parts_max=settings.commit_parts_max,
            batch_bytes_max=settings.commit_bytes_max,
        ) as writer,
        _watched(writer, stop),
        open_space_watch(writer) as space,
        open_checkpoints(
            writer, read_model, limits.checkpoint(settings), over_by=stop.work_over_by
        ) as checkpoints,
        open_fleet(journal=writer, read_model=read_model, limits=limits.fleet(settings)) as fleet,
        open_retention(
            writer,
            read_model,
            checkpoints,
            limits.retention(settings),
            wall_clock=_microseconds,
        ),
        open_rejections(
            writer, wall_clock=_microseconds, waiting_max=settings.rejections_waiting_max
        ) as rejections,
        open_thread("rocket lists") as table,
        open_rocket_lists(read_model, hop=table) as lists,
    ):
        since = datetime.now(UTC).isoformat(timespec="seconds")
        connections = Connections(limits.connection(settings, connections_max))
        answers = answer_budget(settings.answers_total_max)
        app = create_app(
            fleet=fleet,
            lists=lists,
            history=History(writer, read_model),
            rejections=rejections,
            anomalies=Anomalies(writer, read_model),
            health=lambda: health.answer(
                settings,
                since=since,
                stopping=stop.requested.is_set(),
                writer=writer,
                space=space,
                fleet=fleet,
                connections=connections,
                front=front,
            ),
            wall_clock=_microseconds,
            limits=limits.intake(settings),
            answers=answers,
            body_pause_s=settings.body_pause_s,
            body_total_s=settings.body_total_s,
        )
        fast_lane = FastLane(
            fleet=fleet,
            connections=connections,
            wall_clock=_microseconds,
            answers=answers,
            message_max=settings.message_max,
            ask_timeout_s=settings.ask_timeout_s,
        )
        lend = lender(AnswerBound(app, answers), send_timeout_s=settings.send_timeout_s)
        front = _front(settings, connections, lend, fast_lane)
        await _run_front(settings, front, fast_lane, connections, stop, started)


def _front(
    settings: Settings, connections: Connections, lend: Lender, fast_lane: FastLane
) -> Front:
    return Front(
        connections=connections,
        lend=lend,
        rules=BatchBodies(settings.message_max, settings.batch_max),
        fast_lane=fast_lane if settings.fast_lane else None,
        limits=limits.front(settings),
    )


async def _run_front(
    settings: Settings,
    front: Front,
    fast_lane: FastLane,
    connections: Connections,
    stop: _Stop,
    started: Callable[[str], None],
) -> None:
    """Accept and serve until a stop is requested, then answer what still runs."""
    listeners = await _listen(settings)
    async with trio.open_nursery() as background:
        background.start_soon(connections.sweep)
        background.start_soon(fast_lane.sweep)
        async with trio.open_nursery() as serving:
            await serving.start(front.run)
            async with trio.open_nursery() as accepting:
                for listener in listeners:
                    accepting.start_soon(listening.accept, listener, front.take)
                url = listening.url(listeners[0])
                log.info("started", url=url, pid=os.getpid(), version=__version__)
                started(url)
                await stop.requested.wait()
                log.info("stopping", busy=connections.statistics().busy)
                accepting.cancel_scope.cancel()
            for listener in listeners:
                listener.close()
            connections.begin_stop()
            background.start_soon(_cut_off, connections, stop, settings.shutdown_grace_s)
            with trio.move_on_after(LAST_REQUESTS_S):
                await connections.wait_none_left()
            connections.stop()
            await connections.wait_none_left()
            serving.cancel_scope.cancel()
        background.cancel_scope.cancel()


async def _watch_signals(stop: _Stop) -> None:
    """The first signal asks for a clean stop, the second ends the process at once."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            if stop.requested.is_set():
                os._exit(EXIT_FORCED)
            stop.request()


async def _enforce_grace(stop: _Stop, grace_s: float) -> None:
    """End the process when a stop takes too long, whatever it waits for: a disk may hang."""
    await stop.wait_over(stopping_s=grace_s, failed_s=FAILED_GRACE_S)
    log.error("stop_forced", grace_s=grace_s)
    os._exit(EXIT_FAILED if stop.failed.is_set() else EXIT_FORCED)


async def _cut_off(connections: Connections, stop: _Stop, grace_s: float) -> None:
    """Close what is still busy when the time for answers is over, so that the journal closes well.

    Closing the sockets ends the writes, which are shielded from the cancellation.
    """
    await stop.wait_over(stopping_s=grace_s * WORK_SHARE, failed_s=FAILED_ANSWER_S)
    log.warning("connections_cut", busy=connections.statistics().busy)
    connections.cut_off()


@asynccontextmanager
async def _watched(writer: JournalWriter, stop: _Stop) -> AsyncIterator[None]:
    """Stop the process when the journal fails, also while the last batches are being committed."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_watch_journal, writer, stop)
        yield
        nursery.cancel_scope.cancel()
    if writer.failure is not None and not stop.failed.is_set():
        _tell_failure(writer, stop)


async def _watch_journal(writer: JournalWriter, stop: _Stop) -> None:
    await writer.wait_failed()
    _tell_failure(writer, stop)


def _tell_failure(writer: JournalWriter, stop: _Stop) -> None:
    log.critical("journal_failed", reason=str(writer.failure))
    stop.fail()


@asynccontextmanager
async def _open_hops(settings: Settings) -> AsyncIterator[tuple[Hop, Hop]]:
    """One thread writes and one reads; a journal in memory needs neither."""
    if settings.durability == "memory":
        yield inline, inline
        return
    async with open_thread("journal writer") as write, open_thread("journal reader") as read:
        yield write, read


@asynccontextmanager
async def _open_journal(settings: Settings, write: Hop) -> AsyncIterator[Journal]:
    journal = await write(
        partial(
            open_journal,
            settings.database,
            durability=settings.durability,
            reserve_bytes=settings.reserve_bytes,
            note_limits=NoteLimits(settings.notes_max, settings.notes_bytes_max),
        )
    )
    try:
        yield journal
    finally:
        # The grace period bounds it: `_enforce_grace` ends the process if a disk hangs here.
        with trio.CancelScope(shield=True):
            await write(journal.close)


async def _listen(settings: Settings) -> list[socket.socket]:
    """Listen where the service manager does that for us, else where the settings say."""
    try:
        if listeners := listening.inherited(os.environ):
            return listeners
    except (OSError, ValueError) as error:
        raise ServeRefused(f"the sockets passed on cannot be used: {error}") from error
    try:
        return await listening.listen(settings.host, settings.port, backlog=settings.backlog)
    except (OSError, UnicodeError) as error:  # a name no resolver can take is a UnicodeError
        reason = getattr(error, "strerror", None) or str(error)
        raise ServeRefused(
            f"cannot listen on {settings.host} port {settings.port}: {reason}"
        ) from error


def _connections_max(wanted: int) -> int:
    """Raise the soft descriptor limit to the hard one and say how many connections fit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        # No limit to raise to; some systems refuse an unlimited soft one.
        if soft != resource.RLIM_INFINITY:
            wished = max(soft, wanted + DESCRIPTORS_RESERVED)
            resource.setrlimit(resource.RLIMIT_NOFILE, (wished, hard))
    elif soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY:
        fitting = hard - DESCRIPTORS_RESERVED
        if fitting < CONNECTIONS_MIN:
            raise ServeRefused(
                f"the descriptor limit is {hard}; at least "
                f"{CONNECTIONS_MIN + DESCRIPTORS_RESERVED} are needed"
            )
        if hard < DESCRIPTORS_WISHED:
            log.warning("descriptors_few", limit=hard, connections=min(wanted, fitting))
        wanted = min(wanted, fitting)
    return wanted


def _microseconds() -> int:
    """The wall clock, for display and for the journal; never for time limits."""
    return time.time_ns() // 1_000
