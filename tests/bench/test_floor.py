"""The floor answers as HTTP wants it, and keeps a connection unless it is told not to."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from rockets.bench import floor
from tests.helpers import Client, body, connected, get, post


@asynccontextmanager
async def open_floor() -> AsyncIterator[Client]:
    """Serve on a free port, and give one connection to it."""
    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        await nursery.start(trio.serve_listeners, floor.serve, [listener])
        async with connected(listener.socket.getsockname()[1]) as client:
            yield client
        nursery.cancel_scope.cancel()


async def test_every_request_is_answered_and_the_connection_is_kept() -> None:
    async with open_floor() as client:
        for number in range(1, 4):
            assert (await client.ask(post(body("r", number)))).status == 204


async def test_a_request_in_pieces_is_answered_once_and_two_at_once_twice() -> None:
    request = post(body("r", 1))
    async with open_floor() as client:
        await client.stream.send_all(request[:50])
        await trio.testing.wait_all_tasks_blocked()
        assert (await client.ask(request[50:])).status == 204
        assert (await client.ask(request * 2)).status == 204
        assert (await client.read()).status == 204
        assert not client.buffer


async def test_with_connection_close_the_answer_says_it_and_the_connection_ends() -> None:
    async with open_floor() as client:
        await client.ask(post(body("r", 1)))
        reply = await client.ask(post(body("r", 2), "Connection: close"))

        assert (reply.status, reply.headers) == (204, {"connection": "close"})
        assert await client.wait_closed() == b""


@pytest.mark.parametrize("request_", [b"no HTTP\r\n\r\n", b"POST / HTTP/1.1\r\nContent-"])
async def test_what_is_no_request_ends_its_connection_and_no_other(request_: bytes) -> None:
    async with open_floor() as client:
        port = client.stream.socket.getpeername()[1]
        async with connected(port) as other:
            await other.stream.send_all(request_)
            await other.stream.send_eof()
            assert await other.wait_closed() == b""
        assert (await client.ask(get("/"))).status == 204
