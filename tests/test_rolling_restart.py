"""A rolling restart: of two instances on one store one at a time is replaced, under load."""

from pathlib import Path

import pytest
import trio

from tests.helpers import Reply, body, connected, get, post, serving
from tests.stores import Store, folded, shown

pytestmark = pytest.mark.slow

CLIENTS = 4
EACH_MIN = 5
"""Messages that every client has acknowledged between two steps of the restart."""


class Balancer:
    """Sends each request to one instance, and to the other one where it comes to nothing.

    That is what the load balancer in `deploy/compose` does: over refused connections, empty answers
    and 503.
    """

    def __init__(self) -> None:
        self.ports: dict[str, int] = {}
        self.passed_on = 0
        self._turn = 0

    async def ask(self, request: bytes) -> tuple[Reply, str]:
        """Give an answer that is not 503, and the name of the instance it is from."""
        while True:
            names = sorted(self.ports)
            self._turn += 1
            name = names[self._turn % len(names)]
            try:
                async with connected(self.ports[name]) as client:
                    reply = await client.ask(request)
            except (OSError, EOFError, trio.BrokenResourceError):
                self.passed_on += 1
                continue
            if reply.status != 503:
                return reply, name
            self.passed_on += 1


class Load:
    """Clients that each write the messages of a rocket, one after the other, until told to stop."""

    def __init__(self, balancer: Balancer) -> None:
        self.acknowledged = dict.fromkeys((f"r{each}" for each in range(CLIENTS)), 0)
        self.by: set[str] = set()
        self._ended = {channel: trio.Event() for channel in self.acknowledged}
        self._stopped = trio.Event()
        self._balancer = balancer
        self._progress = trio.Event()

    async def send(self, channel: str) -> None:
        """Write and read: what is acknowledged is shown, by whichever instance answers."""
        for number in range(1, 1_000_000):
            if self._stopped.is_set():
                self._ended[channel].set()
                return
            reply, name = await self._balancer.ask(post(body(channel, number)))
            assert reply.status == 204, reply.body
            self.by.add(name)
            self.acknowledged[channel] = number
            self._progress.set()
            reply, _ = await self._balancer.ask(get(f"/rockets/{channel}"))
            assert reply.json["lastMessageNumber"] == number

    async def stop(self) -> None:
        """Let every client end what it is about, and wait for it."""
        self._stopped.set()
        for ended in self._ended.values():
            await ended.wait()

    async def wait_more(self) -> None:
        """Wait until every client has come further, whoever serves."""
        goals = {channel: number + EACH_MIN for channel, number in self.acknowledged.items()}
        while any(self.acknowledged[channel] < goal for channel, goal in goals.items()):
            self._progress = trio.Event()
            await self._progress.wait()


async def test_one_after_the_other_is_replaced_and_nobody_notices(
    store: Store, tmp_path: Path
) -> None:
    balancer = Balancer()
    load = Load(balancer)
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    async with (
        serving(first, *store.flags) as one,
        serving(second, *store.flags) as two,
        trio.open_nursery() as nursery,
    ):
        balancer.ports = {"one": one.port, "two": two.port}
        for channel in load.acknowledged:
            nursery.start_soon(load.send, channel)
        await load.wait_more()
        assert await one.stop() == 0
        await load.wait_more()

        async with serving(first, *store.flags) as new_one:
            assert balancer.ports.pop("one")
            balancer.ports["new one"] = new_one.port
            await load.wait_more()
            assert await two.stop() == 0
            await load.wait_more()

            async with serving(second, *store.flags) as new_two:
                assert balancer.ports.pop("two")
                balancer.ports["new two"] = new_two.port
                await load.wait_more()
                await load.stop()

                expected = await trio.to_thread.run_sync(folded, store)
                for each in (new_one, new_two):
                    assert await shown(each.port, list(expected)) == expected
    assert balancer.passed_on > 0
    assert load.by == {"one", "two", "new one", "new two"}
    for channel, number in load.acknowledged.items():
        rocket = expected[channel, "settled"]
        assert isinstance(rocket, dict)
        assert rocket["lastMessageNumber"] == number
