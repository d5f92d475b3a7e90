"""Lists: sorting with nulls last, filters, and a cursor walk among changes."""

import random
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rockets.actors.listing import SORT_KEYS, Cursor, ListQuery, SortBy, SortKey, list_page
from rockets.domain.messages import Channel
from rockets.domain.rocket import Rocket, Sequence, Status

TIMES = [None, "2022-02-02T20:00:00+01:00", "2022-02-02T19:30:00Z", "2022-02-02T19:00:00.5Z"]

rockets = st.lists(
    st.builds(
        Rocket,
        channel=st.text("abc", min_size=1, max_size=4).map(Channel),
        type=st.sampled_from([None, "A", "B"]),
        mission=st.sampled_from([None, "M"]),
        speed=st.sampled_from([None, -5, 0, 5]),
        status=st.sampled_from(get_args(Status)),
        launched_at=st.sampled_from(TIMES),
        updated_at=st.sampled_from(TIMES),
        last_message_number=st.integers(0, 2),
        sequence=st.builds(Sequence, missing_count=st.integers(0, 1), complete=st.booleans()),
    ),
    max_size=12,
    unique_by=lambda rocket: rocket.channel,
)
sorts = st.lists(
    st.builds(SortBy, st.sampled_from(SORT_KEYS), st.booleans()),
    max_size=3,
    unique_by=lambda by: by.key,
).map(tuple)


def walk(fleet: list[Rocket], query: ListQuery) -> list[Rocket]:
    """Read all pages."""
    seen: list[Rocket] = []
    cursor: Cursor | None = None
    while True:
        page = list_page(fleet, msgspec.structs.replace(query, after=cursor))
        seen += page.rockets
        if page.following is None:
            return seen
        cursor = page.following


@given(fleet=rockets, sort=sorts, limit=st.integers(1, 4))
def test_walking_the_pages_gives_the_whole_list(
    fleet: list[Rocket], sort: tuple[SortBy, ...], limit: int
) -> None:
    whole = list_page(fleet, ListQuery(sort=sort, limit=1_000)).rockets

    assert walk(fleet, ListQuery(sort=sort, limit=limit)) == whole
    assert sorted(whole, key=str) == sorted(fleet, key=str)


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("key", SORT_KEYS)
@given(fleet=rockets)
def test_nulls_come_last_and_ties_go_by_channel(
    key: SortKey, descending: bool, fleet: list[Rocket]
) -> None:
    listed = list_page(fleet, ListQuery(sort=(SortBy(key, descending),))).rockets

    field = {"launchedAt": "launched_at", "updatedAt": "updated_at", "type": "type"}.get(key)
    if field is not None:
        nulls = [getattr(rocket, field) is None for rocket in listed]
        assert nulls == sorted(nulls)
    if key == "status":
        for status in get_args(Status):
            channels = [rocket.channel for rocket in listed if rocket.status == status]
            assert channels == sorted(channels)


def test_times_are_compared_as_instants() -> None:
    fleet = [Rocket(Channel(str(i)), launched_at=time) for i, time in enumerate(TIMES)]

    listed = list_page(fleet, ListQuery(sort=(SortBy("launchedAt"),))).rockets

    assert [rocket.channel for rocket in listed] == ["1", "3", "2", "0"]


FILTERS: list[tuple[ListQuery, list[str]]] = [
    (ListQuery(), ["a", "b", "c"]),
    (ListQuery(types=frozenset({"A"})), ["a"]),
    (ListQuery(types=frozenset({"A", "B"})), ["a", "b"]),
    (ListQuery(missions=frozenset({"M"})), ["b"]),
    (ListQuery(statuses=frozenset({"exploded"})), ["c"]),
    (ListQuery(explosion_reasons=frozenset({"X"})), ["c"]),
    (ListQuery(speed_min=5), ["b"]),
    (ListQuery(speed_max=5), ["a", "b"]),
    (ListQuery(speed_min=1, speed_max=4), ["a"]),
    (ListQuery(complete=False), ["b"]),
    (ListQuery(complete=True, types=frozenset({"B"})), []),
]


@pytest.mark.parametrize(("query", "channels"), FILTERS)
def test_filters(query: ListQuery, channels: list[str]) -> None:
    fleet = [
        Rocket(Channel("a"), type="A", speed=4),
        Rocket(Channel("b"), type="B", mission="M", speed=5, sequence=Sequence(complete=False)),
        Rocket(Channel("c"), status="exploded", explosion_reason="X"),
    ]

    page = list_page(fleet, query)

    assert [rocket.channel for rocket in page.rockets] == channels
    assert page.total == len(channels)


def test_a_walk_sees_every_unchanged_rocket_once_while_others_change() -> None:
    randomness = random.Random(3)
    fleet = [Rocket(Channel(f"{i:05d}"), speed=randomness.randrange(99)) for i in range(2_000)]
    changing = set(randomness.sample(range(len(fleet)), 200))
    query = ListQuery(sort=(SortBy("speed", True),), limit=300)
    seen: list[str] = []
    cursor: Cursor | None = None

    while True:
        page = list_page(fleet, msgspec.structs.replace(query, after=cursor))
        seen += [rocket.channel for rocket in page.rockets]
        cursor = page.following
        if cursor is None:
            break
        for index in randomness.sample(sorted(changing), 60):
            speed = randomness.randrange(99)
            fleet[index] = msgspec.structs.replace(fleet[index], speed=speed)

    unchanged = {rocket.channel for i, rocket in enumerate(fleet) if i not in changing}
    assert sorted(c for c in seen if c in unchanged) == sorted(unchanged)


@pytest.mark.slow
def test_a_walk_of_ten_thousand_rockets_is_whole_while_a_thousand_change_at_every_page() -> None:
    randomness = random.Random(5)
    fleet = [Rocket(Channel(f"{i:05d}"), speed=randomness.randrange(99)) for i in range(10_000)]
    changing = set(randomness.sample(range(len(fleet)), 1_000))
    query = ListQuery(sort=(SortBy("speed", True),), limit=1_000)
    seen: list[str] = []
    cursor: Cursor | None = None

    while True:
        page = list_page(fleet, msgspec.structs.replace(query, after=cursor))
        assert page.total == len(fleet)
        seen += [rocket.channel for rocket in page.rockets]
        cursor = page.following
        if cursor is None:
            break
        for index in sorted(changing):
            speed = randomness.choice([None, *range(99)])
            fleet[index] = msgspec.structs.replace(fleet[index], speed=speed)

    unchanged = {rocket.channel for i, rocket in enumerate(fleet) if i not in changing}
    assert sorted(c for c in seen if c in unchanged) == sorted(unchanged)
    assert len(unchanged) == 9_000
