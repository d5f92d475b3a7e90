"""Checkpoints and recovery: whatever was kept and whenever, a start finds the same rockets."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import TypeVar

import apsw
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from rockets.actors.checkpoints import (
    LEDGERS_AT_ONCE,
    CheckpointLimits,
    Checkpoints,
    open_checkpoints,
)
from rockets.actors.fleet import Fleet, FleetLimits, open_fleet
from rockets.actors.part import AwaitedPart
from rockets.actors.read_model import ReadModel
from rockets.actors.recovery import Recovered, recover
from rockets.actors.waiting import FleetUnavailable
from rockets.domain.ledger import RULES, Ledger
from rockets.domain.messages import Message
from rockets.domain.rocket import Rocket, fold
from rockets.journal import Journal, SqliteJournal
from rockets.journal.base import JournalFull, LedgerRecord, Position, Round, StoredLedger
from rockets.journal.memory import MemoryJournal
from rockets.journal.thread import inline
from rockets.journal.writer import JournalWriter, open_writer
from tests.actors.fleets import ask
from tests.helpers import message

T = TypeVar("T")

LIMITS = CheckpointLimits(records=2**40, seconds=2**40)


class Running:
    """A fleet with its checkpoints, whose rounds a test starts."""

    def __init__(self, fleet: Fleet, checkpoints: Checkpoints, writer: JournalWriter) -> None:
        self.fleet = fleet
        self.checkpoints = checkpoints
        self.writer = writer


@asynccontextmanager
async def running(
    journal: Journal, *, limits: CheckpointLimits = LIMITS, actors_max: int = 4_096
) -> AsyncIterator[Running]:
    """As `server` nests them: the last round comes after the last actor."""
    read_model = ReadModel()
    async with (
        open_writer(journal, write=inline, read=inline) as writer,
        open_checkpoints(writer, read_model, limits) as checkpoints,
        open_fleet(
            journal=writer, read_model=read_model, limits=FleetLimits(actors_max=actors_max)
        ) as fleet,
    ):
        yield Running(fleet, checkpoints, writer)


async def start(journal: Journal) -> tuple[Recovered, dict[str, Rocket | None]]:
    """Do what a start does; gives what it did and every rocket."""
    read_model = ReadModel()
    async with open_writer(journal, write=inline, read=inline) as writer:
        recovered = await recover(writer, read_model)
    ledgers = list(read_model.ledgers())
    assert recovered.gaps == sum(ledger.gap_count for ledger in ledgers)
    return recovered, {
        ledger.channel: read_model.rocket(ledger.channel, "latest") for ledger in ledgers
    }


def folded(journal: Journal) -> dict[str, Rocket]:
    """Every rocket as the specification makes it of the journal's messages."""
    messages: dict[str, list[int]] = {}
    for record in journal.follow(Position(0), limit=10**6):
        messages.setdefault(record.stream, []).append(record.number)
    return {
        channel: fold(message(channel, 1).channel, [made(channel, each) for each in numbers])
        for channel, numbers in messages.items()
    }


def made(channel: str, number: int) -> Message:
    """The message that has this number: a launch is the first."""
    return message(channel, number, "RocketLaunched" if number == 1 else "RocketSpeedIncreased")


CHANNELS = [f"rocket-{each}" for each in range(6)]
MESSAGE = st.tuples(st.sampled_from(CHANNELS), st.integers(1, 12))
BATCH = st.lists(MESSAGE, min_size=2, max_size=8)
STEP = st.one_of(MESSAGE, MESSAGE, BATCH, st.sampled_from(["round", "turn", "restart"]))


@settings(max_examples=150, deadline=None)
@given(
    lives=st.lists(st.lists(STEP, max_size=25), max_size=4),
    clean=st.booleans(),
    actors_max=st.sampled_from([3, 12]),
)
async def test_a_start_finds_every_rocket_whenever_rounds_were_made(
    lives: Sequence[Sequence[object]], clean: bool, actors_max: int
) -> None:
    """Rounds run beside messages, with turns of the scheduler anywhere; a life may end hard."""
    journal = MemoryJournal()
    for steps in lives:
        read_model = ReadModel()
        async with open_writer(journal, write=inline, read=inline) as writer:
            async with (
                trio.open_nursery() as nursery,
                open_fleet(
                    journal=writer,
                    read_model=read_model,
                    limits=FleetLimits(actors_max=actors_max),
                ) as fleet,
            ):
                checkpoints = Checkpoints(writer, read_model, LIMITS)
                for step in steps:
                    if step == "round":
                        await wait_all_tasks_blocked()  # one at a time, as `run` makes them
                        nursery.start_soon(checkpoints.round)
                    elif isinstance(step, tuple):
                        await post(fleet, made(*step))
                    elif isinstance(step, list):
                        nursery.start_soon(post_all, fleet, [made(*each) for each in step])
                    else:
                        await trio.lowlevel.checkpoint()
            if clean:
                await checkpoints.round()

        assert all(each.ledgers <= len(journal.ledgers("", limit=99)) for each in journal.rounds())
        recovered, rockets = await start(journal)

        assert rockets == folded(journal)
        if clean:
            assert recovered.records == 0
            assert journal.rounds()[0].ledgers == len(rockets)


async def post_all(fleet: Fleet, sent: Sequence[Message]) -> None:
    """Hand a batch over and wait for it, as above."""
    with suppress(FleetUnavailable):
        await fleet.ask_all(sent, received_at=1)


async def post(fleet: Fleet, sent: Message) -> None:
    """Hand a message over and wait for nothing; where all actors are at work it is not taken."""
    with suppress(FleetUnavailable):
        await fleet.post(sent.channel, AwaitedPart([sent], 1))


async def test_a_clean_stop_leaves_nothing_to_apply() -> None:
    journal = MemoryJournal()
    async with running(journal) as service:
        for number in (1, 2, 4):
            await ask(service.fleet, made("a", number))

    recovered, rockets = await start(journal)

    assert (recovered.checkpointed, recovered.rebuilt, recovered.records) == (1, 0, 0)
    assert rockets == folded(journal)


async def test_what_came_after_the_round_began_is_applied_again() -> None:
    journal = MemoryJournal()
    async with open_writer(journal, write=inline, read=inline) as writer:
        read_model = ReadModel()
        async with open_fleet(journal=writer, read_model=read_model, limits=FleetLimits()) as fleet:
            await ask(fleet, made("a", 1))
            await Checkpoints(writer, read_model, LIMITS).round()
            await ask(fleet, made("a", 2))
            await ask(fleet, made("b", 1))

    recovered, rockets = await start(journal)

    assert (recovered.checkpointed, recovered.records) == (1, 2)
    assert rockets == folded(journal)


async def kept(journal: Journal) -> None:
    """Store some rockets and keep their ledgers."""
    async with running(journal) as service:
        for channel in CHANNELS:
            for number in (1, 2, 3, 5):
                await ask(service.fleet, made(channel, number))


class Damaged(MemoryJournal):
    """Gives one ledger back as damaged, or under another name."""

    damaged: str | None = None
    renamed: dict[str, str] = {}  # noqa: RUF012  # replaced by a test as a whole

    def ledgers(self, after: str, *, limit: int) -> list[StoredLedger]:
        return [
            StoredLedger(
                self.renamed.get(each.stream, each.stream),
                None if each.stream == self.damaged or each.stream in self.renamed else each.data,
            )
            for each in super().ledgers(after, limit=limit)
        ]


async def test_a_damaged_ledger_is_folded_from_its_messages() -> None:
    journal = Damaged()
    await kept(journal)
    journal.damaged = CHANNELS[3]

    recovered, rockets = await start(journal)

    assert (recovered.checkpointed, recovered.rebuilt, recovered.records) == (5, 1, 0)
    assert rockets == folded(journal)


async def test_a_ledger_under_a_wrong_name_means_that_everything_is_folded() -> None:
    journal = Damaged()
    await kept(journal)
    journal.renamed = {CHANNELS[5]: "rocket-x"}

    recovered, rockets = await start(journal)

    assert (recovered.checkpointed, recovered.records) == (0, 24)
    assert rockets == folded(journal)
    assert journal.rounds() == []


@pytest.mark.parametrize("first_byte", [RULES + 1, 0])
async def test_a_ledger_of_other_rules_is_folded_from_its_messages(first_byte: int) -> None:
    journal = MemoryJournal()
    await kept(journal)
    [ledger] = journal.ledgers(CHANNELS[0], limit=1)
    assert ledger.data is not None
    journal.keep_ledgers([LedgerRecord(ledger.stream, bytes((first_byte,)) + ledger.data[1:])])

    recovered, rockets = await start(journal)

    assert (recovered.rebuilt, recovered.records) == (1, 0)
    assert rockets == folded(journal)


async def test_a_round_of_other_rules_is_not_used() -> None:
    journal = MemoryJournal()
    await kept(journal)
    for _ in range(2):
        journal.end_round(Round(journal.head(), str(RULES + 1), 0))

    recovered, rockets = await start(journal)

    assert (recovered.checkpointed, recovered.records) == (0, 24)
    assert rockets == folded(journal)


async def test_a_damaged_round_falls_back_to_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with closing(SqliteJournal(path)) as journal:
        await kept(journal)
        async with running(journal) as service:
            await ask(service.fleet, made("late", 1))
        assert len(journal.rounds()) == 2
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute("UPDATE rounds SET began = 1 WHERE newer = 1")

    with closing(SqliteJournal(path)) as journal:
        recovered, rockets = await start(journal)

        assert recovered.records == 1
        assert rockets == folded(journal)


@pytest.mark.parametrize(("gone", "rebuilt"), [(0, False), (1, True), (6, True)])
async def test_a_start_notices_that_ledgers_are_missing_and_folds_everything(
    tmp_path: Path, gone: int, rebuilt: bool
) -> None:
    path = tmp_path / "journal.db"
    with closing(SqliteJournal(path)) as journal:
        await kept(journal)
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute(
            "DELETE FROM ledgers WHERE stream IN (SELECT stream FROM ledgers LIMIT ?)", (gone,)
        )

    with closing(SqliteJournal(path)) as journal:
        recovered, rockets = await start(journal)

        assert (recovered.checkpointed, recovered.records) == ((0, 24) if rebuilt else (6, 0))
        assert rockets == folded(journal)
        assert bool(journal.rounds()) == (not rebuilt)


async def test_a_round_counts_all_ledgers_also_those_that_it_need_not_keep_again() -> None:
    journal = MemoryJournal()
    await kept(journal)
    async with running(journal) as service:
        await ask(service.fleet, made("late", 1))

    assert [each.ledgers for each in journal.rounds()] == [7, 6]


async def test_ledgers_of_a_round_that_did_not_end_are_more_than_the_last_whole_one_has() -> None:
    journal = MemoryJournal()
    await kept(journal)
    async with open_writer(journal, write=inline, read=inline) as writer:
        read_model = ReadModel()
        async with open_fleet(journal=writer, read_model=read_model, limits=FleetLimits()) as fleet:
            await ask(fleet, made("late", 1))
            journal.keep_ledgers(
                [LedgerRecord("late", read_model.record(message("late", 1).channel))]
            )

    recovered, rockets = await start(journal)

    assert (recovered.checkpointed, recovered.rebuilt, recovered.records) == (7, 0, 1)
    assert rockets == folded(journal)


async def test_conflicts_whose_notes_are_all_gone_are_not_counted_after_a_start() -> None:
    journal = MemoryJournal()
    async with running(journal) as service:
        await ask(service.fleet, message("a", 1, by=1))
        await ask(service.fleet, message("a", 1, by=2))
    [note] = journal.read_notes("conflict", stream="a", limit=9)
    journal.remove_note(note.id)

    _, rockets = await start(journal)

    assert rockets == {"a": fold(message("a", 1).channel, [message("a", 1, by=1)])}


async def test_a_rocket_in_doubt_is_kept_as_one_to_be_folded_again() -> None:
    journal = MemoryJournal()
    async with running(journal) as service:
        await ask(service.fleet, made("a", 1))
        service.fleet.read_model.doubtful.add(message("a", 1).channel)

    recovered, rockets = await start(journal)

    assert recovered.rebuilt == 1
    assert rockets == folded(journal)


class Full(MemoryJournal):
    """Takes no ledgers while it is full."""

    full = False

    def keep_ledgers(self, ledgers: Sequence[LedgerRecord]) -> None:
        if self.full:
            raise JournalFull("no space")
        super().keep_ledgers(ledgers)


@pytest.mark.parametrize(("left_s", "is_whole"), [(4.9, False), (5.1, True)])
async def test_the_last_round_is_given_up_where_a_stop_has_no_time_for_it(
    autojump_clock: MockClock, left_s: float, is_whole: bool
) -> None:
    journal, read_model = MemoryJournal(), ReadModel()

    async def slow(fn: Callable[..., T], /, *args: object) -> T:
        # Four slices of ledgers and the end of the round: five commits.
        await trio.sleep(1)
        return fn(*args)

    async with open_writer(journal, write=slow, read=inline) as writer:
        async with open_checkpoints(
            writer, read_model, LIMITS, over_by=lambda: trio.current_time() + left_s
        ):
            for each in range(4 * LEDGERS_AT_ONCE):
                ledger = Ledger(message(f"r-{each:04}", 1).channel)
                ledger.apply(1, made("r", 1).payload, made("r", 1).time)
                read_model.publish(ledger)

    assert (journal.rounds() != []) is is_whole
    assert len(journal.ledgers("", limit=10**6)) == 4 * LEDGERS_AT_ONCE


async def test_a_full_journal_only_puts_a_round_off(autojump_clock: MockClock) -> None:
    journal = Full()
    async with running(journal, limits=CheckpointLimits(seconds=10)) as service:
        journal.full = True
        await ask(service.fleet, made("a", 1))
        await trio.sleep(15)
        assert journal.rounds() == []
        journal.full = False
        await trio.sleep(10)
        assert [each.began for each in journal.rounds()] == [1]


@pytest.mark.parametrize(("records", "rounds"), [(2, 0), (3, 1), (4, 1)])
async def test_a_round_is_due_after_so_many_records(
    records: int, rounds: int, autojump_clock: MockClock
) -> None:
    journal = MemoryJournal()
    async with running(journal, limits=CheckpointLimits(records=3, seconds=2**40)) as service:
        for number in range(1, records + 1):
            await ask(service.fleet, made("a", number))
        await trio.sleep(5)
        assert len(journal.rounds()) == rounds


async def test_without_a_change_no_round_is_made(autojump_clock: MockClock) -> None:
    journal = MemoryJournal()
    async with running(journal, limits=CheckpointLimits(seconds=10)) as service:
        await ask(service.fleet, made("a", 1))
        await trio.sleep(100)
        assert len(journal.rounds()) == 1


async def test_messages_go_on_while_a_round_is_made() -> None:
    journal = MemoryJournal()
    async with running(journal) as service, trio.open_nursery() as nursery:
        for each in range(500):
            await ask(service.fleet, made(f"rocket-{each}", 1))
        nursery.start_soon(service.checkpoints.round)
        for each in range(500):
            await ask(service.fleet, made(f"rocket-{each}", 2))

    recovered, rockets = await start(journal)

    assert recovered.records == 0
    assert rockets == folded(journal)


async def test_a_round_that_begins_between_a_commit_and_its_actor_loses_nothing() -> None:
    journal, read_model = MemoryJournal(), ReadModel()
    async with (
        open_writer(journal, write=inline, read=inline) as writer,
        open_fleet(journal=writer, read_model=read_model, limits=FleetLimits()) as fleet,
    ):
        checkpoints = Checkpoints(writer, read_model, LIMITS)
        for each in range(40):  # which of two tasks comes first is a matter of luck
            before = writer.head
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask, fleet, made(f"rocket-{each}", 1))
                while writer.head == before:
                    await trio.lowlevel.checkpoint()
                await checkpoints.round()

                _, rockets = await start(journal)
                assert rockets == folded(journal)


def test_a_packed_ledger_is_what_these_rules_make() -> None:
    """Whoever changes it changes `RULES` too, and then this text."""
    ledger = Ledger(message("a", 1).channel)
    for number in (1, 2, 4):
        each = made("a", number)
        ledger.apply(each.number, each.payload, each.time)

    assert RULES == 1
    time = b"\xbf2022-02-02T19:39:05.86337+01:00"
    launch = b"\x95" + time + b"\xa8Falcon-9\xcd\x01\xf4\xcd\x03\xe8\xa7ARTEMIS"
    first = b"\x99\x02\xcd\x01\xf4\xc0" + time + launch + time + b"\xc0\x01\x00"
    second = b"\x99\x01\xcd\x01\xf4\xc0" + time + b"\xc0\xc0\xc0\x00\x01"
    runs = b"\x92\x01\x04\x92\x02\x04\x92" + first + second
    assert ledger.pack() == b"\x01\x01" + b"\x94\x00" + runs
