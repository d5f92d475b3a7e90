"""The main job, on a real process and real sockets."""

from pathlib import Path
from typing import Any

from tests.helpers import body, both_lanes, connected, get, post, serving


@both_lanes
async def test_a_message_is_answered_empty_and_its_rocket_can_be_read(
    tmp_path: Path, lane: str
) -> None:
    async with serving(tmp_path, lane) as server, connected(server.port) as client:
        launched = await client.ask(post(body("rocket-1", 1, "RocketLaunched")))
        faster = await client.ask(post(body("rocket-1", 2, by=3000)))
        rocket = await client.ask(get("/rockets/rocket-1"))
        counts: Any = (await client.ask(get("/health"))).json["counts"]

    assert (launched.status, launched.body) == (204, b"")
    assert "content-length" not in launched.headers
    assert "content-type" not in launched.headers
    assert faster.headers["rockets-outcome"] == "applied"
    assert faster.headers["rockets-settled"] == "2"
    assert rocket.json["speed"] == 3500
    assert rocket.json["status"] == "launched"
    by_lane = 3 if lane == "--fast-lane" else 0
    assert (counts["fastAnswers"], counts["lentRequests"]) == (by_lane, 3 - by_lane + 1)
    assert (counts["commits"], counts["committedRecords"]) == (2, 2)


@both_lanes
async def test_the_state_is_there_after_a_restart(tmp_path: Path, lane: str) -> None:
    async with serving(tmp_path, lane) as server, connected(server.port) as client:
        await client.ask(post(body("rocket-1", 2)))
        await client.ask(post(body("rocket-1", 1, "RocketLaunched")))
        before = await client.ask(get("/rockets"))
        assert await server.stop() == 0

    async with serving(tmp_path, lane) as server, connected(server.port) as client:
        after = await client.ask(get("/rockets"))

    assert after.body == before.body
