"""One process: journal, fleet, application and listeners, as nested blocks.

The order of start is the nesting in `_serve`, and a stop is that nesting unwinding: stop accepting,
answer what runs, let the actors and the writer finish, checkpoint and close the journal.
"""

import os
import resource
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime

import structlog
import trio

from rockets import __version__, health, limits, listening
from rockets.actors.anomalies import Anomalies
from rockets.actors.history import History
from rockets.actors.rejections import open_rejections
from rockets.actors.rocket_lists import open_rocket_lists
from rockets.instance import open_instance
from rockets.journal.space_watch import open_space_watch
from rockets.journal.thread import open_thread
from rockets.lending import lender
from rockets.settings import Settings
from rockets.stopping import (
    FAILED_ANSWER_S,
    WORK_SHARE,
    ServeRefused,
    StartGivenUp,
    Stop,
    enforce_grace,
    watch_signals,
    watched,
)
from rockets.storage import open_storage
from rockets.web.answer_bound import AnswerBound, answer_budget
from rockets.web.app import create_app
from rockets.web.batch import BatchBodies
from rockets.web.connections import Connections
from rockets.web.fast_lane import FastLane
from rockets.web.front import Front, Lender

log = structlog.get_logger()

# Descriptors kept for the journal, its lock, the loop and the logs.
DESCRIPTORS_RESERVED = 64
CONNECTIONS_MIN = 64
DESCRIPTORS_WISHED = 4_096

# A stop takes requests for so long that are on their way on open connections: who is cut off with
# a request sent cannot know what became of it, and a client under load sends one each millisecond.
LAST_REQUESTS_S = 0.3


async def serve(settings: Settings, *, started: Callable[[str], None] = lambda url: None) -> int:
    """Run the service until a signal or a failure; gives the exit code.

    `started` gets the URL once the port is open.
    Raises ServeRefused or JournalRefused where it cannot start.
    """
    stop = Stop(settings.shutdown_grace_s)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_signals, stop)
        nursery.start_soon(enforce_grace, stop, settings.shutdown_grace_s)
        try:
            await _serve(settings, stop, started)
        except* StartGivenUp:
            pass  # asked for, so it is no failure
        log.info("stopped", failed=stop.failed.is_set())
        nursery.cancel_scope.cancel()
    return stop.code


async def _serve(settings: Settings, stop: Stop, started: Callable[[str], None]) -> None:
    connections_max = _connections_max(settings.connections_max)
    async with (
        open_storage(settings, stop.requested) as writer,
        watched(writer, stop),
        open_space_watch(writer) as space,
        open_instance(settings, writer, wall_clock=_microseconds, over_by=stop.work_over_by) as (
            fleet,
            replica,
        ),
        open_rejections(
            writer, wall_clock=_microseconds, waiting_max=settings.rejections_waiting_max
        ) as rejections,
        open_thread("rocket lists") as table,
        open_rocket_lists(fleet.read_model, hop=table) as lists,
    ):
        since = datetime.now(UTC).isoformat(timespec="seconds")
        connections = Connections(limits.connection(settings, connections_max))
        answers = answer_budget(settings.answers_total_max)
        app = create_app(
            fleet=fleet,
            lists=lists,
            history=History(writer, fleet.read_model),
            rejections=rejections,
            anomalies=Anomalies(writer, fleet.read_model),
            health=lambda: health.answer(
                settings,
                since=since,
                stopping=stop.requested.is_set(),
                writer=writer,
                space=space,
                fleet=fleet,
                replica=replica,
                connections=connections,
                front=front,
            ),
            wall_clock=_microseconds,
            limits=limits.intake(settings),
            answers=answers,
            body_pause_s=settings.body_pause_s,
            body_total_s=settings.body_total_s,
            replica=replica,
            role=settings.role,
        )
        fast_lane = FastLane(
            fleet=fleet,
            connections=connections,
            wall_clock=_microseconds,
            answers=answers,
            message_max=settings.message_max,
            ask_timeout_s=settings.ask_timeout_s,
            takes_messages=settings.role != "query",
            # Where the journal is shared a read may have to wait.
            shows_state=replica is None,
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
    stop: Stop,
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


async def _cut_off(connections: Connections, stop: Stop, grace_s: float) -> None:
    """Close what is still busy when the time for answers is over, so that the journal closes well.

    Closing the sockets ends the writes, which are shielded from the cancellation.
    """
    await stop.wait_over(stopping_s=grace_s * WORK_SHARE, failed_s=FAILED_ANSWER_S)
    log.warning("connections_cut", busy=connections.statistics().busy)
    connections.cut_off()


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
