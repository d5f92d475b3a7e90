"""The real application over a fleet in memory, without sockets."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from quart.typing import TestClientProtocol

from rockets.actors.anomalies import Anomalies
from rockets.actors.history import History
from rockets.actors.rejections import open_rejections
from rockets.journal.base import Journal
from rockets.web.app import create_app
from rockets.web.messages import IntakeLimits
from rockets.web.operations import Health
from tests.actors.fleets import running_fleet

HEALTH = Health("ok", "0", "memory", "memory", "now", {}, {})


def clock() -> int:
    """Stand at microsecond 7."""
    return 7


@asynccontextmanager
async def running_app(journal: Journal | None = None) -> AsyncIterator[TestClientProtocol]:
    """Give a client of the application."""
    async with (
        running_fleet(journal) as fleet,
        open_rejections(fleet._journal, wall_clock=clock) as rejections,
    ):
        app = create_app(
            fleet=fleet,
            history=History(fleet._journal, fleet.read_model),
            rejections=rejections,
            anomalies=Anomalies(fleet._journal, fleet.read_model),
            health=lambda: HEALTH,
            wall_clock=clock,
            limits=IntakeLimits(),
            body_pause_s=10,
            body_total_s=60,
        )
        yield app.test_client()


async def send(client: TestClientProtocol, *bodies: bytes) -> None:
    """Post messages, one after the other."""
    for each in bodies:
        response = await client.post("/messages", data=each)
        assert response.status_code == 204
