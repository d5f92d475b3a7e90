"""Several instances on one store: they all show the same, and never less than was acknowledged."""

from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from rockets.actors import replica as replica_module
from rockets.actors.crashes import CRASHES_MAX
from rockets.actors.fleet import FleetLimits
from rockets.actors.followed import Followed
from rockets.actors.part import AwaitedPart
from rockets.actors.replica import ReplicaUnavailable
from rockets.actors.waiting import FleetUnavailable
from rockets.domain.ledger import Ledger
from rockets.domain.messages import Channel, Message, decode_message
from rockets.domain.rocket import Rocket, fold
from rockets.journal.base import JournalBehind, Position
from rockets.journal.thread import T, inline
from tests.actors.fleets import Gate, ask
from tests.actors.instances import Instance, Late, Side, Store, gaps_of, running_instance
from tests.helpers import message

CHANNELS = ("a", "b", "c")


def said(channel: str, number: int, content: int) -> Message:
    """A message of this content; two contents of one number are in conflict."""
    if number == 1:
        return message(channel, 1, "RocketLaunched", type="A", launchSpeed=content, mission="M")
    if content == 2:
        return message(channel, number, "RocketExploded", reason="X")
    return message(channel, number, by=content + 1)


def folded(store: Store) -> dict[str, tuple[Rocket, Rocket]]:
    """Every rocket as the specification makes it of what the store holds."""
    stored: dict[str, list[Message]] = {}
    for record in store.journal.follow(Position(0), limit=10**6):
        stored.setdefault(record.stream, []).append(decode_message(record.body))
    conflicts = store.journal.count_notes("conflict")
    return {
        channel: (
            fold(Channel(channel), messages, view="latest", conflicts=conflicts.get(channel, 0)),
            fold(Channel(channel), messages, view="settled", conflicts=conflicts.get(channel, 0)),
        )
        for channel, messages in sorted(stored.items())
    }


def noted(sent: list[Message], store: Store) -> dict[str, int]:
    """How many contents were refused for another one, by rocket: each is one conflict."""
    stored = {
        (record.stream, record.number): decode_message(record.body).payload
        for record in store.journal.follow(Position(0), limit=10**6)
    }
    refused = {
        (each.channel, each.number, each.payload)
        for each in sent
        if stored[each.channel, each.number] != each.payload
    }
    return {
        channel: count
        for channel in CHANNELS
        if (count := sum(each[0] == channel for each in refused))
    }


def passivate(instance: Instance) -> None:
    """End every actor that has nothing to do, as a sweep would after a minute."""
    for channel, entry in list(instance.fleet._entries.items()):
        if entry.quiet:
            instance.fleet._passivate(channel, entry)


async def send_all(instance: Instance, messages: list[Message]) -> None:
    """Send messages of any rockets as one batch."""
    await instance.fleet.ask_all(messages, received_at=1)


SENT = st.tuples(st.integers(0, 2), st.sampled_from(CHANNELS), st.integers(1, 6), st.integers(0, 2))
STEP = st.one_of(SENT, SENT, SENT, st.sampled_from(["turn", "sweep", "read", "quiet"]))


@settings(max_examples=100, deadline=None)
@given(
    steps=st.lists(st.lists(STEP, max_size=6), max_size=12),
    # Where all actors are at work, what is sent to squads is refused in part.
    bounds=st.sampled_from([(1, False), (2, False), (99, False), (99, True)]),
)
async def test_all_instances_show_the_fold_of_what_was_stored(
    steps: list[list[object]], bounds: tuple[int, bool]
) -> None:
    """Duplicates and conflicts to any instance, in batches and beside each other.

    With few actors rockets change them all the time, and sweeps end them, while they are followed;
    batches of several rockets go to squads.
    """
    actors_max, in_squads = bounds
    store, sent = Store(), list[Message]()
    async with AsyncExitStack() as stack:
        limits = FleetLimits(actors_max=actors_max)
        instances = [
            await stack.enter_async_context(running_instance(store, limits=limits))
            for _ in range(3)
        ]
        senders = await stack.enter_async_context(trio.open_nursery())
        parts: list[AwaitedPart] = []
        for together in steps:
            batches: dict[tuple[int, str], list[Message]] = {}
            for step in together:
                if isinstance(step, tuple):
                    place, channel, number, content = step
                    batches.setdefault((place, channel), []).append(said(channel, number, content))
                elif step == "turn":
                    await trio.lowlevel.checkpoint()
                elif step == "sweep":
                    for each in instances:
                        passivate(each)
                elif step == "quiet":
                    await wait_all_tasks_blocked()
                else:
                    await instances[0].replica.wait_caught_up()
            if in_squads:
                for place, instance in enumerate(instances):
                    mine = [
                        each for key, some in batches.items() if key[0] == place for each in some
                    ]
                    senders.start_soon(send_all, instance, mine)
                    sent += mine
                continue
            for (place, channel), messages in batches.items():
                part = AwaitedPart(messages, 1)
                try:
                    await instances[place].fleet.post(Channel(channel), part)
                except FleetUnavailable:
                    continue  # all actors were at work
                parts.append(part)
                sent += messages
        for part in parts:
            await part.wait_replies()
        await wait_all_tasks_blocked()

        expected = folded(store)
        for each in instances:
            assert await each.rockets() == expected
            assert each.fleet.statistics().gaps == gaps_of(each)
        assert store.journal.count_notes("conflict") == noted(sent, store)


async def test_of_two_contents_for_one_number_the_same_one_wins_everywhere() -> None:
    store = Store()
    async with running_instance(store) as one, running_instance(store) as two:
        outcomes: list[str | None] = []

        async def send(instance: Instance, content: int) -> None:
            [reply] = await ask(instance.fleet, said("a", 1, content))
            outcomes.append(reply.outcome)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, one, 0)
            nursery.start_soon(send, two, 1)

        assert sorted(map(str, outcomes)) == ["applied", "conflict"]
        assert await one.rockets() == await two.rockets() == folded(store)
        assert store.journal.count_notes("conflict") == {"a": 1}
        again = [await ask(each.fleet, said("a", 1, n)) for each in (one, two) for n in (0, 1)]
        assert sorted(str(reply.outcome) for [reply] in again) == [
            *["conflict"] * 2,
            *["duplicate"] * 2,
        ]
        assert store.journal.count_notes("conflict") == {"a": 1}


async def test_a_batch_is_judged_by_what_another_instance_has_stored_meanwhile() -> None:
    store, late = Store(), Late()
    async with running_instance(store, read=late) as one, running_instance(store) as two:
        late.shut()  # so that it does not learn of it before
        await ask(two.fleet, said("a", 1, 1))

        replies = await ask(one.fleet, said("a", 1, 0), said("a", 1, 1), said("a", 1, 0))

        assert [reply.outcome for reply in replies] == ["conflict", "duplicate", "conflict"]
        [note] = store.journal.read_notes("conflict", stream="a", limit=9)
        assert decode_message(note.body).payload == said("a", 1, 0).payload
        late.open()
        assert await one.rockets() == await two.rockets() == folded(store)


async def test_a_squad_is_judged_by_what_another_instance_has_stored_meanwhile() -> None:
    store, late = Store(), Late()
    async with running_instance(store, read=late) as one, running_instance(store) as two:
        late.shut()  # so that it does not learn of it before
        await ask(two.fleet, said("a", 1, 1))
        batch = [said("a", 1, 0), said("b", 1, 0), said("a", 1, 1), said("a", 1, 0)]

        replies = await one.fleet.ask_all(batch, received_at=1)

        outcomes = [reply.outcome for reply in replies]
        assert outcomes == ["conflict", "applied", "duplicate", "conflict"]
        [note] = store.journal.read_notes("conflict", stream="a", limit=9)
        assert decode_message(note.body).payload == said("a", 1, 0).payload
        late.open()
        assert await one.rockets() == await two.rockets() == folded(store)


class CutAfter:
    """A hop that cuts the store off behind so many calls."""

    def __init__(self, calls: int) -> None:
        self.left = calls
        self.side: Side | None = None

    async def __call__(self, fn: Callable[..., T], /, *args: object) -> T:
        done = await inline(fn, *args)
        self.left -= 1
        if self.left == 0 and self.side is not None:
            self.side.cut()
        return done


async def test_a_conflict_of_a_squad_that_cannot_be_noted_is_in_doubt_and_no_other() -> None:
    store, late, hop = Store(), Late(), CutAfter(1)
    async with (
        running_instance(store, read=late, write=hop) as one,
        running_instance(store) as two,
    ):
        hop.side = one.side
        late.shut()
        await ask(two.fleet, said("a", 1, 1))

        with pytest.raises(FleetUnavailable, match="no route"):
            await one.fleet.ask_all([said("a", 1, 0), said("b", 1, 0)], received_at=1)

        model = one.fleet.read_model
        assert {channel: model.knows(Channel(channel)) for channel in "ab"} == {
            "a": True,
            "b": True,
        }
        one.side.mend()
        late.open()
        replies = await one.fleet.ask_all([said("a", 1, 0), said("b", 1, 0)], received_at=1)
        assert [reply.outcome for reply in replies] == ["conflict", "duplicate"]
        assert await one.rockets() == await two.rockets() == folded(store)


async def test_a_rocket_in_a_squad_gets_news_in_turn_with_its_messages() -> None:
    store, gate = Store(), Gate()
    async with running_instance(store) as one, running_instance(store, write=gate) as two:
        gate.shut()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_all, two, [said("a", 1, 0), said("b", 1, 0)])
            await wait_all_tasks_blocked()
            await ask(one.fleet, said("a", 2, 0))
            news = await two.fleet.bring(Channel("a"), Followed())
            await wait_all_tasks_blocked()

            assert news is not None
            assert not two.fleet.read_model.knows(Channel("a")), "the squad owns it"
            gate.open()

        await news.wait_brought()
        assert await one.rockets() == await two.rockets() == folded(store)
        assert two.fleet.statistics().gaps == gaps_of(two)
        assert two.fleet.statistics().live_actors == 0


async def test_what_was_acknowledged_by_one_is_shown_by_another_at_once() -> None:
    store = Store()
    async with running_instance(store) as one, running_instance(store) as two:
        for number in range(1, 301):
            writer, reader = (one, two) if number % 2 else (two, one)
            await ask(writer.fleet, said("a", number, 0))

            rocket = await reader.rocket("a")

            assert rocket is not None
            assert rocket.last_message_number == number


async def test_a_read_is_not_content_with_a_question_asked_before_it_came() -> None:
    store, late = Store(), Late()
    async with running_instance(store) as one, running_instance(store, read=late) as two:
        late.shut()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(two.replica.wait_caught_up)
            await wait_all_tasks_blocked()  # the store was asked, its answer is on the way
            await ask(one.fleet, said("a", 1, 0))
            found: list[Rocket | None] = []

            async def read() -> None:
                found.append(await two.rocket("a"))

            nursery.start_soon(read)
            await wait_all_tasks_blocked()
            late.open()

        assert found[0] is not None


async def test_reads_that_come_while_the_store_is_asked_share_the_next_question() -> None:
    store, late = Store(), Late()
    async with running_instance(store, read=late) as one:
        late.shut()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.replica.wait_caught_up)
            await wait_all_tasks_blocked()
            asked = one.side.calls["head"]
            for _ in range(50):
                nursery.start_soon(one.replica.wait_caught_up)
            await wait_all_tasks_blocked()
            late.open()

        assert one.side.calls["head"] == asked + 1


async def test_a_read_that_leaves_takes_no_other_with_it() -> None:
    store, late = Store(), Late()
    async with running_instance(store, read=late) as one:
        late.shut()
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as scope:
                nursery.start_soon(one.replica.wait_caught_up)
                await wait_all_tasks_blocked()
                scope.cancel()
                await one.replica.wait_caught_up()
            late.open()


async def test_own_commits_are_not_read_back() -> None:
    store = Store()
    async with running_instance(store) as one:
        for number in range(1, 101):
            await ask(one.fleet, said(CHANNELS[number % 3], number, 0))
            await one.replica.wait_caught_up()

        assert one.side.calls["follow"] == 1  # of the start
        assert one.replica.statistics().followed == 0
        assert one.replica.statistics().applied_through == 100


async def test_without_any_read_an_instance_follows_by_itself(autojump_clock: MockClock) -> None:
    store = Store()
    async with running_instance(store) as one, running_instance(store) as two:
        version = two.fleet.read_model.version
        await ask(one.fleet, said("a", 1, 0))
        await trio.sleep(0.05)

        model = two.fleet.read_model
        assert model.knows(Channel("a"))
        assert model.version != version
        assert model.changed == {"a"}


async def test_a_list_table_is_told_of_followed_rockets() -> None:
    store = Store()
    async with running_instance(store) as one, running_instance(store) as two:
        two.fleet.read_model.unlisted = set()
        await ask(one.fleet, said("a", 1, 0))
        await two.replica.wait_caught_up()

        assert two.fleet.read_model.unlisted == {"a"}


async def test_a_rocket_with_an_actor_gets_it_in_turn_with_its_messages() -> None:
    store = Store()
    async with running_instance(store) as one, running_instance(store) as two:
        await ask(two.fleet, said("a", 1, 0))
        assert two.fleet.statistics().live_actors == 1
        await ask(one.fleet, said("a", 2, 0))
        await two.replica.wait_caught_up()

        [reply] = await ask(two.fleet, said("a", 2, 1))

        assert (reply.outcome, reply.settled_through) == ("conflict", 2)
        assert await one.rockets() == await two.rockets() == folded(store)


async def test_news_that_wait_beside_a_batch_take_no_answer_of_its() -> None:
    store, gate = Store(), Gate()
    async with running_instance(store) as one, running_instance(store, write=gate) as two:
        gate.shut()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, two.fleet, said("a", 1, 0))
            await wait_all_tasks_blocked()
            await ask(one.fleet, said("b", 1, 0))
            news = await two.fleet.bring(Channel("a"), Followed())
            batch = AwaitedPart([said("a", 2, 0), said("a", 4, 0)], 1)
            await two.fleet.post(Channel("a"), batch)
            gate.open()

        assert news is not None
        await news.wait_brought()
        replies = await batch.wait_replies()
        assert [reply.outcome for reply in replies] == ["applied", "held"]


# --- without the store -------------------------------------------------------------------------


async def test_without_the_store_nothing_is_shown_and_nothing_taken_until_it_is_back(
    autojump_clock: MockClock,
) -> None:
    store = Store()
    async with running_instance(store) as one, running_instance(store) as two:
        await ask(one.fleet, said("a", 1, 0))
        await two.replica.wait_caught_up()
        two.side.cut()
        await ask(one.fleet, said("a", 2, 0))

        began = trio.current_time()
        with pytest.raises(ReplicaUnavailable, match="no route"):
            await two.replica.wait_caught_up()
        with pytest.raises(FleetUnavailable, match="no route"):
            await ask(two.fleet, said("b", 1, 0))
        assert trio.current_time() == began, "at once"
        await trio.sleep(60)
        assert two.replica.stale_s() == pytest.approx(60, abs=1)

        two.side.mend()
        assert await two.rockets() == folded(store)
        await ask(two.fleet, said("b", 1, 0))
        assert await one.rockets() == await two.rockets() == folded(store)
        assert two.replica.stale_s() == 0
        assert two.replica.trouble() is None


@pytest.mark.parametrize(("since_s", "is_cut_off"), [(1.9, False), (2.0, True), (2.1, True)])
async def test_an_instance_is_not_ready_when_it_is_cut_off_for_two_seconds(
    since_s: float, is_cut_off: bool, autojump_clock: MockClock
) -> None:
    store = Store()
    async with running_instance(store) as one:
        await one.replica.wait_caught_up()
        one.side.cut()

        await trio.sleep(since_s)

        trouble = one.replica.trouble()
        assert (trouble is not None and "cut off" in trouble) == is_cut_off


@pytest.mark.parametrize(("after_s", "is_told"), [(4.9, False), (5.0, True)])
async def test_a_read_waits_only_so_long_for_a_store_that_does_not_answer(
    after_s: float, is_told: bool, autojump_clock: MockClock
) -> None:
    store, late = Store(), Late()
    async with running_instance(store, read=late) as one:
        late.shut()
        told: list[Exception] = []

        async def read() -> None:
            try:
                await one.replica.wait_caught_up()
            except ReplicaUnavailable as error:
                told.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.sleep(after_s)
            await wait_all_tasks_blocked()
            assert bool(told) == is_told
            late.open()


class Slow:
    """A hop that takes a second for each slice of what others stored."""

    async def __call__(self, fn: Callable[..., T], /, *args: object) -> T:
        if "follow" in repr(fn):
            await trio.sleep(1)
        return await inline(fn, *args)


@pytest.mark.parametrize(("after_s", "is_behind"), [(4.9, False), (5.0, False), (5.1, True)])
async def test_an_instance_is_not_ready_when_it_is_more_than_five_seconds_behind(
    after_s: float, is_behind: bool, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica_module, "FOLLOW_RECORDS", 1)
    store = Store()
    async with running_instance(store) as one, running_instance(store, read=Slow()) as two:
        await two.replica.wait_caught_up()
        caught_up_at = trio.current_time()
        await ask(one.fleet, *(said("a", number, 0) for number in range(1, 11)))

        await trio.sleep_until(caught_up_at + after_s)

        trouble = two.replica.trouble()
        assert (trouble is not None and "behind" in trouble) == is_behind
        await trio.sleep(10)
        assert two.replica.trouble() is None


async def test_a_store_that_has_lost_something_ends_all_service(
    autojump_clock: MockClock,
) -> None:
    store = Store()
    async with running_instance(store) as one:
        await ask(one.fleet, said("a", 1, 0))
        one.side.error = JournalBehind("the store ends at 0, 1 was there")

        with pytest.raises(ReplicaUnavailable, match="ends at 0"):
            await one.replica.wait_caught_up()

        assert isinstance(one.writer.failure, JournalBehind)
        one.side.mend()  # it stays lost
        with pytest.raises(ReplicaUnavailable, match="ends at 0"):
            await one.replica.wait_caught_up()
        with pytest.raises(ReplicaUnavailable, match="ends at 0"):
            one.replica.stale_s()
        with pytest.raises(FleetUnavailable):
            await ask(one.fleet, said("a", 2, 0))
        await trio.sleep(5)  # and nobody asks for ever
        asked = one.side.calls.total()
        await trio.sleep(5)
        assert one.side.calls.total() == asked


@pytest.mark.usefixtures("quiet")
async def test_a_rocket_cannot_be_restored_without_the_store_and_is_later() -> None:
    store = Store()
    async with running_instance(store) as one:
        await ask(one.fleet, said("a", 1, 0))
        crash(one, times=1)
        with pytest.raises(FleetUnavailable, match="crashed"):
            await ask(one.fleet, said("a", 2, 0))
        one.side.cut()
        for _ in range(2 * CRASHES_MAX):
            with pytest.raises(FleetUnavailable, match="no route"):
                await ask(one.fleet, said("a", 3, 0))
        one.side.mend()

        await ask(one.fleet, said("a", 3, 0))

        assert await one.rockets() == folded(store)
        assert one.fleet.statistics().restarts == 1, "being cut off is no crash"


# --- crashes -----------------------------------------------------------------------------------


@pytest.fixture
def quiet() -> Iterator[None]:
    """Write no tracebacks: a second each."""
    with capture_logs():
        yield


def crash(instance: Instance, *, times: int, channel: str = "a") -> None:
    """Let the next times that a rocket with an actor is published fail."""
    publish = instance.fleet.read_model.publish
    left = times

    def failing(ledger: Ledger) -> None:
        nonlocal left
        if ledger.channel == channel and left:
            left -= 1
            raise RuntimeError("planted")
        publish(ledger)

    instance.fleet.read_model.publish = failing  # type: ignore[method-assign]  # a planted fault
    for entry in instance.fleet._entries.values():
        entry.actor._publish = failing


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("times", [1, CRASHES_MAX - 1])
async def test_an_actor_that_crashes_over_what_was_followed_is_restored_with_it(
    times: int,
) -> None:
    store = Store()
    async with running_instance(store) as one, running_instance(store) as two:
        await ask(two.fleet, said("a", 1, 0))
        crash(two, times=times)
        await ask(one.fleet, said("a", 2, 0), said("a", 4, 0))
        await ask(one.fleet, said("b", 1, 0))

        assert await two.rockets() == folded(store)
        assert two.fleet.statistics().restarts == times
        assert two.fleet.statistics().gaps == gaps_of(two) == 1


@pytest.mark.usefixtures("quiet")
async def test_a_rocket_that_crashes_again_and_again_holds_up_no_other(
    autojump_clock: MockClock,
) -> None:
    store = Store()
    async with running_instance(store) as one, running_instance(store) as two:
        await ask(two.fleet, said("a", 1, 0))
        crash(two, times=CRASHES_MAX)
        await ask(one.fleet, said("a", 2, 0))
        await ask(one.fleet, said("b", 1, 0))

        rocket = await two.rocket("b")
        assert rocket is not None
        await trio.sleep(61)
        await ask(one.fleet, said("a", 3, 0))

        assert await two.rockets() == folded(store)


# --- stopping ------------------------------------------------------------------------------------


async def test_an_instance_stops_while_it_follows() -> None:
    store, late = Store(), Late()
    async with running_instance(store) as one:
        async with running_instance(store, read=late):
            await ask(one.fleet, said("a", 1, 0))
        await ask(one.fleet, said("a", 2, 0))
