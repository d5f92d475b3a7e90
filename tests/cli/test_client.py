"""Both clients, against servers that answer well, badly and not at all."""

import pytest
import trio

from rockets.cli.client import HttpClient
from rockets.cli.connector import ConnectFailed, ReplyCut, ReplyMalformed, parse_url
from rockets.cli.go_client import GoClient
from tests.cli.tiny_server import (
    NO_CONTENT,
    WITH_BODY,
    ok,
    open_refusing_port,
    open_tiny_server,
)

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabcde"
EMPTY = b"HTTP/1.1 200 OK\r\ncontent-length:0\r\n\r\n"
INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"


@pytest.mark.parametrize(
    "reply", [ok(b"abcde"), CHUNKED, UNTIL_CLOSE, INTERIM + ok(b"abcde")], ids=range(4)
)
async def test_a_body_is_read_however_it_is_framed(reply: bytes) -> None:
    async with open_tiny_server(lambda *_: reply) as server, HttpClient(server.url) as client:
        response = await client.request("GET", "/rockets")

    assert (response.status, response.body) == (200, b"abcde")


async def test_request_and_reply_carry_target_body_and_headers() -> None:
    reply = b"HTTP/1.1 204 No Content\r\nRockets-Outcome: applied\r\n\r\n"
    async with open_tiny_server(lambda *_: reply) as server, HttpClient(server.url) as client:
        response = await client.request("POST", "/a?b=c", b"{}", {"Prefer": "x"})

    assert response.headers == {"rockets-outcome": "applied"}
    assert (server.targets, server.bodies) == (["/a?b=c"], [b"{}"])


async def test_requests_in_turn_share_a_connection() -> None:
    async with open_tiny_server(lambda *_: ok(b"x")) as server, HttpClient(server.url) as client:
        for _ in range(3):
            await client.request("GET", "/")

        assert client.connections_opened == len(server.connections) == 1


async def test_an_idle_connection_that_was_closed_is_replaced_before_it_is_used() -> None:
    async with open_tiny_server(lambda *_: NO_CONTENT) as server, HttpClient(server.url) as client:
        await client.request("POST", "/")
        await server.connections[0].aclose()
        response = await client.request("POST", "/")

    assert response.status == 204
    assert client.connections_opened == 2


async def test_a_safe_request_is_sent_again_when_its_old_connection_gives_nothing() -> None:
    replies = iter([ok(b"first"), b"", ok(b"second")])
    async with (
        open_tiny_server(lambda *_: next(replies)) as server,
        HttpClient(server.url) as client,
    ):
        await client.request("GET", "/")
        response = await client.request("GET", "/")

    assert response.body == b"second"


async def test_a_post_is_not_sent_again_when_its_old_connection_gives_nothing() -> None:
    replies = iter([NO_CONTENT, b""])
    async with (
        open_tiny_server(lambda *_: next(replies)) as server,
        HttpClient(server.url) as client,
    ):
        await client.request("POST", "/")
        with pytest.raises(ReplyCut, match="before a reply"):
            await client.request("POST", "/")


BAD_REPLIES = [
    pytest.param(b"", ReplyCut, id="nothing"),
    pytest.param(b"HTTP/1.1 200 OK\r\nConnection: close\r\n", ReplyCut, id="half a head"),
    pytest.param(b"SMTP ready\r\nConnection: close\r\n\r\n", ReplyMalformed, id="not HTTP"),
    pytest.param(
        b"HTTP/1.1 204 No Content\r\nFiller: " + b"x" * 100_000, ReplyMalformed, id="endless head"
    ),
]


@pytest.mark.parametrize(("reply", "error"), BAD_REPLIES)
async def test_a_bad_reply_is_named_and_its_connection_closed(
    reply: bytes, error: type[Exception]
) -> None:
    async with open_tiny_server(lambda *_: reply) as server:
        async with HttpClient(server.url) as client:
            with pytest.raises(error):
                await client.request("GET", "/")
        async with GoClient(server.url) as go_client:
            with pytest.raises(error):
                await go_client.post(b"{}")


async def test_a_body_that_ends_too_early_is_a_cut_reply() -> None:
    reply = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\nabc"
    async with open_tiny_server(lambda *_: reply) as server, HttpClient(server.url) as client:
        with pytest.raises(ReplyCut, match="not complete"):
            await client.request("GET", "/")


async def test_a_port_where_nobody_listens_says_so() -> None:
    async with open_refusing_port() as url, HttpClient(url) as client, GoClient(url) as go_client:
        with pytest.raises(ConnectFailed, match="connection refused"):
            await client.request("GET", "/")
        with pytest.raises(ConnectFailed, match="connection refused"):
            await go_client.post(b"{}")


async def test_a_cancelled_request_closes_its_connection() -> None:
    asked = trio.Event()

    def never(_target: str, _body: bytes) -> bytes:
        asked.set()
        return INTERIM

    async with open_tiny_server(never) as server, GoClient(server.url) as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.post, b"{}")
            await asked.wait()
            nursery.cancel_scope.cancel()
        await server.wait_ended(1)


@pytest.mark.parametrize("reply", [NO_CONTENT, EMPTY, INTERIM + NO_CONTENT], ids=range(3))
async def test_an_empty_reply_lets_go_use_its_connection_again(reply: bytes) -> None:
    async with open_tiny_server(lambda *_: reply) as server, GoClient(server.url) as client:
        for _ in range(3):
            assert await client.post(b"{}") in {200, 204}

        assert (client.connections_opened, client.connections_leaked) == (1, 0)


@pytest.mark.parametrize("reply", [WITH_BODY, CHUNKED, UNTIL_CLOSE], ids=range(3))
async def test_a_reply_with_a_body_leaks_a_connection_of_go(reply: bytes) -> None:
    async with open_tiny_server(lambda *_: reply) as server:
        async with GoClient(server.url) as client:
            for _ in range(3):
                await client.post(b"{}")

            assert (client.connections_opened, client.connections_leaked) == (3, 3)
            assert (len(server.connections), server.ended) == (3, 0)


async def test_a_leaked_connection_stays_open_until_the_client_ends() -> None:
    async with open_tiny_server(lambda *_: WITH_BODY) as server:
        async with GoClient(server.url) as client:
            await client.post(b"{}")
            await client.post(b"{}")
            assert server.ended == 0
        await server.wait_ended(2)


async def test_an_empty_reply_that_says_close_ends_the_connection_of_go() -> None:
    reply = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    async with open_tiny_server(lambda *_: reply) as server, GoClient(server.url) as client:
        statuses = [await client.post(b"{}"), await client.post(b"{}")]

        assert statuses == [503, 503]
        assert (client.connections_opened, client.connections_leaked) == (2, 0)


async def test_go_keeps_two_idle_connections_and_closes_the_third() -> None:
    async with (
        open_tiny_server(lambda *_: NO_CONTENT, hold=3) as server,
        GoClient(server.url) as client,
    ):
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(client.post, b"{}")

        await server.wait_ended(1)
        assert (client.connections_opened, server.ended) == (3, 0)


async def test_go_sends_the_fields_that_its_client_sends() -> None:
    async with open_tiny_server(lambda *_: NO_CONTENT) as server, GoClient(server.url) as client:
        await client.post(b'{"a":1}')

    assert server.heads[0].split(b"\r\n") == [
        b"POST /messages HTTP/1.1",
        b"Host: 127.0.0.1:%d" % server.port,
        b"User-Agent: Go-http-client/1.1",
        b"Content-Length: 7",
        b"Content-Type: application/json",
        b"Accept-Encoding: gzip",
    ]


async def test_a_percent_sign_in_the_address_reaches_the_server_unchanged() -> None:
    async with open_tiny_server(lambda *_: NO_CONTENT) as server:
        async with GoClient(server.url + "?a=%20d") as client:
            await client.post(b"{}")

    assert server.targets == ["/messages?a=%20d"]


@pytest.mark.parametrize(
    "url", ["localhost:8088", "ftp://a/", "http://", "http://a/b c", "http://a:x/", "http://ä/"]
)
def test_what_is_no_address_is_refused_in_one_line(url: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        parse_url(url)


def test_an_address_is_taken_apart() -> None:
    origin = parse_url("http://[::1]:8088/messages?a=b")

    assert (origin.authority, origin.target) == ("[::1]:8088", "/messages?a=b")
    assert parse_url("https://host").port == 443
