"""What a list asks the rocket table: a `ListQuery` as SQL, with the meaning of `listing`.

Theory.
The order of a list is a row of *terms*, columns with a direction: those of its sort keys, an
instant being two, and at last the channel, which no two rockets share.
A row is behind a cursor if it is behind it in some term and equal in all before.
NULLs are last in both directions: nothing is behind a NULL, and a NULL is behind everything else.

Texts compare byte by byte in UTF-8, which is the order of their code points, as in Python.

Two orders are there already: by channel, the table itself, and by speed, the index. All others scan
the table; a unary plus keeps SQLite from the index then, since going from there to the table for
every row is twenty times slower than reading the table in its own order.
The index lists NULLs on the wrong side for one direction, so it is read in two parts.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

import msgspec

from rockets.actors.listing import Cursor, ListQuery, SortBy, SortKey, SortValue
from rockets.domain.message_time import NANOSECONDS
from rockets.domain.messages import Channel
from rockets.domain.rocket import View

_LEAST, _MOST = -(2**63), 2**63 - 1

# Which views a row is for.
BOTH_VIEWS, LATEST_ALONE, SETTLED_ALONE = 0, 1, 2
_VIEWS: dict[View, str] = {
    "latest": f"+view <> {SETTLED_ALONE}",
    "settled": f"+view <> {LATEST_ALONE}",
}

# The columns of each key, and whether they can be NULL.
_COLUMNS: dict[SortKey, tuple[tuple[str, ...], bool]] = {
    "channel": (("channel",), False),
    "type": (("type",), True),
    "mission": (("mission",), True),
    "speed": (("speed",), True),
    "status": (("status",), False),
    "launchedAt": (("launched", "launched_nanos"), True),
    "updatedAt": (("updated", "updated_nanos"), True),
    "lastMessageNumber": (("last",), False),
    "missingCount": (("missing",), False),
}

Query: TypeAlias = tuple[str, tuple[SortValue, ...]]
"""SQL, or a piece of it, and the values of its parameters in their order."""


class _Term(NamedTuple):
    """One column that a list is sorted by, and where the cursor stands in it."""

    column: str
    descending: bool
    nullable: bool
    there: SortValue


def clamp(number: int) -> int:
    """Bring a number into 64 bits; a speed beyond takes nine billion messages."""
    return number if _LEAST <= number <= _MOST else _LEAST if number < 0 else _MOST


def is_filtered(query: ListQuery) -> bool:
    """Say whether a query leaves rockets out."""
    return bool(_filters(query, "speed"))


def is_quick(query: ListQuery) -> bool:
    """Say whether only the page itself is read, not all that match or all there is."""
    by_channel = not query.sort or query.sort[0].key == "channel"
    return not is_filtered(query) and (by_channel or _is_by_speed(query))


def count_query(query: ListQuery) -> Query:
    """Count the rows that match; without a filter all of both views."""
    if not is_filtered(query):
        return "SELECT count(*) FROM rockets", ()
    filters = _filters(query, "speed")
    if len(filters) > 1:
        filters = _filters(query, "+speed")
    where, values = _all([(_VIEWS[query.view], ()), *filters])
    return f"SELECT count(*) FROM rockets WHERE {where}", values


def page_query(query: ListQuery) -> Query:
    """Give a page and one row more: a JSON array of rows, channel first, then the sort keys."""
    columns = ["channel", *(column for by in query.sort for column in _COLUMNS[by.key][0])]
    names = [f"c{place}" for place in range(len(columns))]
    selected = ", ".join(f"{column} AS {name}" for column, name in zip(columns, names, strict=True))
    parts = list(_parts_by_speed(query) if _is_by_speed(query) else _parts_by_scan(query))
    rows = " UNION ALL ".join(
        f"SELECT * FROM (SELECT {selected} FROM rockets {part} LIMIT ?)" for part, _ in parts
    )
    size = query.limit + 1
    values = [value for _, values in parts for value in (*values, size)]
    return (
        f"SELECT json_group_array(json_array({', '.join(names)})) "
        f"FROM (SELECT * FROM ({rows}) LIMIT ?)",
        (*values, size),
    )


def cursor_of(row: Sequence[SortValue], sort: tuple[SortBy, ...]) -> Cursor:
    """Make the cursor behind a row of `page_query`."""
    columns = iter(row[1:])
    values: list[SortValue] = []
    for by in sort:
        value, *rest = [next(columns) for _ in _COLUMNS[by.key][0]]
        if rest and value is not None:
            [nanoseconds] = rest
            value = int(value) * NANOSECONDS + int(nanoseconds or 0)
        values.append(value)
    return Cursor(tuple(values), Channel(str(row[0])))


# --- the ways of reading ----------------------------------------------------------------------


def _parts_by_scan(query: ListQuery) -> list[Query]:
    """Read the table, in its order or sorting what matches."""
    terms = [
        term._replace(column="+speed") if term.column == "speed" else term for term in _terms(query)
    ]
    return [_part(query, _filters(query, "+speed"), terms)]


def _is_by_speed(query: ListQuery) -> bool:
    """Say whether the index by speed has the order of the list and all that is filtered by."""
    keys = [by.key for by in query.sort]
    other = _filters(msgspec.structs.replace(query, speed_min=None, speed_max=None), "speed")
    return keys in (["speed"], ["speed", "channel"]) and not other


def _parts_by_speed(query: ListQuery) -> Iterator[Query]:
    """Read the index: first the rockets that have a speed, then those that have none."""
    speed, channel = _terms(query)
    filters = _filters(query, "speed")
    has_cursor = query.after is not None
    if not has_cursor or speed.there is not None:
        filled: list[Query] = [("speed IS NOT NULL", ()), *filters]
        if has_cursor:
            filled.append((f"speed {'<=' if speed.descending else '>='} ?", (speed.there,)))
        yield _part(query, filled, [speed._replace(nullable=False), channel])
        if filters:
            return  # no bound lets a rocket without a speed pass
        query = msgspec.structs.replace(query, after=None)
    # Of these the channel alone decides, which is also how SQLite finds the cursor's place.
    yield _part(query, [("speed IS NULL", ()), *filters], [channel])


def _part(query: ListQuery, conditions: Sequence[Query], terms: Sequence[_Term]) -> Query:
    """Write what stands behind FROM, but for the limit."""
    conditions = [(_VIEWS[query.view], ()), *conditions]
    if query.after is not None:
        conditions.append(_behind(terms))
    where, values = _all(conditions)
    return f"WHERE {where} ORDER BY {', '.join(map(_order, terms))}", values


# --- conditions and order ---------------------------------------------------------------------


def _filters(query: ListQuery, speed: str) -> list[Query]:
    """Write the filters; all of them must hold. `speed` is how to call that column."""
    filters: list[Query] = [
        (f"{column} IN ({', '.join('?' * len(values))})", tuple(sorted(values)))
        for column, values in (
            ("type", query.types),
            ("mission", query.missions),
            ("status", query.statuses),
            ("reason", query.explosion_reasons),
        )
        if values
    ]
    if query.complete is not None:
        filters.append((f"missing {'=' if query.complete else '>'} 0", ()))
    bounds: list[Query] = [
        (f"{speed} {sign} ?", (clamp(bound),))
        for sign, bound in ((">=", query.speed_min), ("<=", query.speed_max))
        if bound is not None
    ]
    return [*filters, _all(bounds)] if bounds else filters


def _terms(query: ListQuery) -> list[_Term]:
    """Resolve the sort keys; behind the channel nothing decides any more."""
    after = query.after or Cursor((None,) * len(query.sort), Channel(""))
    terms: list[_Term] = []
    for by, there in zip(query.sort, after.values, strict=True):
        columns, nullable = _COLUMNS[by.key]
        values: tuple[SortValue, ...] = (there,)
        if isinstance(there, int):
            values = divmod(there, NANOSECONDS) if len(columns) > 1 else (there,)
            values = tuple(clamp(value) for value in values)
        terms += [
            _Term(column, by.descending, nullable, values[min(place, len(values) - 1)])
            for place, column in enumerate(columns)
        ]
        if by.key == "channel":
            return terms
    return [*terms, _Term("channel", descending=False, nullable=False, there=after.channel)]


def _behind(terms: Sequence[_Term]) -> Query:
    """Write that a row is behind the cursor."""
    ways: list[Query] = []
    equal: list[Query] = []
    for term in terms:
        if term.there is not None:
            further = f"{term.column} {'<' if term.descending else '>'} ?"
            if term.nullable:
                further = f"({further} OR {term.column} IS NULL)"
            ways.append(_all([*equal, (further, (term.there,))]))
        equal.append((f"{term.column} IS ?", (term.there,)))
    return (
        f"({' OR '.join(text for text, _ in ways) or 'false'})",
        tuple(value for _, values in ways for value in values),
    )


def _all(conditions: Sequence[Query]) -> Query:
    return (
        " AND ".join(text for text, _ in conditions),
        tuple(value for _, values in conditions for value in values),
    )


def _order(term: _Term) -> str:
    if term.descending:
        return f"{term.column} DESC"  # NULL is the least value of all
    return f"{term.column} NULLS LAST" if term.nullable else term.column
