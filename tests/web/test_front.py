"""The front on pairs of sockets, with a lender that echoes bodies in place of Hypercorn."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from rockets.web.batch import BatchBodies
from rockets.web.body_stream import BodyStream
from rockets.web.connections import LINGER_S, SWEEP_INTERVAL_S, Connection, ConnectionLimits
from rockets.web.framing import FramingError
from rockets.web.front import LINGER_BYTES_MAX, Front, FrontLimits, Lent
from tests.helpers import Client, get, post
from tests.web.fronts import Register, pair, running

LIMIT = 64 * 1024
BATCH_MAX = 8 * 1024 * 1024
WHOLE = Lent(answered=True, started=True, keep=True, rest=b"")
Behaviour = Callable[[Connection], Awaitable[Lent]]


class Echo:
    """A lender: answers with the request's body, or as told for a path."""

    def __init__(self, **behaviours: Behaviour) -> None:
        self.requests: list[bytes] = []
        self._behaviours = behaviours

    @property
    def bodies(self) -> list[bytes]:
        return [request.partition(b"\r\n\r\n")[2] for request in self.requests]

    async def __call__(
        self, request: bytes, connection: Connection, *, stream: BodyStream | None = None
    ) -> Lent:
        if stream is not None:
            async for piece in stream.pieces():
                request += piece
        self.requests.append(request)
        name = request.split(b" ")[1].decode().strip("/")
        if name in self._behaviours:
            return await self._behaviours[name](connection)
        await connection.send(ok(self.bodies[-1]))
        return WHOLE


def ok(content: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(content), content)


class Fronted:
    """A front, and clients that reach it over pairs of sockets."""

    def __init__(self, front: Front, connections: Register) -> None:
        self.connections = connections
        self._front = front
        self._clients: list[trio.SocketStream] = []

    def connect(self, sent: bytes = b"") -> Client:
        """Open a connection on which this has already been sent."""
        near, far = pair(sent)
        self._front.take(near)
        self._clients.append(far)
        return Client(far)

    async def close(self) -> None:
        for client in self._clients:
            await client.aclose()


@asynccontextmanager
async def fronted(lend: Echo, limits: ConnectionLimits | None = None) -> AsyncIterator[Fronted]:
    """Run a front; every connection must end by itself once the clients have left."""
    connections = Register(limits)
    front = Front(
        connections=connections,
        lend=lend,
        rules=BatchBodies(LIMIT, BATCH_MAX),
        limits=FrontLimits(bodies_total_max=2 * BATCH_MAX),
    )
    async with running(front, connections):
        opened = Fronted(front, connections)
        yield opened
        await opened.close()


def chunked(*chunks: bytes) -> bytes:
    head = b"POST /messages HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))


def posts(length: int) -> bytes:
    """The head of a request that promises a body of this length."""
    return b"POST /messages HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % length


async def test_requests_on_one_connection_are_answered_one_after_the_other() -> None:
    async with fronted(Echo()) as front:
        client = front.connect()

        replies = [await client.ask(post(content)) for content in (b"one", b"two", b"three")]

    assert [reply.body for reply in replies] == [b"one", b"two", b"three"]


async def test_pipelined_requests_are_all_answered_in_order() -> None:
    async with fronted(Echo()) as front:
        client = front.connect()
        await client.stream.send_all(post(b"one") + chunked(b"t", b"wo") + get("/") + post(b"four"))

        replies = [await client.read() for _ in range(4)]

    assert [reply.body for reply in replies] == [b"one", b"two", b"", b"four"]


@pytest.mark.parametrize("second", [post(b"second"), chunked(b"sec", b"ond")])
async def test_a_pipelined_request_may_be_cut_anywhere(second: bytes) -> None:
    both = post(b"first") + second
    for place in range(1, len(both)):
        async with fronted(Echo()) as front:
            client = front.connect()
            await client.stream.send_all(both[:place])
            await wait_all_tasks_blocked()
            await client.stream.send_all(both[place:])

            assert (await client.read()).body == b"first"
            assert (await client.read()).body == b"second"


async def test_what_the_lender_has_read_ahead_is_the_next_request() -> None:
    async def read_ahead(connection: Connection) -> Lent:
        await connection.send(ok(b"first"))
        rest = await connection.receive(10)
        return Lent(answered=True, started=True, keep=True, rest=rest)

    async with fronted(Echo(ahead=read_ahead)) as front:
        client = front.connect()
        await client.ask(post(b"", target="/ahead"))

        assert (await client.ask(post(b"second"))).body == b"second"


@pytest.mark.parametrize("length", [0, 1, LIMIT - 1, LIMIT])
@pytest.mark.parametrize("write", [post, chunked])
async def test_a_body_up_to_the_limit_is_taken(
    length: int, write: Callable[[bytes], bytes]
) -> None:
    content = b"a" * length
    async with fronted(echo := Echo()) as front:
        client = front.connect()
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.stream.send_all, write(content) if content else post(b""))
                reply = await client.read()

    assert reply.body == content
    assert echo.bodies == [content]


@pytest.mark.parametrize(
    "request_bytes",
    [
        posts(BATCH_MAX + 1),
        posts(10**17),
        posts(10**30),
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n10001\r\n",
    ],
)
async def test_a_body_over_the_limit_is_refused_unread(request_bytes: bytes) -> None:
    async with fronted(echo := Echo()) as front:
        client = front.connect()

        reply = await client.ask(request_bytes)

        assert await client.wait_closed() == b""
    assert (reply.status, reply.json["type"]) == (413, "/problems/content-too-large")
    assert reply.headers["connection"] == "close"
    assert echo.requests == []


async def test_after_a_refusal_no_more_than_the_bound_is_read() -> None:
    sent = 0
    async with fronted(Echo()) as front:
        client = front.connect()
        await client.ask(posts(10**9))
        with pytest.raises(trio.BrokenResourceError):
            while True:
                await client.stream.send_all(b"a" * 65536)
                sent += 65536

    assert sent <= LINGER_BYTES_MAX + 1024 * 1024  # what the system's buffers hold comes on top


async def test_a_client_that_waits_after_a_refusal_is_closed_within_a_second(
    autojump_clock: MockClock,
) -> None:
    async with fronted(Echo()) as front:
        client = front.connect()
        await client.ask(posts(10**9))
        assert await client.wait_closed() == b""  # one half is closed at once
        assert front.connections.statistics().closing == 1
        started = trio.current_time()

        with pytest.raises(trio.BrokenResourceError):
            while True:
                await client.stream.send_all(b"a")
                await trio.sleep(0.01)

        took = trio.current_time() - started
        assert LINGER_S - 0.02 <= took <= LINGER_S + SWEEP_INTERVAL_S + 0.02


async def test_a_refusal_reaches_a_client_that_has_sent_everything_already() -> None:
    async with fronted(Echo()) as front:
        client = front.connect()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.stream.send_all, post(b"a" * 1_000_000))

            assert (await client.read()).status == 413


@pytest.mark.parametrize("write", [post, chunked])
async def test_a_client_that_leaves_anywhere_in_its_request_stores_nothing(
    write: Callable[[bytes], bytes],
) -> None:
    request = write(b"never to be stored")
    echo = Echo()
    for place in range(len(request)):
        async with fronted(echo) as front:
            await front.connect().stream.send_all(request[:place])

    assert echo.requests == []


async def test_a_body_longer_than_its_length_is_not_a_request() -> None:
    async with fronted(echo := Echo()) as front:
        client = front.connect()
        await client.stream.send_all(posts(2) + b"{}garbage\r\n\r\n")

        assert (await client.read()).body == b"{}"
        assert (await client.read()).status == 400
    assert len(echo.requests) == 1


async def test_a_body_is_asked_for_where_the_client_waits_for_that() -> None:
    expecting = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    async with fronted(echo := Echo()) as front:
        client = front.connect()

        assert (await client.ask(expecting)).status == 100
        assert (await client.ask(b"{}")).body == b"{}"
        # A client that has begun to send the body does not wait.
        await client.stream.send_all(expecting + b"[")
        await wait_all_tasks_blocked()
        assert (await client.ask(b"]")).body == b"[]"
        assert (await client.ask(expecting.replace(b"2", b"1000000"))).status == 413
    assert b"expect" not in b"".join(echo.requests)


@pytest.mark.parametrize("start", [posts(10), posts(10) + b"a", chunked(b"ab")[:-8]])
async def test_a_body_that_pauses_is_answered_408(start: bytes, autojump_clock: MockClock) -> None:
    async with fronted(echo := Echo()) as front:
        started = trio.current_time()
        client = front.connect()

        reply = await client.ask(start)

        assert (reply.status, reply.headers["connection"]) == (408, "close")
        assert trio.current_time() - started == pytest.approx(FrontLimits().body_pause_s)
    assert echo.requests == []


async def test_a_body_that_drips_is_answered_408_in_the_end(autojump_clock: MockClock) -> None:
    async with fronted(Echo()) as front, trio.open_nursery() as nursery:
        started = trio.current_time()
        client = front.connect()
        await client.stream.send_all(posts(100))

        async def drip() -> None:
            while True:
                await trio.sleep(9)
                await client.stream.send_all(b"a")

        nursery.start_soon(drip)
        reply = await client.read(timeout_s=100)
        nursery.cancel_scope.cancel()

        assert reply.status == 408
        assert trio.current_time() - started == pytest.approx(FrontLimits().body_total_s)


async def test_a_refusal_of_head_has_no_body() -> None:
    async with fronted(Echo()) as front:
        client = front.connect()

        reply = await client.ask(b"HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")

        assert reply.status == 413
        assert int(reply.headers["content-length"]) > 0
        assert await client.wait_closed() == b""


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        get("/", "Connection: close"),
    ],
)
async def test_the_connection_ends_where_the_client_does_not_keep_it(request_bytes: bytes) -> None:
    async with fronted(echo := Echo()) as front:
        client = front.connect()

        assert (await client.ask(request_bytes)).status == 200
        assert await client.wait_closed() == b""
    assert b"connection: close" in echo.requests[0]


async def test_a_client_that_closes_its_sending_half_gets_every_answer() -> None:
    async with fronted(Echo()) as front:
        client = front.connect()
        await client.stream.send_all(post(b"one") + post(b"two") + post(b"three"))
        await client.stream.send_eof()

        replies = [await client.read() for _ in range(3)]

        assert [reply.body for reply in replies] == [b"one", b"two", b"three"]
        assert await client.wait_closed() == b""


async def test_a_bug_in_the_lender_ends_that_connection_alone() -> None:
    async def crash(connection: Connection) -> Lent:
        raise RuntimeError("a bug")

    with capture_logs() as logs:
        async with fronted(Echo(crash=crash)) as front:
            neighbour = front.connect()
            await neighbour.ask(post(b"before"))
            client = front.connect()
            await client.stream.send_all(get("/crash"))

            assert await client.wait_closed() == b""
            assert (await neighbour.ask(post(b"after"))).body == b"after"
    assert [line["event"] for line in logs] == ["connection_failed"]


async def test_a_request_that_ends_without_an_answer_is_answered_500() -> None:
    async def end(connection: Connection) -> Lent:
        return Lent(answered=False, started=False, keep=False, rest=b"")

    async with fronted(Echo(end=end)) as front:
        client = front.connect()

        reply = await client.ask(get("/end", "X-Request-Id: mine"))

        assert (reply.status, reply.json["requestId"]) == (500, "mine")
        assert await client.wait_closed() == b""


async def test_an_answer_that_stops_in_the_middle_ends_the_connection() -> None:
    async def stop(connection: Connection) -> Lent:
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n1")
        return Lent(answered=False, started=True, keep=False, rest=b"")

    async with fronted(Echo(stop=stop)) as front:
        client = front.connect()
        await client.stream.send_all(get("/stop"))

        assert (await client.wait_closed()).endswith(b"\r\n\r\n1")
        assert len(front.connections) == 0


async def test_with_every_connection_busy_a_new_one_is_told_so() -> None:
    release = trio.Event()

    async def wait(connection: Connection) -> Lent:
        await release.wait()
        await connection.send(ok(b""))
        return WHOLE

    async with fronted(Echo(wait=wait), ConnectionLimits(connections_max=1)) as front:
        busy = front.connect()
        await busy.stream.send_all(get("/wait"))
        await wait_all_tasks_blocked()

        late = front.connect(get("/"))
        reply = await late.read()
        closed = await late.stream.receive_some(1)  # closed, not reset
        release.set()

        assert (reply.status, reply.json["type"]) == (503, "/problems/too-many-connections")
        assert (reply.headers["retry-after"], closed) == ("1", b"")
        assert (await busy.read()).status == 200
        # It is idle now, so it makes room.
        assert (await front.connect().ask(get("/"))).status == 200


async def test_a_stop_lets_the_running_request_end_and_closes_its_connection() -> None:
    release = trio.Event()

    async def wait(connection: Connection) -> Lent:
        await release.wait()
        await connection.send(ok(b"done"))
        return WHOLE

    async with fronted(echo := Echo(wait=wait)) as front:
        busy, idle = front.connect(), front.connect()
        await idle.ask(get("/"))
        await busy.stream.send_all(get("/wait") + get("/next"))
        await wait_all_tasks_blocked()

        front.connections.stop()
        release.set()

        assert await idle.wait_closed() == b""
        assert (await busy.read()).body == b"done"
        assert await busy.wait_closed() == b""
    assert len(echo.requests) == 2


@pytest.mark.parametrize(
    ("request_bytes", "status", "header"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400, None),
        (b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405, "allow"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\n", 417, None),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"a: b\r\n" * 64 + b"\r\n", 431, None),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501, None),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, None),
    ],
)
async def test_a_refusal_is_a_problem_with_all_its_headers(
    request_bytes: bytes, status: int, header: str | None
) -> None:
    async with fronted(echo := Echo()) as front:
        client = front.connect()

        reply = await client.ask(request_bytes)

        assert await client.wait_closed() == b""
    assert reply.status == reply.json["status"] == status
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.headers["x-request-id"] == reply.json["requestId"]
    assert {"date", "content-length", "connection"} <= set(reply.headers)
    assert header is None or header in reply.headers
    assert echo.requests == []


async def test_empty_lines_alone_are_no_request_and_cost_nothing(
    autojump_clock: MockClock,
) -> None:
    async with fronted(echo := Echo()) as front:
        client = front.connect()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.stream.send_all, b"\r\n" * 500_000 + post(b"real"))

            assert (await client.read()).body == b"real"
    assert len(echo.requests) == 1


def big(size: int, start: bytes = b"[", *headers: str) -> bytes:
    """Write a POST of this size to the route that takes batches."""
    return post(start + b" " * (size - len(start)), *headers)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(
    ("start", "size", "status"),
    [
        (b"[", BATCH_MAX - 1, 200),
        (b"[", BATCH_MAX, 200),
        (b"[", BATCH_MAX + 1, 413),
        (b" \n[", LIMIT + 1, 200),
        (b"{", LIMIT, 200),
        (b"{", LIMIT + 1, 413),
        (b" {", BATCH_MAX, 413),
    ],
)
async def test_only_a_batch_may_be_longer_than_a_message(
    start: bytes, size: int, status: int, chunked: bool
) -> None:
    content = start + b" " * (size - len(start))
    request = post(content)
    if chunked:
        head = b"POST /messages HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        request = head + b"%x\r\n%s\r\n0\r\n\r\n" % (size, content)

    async with fronted(Echo()) as front:
        client = front.connect()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_send_or_be_cut, client, request)
            reply = await client.read()
            nursery.cancel_scope.cancel()

    assert reply.status == status
    if status == 200:
        assert reply.body == content


async def _send_or_be_cut(client: Client, request: bytes) -> None:
    # A front that refuses closes, as it should.
    with suppress(trio.BrokenResourceError):
        await client.stream.send_all(request)


async def test_a_large_body_on_another_route_is_refused() -> None:
    async with fronted(Echo()) as front:
        reply = await front.connect().ask(post(b"[" + b" " * LIMIT, target="/elsewhere"))

    assert reply.status == 413


async def test_more_bodies_at_once_than_the_memory_has_room_for_are_told_to_come_again() -> None:
    async with fronted(Echo(messages=_never)) as front:
        waiting = [front.connect() for _ in range(2)]
        for client in waiting:
            await client.stream.send_all(_head_of(BATCH_MAX) + b"[" + b" " * (BATCH_MAX - 2))
        await wait_all_tasks_blocked()
        fitting = await front.connect().ask(post(b"{" + b" " * (LIMIT - 1), target="/elsewhere"))
        refused = await front.connect().ask(_head_of(BATCH_MAX) + b"[" + b" " * LIMIT)
        for client in waiting:
            await client.stream.aclose()
        await wait_all_tasks_blocked()
        small = await front.connect().ask(get("/elsewhere"))

    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    assert refused.json["type"] == "/problems/overloaded"
    assert (fitting.status, small.status) == (200, 200)


async def _never(connection: Connection) -> Lent:
    raise AssertionError("no request of this test is complete")


def _head_of(size: int) -> bytes:
    return b"POST /messages HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size


@pytest.mark.parametrize("chunked", [False, True])
async def test_lines_are_lent_while_they_arrive(chunked: bool) -> None:
    pieces: list[bytes] = []
    arrived = trio.Event()

    class Taking(Echo):
        async def __call__(
            self, request: bytes, connection: Connection, *, stream: BodyStream | None = None
        ) -> Lent:
            assert stream is not None
            async for piece in stream.pieces():
                pieces.append(piece)
                arrived.set()
            await connection.send(ok(b"taken"))
            return Lent(answered=True, started=True, keep=True, rest=stream.rest)

    kind = "Content-Type: application/x-ndjson"
    request = post(b"{}\n" * 10, kind)
    if chunked:
        head = f"POST /messages HTTP/1.1\r\nHost: a\r\n{kind}\r\nTransfer-Encoding: chunked\r\n"
        request = head.encode() + b"\r\n" + b"3\r\n{}\n\r\n" * 10 + b"0\r\n\r\n"
    async with fronted(Taking()) as front:
        client = front.connect()
        await client.stream.send_all(request[:-8])
        await arrived.wait()
        assert front.connections.statistics().receiving == 1
        reply = await client.ask(request[-8:])

    assert reply.body == b"taken"
    assert len(pieces) > 1
    assert b"".join(pieces).endswith(b"0\r\n\r\n" if chunked else b"{}\n")


async def test_a_stream_that_breaks_off_is_refused() -> None:
    class Breaking(Echo):
        async def __call__(
            self, request: bytes, connection: Connection, *, stream: BodyStream | None = None
        ) -> Lent:
            assert stream is not None
            with pytest.raises(FramingError) as raised:
                async for _ in stream.pieces():
                    pass
            return Lent(answered=False, started=False, keep=False, rest=b"", refused=raised.value)

    head = b"POST /messages HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-ndjson\r\n"
    async with fronted(Breaking()) as front:
        client = front.connect()
        reply = await client.ask(head + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcX\r\n")

    assert reply.status == 400
