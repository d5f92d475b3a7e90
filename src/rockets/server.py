"""One process: journal, fleet, application and listeners, as nested blocks.

The order of start is the nesting in `_serve`, and a stop is that nesting unwinding: stop accepting,
answer what runs, let the actors and the writer finish, checkpoint and close the journal.
"""

import os
import resource
import secrets
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple

import structlog
import trio

from rockets import __version__, health, limits, listening
from rockets.actors.anomalies import Anomalies
from rockets.actors.fleet import Fleet
from rockets.actors.history import History
from rockets.actors.rejections import Rejections, open_rejections
from rockets.actors.replica import Replica
from rockets.actors.rocket_lists import RocketLists, open_rocket_lists
from rockets.instance import open_instance
from rockets.journal.space_watch import SpaceWatch, open_space_watch
from rockets.journal.thread import open_thread
from rockets.journal.writer import JournalWriter
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
from rockets.web import tls
from rockets.web.answer_bound import AnswerBound, answer_budget
from rockets.web.app import create_app
from rockets.web.batch import BatchBodies
from rockets.web.connections import Connections
from rockets.web.fast_lane import FastLane
from rockets.web.feed import Feed
from rockets.web.front import Front, Lender
from rockets.web.operations import Health
from rockets.web.streams import Streams
from rockets.worker import Worker
from rockets.worker_health import WorkerHealth

log = structlog.get_logger()

# Descriptors kept for the journal, its lock, the loop and the logs.
DESCRIPTORS_RESERVED = 64
CONNECTIONS_MIN = 64
DESCRIPTORS_WISHED = 4_096

# A stop takes requests for so long that are on their way on open connections: who is cut off with
# a request sent cannot know what became of it, and a client under load sends one each millisecond.
LAST_REQUESTS_S = 0.3


async def serve(
    settings: Settings,
    *,
    worker: Worker | None = None,
    started: Callable[[str], None] = lambda url: None,
) -> int:
    """Run the service until a signal or a failure; gives the exit code.

    `worker` is what this process has from its parent, where it is one of several.
    `started` gets the URL once the port is open.
    Raises ServeRefused or JournalRefused where it cannot start.
    """
    stop = Stop(settings.shutdown_grace_s)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(enforce_grace, stop)
        if worker is None:
            nursery.start_soon(watch_signals, stop.signal)
        else:
            # A service manager may signal a worker as well as its parent: two are no haste.
            nursery.start_soon(watch_signals, stop.request)
            nursery.start_soon(worker.stop_with_parent, stop)
        try:
            await _serve(settings, stop, worker, started)
        except* StartGivenUp:
            pass  # asked for, so it is no failure
        log.info("stopped", failed=stop.failed.is_set())
        nursery.cancel_scope.cancel()
    return stop.code


class _Parts(NamedTuple):
    """What works behind the web, open."""

    writer: JournalWriter
    space: SpaceWatch
    fleet: Fleet
    replica: Replica | None
    rejections: Rejections
    lists: RocketLists
    feed: Feed


async def _serve(
    settings: Settings, stop: Stop, worker: Worker | None, started: Callable[[str], None]
) -> None:
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
        connections = _connections(settings, connections_max)
        feed = _feed(settings, fleet, replica, lists, connections_max)
        parts = _Parts(writer, space, fleet, replica, rejections, lists, feed)
        await _serve_web(settings, stop, parts, connections, worker, started)


async def _serve_web(
    settings: Settings,
    stop: Stop,
    parts: _Parts,
    connections: Connections,
    worker: Worker | None,
    started: Callable[[str], None],
) -> None:
    """Put the web in front of the parts, and run it until a stop."""
    since = datetime.now(UTC).isoformat(timespec="seconds")

    def own_health() -> Health:
        return health.answer(
            settings,
            since=since,
            stopping=stop.requested.is_set(),
            writer=parts.writer,
            space=parts.space,
            fleet=parts.fleet,
            replica=parts.replica,
            connections=connections,
            front=front,
            feed=parts.feed,
        )

    answers = answer_budget(settings.answers_total_max)
    worker_health = None if worker is None else WorkerHealth(worker, own_health)
    app = create_app(
        fleet=parts.fleet,
        lists=parts.lists,
        history=History(parts.writer, parts.fleet.read_model),
        rejections=parts.rejections,
        anomalies=Anomalies(parts.writer, parts.fleet.read_model),
        feed=parts.feed,
        health=own_health if worker_health is None else worker_health.answer,
        own_health=own_health,
        wall_clock=_microseconds,
        limits=limits.intake(settings),
        answers=answers,
        body_pause_s=settings.body_pause_s,
        body_total_s=settings.body_total_s,
        replica=parts.replica,
        role=settings.role,
    )
    fast_lane = FastLane(
        fleet=parts.fleet,
        connections=connections,
        wall_clock=_microseconds,
        answers=answers,
        message_max=settings.message_max,
        ask_timeout_s=settings.ask_timeout_s,
        takes_messages=settings.role != "query",
        # Where the journal is shared a read may have to wait.
        shows_state=parts.replica is None,
    )
    lend = lender(AnswerBound(app, answers), send_timeout_s=settings.send_timeout_s)
    streams = Streams(parts.feed, connections, send_timeout_s=settings.send_timeout_s)
    front = _front(settings, connections, lend, fast_lane, streams)
    listeners = await _listeners(settings, worker)
    async with trio.open_nursery() as background:
        background.start_soon(connections.sweep)
        background.start_soon(fast_lane.sweep)
        background.start_soon(streams.run_rounds)
        background.start_soon(streams.send_unsent)
        if worker_health is not None:
            background.start_soon(worker_health.keep)
        await _run_front(front, listeners, streams, connections, stop, started)
        background.cancel_scope.cancel()


async def _listeners(settings: Settings, worker: Worker | None) -> list[socket.socket]:
    if worker is not None:
        return worker.listeners
    return await listening.open_listeners(settings.host, settings.port, backlog=settings.backlog)


def _feed(
    settings: Settings,
    fleet: Fleet,
    replica: Replica | None,
    lists: RocketLists,
    connections_max: int,
) -> Feed:
    return Feed(
        fleet.read_model,
        lists,
        boot_id=secrets.token_hex(6),
        replica=replica,
        # Half of the connections stay for those who send and ask.
        readers_max=min(settings.readers_max, connections_max // 2),
    )


def _front(
    settings: Settings,
    connections: Connections,
    lend: Lender,
    fast_lane: FastLane,
    streams: Streams,
) -> Front:
    return Front(
        connections=connections,
        lend=lend,
        rules=BatchBodies(settings.message_max, settings.batch_max),
        fast_lane=fast_lane if settings.fast_lane else None,
        streams=streams if settings.fast_lane and settings.role != "ingest" else None,
        limits=limits.front(settings),
    )


async def _run_front(
    front: Front,
    listeners: list[socket.socket],
    streams: Streams,
    connections: Connections,
    stop: Stop,
    started: Callable[[str], None],
) -> None:
    """Accept and serve until a stop is requested, then answer what still runs."""
    async with trio.open_nursery() as cutting, trio.open_nursery() as serving:
        await serving.start(front.run)
        async with trio.open_nursery() as accepting:
            for listener in listeners:
                accepting.start_soon(listening.accept, listener, front.take)
            url = listening.url(listeners[0], use_tls=connections.use_tls)
            log.info("started", url=url, pid=os.getpid(), version=__version__)
            started(url)
            await stop.requested.wait()
            log.info("stopping", busy=connections.statistics().busy)
            accepting.cancel_scope.cancel()
        for listener in listeners:
            listener.close()
        connections.begin_stop()
        streams.stop()
        cutting.start_soon(_cut_off, connections, stop)
        with trio.move_on_after(LAST_REQUESTS_S):
            await connections.wait_none_left()
        connections.stop()
        await connections.wait_none_left()
        serving.cancel_scope.cancel()
        cutting.cancel_scope.cancel()


async def _cut_off(connections: Connections, stop: Stop) -> None:
    """Close what is still busy when the time for answers is over, so that the journal closes well.

    Closing the sockets ends the writes, which are shielded from the cancellation.
    """
    await stop.wait_over(stopping_s=stop.grace_s * WORK_SHARE, failed_s=FAILED_ANSWER_S)
    log.warning("connections_cut", busy=connections.statistics().busy)
    connections.cut_off()


def _connections(settings: Settings, connections_max: int) -> Connections:
    """Open the register of connections, which are enciphered where there is a certificate."""
    allowed = limits.connection(settings, connections_max)
    if not settings.tls_certificate:
        return Connections(allowed)
    try:
        context = tls.load(settings.tls_certificate, settings.tls_key)
    except tls.TlsRefused as refused:
        raise ServeRefused(str(refused)) from refused
    return Connections(allowed, connect=partial(tls.TlsConnection, context), use_tls=True)


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
