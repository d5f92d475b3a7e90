"""The rocket table gives what `list_page` gives, for any rockets and any query."""

from collections.abc import Iterable, Sequence
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rockets.actors import rocket_table
from rockets.actors.listing import (
    SORT_KEYS,
    Cursor,
    ListQuery,
    SortBy,
    SortKey,
    SortValue,
    list_page,
)
from rockets.actors.rocket_table import RocketTable, rows_of
from rockets.actors.table_query import BOTH_VIEWS, page_query
from rockets.domain.ledger import Ledger
from rockets.domain.messages import MESSAGE_NUMBER_MAX, SPEED_MAX, Channel, Message
from rockets.domain.rocket import Rocket, Status, View
from tests.helpers import message

# Texts whose order differs between code points, UTF-16 and any collation; some look like numbers.
TEXTS = ["A", "a", "B", "Ä", "10", "9", "A ", "A'\"\\", "\ud7ff", "\ue000", "\uffff", "\U0001f680"]
TIMES = [
    "0000-01-01T00:00:00.000000001+23:59",
    "0000-01-01T00:00:00-23:59",
    "1969-12-31T23:59:59.999999999Z",
    "1970-01-01T00:00:00Z",
    "2022-02-02T20:00:00+01:00",
    "2022-02-02T19:00:00z",
    "2022-02-02T19:00:00.5Z",
    "9999-12-31T23:59:60.999999999-23:59",
]
CHANNELS = ["a", "B", "b", "b.", "10", "9", "-"]
CONTENTS: list[tuple[str, dict[str, st.SearchStrategy[Any]]]] = [
    (
        "RocketLaunched",
        {
            "type": st.sampled_from(TEXTS),
            "launchSpeed": st.sampled_from([0, 5, SPEED_MAX]),
            "mission": st.sampled_from(TEXTS),
        },
    ),
    ("RocketSpeedIncreased", {"by": st.sampled_from([5, SPEED_MAX])}),
    ("RocketSpeedDecreased", {"by": st.sampled_from([5, SPEED_MAX])}),
    ("RocketMissionChanged", {"newMission": st.sampled_from(TEXTS)}),
    ("RocketExploded", {"reason": st.sampled_from(TEXTS)}),
    ("RocketRefuelled", {"litres": st.just(1)}),
]
# Mostly low ones, so that gaps close.
numbers = st.one_of(st.integers(1, 4), st.integers(1, 4), st.just(MESSAGE_NUMBER_MAX))


@st.composite
def messages(draw: st.DrawFn) -> Message:
    """Draw a message of one of a few rockets."""
    kind, content = draw(st.sampled_from([CONTENTS[0], *CONTENTS]))
    return message(
        draw(st.sampled_from(CHANNELS)),
        draw(numbers),
        kind,
        time=draw(st.sampled_from(TIMES)),
        **{name: draw(values) for name, values in content.items()},
    )


some_texts = st.frozensets(st.sampled_from([*TEXTS, "", "A\0"]), min_size=1, max_size=4)
speeds = st.sampled_from([-(2**63) + 1, -5, 0, 5, SPEED_MAX, 2**63 - 1])
sorts = st.lists(
    st.builds(SortBy, st.sampled_from(["speed", *SORT_KEYS]), st.booleans()),
    max_size=3,
    unique_by=lambda by: by.key,
).map(tuple)
# At most two filters at once, or nothing would be left.
filters = st.lists(
    st.one_of(
        st.tuples(st.just("types"), some_texts),
        st.tuples(st.just("missions"), some_texts),
        st.tuples(st.just("explosion_reasons"), some_texts),
        st.tuples(
            st.just("statuses"), st.frozensets(st.sampled_from(get_args(Status)), max_size=2)
        ),
        st.tuples(st.just("speed_min"), speeds),
        st.tuples(st.just("speed_max"), speeds),
        st.tuples(st.just("complete"), st.booleans()),
    ),
    max_size=2,
)


@st.composite
def queries(draw: st.DrawFn) -> ListQuery:
    """Draw a query, half of them without a filter."""
    filtered: dict[str, Any] = dict(draw(filters)) if draw(st.booleans()) else {}
    view = draw(st.sampled_from(get_args(View)))
    return ListQuery(sort=draw(sorts), view=view, limit=draw(st.integers(1, 4)), **filtered)


class Fleet:
    """A few rockets, and the table of them."""

    def __init__(self) -> None:
        self.ledgers: dict[str, Ledger] = {}
        self.table = RocketTable()

    def take(self, arrived: Iterable[Message]) -> None:
        """Apply messages, and bring the rockets that they are of up to date in the table."""
        changed = set()
        for each in arrived:
            ledger = self.ledgers.setdefault(each.channel, Ledger(each.channel))
            ledger.apply(each.number, each.payload, each.time)
            changed.add(each.channel)
        self.table.put([row for channel in changed for row in rows_of(self.ledgers[channel])])

    def rockets(self, view: View) -> list[Rocket]:
        """Show all rockets."""
        return [ledger.rocket(view) for ledger in self.ledgers.values()]

    def check(self, query: ListQuery) -> Cursor | None:
        """Compare one page; gives its cursor."""
        page, expected = self.table.page(query), list_page(self.rockets(query.view), query)
        assert page.channels == [rocket.channel for rocket in expected.rockets]
        assert (page.total, page.following) == (expected.total, expected.following)
        return page.following


@given(
    arrivals=st.lists(st.lists(messages(), max_size=20), min_size=1, max_size=3),
    asked=st.lists(queries(), min_size=1, max_size=4),
)
def test_every_page_is_that_of_list_page_after_any_changes(
    arrivals: list[list[Message]], asked: list[ListQuery]
) -> None:
    fleet = Fleet()
    for arrived in arrivals:
        fleet.take(arrived)
        for query in asked:
            cursor = fleet.check(query)
            while cursor is not None:
                cursor = fleet.check(msgspec.structs.replace(query, after=cursor))


@pytest.mark.parametrize("descending", [False, True])
@given(
    arrived=st.lists(messages(), max_size=20),
    then=st.sampled_from([(), (SortBy("channel"),), (SortBy("channel", True),)]),
    least=st.none() | speeds,
    most=st.none() | speeds,
    view=st.sampled_from(get_args(View)),
)
def test_the_index_by_speed_gives_every_page_within_bounds(
    descending: bool,
    arrived: list[Message],
    then: tuple[SortBy, ...],
    least: int | None,
    most: int | None,
    view: View,
) -> None:
    fleet = Fleet()
    fleet.take(arrived)
    sort = (SortBy("speed", descending), *then)
    query = ListQuery(sort=sort, speed_min=least, speed_max=most, view=view, limit=2)

    cursor = fleet.check(query)
    while cursor is not None:
        cursor = fleet.check(msgspec.structs.replace(query, after=cursor))


# What a client may put into a cursor: any value of the key's kind.
_NUMBERS = st.sampled_from([None, -(2**70), -1, 0, 1, 5, 2**63, 2**70])
_ANY_TEXT = st.sampled_from([None, "", "launched", "zz", "A\0", *TEXTS, *CHANNELS])


def values(key: SortKey) -> st.SearchStrategy[SortValue]:
    """Draw a value that a cursor may hold for a key."""
    return _ANY_TEXT if key in {"channel", "type", "mission", "status"} else _NUMBERS


@given(arrived=st.lists(messages(), max_size=20), query=queries(), data=st.data())
def test_a_cursor_that_no_page_has_given_means_the_same_place(
    arrived: list[Message], query: ListQuery, data: st.DataObject
) -> None:
    fleet = Fleet()
    fleet.take(arrived)
    place = {by.key: data.draw(values(by.key)) for by in query.sort}
    # The channel stands in a cursor twice where it is a key; two that differ mean nothing.
    channel = place.get("channel") or data.draw(st.sampled_from(["", *CHANNELS]))
    cursor = Cursor(tuple(place.values()), Channel(str(channel)))

    fleet.check(msgspec.structs.replace(query, after=cursor))


@given(arrivals=st.lists(st.lists(messages(), max_size=8), min_size=4, max_size=4), query=queries())
def test_a_walk_among_changes_goes_on_where_list_page_does(
    arrivals: list[list[Message]], query: ListQuery
) -> None:
    fleet = Fleet()
    for arrived in arrivals:
        fleet.take(arrived)
        cursor = fleet.check(query)
        if cursor is None:
            break
        query = msgspec.structs.replace(query, after=cursor)


def table_of(rockets: Sequence[Rocket]) -> RocketTable:
    table = RocketTable()
    table.put([rocket_table.row_of(rocket, BOTH_VIEWS) for rocket in rockets])
    return table


def test_a_speed_beyond_64_bits_sorts_as_the_last_that_fits_and_a_walk_sees_it_once() -> None:
    speeds = {"a": 2**63 - 2, "b": 2**64, "c": 2**63 - 1, "d": -(2**64), "e": None}
    table = table_of([Rocket(Channel(name), speed=speed) for name, speed in speeds.items()])
    query = ListQuery(sort=(SortBy("speed", True),), limit=1)
    seen: list[str] = []

    while True:
        page = table.page(query)
        seen += page.channels
        if page.following is None:
            break
        query = msgspec.structs.replace(query, after=page.following)

    assert seen == ["b", "c", "a", "d", "e"]


@pytest.mark.parametrize(
    ("query", "plan"),
    [
        (ListQuery(), {"SCAN rockets"}),
        (ListQuery(after=Cursor((), Channel("b"))), {"SEARCH rockets USING PRIMARY KEY"}),
        (ListQuery(sort=(SortBy("speed", True),)), {"SEARCH rockets USING COVERING INDEX"}),
        (
            ListQuery(sort=(SortBy("speed"),), view="settled"),
            {"SEARCH rockets USING COVERING INDEX"},
        ),
        (ListQuery(sort=(SortBy("speed"),), types=frozenset("A")), {"SCAN rockets"}),
        (ListQuery(sort=(SortBy("mission"),), speed_min=0), {"SCAN rockets"}),
    ],
)
def test_the_index_is_read_where_it_has_the_whole_order_and_nowhere_else(
    query: ListQuery, plan: set[str]
) -> None:
    text, values = page_query(query)
    explained = RocketTable()._database.execute(f"EXPLAIN QUERY PLAN {text}", values).fetchall()

    reads = {str(step) for *_, step in explained if "rockets" in str(step)}
    assert all(any(step.startswith(way) for way in plan) for step in reads), reads
    assert not any("USING INDEX" in step for step in reads), reads


def test_counts_are_kept_while_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rocket_table, "TOTALS_MAX", 2)
    table = table_of([Rocket(Channel(name), type=name) for name in "abc"])

    for name in ["a", "b", "a", "c", "d"]:
        page = table.page(ListQuery(types=frozenset({name})))
        assert page.total == len(page.channels) == (name != "d")
    table.put([rocket_table.row_of(Rocket(Channel("d"), type="d"), BOTH_VIEWS)])
    assert table.page(ListQuery(types=frozenset("d"))).total == 1
