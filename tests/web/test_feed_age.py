"""The live feed of an instance among others: it tells what they have stored, and when it cannot."""

import math
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple

import pytest
import trio
from trio.testing import MockClock

from rockets.actors.replica import BEHIND_MAX_S, CUT_OFF_S, WATCH_S
from rockets.web.feed import INTERVAL_MS
from tests.actors.fleets import ask
from tests.actors.instances import Instance, Store, running_instance
from tests.helpers import connected, get, message
from tests.web.apps import Service, running_service
from tests.web.feeds import Event, Follower

both_ways = pytest.mark.parametrize("fast_lane", [True, False])

TOLD_S = WATCH_S + INTERVAL_MS / 1_000
"""An instance that is well asks as often as this, and readers are told as often."""


class Pair(NamedTuple):
    """Two instances on one store, of which the second one is read."""

    one: Instance
    two: Instance
    service: Service


@asynccontextmanager
async def pair(*, fast_lane: bool) -> AsyncIterator[Pair]:
    store = Store()
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(running_instance(store))
        two = await stack.enter_async_context(running_instance(store))
        running = running_service(instance=two, fast_lane=fast_lane)
        yield Pair(one, two, await stack.enter_async_context(running))


async def store_at(instance: Instance, name: str, number: int) -> None:
    """Let an instance acknowledge a message."""
    kind = "RocketLaunched" if number == 1 else "RocketSpeedIncreased"
    await ask(instance.fleet, message(name, number, kind))


def told(events: list[Event]) -> list[str]:
    """The names of events and of the rockets among them, without comments."""
    return [
        event.data["channel"] if event.name == "rocket" else event.name
        for event in events
        if event.name
    ]


@both_ways
async def test_what_another_instance_stores_is_told(
    fast_lane: bool, autojump_clock: MockClock
) -> None:
    async with pair(fast_lane=fast_lane) as (one, _, service):
        with Follower(service.port) as follower:
            await follower.wait("ready")
            await store_at(one, "r", 1)
            [event] = await follower.wait("rocket")
            assert event.data["channel"] == "r"


@both_ways
async def test_a_stream_begins_with_all_that_any_instance_had_acknowledged(
    fast_lane: bool, autojump_clock: MockClock
) -> None:
    async with pair(fast_lane=fast_lane) as (one, _, service):
        for number in range(1, 21):
            await store_at(one, "r", number)
            with Follower(service.port) as follower:
                opening = await follower.wait("ready")
                assert opening[1].data["lastMessageNumber"] == number


@both_ways
async def test_an_open_stream_is_told_once_that_it_is_stale_and_that_it_is_not(
    fast_lane: bool, autojump_clock: MockClock
) -> None:
    async with pair(fast_lane=fast_lane) as (one, two, service):
        with Follower(service.port) as follower:
            await follower.wait("ready")
            two.side.cut()
            began = trio.current_time()
            await store_at(one, "r", 1)
            [stale] = await follower.wait("stale")
            since_s = trio.current_time() - began
            assert CUT_OFF_S - TOLD_S <= since_s <= CUT_OFF_S + TOLD_S
            assert since_s <= stale.data["seconds"] <= math.ceil(since_s + TOLD_S)
            await trio.sleep(BEHIND_MAX_S + 1)
            assert told(await follower.events()) == []
            two.side.mend()
            assert told(await follower.wait("fresh")) == ["r", "fresh"]
            await trio.sleep(BEHIND_MAX_S + 1)
            assert told(await follower.events()) == []


@both_ways
async def test_of_a_short_cut_nobody_is_told(fast_lane: bool, autojump_clock: MockClock) -> None:
    async with pair(fast_lane=fast_lane) as (one, two, service):
        with Follower(service.port) as follower:
            await follower.wait("ready")
            two.side.cut()
            await store_at(one, "r", 1)
            await trio.sleep(CUT_OFF_S - TOLD_S)
            two.side.mend()
            assert told(await follower.wait("rocket")) == ["r"]
            await trio.sleep(CUT_OFF_S + 1)
            assert told(await follower.events()) == []


@both_ways
@pytest.mark.parametrize("cut_s", [0, CUT_OFF_S + 1])
async def test_a_stream_that_begins_without_the_store_says_so_first(
    fast_lane: bool, cut_s: float, autojump_clock: MockClock
) -> None:
    async with pair(fast_lane=fast_lane) as (one, two, service):
        await store_at(one, "r", 1)
        await two.replica.wait_caught_up()
        two.side.cut()
        await trio.sleep(cut_s)
        await store_at(one, "s", 1)
        with Follower(service.port) as follower:
            opening = await follower.wait("ready")
            assert told(opening) == ["hello", "stale", "r", "ready"]
            assert cut_s <= opening[1].data["seconds"] <= math.ceil(cut_s + TOLD_S)
            await trio.sleep(1)
            assert told(await follower.events()) == []
            two.side.mend()
            assert told(await follower.wait("fresh")) == ["s", "fresh"]


@both_ways
async def test_an_instance_that_only_takes_messages_has_no_feed(fast_lane: bool) -> None:
    store = Store()
    async with (
        running_instance(store) as instance,
        running_service(instance=instance, role="ingest", fast_lane=fast_lane) as service,
        connected(service.port) as client,
    ):
        reply = await client.ask(get("/events"))
        assert (reply.status, reply.json["type"]) == (421, "/problems/wrong-instance")


@both_ways
async def test_an_instance_that_takes_no_messages_has_one(
    fast_lane: bool, autojump_clock: MockClock
) -> None:
    store = Store()
    async with (
        running_instance(store) as one,
        running_instance(store) as two,
        running_service(instance=two, role="query", fast_lane=fast_lane) as service,
    ):
        with Follower(service.port) as follower:
            await follower.wait("ready")
            await store_at(one, "r", 1)
            assert told(await follower.wait("rocket")) == ["r"]
