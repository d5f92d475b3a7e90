"""The fast lane on connections: answers in order and whole, whatever the peer does meanwhile.

What the answers say is the business of `test_parity.py`.
"""

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from rockets.actors.fleet import FleetLimits
from rockets.domain.messages import Channel
from rockets.journal.memory import MemoryJournal
from rockets.web.connections import ConnectionLimits
from rockets.web.fast_lane import LIST_MAX, ROCKET_ANSWERS_MAX
from rockets.web.front import FrontLimits
from tests.actors.fleets import Gate
from tests.helpers import Client, Reply, body, connected, get, post
from tests.web.apps import Service, running_service
from tests.web.fronts import pair

CLOSE = "Connection: close"
LAUNCHED = post(body("r", 1, "RocketLaunched"))


@asynccontextmanager
async def paired(service: Service, *, full: bool = False) -> AsyncIterator[tuple[Client, int]]:
    """Connect by a pair of sockets with a small buffer to the client, which may be full already.

    Gives the client, and how many bytes it has to read before the first answer.
    """
    near, far = pair()
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    filled = 0
    try:
        while full:
            filled += near.send(b"x" * 65_536)
    except BlockingIOError:
        pass
    service.front.take(near)
    async with far:
        yield Client(far), filled


async def skip(client: Client, count: int) -> None:
    """Read so many bytes that are no answer."""
    while count:
        count -= len(await client.stream.receive_some(count))


async def learn(service: Service, *heads: bytes) -> None:
    """Let the front read these requests once, so that it knows their heads."""
    async with connected(service.port) as client:
        for request in heads:
            await client.ask(request)


async def add_rockets(service: Service, count: int) -> None:
    async with connected(service.port) as client, trio.open_nursery() as nursery:
        posts = b"".join(post(body(f"rocket-{number}", 1)) for number in range(count))
        nursery.start_soon(client.stream.send_all, posts)
        for _ in range(count):
            assert (await client.read()).status == 204


def outcome(reply: Reply) -> tuple[int, str, str]:
    return reply.status, reply.headers["rockets-outcome"], reply.headers["rockets-settled"]


# --- order ---


@pytest.mark.parametrize("known", [False, True])
async def test_messages_that_come_together_are_answered_in_their_order(known: bool) -> None:
    async with running_service() as service, connected(service.port) as client:
        if known:
            await learn(service, *(post(body("other", number)) for number in (8, 18, 108)))
        await client.stream.send_all(b"".join(post(body("r", number)) for number in range(1, 121)))

        replies = [outcome(await client.read()) for _ in range(120)]

        assert [settled for _, _, settled in replies] == [str(number) for number in range(1, 121)]
        assert service.front.statistics().lent_requests == 0


async def test_what_is_lent_and_what_is_not_are_answered_in_their_order() -> None:
    requests = [
        LAUNCHED,
        get("/rockets/r"),
        get("/livez"),
        post(body("r", 2)),
        get("/rockets/r?view=settled"),
        post(b"[" + body("r", 3) + b"," + body("r", 4) + b"]"),
        post(body("r", 5)),
        get("/rockets/r"),
    ]
    async with running_service() as service:
        for _ in range(2):  # the second time the heads are known
            async with connected(service.port) as client:
                await client.stream.send_all(b"".join(requests))
                replies = [await client.read() for _ in requests]

            assert [reply.status for reply in replies] == [204, 200, 200, 204, 200, 200, 204, 200]
            # Who asks after its message sees it.
            assert [replies[at].json["lastMessageNumber"] for at in (4, 7)][1] == 5
        assert service.front.statistics().fast_answers == 2 * 5
        assert service.front.statistics().lent_requests == 2 * 3


async def test_who_asks_behind_its_message_sees_it() -> None:
    async with running_service() as service, connected(service.port) as client:
        for number in range(1, 6):
            await client.stream.send_all(
                post(body("r", number)) + get("/rockets/r") + get("/rockets")
            )

            assert (await client.read()).status == 204
            assert (await client.read()).json["lastMessageNumber"] == number
            rockets = (await client.read()).json["rockets"]
            assert isinstance(rockets, list)
            assert [rocket["lastMessageNumber"] for rocket in rockets] == [number]
        assert service.front.statistics().lent_requests == 0


async def test_a_request_that_comes_while_the_answer_is_awaited_is_answered_after_it() -> None:
    gate = Gate()
    async with running_service(gate=gate) as service, connected(service.port) as client:
        await learn(service, LAUNCHED, get("/rockets/r"))
        gate.shut()
        await client.stream.send_all(post(body("r", 2)))
        await wait_all_tasks_blocked()
        await client.stream.send_all(get("/rockets/r"))
        await wait_all_tasks_blocked()
        gate.open()

        assert outcome(await client.read()) == (204, "applied", "2")
        assert (await client.read()).json["lastMessageNumber"] == 2


# --- what does not fit into the socket ---


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("headers", [(), (CLOSE,)])
async def test_an_answer_that_does_not_fit_arrives_whole_once_the_client_reads(
    headers: tuple[str, ...], known: bool
) -> None:
    asked = get("/rockets", *headers)
    async with running_service() as service:
        await add_rockets(service, 100)
        if known:
            await learn(service, asked)
        lent = service.front.statistics().lent_requests
        async with paired(service) as (client, _):
            await client.stream.send_all(asked)
            await wait_all_tasks_blocked()
            assert service.connections.statistics().busy == 1  # the rest is still to be sent

            reply = await client.read()

            assert reply.json["count"] == 100
            if headers:
                assert await client.wait_closed() == b""
            else:
                assert (await client.ask(get("/rockets/rocket-7"))).status == 200
        assert service.front.statistics().lent_requests == lent


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("headers", [(), (CLOSE,)])
async def test_the_answer_to_a_message_of_who_does_not_read_arrives_once_he_does(
    headers: tuple[str, ...], held: bool, known: bool
) -> None:
    gate = Gate()
    asked = post(body("r", 1), *headers)
    async with running_service(gate=gate) as service:
        if known:
            await learn(service, post(body("s", 1), *headers))
        if held:
            gate.shut()
        async with paired(service, full=True) as (client, filled):
            await client.stream.send_all(asked)
            await wait_all_tasks_blocked()
            gate.open()
            await wait_all_tasks_blocked()
            assert service.connections.statistics().busy == 1

            await skip(client, filled)
            reply = await client.read()

            assert outcome(reply) == (204, "ignored", "1")
            if headers:
                assert await client.wait_closed() == b""
            else:
                assert outcome(await client.ask(asked)) == (204, "duplicate", "1")


@pytest.mark.slow
async def test_a_client_that_sends_a_lot_before_it_reads_gets_every_answer() -> None:
    count = 1_000
    async with running_service() as service, paired(service) as (client, _):
        await learn(service, post(body("s", 1)))
        messages = b"".join(post(body("r", number)) for number in range(1, count + 1))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.stream.send_all, messages)
            await wait_all_tasks_blocked()  # neither side can send any more
            assert service.connections.statistics().busy == 1

            for number in range(1, count + 1):
                assert (await client.read()).headers["rockets-settled"] == str(number)
        assert service.front.statistics().lent_requests == 0


@pytest.mark.slow
async def test_a_slow_reader_that_makes_progress_gets_everything(
    autojump_clock: MockClock,
) -> None:
    async with running_service() as service:
        await add_rockets(service, LIST_MAX)
        async with paired(service) as (client, _):
            started = trio.current_time()
            await client.stream.send_all(get("/rockets", CLOSE))
            received = b""
            while data := await client.stream.receive_some(16 * 1024):
                received += data
                await trio.sleep(FrontLimits().send_timeout_s / 10)

        assert len(json.loads(received.partition(b"\r\n\r\n")[2])["rockets"]) == LIST_MAX
        assert trio.current_time() - started > FrontLimits().send_timeout_s


async def test_a_client_that_never_reads_is_given_up_in_time_and_blocks_nobody(
    autojump_clock: MockClock,
) -> None:
    async with running_service() as service, connected(service.port) as neighbour:
        async with paired(service, full=True) as (client, _):
            started = trio.current_time()
            await client.stream.send_all(LAUNCHED)
            assert (await neighbour.ask(LAUNCHED)).status == 204
            await service.connections.wait_count(1)

            waited = trio.current_time() - started
            assert waited == pytest.approx(FrontLimits().send_timeout_s, abs=0.3)
        assert (await neighbour.ask(LAUNCHED)).status == 204


# --- peers that leave ---


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("headers", [(), (CLOSE,)])
async def test_a_client_that_closes_its_sending_half_behind_its_message_gets_the_answer(
    headers: tuple[str, ...], held: bool, known: bool
) -> None:
    gate = Gate()
    async with running_service(gate=gate) as service, connected(service.port) as client:
        if known:
            await learn(service, post(body("s", 1), *headers))
        if held:
            gate.shut()
        await client.stream.send_all(post(body("r", 1, "RocketLaunched"), *headers))
        await client.stream.send_eof()
        await wait_all_tasks_blocked()
        gate.open()

        assert outcome(await client.read()) == (204, "applied", "1")
        assert await client.wait_closed() == b""


@pytest.mark.parametrize("known", [False, True])
async def test_a_client_that_closes_its_sending_half_behind_many_gets_every_answer(
    known: bool,
) -> None:
    async with running_service() as service, connected(service.port) as client:
        if known:
            await learn(service, post(body("s", 1)))
        await client.stream.send_all(b"".join(post(body("r", number)) for number in range(1, 9)))
        await client.stream.send_eof()

        for number in range(1, 9):
            assert outcome(await client.read()) == (204, "ignored", str(number))
        assert await client.wait_closed() == b""


def reset(client: Client) -> None:
    """Have the close of the connection reset it."""
    client.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


@pytest.mark.parametrize("behind", [b"", LAUNCHED[:30]])
async def test_a_peer_that_resets_while_its_message_is_committed_harms_nobody(
    behind: bytes,
) -> None:
    gate = Gate()
    with capture_logs() as logs:
        async with running_service(gate=gate) as service, connected(service.port) as neighbour:
            await learn(service, post(body("s", 1)))
            gate.shut()
            async with connected(service.port) as client:
                await client.stream.send_all(post(body("r", 1)) + behind)
                await wait_all_tasks_blocked()
                reset(client)
            await neighbour.stream.send_all(post(body("r", 1)))
            await wait_all_tasks_blocked()
            gate.open()

            assert outcome(await neighbour.read()) == (204, "duplicate", "1")  # so it is stored
            await wait_all_tasks_blocked()
            assert service.fleet.statistics().requests_waiting == 0
    assert [line["event"] for line in logs] == ["ledgers_recovered"]


async def test_a_peer_that_leaves_in_the_middle_of_its_answer_harms_nobody() -> None:
    with capture_logs() as logs:
        async with running_service() as service, connected(service.port) as neighbour:
            await add_rockets(service, 100)
            for _ in range(2):
                async with paired(service) as (client, _):
                    await client.stream.send_all(get("/rockets"))
                    await wait_all_tasks_blocked()
            assert (await neighbour.ask(LAUNCHED)).status == 204
    assert [line["event"] for line in logs] == ["ledgers_recovered"]


# --- the end of a connection ---


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("held", [False, True])
async def test_who_asks_for_the_close_gets_it_right_after_the_answer(
    held: bool, known: bool
) -> None:
    gate = Gate()
    async with running_service(gate=gate) as service:
        if known:
            await learn(service, post(body("s", 1), CLOSE))
        async with connected(service.port) as client:
            if held:
                gate.shut()
            await client.stream.send_all(post(body("r", 1), CLOSE))
            await wait_all_tasks_blocked()
            gate.open()
            await wait_all_tasks_blocked()
            assert len(service.connections) == 0  # it does not wait for the client

            reply = await client.read()

            assert outcome(reply) == (204, "ignored", "1")
            assert reply.headers["connection"] == "close"
            assert await client.stream.receive_some(1) == b""  # closed, not reset


@pytest.mark.parametrize("known", [False, True])
async def test_who_asks_for_the_close_and_sends_more_loses_no_answer(known: bool) -> None:
    async with running_service() as service:
        if known:
            await learn(service, post(body("s", 1), CLOSE))
        async with connected(service.port) as client:
            await client.stream.send_all(post(body("r", 1), CLOSE) + post(body("r", 2)))
            await wait_all_tasks_blocked()
            assert service.connections.statistics().closing == 1
            await client.stream.send_all(post(body("r", 3)) * 50)
            await wait_all_tasks_blocked()

            assert outcome(await client.read()) == (204, "ignored", "1")
            assert await client.stream.receive_some(1) == b""  # closed, not reset
        rocket = service.fleet.read_model.rocket(Channel("r"))

    assert rocket is not None
    assert rocket.last_message_number == 1


async def test_a_connection_that_the_lane_has_answered_on_is_closed_when_it_is_idle(
    autojump_clock: MockClock,
) -> None:
    async with running_service() as service, connected(service.port) as client:
        for _ in range(2):
            await client.ask(LAUNCHED)
        started = trio.current_time()

        assert await client.wait_closed(timeout_s=100) == b""
        waited = trio.current_time() - started
        assert waited == pytest.approx(ConnectionLimits().idle_timeout_s, abs=0.3)


async def test_during_a_stop_a_message_that_waits_is_answered_and_its_connection_closed() -> None:
    gate = Gate()
    async with running_service(gate=gate) as service, connected(service.port) as client:
        await learn(service, LAUNCHED)
        gate.shut()
        await client.stream.send_all(post(body("r", 2)) + post(body("r", 3)))
        await wait_all_tasks_blocked()
        service.connections.stop()
        gate.open()

        reply = await client.read()

        assert (outcome(reply), reply.headers["connection"]) == ((204, "applied", "2"), "close")
        assert await client.stream.receive_some(1) == b""
        await client.stream.aclose()
        await service.connections.wait_none_left()
        assert service.fleet.read_model.rocket(Channel("r")).last_message_number == 2  # type: ignore[union-attr]  # it is there


async def test_a_connection_that_is_cut_off_leaves_its_message_to_be_stored() -> None:
    gate, journal = Gate(), MemoryJournal()
    async with running_service(journal, gate=gate) as service, connected(service.port) as client:
        await learn(service, LAUNCHED)
        gate.shut()
        await client.stream.send_all(post(body("r", 2)))
        await wait_all_tasks_blocked()
        service.connections.cut_off()
        assert await client.wait_closed() == b""
        gate.open()

    assert [record.number for record in journal.read("r", 1, 9, limit=9)] == [1, 2]


# --- what the lane waits for, keeps and leaves ---


@pytest.mark.parametrize("together", [False, True])
async def test_a_full_mailbox_makes_the_senders_wait_and_loses_nothing(together: bool) -> None:
    gate = Gate()
    limits = FleetLimits(mailbox_max=1)
    numbers = range(2, 9)
    async with running_service(gate=gate, limits=limits) as service, trio.open_nursery() as nursery:
        await learn(service, LAUNCHED)
        settled: list[str] = []

        async def send(*numbers: int) -> None:
            async with connected(service.port) as client:
                await client.stream.send_all(b"".join(post(body("r", each)) for each in numbers))
                for _ in numbers:
                    reply = await client.read()
                    assert reply.status == 204
                    settled.append(reply.headers["rockets-settled"])

        gate.shut()
        if together:
            nursery.start_soon(send, *numbers)
        else:
            for number in numbers:
                nursery.start_soon(send, number)
        await wait_all_tasks_blocked()
        assert settled == []
        gate.open()

    assert len(settled) == len(numbers)
    assert max(settled) == str(max(numbers))


@pytest.mark.parametrize("cut", [1, 20, len(LAUNCHED) - 1])
async def test_a_message_that_comes_in_pieces_is_taken_too(cut: int) -> None:
    async with running_service() as service, connected(service.port) as client:
        for _ in range(2):
            await client.stream.send_all(LAUNCHED[:cut])
            await wait_all_tasks_blocked()
            assert (await client.ask(LAUNCHED[cut:])).status == 204

        assert service.front.statistics().fast_answers == 2


@pytest.mark.slow
@pytest.mark.parametrize(("count", "lent"), [(LIST_MAX, 0), (LIST_MAX + 1, 1)])
async def test_a_list_that_would_hold_the_loop_is_lent(count: int, lent: int) -> None:
    async with running_service() as service, connected(service.port) as client:
        await add_rockets(service, count)

        answer = (await client.ask(get("/rockets"))).json

        assert (answer["total"], answer["count"]) == (count, min(count, 1_000))
        assert service.front.statistics().lent_requests == lent


async def test_the_answers_that_are_kept_are_bounded_and_never_old() -> None:
    journal = MemoryJournal()
    async with running_service(journal) as service, connected(service.port) as client:
        await add_rockets(service, 3)
        lane = service.front._fast_lane
        assert lane is not None
        for number in (2, 3):
            for each in range(3):
                asked = get(f"/rockets/rocket-{each}")
                first = await client.ask(asked)
                assert (await client.ask(asked)).body == first.body
                await client.ask(post(body(f"rocket-{each}", number)))
                changed = await client.ask(asked)
                assert changed.json["lastMessageNumber"] == number
                assert changed.headers["etag"] != first.headers["etag"]
        assert len(lane._rocket_answers) == 3 <= ROCKET_ANSWERS_MAX
