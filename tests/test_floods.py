"""Floods against the real server: its memory follows its settings, not its clients.

Each flood sends several times what a bound lets in, with bounds small enough to see in the memory
of the process; without its bound it takes at least twice what is allowed here.
"""

import socket
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest
import trio

from tests.helpers import (
    Client,
    ServerProcess,
    body,
    both_lanes,
    connected,
    crowd,
    get,
    post,
    serving,
    serving_held,
)
from tests.memory import Memory

pytestmark = pytest.mark.slow

NDJSON = "Content-Type: application/x-ndjson"
MIB = 1 << 20


async def warm(server: ServerProcess) -> Memory:
    """Have the server do once what it does at its first request, and look at it from then on."""
    async with connected(server.port) as client:
        assert (await client.ask(post(b"[" + body("warm", 1) + b"]"))).status == 200
        assert (await client.ask(post(body("warm", 2)))).status == 204
    return Memory(server.process.pid)


async def all_at_once(clients: list[Client], content: bytes) -> Counter[int]:
    """Send the same from everybody, its last byte when all have sent the rest; count the answers.

    Who is answered before that has been refused.
    """
    statuses: Counter[int] = Counter()
    ready = trio.Event()
    left = len(clients)

    async def one(client: Client) -> None:
        nonlocal left
        # Who is refused before its end may see no more than the answer.
        with suppress(trio.BrokenResourceError):
            await client.stream.send_all(content[:-1])
        left -= 1
        if left == 0:
            ready.set()
        await ready.wait()
        with suppress(trio.BrokenResourceError):
            await client.stream.send_all(content[-1:])
        statuses[(await client.read(timeout_s=60)).status] += 1

    async with trio.open_nursery() as nursery:
        for client in clients:
            nursery.start_soon(one, client)
    return statuses


async def test_bodies_that_never_end_take_no_more_than_their_total(tmp_path: Path) -> None:
    flags = ("--bodies-total-max", str(8 * MIB), "--batch-max", str(2 * MIB))
    unfinished = post(b"[" + b" " * (2 * MIB - 1))[:-MIB]
    async with serving(tmp_path, *flags) as server:
        memory = await warm(server)
        refused: list[int] = []
        async with crowd(server.port, 48) as clients, trio.open_nursery() as nursery:

            async def begin(client: Client) -> None:
                # Who is refused before its end may see no more than the answer.
                with suppress(trio.BrokenResourceError):
                    await client.stream.send_all(unfinished)
                refused.append((await client.read()).status)
                if len(refused) == 48 - 8:
                    nursery.cancel_scope.cancel()

            nursery.cancel_scope.deadline = trio.current_time() + 30
            for client in clients:
                nursery.start_soon(begin, client)
        assert memory.peak_growth < 24, "without the total: 48 MiB of bodies and more"
        assert set(refused) == {503}
        assert len(refused) >= 48 - 8


async def test_messages_that_never_end_take_no_more_than_the_connections_may(
    tmp_path: Path,
) -> None:
    unfinished = post(b"{" + b" " * 60_000)[:-1]
    async with serving(tmp_path, "--connections-max", "64") as server:
        memory = await warm(server)
        async with crowd(server.port, 700) as clients:
            for client in clients:
                with suppress(trio.BrokenResourceError):  # It has made room for somebody.
                    await client.stream.send_all(unfinished)
            async with connected(server.port) as late:
                assert (await late.ask(get("/livez"))).status == 200
        assert memory.peak_growth < 20, "without the limit: 40 MiB of bodies and more"


async def test_long_lines_are_not_gathered_by_the_thousand(tmp_path: Path) -> None:
    lines = post((b"x" * 60_000 + b"\n") * 120, NDJSON)
    async with serving(tmp_path) as server:
        memory = await warm(server)
        async with crowd(server.port, 16) as clients:
            assert await all_at_once(clients, lines) == {200: 16}
        assert memory.peak_growth < 40, "gathered by number alone: 110 MiB"


@both_lanes
async def test_answers_that_nobody_reads_take_no_more_than_their_total(
    tmp_path: Path, lane: str
) -> None:
    flags = (lane, "--answers-total-max", str(3 * MIB), "--send-timeout-s", "60")
    async with serving(tmp_path, *flags) as server, AsyncExitStack() as stack:
        rockets = b"\n".join(body(f"r-{n}", 1) for n in range(999))
        async with connected(server.port) as client:
            assert (await client.ask(post(rockets, NDJSON))).status == 200
            assert len((await client.ask(get("/rockets"))).body) > 250_000
        memory = Memory(server.process.pid)
        statuses: Counter[bytes] = Counter()
        for _ in range(150):
            peer = trio.socket.socket()
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            stack.callback(peer.close)
            await peer.connect(("127.0.0.1", server.port))
            await peer.send(get("/rockets"))
            with trio.fail_after(20):
                statuses[await peer.recv(12)] += 1
        assert set(statuses) == {b"HTTP/1.1 200", b"HTTP/1.1 503"}
        assert statuses[b"HTTP/1.1 200"] <= 12
        assert memory.peak_growth < 16, "without the total: 45 MiB"


async def test_new_rockets_beyond_the_live_actors_take_a_record_each(tmp_path: Path) -> None:
    flags = ("--actors-max", "200", "--durability", "normal")
    async with serving(tmp_path, *flags) as server, connected(server.port) as client:
        memory = await warm(server)
        for first in range(0, 4_000, 100):
            rockets = [post(body(f"r-{first + n}", 1)) for n in range(100)]
            await client.stream.send_all(b"".join(rockets))
            for _ in rockets:
                assert (await client.read()).status == 204
        counts = (await client.ask(get("/health"))).json["counts"]
        assert isinstance(counts, dict)
        assert (counts["rockets"], counts["liveActors"]) == (4_001, 200)
        assert memory.peak_growth < 14, "with an actor for each: 28 MiB"


async def test_batches_of_new_rockets_take_no_actor_and_a_record_each(tmp_path: Path) -> None:
    async with serving(tmp_path, "--actors-max", "200") as server, connected(server.port) as client:
        memory = await warm(server)
        for first in range(0, 10_000, 1_000):
            rockets = b"\n".join(body(f"r-{first + n}", 1) for n in range(1_000))
            assert (await client.ask(post(rockets, NDJSON))).status == 200
        counts = (await client.ask(get("/health"))).json["counts"]
        assert isinstance(counts, dict)
        assert counts["rockets"] == 10_001
        assert counts["liveActors"] < 10
        assert memory.peak_growth < 30, "with an actor for each: 70 MiB"


CHANNELS: dict[str, Callable[[int], str]] = {
    "one rocket": lambda number: "hot",
    "a rocket each": lambda number: f"r-{number}",
}


@pytest.mark.parametrize(
    ("lane", "channels", "rounds"),
    [
        ("--fast-lane", "one rocket", 20),
        ("--fast-lane", "a rocket each", 20),
        ("--no-fast-lane", "a rocket each", 20),
    ],
)
async def test_a_disk_that_hangs_gathers_no_more_than_may_wait(
    tmp_path: Path, lane: str, channels: str, rounds: int
) -> None:
    flags = (lane, "--ask-timeout-s", "0.3", "--mailbox-max", "8", "--requests-waiting-max", "40")
    async with serving_held(tmp_path, *flags) as held:
        async with connected(held.port) as client:
            assert (await client.ask(get("/livez"))).status == 200
        memory = Memory(held.server.process.pid)
        numbers = iter(range(1, 1_000_000))

        async def one(port: int) -> None:
            number = next(numbers)
            content = body(CHANNELS[channels](number), number, "Padded", padding="x" * 60_000)
            async with connected(port) as client:
                assert (await client.ask(post(content))).status == 503

        for _ in range(rounds):
            async with trio.open_nursery() as nursery:
                for _ in range(40):
                    nursery.start_soon(one, held.port)
        assert memory.peak_growth < 45, "with a place free for each that gave up: 100 MiB and more"

        await held.let_go()
        assert await held.server.stop() == 0  # what was held is worked off


async def test_the_largest_batches_on_all_connections_take_no_more_than_fit(
    tmp_path: Path,
) -> None:
    flags = ("--bodies-total-max", str(4 * MIB), "--batch-max", str(MIB))
    items = [body("r", n, "Padded", padding="x" * 880) for n in range(1, 1_001)]
    largest = b"[" + b",".join(items) + b"]"
    largest += b" " * (MIB - len(largest))
    async with serving(tmp_path, *flags) as server:
        memory = await warm(server)
        growths = []
        for _ in range(3):
            async with crowd(server.port, 60) as clients:
                statuses = await all_at_once(clients, post(largest))
            assert set(statuses) == {200, 503}
            assert 1 <= statuses[200] <= 60 - 4
            growths.append(memory.peak_growth)
        assert growths[0] < 45, "without the total: 100 MiB and more"
        assert growths[2] - growths[0] < 10, f"it goes on growing: {growths}"


async def test_small_batches_with_a_problem_for_each_byte_take_no_more_than_answers_may(
    tmp_path: Path,
) -> None:
    crumbs = post(b"[" + b",".join([b"{}"] * 5_000) + b"]")
    async with serving(tmp_path, "--answers-total-max", str(12 * MIB)) as server:
        memory = await warm(server)
        async with crowd(server.port, 24) as clients:
            statuses = await all_at_once(clients, crumbs)
        assert set(statuses) == {200, 503}
        assert memory.peak_growth < 32, "without the total: 80 MiB"
