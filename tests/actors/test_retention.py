"""Retention: what may go goes, nothing else does, and nobody sees a difference but in the past."""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import trio
from hypothesis import event, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from rockets.actors import history as history_module
from rockets.actors import retention as retention_module
from rockets.actors import rocket_actor as rocket_actor_module
from rockets.actors import squad as squad_module
from rockets.actors import turn as turn_module
from rockets.actors.base import base_of, read_left
from rockets.actors.checkpoints import CheckpointLimits, Checkpoints
from rockets.actors.fleet import Fleet, FleetLimits, open_fleet
from rockets.actors.history import History, MessagesPruned
from rockets.actors.read_model import ReadModel
from rockets.actors.recovery import recover
from rockets.actors.retention import (
    LOOK_INTERVAL_S,
    RECORDS_AT_ONCE,
    Retention,
    RetentionLimits,
    open_retention,
)
from rockets.actors.rocket_actor import fold_stored
from rockets.domain.ledger import RULES, Ledger
from rockets.domain.messages import Channel, Message
from rockets.domain.rocket import Rocket, View
from rockets.journal import (
    Journal,
    JournalFull,
    JournalRefused,
    LedgerRecord,
    Position,
    Pruned,
    Round,
)
from rockets.journal.base import StoredRecord
from rockets.journal.memory import MemoryJournal
from rockets.journal.thread import inline
from rockets.journal.writer import JournalWriter, open_writer
from tests.actors.prunings import prune_through
from tests.helpers import message

NEVER = CheckpointLimits(records=2**40, seconds=2**40)
A, B, C = Channel("a"), Channel("b"), Channel("c")
VIEWS: tuple[View, ...] = ("settled", "latest")


class Service:
    """A fleet, its checkpoints and its retention, which a test sets going; and the time it is."""

    def __init__(
        self,
        fleet: Fleet,
        checkpoints: Checkpoints,
        writer: JournalWriter,
        limits: RetentionLimits,
    ) -> None:
        self.now = 0
        self.fleet = fleet
        self.checkpoints = checkpoints
        self.writer = writer
        self.history = History(writer, fleet.read_model)
        self.retention = Retention(
            writer, fleet.read_model, limits, wall_clock=lambda: self.now * 1_000_000
        )

    async def take(self, *messages: Message, received_at: int = 1) -> list[str | None]:
        """Hand messages of one rocket over, received at this microsecond; gives the outcomes."""
        replies = await self.fleet.ask(messages[0].channel, messages, received_at=received_at)
        return [reply.outcome for reply in replies]

    async def rounds(self, count: int = 2) -> None:
        """Keep all ledgers so many times."""
        for _ in range(count):
            await self.checkpoints.round()


@asynccontextmanager
async def running(
    journal: Journal, *, messages: int = 0, seconds: float = 0
) -> AsyncIterator[Service]:
    """Run until the block ends, and then as after a crash: nothing is kept at the end."""
    read_model = ReadModel()
    limits = RetentionLimits(messages=messages, seconds=seconds)
    async with (
        open_writer(journal, write=inline, read=inline) as writer,
        open_fleet(journal=writer, read_model=read_model, limits=FleetLimits()) as fleet,
    ):
        yield Service(fleet, Checkpoints(writer, read_model, NEVER), writer, limits)


def made(channel: str, number: int, **content: Any) -> Message:
    """The message that has this number: a launch is the first."""
    kind = "RocketLaunched" if number == 1 and not content else "RocketSpeedIncreased"
    return message(channel, number, kind, **content)


def some(channel: str, *numbers: int) -> list[Message]:
    return [made(channel, number) for number in numbers]


def left(journal: Journal, channel: str = "a") -> list[int]:
    """The numbers of a rocket that the journal holds."""
    return [each.number for each in journal.read(channel, 1, 2**53, limit=10**6)]


class Counting(MemoryJournal):
    """Counts what is asked of it, and remembers how much each pruning has removed."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        self.removed: list[int] = []
        self.full = False

    def read(self, stream: str, first: int, last: int, *, limit: int) -> list[StoredRecord]:
        self.calls["read"] += 1
        return super().read(stream, first, last, limit=limit)

    def follow(self, after: Position, *, limit: int) -> list[StoredRecord]:
        self.calls["follow"] += 1
        return super().follow(after, limit=limit)

    def pruned_of(self, stream: str) -> Pruned | None:
        self.calls["pruned_of"] += 1
        return super().pruned_of(stream)

    def prune(self, prunings: Sequence[Pruned], *, limit: int) -> int:
        if self.full:
            raise JournalFull("no space")
        self.removed.append(super().prune(prunings, limit=limit))
        return self.removed[-1]


# What may go


@pytest.mark.parametrize(
    ("messages", "stay"),
    [(1, [6]), (2, [5, 6]), (5, [2, 3, 4, 5, 6]), (6, range(1, 7)), (7, range(1, 7))],
)
async def test_the_newest_settled_messages_stay(messages: int, stay: Sequence[int]) -> None:
    journal = MemoryJournal()
    async with running(journal, messages=messages) as service:
        await service.take(*some("a", 1, 2, 3, 4, 5, 6, 8, 9))
        await service.rounds()

        assert await service.retention.prune() == 6 - len(stay)

    assert left(journal) == [*stay, 8, 9]


@pytest.mark.parametrize(("now", "stay"), [(10, [1, 2, 3]), (11, [2, 3]), (12, [3]), (99, [3])])
async def test_what_is_older_goes_but_for_the_newest_settled_message(
    now: int, stay: list[int]
) -> None:
    journal = MemoryJournal()
    async with running(journal, seconds=10) as service:
        # Received at 10 s before this time, it is not older than 10 s.
        for number in (1, 2, 3):
            await service.take(made("a", number), received_at=number * 1_000_000 - 1_000_000)
        await service.take(made("a", 5), received_at=0)
        await service.rounds()
        service.now = now

        await service.retention.prune()

    assert left(journal) == [*stay, 5]


async def test_a_microsecond_decides() -> None:
    journal = MemoryJournal()
    async with running(journal, seconds=10) as service:
        for number, received_at in ((1, 4_999_999), (2, 5_000_000), (3, 5_000_001)):
            await service.take(made("a", number), received_at=received_at)
        await service.rounds()
        service.now = 15

        await service.retention.prune()

    assert left(journal) == [2, 3]


@pytest.mark.parametrize(
    ("messages", "now", "first"), [(2, 13, 4), (3, 99, 4), (3, 13, 4), (4, 13, 3), (2, 12, 3)]
)
async def test_with_both_limits_only_what_both_let_go_goes(
    messages: int, now: int, first: int
) -> None:
    journal = MemoryJournal()
    async with running(journal, messages=messages, seconds=10) as service:
        for number in range(1, 7):
            await service.take(made("a", number), received_at=(number - 1) * 1_000_000 + 500_000)
        await service.rounds()
        service.now = now

        await service.retention.prune()

    assert left(journal)[0] == first


async def test_both_limits_let_go_later_what_one_has_held() -> None:
    """The number, when more has come; the age, when nothing has."""
    journal = MemoryJournal()
    async with running(journal, messages=2, seconds=10) as service:
        await service.take(*some("a", 1, 2, 3), received_at=0)
        await service.rounds()
        service.now = 99
        await service.retention.prune()
        assert left(journal) == [2, 3]

        await service.take(made("a", 4), received_at=95_000_000)
        await service.rounds()
        await service.retention.prune()
        assert left(journal) == [3, 4]

        await service.take(*some("b", 1, 2, 3), received_at=95_000_000)
        await service.rounds()
        await service.retention.prune()
        assert left(journal, "b") == [1, 2, 3]
        service.now = 106
        await service.retention.prune()
        assert left(journal, "b") == [2, 3]


async def test_a_rocket_that_sends_rarely_keeps_one_message_by_age() -> None:
    """Each was the newest when the walk came to it, and is let go by the next one."""
    journal = MemoryJournal()
    async with running(journal, seconds=10) as service:
        for number in range(1, 6):
            service.now = number * 100
            await service.take(made("a", number), received_at=service.now * 1_000_000)
            await service.rounds()
            service.now += 50
            await service.retention.prune()
            await service.take(made("b", number), received_at=service.now * 1_000_000)
        await service.take(made("c", 1))
        service.now += 500
        await service.rounds()
        await service.retention.prune()

    assert (left(journal), left(journal, "b")) == ([5], [5])


@pytest.mark.parametrize("order", [(1, 2, 3, 4), (2, 3, 4, 1), (4, 3, 2, 1)])
@pytest.mark.parametrize("limits", [{"messages": 1}, {"seconds": 10}])
async def test_nothing_goes_before_it_is_settled(
    order: tuple[int, ...], limits: dict[str, int]
) -> None:
    journal = MemoryJournal()
    async with running(journal, messages=limits.get("messages", 0), seconds=10) as service:
        service.now = 99
        await service.take(made("a", 6))
        for number in order[:3]:
            await service.take(made("a", number))
        await service.take(made("b", 1))
        await service.rounds()
        await service.retention.prune()
        settled = 3 if order[0] == 1 else 0
        assert left(journal) == [*(set(order[:3]) - set(range(1, settled))), 6]

        await service.take(made("a", order[3]))
        await service.take(made("b", 2))
        await service.rounds()
        await service.retention.prune()
        assert left(journal) == [4, 6]


async def test_nothing_goes_that_came_after_the_second_newest_round_began() -> None:
    journal = MemoryJournal()
    async with running(journal, messages=1) as service:
        await service.take(*some("a", 1, 2))
        await service.rounds(1)
        assert await service.retention.prune() == 0

        await service.take(*some("a", 3, 4, 5))
        await service.rounds(1)
        assert await service.retention.prune() == 2

        # The rest waits for the next round, though nothing of the rocket has changed.
        await service.take(*some("b", 1))
        await service.rounds(1)
        assert await service.retention.prune() == 2

    assert left(journal) == [5]


async def test_rounds_of_other_rules_do_not_count() -> None:
    journal = MemoryJournal()
    async with running(journal, messages=1) as service:
        await service.take(*some("a", 1, 2, 3))
        journal.end_round(Round(Position(3), str(RULES + 1), 0))
        await service.rounds(1)
        assert await service.retention.prune() == 0
        await service.rounds(1)
        assert await service.retention.prune() == 2


async def test_a_message_that_came_late_holds_back_those_numbered_above_it() -> None:
    journal = MemoryJournal()
    async with running(journal, messages=1) as service:
        await service.take(*some("a", 1, 3, 4, 5))
        await service.rounds(1)
        await service.take(made("a", 2))
        await service.rounds(1)
        assert await service.retention.prune() == 1
        assert left(journal) == [2, 3, 4, 5]

        await service.take(made("b", 1))
        await service.rounds(1)
        assert await service.retention.prune() == 3


async def test_the_last_record_of_the_journal_stays() -> None:
    journal = MemoryJournal()
    async with running(journal, messages=1) as service:
        await service.take(*some("a", 1, 3, 4, 2))
        await service.rounds()
        assert await service.retention.prune() == 1
        assert journal.pruned_of("a") == Pruned("a", 1, (fold_of(some("a", 1))).pack())


def fold_of(messages: Sequence[Message]) -> Ledger:
    ledger = Ledger(messages[0].channel)
    for each in messages:
        ledger.apply(each.number, each.payload, each.time)
    return ledger


# How


@pytest.mark.parametrize("count", [RECORDS_AT_ONCE - 1, RECORDS_AT_ONCE, RECORDS_AT_ONCE + 1, 250])
async def test_much_goes_in_small_commits(count: int) -> None:
    journal = Counting()
    async with running(journal, messages=1) as service:
        await service.take(*some("a", *range(1, count + 2)))
        await service.take(*some("b", 1))
        await service.rounds()

        assert await service.retention.prune() == count

        full, rest = divmod(count, RECORDS_AT_ONCE)
        assert journal.removed == [RECORDS_AT_ONCE] * full + [rest] * (rest > 0)
        base = await base_of(service.writer, A)
        assert base is not None
        assert base.pack() == (fold_of(some("a", *range(1, count + 1)))).pack()


async def test_little_of_many_rockets_goes_in_one_commit() -> None:
    journal = Counting()
    async with running(journal, messages=1) as service:
        for each in range(60):
            await service.take(*some(f"rocket-{each}", 1, 2, 3))
        await service.take(*some("b", 1))
        await service.rounds()

        assert await service.retention.prune() == 120

    assert journal.removed == [100, 20]


async def test_messages_go_on_between_the_commits() -> None:
    journal = Counting()
    async with running(journal, messages=1) as service, trio.open_nursery() as nursery:
        await service.take(*some("a", *range(1, 502)))
        await service.rounds()
        nursery.start_soon(service.retention.prune)
        seen = []
        for number in range(1, 30):
            await service.take(made("b", number))
            seen.append(len(journal.removed))

    assert sorted(set(seen)) >= [0, 1, 2]
    assert left(journal) == [501]


async def test_a_full_journal_puts_it_off() -> None:
    journal = Counting()
    async with running(journal, messages=1) as service:
        await service.take(*some("a", 1, 2, 3, 4))
        await service.rounds()
        journal.full = True
        with capture_logs() as logs:
            await service.retention.try_prune()
        assert [each["event"] for each in logs] == ["pruning_failed"]
        assert left(journal) == [1, 2, 3, 4]

        journal.full = False
        with capture_logs() as logs:
            await service.retention.try_prune()
        assert logs == [{"event": "pruned", "messages": 3, "log_level": "info"}]
        assert left(journal) == [4]


@pytest.mark.parametrize("limits", [(1, 0), (0, 10)])
async def test_who_has_nothing_to_give_is_not_asked(limits: tuple[int, float]) -> None:
    journal = Counting()
    async with running(journal, messages=limits[0], seconds=limits[1]) as service:
        for each in range(50):
            await service.take(*some(f"rocket-{each}", 1, 2))
        await service.take(made("b", 1))
        await service.rounds()
        service.now = 99
        assert await service.retention.prune() == 50
        journal.calls.clear()

        await service.take(made("rocket-7", 3), received_at=98_000_000)
        await service.rounds()
        await service.retention.prune()

    assert journal.calls["pruned_of"] <= 2
    assert journal.calls["read"] <= 1
    assert journal.calls["follow"] <= 1


async def test_a_start_asks_only_for_rockets_that_have_something_to_give() -> None:
    journal = Counting()
    async with running(journal, messages=2) as service:
        for each in range(50):
            await service.take(*some(f"rocket-{each}", 1, 2, 3))
        await service.take(*some("b", 1, 2))
        await service.rounds()
        await service.retention.prune()
        await service.take(made("rocket-7", 4))
        await service.rounds()

    async with running(journal, messages=2) as service:
        journal.calls.clear()
        assert await service.retention.prune() == 1
        assert journal.calls["pruned_of"] == 1
        await service.take(made("b", 3))
        await service.rounds()
        assert await service.retention.prune() == 1
        assert left(journal, "rocket-7") == [3, 4]


async def test_a_hole_in_what_is_settled_is_not_pruned_over() -> None:
    """Where the journal has lost a message, its base would be wrong for ever."""
    journal = MemoryJournal()
    async with running(journal, messages=1) as service:
        await service.take(*some("a", 1, 2, 3, 4, 5))
        await service.take(made("b", 1))
        await service.rounds()
        del journal._stored["a", 3]
        journal._numbers["a"].remove(3)

        assert await service.retention.prune() == 2

    assert left(journal) == [4, 5]
    assert journal.pruned_of("a") == Pruned("a", 2, fold_of(some("a", 1, 2)).pack())


async def test_it_prunes_after_each_round_and_as_time_goes_by(autojump_clock: MockClock) -> None:
    journal = MemoryJournal()
    started = trio.current_time()

    def now() -> int:
        return round((trio.current_time() - started) * 1_000_000)

    async with running(journal) as service:
        async with open_retention(
            service.writer,
            service.fleet.read_model,
            service.checkpoints,
            RetentionLimits(seconds=LOOK_INTERVAL_S),
            wall_clock=now,
        ):
            await service.take(*some("a", 1, 2, 3), received_at=0)
            await service.take(*some("b", 1))
            await service.rounds()
            await wait_all_tasks_blocked()
            assert left(journal) == [1, 2, 3]
            await trio.sleep(2 * LOOK_INTERVAL_S + 1)
            assert left(journal) == [3]

            await service.take(*some("a", 4, 5), received_at=0)
            await service.rounds()
            await wait_all_tasks_blocked()
            assert left(journal) == [5]
        # It has ended: another round changes nothing.
        await service.take(*some("a", 6, 7), received_at=0)
        await service.take(*some("b", 2))
        await service.rounds()
        await trio.sleep(2 * LOOK_INTERVAL_S + 1)
        assert left(journal) == [5, 6, 7]


async def test_without_limits_there_is_no_retention(autojump_clock: MockClock) -> None:
    journal = Counting()
    async with (
        running(journal) as service,
        open_retention(
            service.writer,
            service.fleet.read_model,
            service.checkpoints,
            RetentionLimits(),
            wall_clock=lambda: 10**18,
        ),
    ):
        await service.take(*some("a", 1, 2, 3))
        await service.rounds()
        await trio.sleep(10 * LOOK_INTERVAL_S)
        assert service.fleet.read_model.unpruned is None
    assert (journal.removed, left(journal)) == ([], [1, 2, 3])


# What others make of it


async def test_a_resend_of_a_pruned_number_is_a_duplicate_whatever_it_says() -> None:
    journal = MemoryJournal()
    async with running(journal, messages=2) as service:
        await service.take(*some("a", 1, 2, 3, 4, 5))
        await service.rounds()
        await service.retention.prune()
    async with running(journal, messages=2) as service:
        before = service.fleet.read_model.rocket(A)

        outcomes = await service.take(
            made("a", 2), made("a", 3, by=1), made("a", 4, by=1), made("a", 5), made("a", 2, by=9)
        )

        assert outcomes == ["duplicate", "duplicate", "conflict", "duplicate", "duplicate"]
        assert left(journal) == [4, 5]
        after = service.fleet.read_model.rocket(A)
        assert before is not None
        assert after == msgspec.structs.replace(before, anomalies=before.anomalies + 1)


class Overtaking(MemoryJournal):
    """Is pruned by its reader's own read, after it, through this number."""

    through = 0

    def read(self, stream: str, first: int, last: int, *, limit: int) -> list[StoredRecord]:
        found = super().read(stream, first, last, limit=limit)
        through, self.through = self.through, 0
        if through:
            prune_through(self, stream, through)
        return found


@pytest.mark.parametrize("through", [0, 1, 999, 1_000, 1_001, 2_000, 2_500])
async def test_a_fold_that_is_overtaken_goes_on_from_the_base(through: int) -> None:
    """After the first slice of 1,000 what was folded is pruned, and what comes next as well."""
    journal = Overtaking()
    async with running(journal) as service:
        await service.take(*some("a", *range(1, 2_502)))
        whole = service.fleet.read_model.ledger(A)
        assert whole is not None
        journal.through = through

        assert (await fold_stored(service.writer, A)).pack() == whole.pack()

        assert len(left(journal)) == 2_501 - through


async def test_what_is_left_is_read_and_the_base_where_something_is_not() -> None:
    journal = MemoryJournal()
    async with running(journal) as service:
        await service.take(*some("a", 1, 2, 3, 4, 6))
        await service.take(made("b", 1))
        prune_through(journal, "a", 3)

        for first in (1, 3):
            base, records = await read_left(service.writer, A, first, 9, limit=9)
            assert base is not None
            assert (base.settled_through, records) == (3, [])
        for first, numbers in ((4, [4, 6]), (5, [6]), (7, [])):
            base, records = await read_left(service.writer, A, first, 9, limit=9)
            assert (base, [each.number for each in records]) == (None, numbers)


async def test_a_base_of_other_rules_refuses_a_start_that_needs_it() -> None:
    journal = MemoryJournal()
    async with running(journal, messages=1) as service:
        await service.take(*some("a", 1, 2, 3))
        await service.rounds()
        await service.retention.prune()
    known = journal.pruned_of("a")
    assert known is not None
    journal._pruned["a"] = msgspec.structs.replace(known, base=bytes((RULES + 1,)) + known.base[1:])

    async with open_writer(journal, write=inline, read=inline) as writer:
        # The ledgers of the checkpoint are enough.
        await recover(writer, ReadModel())
        journal.drop_ledgers()
        with pytest.raises(JournalRefused, match="what was pruned of a was folded by other rules"):
            await recover(writer, ReadModel())


# Everything at once

Content = tuple[str, dict[str, Any]]
CONTENTS: tuple[Content, ...] = (
    ("RocketSpeedIncreased", {"by": 3}),
    ("RocketSpeedDecreased", {"by": 5}),
    ("RocketMissionChanged", {"newMission": "M"}),
    ("RocketLaunched", {"type": "T", "launchSpeed": 7, "mission": "N"}),
    ("RocketExploded", {"reason": "R"}),
    ("SomethingElse", {"x": 1}),
)
DELIVERY = st.tuples(
    st.sampled_from([A, B]),
    st.sampled_from([1, 1, 1, 1, 2, 3, 5, 6, 8, 9]),  # the first number
    st.integers(1, 6),  # how many
    st.sampled_from([0, 0, 0, 0, 1, 2, 3, 4, 5]),
)
STEP = st.one_of(
    DELIVERY,
    DELIVERY,
    st.sampled_from(["age", "age", "round", "prune", "begin to prune", "turn", "tick", "doubt"]),
)
END = st.sampled_from(["clean", "crash", "no rounds", "no ledger"])
LIMITS = st.sampled_from([(1, 0), (2, 0), (3, 0), (0, 2), (1, 2), (3, 2)])


class Twins:
    """A service that prunes, lives and dies beside one that does neither."""

    def __init__(self, plain: Service) -> None:
        self.journal = MemoryJournal()
        self.plain = plain
        self.now = 0

    async def deliver(self, service: Service, delivery: tuple[Channel, int, int, int]) -> None:
        channel, first, count, kind = delivery
        name, content = CONTENTS[kind]
        messages = [message(channel, first + each, name, **content) for each in range(count)]
        received_at = self.now * 1_000_000
        mine = await service.take(*messages, received_at=received_at)
        through = await self.pruned_through(service, channel)
        others = await self.plain.take(*messages, received_at=received_at)
        for sent, my, other in zip(messages, mine, others, strict=True):
            if my != other:
                assert (my, other) == ("duplicate", "conflict")
                assert sent.number <= through

    async def pruned_through(self, service: Service, channel: Channel) -> int:
        base = await base_of(service.writer, channel)
        return 0 if base is None else base.settled_through

    async def same_rockets(self, service: Service) -> None:
        """Compare all rockets as they are."""
        mine, plain = service.fleet.read_model, self.plain.fleet.read_model
        for channel in (A, B):
            for view in VIEWS:
                await self.same(service, mine.rocket(channel, view), plain.rocket(channel, view))

    async def compare(self, service: Service) -> None:
        """Compare all rockets as they are and as they were."""
        await self.same_rockets(service)
        mine = service.fleet.read_model
        for channel in (A, B):
            through = await self.pruned_through(service, channel)
            for view in VIEWS:
                for number in range(1, 16):
                    expected = await self.plain.history.rocket_at(channel, number, view)
                    current = mine.rocket(channel, "latest")
                    last = 0 if current is None else current.last_message_number
                    if number <= through and number < last:
                        with pytest.raises(MessagesPruned) as pruned:
                            await service.history.rocket_at(channel, number, view)
                        assert pruned.value.first_number == through + 1
                    else:
                        found = await service.history.rocket_at(channel, number, view)
                        await self.same(service, found, expected, number)

    async def same(
        self, service: Service, mine: Rocket | None, plain: Rocket | None, through: int = 99
    ) -> None:
        """Equal but for conflicts with contents that are gone."""
        if mine is not None and plain is not None:
            mine = msgspec.structs.replace(
                mine, anomalies=mine.anomalies - await conflicts(service, mine, through)
            )
            plain = msgspec.structs.replace(
                plain, anomalies=plain.anomalies - await conflicts(self.plain, plain, through)
            )
        assert mine == plain


async def conflicts(service: Service, rocket: Rocket, through: int) -> int:
    notes = await service.writer.read_notes("conflict", stream=rocket.channel, limit=999)
    return sum(note.number <= through for note in notes)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)  # a busy machine is not a failure
@given(
    lives=st.lists(st.tuples(st.lists(STEP, max_size=20), END), min_size=1, max_size=4),
    limits=LIMITS,
)
async def test_nobody_sees_a_difference_to_a_service_that_keeps_everything(
    lives: Sequence[tuple[Sequence[object], str]], limits: tuple[int, float]
) -> None:
    """Prunings begin anywhere and run beside messages and rounds; a life may end within one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retention_module, "RECORDS_AT_ONCE", 2)
        patch.setattr(rocket_actor_module, "READ_SLICE", 2)
        patch.setattr(turn_module, "READ_SLICE", 2)
        patch.setattr(squad_module, "READ_SLICE", 2)
        patch.setattr(history_module, "READ_RECORDS", 2)
        async with running(MemoryJournal()) as plain:
            twins = Twins(plain)
            for steps, end in lives:
                async with running(twins.journal, messages=limits[0], seconds=limits[1]) as service:
                    await twins.compare(service)
                    await live(twins, service, steps)
                    if end == "clean":
                        await service.checkpoints.round()
                if end == "no rounds":
                    twins.journal.drop_ledgers()
                elif end == "no ledger" and twins.journal.rounds():
                    twins.journal.keep_ledgers([LedgerRecord(A, b""), LedgerRecord(B, b"")])
            async with running(twins.journal) as service:
                await twins.compare(service)
    event(f"pruned: {len(twins.journal.pruned('', limit=9))} rockets")


async def live(twins: Twins, service: Service, steps: Sequence[object]) -> None:
    """Do the steps; what runs beside them at the end is cancelled, as by a crash."""
    async with trio.open_nursery() as nursery:
        for step in steps:
            service.now = twins.now
            match step:
                case "round":
                    await service.checkpoints.round()
                case "prune":
                    await service.retention.prune()
                case "begin to prune":
                    nursery.start_soon(service.retention.prune)
                case "turn":
                    await trio.lowlevel.checkpoint()
                case "tick":
                    twins.now += 1
                case "age":  # until all that is there may go
                    twins.now += 3
                    await twins.deliver(service, (C, twins.now, 1, 0))
                    await service.checkpoints.round()
                    await service.checkpoints.round()
                    service.now = twins.now
                    await service.retention.prune()
                case "doubt":
                    service.fleet.read_model.doubtful |= {A, B}
                case tuple():
                    await twins.deliver(service, step)
                    await twins.same_rockets(service)
        nursery.cancel_scope.cancel()
