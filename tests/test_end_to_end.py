"""The main job, on a real process and real sockets."""

from pathlib import Path

from tests.helpers import body, connected, get, post, serving


async def test_a_message_is_answered_empty_and_its_rocket_can_be_read(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, connected(server.port) as client:
        launched = await client.ask(post(body("rocket-1", 1, "RocketLaunched")))
        faster = await client.ask(post(body("rocket-1", 2, by=3000)))
        rocket = await client.ask(get("/rockets/rocket-1"))

    assert (launched.status, launched.body) == (204, b"")
    assert "content-length" not in launched.headers
    assert "content-type" not in launched.headers
    assert faster.headers["rockets-outcome"] == "applied"
    assert faster.headers["rockets-settled"] == "2"
    assert rocket.json["speed"] == 3500
    assert rocket.json["status"] == "launched"


async def test_the_state_is_there_after_a_restart(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, connected(server.port) as client:
        await client.ask(post(body("rocket-1", 2)))
        await client.ask(post(body("rocket-1", 1, "RocketLaunched")))
        before = await client.ask(get("/rockets"))
        assert await server.stop() == 0

    async with serving(tmp_path) as server, connected(server.port) as client:
        after = await client.ask(get("/rockets"))

    assert after.body == before.body
