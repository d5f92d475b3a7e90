"""The real application over a fleet in memory, without sockets or behind the real front."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from quart.typing import TestClientProtocol
from quart_trio import QuartTrio

from rockets.actors.anomalies import Anomalies
from rockets.actors.fleet import Fleet, FleetLimits
from rockets.actors.history import History
from rockets.actors.rejections import Rejections, open_rejections
from rockets.actors.replica import Replica
from rockets.actors.rocket_lists import EXACT_MAX, open_rocket_lists
from rockets.journal.base import Journal
from rockets.journal.thread import inline
from rockets.lending import lender
from rockets.web.answer_bound import AnswerBound, answer_budget
from rockets.web.app import create_app
from rockets.web.batch import BatchBodies
from rockets.web.byte_budget import ByteBudget
from rockets.web.fast_lane import FastLane
from rockets.web.feed import Feed
from rockets.web.front import Front, FrontLimits
from rockets.web.messages import IntakeLimits
from rockets.web.operations import Health
from rockets.web.roles import Role
from rockets.web.streams import Streams
from tests.actors.fleets import Gate, running_fleet
from tests.actors.instances import Instance
from tests.web.fronts import Register, open_port

HEALTH = Health("ok", "0", "memory", "memory", "now", {}, {})


def clock() -> int:
    """Stand at microsecond 7."""
    return 7


def _app(
    fleet: Fleet,
    feed: Feed,
    rejections: Rejections,
    health: Health,
    answers: ByteBudget | None = None,
    *,
    replica: Replica | None = None,
    role: Role = "all",
) -> QuartTrio:
    return create_app(
        fleet=fleet,
        lists=feed.lists,
        history=History(fleet._journal, fleet.read_model),
        rejections=rejections,
        anomalies=Anomalies(fleet._journal, fleet.read_model),
        feed=feed,
        health=lambda: health,
        own_health=lambda: health,
        wall_clock=clock,
        limits=IntakeLimits(),
        answers=answers or answer_budget(2**26),
        body_pause_s=10,
        body_total_s=60,
        replica=replica,
        role=role,
    )


@asynccontextmanager
async def running_app(
    journal: Journal | None = None,
    *,
    gate: Gate | None = None,
    health: Health = HEALTH,
    exact_max: int = EXACT_MAX,
    role: Role = "all",
    instance: Instance | None = None,
) -> AsyncIterator[TestClientProtocol]:
    """Give a client of the application; a gate holds its commits back.

    With more than `exact_max` rockets lists are read from the table. With an instance it is an
    application of that one.
    """
    async with (
        _fleet_of(instance, journal, gate, None) as fleet,
        open_rejections(fleet._journal, wall_clock=clock) as rejections,
        open_rocket_lists(fleet.read_model, hop=inline, exact_max=exact_max) as lists,
    ):
        replica = None if instance is None else instance.replica
        feed = Feed(fleet.read_model, lists, boot_id="boot", replica=replica)
        yield _app(fleet, feed, rejections, health, replica=replica, role=role).test_client()


@asynccontextmanager
async def _fleet_of(
    instance: Instance | None,
    journal: Journal | None,
    gate: Gate | None,
    limits: FleetLimits | None,
) -> AsyncIterator[Fleet]:
    if instance is not None:
        yield instance.fleet
        return
    async with running_fleet(journal, gate=gate, limits=limits) as fleet:
        yield fleet


class Service:
    """The application behind a front, on a port of this machine."""

    def __init__(
        self,
        port: int,
        front: Front,
        connections: Register,
        fleet: Fleet,
        feed: Feed,
        streams: Streams,
    ) -> None:
        self.port = port
        self.front = front
        self.connections = connections
        self.fleet = fleet
        self.feed = feed
        self.streams = streams


@asynccontextmanager
async def running_service(
    journal: Journal | None = None,
    *,
    fast_lane: bool = True,
    gate: Gate | None = None,
    limits: FleetLimits | None = None,
    answers_max: int = 2**26,
    role: Role = "all",
    instance: Instance | None = None,
    exact_max: int = EXACT_MAX,
    readers_max: int = 1_000,
) -> AsyncIterator[Service]:
    """Run the whole service but its process, with the fast lane or without it."""
    intake, bounds, answers = IntakeLimits(), FrontLimits(), answer_budget(answers_max)
    replica = None if instance is None else instance.replica
    async with (
        _fleet_of(instance, journal, gate, limits) as fleet,
        open_rejections(fleet._journal, wall_clock=clock) as rejections,
        open_rocket_lists(fleet.read_model, hop=inline, exact_max=exact_max) as lists,
    ):
        connections = Register()
        feed = Feed(
            fleet.read_model, lists, boot_id="boot", replica=replica, readers_max=readers_max
        )
        streams = Streams(feed, connections, send_timeout_s=bounds.send_timeout_s)
        lane = FastLane(
            fleet=fleet,
            connections=connections,
            wall_clock=clock,
            answers=answers,
            message_max=intake.message_max,
            ask_timeout_s=intake.ask_timeout_s,
            takes_messages=role != "query",
            shows_state=replica is None and role != "ingest",
        )
        front = Front(
            connections=connections,
            lend=lender(
                AnswerBound(
                    _app(fleet, feed, rejections, HEALTH, answers, replica=replica, role=role),
                    answers,
                ),
                send_timeout_s=bounds.send_timeout_s,
            ),
            rules=BatchBodies(intake.message_max, intake.batch_max),
            limits=bounds,
            fast_lane=lane if fast_lane else None,
            streams=streams if fast_lane and role != "ingest" else None,
        )
        async with trio.open_nursery() as sweeping:
            sweeping.start_soon(lane.sweep)
            sweeping.start_soon(streams.run_rounds)
            sweeping.start_soon(streams.send_unsent)
            async with open_port(front, connections) as port:
                yield Service(port, front, connections, fleet, feed, streams)
            assert answers.used == 0, "an answer that has gone is still counted"
            sweeping.cancel_scope.cancel()


async def send(client: TestClientProtocol, *bodies: bytes) -> None:
    """Post messages, one after the other."""
    for each in bodies:
        response = await client.post("/messages", data=each)
        assert response.status_code == 204
