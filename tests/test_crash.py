"""SIGKILL under load, again and again: nothing acknowledged is lost, nothing counts twice."""

import random
from collections import defaultdict
from pathlib import Path

import pytest
import trio

from tests.helpers import Client, ServerProcess, body, connected, get, post, serving

ROUNDS = 30
SENDERS = 8
CHANNELS = [f"rocket-{index}" for index in range(5)]


class Load:
    """What was sent and what was acknowledged; every message adds a speed of its own."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.acknowledged: defaultdict[str, set[int]] = defaultdict(set)
        self.unknown: list[tuple[str, int]] = [(channel, 1) for channel in CHANNELS]
        self._next = dict.fromkeys(CHANNELS, 2)

    def take(self) -> tuple[str, int]:
        """Pick a message: one whose fate is unknown, or a new one."""
        # A message that is being sent is not in `unknown`, so no two senders send the same one.
        if self.unknown and self.random.random() < 0.5:
            return self.unknown.pop(self.random.randrange(len(self.unknown)))
        channel = self.random.choice(CHANNELS)
        self._next[channel] += 1
        return channel, self._next[channel] - 1

    def content(self, channel: str, number: int) -> bytes:
        """Write the message; its content is a function of its number."""
        if number == 1:
            return body(channel, 1, "RocketLaunched")
        return body(channel, number, by=number)


async def send(load: Load, client: Client, *, until: int, killed: trio.Event) -> None:
    """Send until the server dies, counting only what got its 2xx."""
    while True:
        channel, number = load.take()
        try:
            reply = await client.ask(post(load.content(channel, number)))
        except (EOFError, trio.BrokenResourceError, trio.ClosedResourceError):
            load.unknown.append((channel, number))
            return
        assert reply.status == 204
        load.acknowledged[channel].add(number)
        if sum(map(len, load.acknowledged.values())) >= until:
            killed.set()


async def run_until_killed(load: Load, server: ServerProcess, *, acknowledgements: int) -> None:
    """Load the server from several connections and kill it after so many acknowledgements."""
    killed = trio.Event()
    until = sum(map(len, load.acknowledged.values())) + acknowledgements
    async with trio.open_nursery() as nursery:

        async def sender() -> None:
            async with connected(server.port) as client:
                await send(load, client, until=until, killed=killed)

        for _ in range(SENDERS):
            nursery.start_soon(sender)
        await killed.wait()
        await server.kill()


async def check(load: Load, client: Client) -> None:
    """Hold what the server shows against what was acknowledged."""
    for channel, numbers in load.acknowledged.items():
        rocket = (await client.ask(get(f"/rockets/{channel}"))).json
        sequence = rocket["sequence"]
        assert isinstance(sequence, dict)
        missing = {n for first, last in sequence["missing"] for n in range(first, last + 1)}
        assert sequence["missingCount"] == len(missing), "more gaps than the answer lists"
        assert not numbers & missing, "an acknowledged message is lost"
        assert max(numbers) <= rocket["lastMessageNumber"]  # type: ignore[operator]  # a number
        stored = set(range(1, rocket["lastMessageNumber"] + 1)) - missing  # type: ignore[operator]  # a number
        if 1 in stored:
            assert rocket["speed"] == 500 + sum(stored - {1}), "a message is counted twice"


@pytest.mark.slow
async def test_thirty_kills_under_load_lose_and_repeat_nothing(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # noqa: T201  # shown by pytest when the test fails
    load = Load(seed)

    for _ in range(ROUNDS):
        async with serving(tmp_path) as server:
            async with connected(server.port) as client:
                await check(load, client)
            await run_until_killed(load, server, acknowledgements=load.random.randint(1, 150))

    async with serving(tmp_path) as server, connected(server.port) as client:
        await check(load, client)
        for channel, number in load.unknown:
            assert (await client.ask(post(load.content(channel, number)))).status == 204
            load.acknowledged[channel].add(number)
        await check(load, client)
        for channel in CHANNELS:
            rocket = (await client.ask(get(f"/rockets/{channel}"))).json
            highest = rocket["lastMessageNumber"]
            assert isinstance(highest, int)
            assert rocket["speed"] == 500 + sum(range(2, highest + 1))
