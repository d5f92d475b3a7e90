"""Two instances as real processes on one SQLite file."""

import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import apsw
import pytest
import trio

from rockets.journal import hold_file
from rockets.stopping import EXIT_BEHIND, EXIT_REFUSED
from tests.helpers import ServerProcess, body, both_lanes, connected, get, post, serving

pytestmark = pytest.mark.slow

COMMAND = (str(Path(__file__).with_name("shared_serve.py")), "serve")


@asynccontextmanager
async def instances(directory: Path, *flags: str) -> AsyncIterator[tuple[ServerProcess, ...]]:
    """Run two of them; the logs are kept apart."""
    with hold_file(directory / "rockets.db"):
        async with (
            serving(directory, *flags, command=COMMAND) as one,
            serving(directory, *flags, command=COMMAND) as two,
        ):
            yield one, two


@both_lanes
async def test_what_one_has_acknowledged_the_other_shows(tmp_path: Path, lane: str) -> None:
    async with (
        instances(tmp_path, lane) as (one, two),
        connected(one.port) as first,
        connected(two.port) as second,
    ):
        for number in range(1, 201):
            writer, reader = (first, second) if number % 2 else (second, first)
            assert (await writer.ask(post(body("r", number)))).status == 204
            rocket = await reader.ask(get("/rockets/r"))
            assert rocket.json["lastMessageNumber"] == number
        assert (await second.ask(get("/readyz"))).status == 200
        health = (await second.ask(get("/health"))).json
        assert health["checks"] == {"journal": "ok", "space": "ok", "replica": "ok"}


async def test_an_instance_that_is_killed_or_stopped_for_a_while_loses_nothing(
    tmp_path: Path,
) -> None:
    with hold_file(tmp_path / "rockets.db"):
        async with serving(tmp_path, command=COMMAND) as one:
            for last in (2, 4, 6):
                async with serving(tmp_path, command=COMMAND) as two:
                    async with connected(two.port) as second, connected(one.port) as first:
                        await second.ask(post(body("r", last - 1)))
                        two.process.send_signal(signal.SIGSTOP)
                        await first.ask(post(body("r", last)))
                        two.process.send_signal(signal.SIGCONT)
                        rocket = await second.ask(get("/rockets/r"))
                        assert rocket.json["lastMessageNumber"] == last
                    await two.kill()
                async with connected(one.port) as first:
                    rocket = await first.ask(get("/rockets/r"))
                assert f'"received":{last},'.encode() in rocket.body
            assert await one.stop() == 0
        async with serving(tmp_path, command=COMMAND) as one, connected(one.port) as first:
            assert (await first.ask(get("/rockets/r"))).json["lastMessageNumber"] == last


async def test_a_store_that_has_lost_something_ends_the_instance(tmp_path: Path) -> None:
    with hold_file(tmp_path / "rockets.db"):
        async with serving(tmp_path, command=COMMAND) as one, connected(one.port) as client:
            await client.ask(post(body("r", 1)))
            await client.ask(get("/rockets/r"))
            with closing(apsw.Connection(str(tmp_path / "rockets.db"))) as foreign:
                foreign.execute("DELETE FROM records")
            began = time.monotonic()

            reply = await client.ask(get("/rockets/r"))

            assert (reply.status, reply.headers["retry-after"]) == (503, "1")
            assert await one.wait() == EXIT_BEHIND
            assert time.monotonic() - began < 3
            [line] = one.events("journal_behind")
            assert "position 0" in str(line["reason"])
            assert one.events("journal_failed") == []


@pytest.mark.parametrize("role", ["ingest", "query"])
async def test_a_role_needs_a_journal_that_is_shared(tmp_path: Path, role: str) -> None:
    with pytest.raises(AssertionError, match="ended before it listened"):
        async with serving(tmp_path, "--role", role):
            pass
    assert f"role {role} needs a journal" in (tmp_path / "server.log").read_text()


async def test_intake_and_queries_in_processes_of_their_own(tmp_path: Path) -> None:
    with hold_file(tmp_path / "rockets.db"):
        async with (
            serving(tmp_path, "--role", "ingest", command=COMMAND) as ingest,
            serving(tmp_path, "--role", "query", command=COMMAND) as query,
            connected(ingest.port) as writer,
            connected(query.port) as reader,
        ):
            assert (await writer.ask(post(body("r", 1)))).status == 204
            assert (await writer.ask(get("/rockets/r"))).status == 421
            assert (await reader.ask(get("/rockets/r"))).json["lastMessageNumber"] == 1
            assert (await reader.ask(post(body("r", 2)))).status == 421


async def test_an_instance_that_nobody_holds_the_file_for_does_not_start(tmp_path: Path) -> None:
    command = [str(Path(__file__).with_name("shared_serve.py")), "serve"]
    done = await trio.run_process(
        [sys.executable, *command, "--database", str(tmp_path / "rockets.db")],
        capture_stderr=True,
        check=False,
    )
    assert done.returncode == EXIT_REFUSED
