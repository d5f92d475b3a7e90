"""The whole service as a process of its own, with clients that break the rules."""

import os
import random
import resource
import signal
import socket
import sys
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import pytest
import trio

from rockets import stopping
from rockets.web.problems import PROBLEMS
from tests.helpers import Client, ServerProcess, body, both_lanes, connected, get, post, serving

pytestmark = pytest.mark.slow

WEBSOCKET = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: bKdPyn3u98cTfZJSh4TNeQ==",
)
H2C = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__")


async def serves(server: ServerProcess) -> bool:
    """Say whether the process that was started takes a message from a new client."""
    async with connected(server.port) as client:
        reply = await client.ask(post(body("probe", 1)), timeout_s=5)
    return reply.status == 204 and server.process.returncode is None


async def refused(directory: Path, *flags: str, **environment: str) -> tuple[int, list[str]]:
    """Run a start that must fail; gives the exit code and the lines for the operator."""
    command = [
        sys.executable,
        "-m",
        "rockets",
        "serve",
        "--database",
        str(directory / "rockets.db"),
    ]
    with trio.fail_after(20):
        done = await trio.run_process(
            [*command, *flags], capture_stderr=True, check=False, env=os.environ | environment
        )
    lines = done.stderr.decode().splitlines()
    return done.returncode, [line for line in lines if not line.startswith("{")]  # no logs


# --- requests that ended the process when Hypercorn owned the connections ---


def http2(path: bytes, *, end: bool) -> tuple[h2.connection.H2Connection, bytes]:
    """Begin HTTP/2 with prior knowledge and ask for a path."""
    connection = h2.connection.H2Connection(
        h2.config.H2Configuration(
            header_encoding=None,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
    )
    connection.initiate_connection()
    headers = {b":method": b"GET", b":scheme": b"http", b":authority": b"a", b":path": path}
    connection.send_headers(1, list(headers.items()), end_stream=end)
    return connection, connection.data_to_send()


async def test_the_requests_known_to_end_hypercorn_end_their_connection_alone(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as server:
        async with connected(server.port) as client:  # a byte after an upgrade to WebSocket
            await client.stream.send_all(get("/livez", *WEBSOCKET) + b"x\r\n\r\n")
            assert (await client.read()).status == 200
            assert (await client.read()).status == 400
            await client.wait_closed()
        assert await serves(server)
        async with connected(server.port) as client:  # a path that is not ASCII, in HTTP/2
            assert (await client.ask(http2(b"/caf\xc3\xa9", end=True)[1])).status == 505
        assert await serves(server)
        async with connected(server.port) as client:  # data for a stream that was closed
            connection, start = http2(b"/nope", end=False)
            assert (await client.ask(start)).status == 505
            connection.send_data(1, b"x" * 10)
            await client.stream.send_all(connection.data_to_send())
            await client.wait_closed()
        assert await serves(server)
        assert server.events("connection_failed") == server.events("request_crashed") == []


async def test_an_upgrade_is_served_as_plain_http(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, connected(server.port) as client:
        for headers in (H2C, WEBSOCKET):
            assert (await client.ask(get("/livez", *headers))).status == 200
            assert (await client.ask(get("/rockets", *headers))).json["count"] == 0


def mutated(chance: random.Random) -> bytes:
    """A request with something wrong somewhere, or many things."""
    data = bytearray(
        chance.choice(
            [
                post(body("fuzz", chance.randint(1, 99)), *chance.choice([(), H2C, WEBSOCKET])),
                get(chance.choice(["/rockets?limit=1", "/rockets/%00%ff", "//", "/health", "*"])),
                b"POST /messages HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                b"2;a=b\r\n{}\r\n0\r\nX: 1\r\n\r\n",
                b"OPTIONS * HTTP/1.1\r\nHost: [::1]:80\r\nExpect: 100-continue\r\n\r\n",
                http2(b"/", end=True)[1],
            ]
        )
    )
    for _ in range(chance.choice([0, 1, 1, 2, 5])):
        place = chance.randrange(len(data))
        match chance.randrange(4):
            case 0:
                data[place] = chance.randrange(256)
            case 1:
                del data[place : place + chance.randint(1, 20)]
            case 2:
                data[place:place] = chance.choice([b"\r\n", b"\0", b" ", b"Host: b\r\n", b"%"])
            case _:
                data[place:place] = data[chance.randrange(len(data)) :][:40]
        data = data or bytearray(b"\r\n")
    return bytes(data)


@both_lanes
async def test_no_mutated_request_harms_the_process_or_gets_a_500(
    tmp_path: Path, lane: str
) -> None:
    chance = random.Random(444)  # any seed must pass
    async with serving(tmp_path, lane, "--durability", "memory") as server:
        for _ in range(600):
            data = mutated(chance)
            place = chance.randrange(len(data))
            async with connected(server.port) as client:
                try:
                    await client.stream.send_all(data[:place])
                    await client.stream.send_all(data[place:])
                    await client.stream.send_eof()
                except trio.BrokenResourceError:
                    pass  # It was refused before its end.
                received = await client.wait_closed()
            assert b"HTTP/1.1 500" not in received, data
            assert b"HTTP/1.1 101" not in received, data
        assert await serves(server)
        errors = [line for line in server.log if line["level"] in {"error", "critical"}]
    assert errors == []


# --- stopping ---


async def begin_post(client: Client, content: bytes) -> None:
    """Send a message without its last byte, and wait until the server is reading its body."""
    head, _, _ = post(content, "Expect: 100-continue").partition(b"\r\n\r\n")
    assert (await client.ask(head + b"\r\n\r\n")).status == 100
    await client.stream.send_all(content[:-1])


@asynccontextmanager
async def not_reading(port: int) -> AsyncIterator[trio.SocketStream]:
    """A client that asks for far more than fits between it and the server, and reads nothing."""
    client = trio.socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await client.connect(("127.0.0.1", port))
    async with trio.SocketStream(client) as stream:
        await stream.send_all(get("/rockets") * 500)
        await trio.lowlevel.wait_readable(client)  # answers have begun to arrive
        yield stream


async def add_rockets(port: int, count: int) -> None:
    async with connected(port) as client:
        await client.stream.send_all(b"".join(post(body(f"r-{n}", 1)) for n in range(count)))
        for _ in range(count):
            assert (await client.read()).status == 204


@both_lanes
async def test_a_stop_answers_what_runs_and_waits_for_nobody_else(
    tmp_path: Path, lane: str
) -> None:
    content = body("last", 1, "RocketLaunched")
    async with serving(tmp_path, lane, "--send-timeout-s", "0.5") as server:
        await add_rockets(server.port, 100)
        async with (
            connected(server.port) as idle,
            connected(server.port) as half,
            connected(server.port) as running,
            not_reading(server.port),
        ):
            await idle.ask(get("/livez"))
            await half.stream.send_all(b"GET /liv")
            await begin_post(running, content)
            started = trio.current_time()

            server.process.send_signal(signal.SIGTERM)
            await idle.wait_closed()
            await half.wait_closed()
            reply = await running.ask(content[-1:])

            assert (reply.status, reply.headers["connection"]) == (204, "close")
            assert await server.wait() == 0
            assert trio.current_time() - started < 5
        assert server.events("connections_cut") == []

    async with serving(tmp_path, lane) as server, connected(server.port) as client:
        assert (await client.ask(get("/rockets/last"))).status == 200


@both_lanes
async def test_a_stop_cuts_off_whom_the_grace_period_is_not_enough_for(
    tmp_path: Path, lane: str
) -> None:
    async with serving(tmp_path, lane, "--shutdown-grace-s", "3") as server:
        await add_rockets(server.port, 100)
        async with connected(server.port) as pausing, not_reading(server.port):
            await begin_post(pausing, body("rocket-1", 1))

            assert await server.stop() == 0
            assert await pausing.wait_closed() == b""
        assert len(server.events("connections_cut")) == 1


@both_lanes
async def test_a_second_signal_ends_the_process_at_once(tmp_path: Path, lane: str) -> None:
    async with (
        serving(tmp_path, lane) as server,
        connected(server.port) as pausing,
        connected(server.port) as idle,
    ):
        await begin_post(pausing, body("rocket-1", 1))
        await idle.ask(get("/livez"))
        server.process.send_signal(signal.SIGTERM)
        await idle.wait_closed()  # the first one has arrived
        started = trio.current_time()

        assert await server.stop() == stopping.EXIT_FORCED
        assert trio.current_time() - started < 1


# A journal for the process to run on: some messages find its disk broken or hanging.
BAD_DISK = """
import sys, threading
from rockets import storage
from rockets.cli import main
from rockets.journal import JournalFailed, MemoryJournal

class BadDisk(MemoryJournal):
    hangs = False

    def append(self, records, notes=()):
        streams = {record.stream for record in records}
        self.hangs = "hang" in streams
        if "fail" in streams:
            raise JournalFailed("the disk is gone")
        self.wait()
        return super().append(records, notes)

    def close(self):
        self.wait()

    def wait(self):
        if self.hangs:
            threading.Event().wait()

storage.open_journal = lambda *args, **options: BadDisk()
main(["serve", *sys.argv[1:]])
"""


@both_lanes
async def test_a_failed_journal_ends_the_process_within_a_second_whatever_clients_do(
    tmp_path: Path, lane: str
) -> None:
    async with serving(tmp_path, lane, command=("-c", BAD_DISK)) as server:
        await add_rockets(server.port, 100)
        async with (
            connected(server.port) as pausing,
            connected(server.port) as client,
            not_reading(server.port),
        ):
            await begin_post(pausing, body("rocket-1", 1))
            started = trio.current_time()

            reply = await client.ask(post(body("fail", 1)))

            assert (reply.status, reply.headers["retry-after"]) == (503, "1")
            assert await server.wait() == stopping.EXIT_FAILED
            assert trio.current_time() - started < 2  # one second, on a busy machine
        [line] = server.events("journal_failed")
        assert "the disk is gone" in str(line["reason"])


@both_lanes
async def test_a_hanging_disk_cannot_hold_the_process_longer_than_the_grace_period(
    tmp_path: Path, lane: str
) -> None:
    flags = ("--shutdown-grace-s", "0.5")
    async with (
        serving(tmp_path, lane, *flags, command=("-c", BAD_DISK)) as server,
        connected(server.port) as idle,
        connected(server.port) as client,
    ):
        await idle.ask(get("/livez"))
        await client.stream.send_all(post(body("hang", 1)))

        server.process.send_signal(signal.SIGTERM)
        await idle.wait_closed()
        started = trio.current_time()

        assert await server.wait() == stopping.EXIT_FORCED
        assert trio.current_time() - started < 2
        assert len(server.events("stop_forced")) == 1


# --- clients that keep connections ---


async def drip(client: Client, data: bytes) -> float:
    """Send a byte every 50 ms until the server closes; gives how long that took."""
    started = trio.current_time()
    for place in range(len(data)):
        try:
            await client.stream.send_all(data[place : place + 1])
            with trio.move_on_after(0.05):
                assert await client.stream.receive_some(1) == b""
                break
        except trio.BrokenResourceError:
            break
    else:
        pytest.fail("the server took it all")
    return trio.current_time() - started


async def test_a_head_that_drips_is_cut_also_after_another_request(tmp_path: Path) -> None:
    async with serving(tmp_path, "--header-timeout-s", "0.5") as server:
        async with connected(server.port) as client, connected(server.port) as used:
            await used.ask(get("/livez"))

            times = [
                await drip(client, get("/" + "a" * 900)),
                await drip(used, get("/" + "a" * 900)),
            ]

        assert all(0.4 < time < 1.5 for time in times), times
        assert await serves(server)


def leave_connections(port: int, count: int) -> None:
    """Send each message on a connection of its own, see its answer come, and leave both there.

    Twenty at a time. None is closed on this side before all are answered, but where this process
    may not have that many open; those that are closed then the server has closed long ago.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    open_max = min(hard, count + 1_000) if hard != resource.RLIM_INFINITY else count + 1_000
    if soft != resource.RLIM_INFINITY and soft < open_max:
        resource.setrlimit(resource.RLIMIT_NOFILE, (open_max, hard))
    kept: deque[socket.socket] = deque()
    for first in range(1, count + 1, 20):
        new = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(20)]
        for number, client in enumerate(new, start=first):
            client.sendall(post(body("leaky", number)))
        for client in new:
            assert client.recv(12, socket.MSG_PEEK) == b"HTTP/1.1 204"
        kept.extend(new)
        while len(kept) > open_max - 500:
            kept.popleft().close()
    for client in kept:
        client.close()


@pytest.mark.parametrize(("lane", "count"), [("--fast-lane", 5_000), ("--no-fast-lane", 1_000)])
async def test_connections_that_are_never_closed_are_all_answered(
    tmp_path: Path, lane: str, count: int
) -> None:
    async with serving(tmp_path, lane, descriptors=256) as server:
        await trio.to_thread.run_sync(leave_connections, server.port, count)

        assert await serves(server)
        async with connected(server.port) as client:
            rocket = (await client.ask(get("/rockets/leaky"))).json
            counts: Any = (await client.ask(get("/health"))).json["counts"]
        assert rocket["sequence"] == {
            "settledThrough": count,
            "received": count,
            "missingCount": 0,
            "missing": [],
            "complete": True,
        }
        assert counts["connectionsPeak"] == 256 - 64
        assert [line["event"] for line in server.log if line["level"] != "info"] == [
            "descriptors_few"
        ]


@both_lanes
async def test_unfinished_requests_make_room_and_running_ones_do_not(
    tmp_path: Path, lane: str
) -> None:
    content = body("hang", 1)
    async with (
        serving(tmp_path, lane, descriptors=128, command=("-c", BAD_DISK)) as server,
        AsyncExitStack() as stack,
    ):
        clients = [await stack.enter_async_context(connected(server.port)) for _ in range(64)]
        for client in clients:
            await begin_post(client, content)
        async with connected(server.port) as late:
            assert (await late.ask(get("/livez"))).status == 200
            assert await clients[0].wait_closed() == b""  # the oldest of the unfinished
            for client in clients[1:]:
                await client.stream.send_all(content[-1:])
            # One answer, and the others are running, as is what came with it.
            await late.stream.send_all(get("/livez") + post(content))
            assert (await late.read()).status == 200

            async with connected(server.port) as too_late:
                reply = await too_late.ask(get("/livez"))
                assert (reply.status, reply.json["type"]) == (503, "/problems/too-many-connections")
                assert await too_late.wait_closed() == b""
        assert server.process.returncode is None


# --- starting ---


async def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        code, lines = await refused(tmp_path, "--port", str(port))

    assert (code, len(lines)) == (2, 1)
    assert f"cannot listen on 127.0.0.1 port {port}: Address already in use" in lines[0]


@pytest.mark.parametrize("host", ["no.such.host.invalid", "a" * 64 + ".b", "300.1.1.1"])
async def test_a_host_that_is_none_is_one_line(host: str, tmp_path: Path) -> None:
    code, lines = await refused(tmp_path, "--host", host, "--port", "0")

    assert (code, len(lines)) == (2, 1)
    assert f"cannot listen on {host} port 0: " in lines[0]


async def test_every_wrong_setting_is_one_line(tmp_path: Path) -> None:
    code, lines = await refused(
        tmp_path, "--port", "x", "--backlog", "0", ROCKETS_NONSENSE="1", PORT="9"
    )

    assert code == 2
    assert len(lines) == 3
    assert all(line.startswith("rockets serve: ") for line in lines)


async def test_a_database_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    code, lines = await refused(tmp_path / "none", "--port", "0")

    assert (code, len(lines)) == (2, 1)
    assert str(tmp_path / "none" / "rockets.db") in lines[0]


@pytest.mark.parametrize("count", [100, 127])
async def test_too_few_descriptors_are_one_line(count: int, tmp_path: Path) -> None:
    command = f"ulimit -n {count}; exec {sys.executable} -m rockets serve --port 0 --database d"
    done = await trio.run_process(
        command, shell=True, capture_stderr=True, check=False, cwd=tmp_path
    )

    assert done.returncode == 2
    [line] = done.stderr.decode().splitlines()
    assert line == f"rockets serve: the descriptor limit is {count}; at least 128 are needed"


@pytest.mark.parametrize("count", [128, 129])
async def test_the_least_number_of_descriptors_is_enough(count: int, tmp_path: Path) -> None:
    async with serving(tmp_path, descriptors=count) as server:
        assert await serves(server)
        [warning] = server.events("descriptors_few")

    assert (warning["limit"], warning["connections"]) == (count, count - 64)


def open_files_limits(pid: int) -> tuple[str, str]:
    """Read the soft and the hard limit of descriptors of a process."""
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    [line] = [line for line in lines if line.startswith("Max open files")]
    soft, hard = line.removeprefix("Max open files").split()[:2]
    return soft, hard


async def test_the_soft_limit_of_descriptors_is_raised_to_the_hard_one(tmp_path: Path) -> None:
    hard = open_files_limits(os.getpid())[1]
    async with serving(tmp_path, soft_descriptors=100) as server:
        assert await serves(server)
        assert open_files_limits(server.process.pid) == (hard, hard)


@pytest.mark.parametrize("flags", [(), ("--fresh",)])
async def test_a_second_server_on_a_database_is_refused_and_the_first_goes_on(
    flags: tuple[str, ...], tmp_path: Path
) -> None:
    async with serving(tmp_path) as server:
        await add_rockets(server.port, 1)
        started = trio.current_time()

        code, lines = await refused(tmp_path, "--port", "0", *flags)

        assert (code, len(lines)) == (2, 1)
        assert f"held by process {server.process.pid}" in lines[0]
        assert trio.current_time() - started < 5
        assert await serves(server)
        assert await server.stop() == 0
    async with serving(tmp_path) as server, connected(server.port) as client:
        assert (await client.ask(get("/rockets"))).json["total"] == 2


def rename_back(moved: Path) -> Path:
    """Give a moved database its old name, in a new directory."""
    directory = moved.parent / "old"
    directory.mkdir()
    for path in moved.parent.glob(f"{moved.name}*"):
        path.rename(directory / path.name.replace(moved.name, "rockets.db"))
    return directory


async def test_fresh_moves_the_old_database_aside(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        await add_rockets(server.port, 3)
        await server.kill()  # so that its log is not folded into it

    async with serving(tmp_path, "--fresh") as server, connected(server.port) as client:
        assert (await client.ask(get("/rockets"))).json["total"] == 0
        [moved] = server.events("journal_moved")
        assert await server.stop() == 0

    async with (
        serving(rename_back(Path(str(moved["to"])))) as server,
        connected(server.port) as client,
    ):
        assert (await client.ask(get("/rockets"))).json["total"] == 3


@both_lanes
async def test_below_the_reserve_messages_are_refused_and_health_says_why(
    tmp_path: Path, lane: str
) -> None:
    async with serving(tmp_path, lane) as server, connected(server.port) as client:
        assert (await client.ask(post(body("r", 1)))).status == 204
        health = await client.ask(get("/health"))
        assert (health.status, health.json["status"]) == (200, "ok")
        assert health.json["checks"] == {"journal": "ok", "space": "ok"}
        counts: Any = health.json["counts"]
        assert counts["databaseBytes"] > 0
        assert counts["walBytes"] > 0
        assert counts["freeBytes"] > 0

    async with serving(tmp_path, lane, "--reserve-bytes", str(2**50)) as server:
        async with connected(server.port) as client:
            assert (await client.ask(post(body("r", 2)))).status == 503
        async with connected(server.port) as client:
            assert (await client.ask(get("/rockets/r"))).status == 200
            health, ready = await client.ask(get("/health")), await client.ask(get("/readyz"))

    checks: Any = health.json["checks"]
    assert (health.status, ready.status, health.json["status"]) == (503, 503, "degraded")
    assert checks["journal"] == "ok"
    assert checks["space"].endswith(f" the last {2**50:,} are kept in reserve")


async def test_in_memory_nothing_is_written_and_nothing_is_kept(tmp_path: Path) -> None:
    async with serving(tmp_path, "--durability", "memory", "--fresh") as server:
        await add_rockets(server.port, 3)
        async with connected(server.port) as client:
            assert (await client.ask(get("/rockets"))).json["total"] == 3
            health: dict[str, Any] = (await client.ask(get("/health"))).json
            assert health["journal"] == "memory"
            assert "freeBytes" not in health["counts"]
        assert await server.stop() == 0

    assert os.listdir(tmp_path) == ["server.log"]


# --- what every answer has ---

ERRORS = [
    (post(b"{"), 400, "malformed-body"),
    (post(b"\xff"), 400, "malformed-body"),
    (post(b""), 400, "malformed-body"),
    (post(b"{}"), 422, "invalid-message"),
    (post(b'{"metadata":' * 5_000), 422, "invalid-message"),  # too deep, before it is malformed
    (post(body("a", 1), "Content-Encoding: gzip"), 415, "unsupported-content-encoding"),
    (post(b"a" * 65_537), 413, "content-too-large"),
    (get("/rockets?limit=0"), 400, "bad-parameter"),
    (get("/rockets?x=1"), 400, "bad-parameter"),
    (get("/rockets/nobody"), 404, "not-found"),
    (get("/rockets/nobody?view=x"), 400, "bad-parameter"),
    (get("/rockets/%00%ff"), 404, "not-found"),
    (get("/rockets/"), 404, "not-found"),
    (get("/nothing"), 404, "not-found"),
    (get("/../etc/passwd"), 404, "not-found"),
    (get("/messages"), 405, "method-not-allowed"),
    (post(b"", target="/rockets"), 405, "method-not-allowed"),
    (b"BREW /nothing HTTP/1.1\r\nHost: a\r\n\r\n", 404, "not-found"),
    (b"head /health HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad-request"),
    (b"BREW /health HTTP/1.1\r\nHost: a\r\n\r\n", 405, "method-not-allowed"),
    (b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405, "method-not-allowed"),
    (b"GET / HTTP/1.1\r\n\r\n", 400, "bad-request"),
    (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 20_000 + b"\r\n\r\n", 431, None),
    (post(b"{}", "Transfer-Encoding: gzip"), 400, "bad-request"),
    (b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505, "http-version-not-supported"),
]


@both_lanes
async def test_every_error_is_a_problem_and_every_answer_has_its_headers(
    tmp_path: Path, lane: str
) -> None:
    async with serving(tmp_path, lane) as server:
        for request, status, name in ERRORS:
            async with connected(server.port) as client:
                reply = await client.ask(request)
            problem = reply.json
            assert (reply.status, problem["status"]) == (status, status), request[:99]
            assert reply.headers["content-type"] == "application/problem+json", request[:99]
            kind = str(problem["type"]).removeprefix("/problems/")
            assert name is None or kind == name
            assert problem["title"] == PROBLEMS[kind][1]  # type: ignore[index]  # a known name
            assert {"detail", "requestId"} <= set(problem)
            assert reply.headers["x-request-id"] == problem["requestId"]
            assert "date" in reply.headers
            assert "server" not in reply.headers
            assert ("allow" in reply.headers) == (status == 405)
            assert "Traceback" not in str(problem)
        assert server.events("request_failed") == []


@both_lanes
async def test_a_valid_request_id_is_kept_by_the_front_and_by_the_application(
    tmp_path: Path, lane: str
) -> None:
    async with serving(tmp_path, lane) as server, connected(server.port) as client:
        for request in (get("/livez", "X-Request-Id: mine"), get("/none", "X-Request-Id: mine")):
            assert (await client.ask(request)).headers["x-request-id"] == "mine"
        own = (await client.ask(get("/livez", "X-Request-Id: not valid"))).headers["x-request-id"]
        large = (await client.ask(post(b"a" * 65_537, "X-Request-Id: mine"))).headers

    assert own != "not valid"
    assert large["x-request-id"] == "mine"


def test_the_limit_of_descriptors_here_is_enough_for_these_tests() -> None:
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= 600
