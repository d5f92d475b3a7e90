"""State is up to date, or refused, or comes with its age: on every route that shows state."""

import pytest
import trio
from trio.testing import MockClock

from rockets.web.routes import ROUTES
from tests.actors.fleets import ask
from tests.actors.instances import Store, running_instance
from tests.helpers import body, both_lanes, connected, get, message, post
from tests.web.apps import running_app, running_service

STATE = [route.path.replace("{channel}", "r") for route in ROUTES if route.has_age]
OTHERS = ["/health", "/livez", "/readyz", "/openapi.json", "/docs", "/problems", "/rejections"]


def test_these_routes_show_state() -> None:
    assert STATE == ["/rockets", "/rockets/r", "/rockets/r/messages", "/fleet", "/anomalies"]


@pytest.mark.parametrize("path", STATE)
async def test_what_another_instance_has_stored_is_shown_at_once(path: str) -> None:
    store = Store()
    async with (
        running_instance(store) as one,
        running_instance(store) as two,
        running_app(instance=two) as client,
    ):
        await ask(one.fleet, message("r", 1, "RocketLaunched"), message("r", 2, "RocketLaunched"))

        response = await client.get(path)

        assert response.status_code == 200
        assert "Rockets-Stale" not in response.headers
        content = await response.get_json()
        assert "r" in str(content) or content["rockets"]["total"] == 1


@pytest.mark.parametrize("path", STATE)
async def test_without_the_store_state_is_refused_or_comes_with_its_age(
    path: str, autojump_clock: MockClock
) -> None:
    store = Store()
    async with running_instance(store) as one, running_app(instance=one) as client:
        await ask(one.fleet, message("r", 1, "RocketLaunched"))
        await one.replica.wait_caught_up()
        one.side.cut()
        await trio.sleep(60)

        refused = await client.get(path)
        stale = await client.get(path, query_string={"stale": "ok"})

        assert refused.status_code == 503
        assert refused.headers["Retry-After"] == "1"
        assert (await refused.get_json())["type"] == "/problems/not-up-to-date"
        assert 59 <= int(stale.headers["Rockets-Stale"]) <= 61
        reads_store = path in ("/rockets/r/messages", "/fleet", "/anomalies")
        assert stale.status_code == (503 if reads_store else 200)
        one.side.mend()
        again = await client.get(path)
        assert again.status_code == 200


@pytest.mark.parametrize("path", OTHERS)
async def test_other_routes_do_not_wait(path: str) -> None:
    store = Store()
    async with running_instance(store) as one, running_app(instance=one) as client:
        one.side.cut()

        response = await client.get(path)

        assert response.status_code == (503 if path == "/rejections" else 200)
        if path == "/rejections":  # they are asked of the store itself
            assert (await response.get_json())["type"] == "/problems/history-unavailable"


@pytest.mark.parametrize("path", STATE)
async def test_alone_an_instance_is_never_stale(path: str) -> None:
    async with running_app() as client:
        await client.post("/messages", data=body("r", 1, "RocketLaunched"))

        response = await client.get(path, query_string={"stale": "ok"})
        plain = await client.get(path)

        assert (response.status_code, response.headers["Rockets-Stale"]) == (200, "0")
        assert "Rockets-Stale" not in plain.headers
        assert response.headers["ETag"] == plain.headers["ETag"]


@pytest.mark.parametrize("query", ["stale=no", "stale=", "stale=ok&stale=ok"])
async def test_another_value_is_refused(query: str) -> None:
    async with running_app() as client:
        response = await client.get(f"/rockets?{query}")

        assert response.status_code == 400
        assert "stale" in (await response.get_json())["detail"]


async def test_where_nothing_is_stale_the_parameter_is_unknown() -> None:
    async with running_app() as client:
        assert (await client.get("/rejections?stale=ok")).status_code == 400


@both_lanes
async def test_written_to_one_and_read_from_the_other_over_http(lane: str) -> None:
    store, fast = Store(), lane == "--fast-lane"
    async with (
        running_instance(store) as one,
        running_instance(store) as two,
        running_service(instance=one, fast_lane=fast) as here,
        running_service(instance=two, fast_lane=fast) as there,
        connected(here.port) as writer,
        connected(there.port) as reader,
    ):
        for number in range(1, 101):
            assert (await writer.ask(post(body("r", number)))).status == 204
            rocket = await reader.ask(get("/rockets/r"))
            assert rocket.json["lastMessageNumber"] == number
        if fast:
            assert here.front.statistics().fast_answers == 100, "messages stay on the fast lane"
            assert there.front.statistics().fast_answers == 0, "no read is answered there"
