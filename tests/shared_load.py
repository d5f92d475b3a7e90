"""A load on several instances of one store, which remembers what was acknowledged to it.

Each writer has a rocket of its own and sends its numbers a few at a time, shuffled and some of them
twice, each to an instance by chance and again until it is acknowledged. Then it asks another
instance for the rocket, which must show all that was acknowledged to it before, and no more.
Two more writers send to one rocket, the same numbers with different contents.

The invariants: what was acknowledged is stored, as one of what was sent under its number; every
number counts once; all instances show the same, and that is what the specification makes of the
store, and of what was sent where nothing was contested.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from typing import NamedTuple

import msgspec
import trio

from rockets.domain.messages import Channel, decode_message
from rockets.domain.rocket import fold
from tests.helpers import Client, Reply, ServerProcess, body, get, post, serving
from tests.journal.redis_server import free_port
from tests.stores import Store, folded, shown, stored

WRITERS = 4
WINDOW = 4
"""Numbers that a writer sends shuffled."""

CONTESTED = "contested"
PATIENCE_S = 3.0
"""Then a sender turns to another instance, as it does when it is cut off."""

PAUSE_S = 0.05
RECOVERY_S = 40.0
"""In which everything has to go on by itself after a fault, on a busy machine."""

OWN = [f"rocket-{n}" for n in range(WRITERS)]


class Seat:
    """Where an instance runs, again and again on one port and with one log."""

    def __init__(self, directory: Path, flags: Sequence[str], stack: AsyncExitStack) -> None:
        self.port = free_port()
        self.server: ServerProcess
        self._directory = directory
        self._flags = (*flags, "--port", str(self.port))
        self._stack = stack
        directory.mkdir()

    async def start(self) -> None:
        self.server = await self._stack.enter_async_context(serving(self._directory, *self._flags))

    async def stop(self) -> None:
        assert await self.server.stop() == 0


@asynccontextmanager
async def seats(directory: Path, *flags_of: Sequence[str]) -> AsyncIterator[list[Seat]]:
    """Run an instance with each of these flags, each with a log of its own; all end well."""
    async with AsyncExitStack() as stack:
        found = [Seat(directory / f"seat{n}", flags, stack) for n, flags in enumerate(flags_of)]
        async with trio.open_nursery() as starting:
            for seat in found:
                starting.start_soon(seat.start)
        yield found
        async with trio.open_nursery() as stopping:
            for seat in found:
                stopping.start_soon(seat.stop)


class Sent(NamedTuple):
    """A message of a rocket, and its content."""

    channel: str
    number: int
    content: bytes


class Load:
    """What writers have sent to these ports and what came of it; `wait` before looking."""

    def __init__(self, ports: Sequence[int], seed: int) -> None:
        self.acknowledged: list[Sent] = []
        self.reads = 0
        """Reads that were answered and held against what was acknowledged."""

        self._ports = ports
        self._random = Random(seed)
        self._over = False
        self._awaited: list[tuple[int, trio.Event]] = []

    async def run(self) -> None:
        """Send until `finish`, and what was begun to its end."""
        async with trio.open_nursery() as nursery:
            for channel in OWN:
                nursery.start_soon(self._write, channel)
            for by in (1, 2):
                nursery.start_soon(self._contest, by)

    def finish(self) -> None:
        """Let the writers come to their ends."""
        self._over = True

    async def wait_more(self, count: int) -> None:
        """Wait until so many more are acknowledged; fails where that takes too long."""
        reached = trio.Event()
        self._awaited.append((len(self.acknowledged) + count, reached))
        with trio.fail_after(RECOVERY_S):
            await reached.wait()

    async def _write(self, channel: str) -> None:
        random = Random(self._random.random())
        acknowledged: set[int] = set()
        async with senders(self._ports, random) as ask:
            for numbers in _windows(random, lambda: self._over):
                for number in numbers:
                    kind = "RocketLaunched" if number == 1 else "RocketSpeedIncreased"
                    content = body(channel, number, kind)
                    await self._send(ask, Sent(channel, number, content))
                    acknowledged.add(number)
                    await self._read(ask, channel, acknowledged)

    async def _contest(self, by: int) -> None:
        random = Random(self._random.random())
        async with senders(self._ports, random) as ask:
            for numbers in _windows(random, lambda: self._over):
                for number in numbers:
                    content = body(CONTESTED, number, by=by)
                    await self._send(ask, Sent(CONTESTED, number, content))

    async def _send(self, ask: "Ask", sent: Sent) -> None:
        while True:
            reply = await ask(post(sent.content))
            if reply is not None and reply.status != 503:
                break
            await trio.sleep(PAUSE_S)
        assert reply.status == 204, reply.body
        self.acknowledged.append(sent)
        for entry in list(self._awaited):
            if len(self.acknowledged) >= entry[0]:
                entry[1].set()
                self._awaited.remove(entry)

    async def _read(self, ask: "Ask", channel: str, acknowledged: set[int]) -> None:
        reply = await ask(get(f"/rockets/{channel}"))
        if reply is None or reply.status == 503:
            return
        assert reply.status == 200, reply.body
        sequence = msgspec.json.decode(reply.body)["sequence"]
        # Nobody else sends these, and this writer has nothing under way: less is a stale read, and
        # more a message that counts twice.
        assert sequence["received"] == len(acknowledged), (channel, sequence, len(acknowledged))
        self.reads += 1


def _windows(random: Random, is_over: Callable[[], bool]) -> Iterator[list[int]]:
    """Give all numbers from 1, some in a row at a time, shuffled and one of them twice."""
    first = 1
    while not is_over():
        numbers = [*range(first, first + WINDOW), random.randrange(first, first + WINDOW)]
        random.shuffle(numbers)
        yield numbers
        first += WINDOW


class Ask:
    """Asks an instance by chance, on a connection that is kept; None where no answer comes."""

    def __init__(self, ports: Sequence[int], random: Random) -> None:
        self._ports = ports
        self._random = random
        self._clients: dict[int, Client] = {}

    async def __call__(self, request: bytes) -> Reply | None:
        port = self._random.choice(self._ports)
        try:
            with trio.fail_after(PATIENCE_S):
                if port not in self._clients:
                    self._clients[port] = Client(await trio.open_tcp_stream("127.0.0.1", port))
                reply = await self._clients[port].ask(request)
        except (EOFError, OSError, trio.BrokenResourceError, trio.TooSlowError):
            await self._close(port)
            return None
        if reply.headers.get("connection") == "close":
            await self._close(port)
        return reply

    async def close(self) -> None:
        for port in list(self._clients):
            await self._close(port)

    async def _close(self, port: int) -> None:
        if port in self._clients:
            await trio.aclose_forcefully(self._clients.pop(port).stream)


@asynccontextmanager
async def senders(ports: Sequence[int], random: Random) -> AsyncIterator[Ask]:
    """Ask instances by chance, until the block ends."""
    ask = Ask(ports, random)
    try:
        yield ask
    finally:
        with trio.CancelScope(shield=True):
            await ask.close()


@asynccontextmanager
async def under_load(ports: Sequence[int], *, seed: int) -> AsyncIterator[Load]:
    """Run a load beside the block, and then to its end."""
    load = Load(ports, seed)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(load.run)
        yield load
        load.finish()


async def check(load: Load, store: Store, ports: Sequence[int]) -> None:
    """Hold the store and every instance against what was acknowledged; see the module."""
    records = await trio.to_thread.run_sync(stored, store)
    held = {(each.stream, each.number): each.body for each in records}
    contents: dict[tuple[str, int], set[bytes]] = {}
    for sent in load.acknowledged:
        contents.setdefault((sent.channel, sent.number), set()).add(sent.content)
    # One of two that contest a number may not be acknowledged any more when the load ends.
    for key, some in contents.items():
        assert key in held, f"{key} was acknowledged and is lost"
        assert held[key] in some or key[0] == CONTESTED, key
    assert len(held) == len(records), "a number is stored twice"

    expected = await trio.to_thread.run_sync(folded, store)
    for channel in OWN:
        messages = [decode_message(content) for key, [content] in _of(contents, channel)]
        plain = msgspec.json.decode(msgspec.json.encode(fold(Channel(channel), messages)))
        assert expected[channel, "latest"] == plain
    for port in ports:
        assert await shown(port, list(expected)) == expected
    assert load.reads > 0


def _of(
    contents: dict[tuple[str, int], set[bytes]], channel: str
) -> list[tuple[tuple[str, int], set[bytes]]]:
    return sorted((key, some) for key, some in contents.items() if key[0] == channel)
