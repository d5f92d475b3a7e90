"""Three instances of one store under load while the network, a server or one of them fails.

`tests.shared_load` says what must hold. `tests.fault_rounds` says how often each is done.
"""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager, closing
from itertools import product
from pathlib import Path
from random import Random
from signal import SIGCONT, SIGSTOP

import pytest
import trio

from rockets.journal.redis_append import APPEND
from tests.fault_rounds import rounds
from tests.helpers import body, connected, get, post
from tests.journal.store_proxy import Fault, Kind, Proxy
from tests.shared_load import Load, Seat, check, seats, under_load
from tests.stores import Stoppable, Store, folded, shown

pytestmark = pytest.mark.slow  # each runs processes

BETWEEN = 12
"""Messages that are acknowledged between two faults."""

SOON = "--ask-timeout-s", "2.5", "--read-wait-s", "2", "--checkpoint-s", "1"
"""Below the patience of the load, so that it sees answers; and ledgers are kept all the time."""


@asynccontextmanager
async def three(
    store: Store, directory: Path, *, flags_of: Sequence[Sequence[str]] = (), seed: int = 1
) -> AsyncIterator[tuple[list[Seat], Load]]:
    """Run three instances under load for the block, and hold all against each other behind it."""
    async with seats(directory, *(flags_of or [(*store.flags, *SOON)] * 3)) as found:
        ports = [seat.port for seat in found]
        async with under_load(ports, seed=seed) as load:
            await load.wait_more(BETWEEN)
            yield found, load
            await load.wait_more(BETWEEN)
        await check(load, store, ports)


async def test_three_instances_make_one_state_of_one_load(store: Store, tmp_path: Path) -> None:
    async with three(store, tmp_path, seed=7) as (_, load):
        for _ in range(rounds(100)):
            await load.wait_more(BETWEEN)


async def test_of_two_contents_that_race_all_instances_have_the_same(
    store: Store, tmp_path: Path
) -> None:
    numbers = range(1, rounds(1_000) + 1)
    random = Random(5)

    async def send(client_port: int, number: int, by: int) -> None:
        async with connected(client_port) as client:
            assert (await client.ask(post(body("raced", number, by=by)))).status == 204

    async with seats(tmp_path, *[store.flags] * 3) as found:
        ports = [seat.port for seat in found]
        for number in numbers:
            async with trio.open_nursery() as nursery:
                for by, port in enumerate(random.sample(ports, 3), 1):
                    nursery.start_soon(send, port, number, by)
        expected = await trio.to_thread.run_sync(folded, store)
        histories = []
        for port in ports:
            assert await shown(port, list(expected)) == expected
            async with connected(port) as client:
                page = await client.ask(get(f"/rockets/raced/messages?limit={len(numbers)}"))
                histories.append(page.json["messages"])
    assert histories[0] == histories[1] == histories[2]
    rocket = expected["raced", "settled"]
    assert isinstance(rocket, dict)
    assert rocket["lastMessageNumber"] == len(numbers)
    assert rocket["anomalies"] == 3 * len(numbers)  # two conflicts each, and before any launch


async def test_what_one_has_acknowledged_no_other_shows_older(store: Store, tmp_path: Path) -> None:
    random = Random(3)
    async with seats(tmp_path, *[store.flags] * 2) as (one, two):
        async with connected(one.port) as first, connected(two.port) as second:
            for number in range(1, rounds(10_000) + 1):
                writer, reader = random.choice([(first, second), (second, first)])
                assert (await writer.ask(post(body("r", number)))).status == 204
                rocket = await reader.ask(get("/rockets/r"))
                assert rocket.json["lastMessageNumber"] == number


def faults_of(store: Store) -> list[Fault]:
    """Everything that may befall the bytes of a commit, or of a batch before it."""
    is_redis = store.address.startswith("redis")
    # There one script is the batch and its commit.
    commit = APPEND.name.encode() if is_redis else b"COMMIT"
    before = [] if is_redis else [Fault(b"BEGIN", "close"), Fault(b"BEGIN", "reset")]
    kinds: tuple[Kind, ...] = "close", "reset", "hold"
    return before + [Fault(commit, *how) for how in product(kinds, (False, True))]


@asynccontextmanager
async def three_far(
    store: Store, directory: Path
) -> AsyncIterator[tuple[list[Seat], list[Proxy], Load]]:
    """The same as `three`, each with a proxy of its own between it and the store."""
    with ExitStack() as opened:
        proxies = [opened.enter_context(closing(Proxy(store.port))) for _ in range(3)]
        flags_of = [(*store.flags_through(proxy.port), *SOON) for proxy in proxies]
        async with three(store, directory, flags_of=flags_of) as (found, load):
            yield found, proxies, load


async def test_a_network_that_fails_at_a_commit_loses_and_doubles_nothing(
    store: Store, tmp_path: Path
) -> None:
    faults = faults_of(store) * rounds(100)
    Random(4).shuffle(faults)

    async def fail(proxy: Proxy, load: Load) -> None:
        done = 0
        while faults:
            proxy.faults.append(faults.pop())
            done += 1
            while len(proxy.happened) < done:
                await load.wait_more(1)

    async with three_far(store, tmp_path) as (_, proxies, load):
        async with trio.open_nursery() as nursery:
            for proxy in proxies:
                nursery.start_soon(fail, proxy, load)
    happened = Counter(fault for proxy in proxies for fault in proxy.happened)
    assert happened == Counter(faults_of(store) * rounds(100))


async def test_an_instance_that_is_cut_off_comes_back_by_itself(
    store: Store, tmp_path: Path
) -> None:
    random = Random(8)
    async with three_far(store, tmp_path) as (found, proxies, load):
        for number in range(1, rounds(20) + 1):
            seat, proxy = random.choice(list(zip(found, proxies, strict=True)))
            await trio.to_thread.run_sync(proxy.cut)
            assert await asked(seat.port, post(body("cut", number))) == 503
            await load.wait_more(BETWEEN)  # by the others
            await trio.to_thread.run_sync(proxy.heal)
            with trio.fail_after(30):
                while await asked(seat.port, post(body("cut", number))) != 204:
                    pass


async def asked(port: int, request: bytes) -> int:
    async with connected(port) as client:
        return (await client.ask(request)).status


async def test_an_instance_that_is_killed_under_load_takes_nothing_with_it(
    store: Store, tmp_path: Path
) -> None:
    random = Random(1)
    async with three(store, tmp_path) as (found, load):
        for _ in range(rounds(50)):
            seat = random.choice(found)
            await seat.server.kill()
            await load.wait_more(BETWEEN)
            await seat.start()


@pytest.mark.parametrize(
    ("stoppable", "victim"),
    [("postgresql", "server"), ("postgresql", "backend"), ("redis", "server")],
    indirect=["stoppable"],
)
async def test_a_server_that_is_killed_under_load_has_all_that_was_acknowledged(
    stoppable: Stoppable, tmp_path: Path, victim: str
) -> None:
    async with three(stoppable.store, tmp_path) as (_, load):
        for _ in range(rounds(50)):
            await trio.to_thread.run_sync(stoppable.kills[victim])
            await load.wait_more(BETWEEN)


STOPPED_S = 0.1 * rounds(100)
"""Ten seconds in the whole, and longer in any case than the store bears a silent transaction."""


async def test_an_instance_that_stands_still_for_a_while_shows_and_stores_nothing_old(
    store: Store, tmp_path: Path
) -> None:
    random = Random(2)
    async with three(store, tmp_path) as (found, load):
        for _ in range(rounds(10)):
            seat = random.choice(found)
            seat.server.process.send_signal(SIGSTOP)
            until = trio.current_time() + max(STOPPED_S, 3.0)
            while trio.current_time() < until:
                await load.wait_more(1)
            seat.server.process.send_signal(SIGCONT)
            await load.wait_more(BETWEEN)
