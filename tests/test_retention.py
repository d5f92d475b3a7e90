"""The real server with retention: what it forgets, what it still knows, and after which deaths."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.cli.databases import Started, run_command, started
from tests.helpers import Client, Reply, body, connected, get, post
from tests.journal.disks import edit

FLAGS = ("--retain-messages", "2", "--checkpoint-records", "1")


class Server:
    """A server, one connection to it, and its log as it is written."""

    def __init__(self, process: Started, client: Client) -> None:
        self._process = process
        self._client = client
        self._lines = b""

    async def get(self, target: str) -> Reply:
        return await self._client.ask(get(target))

    async def send(self, content: bytes) -> str:
        """Post a message; gives the outcome."""
        reply = await self._client.ask(post(content))
        assert reply.status == 204
        return reply.headers["rockets-outcome"]

    async def event(self, *names: str) -> dict[str, object]:
        """Read the log on to the next of these events."""
        with trio.fail_after(20):
            while True:
                line, found, rest = self._lines.partition(b"\n")
                if not found:
                    self._lines += await self._process.stderr.receive_some()
                    continue
                self._lines = rest
                logged: dict[str, object] = json.loads(line)
                if logged["event"] in names:
                    return logged

    async def ask_and_fail(self, target: str) -> None:
        """Ask for what ends the service: the answer is 503, or lost."""
        with suppress(EOFError):
            assert (await self.get(target)).status == 503

    async def ended(self) -> int:
        """Wait until the server has ended; gives its exit code."""
        with trio.fail_after(20):
            return await self._process.process.wait()

    async def kill(self) -> None:
        self._process.process.kill()
        await self._process.process.wait()


@asynccontextmanager
async def serving(database: Path) -> AsyncIterator[Server]:
    """Run `rockets serve` on a free port until the block ends."""
    words = ("serve", "--port", "0", "--database", str(database), *FLAGS)
    async with started(*words) as process:
        output = b""
        with trio.fail_after(20):
            while (match := re.search(rb"http://[^:]*:(\d+)\n", output)) is None:
                data = await process.stdout.receive_some()
                assert data, "the server ended before it listened"
                output += data
        async with connected(int(match[1])) as client:
            yield Server(process, client)


def message(number: int, **content: Any) -> bytes:
    return body("a", number, "RocketLaunched" if number == 1 else "RocketSpeedIncreased", **content)


async def fill_and_prune(server: Server) -> None:
    """Send 1 to 6 and 8, and others until two rounds have begun after them and 1 to 4 are gone."""
    for number in (1, 2, 3, 4, 5, 6, 8):
        await server.send(message(number))
    pruned, other = 0, 0
    while pruned < 4:
        other += 1
        await server.send(body("b", other * 2))  # never settled
        logged = await server.event("checkpoint", "pruned")
        if logged["event"] == "pruned":
            assert isinstance(logged["messages"], int)
            pruned += logged["messages"]


NOW = tuple(f"/rockets/{name}?view={view}" for name in "ab" for view in ("latest", "settled"))
PAST = tuple(f"/rockets/a?at={number}" for number in (5, 6, 7))


async def rockets(server: Server, *targets: str) -> list[bytes]:
    """What is shown of the rockets, now and in the past unless told."""
    return [(await server.get(target)).body for target in targets or (*NOW, *PAST)]


async def test_pruned_messages_are_gone_for_good_and_the_rocket_is_as_it_was(
    tmp_path: Path,
) -> None:
    database = tmp_path / "rockets.db"
    async with serving(database) as server:
        await fill_and_prune(server)

        reply = await server.get("/rockets/a?at=4")
        problem = reply.json
        assert (reply.status, problem["type"], problem["firstNumber"]) == (
            410,
            "/problems/pruned",
            5,
        )
        assert (await server.get("/problems/pruned")).status == 200
        history: Any = (await server.get("/rockets/a/messages?state=speed")).json
        assert history["prunedThrough"] == 4
        assert [(each["number"], each["speed"]) for each in history["messages"]] == [
            (5, 2500),
            (6, 3000),
            (8, 3500),
        ]
        known = await rockets(server)
        for number in (1, 2, 4):
            assert await server.send(message(number)) == "duplicate"
        assert await server.send(message(5, by=1)) == "conflict"
        assert await server.send(message(8)) == "duplicate"
        known = await rockets(server)
        await server.kill()

    async with serving(database) as server:
        assert await rockets(server) == known
        assert await server.send(message(2, by=1)) == "duplicate"
        assert await server.send(message(5)) == "duplicate"
        assert (await server.get("/rockets/a?at=4")).status == 410
        await server.kill()

    # Without any round everything is folded again, from the bases on.
    edit(database, "DELETE FROM rounds; DELETE FROM ledgers")
    async with serving(database) as server:
        logged = await server.event("ledgers_recovered")
        assert logged["checkpointed"] == 0
        assert await rockets(server) == known
        assert await server.send(message(2, by=1)) == "duplicate"
        assert await server.send(message(7)) == "applied"
        await server.kill()

    exported = await run_command("export", "--database", str(database), "--channel", "a")
    assert exported.returncode == 0
    assert len(exported.stdout.splitlines()) == 4
    assert exported.stderr.decode().splitlines()[-1] == (
        "rockets export: 1 rocket misses messages that were pruned: a (1 to 4)"
    )


@pytest.mark.parametrize("rounds", [True, False])
async def test_a_damaged_base_stops_the_service_where_it_is_needed(
    tmp_path: Path, rounds: bool
) -> None:
    database = tmp_path / "rockets.db"
    async with serving(database) as server:
        await fill_and_prune(server)
        known = await rockets(server, *NOW)
        await server.kill()
    edit(database, "UPDATE pruned SET base = zeroblob(length(base))")

    damage = "what was pruned of a does not match its checksum"
    if rounds:
        async with serving(database) as server:
            # The ledgers of the checkpoint do without.
            assert await rockets(server, *NOW) == known
            # The content of a pruned number would need the base, as the past does.
            await server.ask_and_fail("/rockets/a?at=5")
            logged = await server.event("journal_failed")
            assert str(logged["reason"]).endswith(damage)
            assert await server.ended() == 1
    else:
        edit(database, "DELETE FROM rounds")
        refused = await run_command("serve", "--port", "0", "--database", str(database))
        lines = refused.stderr.decode().splitlines()
        assert refused.returncode == 2
        assert [line for line in lines if line.startswith("rockets serve: ")] == [
            f"rockets serve: the journal has failed: {damage}"
        ]
