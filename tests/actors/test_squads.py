"""Squads: one owner for many rockets of a batch, and all that holds for a rocket on its own."""

from collections.abc import Callable, Sequence
from contextlib import suppress

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from rockets.actors import squad, squads
from rockets.actors.crashes import CRASH_WINDOW_S, CRASHES_MAX
from rockets.actors.fleet import Fleet, FleetLimits
from rockets.actors.part import AwaitedPart, Reply
from rockets.actors.read_model import ReadModel
from rockets.actors.waiting import FleetUnavailable
from rockets.domain.ledger import Ledger, Outcome
from rockets.domain.messages import Channel, Message, Payload, decode_message
from rockets.domain.rocket import fold
from rockets.journal import part as journal_part
from rockets.journal.base import Appended, JournalBusy, JournalFull, Note, Record
from rockets.journal.memory import MemoryJournal
from tests.actors.fleets import Gate, ask, running_fleet
from tests.helpers import body, message

ALL = 10**6


async def ask_all(fleet: Fleet, *messages: Message) -> list[Reply]:
    """Hand over a batch, received at microsecond 1."""
    return await fleet.ask_all(messages, received_at=1)


def launches(*channels: str) -> list[Message]:
    """The first message of each rocket."""
    return [message(channel, 1, "RocketLaunched") for channel in channels]


def outcomes(replies: Sequence[Reply]) -> list[Outcome | None]:
    """What became of each message."""
    return [reply.outcome for reply in replies]


class Appends(MemoryJournal):
    """Remembers what each append brought; the next ones can be made to fail."""

    def __init__(self) -> None:
        super().__init__()
        self.brought: list[list[tuple[str, int]]] = []
        self.errors: list[Exception] = []
        self.then: Callable[[], None] = lambda: None

    def append(self, records: Sequence[Record], notes: Sequence[Note] = ()) -> Appended:
        """Fail, or note what came and append it."""
        if self.errors:
            raise self.errors.pop()
        self.then()
        self.brought.append([(record.stream, record.number) for record in records])
        return super().append(records, notes)


class Bomb:
    """Makes an application of any ledger raise, `left` applications from now, as a bug would."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.left = -1
        self.channel: str | None = None
        apply = Ledger.apply

        def exploding(ledger: Ledger, number: int, payload: Payload, time: str) -> Outcome:
            if ledger.channel == self.channel:
                raise RuntimeError("planted")
            if self.left >= 0:
                self.left -= 1
                if self.left < 0:
                    raise RuntimeError("planted")
            return apply(ledger, number, payload, time)

        patch.setattr(Ledger, "apply", exploding)


@pytest.fixture
def bomb(monkeypatch: pytest.MonkeyPatch) -> Bomb:
    """Give the bomb, not yet lit."""
    return Bomb(monkeypatch)


async def test_rockets_that_nobody_owns_share_an_append_and_are_idle_again_at_once() -> None:
    journal = Appends()
    async with running_fleet(journal) as fleet:
        replies = await ask_all(fleet, *launches("b", "a"), message("a", 2), message("b", 4))

        assert fleet.statistics().live_actors == 0
        assert fleet.statistics().gaps == 1
        rocket = fleet.read_model.rocket(Channel("a"))

    assert outcomes(replies) == ["applied", "applied", "applied", "held"]
    assert [reply.settled_through for reply in replies] == [1, 1, 2, 1]
    assert journal.brought == [[("a", 1), ("a", 2), ("b", 1), ("b", 4)]]
    assert rocket is not None
    assert rocket.speed == 1000


async def test_a_lone_rocket_gets_an_actor() -> None:
    async with running_fleet() as fleet:
        await ask_all(fleet, *launches("a"), message("a", 2))

        assert fleet.statistics().live_actors == 1


async def test_rockets_with_an_actor_keep_it() -> None:
    journal = Appends()
    async with running_fleet(journal) as fleet:
        await ask(fleet, *launches("a"))
        await ask_all(fleet, message("a", 2), *launches("b", "c"))

        assert fleet.statistics().live_actors == 1

    assert sorted(map(sorted, journal.brought[1:])) in (
        [[("a", 2), ("b", 1), ("c", 1)]],  # two appends in one group commit
        [[("a", 2)], [("b", 1), ("c", 1)]],
    )


async def test_what_comes_meanwhile_waits_for_the_squad_and_is_answered_after_it() -> None:
    gate, journal = Gate(), Appends()
    async with running_fleet(journal, gate=gate) as fleet, trio.open_nursery() as nursery:
        gate.shut()
        told: list[object] = []

        async def send(*messages: Message) -> None:
            told.append(outcomes(await ask_all(fleet, *messages)))

        nursery.start_soon(send, *launches("a", "b", "c"))
        await wait_all_tasks_blocked()
        nursery.start_soon(send, message("b", 2))
        nursery.start_soon(send, *launches("c", "b"))
        await wait_all_tasks_blocked()

        assert told == []
        assert fleet.statistics().live_actors == 1  # the squad alone
        assert fleet.read_model.rocket(Channel("b")) is None
        gate.open()

    assert len(told) == 3
    assert told[0] == ["applied"] * 3
    assert ["duplicate"] * 2 in told
    assert journal.brought == [[("a", 1), ("b", 1), ("c", 1)], [("b", 2)]]
    assert fleet.statistics().live_actors == 0


async def test_a_rocket_for_which_nothing_waits_is_given_back_before_the_squad_ends() -> None:
    gate, journal = Gate(), Appends()
    async with running_fleet(journal, gate=gate) as fleet, trio.open_nursery() as nursery:
        gate.shut()
        nursery.start_soon(ask_all, fleet, *launches("a", "b"))
        await wait_all_tasks_blocked()
        nursery.start_soon(ask_all, fleet, message("b", 2))
        await wait_all_tasks_blocked()
        journal.then = gate.shut
        gate.open()
        await wait_all_tasks_blocked()  # the squad waits with the second message of b
        nursery.start_soon(ask_all, fleet, message("a", 2))
        await wait_all_tasks_blocked()

        assert fleet.statistics().live_actors == 2  # the squad, and an actor for a
        assert len(journal.brought) == 1
        journal.then = lambda: None
        gate.open()


async def test_batches_over_the_same_rockets_go_on_in_one_squad() -> None:
    gate, journal = Gate(), Appends()
    async with running_fleet(journal, gate=gate) as fleet:
        gate.shut()
        async with trio.open_nursery() as nursery:
            for number in (1, 2, 3):
                some = [message(channel, number) for channel in "abc"[:: 1 if number % 2 else -1]]
                nursery.start_soon(ask_all, fleet, *some)
                await wait_all_tasks_blocked()
            gate.open()

        assert fleet.statistics().live_actors == 0

    assert [len(each) for each in journal.brought] == [3, 6]


async def test_a_drain_that_may_have_left_something_gives_no_rocket_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(squad, "DRAIN_MESSAGES_MAX", 2)
    gate, journal = Gate(), Appends()
    async with running_fleet(journal, gate=gate) as fleet:
        gate.shut()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask_all, fleet, *launches("a", "b", "c"))
            await wait_all_tasks_blocked()
            for number in (2, 3, 4):
                for channel in "abc":
                    nursery.start_soon(ask, fleet, message(channel, number))
                    await wait_all_tasks_blocked()
            journal.then = gate.shut
            gate.open()
            await wait_all_tasks_blocked()  # the squad has taken a message of a and one of b
            nursery.start_soon(ask, fleet, message("c", 5))
            await wait_all_tasks_blocked()

            assert fleet.statistics().live_actors == 1  # c has no second owner
            journal.then = lambda: None
            gate.open()

    assert [len(each) for each in journal.brought] == [3, 2, 2, 2, 2, 2]
    assert [record.number for record in journal.read("c", 1, 9, limit=9)] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(("rockets", "live"), [(3, 1), (4, 1), (5, 5)])
async def test_squads_have_no_more_rockets_than_there_may_be_actors(
    rockets: int, live: int
) -> None:
    gate = Gate()
    async with running_fleet(gate=gate, limits=FleetLimits(actors_max=10)) as fleet:
        gate.shut()
        async with trio.open_nursery() as nursery:
            # Five rockets of a batch at once, so the first squads have six together.
            nursery.start_soon(ask_all, fleet, *launches("a", "b", "c"))
            nursery.start_soon(ask_all, fleet, *launches("d", "e", "f"))
            await wait_all_tasks_blocked()
            before = fleet.statistics().live_actors
            nursery.start_soon(ask_all, fleet, *launches(*map(str, range(rockets))))
            await wait_all_tasks_blocked()

            assert fleet.statistics().live_actors - before == live
            gate.open()


@pytest.mark.parametrize(("gaps", "live"), [(15, 0), (16, 0), (17, 1)])
async def test_a_rocket_with_many_gaps_gets_an_actor(gaps: int, live: int) -> None:
    assert squads.GAPS_MAX == 16
    journal = MemoryJournal()
    journal.append(
        [Record("a", 2 * number, body("a", 2 * number), 1) for number in range(1, gaps + 1)]
    )
    async with running_fleet(journal) as fleet:
        replies = await ask_all(fleet, message("a", 1, "RocketLaunched"), *launches("b", "c"))

        assert fleet.statistics().live_actors == live
        assert fleet.statistics().gaps == gaps - 1

    assert outcomes(replies) == ["applied"] * 3


@pytest.mark.parametrize(("limit", "refused"), [(3, 0), (2, 1), (0, 3)])
async def test_rockets_of_a_squad_share_what_is_left_for_gaps(limit: int, refused: int) -> None:
    async with running_fleet(limits=FleetLimits(total_gaps_max=limit)) as fleet:
        replies = await ask_all(fleet, *(message(channel, 3) for channel in "abc"))

        assert fleet.statistics().gaps == 3 - refused

    assert outcomes(replies) == ["held"] * (3 - refused) + [None] * refused


async def test_duplicates_and_conflicts_are_judged_by_what_the_journal_holds() -> None:
    journal = MemoryJournal()
    async with running_fleet(journal) as fleet:
        sent = [
            message(channel, number, by=number) for channel in "abc" for number in range(1, 800)
        ]
        await ask_all(fleet, *sent)
        again = await ask_all(fleet, *sent)
        others = [message(channel, 2, by=7) for channel in "abc"]
        conflicts = await ask_all(fleet, *others, *others, message("b", 800))

        rocket = fleet.read_model.rocket(Channel("c"))

    assert set(outcomes(again)) == {"duplicate"}
    assert outcomes(conflicts) == ["conflict"] * 6 + ["ignored"]
    assert len(journal.read_notes("conflict", stream=None, limit=9)) == 3
    assert rocket is not None
    assert rocket.anomalies == 800


async def test_what_another_instance_has_stored_counts() -> None:
    journal = MemoryJournal()
    async with running_fleet(journal) as fleet:
        await ask_all(fleet, *launches("a", "b", "c"))
        journal.append([Record("b", 2, body("b", 2, by=1), 1), Record("c", 2, body("c", 2), 1)])
        replies = await ask_all(fleet, *(message(channel, 2) for channel in "abc"))
        rockets = [fleet.read_model.rocket(Channel(channel)) for channel in "abc"]

    assert outcomes(replies) == ["applied", "conflict", "duplicate"]
    assert [rocket.speed for rocket in rockets if rocket is not None] == [1000, 501, 1000]
    assert [rocket.anomalies for rocket in rockets if rocket is not None] == [0, 1, 0]
    [note] = journal.read_notes("conflict", stream=None, limit=9)
    assert (note.stream, note.body) == ("b", body("b", 2))


async def test_a_conflict_with_a_new_message_of_the_batch_is_noted_behind_it_and_counts() -> None:
    journal = Appends()
    async with running_fleet(journal) as fleet:
        sent = [*launches("a", "b"), message("a", 2, by=1), message("a", 2, by=2)]
        replies = await ask_all(fleet, *sent, message("a", 2, by=1))
        rockets = [fleet.read_model.rocket(Channel(channel)) for channel in "ab"]

    assert outcomes(replies) == ["applied", "applied", "applied", "conflict", "duplicate"]
    assert [rocket.anomalies for rocket in rockets if rocket is not None] == [1, 0]
    assert journal.brought == [[("a", 1), ("a", 2), ("b", 1)], []]
    [note] = journal.read_notes("conflict", stream=None, limit=9)
    assert (note.stream, note.body) == ("a", body("a", 2, by=2))


@pytest.mark.parametrize("error", [JournalFull, JournalBusy])
async def test_a_failed_append_changes_nothing_and_the_resend_is_stored(
    error: type[Exception],
) -> None:
    journal = Appends()
    async with running_fleet(journal) as fleet:
        journal.errors = [error("no space")]
        with pytest.raises(FleetUnavailable, match="no space"):
            await ask_all(fleet, *launches("a", "b"), message("c", 9))

        assert len(fleet.read_model) == 0
        assert fleet.statistics().gaps == fleet.statistics().live_actors == 0
        replies = await ask_all(fleet, *launches("a", "b"), message("c", 9))

    assert outcomes(replies) == ["applied", "applied", "held"]


async def test_a_sender_that_leaves_does_not_touch_the_batch() -> None:
    gate = Gate()
    async with running_fleet(gate=gate) as fleet:
        gate.shut()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask_all, fleet, *launches("a", "b"))
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        gate.open()
        replies = await ask_all(fleet, *launches("a", "b"))

    assert outcomes(replies) == ["duplicate"] * 2


async def test_a_crash_fails_every_sender_and_each_rocket_restores_itself(bomb: Bomb) -> None:
    gate, errors = Gate(), []
    async with running_fleet(gate=gate) as fleet:
        await ask_all(fleet, *launches("a", "b", "c", "d"))
        gate.shut()
        async with trio.open_nursery() as nursery:

            async def send(*messages: Message) -> None:
                try:
                    await ask_all(fleet, *messages)
                except FleetUnavailable as error:
                    errors.append(str(error))

            nursery.start_soon(send, *(message(channel, 3) for channel in "abc"))
            await wait_all_tasks_blocked()
            nursery.start_soon(send, message("b", 2))  # waits in the mailbox
            await wait_all_tasks_blocked()
            bomb.left = 1
            gate.open()

        statistics = fleet.statistics()
        doubtful = set(fleet.read_model.doubtful)
        replies = await ask_all(fleet, *(message(channel, 3) for channel in "abcd"))
        speeds = [fleet.read_model.rocket(Channel(channel)) for channel in "abcd"]

    assert errors == ["the rocket's actor crashed: RuntimeError"] * 2
    assert (statistics.restarts, statistics.live_actors) == (1, 0)
    assert statistics.gaps == 1  # that of a, which was published before the crash
    assert doubtful == {"a", "b", "c"}
    assert outcomes(replies) == ["duplicate"] * 3 + ["held"]
    assert [rocket.speed for rocket in speeds if rocket is not None] == [1000] * 4
    assert fleet.statistics().gaps == 4


async def test_a_rocket_that_crashes_again_and_again_does_not_take_the_others_with_it(
    bomb: Bomb,
) -> None:
    bomb.channel = "bad"
    async with running_fleet() as fleet:
        for number in range(1, CRASHES_MAX + 1):
            with pytest.raises(FleetUnavailable, match="crashed: RuntimeError"):
                await ask_all(fleet, message("a", number), message("bad", number))
        with pytest.raises(FleetUnavailable, match="too often"):
            await ask_all(fleet, message("a", 6), message("bad", 6))
        [reply] = await ask_all(fleet, message("a", 7))

    assert reply.settled_through == 7
    assert fleet.statistics().restarts == CRASHES_MAX


async def test_a_rocket_in_doubt_is_restored_however_long_ago_its_squad_crashed(
    bomb: Bomb, autojump_clock: trio.testing.MockClock
) -> None:
    gate = Gate()
    async with running_fleet(gate=gate, limits=FleetLimits(actors_max=4)) as fleet:
        bomb.left = 0
        with pytest.raises(FleetUnavailable, match="crashed"):
            await ask_all(fleet, *launches("a", "b"))
        await trio.sleep(CRASH_WINDOW_S + 1)
        gate.shut()
        async with trio.open_nursery() as nursery:
            for each in launches("w", "x", "y", "z"):
                nursery.start_soon(ask, fleet, each)
            await wait_all_tasks_blocked()
            with pytest.raises(FleetUnavailable, match="too many rockets"):
                await ask(fleet, message("a", 2))
            gate.open()
        replies = await ask_all(fleet, message("a", 2), *launches("c"))

    assert [reply.settled_through for reply in replies] == [2, 1]


@pytest.mark.parametrize(("waiting", "is_full"), [(1, False), (2, False), (3, True)])
async def test_a_squad_has_room_for_as_many_parts_as_its_rockets_would_have(
    waiting: int, is_full: bool
) -> None:
    gate, journal = Gate(), MemoryJournal()
    async with running_fleet(journal, gate=gate, limits=FleetLimits(mailbox_max=1)) as fleet:
        gate.shut()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask_all, fleet, *launches("a", "b"))
            await wait_all_tasks_blocked()
            parts = [AwaitedPart([message("a", number)], 1) for number in range(2, waiting + 2)]
            taken = [fleet.post_nowait(Channel("a"), part) for part in parts]
            nursery.start_soon(ask_all, fleet, *(message(channel, 9) for channel in "ab"))
            await wait_all_tasks_blocked()
            gate.open()

    assert taken == [True] * (waiting - is_full) + [False] * is_full
    assert journal.head() == 4 + waiting - is_full


async def test_closing_works_off_what_was_taken_and_takes_nothing_more() -> None:
    gate, journal = Gate(), MemoryJournal()
    async with running_fleet(journal, gate=gate) as fleet:
        gate.shut()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask_all, fleet, *launches("a", "b"))
            await wait_all_tasks_blocked()
            nursery.start_soon(ask_all, fleet, message("a", 2), message("b", 2))
            await wait_all_tasks_blocked()
            fleet.close()
            with pytest.raises(FleetUnavailable, match="stopping"):
                await ask_all(fleet, message("a", 3), message("c", 1))
            gate.open()

    assert journal.head() == 4


async def test_between_commit_and_the_last_answer_no_task_has_a_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turns = _Turns()
    trio.lowlevel.add_instrument(turns)
    seen: list[int] = []
    _note_turns(monkeypatch, journal_part.Part, "result", turns, seen)  # the append returns
    for owner, name in ((Ledger, "apply"), (ReadModel, "publish_packed"), (squad, "answer")):
        _note_turns(monkeypatch, owner, name, turns, seen)

    async with running_fleet() as fleet:
        await ask_all(fleet, *launches(*(f"r{index}" for index in range(700))))

    assert len(seen) == 1 + 3 * 700
    assert len(set(seen)) == 1


def _note_turns(
    patch: pytest.MonkeyPatch, owner: object, name: str, turns: "_Turns", seen: list[int]
) -> None:
    real = getattr(owner, name)

    def noting(*arguments: object) -> object:
        seen.append(turns.count)
        return real(*arguments)

    patch.setattr(owner, name, noting)


class _Turns(trio.abc.Instrument):
    """Counts how often any task was resumed."""

    def __init__(self) -> None:
        self.count = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += 1


SENT = st.tuples(st.sampled_from("abcdef"), st.integers(1, 8), st.integers(1, 2))
STEP = st.one_of(
    st.lists(SENT, min_size=2, max_size=9),
    st.lists(SENT, min_size=2, max_size=9),
    SENT,
    st.sampled_from(["turn", "settle", "shut", "open", "sweep", "full"]),
    st.integers(0, 4),  # crash after so many applications
)


@settings(max_examples=100, deadline=None)
@given(
    steps=st.lists(STEP, max_size=20),
    actors_max=st.sampled_from([3, 4, 8, 64]),
    mailbox_max=st.sampled_from([1, 2, 64]),
)
async def test_whatever_meets_a_squad_the_state_is_the_fold_of_what_the_journal_holds(
    steps: Sequence[object], actors_max: int, mailbox_max: int
) -> None:
    """Batches over the same rockets, single messages, commits held back and failed, crashes."""
    journal, gate = Appends(), Gate()
    limits = FleetLimits(actors_max=actors_max, mailbox_max=mailbox_max)
    with pytest.MonkeyPatch.context() as patch:
        bomb = Bomb(patch)
        async with running_fleet(journal, gate=gate, limits=limits) as fleet:
            world = World(fleet, journal)
            async with trio.open_nursery() as nursery:
                for step in steps:
                    if isinstance(step, list):
                        nursery.start_soon(world.batch, step)
                    elif isinstance(step, tuple):
                        nursery.start_soon(world.single, step)
                    elif isinstance(step, int):
                        if world.crashes < CRASHES_MAX - 1:
                            world.crashes += 1
                            bomb.left = step
                    else:
                        await world.step(str(step), gate)
                    world.check_owners()
                gate.open()
            await wait_all_tasks_blocked()  # whose batch failed does not wait for its other parts
            bomb.left, journal.errors = -1, []
            await world.check_rockets()

        async with running_fleet(journal) as fleet:
            world = World(fleet, journal)
            await world.check_rockets()


class World:
    """A fleet and what must hold for it."""

    def __init__(self, fleet: Fleet, journal: Appends) -> None:
        self.crashes = 0
        self._fleet = fleet
        self._journal = journal
        self._new: set[tuple[str, int]] = set()

    async def batch(self, sent: Sequence[tuple[str, int, int]]) -> None:
        """Send a batch and hold its answer against the journal."""
        messages = [message(channel, number, by=by) for channel, number, by in sent]
        with suppress(FleetUnavailable):
            self._check(messages, await ask_all(self._fleet, *messages))

    async def single(self, sent: tuple[str, int, int]) -> None:
        """Send one message, as above."""
        channel, number, by = sent
        one = message(channel, number, by=by)
        with suppress(FleetUnavailable):
            self._check([one], await ask(self._fleet, one))

    async def step(self, name: str, gate: Gate) -> None:
        """Do what has a name."""
        match name:
            case "turn":
                await trio.lowlevel.checkpoint()
            case "settle":
                await wait_all_tasks_blocked()
            case "shut":
                gate.shut()
            case "open":
                gate.open()
            case "full":
                self._journal.errors = [JournalFull("no space")]
            case "sweep":
                for entry in self._fleet._entries.values():
                    entry.last_used = -1e9
                self._fleet._sweep_once()

    def _check(self, messages: Sequence[Message], replies: Sequence[Reply]) -> None:
        """What is answered is stored and shown, was new once, and its outcome is right."""
        assert len(messages) == len(replies)
        for sent, reply in zip(messages, replies, strict=True):
            [record] = self._journal.read(sent.channel, sent.number, sent.number, limit=1)
            is_same = decode_message(record.body).payload == sent.payload
            assert is_same == (reply.outcome != "conflict")
            if reply.outcome in ("applied", "held", "ignored"):
                assert (sent.channel, sent.number) not in self._new
                self._new.add((sent.channel, sent.number))
            if sent.channel not in self._fleet.read_model.doubtful:
                ledger = self._fleet.read_model.ledger(sent.channel)
                assert ledger is not None
                assert ledger.knows(sent.number)

    def check_owners(self) -> None:
        """No rocket has an actor and a squad, and what a squad has is not open."""
        fleet = self._fleet
        assert fleet._entries.keys().isdisjoint(fleet._squads._mailboxes)
        doubtful = fleet.read_model.doubtful
        assert (fleet.read_model._live.keys() - doubtful).isdisjoint(fleet._squads._mailboxes)

    async def check_rockets(self) -> None:
        """Every rocket is the fold of what the journal holds; nothing is owned by a squad."""
        fleet, journal = self._fleet, self._journal
        assert fleet._squads.count == 0
        assert not fleet._squads._mailboxes
        for channel in [*fleet.read_model.doubtful]:
            await ask(fleet, message(channel, 1, by=1))  # restores it
        gaps = 0
        for channel in [Channel(name) for name in "abcdef"]:
            records = journal.read(channel, 1, ALL, limit=ALL)
            ledger = fleet.read_model.ledger(channel)
            assert (ledger is None) == (not records)
            if ledger is None:
                continue
            conflicts = len(journal.read_notes("conflict", stream=channel, limit=ALL))
            if self.crashes:  # a restore folds messages; notes are counted at a start
                assert ledger.conflicts <= conflicts
                conflicts = ledger.conflicts
            messages = [decode_message(record.body) for record in records]
            for view in ("latest", "settled"):
                assert fleet.read_model.rocket(channel, view) == fold(
                    channel, messages, view=view, conflicts=conflicts
                )
            gaps += ledger.gap_count
        if not self.crashes:
            assert fleet.statistics().gaps == gaps
