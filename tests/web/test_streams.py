"""The live feed over real sockets, by the front and by the handler alike."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from rockets.web.connections import LINGER_S, SWEEP_INTERVAL_S
from rockets.web.feed import INTERVAL_MAX_MS, INTERVAL_MIN_MS
from rockets.web.feed_reader import HEARTBEAT_S
from rockets.web.front import LINGER_BYTES_MAX, FrontLimits
from rockets.web.streams import TICK_S
from tests.helpers import body, connected, get, message
from tests.web.apps import Service, running_service
from tests.web.feeds import Event, Follower, Holder

SEND_TIMEOUT_S = FrontLimits().send_timeout_s
both_ways = pytest.mark.parametrize("fast_lane", [True, False], ids=["front", "handler"])


@asynccontextmanager
async def launched(
    *names: str, fast_lane: bool = True, readers_max: int = 1_000
) -> AsyncIterator[Service]:
    """Run a service with these rockets."""
    async with running_service(fast_lane=fast_lane, readers_max=readers_max) as service:
        for name in names:
            await tell(service, name, 1, "RocketLaunched")
        yield service


async def tell(
    service: Service, name: str, number: int, kind: str = "RocketSpeedIncreased"
) -> None:
    """Let a rocket have a message."""
    await service.fleet.ask(name, [message(name, number, kind)], received_at=1)  # type: ignore[arg-type]  # plain names are channels


def names(events: list[Event]) -> list[str]:
    return [event.name for event in events]


async def opened(follower: Follower) -> list[Event]:
    """Read up to `ready`."""
    return await follower.wait("ready")


@both_ways
async def test_a_fresh_stream_follows_the_fleet(fast_lane: bool, autojump_clock: MockClock) -> None:
    async with launched("a", "b", fast_lane=fast_lane) as service:
        with Follower(service.port) as follower:
            opening = await opened(follower)
            await tell(service, "b", 2)
            await tell(service, "b", 3)
            changes = await follower.wait("rocket")

    assert follower.head.startswith("HTTP/1.1 200 \r\n")
    assert names(opening) == ["hello", "rocket", "rocket", "ready"]
    assert opening[0].data["bootId"] == "boot"
    assert [(event.name, event.id) for event in changes] == [("rocket", "boot-4")]
    assert changes[0].data["speed"] == 1_500


async def test_front_and_handler_answer_alike(autojump_clock: MockClock) -> None:
    found = []
    for fast_lane in (True, False):
        async with launched("a", "b", "c", fast_lane=fast_lane) as service:
            target = "/events?status=launched&interval=1000"
            with Follower(service.port, target, "X-Request-Id: r-1") as follower:
                events = await opened(follower)
                await tell(service, "c", 2, "RocketExploded")
                await tell(service, "a", 2)
                events += await follower.wait("gone")
                await trio.sleep(HEARTBEAT_S + 1)
                events += await follower.events()
                service.streams.stop()
                events += await follower.wait_end()
            assert service.front.statistics().lent_requests == (not fast_lane)
            found.append(
                ([line for line in follower.head.split("\r\n") if "ate:" not in line], events)
            )

    assert found[0] == found[1]
    assert names(found[0][1]) == [
        *("hello", "rocket", "rocket", "rocket", "ready", "gone", "rocket", "", "bye")
    ]


async def test_head_gives_the_headers_alone() -> None:
    async with launched() as service, connected(service.port) as client:
        reply = await client.ask(get("/events").replace(b"GET", b"HEAD"))
        assert (await client.ask(get("/livez"))).status == 200

    assert reply.status == 200
    assert reply.headers["content-type"] == "text/event-stream"
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["x-accel-buffering"] == "no"


@both_ways
async def test_a_client_that_comes_back_holds_what_the_service_holds(
    fast_lane: bool, autojump_clock: MockClock
) -> None:
    holder = Holder()
    async with launched("a", "b", fast_lane=fast_lane) as service:
        with Follower(service.port) as follower:
            holder.take(await opened(follower))
        await tell(service, "a", 2)
        await tell(service, "c", 1, "RocketLaunched")
        with Follower(service.port, "/events", f"Last-Event-ID: {holder.last_id}") as follower:
            events = await opened(follower)
            holder.take(events)

    assert names(events) == ["hello", "rocket", "rocket", "ready"]
    assert events[0].data["resumed"] is True
    assert holder.numbers == [2, 3, 4, 4]
    assert {name: rocket["speed"] for name, rocket in holder.rockets.items()} == {
        "a": 1_000,
        "b": 500,
        "c": 500,
    }


@both_ways
@pytest.mark.parametrize(
    ("target", "header", "resumed"),
    [
        ("/events", "boot-1", True),
        ("/events?lastEventId=boot-1", "", True),
        ("/events?lastEventId=other-1", "boot-1", True),  # the header is the newer one
        ("/events?lastEventId=boot-1", "other-1", False),
        ("/events", "other-1", False),
        ("/events", "boot-9", False),
    ],
)
async def test_an_id_comes_as_a_header_or_a_parameter(
    target: str, header: str, resumed: bool, fast_lane: bool, autojump_clock: MockClock
) -> None:
    async with launched("a", fast_lane=fast_lane) as service:
        service.fleet.read_model.changes = None
        headers = [f"Last-Event-ID: {header}"] if header else []
        with Follower(service.port, target, *headers) as follower:
            events = await opened(follower)

    expected = ["hello", "ready"] if resumed else ["hello", "reset", "rocket", "ready"]
    assert names(events) == expected


@both_ways
async def test_without_a_snapshot_only_changes_are_sent(
    fast_lane: bool, autojump_clock: MockClock
) -> None:
    async with launched("a", "b", fast_lane=fast_lane) as service:
        with Follower(service.port, "/events?snapshot=no") as follower:
            assert names(await opened(follower)) == ["hello", "ready"]
            await tell(service, "b", 2)
            assert names(await follower.wait("rocket")) == ["rocket"]


@both_ways
@pytest.mark.parametrize(
    "query",
    [
        f"interval={INTERVAL_MIN_MS - 1}",
        f"interval={INTERVAL_MAX_MS + 1}",
        "interval=x",
        "snapshot=maybe",
        "sort=channel",
        "limit=5",
        "status=lost",
        "view=latest&view=settled",
        "minSpeed=fast",
    ],
)
async def test_a_wrong_parameter_is_refused(query: str, fast_lane: bool) -> None:
    async with launched(fast_lane=fast_lane) as service, connected(service.port) as client:
        reply = await client.ask(get(f"/events?{query}"))
        assert service.feed.readers == 0

    assert reply.status == 400
    assert reply.json["type"] == "/problems/bad-parameter"


@pytest.mark.parametrize("interval_ms", [INTERVAL_MIN_MS, 250, INTERVAL_MAX_MS])
async def test_changes_are_told_once_in_an_interval(
    interval_ms: int, autojump_clock: MockClock
) -> None:
    async with launched("a") as service:
        with Follower(service.port, f"/events?interval={interval_ms}") as follower:
            await opened(follower)
            times = []
            for number in range(2, 5):
                await tell(service, "a", number)
                await follower.wait("rocket", timeout_s=100)
                times.append(trio.current_time())

    pauses = [round(1_000 * (later - at)) for at, later in pairwise(times)]
    assert pauses == [interval_ms] * 2


@both_ways
@pytest.mark.parametrize(("readers", "status"), [(1, 200), (2, 200), (3, 503)])
async def test_at_most_so_many_may_read(
    readers: int, status: int, fast_lane: bool, autojump_clock: MockClock
) -> None:
    async with launched(fast_lane=fast_lane, readers_max=2) as service:
        followers = [Follower(service.port) for _ in range(readers - 1)]
        for follower in followers:
            await opened(follower)
        with Follower(service.port) as last:
            await wait_all_tasks_blocked()
            await last.events()
            assert last.status == status
            assert status == 200 or "retry-after: 1" in last.head
            assert status == 200 or b"/problems/too-many-readers" in last._received
        for follower in followers[:1]:
            follower.socket.close()
        await wait_all_tasks_blocked()
        with Follower(service.port) as another:
            await opened(another)
        for follower in followers:
            follower.socket.close()


@both_ways
async def test_a_client_that_goes_is_noticed_while_nothing_is_sent(fast_lane: bool) -> None:
    async with launched("a", fast_lane=fast_lane) as service:
        with Follower(service.port, "/events?interval=15000") as follower:
            await opened(follower)
            assert (service.feed.readers, len(service.connections)) == (1, 1)
        await service.connections.wait_count(0)
        await wait_all_tasks_blocked()

        assert service.feed.readers == 0
        assert not service.streams._following


@pytest.mark.parametrize(("fast_lane", "times"), [(True, 500), (False, 50)])
async def test_clients_that_come_and_go_leave_nothing_behind(fast_lane: bool, times: int) -> None:
    async with launched("a", fast_lane=fast_lane) as service:
        await wait_all_tasks_blocked()
        descriptors = len(os.listdir("/proc/self/fd"))
        tasks = trio.lowlevel.current_statistics().tasks_living
        for start in range(0, times, 50):
            followers = [Follower(service.port) for _ in range(50)]
            for place, follower in enumerate(followers):
                if (start + place) % 3:  # some go before they have got anything
                    await opened(follower)
            for follower in followers:
                follower.socket.close()
        await service.connections.wait_count(0)
        await wait_all_tasks_blocked()

        assert service.feed.readers == 0
        assert len(os.listdir("/proc/self/fd")) == descriptors
        assert trio.lowlevel.current_statistics().tasks_living == tasks


# --- readers that do not read ----------------------------------------------------------------


async def stalled(service: Service) -> Follower:
    """Give a client whose socket is full, so that it has been told something in vain."""
    follower = Follower(service.port, buffer=4_096)
    await opened(follower)
    number = 2
    while not service.streams._unsent:
        for place in range(100):
            await tell(service, f"r{place}", number)
        number += 1
        await trio.sleep(0.25)
    return follower


@pytest.mark.parametrize(
    ("waited_s", "left"), [(SEND_TIMEOUT_S - TICK_S, 1), (SEND_TIMEOUT_S + TICK_S, 0)]
)
async def test_who_does_not_read_in_time_is_cut_off(
    waited_s: float, left: int, autojump_clock: MockClock
) -> None:
    async with launched(*(f"r{place}" for place in range(100))) as service:
        with await stalled(service):
            [stream] = service.streams._unsent
            await trio.sleep_until(stream.unsent_since + waited_s)
            await wait_all_tasks_blocked()

            assert len(service.connections) == service.feed.readers == left


async def test_who_reads_again_in_time_gets_all_of_it_and_the_newest_state(
    autojump_clock: MockClock,
) -> None:
    holder = Holder()
    async with launched(*(f"r{place}" for place in range(100))) as service:
        with await stalled(service) as follower:
            await trio.sleep(SEND_TIMEOUT_S / 2)
            await tell(service, "last", 1, "RocketLaunched")
            holder.take([])
            while "last" not in holder.rockets:
                holder.take(await follower.events())
                await trio.sleep(0.05)
            model = service.fleet.read_model
            assert service.streams._unsent == {}
            assert holder.numbers == sorted(holder.numbers)
            assert all(
                model.rocket(name).speed == rocket["speed"]  # type: ignore[arg-type, union-attr]  # names of rockets there are
                for name, rocket in holder.rockets.items()
            )
            await trio.sleep(SEND_TIMEOUT_S + 1)
            assert service.feed.readers == 1


async def test_who_does_not_read_the_fleet_is_cut_off(autojump_clock: MockClock) -> None:
    async with launched() as service:
        for place in range(2_000):
            await tell(service, f"r{place}", 1, "RocketLaunched")
        with Follower(service.port, buffer=4_096):
            await trio.sleep(SEND_TIMEOUT_S - 0.1)
            assert service.feed.readers == 1
            await trio.sleep(0.2)
            assert (service.feed.readers, len(service.connections)) == (0, 0)


# --- its place among the connections -----------------------------------------------------------


async def test_a_stream_is_neither_idle_nor_closed_for_a_newcomer(
    autojump_clock: MockClock,
) -> None:
    async with launched("a") as service:
        limit = service.connections._limits
        service.connections._limits = type(limit)(connections_max=2)
        with Follower(service.port) as follower:
            await opened(follower)
            async with connected(service.port) as idle:
                await idle.ask(get("/livez"))
                await wait_all_tasks_blocked()
                async with connected(service.port) as newcomer:
                    assert (await newcomer.ask(get("/livez"))).status == 200
                    await idle.wait_closed()
                await service.connections.wait_count(1)
            await trio.sleep(100)
            await tell(service, "a", 2)
            assert "rocket" in names(await follower.wait("rocket"))


@pytest.mark.parametrize(("sent", "left"), [(LINGER_BYTES_MAX, 1), (LINGER_BYTES_MAX + 1, 0)])
async def test_what_comes_behind_the_request_is_dropped_up_to_a_limit(
    sent: int, left: int, autojump_clock: MockClock
) -> None:
    async with launched("a") as service:
        with Follower(service.port) as follower:
            await opened(follower)
            stream = trio.SocketStream(trio.socket.from_stdlib_socket(follower.socket))
            await stream.send_all(b"x" * sent)
            await wait_all_tasks_blocked()

            assert len(service.connections) == left


# --- a stop ------------------------------------------------------------------------------------


@both_ways
async def test_a_stop_says_goodbye_and_ends_the_stream(
    fast_lane: bool, autojump_clock: MockClock
) -> None:
    async with launched("a", fast_lane=fast_lane) as service:
        with Follower(service.port) as follower:
            await opened(follower)
            service.connections.stop()
            service.streams.stop()
            [bye] = await follower.wait_end()

            assert follower.ended
            assert bye.name == "bye"
            assert bye.retry_ms == bye.data["retryMs"]
            await trio.sleep(LINGER_S + 2 * SWEEP_INTERVAL_S)
            assert (service.feed.readers, len(service.connections)) == (0, 0)


async def test_a_stop_cuts_off_who_does_not_read(autojump_clock: MockClock) -> None:
    async with launched(*(f"r{place}" for place in range(100))) as service:
        with await stalled(service):
            service.streams.stop()

            assert (service.feed.readers, len(service.connections)) == (0, 0)


async def test_a_stop_says_goodbye_to_who_is_being_sent_the_fleet(
    autojump_clock: MockClock,
) -> None:
    async with launched() as service:
        for place in range(2_000):
            await tell(service, f"r{place}", 1, "RocketLaunched")
        with Follower(service.port, buffer=4_096) as follower:
            await wait_all_tasks_blocked()
            [stream] = service.streams._opening
            assert stream.writing
            service.streams.stop()
            events = await follower.wait_end()

    assert names(events)[0] == "hello"
    assert names(events)[-1] == "bye"
    assert "ready" not in names(events)
    assert follower.ended


async def test_a_message_is_not_a_change_until_it_is_durable(autojump_clock: MockClock) -> None:
    async with launched("a") as service:
        with Follower(service.port) as follower:
            await opened(follower)
            async with connected(service.port) as client:
                request = body("a", 1, "RocketLaunched")  # a duplicate
                head = b"POST /messages HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
                assert (await client.ask(head % len(request) + request)).status == 204
            await trio.sleep(1)
            assert await follower.events() == []
