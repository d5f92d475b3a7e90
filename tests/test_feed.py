"""The live feed of a real process: many readers at once, and its stop."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.helpers import body, both_lanes, connected, get, post, serving
from tests.web.feeds import Follower, Holder

pytestmark = pytest.mark.slow

READERS = 200


async def goodbye(follower: Follower) -> None:
    """Read to the end, which must be a proper one."""
    assert (await follower.wait_end())[-1].name == "bye"
    assert follower.ended


@both_lanes
async def test_a_stop_with_200_streams_of_which_100_never_read_is_a_clean_one(
    tmp_path: Path, lane: str
) -> None:
    fleet = b"[%b]" % b",".join(body(f"r{place}", 1, "RocketLaunched") for place in range(200))
    async with serving(tmp_path, lane) as server, connected(server.port) as client:
        assert (await client.ask(post(fleet))).status == 200
        with ExitStack() as opened:
            reading = [opened.enter_context(Follower(server.port)) for _ in range(READERS // 2)]
            async with trio.open_nursery() as nursery:
                for follower in reading:
                    nursery.start_soon(follower.wait, "ready")
            for _ in range(READERS // 2):  # their fleet is larger than their buffer
                silent = opened.enter_context(Follower(server.port, buffer=4_096))
                with trio.fail_after(20):
                    await trio.lowlevel.wait_readable(silent.socket)
            health: Any = (await client.ask(get("/health"))).json
            assert health["counts"]["readers"] == READERS
            began = trio.current_time()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(server.stop)
                for follower in reading:
                    nursery.start_soon(goodbye, follower)
            assert trio.current_time() - began < 10
        assert server.process.returncode == 0
        assert server.events("connection_failed") == server.events("request_crashed") == []


@both_lanes
async def test_who_comes_back_after_a_restart_is_told_to_begin_again(
    tmp_path: Path, lane: str
) -> None:
    holder = Holder()
    async with serving(tmp_path, lane) as server, connected(server.port) as client:
        assert (await client.ask(post(body("a", 1, "RocketLaunched")))).status == 204
        with Follower(server.port) as follower:
            holder.take(await follower.wait("ready"))
            assert (await client.ask(post(body("b", 1, "RocketLaunched")))).status == 204
            holder.take(await follower.wait("rocket"))
        assert await server.stop() == 0
    async with serving(tmp_path, lane) as server:
        with Follower(server.port, "/events", f"Last-Event-ID: {holder.last_id}") as follower:
            events = await follower.wait("ready")

    assert [event.name for event in events] == ["hello", "reset", "rocket", "rocket", "ready"]
    assert events[1].data == {"reason": "unknownId"}
