"""One rocket's loop: order, duplicates, conflicts, failures, and nothing told before it is kept."""

from collections.abc import Sequence

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from rockets.actors.fleet import FleetLimits
from rockets.actors.waiting import FleetUnavailable
from rockets.domain.messages import Channel, Message, decode_message
from rockets.domain.rocket import fold
from rockets.journal.base import Appended, JournalBusy, JournalFull, Note, Record
from rockets.journal.memory import MemoryJournal
from tests.actors.fleets import Gate, ask, running_fleet
from tests.domain.histories import CHANNEL, messages
from tests.helpers import message


@given(arrived=messages(), cuts=st.lists(st.integers(1, 5)), concurrent=st.booleans())
async def test_the_state_is_the_fold_of_what_the_journal_kept(
    arrived: list[Message], cuts: list[int], concurrent: bool
) -> None:
    journal = MemoryJournal()
    parts: list[list[Message]] = []
    rest = arrived
    for cut in [*cuts, len(arrived)]:
        part, rest = rest[:cut], rest[cut:]
        parts += [part] if part else []

    async with running_fleet(journal) as fleet:
        if concurrent:
            async with trio.open_nursery() as nursery:
                for part in parts:
                    nursery.start_soon(ask, fleet, *part)
        else:
            for part in parts:
                await ask(fleet, *part)
        rockets = [fleet.read_model.rocket(Channel(CHANNEL), v) for v in ("latest", "settled")]

    kept = [decode_message(record.body) for record in journal.read(CHANNEL, 1, 99, limit=99)]
    conflicts = len(journal.read_notes("conflict", stream=CHANNEL, limit=99))
    if arrived:
        assert rockets == [
            fold(Channel(CHANNEL), kept, view=view, conflicts=conflicts)
            for view in ("latest", "settled")
        ]


async def test_nothing_is_answered_or_shown_before_it_is_durable() -> None:
    gate = Gate()
    answered: list[object] = []

    async with running_fleet(gate=gate) as fleet, trio.open_nursery() as nursery:
        gate.shut()

        async def send() -> None:
            answered.append(await ask(fleet, message("r", 1, "RocketLaunched")))

        nursery.start_soon(send)
        await trio.testing.wait_all_tasks_blocked()
        assert gate.waiting == 1
        assert answered == []
        assert fleet.read_model.rocket(Channel("r")) is None
        gate.open()

    assert len(answered) == 1


async def test_a_duplicate_waits_for_the_commit_of_the_first_attempt() -> None:
    gate = Gate()
    outcomes: dict[str, str | None] = {}

    async with running_fleet(gate=gate) as fleet, trio.open_nursery() as nursery:
        gate.shut()

        async def send(attempt: str) -> None:
            [reply] = await ask(fleet, message("r", 1, "RocketLaunched"))
            outcomes[attempt] = reply.outcome

        nursery.start_soon(send, "first")
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(send, "second")
        await trio.testing.wait_all_tasks_blocked()
        assert outcomes == {}
        gate.open()

    assert outcomes == {"first": "applied", "second": "duplicate"}


async def test_a_sender_that_leaves_does_not_touch_the_batch() -> None:
    gate = Gate()

    async with running_fleet(gate=gate) as fleet:
        gate.shut()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, fleet, message("r", 1, "RocketLaunched"))
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        gate.open()
        [reply] = await ask(fleet, message("r", 1, "RocketLaunched"))

    assert reply.outcome == "duplicate"


async def test_what_waits_in_the_mailbox_is_appended_at_once() -> None:
    gate, journal = Gate(), _Counting()

    async with running_fleet(journal, gate=gate) as fleet:
        gate.shut()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, fleet, message("r", 1))
            await trio.testing.wait_all_tasks_blocked()
            for number in range(2, 21):
                nursery.start_soon(ask, fleet, message("r", number))
            await trio.testing.wait_all_tasks_blocked()
            gate.open()

    assert journal.sizes == [1, 19]


async def test_a_conflict_keeps_the_first_and_is_noted_once_per_content() -> None:
    journal = MemoryJournal()

    async with running_fleet(journal) as fleet:
        await ask(fleet, message("r", 1, "RocketLaunched"))
        outcomes = [
            (
                await ask(
                    fleet, message("r", 1, "RocketLaunched", type=kind, launchSpeed=1, mission="M")
                )
            )[0]
            for kind in ("A", "B", "A")
        ]
        rocket = fleet.read_model.rocket(Channel("r"))

    assert [reply.outcome for reply in outcomes] == ["conflict"] * 3
    assert rocket is not None
    assert (rocket.type, rocket.anomalies) == ("Falcon-9", 2)
    assert len(journal.read_notes("conflict", stream="r", limit=9)) == 2


async def test_an_old_duplicate_is_judged_by_what_the_journal_holds() -> None:
    async with running_fleet() as fleet:
        for number in range(1, 201):
            await ask(fleet, message("r", number, by=number))
        [same] = await ask(fleet, message("r", 1, by=1))
        [other] = await ask(fleet, message("r", 2, by=7))

    assert (same.outcome, other.outcome) == ("duplicate", "conflict")


@pytest.mark.parametrize("error", [JournalFull, JournalBusy])
async def test_a_failed_append_changes_nothing_and_the_resend_is_stored(
    error: type[Exception],
) -> None:
    journal = _Failing(error("no space"), times=1)

    async with running_fleet(journal) as fleet:
        with pytest.raises(FleetUnavailable, match="no space"):
            await ask(fleet, message("r", 1, "RocketLaunched"))
        assert fleet.read_model.rocket(Channel("r")) is None
        assert fleet.statistics().gaps == 0
        [reply] = await ask(fleet, message("r", 1, "RocketLaunched"))

    assert reply.outcome == "applied"


@pytest.mark.parametrize(("runs", "outcome"), [(1, "held"), (0, None)])
async def test_too_many_gaps_are_refused_and_closing_one_never_is(
    runs: int, outcome: str | None
) -> None:
    async with running_fleet(limits=FleetLimits(total_gaps_max=runs)) as fleet:
        await ask(fleet, message("a", 1, "RocketLaunched"))
        [opening] = await ask(fleet, message("b", 5))
        [touching] = await ask(fleet, message("a", 2))

    assert opening.outcome == outcome
    assert touching.outcome == "applied"


class _Counting(MemoryJournal):
    """Remembers how many records each append had."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def append(self, records: Sequence[Record], notes: Sequence[Note] = ()) -> Appended:
        self.sizes.append(len(records))
        return super().append(records, notes)


class _Failing(MemoryJournal):
    """Fails the first appends."""

    def __init__(self, error: Exception, *, times: int) -> None:
        super().__init__()
        self._error = error
        self._times = times

    def append(self, records: Sequence[Record], notes: Sequence[Note] = ()) -> Appended:
        if self._times:
            self._times -= 1
            raise self._error
        return super().append(records, notes)
