"""A failed sync in a real process: 503, nothing acknowledged any more, and a quick end."""

import os
from pathlib import Path

import pytest
import trio

from rockets.stopping import EXIT_FAILED
from tests.helpers import body, both_lanes, connected, get, post, serving

FAULTY_SERVE = str(Path(__file__).with_name("faulty_serve.py"))


@pytest.mark.slow
@both_lanes
async def test_a_failed_sync_in_a_commit_ends_the_process_and_a_restart_takes_the_resend(
    tmp_path: Path, lane: str
) -> None:
    trigger = tmp_path / "fail"
    async with (
        serving(
            tmp_path,
            lane,
            command=(FAULTY_SERVE, "serve"),
            environment=os.environ | {"FAIL_SYNC": "-wal", "FAIL_FROM": str(trigger)},
        ) as server,
        connected(server.port) as client,
    ):
        assert (await client.ask(post(body("r", 1, "RocketLaunched")))).status == 204
        trigger.touch()
        failed = await client.ask(post(body("r", 2)))
        with trio.fail_after(1.5):  # the promise is a second; the rest is for a busy machine
            code = await server.wait()

    assert failed.status == 503
    assert failed.headers["retry-after"] == "1"
    assert failed.headers["connection"] == "close"
    assert code == EXIT_FAILED
    assert len(server.events("journal_failed")) == 1

    async with serving(tmp_path, lane) as server, connected(server.port) as client:
        again = await client.ask(post(body("r", 2)))
        rocket = await client.ask(get("/rockets/r"))

    assert again.status == 204
    assert rocket.json["speed"] == 1000


@pytest.mark.slow
@both_lanes
async def test_a_failed_sync_in_a_checkpoint_ends_the_process_and_loses_nothing(
    tmp_path: Path, lane: str
) -> None:
    trigger = tmp_path / "fail"
    acknowledged = 0
    async with (
        serving(
            tmp_path,
            lane,
            command=(FAULTY_SERVE, "serve"),
            environment=os.environ | {"FAIL_SYNC": ".db", "FAIL_FROM": str(trigger)},
        ) as server,
        connected(server.port) as client,
    ):
        trigger.touch()
        # A checkpoint is due after 4,000 pages of 4 KiB; each of these messages fills 15.
        with pytest.raises((EOFError, trio.BrokenResourceError, AssertionError)):
            for number in range(1, 2_000):
                reply = await client.ask(post(body("r", number, "Padded", padding="x" * 60_000)))
                assert reply.status == 204
                acknowledged = number
        code = await server.wait()

    assert code == EXIT_FAILED
    assert 200 < acknowledged < 2_000

    async with serving(tmp_path, lane) as server, connected(server.port) as client:
        rocket = await client.ask(get("/rockets/r"))

    assert rocket.json["lastMessageNumber"] in {acknowledged, acknowledged + 1}
