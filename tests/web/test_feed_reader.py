"""Readers of the live feed, whatever changes while they read, however slow they are."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import Any, TypeAlias

import msgspec
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from rockets.actors.changes import Changes
from rockets.actors.listing import ListQuery, matches
from rockets.actors.read_model import ReadModel
from rockets.actors.rocket_lists import RocketLists, open_rocket_lists
from rockets.domain.messages import Channel
from rockets.domain.rocket import Rocket
from rockets.journal.thread import inline
from rockets.web import feed as feed_module
from rockets.web import feed_events, feed_reader
from rockets.web.feed import INTERVAL_MAX_MS, INTERVAL_MS, Feed, FeedQuery
from rockets.web.feed_events import Gone
from rockets.web.feed_reader import HEARTBEAT_S, Behind, Reader, Told, next_time
from tests.helpers import message
from tests.web.feeds import Event, Holder, read_events

A, B, C = Channel("a"), Channel("b"), Channel("c")
Fact: TypeAlias = tuple[str, int, str, dict[str, Any]]  # rocket, number, type and content

LAUNCH_A = ("RocketLaunched", {"type": "T", "launchSpeed": 5, "mission": "A"})
LAUNCH_B = ("RocketLaunched", {"type": "T", "launchSpeed": 9, "mission": "B"})
FASTER = ("RocketSpeedIncreased", {"by": 3})
TO_A = ("RocketMissionChanged", {"newMission": "A"})
TO_B = ("RocketMissionChanged", {"newMission": "B"})
END = ("RocketExploded", {"reason": "X"})
EVERY = ListQuery()
LAUNCHED = ListQuery(statuses=frozenset({"launched"}))
ON_A = ListQuery(missions=frozenset({"A"}))
SLOW = ListQuery(speed_max=6, view="settled")
WHOLE = ListQuery(complete=True)


class World:
    """A read model, its feed, and what has been published."""

    def __init__(self, lists: RocketLists, model: ReadModel, *, boot_id: str = "boot") -> None:
        self.model = model
        self.feed = Feed(model, lists, boot_id=boot_id)
        self.published: list[Channel] = []

    def publish(self, name: str, number: int, kind: str, content: dict[str, Any]) -> None:
        """Let a rocket have a message; a number that is taken changes nothing."""
        arrived = message(name, number, kind, **content)
        ledger = self.model.take_over(arrived.channel)
        ledger.apply(number, arrived.payload, arrived.time)
        self.model.publish(ledger)
        self.model.retire(arrived.channel)
        self.published.append(arrived.channel)

    def matching(self, query: ListQuery) -> dict[str, Any]:
        """What a client with these filters must hold."""
        shown = (self.model.rocket(channel, query.view) for channel in self.model.channels())
        return {
            rocket.channel: as_sent(rocket)
            for rocket in shown
            if rocket is not None and matches(rocket, query)
        }

    def reader(
        self,
        rockets: ListQuery = EVERY,
        *,
        snapshot: bool = True,
        last_event_id: str | None = None,
        interval_ms: int = INTERVAL_MS,
    ) -> Reader:
        """Make a reader."""
        query = FeedQuery(
            rockets=rockets,
            snapshot=snapshot,
            last_event_id=last_event_id,
            interval_ms=interval_ms,
        )
        return Reader(self.feed, query, retry_ms=1)

    def changed_since(self, number: int) -> set[Channel]:
        """Which rockets have changed after a change."""
        return set(self.published[number:])


def as_sent(rocket: Rocket) -> Any:
    return msgspec.json.decode(msgspec.json.encode(rocket))


@contextmanager
def small_limits() -> Iterator[None]:
    """Two rockets at once, three in a snapshot, three names for filters."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feed_module, "ROCKETS_AT_ONCE", 2)
        patch.setattr(feed_reader, "ROCKETS_AT_ONCE", 2)
        patch.setattr(feed_reader, "SNAPSHOT_MAX", 3)
        patch.setattr(feed_reader, "TOLD_MAX", 3)
        yield


class Client:
    """A reader and what it makes of what it is told; it may read on, break off and come back."""

    def __init__(self, world: World, query: FeedQuery) -> None:
        self.world = world
        self.query = query
        self.holder = Holder()
        self.knows_all = False  # it holds every rocket that matches, and nothing else
        # And from the beginning of this stream on, so that no rocket is told gone in vain.
        self._is_followed = False
        self._opening: AsyncGenerator[bytes, None] | None = None
        self._resumes_at: int | None = None
        self._missed: set[Channel] | None = None

    async def connect(self) -> None:
        """Open a stream, the first time or again with the last id."""
        await self.break_off()
        last_id = self.holder.last_id
        query = msgspec.structs.replace(self.query, last_event_id=last_id)
        self.reader = Reader(self.world.feed, query, retry_ms=1)
        self._opening = self.reader.opening()
        self._told: set[str] = set()
        self._resumes_at = None if last_id is None else int(last_id.rpartition("-")[2])

    async def break_off(self) -> None:
        """Close what is open."""
        if self._opening is not None:
            await self._opening.aclose()
            self._opening = None

    async def read(self) -> bool:
        """Take the next text; says whether there was one."""
        if self._opening is not None:
            text = await anext(self._opening, None)
            if text is None:
                self._opening = None
                return True
            self._take(read_events(text))
            return True
        try:
            following = self.world.feed.round()
            text = self.reader.news(0.0, following)
        except Behind:
            self._opening = self.reader.reopening()
            return True
        self._take(read_events(text))
        return bool(text) or self.reader.has_more

    async def read_all(self) -> None:
        """Read until there is nothing more."""
        while await self.read():
            pass

    def _take(self, events: list[Event]) -> None:
        for event in events:
            before = list(self.holder.numbers)
            if event.name in {"rocket", "gone"}:
                self._told.add(event.data["channel"])
            if event.name == "rocket":
                assert matches(msgspec.convert(event.data, Rocket), self.query.rockets)
            if event.name == "gone" and self._is_followed:
                assert event.data["channel"] in self.holder.rockets, "it was told before"
            if event.name == "hello" or len(self.holder.rockets) >= feed_reader.TOLD_MAX:
                self._is_followed = False
            if event.name == "reset" or (event.name == "hello" and not event.data["resumed"]):
                self.knows_all = False
            self.holder.take([event])
            if event.id is not None and before:
                rises = self.holder.numbers[-1] > before[-1]
                assert rises or (event.name == "ready" and self.holder.numbers[-1] >= before[-1])
            if event.name == "hello":
                self._check_hello(event)
            if event.name == "ready":
                self._check_ready(event)

    def _check_hello(self, event: Event) -> None:
        at, changes = self._resumes_at, self.world.model.follow()
        resumed = at is not None and changes.reaches(at)
        assert event.data["resumed"] == resumed
        self._missed = self.world.changed_since(at) if resumed and at is not None else None

    def _check_ready(self, event: Event) -> None:
        count, total = event.data["count"], event.data["total"]
        if self._missed is not None and self.world.model.follow().reaches(self.reader.cursor):
            # It was told of each rocket that it had missed, and of none but those that changed.
            assert self._resumes_at is not None
            assert self._missed <= self._told <= self.world.changed_since(self._resumes_at)
        self._missed = None
        if total is None and not self.query.snapshot:
            if not self.knows_all:
                # Such a client reads the list by now.
                self.holder.rockets |= self.world.matching(self.query.rockets)
        elif total is not None:
            self.knows_all = count == total
            self._is_followed = self.knows_all and count < feed_reader.TOLD_MAX


numbered = st.tuples(
    st.sampled_from("abcde"),
    st.integers(1, 4),
    st.sampled_from([LAUNCH_A, LAUNCH_A, LAUNCH_B, FASTER, TO_A, TO_B, END]),
)
queries = st.builds(
    FeedQuery,
    rockets=st.sampled_from([ListQuery(), LAUNCHED, ON_A, SLOW, WHOLE]),
    snapshot=st.sampled_from([True, True, False]),
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), numbered),
        st.tuples(st.just("publish"), numbered),
        st.tuples(st.just("connect"), st.integers(0, 2)),
        st.tuples(st.just("publish while one reads"), st.tuples(numbered, st.integers(0, 9))),
        st.tuples(st.just("read"), st.integers(0, 2)),
        st.tuples(st.just("read"), st.integers(0, 2)),
        st.tuples(st.just("read all"), st.integers(0, 2)),
    ),
    max_size=40,
)


@given(
    before=st.lists(numbered, max_size=6),
    wanted=st.lists(queries, min_size=3, max_size=3),
    doings=steps,
    changed_max=st.sampled_from([1, 2, 3, 5]),
    exact_max=st.sampled_from([100, 2]),
)
async def test_who_has_caught_up_holds_what_matches(
    before: list[Any],
    wanted: list[FeedQuery],
    doings: list[tuple[str, Any]],
    changed_max: int,
    exact_max: int,
) -> None:
    model = ReadModel()
    with small_limits():
        async with open_rocket_lists(model, hop=inline, exact_max=exact_max) as lists:
            world = World(lists, model)
            for name, number, (kind, content) in before:
                world.publish(name, number, kind, content)
            model.changes = Changes(model.version, changed_max=changed_max)
            clients = [Client(world, query) for query in wanted]
            for client in clients:
                await client.connect()
            for doing, what in doings:
                if doing == "publish":
                    name, number, (kind, content) = what
                    world.publish(name, number, kind, content)
                elif doing == "publish while one reads":
                    (name, number, (kind, content)), turns = what
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(clients[turns % 3].read)
                        for _ in range(turns):
                            await trio.lowlevel.checkpoint()
                        world.publish(name, number, kind, content)
                elif doing == "connect":
                    await clients[what].connect()
                elif doing == "read":
                    await clients[what].read()
                else:
                    await clients[what].read_all()
            for client in clients:
                await client.read_all()

                held = client.holder.rockets
                matching = world.matching(client.query.rockets)
                whole = client.knows_all or not client.query.snapshot
                assert held == (matching if whole else {name: matching.get(name) for name in held})


# --- one thing at a time ------------------------------------------------------------------------


@asynccontextmanager
async def a_world(launched: str, exact_max: int = 100) -> AsyncIterator[World]:
    """Run a world in which these rockets have been launched."""
    model = ReadModel()
    async with open_rocket_lists(model, hop=inline, exact_max=exact_max) as lists:
        world = World(lists, model)
        for name in launched:
            world.publish(name, 1, *LAUNCH_A)
        model.changes = Changes(0)
        for number, name in enumerate(launched, 1):
            model.changes.note(Channel(name), number)
        yield world


async def opened(reader: Reader) -> list[Event]:
    """Read a whole opening."""
    async with aclosing(reader.opening()) as texts:
        return [event for text in [text async for text in texts] for event in read_events(text)]


def told(reader: Reader, world: World, now: float = 0.0) -> list[tuple[str, str]]:
    """Read the news, as names and channels."""
    following = world.feed.round()
    events = read_events(reader.news(now, following))
    return [(event.name, event.data["channel"]) for event in events]


def names(events: list[Event]) -> list[str]:
    return [event.name for event in events]


async def test_a_fresh_stream_is_hello_the_fleet_and_ready() -> None:
    async with a_world("abc") as world:
        reader = world.reader()
        events = await opened(reader)

    assert names(events) == ["hello", "rocket", "rocket", "rocket", "ready"]
    assert [event.id for event in events] == [None] * 4 + ["boot-3"]
    assert events[0].retry_ms is not None
    assert events[-1].data == {"count": 3, "total": 3}


@pytest.mark.parametrize(("rockets", "count"), [(2, 2), (3, 3), (4, 3)])
async def test_a_fleet_is_sent_up_to_its_limit_and_ready_says_how_many_there_are(
    rockets: int, count: int
) -> None:
    with small_limits():
        async with a_world("abcd"[:rockets]) as world:
            events = await opened(world.reader())

    assert names(events).count("rocket") == count
    assert events[-1].data == {"count": count, "total": rockets}


async def test_behind_a_fleet_that_was_not_sent_whole_a_rocket_that_leaves_is_told_gone() -> None:
    with small_limits():
        async with a_world("abcd") as world:
            reader = world.reader(LAUNCHED)
            await opened(reader)
            world.publish("d", 2, *END)

            assert told(reader, world) == [("gone", "d")]


async def test_a_rocket_that_matches_no_more_is_told_gone_once() -> None:
    async with a_world("ab") as world:
        reader = world.reader(LAUNCHED)
        await opened(reader)
        world.publish("a", 2, *END)
        first = told(reader, world)
        world.publish("a", 3, *FASTER)
        world.publish("x", 1, *END)  # never matched

        assert first == [("gone", "a")]
        assert told(reader, world) == []


async def test_who_reads_at_one_change_gets_the_same_bytes() -> None:
    async with a_world("ab") as world:
        readers = [world.reader(), world.reader()]
        for reader in readers:
            await opened(reader)
        world.publish("a", 2, *FASTER)
        following = world.feed.round()

        first, second = (reader.news(0.0, following) for reader in readers)

    assert first is second


async def test_a_rocket_that_changes_often_is_told_once_as_it_is_now() -> None:
    async with a_world("ab") as world:
        reader = world.reader()
        await opened(reader)
        for number in range(2, 50):
            world.publish("a", number, *FASTER)
        [event] = read_events(reader.news(0.0, world.feed.round()))

    assert (event.data["speed"], event.id) == (5 + 48 * 3, "boot-50")


@pytest.mark.parametrize(
    ("interval_ms", "silent_s", "text"),
    [
        (250, HEARTBEAT_S - 0.25, b""),
        (250, HEARTBEAT_S, b": heartbeat\n\n"),
        (5_000, HEARTBEAT_S - 5, b""),
        (8_000, 8, b": heartbeat\n\n"),  # the next chance would be too late
        (INTERVAL_MAX_MS, INTERVAL_MAX_MS / 1_000, b": heartbeat\n\n"),
    ],
)
async def test_a_comment_breaks_a_long_silence(
    interval_ms: int, silent_s: float, text: bytes
) -> None:
    async with a_world("a") as world:
        reader = world.reader(interval_ms=interval_ms)
        await opened(reader)
        world.publish("a", 2, *FASTER)
        assert reader.news(100.0, world.feed.round())

        assert reader.news(100.0 + silent_s, world.feed.round()) == text
        assert reader.news(100.0 + silent_s, world.feed.round()) == b""


@pytest.mark.parametrize(
    "event_id",
    ["", "boot", "boot-", "-1", "boot-x", "boot-4", "other-1", "boot-1-1", "boot-1\n", "boot--1"],
)
async def test_an_id_that_this_run_has_not_given_is_unknown(event_id: str) -> None:
    async with a_world("abc") as world:
        assert world.feed.number(event_id) is None
        assert world.feed.number("boot-3") == 3


@pytest.mark.parametrize(("changed", "resumed"), [(1, True), (2, True), (3, False)])
async def test_a_stream_goes_on_behind_an_id_unless_too_many_rockets_have_changed(
    changed: int, resumed: bool
) -> None:
    async with a_world("abc") as world:
        world.model.changes = Changes(3, changed_max=2)
        for name in "abc"[:changed]:
            world.publish(name, 2, *FASTER)
        events = await opened(world.reader(last_event_id="boot-3"))

    assert events[0].data["resumed"] is resumed
    if resumed:
        assert names(events) == ["hello", *["rocket"] * changed, "ready"]
        assert [event.id for event in events[1:-1]] == [f"boot-{3 + n + 1}" for n in range(changed)]
        assert events[-1].data == {"count": changed, "total": None}
    else:
        assert names(events) == ["hello", "reset", *["rocket"] * 3, "ready"]
        assert events[1].data == {"reason": "tooFarBehind"}


async def test_an_id_of_another_run_gives_reset_and_the_fleet() -> None:
    async with a_world("a") as world:
        events = await opened(world.reader(last_event_id="other-1"))

    assert names(events) == ["hello", "reset", "rocket", "ready"]
    assert events[1].data == {"reason": "unknownId"}


async def test_without_a_snapshot_only_changes_are_told() -> None:
    async with a_world("ab") as world:
        reader = world.reader(snapshot=False)
        events = await opened(reader)
        world.publish("b", 2, *FASTER)

        assert names(events) == ["hello", "ready"]
        assert events[-1].data == {"count": 0, "total": None}
        assert told(reader, world) == [("rocket", "b")]


async def test_what_a_rocket_has_sent_stays_inside_its_event() -> None:
    evil = '\u2028: "\\event: evil'
    async with a_world("") as world:
        reader = world.reader()
        await opened(reader)
        world.publish("a", 1, "RocketLaunched", {"type": evil, "launchSpeed": 1, "mission": evil})
        text = reader.news(0.0, world.feed.round())

    assert text.count(b"\n") == 4
    [event] = read_events(text)
    assert event.data["mission"] == evil


def test_no_data_can_end_its_event() -> None:
    evil = Channel("a\r\n\nevent: evil\rdata: x\n\n")  # no channel may have these

    text = feed_events.event(Gone(evil))

    assert read_events(text) == [Event("gone", {"channel": evil})]
    assert b"\r" not in text


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_limit_of_names_is_kept_by_forgetting_what_a_client_holds(count: int) -> None:
    known = Told(told_max=2)
    known.begin(knowing=True)
    for name in (A, B, C)[:count]:
        known.holds(name)

    assert len(known._names) == (count if count <= 2 else 0)
    assert known.drops(A)  # also where that is not known any more
    assert not known.drops(A)
    assert known.drops(Channel("x")) is (count > 2)


def test_those_who_are_cut_off_together_are_asked_to_come_back_one_by_one() -> None:
    feed = Feed(ReadModel(), None, boot_id="boot")  # type: ignore[arg-type]  # lists nothing
    pauses = [feed.enter() for _ in range(1_000)]

    assert min(pauses) >= 1_000
    assert max(pauses) <= 5_000
    for second in range(1, 5):
        assert 200 <= sum(1_000 * second <= pause < 1_000 * (second + 1) for pause in pauses) <= 300


@given(now=st.floats(0, 1e6), interval_ms=st.sampled_from([50, 250, 333, 60_000]))
def test_the_next_time_is_later_and_soon(now: float, interval_ms: int) -> None:
    """Also at a multiple that has been rounded down."""
    interval_s = interval_ms / 1_000
    for at in (now, next_time(now, interval_ms)):
        assert at < next_time(at, interval_ms) <= at + interval_s * 1.001


def test_the_times_of_an_interval_are_as_far_apart_as_it_says() -> None:
    at = 0.0
    for _ in range(100_000):
        after = next_time(at, 50)
        assert after - at == pytest.approx(0.05)
        at = after
