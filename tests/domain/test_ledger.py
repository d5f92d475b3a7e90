"""The ledger: any order, duplication and split gives the fold; decisions, outcomes and limits."""

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rockets.domain.ledger import Ledger
from rockets.domain.messages import Channel, Message, Payload
from rockets.domain.rocket import fold
from tests.domain.histories import CHANNEL, messages
from tests.domain.test_rocket import conflicts_of
from tests.helpers import message


def take(ledger: Ledger, kept: dict[int, Payload], batch: list[Message]) -> list[str]:
    """Decide and apply a batch as an actor does with a journal that keeps `kept`."""
    decision = ledger.decide(batch, kept, gaps_max=1_000)
    outcomes: list[str] = []
    for each, verdict in zip(batch, decision.verdicts, strict=True):
        if verdict == "new":
            kept[each.number] = each.payload
            outcomes.append(ledger.apply(each.number, each.payload, each.time))
        else:
            outcomes.append(verdict)
    return outcomes


@given(arrived=messages())
def test_what_continues_a_ledger_needs_no_decision(arrived: list[Message]) -> None:
    ledger, kept = Ledger(Channel(CHANNEL)), dict[int, Payload]()
    for each in arrived:
        highest = max(kept, default=0)
        assert ledger.continues(each.number) == (each.number == highest + 1)
        if ledger.continues(each.number):
            assert ledger.known([each]) == []
            decision = ledger.decide([each], {}, gaps_max=ledger.gap_count)
            assert (decision.verdicts, decision.gaps_opened) == (("new",), 0)
        take(ledger, kept, [each])


@given(arrived=messages(), cuts=st.lists(st.integers(0, 24)), randomness=st.randoms())
def test_any_order_duplication_and_split_gives_the_fold_in_both_views(
    arrived: list[Message], cuts: list[int], randomness: random.Random
) -> None:
    arrived = arrived + [each for each in arrived if randomness.random() < 0.3]
    randomness.shuffle(arrived)
    ledger, kept = Ledger(Channel(CHANNEL)), dict[int, Payload]()

    borders = sorted({0, len(arrived), *(cut for cut in cuts if cut < len(arrived))})
    for start, end in pairwise(borders):
        take(ledger, kept, arrived[start:end])
        ledger.conflicts = conflicts = conflicts_of(arrived[:end])
        for view in ("latest", "settled"):
            assert ledger.rocket(view) == fold(
                Channel(CHANNEL), arrived[:end], view=view, conflicts=conflicts
            )


@given(arrived=messages(), batch=messages())
def test_deciding_changes_nothing(arrived: list[Message], batch: list[Message]) -> None:
    ledger, kept = Ledger(Channel(CHANNEL)), dict[int, Payload]()
    take(ledger, kept, arrived)
    before = ledger.rocket("latest"), ledger.rocket("settled"), ledger.run_count

    ledger.decide(batch, kept, gaps_max=1_000)

    assert (ledger.rocket("latest"), ledger.rocket("settled"), ledger.run_count) == before


@given(arrived=messages(), batch=messages())
def test_a_decision_says_how_many_runs_its_batch_opens(
    arrived: list[Message], batch: list[Message]
) -> None:
    ledger, kept = Ledger(Channel(CHANNEL)), dict[int, Payload]()
    take(ledger, kept, arrived)
    before = ledger.gap_count

    opened = ledger.decide(batch, kept, gaps_max=1_000).gaps_opened
    take(ledger, kept, batch)

    assert ledger.gap_count - before == opened


def test_outcomes_are_judged_in_the_order_of_arrival() -> None:
    ledger, kept = Ledger(Channel(CHANNEL)), dict[int, Payload]()
    batch = [
        message(CHANNEL, 2, by=1),
        message(CHANNEL, 1, "RocketLaunched"),
        message(CHANNEL, 3, by=1),
        message(CHANNEL, 3, by=1),
        message(CHANNEL, 3, by=2),
        message(CHANNEL, 4, "RocketLaunched"),
        message(CHANNEL, 2, by=1),
    ]

    outcomes = take(ledger, kept, batch)

    assert outcomes == [
        "held",
        "applied",
        "applied",
        "duplicate",
        "conflict",
        "ignored",
        "duplicate",
    ]
    assert ledger.settled_through == 4


@pytest.mark.parametrize(("runs_max", "verdict"), [(3, "new"), (2, "tooManyGaps")])
def test_a_message_that_opens_a_run_over_the_limit_is_refused(runs_max: int, verdict: str) -> None:
    ledger, kept = Ledger(Channel(CHANNEL)), dict[int, Payload]()
    take(ledger, kept, [message(CHANNEL, 2), message(CHANNEL, 4)])

    opening = ledger.decide([message(CHANNEL, 9)], kept, gaps_max=runs_max)
    closing = ledger.decide(
        [message(CHANNEL, 3), message(CHANNEL, 5), message(CHANNEL, 1)], kept, gaps_max=runs_max
    )

    assert opening.verdicts == (verdict,)
    assert set(closing.verdicts) == {"new"}


def test_a_new_rocket_without_a_gap_is_taken_whatever_the_limit() -> None:
    ledger = Ledger(Channel(CHANNEL))

    decision = ledger.decide(
        [message(CHANNEL, 1, "RocketLaunched"), message(CHANNEL, 2)], {}, gaps_max=0
    )

    assert decision.verdicts == ("new", "new")
    assert decision.gaps_opened == 0


def test_within_a_batch_a_joined_gap_makes_room_for_another() -> None:
    ledger, kept = Ledger(Channel(CHANNEL)), dict[int, Payload]()
    take(ledger, kept, [message(CHANNEL, 2), message(CHANNEL, 4)])

    decision = ledger.decide([message(CHANNEL, 3), message(CHANNEL, 9)], kept, gaps_max=2)

    assert decision.verdicts == ("new", "new")
    assert decision.gaps_opened == 0


@pytest.mark.parametrize(
    "numbers",
    [range(1, 3001), range(3000, 0, -1), [*range(2, 3001, 2), *range(1, 3001, 2)]],
    ids=["forward", "reverse", "evens then odds"],
)
def test_long_histories_end_as_one_run(numbers: list[int]) -> None:
    ledger = Ledger(Channel(CHANNEL))
    launch, faster = message(CHANNEL, 1, "RocketLaunched"), message(CHANNEL, 2, by=2)

    for number in numbers:
        each = launch if number == 1 else faster
        ledger.apply(number, each.payload, each.time)

    assert ledger.run_count == 1
    assert ledger.rocket("settled").speed == 500 + 2999 * 2
    assert ledger.rocket("settled") == ledger.rocket("latest")
