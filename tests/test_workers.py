"""Several workers on one port over one file, as real processes.

How often a worker is killed stands in `fault_rounds`.
"""

import os
import signal
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from random import Random

import pytest
import trio

from rockets.journal import Position, open_journal
from rockets.stopping import EXIT_BEHIND, EXIT_FORCED
from tests.fault_rounds import rounds
from tests.helpers import Client, Reply, ServerProcess, body, connected, get, post, serving
from tests.stores import fold_records
from tests.test_socket_activation import activated

pytestmark = pytest.mark.slow

ROUNDS = rounds(50)
CHANNELS = ("r0", "r1", "r2", "r3")
NUMBERS = range(1, 41)


@asynccontextmanager
async def two_workers(directory: Path, *flags: str) -> AsyncIterator[ServerProcess]:
    async with serving(directory, "--workers", "2", *flags) as server:
        yield server


def pids(server: ServerProcess) -> list[int]:
    """The process of each worker now; the last that has started is the one that runs."""
    of: dict[object, object] = {}
    for line in server.events("started"):
        if "worker" in line:
            of[line["worker"]] = line["pid"]
    return [int(str(of[number])) for number in sorted(of, key=str)]


@asynccontextmanager
async def one_client_each(server: ServerProcess) -> AsyncIterator[tuple[Client, Client]]:
    """Connect to each worker: while the other one stands still, it takes no connection."""
    one, two = pids(server)
    clients = []
    for stopped in (two, one):
        os.kill(stopped, signal.SIGSTOP)
        client = Client(await trio.open_tcp_stream("127.0.0.1", server.port))
        assert (await client.ask(get("/livez"))).status == 200
        os.kill(stopped, signal.SIGCONT)
        clients.append(client)
    yield clients[0], clients[1]
    for client in clients:
        await client.stream.aclose()


async def healthy(server: ServerProcess) -> Reply:
    """Ask until all workers are heard of."""
    with trio.fail_after(30):
        while True:
            async with connected(server.port) as client:
                reply = await client.ask(get("/health"))
            if reply.status == 200:
                return reply


async def all_started(server: ServerProcess, starts: int) -> None:
    """Wait until the workers have started so often in all, and are all there."""
    with trio.fail_after(30):
        while len([line for line in server.events("started") if "worker" in line]) < starts:
            await healthy(server)
    await healthy(server)


async def send(client: Client, messages: Sequence[bytes]) -> None:
    for message in messages:
        reply = await client.ask(post(message))
        assert reply.status == 204, reply.body


def folded(directory: Path) -> dict[str, object]:
    """Every rocket as the specification makes it of what the file holds, when nobody has it."""
    with closing(open_journal(directory / "rockets.db", durability="full")) as journal:
        records = journal.follow(Position(0), limit=10**6)
        both = fold_records(records, journal.count_notes("conflict"))
    return {channel: rocket for (channel, view), rocket in both.items() if view == "settled"}


async def shown(client: Client, channels: Sequence[str]) -> dict[str, object]:
    return {
        channel: (await client.ask(get(f"/rockets/{channel}?view=settled"))).json
        for channel in channels
    }


async def test_what_one_has_acknowledged_the_other_shows_at_once(tmp_path: Path) -> None:
    async with two_workers(tmp_path) as server:
        async with one_client_each(server) as (first, second):
            for number in range(1, 301):
                writer, reader = (first, second) if number % 2 else (second, first)
                assert (await writer.ask(post(body("r", number)))).status == 204
                rocket = await reader.ask(get("/rockets/r"))
                assert rocket.json["lastMessageNumber"] == number
            health = (await second.ask(get("/health"))).json
            checks, counts = health["checks"], health["counts"]
            assert checks == dict.fromkeys(("journal", "space", "replica", "workers"), "ok")
            assert isinstance(counts, dict)
            assert (counts["workers"], counts["rockets"]) == (2, 1)
            # What the first one did is counted a moment later; the second half is there at once.
            assert counts["fastAnswers"] >= 150
        assert await server.stop() == 0


async def test_duplicates_and_conflicts_to_both_make_one_state(tmp_path: Path) -> None:
    messages = []
    for channel in CHANNELS:
        for number in NUMBERS:
            kind = "RocketLaunched" if number == 1 else "RocketSpeedIncreased"
            messages += [body(channel, number, kind)] * 2
            if number % 3 == 0:
                messages.append(body(channel, number, by=number))
    Random(6).shuffle(messages)
    async with two_workers(tmp_path) as server:
        async with one_client_each(server) as (first, second):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send, first, messages[0::2])
                nursery.start_soon(send, second, messages[1::2])
            states = [await shown(client, CHANNELS) for client in (first, second)]
        assert await server.stop() == 0
    expected = folded(tmp_path)
    assert states == [expected, expected]
    async with two_workers(tmp_path) as server:
        async with connected(server.port) as client:
            assert await shown(client, CHANNELS) == expected
        assert {line["checkpointed"] for line in server.events("ledgers_recovered")[-2:]} == {4}


@pytest.mark.timeout(60 + 5 * ROUNDS)
async def test_a_worker_that_is_killed_under_load_takes_nothing_with_it(tmp_path: Path) -> None:
    """Each round kills one while a client writes to each of them, and waits for the next one."""
    acknowledged = dict.fromkeys(("left", "right"), 0)

    async def write(channel: str, client: Client, reached: trio.Event) -> None:
        """Write until the worker is gone, or 30 messages long."""
        for _ in range(30):
            number = acknowledged[channel] + 1
            try:
                reply = await client.ask(post(body(channel, number)))
            except (EOFError, trio.BrokenResourceError):
                return
            assert reply.status == 204, reply.body
            acknowledged[channel] = number
            if number % 10 == 5:
                reached.set()

    async with two_workers(tmp_path) as server:
        for killed in range(ROUNDS):
            await all_started(server, 2 + killed)
            victim = pids(server)[killed % 2]
            async with one_client_each(server) as clients:
                async with trio.open_nursery() as nursery:
                    reached = trio.Event()
                    for channel, client in zip(acknowledged, clients, strict=True):
                        nursery.start_soon(write, channel, client, reached)
                    await reached.wait()
                    os.kill(victim, signal.SIGKILL)
        await all_started(server, 2 + ROUNDS)
        async with one_client_each(server) as (first, second):
            states = [await shown(client, list(acknowledged)) for client in (first, second)]
        died = [line["code"] for line in server.events("worker_ended")]
        assert died == [-signal.SIGKILL] * ROUNDS
        assert await server.stop() == 0
    expected = folded(tmp_path)
    assert states == [expected, expected]
    for channel, number in acknowledged.items():
        rocket = expected[channel]
        assert isinstance(rocket, dict)
        assert rocket["lastMessageNumber"] >= number > 0


async def test_a_worker_that_is_told_to_stop_is_replaced(tmp_path: Path) -> None:
    async with two_workers(tmp_path) as server:
        os.kill(pids(server)[0], signal.SIGTERM)
        await all_started(server, 3)
        [line] = server.events("worker_ended")
        assert (line["worker"], line["code"]) == (1, 0)
        assert await server.stop() == 0


async def test_health_names_the_worker_that_is_not_heard_of(tmp_path: Path) -> None:
    async with two_workers(tmp_path) as server:
        async with one_client_each(server) as (first, _):
            stopped = pids(server)[1]
            os.kill(stopped, signal.SIGSTOP)
            with trio.fail_after(10):
                while (reply := await first.ask(get("/health"))).status == 200:
                    pass
            checks = reply.json["checks"]
            assert isinstance(checks, dict)
            assert checks["workers"] == "not heard of: 2"
            assert reply.json["status"] == "degraded"
            # This worker itself is well, and so may be asked.
            assert (await first.ask(get("/readyz"))).status == 200
            os.kill(stopped, signal.SIGCONT)
            await healthy(server)
        assert await server.stop() == 0


async def test_storage_that_is_wrong_for_one_ends_all(tmp_path: Path) -> None:
    async with two_workers(tmp_path) as server:
        async with connected(server.port) as client:
            assert (await client.ask(post(body("r", 1)))).status == 204
            (tmp_path / "rockets.db").rename(tmp_path / "moved.db")
            (tmp_path / "rockets.db").touch()
            assert (await client.ask(get("/rockets/r"))).status == 503
        assert await server.wait() == EXIT_BEHIND
        assert server.events("journal_behind")


async def test_workers_end_with_their_parent_and_hold_the_file_until_then(tmp_path: Path) -> None:
    async with two_workers(tmp_path) as server, connected(server.port) as client:
        assert (await client.ask(post(body("r", 1)))).status == 204
        left = pids(server)
        # Half a request keeps one of them stopping.
        await client.stream.send_all(post(body("r", 2))[:-5])
        await server.kill()
        with pytest.raises(AssertionError, match="ended before it listened"):
            async with serving(tmp_path):
                pass
        assert "held by process" in (tmp_path / "server.log").read_text()
        await client.stream.send_all(post(body("r", 2))[-5:])
        assert (await client.read()).status == 204
        await all_ended(left)
    async with serving(tmp_path) as alone, connected(alone.port) as client:
        assert (await client.ask(get("/rockets/r"))).json["lastMessageNumber"] == 2


async def all_ended(processes: Sequence[int]) -> None:
    """Wait for processes that are not children of this one."""
    for pid in processes:
        with trio.fail_after(20), suppress(ProcessLookupError):
            descriptor = os.pidfd_open(pid)
            await trio.lowlevel.wait_readable(descriptor)
            os.close(descriptor)


async def port_closed(server: ServerProcess) -> None:
    """Try until nobody takes connections: all workers are stopping."""
    with trio.fail_after(10), suppress(OSError):
        while True:
            async with connected(server.port):
                pass


async def test_a_second_signal_ends_all_at_once(tmp_path: Path) -> None:
    async with two_workers(tmp_path) as server, connected(server.port) as client:
        # A request that is half there keeps the stop waiting.
        await client.stream.send_all(post(body("r", 1))[:-5])
        left = pids(server)
        server.process.send_signal(signal.SIGTERM)
        await port_closed(server)
        assert await server.stop() == EXIT_FORCED
        await all_ended(left)


async def test_a_stop_answers_what_was_sent(tmp_path: Path) -> None:
    async with two_workers(tmp_path) as server, connected(server.port) as client:
        request = post(body("r", 1))
        await client.stream.send_all(request[:-5])
        for pid in (*pids(server), server.process.pid):  # as a service manager may do it
            os.kill(pid, signal.SIGTERM)
        await port_closed(server)
        await client.stream.send_all(request[-5:])
        assert (await client.read()).status == 204
        assert await server.wait() == 0


@pytest.mark.parametrize("held_by", ["port", "file"])
async def test_what_another_has_is_refused_in_one_line(tmp_path: Path, held_by: str) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = str(taken.getsockname()[1]) if held_by == "port" else "0"
        async with serving(tmp_path) as other:
            folder = tmp_path if held_by == "file" else tmp_path / "own"
            folder.mkdir(exist_ok=True)
            with pytest.raises(AssertionError, match="ended before it listened"):
                async with two_workers(folder, "--port", port):
                    pass
            lines = (folder / "server.log").read_text().splitlines()
            [line] = [line for line in lines if line.startswith("rockets serve: ")]
            assert ("cannot listen" if held_by == "port" else "held by process") in line
            assert await other.stop() == 0


async def test_a_journal_that_the_workers_refuse_ends_the_parent(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="ended before it listened"):
        async with two_workers(
            tmp_path, "--journal", "postgresql://127.0.0.1:1/none", "--journal-wait-s", "0"
        ):
            pass
    assert "rockets serve: " in (tmp_path / "server.log").read_text()


async def test_workers_take_the_sockets_of_a_service_manager(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as sock:
        async with activated(tmp_path, sock, "--workers", "2") as server:
            async with connected(server.port) as client:
                assert (await client.ask(post(body("r", 1)))).status == 204
            assert await server.stop() == 0
        # It is still open: who connects meanwhile waits for the next.
        async with connected(sock.getsockname()[1]) as client:
            request = post(body("r", 2))
            await client.stream.send_all(request)
            async with activated(tmp_path, sock, "--workers", "2"):
                assert (await client.read()).status == 204
