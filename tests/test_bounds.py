"""Every bound that a client can reach, just under it, at it and just over it, over real HTTP.

Bounds that make a sender wait, and those inside of the service, have their tests beside the code:
`docs/operations.md` names them all.
"""

from pathlib import Path

import pytest

from tests.helpers import (
    Client,
    Reply,
    body,
    both_lanes,
    connected,
    crowd,
    get,
    post,
    serving,
    serving_held,
)

pytestmark = pytest.mark.slow

NDJSON = "Content-Type: application/x-ndjson"


async def answer(port: int, request: bytes) -> Reply:
    """Ask on a new connection."""
    async with connected(port) as client:
        return await client.ask(request)


def problem(reply: Reply) -> tuple[int, str]:
    """The status of a refusal and the name of its problem."""
    return reply.status, str(reply.json["type"]).removeprefix("/problems/")


def padded(content: bytes, size: int) -> bytes:
    """Bring a JSON text to a size."""
    assert len(content) <= size
    return content + b" " * (size - len(content))


@both_lanes
async def test_a_head(tmp_path: Path, lane: str) -> None:
    async with serving(tmp_path, lane, "--head-max", "300", "--headers-max", "4") as server:
        for size, status in ((299, 200), (300, 200), (301, 431)):
            room = size - len(get("/rockets", "X: "))
            reply = await answer(server.port, get("/rockets", "X: " + "a" * room))
            assert reply.status == status
        for count, status in ((3, 200), (4, 200), (5, 431)):
            reply = await answer(server.port, get("/rockets", *["X: a"] * (count - 1)))
            assert reply.status == status
            assert (reply.headers.get("connection") == "close") is (status == 431)


@both_lanes
async def test_a_message(tmp_path: Path, lane: str) -> None:
    async with serving(tmp_path, lane, "--message-max", "1000") as server:
        for size, status in ((999, 204), (1000, 204), (1001, 413)):
            content = padded(body("r", 1), size)
            item = padded(body("r", 1, "Padded", padding=""), 900)
            filled = item.rstrip().replace(b'""', b'"' + b"x" * (size - len(item.rstrip())) + b'"')
            assert (await answer(server.port, post(content))).status == status
            batch = await answer(server.port, post(b"[" + filled + b"]"))
            problems = batch.json["problems"]
            assert isinstance(problems, list)
            assert [each["problem"]["status"] for each in problems] == [413] * (status == 413)


@pytest.mark.parametrize("headers", [(), (NDJSON,)])
async def test_a_batch(tmp_path: Path, headers: tuple[str, ...]) -> None:
    flags = ("--batch-max", "3000", "--message-max", "1000")
    content = b"[" + body("r", 1) + b"]" if not headers else body("r", 1)
    async with serving(tmp_path, *flags) as server:
        for size, status in ((2999, 200), (3000, 200), (3001, 413)):
            reply = await answer(server.port, post(padded(content, size), *headers))
            assert reply.status == status


@pytest.mark.parametrize("headers", [(), (NDJSON,)])
async def test_the_messages_of_a_batch(tmp_path: Path, headers: tuple[str, ...]) -> None:
    async with serving(tmp_path, "--batch-messages-max", "3") as server:
        for count, status in ((2, 200), (3, 200), (4, 413)):
            items = [body("r", n) for n in range(1, count + 1)]
            content = b"\n".join(items) if headers else b"[" + b",".join(items) + b"]"
            reply = await answer(server.port, post(content, *headers))
            assert reply.status == status
        schemas = (await answer(server.port, get("/openapi.json"))).json["components"]
        assert isinstance(schemas, dict)
        assert schemas["schemas"]["Batch"]["maxItems"] == 3


async def begin(client: Client, content: bytes) -> None:
    """Send a body without its last byte, which the server has waited for."""
    head, _, _ = post(content, "Expect: 100-continue").partition(b"\r\n\r\n")
    assert (await client.ask(head + b"\r\n\r\n")).status == 100
    await client.stream.send_all(content[:-1])


async def test_all_bodies_together(tmp_path: Path) -> None:
    flags = ("--bodies-total-max", "20000", "--message-max", "1000", "--batch-max", "15000")
    array = b"[" + body("r", 1) + b"]"
    async with serving(tmp_path, *flags) as server, connected(server.port) as holding:
        await begin(holding, padded(array, 12_001))
        await answer(server.port, get("/livez"))  # what came before it has been read
        async with connected(server.port) as client:
            for size, status in ((7_999, 200), (8_000, 200), (8_001, 503)):
                reply = await client.ask(post(padded(array, size)))
                assert reply.status == status
        assert problem(reply) == (503, "overloaded")
        assert reply.headers["retry-after"] == "1"
        assert (await answer(server.port, post(padded(body("r", 2), 1000)))).status == 204
        assert (await holding.ask(b" ")).status == 200
        assert (await holding.ask(post(padded(array, 15_000)))).status == 200


@both_lanes
async def test_all_answers_together(tmp_path: Path, lane: str) -> None:
    rockets = b"\n".join(body(f"r-{n}", 1, "RocketMissionChanged") for n in range(300))
    async with serving(tmp_path, lane) as server:
        assert (await answer(server.port, post(rockets, NDJSON))).status == 200
        size = len((await answer(server.port, get("/rockets"))).body)
        assert await server.stop() == 0
    assert size > 64 * 1024
    flags = ("--answers-total-max", str(size + 50))
    async with serving(tmp_path, lane, *flags) as server, connected(server.port) as client:
        for number, (more, status) in enumerate(((49, 200), (50, 200), (51, 503)), 2):
            longer = "x" * (len("SHUTTLE_MIR") + more)
            mission = body("r-0", number, "RocketMissionChanged", newMission=longer)
            assert (await client.ask(post(mission))).status == 204
            for _ in range(2):  # the first is given back
                reply = await client.ask(get("/rockets", "X-Request-Id: mine"))
                assert (reply.status, reply.headers["x-request-id"]) == (status, "mine")
                assert status == 503 or len(reply.body) == size + more
            assert (await client.ask(get("/rockets?limit=100"))).status == 200
    assert problem(reply) == (503, "overloaded")
    assert reply.headers["retry-after"] == "1"


@both_lanes
async def test_connections(tmp_path: Path, lane: str) -> None:
    content = body("r", 1)
    async with serving_held(tmp_path, lane, "--connections-max", "64") as held:
        async with crowd(held.port, 63) as clients, connected(held.port) as last:
            for client in clients:
                await client.stream.send_all(post(content))
            # The 64th; what came before it is under way, and it is about to close.
            assert (await last.ask(get("/livez", "Connection: close"))).status == 200
            assert await last.wait_closed() == b""
            async with connected(held.port) as instead:
                # It is busy with what it sends second.
                await instead.stream.send_all(get("/livez") + post(content))
                assert (await instead.read()).status == 200
                over = await answer(held.port, get("/livez"))
                await held.let_go()
                for client in [*clients, instead]:
                    assert (await client.read()).status == 204
        assert problem(over) == (503, "too-many-connections")


WAITING = {
    "requests": (("--requests-waiting-max", "2"), "too many requests wait for a commit"),
    "bytes": (("--waiting-bytes-max", "2000"), "too many bytes wait for a commit"),
    "rockets": (("--actors-max", "2"), "too many rockets are active"),
}


@pytest.mark.parametrize("what", WAITING)
@both_lanes
async def test_what_waits_for_a_commit(tmp_path: Path, lane: str, what: str) -> None:
    flags, detail = WAITING[what]
    async with serving_held(tmp_path, lane, *flags) as held:
        async with connected(held.port) as first, connected(held.port) as second:
            await first.stream.send_all(post(padded(body("r-1", 1), 1000)))
            await second.stream.send_all(post(padded(body("r-2", 1), 1000)))
            await answer(held.port, get("/livez"))  # what came before it is under way
            over = await answer(held.port, post(body("r-3", 1)))
            await held.let_go()
            assert [(await each.read()).status for each in (first, second)] == [204, 204]
        assert problem(over) == (503, "unavailable")
        assert (over.json["detail"], over.headers["retry-after"]) == (detail, "1")
        assert (await answer(held.port, post(body("r-3", 1)))).status == 204


@pytest.mark.parametrize(("flag", "other"), [("--rocket-gaps-max", "a"), ("--total-gaps-max", "b")])
@both_lanes
async def test_runs(tmp_path: Path, lane: str, flag: str, other: str) -> None:
    async with serving(tmp_path, lane, flag, "2") as server:
        for channel, number, status in (
            ("a", 1, 204),
            ("a", 3, 204),
            (other, 5, 204),
            ("a", 7, 503),
            ("a", 2, 204),  # one that closes a gap is always taken, and makes room
            ("a", 7, 204),
        ):
            reply = await answer(server.port, post(body(channel, number)))
            assert reply.status == status, (channel, number)
            assert status == 204 or problem(reply) == (503, "too-many-gaps")


@pytest.mark.parametrize("flags", [("--notes-max", "3"), ("--notes-bytes-max", "9")])
async def test_refused_bodies(tmp_path: Path, flags: tuple[str, ...]) -> None:
    async with serving(tmp_path, *flags) as server:
        for number, (kept, dropped) in enumerate(((1, 0), (2, 0), (3, 0), (3, 1))):
            assert (await answer(server.port, post(b"{%d}" % number))).status == 400
            page = (await answer(server.port, get("/rejections"))).json
            assert page["count"] == kept
            assert page["dropped"] == dropped
