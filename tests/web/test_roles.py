"""What is for an instance of another role is refused, and says so."""

import pytest

from rockets.web.roles import Role
from rockets.web.route import Route
from rockets.web.routes import ROUTES
from tests.helpers import body, connected, get, post
from tests.web.apps import running_app, running_service

PARTS = {"{channel}": "r", "{rejection_id}": "1", "{file}": "swagger-ui.css", "{name}": "not-found"}


def path_of(route: Route) -> str:
    path = route.path
    for name, value in PARTS.items():
        path = path.replace(name, value)
    return path


@pytest.mark.parametrize("role", ["all", "ingest", "query"])
async def test_every_route_is_answered_or_refused_by_the_role(role: Role) -> None:
    async with running_app(role=role) as client:
        for route in ROUTES:
            if route.method == "POST":
                response = await client.post(path_of(route), data=body("r", 1))
            elif route.is_live:  # it has no end
                response = await client.head(path_of(route))
            else:
                response = await client.get(path_of(route))

            refused = {"all": False, "ingest": route.shows_state, "query": route.takes_messages}
            assert (response.status_code == 421) == refused[role], route.path
            if refused[role] and not route.is_live:
                problem = await response.get_json()
                assert problem["type"] == "/problems/wrong-instance"
                assert "role" in problem["detail"]


@pytest.mark.parametrize("fast_lane", [True, False])
async def test_a_query_instance_refuses_messages_in_both_lanes(fast_lane: bool) -> None:
    async with (
        running_service(role="query", fast_lane=fast_lane) as service,
        connected(service.port) as peer,
    ):
        lines = post(body("r", 1), "Content-Type: application/x-ndjson")
        for request in (post(body("r", 1)), post(b"[" + body("r", 1) + b"]"), lines):
            async with connected(service.port) as other:
                reply = await other.ask(request)
                assert (reply.status, reply.headers["connection"]) == (421, "close")
        assert (await peer.ask(get("/rockets"))).json["count"] == 0


@pytest.mark.parametrize("fast_lane", [True, False])
async def test_an_ingest_instance_shows_what_was_taken_in_the_answer_alone(
    fast_lane: bool,
) -> None:
    async with (
        running_service(role="ingest", fast_lane=fast_lane) as service,
        connected(service.port) as peer,
    ):
        prefer = await peer.ask(post(body("r", 1), "Prefer: return=representation"))
        assert prefer.status == 200
        assert (await peer.ask(post(body("r", 2)))).status == 204
        for target in ("/rockets", "/rockets/r", "/events"):
            assert (await peer.ask(get(target))).status == 421
