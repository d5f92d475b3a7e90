"""Two instances as real processes on one server, PostgreSQL or Redis."""

import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from random import Random, random
from typing import NamedTuple

import msgspec
import pytest
import trio

from rockets.domain.messages import Channel, Message, decode_message
from rockets.domain.rocket import fold
from rockets.journal import Position, SharedJournal, open_postgresql, open_redis
from rockets.stopping import EXIT_BEHIND, EXIT_REFUSED
from tests.helpers import Client, Reply, ServerProcess, body, connected, get, post, serving
from tests.journal.postgresql_server import PostgresqlServer, find_binaries
from tests.journal.redis_server import SERVER as REDIS
from tests.journal.redis_server import RedisServer

pytestmark = pytest.mark.slow

CHANNELS = ("r0", "r1", "r2", "r3")
NUMBERS = range(1, 16)


class Store(NamedTuple):
    """An empty store on a server that tests share, and how a test looks into it."""

    address: str
    open: Callable[[], SharedJournal]

    @property
    def flags(self) -> tuple[str, ...]:
        """For `rockets serve`; the PostgreSQL server of the tests does not sync."""
        return "--journal", self.address, "--durability", "normal"


@pytest.fixture(params=["postgresql", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "redis":
        redis: RedisServer = request.getfixturevalue("redis")
        return _in_redis(redis.url(tmp_path))
    postgresql: PostgresqlServer = request.getfixturevalue("postgresql")
    return _in_postgresql(postgresql.url(database=postgresql.new_database()))


def _in_postgresql(address: str) -> Store:
    return Store(address, lambda: open_postgresql(address, durability="normal", jitter=random))


def _in_redis(address: str) -> Store:
    return Store(address, lambda: open_redis(address, durability="normal"))


@asynccontextmanager
async def instances(store: Store, directory: Path) -> AsyncIterator[tuple[ServerProcess, ...]]:
    """Run two of them, each with a log of its own."""
    folders = directory / "one", directory / "two"
    for folder in folders:
        folder.mkdir()
    async with (
        serving(folders[0], *store.flags) as one,
        serving(folders[1], *store.flags) as two,
    ):
        yield one, two


def all_messages() -> list[bytes]:
    """Every number of every rocket twice, and of every third one another content as well."""
    made = []
    for channel in CHANNELS:
        for number in NUMBERS:
            kind = "RocketLaunched" if number == 1 else "RocketSpeedIncreased"
            made += [body(channel, number, kind)] * 2
            if number % 3 == 0:
                made.append(body(channel, number, by=number))
    return made


def folded(store: Store) -> dict[tuple[str, str], object]:
    """Every rocket in both views, as the specification makes it of what the store holds."""
    with closing(store.open()) as journal:
        records = journal.follow(Position(0), limit=10**6)
        conflicts = journal.count_notes("conflict")
    stored: dict[str, list[Message]] = {}
    for record in records:
        stored.setdefault(record.stream, []).append(decode_message(record.body))
    return {
        (channel, view): msgspec.json.decode(
            msgspec.json.encode(
                fold(Channel(channel), messages, view=view, conflicts=conflicts.get(channel, 0))
            )
        )
        for channel, messages in stored.items()
        for view in ("latest", "settled")
    }


async def shown(port: int, wanted: Sequence[tuple[str, str]]) -> dict[tuple[str, str], object]:
    """Every rocket in every view, as an instance shows it."""
    async with connected(port) as client:
        return {
            (channel, view): (await client.ask(get(f"/rockets/{channel}?view={view}"))).json
            for channel, view in wanted
        }


async def send(client: Client, messages: Sequence[bytes]) -> None:
    """Send messages one by one."""
    for message in messages:
        reply = await client.ask(post(message))
        assert reply.status == 204, reply.body


async def asked(port: int, request: bytes) -> Reply:
    """Ask on a connection of its own."""
    async with connected(port) as client:
        return await client.ask(request)


async def answered(port: int, request: bytes) -> Reply:
    """Ask again and again while the answer is 503, which the instance takes its time for."""
    while (reply := await asked(port, request)).status == 503:
        pass
    return reply


async def send_batches(client: Client, messages: Sequence[bytes]) -> None:
    """Send messages twenty at a time."""
    for start in range(0, len(messages), 20):
        batch = b"[" + b",".join(messages[start : start + 20]) + b"]"
        reply = await client.ask(post(batch, "Content-Type: application/json"))
        assert reply.status == 200, reply.body


async def test_what_one_has_acknowledged_the_other_shows_at_once(
    store: Store, tmp_path: Path
) -> None:
    async with (
        instances(store, tmp_path) as (one, two),
        connected(one.port) as first,
        connected(two.port) as second,
    ):
        for number in range(1, 51):
            writer, reader = (first, second) if number % 2 else (second, first)
            assert (await writer.ask(post(body("r", number)))).status == 204
            rocket = await reader.ask(get("/rockets/r"))
            assert rocket.json["lastMessageNumber"] == number
        health = (await second.ask(get("/health"))).json
        assert health["journal"] == store.address.partition("://")[0]
        assert health["checks"] == {"journal": "ok", "space": "ok", "replica": "ok"}
        assert [await each.stop() for each in (one, two)] == [0, 0]


async def test_duplicates_and_conflicts_to_both_make_one_state(
    store: Store, tmp_path: Path
) -> None:
    messages = all_messages()
    Random(6).shuffle(messages)
    async with instances(store, tmp_path) as (one, two):
        async with (
            connected(one.port) as first,
            connected(two.port) as second,
            connected(one.port) as third,
            connected(two.port) as fourth,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(send, first, messages[0::4])
            nursery.start_soon(send, second, messages[1::4])
            nursery.start_soon(send_batches, third, messages[2::4])
            nursery.start_soon(send_batches, fourth, messages[3::4])

        expected = await trio.to_thread.run_sync(folded, store)
        assert len(expected) == 2 * len(CHANNELS)
        for each in (one, two):
            assert await shown(each.port, list(expected)) == expected
        assert [await each.stop() for each in (one, two)] == [0, 0]
    folder = tmp_path / "one"
    async with serving(folder, *store.flags) as again:  # goes on from the ledgers kept
        assert await shown(again.port, list(expected)) == expected
        assert again.events("ledgers_recovered")[-1]["checkpointed"] == len(CHANNELS)


async def test_an_instance_that_is_killed_takes_nothing_with_it(
    store: Store, tmp_path: Path
) -> None:
    async with instances(store, tmp_path) as (one, two):
        acknowledged: list[int] = []

        async def write_until_killed() -> None:
            async with connected(one.port) as client:
                for number in range(1, 10_000):
                    try:
                        reply = await client.ask(post(body("killed", number)))
                    except (EOFError, trio.BrokenResourceError):
                        return
                    assert reply.status == 204
                    acknowledged.append(number)
                    if number == 30:
                        reached.set()

        reached = trio.Event()
        async with trio.open_nursery() as nursery, connected(two.port) as client:
            nursery.start_soon(write_until_killed)
            await reached.wait()
            await one.kill()
            await send(client, [body("other", number) for number in range(1, 20)])

        expected = await trio.to_thread.run_sync(folded, store)
        assert await shown(two.port, list(expected)) == expected
        killed = (await shown(two.port, [("killed", "settled")]))["killed", "settled"]
        assert isinstance(killed, dict)
        assert killed["lastMessageNumber"] >= acknowledged[-1]
        async with serving(tmp_path / "one", *store.flags) as again:
            assert await shown(again.port, list(expected)) == expected


class Stoppable(NamedTuple):
    """A server that a test may stop."""

    store: Store
    stop: Callable[[], None]
    start: Callable[[], None]
    empty: Callable[[], object]


@pytest.fixture(params=["postgresql", "redis"])
def stoppable(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stoppable]:
    binaries = find_binaries()
    if (request.param == "redis" and REDIS is None) or binaries is None:
        pytest.skip(f"no {request.param} here")
    if request.param == "redis":
        with closing(RedisServer()) as redis:
            store = _in_redis(redis.url(tmp_path))
            yield Stoppable(
                store,
                lambda: redis.stop(signal.SIGKILL),
                redis.start,
                lambda: redis.ask("FLUSHALL"),
            )
        return
    with closing(PostgresqlServer(binaries)) as server:
        store = _in_postgresql(server.url())
        yield Stoppable(
            store,
            lambda: server.stop("immediate"),
            server.start,
            lambda: server.ask(Path("any"), "DELETE FROM rockets.records"),
        )


async def test_a_server_that_is_gone_for_a_while_is_waited_for(
    stoppable: Stoppable, tmp_path: Path
) -> None:
    soon = "--read-wait-s", "0.5", "--ask-timeout-s", "1"
    async with serving(tmp_path, *stoppable.store.flags, *soon) as one:
        assert (await asked(one.port, post(body("r", 1)))).status == 204
        await trio.to_thread.run_sync(stoppable.stop)

        read = await asked(one.port, get("/rockets/r"))
        assert (read.status, read.headers["retry-after"]) == (503, "1")
        stale = await asked(one.port, get("/rockets/r?stale=ok"))
        assert stale.json["lastMessageNumber"] == 1
        assert int(stale.headers["rockets-stale"]) >= 0
        written = await asked(one.port, post(body("r", 2)))
        assert (written.status, "retry-after" in written.headers) == (503, True)

        await trio.to_thread.run_sync(stoppable.start)
        assert (await answered(one.port, post(body("r", 2)))).status == 204
        found = await answered(one.port, get("/rockets/r"))
        assert found.json["lastMessageNumber"] == 2
        assert await one.stop() == 0


async def test_a_server_that_has_lost_something_ends_the_instance(
    stoppable: Stoppable, tmp_path: Path
) -> None:
    async with serving(tmp_path, *stoppable.store.flags) as one:
        assert (await asked(one.port, post(body("r", 1)))).status == 204
        await trio.to_thread.run_sync(stoppable.empty)
        assert await one.wait() == EXIT_BEHIND
        assert len(one.events("journal_behind")) == 1


async def run(*arguments: str) -> None:
    """Run a command of ours that must succeed."""
    await trio.run_process([sys.executable, "-m", "rockets", *arguments], capture_stdout=True)


async def test_messages_move_from_a_file_to_a_server_and_back(store: Store, tmp_path: Path) -> None:
    wanted = [(channel, view) for channel in CHANNELS for view in ("latest", "settled")]
    file, back = tmp_path / "messages.ndjson", tmp_path / "back.ndjson"
    for name in ("from", "over", "to"):
        (tmp_path / name).mkdir()
    async with serving(tmp_path / "from") as source, connected(source.port) as client:
        for channel in CHANNELS:
            laid_out = body(channel, 1, "RocketLaunched").replace(b", ", b",\r\n")
            await send(client, [laid_out, *[body(channel, number) for number in NUMBERS[1:]]])
        known = await shown(source.port, wanted)
        database = str(tmp_path / "from" / "rockets.db")
        await run("export", "--database", database, "--output", str(file))

    async with serving(tmp_path / "over", *store.flags) as target:
        await run("import", str(file), f"{target.url}/messages")
        assert await shown(target.port, wanted) == known

        # Beside the instance, which goes on.
        await run("export", "--journal", store.address, "--output", str(back))

    async with serving(tmp_path / "to") as target:
        await run("import", str(back), f"{target.url}/messages")
        assert await shown(target.port, wanted) == known


async def refusal(*flags: str, program: Sequence[str] = ("-m", "rockets")) -> str:
    """Start a service that must refuse; gives what it says."""
    done = await trio.run_process(
        [sys.executable, *program, "serve", "--port", "0", *flags],
        capture_stderr=True,
        check=False,
    )
    assert done.returncode == EXIT_REFUSED
    lines = done.stderr.decode().splitlines()
    said = [line for line in lines if line.startswith("rockets serve: ")]
    assert len(said) == 1, lines
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("postgresql://me:hidden@127.0.0.1:1/rockets", "127.0.0.1"),
        ("postgresql://me:hid/den@127.0.0.1:1", "no address of a PostgreSQL database"),
        ("postgresql://me:hid%zzden@127.0.0.1:1", "no address of a PostgreSQL database"),
        ("postgresql://me:12/hidden@127.0.0.1:1", "no address of a PostgreSQL database"),
        ("redis://me:hidden@127.0.0.1:1", "127.0.0.1"),
        ("redis://me:hid/den@127.0.0.1:1", "not a URL of a Redis server"),
        ("redis://me:12/hidden@127.0.0.1:1", "not a URL of a Redis server"),
        ("redis://me:12#hidden@127.0.0.1:1", "not a URL of a Redis server"),
        ("mysql://me:hidden@127.0.0.1:1", "neither sqlite nor postgresql"),
    ],
)
async def test_a_store_that_cannot_be_had_is_one_line_without_the_password(
    address: str, words: str
) -> None:
    said = await refusal("--journal", address)

    assert words in said
    assert "hid" not in said
    assert "den" not in said


@pytest.mark.parametrize(
    ("module", "address", "extra"),
    [("psycopg", "postgresql://here", "postgresql"), ("redis", "redis://here", "redis")],
)
async def test_without_the_driver_a_line_says_what_to_install(
    module: str, address: str, extra: str
) -> None:
    program = f"import sys; sys.modules[{module!r}] = None; from rockets.cli import main; main()"

    said = await refusal("--journal", address, program=("-c", program))

    assert f"pip install 'rockets[{extra}]'" in said


async def test_retention_is_not_for_a_store_that_is_shared(store: Store) -> None:
    said = await refusal(*store.flags, "--retain-messages", "5")

    assert "retention is not for a journal that instances share" in said
