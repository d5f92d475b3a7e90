"""The real application over a fleet in memory, without sockets or behind the real front."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from quart.typing import TestClientProtocol

from rockets.actors.anomalies import Anomalies
from rockets.actors.history import History
from rockets.actors.rejections import open_rejections
from rockets.journal.base import Journal
from rockets.lending import lender
from rockets.web.app import create_app
from rockets.web.batch import BatchBodies
from rockets.web.connections import ConnectionLimits, Connections
from rockets.web.front import Front, FrontLimits
from rockets.web.messages import IntakeLimits
from rockets.web.operations import Health
from tests.actors.fleets import Gate, running_fleet

HEALTH = Health("ok", "0", "memory", "memory", "now", {}, {})


def clock() -> int:
    """Stand at microsecond 7."""
    return 7


@asynccontextmanager
async def running_app(
    journal: Journal | None = None, *, gate: Gate | None = None, health: Health = HEALTH
) -> AsyncIterator[TestClientProtocol]:
    """Give a client of the application; a gate holds its commits back."""
    async with (
        running_fleet(journal, gate=gate) as fleet,
        open_rejections(fleet._journal, wall_clock=clock) as rejections,
    ):
        app = create_app(
            fleet=fleet,
            history=History(fleet._journal, fleet.read_model),
            rejections=rejections,
            anomalies=Anomalies(fleet._journal, fleet.read_model),
            health=lambda: health,
            wall_clock=clock,
            limits=IntakeLimits(),
            body_pause_s=10,
            body_total_s=60,
        )
        yield app.test_client()


@asynccontextmanager
async def fronted(client: TestClientProtocol) -> AsyncIterator[int]:
    """Serve the application of this client on a port of this machine; gives the port."""
    limits = IntakeLimits()
    front = Front(
        connections=Connections(ConnectionLimits()),
        lend=lender(client.app, send_timeout_s=5),
        rules=BatchBodies(limits.message_max, limits.batch_max),
        limits=FrontLimits(),
    )
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, front.serve, [listener])
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def send(client: TestClientProtocol, *bodies: bytes) -> None:
    """Post messages, one after the other."""
    for each in bodies:
        response = await client.post("/messages", data=each)
        assert response.status_code == 204
