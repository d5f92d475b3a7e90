"""Two instances as real processes on one server, PostgreSQL or Redis."""

import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from random import Random

import pytest
import trio

from rockets.stopping import EXIT_ABSENT, EXIT_BEHIND, EXIT_OK, EXIT_REFUSED
from tests.helpers import Client, Reply, ServerProcess, body, connected, get, post, serving
from tests.journal.store_proxy import Proxy
from tests.stores import Stoppable, Store, folded, shown

pytestmark = pytest.mark.slow

CHANNELS = ("r0", "r1", "r2", "r3")
NUMBERS = range(1, 16)


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


@pytest.mark.parametrize("how", ["gone", "a black hole"])
async def test_a_stop_without_the_server_is_soon_over(
    stoppable: Stoppable, tmp_path: Path, how: str
) -> None:
    with closing(Proxy(stoppable.store.port)) as proxy:
        async with serving(tmp_path, *stoppable.store.flags_through(proxy.port)) as one:
            async with connected(one.port) as writer, connected(one.port) as reader:
                assert (await writer.ask(post(body("r", 1)))).status == 204
                lose = stoppable.stop if how == "gone" else proxy.cut
                await trio.to_thread.run_sync(lose)
                await writer.stream.send_all(post(body("r", 2)))
                await reader.stream.send_all(get("/rockets/r"))
                began = trio.current_time()
                one.process.send_signal(signal.SIGTERM)
                assert [(await each.read()).status for each in (writer, reader)] == [503, 503]
            assert await one.wait() == EXIT_OK
            # A call alone may take 5 s, and there is more than one of them on the way.
            assert trio.current_time() - began < 4
            [line] = one.events("checkpoint_failed")
            assert "was gone when this instance stopped" in str(line["reason"])
    if how == "gone":
        await trio.to_thread.run_sync(stoppable.start)
    async with serving(tmp_path, *stoppable.store.flags) as again:
        rocket = (await asked(again.port, get("/rockets/r"))).json
    assert rocket["lastMessageNumber"] in (1, 2)


@asynccontextmanager
async def starting(store: Store, log: Path) -> AsyncIterator[trio.Process]:
    """Start a service while its server is gone; the block begins when it has looked for it."""
    listeners = await trio.open_tcp_listeners(store.port, host="127.0.0.1")
    command = [sys.executable, "-m", "rockets", "serve", "--port", "0", *store.flags]
    with log.open("wb") as stderr:
        process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, stderr=stderr)
    with trio.fail_after(30):
        await (await listeners[0].accept()).aclose()
    await listeners[0].aclose()
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            assert process.stdout is not None
            await process.stdout.aclose()


def awaited(log: Path) -> list[str]:
    """What a log says of a server that is not there, without the address."""
    lines = [json.loads(line) for line in log.read_text().splitlines() if line[0] == "{"]
    return [line["reason"] for line in lines if line["event"] == "store_awaited"]


async def test_a_start_waits_for_a_server_that_comes_later(
    stoppable: Stoppable, tmp_path: Path
) -> None:
    await trio.to_thread.run_sync(stoppable.stop)
    log = tmp_path / "log"
    async with starting(stoppable.store, log) as process:
        await trio.to_thread.run_sync(stoppable.start)
        assert process.stdout is not None
        with trio.fail_after(30):
            assert (await process.stdout.receive_some()).startswith(b"Rockets is listening on ")
        assert 1 <= len(awaited(log)) <= 5  # not a line for each attempt


async def test_a_start_that_waits_for_a_server_can_be_stopped(
    stoppable: Stoppable, tmp_path: Path
) -> None:
    await trio.to_thread.run_sync(stoppable.stop)
    async with starting(stoppable.store, tmp_path / "log") as process:
        process.send_signal(signal.SIGTERM)
        with trio.fail_after(5):
            assert await process.wait() == EXIT_OK
        assert "Traceback" not in (tmp_path / "log").read_text()


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


async def refusal(
    *flags: str, program: Sequence[str] = ("-m", "rockets"), code: int = EXIT_REFUSED
) -> str:
    """Start a service that must refuse; gives what it says."""
    done = await trio.run_process(
        [sys.executable, *program, "serve", "--port", "0", *flags],
        capture_stderr=True,
        check=False,
    )
    assert done.returncode == code
    lines = done.stderr.decode().splitlines()
    said = [line for line in lines if line.startswith("rockets serve: ")]
    assert len(said) == 1, lines
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("address", "words", "code"),
    [
        ("postgresql://me:hidden@127.0.0.1:1/rockets", "127.0.0.1", EXIT_ABSENT),
        (
            "postgresql://me:hid/den@127.0.0.1:1",
            "no address of a PostgreSQL database",
            EXIT_REFUSED,
        ),
        (
            "postgresql://me:hid%zzden@127.0.0.1:1",
            "no address of a PostgreSQL database",
            EXIT_REFUSED,
        ),
        (
            "postgresql://me:12/hidden@127.0.0.1:1",
            "no address of a PostgreSQL database",
            EXIT_REFUSED,
        ),
        ("redis://me:hidden@127.0.0.1:1", "127.0.0.1", EXIT_ABSENT),
        ("redis://me:hid/den@127.0.0.1:1", "not a URL of a Redis server", EXIT_REFUSED),
        ("redis://me:12/hidden@127.0.0.1:1", "not a URL of a Redis server", EXIT_REFUSED),
        ("redis://me:12#hidden@127.0.0.1:1", "not a URL of a Redis server", EXIT_REFUSED),
        ("mysql://me:hidden@127.0.0.1:1", "neither sqlite nor postgresql", EXIT_REFUSED),
    ],
)
async def test_a_store_that_cannot_be_had_is_one_line_without_the_password(
    address: str, words: str, code: int
) -> None:
    said = await refusal("--journal", address, "--journal-wait-s", "0", code=code)

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
