"""The seam to Hypercorn: a small Quart application behind the real front, on real sockets."""

import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

import pytest
import trio
from quart import Response, request
from quart_trio import QuartTrio
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from rockets.lending import READ_AHEAD_MAX, lender
from rockets.web.batch import BatchBodies
from rockets.web.connections import SEND_SIZE, ConnectionLimits
from rockets.web.front import Front, FrontLimits
from tests.helpers import Client, connected, get, post
from tests.web.fronts import Register, open_port

LARGE = 64 * 1024 * 1024
SEND_TIMEOUT_S = 5.0
IDLE_TIMEOUT_S = 20.0


class Gate:
    """Says when a handler has begun and lets it end."""

    def __init__(self) -> None:
        self.entered = trio.Event()
        self.opened = trio.Event()
        self.cancelled = False
        self.give, self.pieces = trio.open_memory_channel[bytes](100)

    async def wait(self) -> None:
        self.entered.set()
        try:
            await self.opened.wait()
        except trio.Cancelled:
            self.cancelled = True
            raise


def make_app(gate: Gate) -> QuartTrio:
    app = QuartTrio("tiny", static_folder=None)

    @app.post("/empty")
    async def empty() -> Response:
        await request.get_data()
        response = Response(b"", 204)
        del response.headers["content-type"]
        del response.headers["content-length"]
        return response

    @app.post("/echo")
    async def echo() -> Response:
        return Response(await request.get_data(), 200)

    @app.post("/messages")
    async def stream() -> Response:
        received = b""
        try:
            async for piece in request.body:
                received += piece
                await gate.give.send(piece)
                if "early" in request.args:
                    return Response(b"enough", 413)
        except trio.Cancelled:
            gate.cancelled = True
            raise
        return Response(received, 200)

    @app.get("/wait")
    async def wait() -> Response:
        await gate.wait()
        return Response(b"waited", 200)

    @app.get("/bug")
    async def bug() -> Response:
        raise RuntimeError("a bug")

    @app.get("/large")
    async def large() -> Response:
        return Response(b"a" * LARGE, 200)

    @app.get("/torn")
    async def torn() -> Response:
        async def content() -> AsyncIterator[bytes]:
            yield b"the start"
            raise RuntimeError("a bug")

        return Response(content(), 200)

    return app


class Server:
    """A front in this process."""

    def __init__(self, port: int, connections: Register, gate: Gate) -> None:
        self.port = port
        self.connections = connections
        self.gate = gate


@asynccontextmanager
async def lending(connections_max: int = 100) -> AsyncIterator[Server]:
    """Serve the small application; every connection must end once the clients have left."""
    gate = Gate()
    connections = Register(
        ConnectionLimits(connections_max=connections_max, idle_timeout_s=IDLE_TIMEOUT_S)
    )
    front = Front(
        connections=connections,
        lend=lender(make_app(gate), send_timeout_s=SEND_TIMEOUT_S),
        rules=BatchBodies(64 * 1024, 8 * 1024 * 1024),
        limits=FrontLimits(),
    )
    async with open_port(front, connections) as port:
        yield Server(port, connections, gate)


def test_hypercorn_is_the_version_this_seam_was_written_for() -> None:
    assert version("hypercorn") == "0.18.0", (
        "lending.py drives H11Protocol, TaskGroup and the events of Hypercorn 0.18.0, none of "
        "which is a public interface: read their changes, then this file's tests, then move the pin"
    )


async def test_empty_answers_keep_the_connection_and_log_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO), capture_logs() as logs:
        async with lending() as server, connected(server.port) as client:
            replies = [await client.ask(post(b"{}", target="/empty")) for _ in range(5)]

    assert [(reply.status, reply.body) for reply in replies] == [(204, b"")] * 5
    assert all(set(reply.headers) == {"date"} for reply in replies)
    assert (logs, caplog.records) == ([], [])


@pytest.mark.parametrize("target", ["/empty", "/echo", "/none"])
async def test_a_client_that_asks_for_the_close_gets_it(target: str) -> None:
    async with lending() as server, connected(server.port) as client:
        reply = await client.ask(post(b"", "Connection: close", target=target))

        assert reply.headers["connection"] == "close"
        assert await client.wait_closed() == b""


async def test_an_idle_connection_is_closed_after_an_answer_of_quart(
    autojump_clock: MockClock,
) -> None:
    async with lending() as server, connected(server.port) as client:
        await client.ask(post(b"{}", target="/echo"))
        started = trio.current_time()

        assert await client.wait_closed(timeout_s=100) == b""
        assert trio.current_time() - started == pytest.approx(IDLE_TIMEOUT_S, abs=0.3)


async def test_a_handler_that_raises_is_answered_and_the_connection_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with lending() as server, connected(server.port) as client:
        assert (await client.ask(get("/bug"))).status == 500
        assert (await client.ask(post(b"after", target="/echo"))).body == b"after"
    assert [record.exc_info is not None for record in caplog.records] == [True]


async def test_an_answer_that_breaks_off_ends_its_connection_alone() -> None:
    async with lending() as server, connected(server.port) as neighbour:
        async with connected(server.port) as client:
            await client.stream.send_all(get("/torn"))
            received = await client.wait_closed()

        assert b"the start" in received
        assert not received.endswith(b"0\r\n\r\n")
        assert (await neighbour.ask(post(b"on", target="/echo"))).body == b"on"


def small_buffer(client: Client) -> None:
    client.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)


async def test_a_client_that_never_reads_is_cut_and_blocks_nobody() -> None:
    async with lending() as server, connected(server.port) as neighbour:
        async with connected(server.port) as client:
            small_buffer(client)
            await client.stream.send_all(get("/large"))
            for _ in range(20):
                assert (await neighbour.ask(post(b"on", target="/echo"))).body == b"on"


async def test_a_write_that_makes_no_progress_is_given_up_in_time(
    autojump_clock: MockClock,
) -> None:
    async with lending() as server, connected(server.port) as client:
        small_buffer(client)
        started = trio.current_time()
        await client.stream.send_all(get("/large"))
        await wait_all_tasks_blocked()
        assert len(server.connections) == 1

        await trio.sleep(SEND_TIMEOUT_S + 0.1)

        assert len(server.connections) == 0
        assert trio.current_time() - started == pytest.approx(SEND_TIMEOUT_S, abs=0.2)


@pytest.mark.slow
async def test_a_slow_reader_that_makes_progress_gets_everything(
    autojump_clock: MockClock,
) -> None:
    async with lending() as server, connected(server.port) as client:
        started = trio.current_time()
        await client.stream.send_all(get("/large", "Connection: close"))
        received = 0
        while data := await client.stream.receive_some(16 * SEND_SIZE):
            received += len(data)
            await trio.sleep(SEND_TIMEOUT_S / 10)

        assert received > LARGE
        assert trio.current_time() - started > 3 * SEND_TIMEOUT_S


async def test_a_client_that_closes_its_sending_half_gets_the_answer() -> None:
    async with lending() as server, connected(server.port) as client:
        await client.stream.send_all(get("/wait"))
        await server.gate.entered.wait()
        await client.stream.send_eof()
        await wait_all_tasks_blocked()
        server.gate.opened.set()

        assert (await client.read()).body == b"waited"
        assert await client.wait_closed() == b""
        assert not server.gate.cancelled


async def test_a_reset_ends_the_handler() -> None:
    async with lending() as server:
        async with connected(server.port) as client:
            await client.stream.send_all(get("/wait"))
            await server.gate.entered.wait()
            client.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1" + b"\0" * 7)
    assert server.gate.cancelled


async def test_what_is_pipelined_while_a_request_runs_is_answered_after_it() -> None:
    more = [b"a" * 40_000, b"b" * 40_000, b"c" * 40_000]
    assert sum(map(len, more)) > READ_AHEAD_MAX
    async with lending() as server, connected(server.port) as client:
        await client.stream.send_all(get("/wait"))
        await server.gate.entered.wait()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                client.stream.send_all, b"".join(post(each, target="/echo") for each in more)
            )
            await wait_all_tasks_blocked()
            server.gate.opened.set()

            assert (await client.read()).body == b"waited"
            assert [(await client.read()).body for _ in more] == more


@pytest.mark.parametrize(
    "headers",
    [
        ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"),
        (
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: bKdPyn3u98cTfZJSh4TNeQ==",
        ),
    ],
)
async def test_an_upgrade_is_not_made(headers: tuple[str, ...]) -> None:
    async with lending() as server, connected(server.port) as client:
        server.gate.opened.set()

        assert (await client.ask(get("/wait", *headers))).body == b"waited"
        assert (await client.ask(get("/wait"))).body == b"waited"


async def test_the_answer_to_head_has_no_body_and_the_connection_goes_on() -> None:
    async with lending() as server, connected(server.port) as client:
        server.gate.opened.set()

        head = await client.ask(b"HEAD /wait HTTP/1.1\r\nHost: a\r\n\r\n")

        assert (head.status, head.headers["content-length"]) == (200, "6")
        assert (await client.ask(get("/wait"))).body == b"waited"


# --- a body that is lent while it arrives ---

NDJSON = "Content-Type: application/x-ndjson"
LINES = [b'{"a": 1}\n', b'{"b": ', b"2}\n", b"c" * 100_000 + b"\n", b'{"d": 3}']


async def arrives(server: Server, piece: bytes) -> None:
    """Wait until the handler has been given this much."""
    received = b""
    with trio.fail_after(20):
        while len(received) < len(piece):
            received += await server.gate.pieces.receive()
    assert received == piece


async def test_a_body_in_pieces_reaches_the_handler_piece_by_piece() -> None:
    content = b"".join(LINES)
    head = post(content, NDJSON, target="/messages").removesuffix(content)
    async with lending() as server, connected(server.port) as client:
        for _ in range(2):
            await client.stream.send_all(head + LINES[0])
            await arrives(server, LINES[0])
            for piece in LINES[1:]:
                await client.stream.send_all(piece)
                await arrives(server, piece)

            reply = await client.read()

            assert (reply.status, reply.body) == (200, content)
        assert (await client.ask(post(b"after", target="/echo"))).body == b"after"


async def test_a_body_of_which_nothing_comes_with_the_head_reaches_the_handler() -> None:
    content = b"".join(LINES)
    head = post(content, NDJSON, target="/messages").removesuffix(content)
    async with lending() as server, connected(server.port) as client:
        await client.stream.send_all(head)
        await wait_all_tasks_blocked()
        await client.stream.send_all(content)

        assert (await client.read()).body == content
        assert (await client.ask(post(b"after", target="/echo"))).body == b"after"


async def test_what_follows_the_last_piece_of_a_body_is_the_next_request() -> None:
    content = b"".join(LINES)
    request = post(content, NDJSON, target="/messages")
    cut = len(request) - len(content) + len(LINES[0])
    async with lending() as server, connected(server.port) as client:
        await client.stream.send_all(request[:cut])
        await arrives(server, LINES[0])
        await client.stream.send_all(request[cut:] + post(b"after", target="/echo"))

        assert (await client.read()).body == content
        assert (await client.read()).body == b"after"


async def leave(client: Client, how: str) -> None:
    """End the connection: close it, close its sending half alone, or reset it."""
    if how == "half":
        await client.stream.send_eof()
        await client.wait_closed()
    elif how == "reset":
        client.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1" + b"\0" * 7)
    await client.stream.aclose()


@pytest.mark.parametrize("how", ["closed", "half", "reset"])
async def test_a_peer_that_leaves_in_the_middle_of_its_body_ends_its_handler_alone(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    request = post(b"".join(LINES), NDJSON, target="/messages")
    with capture_logs() as logs:
        async with lending() as server, connected(server.port) as neighbour:
            async with connected(server.port) as client:
                await client.stream.send_all(request[:-50_000])
                await server.gate.pieces.receive()
                await leave(client, how)
            await wait_all_tasks_blocked()

            assert (await neighbour.ask(post(b"on", target="/echo"))).body == b"on"
    assert server.gate.cancelled
    assert (logs, caplog.records) == ([], [])


async def test_an_answer_before_the_end_of_the_body_closes_the_connection() -> None:
    request = post(b"".join(LINES), NDJSON, target="/messages?early")
    async with lending() as server, connected(server.port) as client:
        reply = await client.ask(request[:-50_000])

        assert (reply.status, reply.body) == (413, b"enough")
        assert await client.wait_closed() == b""
        await client.stream.send_all(request[-50_000:] + get("/wait"))  # dropped
    assert not server.gate.entered.is_set()
