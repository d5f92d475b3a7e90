"""The health of the service, as people and as orchestrators ask for it."""

import msgspec
import pytest

from rockets.web.operations import HealthStatus
from tests.helpers import connected, get
from tests.web.apps import HEALTH, running_app, running_service

STATUSES: list[tuple[HealthStatus, int]] = [("ok", 200), ("degraded", 503), ("stopping", 503)]


@pytest.mark.parametrize(("status", "http_status"), STATUSES)
async def test_only_a_service_that_takes_messages_is_ready_and_any_is_alive(
    status: HealthStatus, http_status: int
) -> None:
    state = msgspec.structs.replace(HEALTH, status=status, checks={"journal": "no space"})
    async with running_app(health=state) as client:
        health = await client.get("/health")
        ready, live = await client.get("/readyz"), await client.get("/livez")

        assert (health.status_code, health.mimetype) == (http_status, "application/json")
        assert await health.get_json() == msgspec.to_builtins(state)
        assert (ready.status_code, await ready.get_data()) == (http_status, b"")
        assert (live.status_code, await live.get_data()) == (200, b"")


async def test_the_probes_of_orchestrators_get_no_body_header_but_its_length() -> None:
    async with running_service() as service, connected(service.port) as peer:
        replies = [await peer.ask(get(target)) for target in ("/livez", "/readyz")]

    assert [(reply.status, reply.body) for reply in replies] == [(200, b"")] * 2
    for reply in replies:
        assert set(reply.headers) == {"content-length", "date", "x-request-id"}
