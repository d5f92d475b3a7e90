"""Lists of rockets: filters, sorting by several keys, and pages that go on behind a rocket.

A page's cursor is the sort values and the channel of its last rocket, so a walk sees every rocket
that does not change exactly once, whatever others do meanwhile.
Nulls come last in both directions; ties go by channel upwards.
"""

from collections.abc import Callable, Iterable
from operator import itemgetter
from typing import Literal, get_args

import msgspec

from rockets.domain.messages import Channel, instant
from rockets.domain.rocket import Rocket, Status, View

SortKey = Literal[
    "channel",
    "type",
    "mission",
    "speed",
    "status",
    "launchedAt",
    "updatedAt",
    "lastMessageNumber",
    "missingCount",
]
SORT_KEYS: tuple[SortKey, ...] = get_args(SortKey)
SortValue = str | int | None


class SortBy(msgspec.Struct, frozen=True):
    """One sort key with its direction."""

    key: SortKey
    descending: bool = False


class Cursor(msgspec.Struct, frozen=True, array_like=True):
    """The place behind one rocket in a sorted list."""

    values: tuple[SortValue, ...]
    channel: Channel


class ListQuery(msgspec.Struct, frozen=True, kw_only=True):
    """What a list shows; an empty set of values does not filter."""

    sort: tuple[SortBy, ...] = ()
    types: frozenset[str] = frozenset()
    missions: frozenset[str] = frozenset()
    statuses: frozenset[Status] = frozenset()
    explosion_reasons: frozenset[str] = frozenset()
    speed_min: int | None = None
    speed_max: int | None = None
    complete: bool | None = None
    view: View = "latest"
    limit: int = 1_000
    after: Cursor | None = None


class Page(msgspec.Struct, frozen=True):
    """One page: `total` counts what matches on all pages; `following` is None on the last one."""

    total: int
    rockets: list[Rocket]
    following: Cursor | None


def _time(text: str | None) -> int | None:
    return None if text is None else instant(text)


# How a rocket compares under each key; times compare as instants, not as text.
_VALUES: dict[SortKey, Callable[[Rocket], SortValue]] = {
    "channel": lambda rocket: rocket.channel,
    "type": lambda rocket: rocket.type,
    "mission": lambda rocket: rocket.mission,
    "speed": lambda rocket: rocket.speed,
    "status": lambda rocket: rocket.status,
    "launchedAt": lambda rocket: _time(rocket.launched_at),
    "updatedAt": lambda rocket: _time(rocket.updated_at),
    "lastMessageNumber": lambda rocket: rocket.last_message_number,
    "missingCount": lambda rocket: rocket.sequence.missing_count,
}


def list_page(rockets: Iterable[Rocket], query: ListQuery) -> Page:
    """Filter, sort and cut; the rockets must be in the query's view already."""
    matching = sort_rockets((rocket for rocket in rockets if matches(rocket, query)), query.sort)
    page = matching
    if query.after is not None:
        cursor = query.after
        page = [rocket for rocket in matching if _is_behind(rocket, cursor, query.sort)]
    more = len(page) > query.limit
    page = page[: query.limit]
    return Page(len(matching), page, _cursor(page[-1], query.sort) if more else None)


def sort_rockets(rockets: Iterable[Rocket], sort: tuple[SortBy, ...]) -> list[Rocket]:
    """Sort by the keys in order, ties by channel."""
    ordered = sorted(rockets, key=lambda rocket: rocket.channel)
    for by in reversed(sort):
        value = _VALUES[by.key]
        placed = [(value(rocket), rocket) for rocket in ordered]
        filled = [pair for pair in placed if pair[0] is not None]
        # Python's sort is stable, also reversed, so equal values keep the order of later keys.
        filled.sort(key=itemgetter(0), reverse=by.descending)
        ordered = [rocket for _, rocket in filled]
        ordered += [rocket for there, rocket in placed if there is None]
    return ordered


def matches(rocket: Rocket, query: ListQuery) -> bool:
    """Say whether a rocket passes the filters of a query."""
    speed = rocket.speed
    return (
        (not query.types or rocket.type in query.types)
        and (not query.missions or rocket.mission in query.missions)
        and (not query.statuses or rocket.status in query.statuses)
        and (not query.explosion_reasons or rocket.explosion_reason in query.explosion_reasons)
        and (query.speed_min is None or (speed is not None and speed >= query.speed_min))
        and (query.speed_max is None or (speed is not None and speed <= query.speed_max))
        and (query.complete is None or rocket.sequence.complete == query.complete)
    )


def is_on_page(rocket: Rocket, query: ListQuery, following: Cursor | None) -> bool:
    """Say whether a rocket matches and lies between the two cursors of a page."""
    return (
        matches(rocket, query)
        and (query.after is None or _is_behind(rocket, query.after, query.sort))
        and (following is None or not _is_behind(rocket, following, query.sort))
    )


def _cursor(rocket: Rocket, sort: tuple[SortBy, ...]) -> Cursor:
    return Cursor(tuple(_VALUES[by.key](rocket) for by in sort), rocket.channel)


def _is_behind(rocket: Rocket, cursor: Cursor, sort: tuple[SortBy, ...]) -> bool:
    """Say whether a rocket sorts behind the cursor."""
    for by, there in zip(sort, cursor.values, strict=True):
        here = _VALUES[by.key](rocket)
        if here != there:
            return _sorts_behind(here, there, descending=by.descending)
        if by.key == "channel":
            return False  # No two rockets share it, so what comes after it decides nothing.
    return rocket.channel > cursor.channel


def _sorts_behind(here: SortValue, there: SortValue, *, descending: bool) -> bool:
    """Compare two different values of one key."""
    if here is None or there is None:
        return here is None
    behind: bool = here > there  # type: ignore[operator]  # one key has values of one type
    return behind != descending
