"""Query parameters: checked by name and value, with a refusal that names what is allowed."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar, get_args

import msgspec

from rockets.actors.listing import SORT_KEYS, Cursor, ListQuery, SortBy, SortKey
from rockets.domain.rocket import Status, View
from rockets.web.feed import INTERVAL_MAX_MS, INTERVAL_MIN_MS, INTERVAL_MS, FeedQuery
from rockets.web.problems import Refusal

T = TypeVar("T")

LIMIT_MAX = 10_000
VIEWS: tuple[View, ...] = get_args(View)
STATUSES: tuple[Status, ...] = get_args(Status)

# Parameters of the list that may be repeated: a rocket matches any of the values.
_REPEATABLE = ("type", "mission", "status", "explosionReason")
_FILTERS = (*_REPEATABLE, "minSpeed", "maxSpeed", "complete", "view")
LIST_PARAMETERS = ("sort", "order", *_FILTERS, "limit", "cursor")
FEED_PARAMETERS = (*_FILTERS, "interval", "snapshot", "lastEventId")


class Parameters:
    """The query parameters of one request; each is read by the method of its form."""

    def __init__(
        self,
        given: Mapping[str, Sequence[str]],
        allowed: Sequence[str],
        *,
        repeatable: Sequence[str] = (),
    ) -> None:
        for name, values in given.items():
            if name not in allowed:
                raise not_allowed("parameter", name, allowed)
            if len(values) > 1 and name not in repeatable:
                raise Refusal("bad-parameter", f"parameter {name!r} is given more than once")
        self._given = given

    def text(self, name: str) -> str | None:
        """The value as it is."""
        values = self._given.get(name)
        return values[0] if values else None

    def texts(self, name: str) -> frozenset[str]:
        """All values of a repeatable parameter."""
        return frozenset(self._given.get(name, ()))

    def one_of(self, name: str, allowed: Sequence[T], default: T) -> T:
        """One of a closed set of words."""
        value = self.text(name)
        return default if value is None else _one_of(name, value, allowed)

    def integer(self, name: str, *, least: int, most: int) -> int | None:
        """A whole number within bounds."""
        value = self.text(name)
        if value is None:
            return None
        digits = value.removeprefix("-")
        if digits.isascii() and digits.isdigit() and len(digits) <= 19:
            number = int(value)
            if least <= number <= most:
                return number
        raise Refusal(
            "bad-parameter", f"{name}={_cut(value)} is not a whole number from {least} to {most}"
        )

    def boolean(self, name: str) -> bool | None:
        """`true` or `false`."""
        value = self.text(name)
        return None if value is None else _one_of(name, value, ("true", "false")) == "true"

    def view(self) -> View:
        """The view of the state."""
        return self.one_of("view", VIEWS, "latest")


def list_query(given: Mapping[str, Sequence[str]]) -> ListQuery:
    """Read the parameters of `GET /rockets`."""
    parameters = Parameters(given, LIST_PARAMETERS, repeatable=_REPEATABLE)
    sort = _sort(parameters)
    return msgspec.structs.replace(
        _filters(parameters),
        sort=sort,
        limit=parameters.integer("limit", least=1, most=LIMIT_MAX) or 1_000,
        after=_cursor(parameters, sort),
    )


def feed_query(given: Mapping[str, Sequence[str]], last_event_id: str | None) -> FeedQuery:
    """Read the parameters of `GET /events`, and the header Last-Event-ID, which goes first.

    (An EventSource that comes back asks for its old URL again, with a newer header.)
    """
    parameters = Parameters(given, FEED_PARAMETERS, repeatable=_REPEATABLE)
    interval_ms = parameters.integer("interval", least=INTERVAL_MIN_MS, most=INTERVAL_MAX_MS)
    return FeedQuery(
        rockets=_filters(parameters),
        interval_ms=interval_ms or INTERVAL_MS,
        snapshot=parameters.one_of("snapshot", ("yes", "no"), "yes") == "yes",
        last_event_id=last_event_id or parameters.text("lastEventId") or None,
    )


def _filters(parameters: Parameters) -> ListQuery:
    """Read what list and feed have in common."""
    bound = 2**63 - 1
    return ListQuery(
        types=parameters.texts("type"),
        missions=parameters.texts("mission"),
        statuses=frozenset(
            _one_of("status", value, STATUSES) for value in parameters.texts("status")
        ),
        explosion_reasons=parameters.texts("explosionReason"),
        speed_min=parameters.integer("minSpeed", least=-bound, most=bound),
        speed_max=parameters.integer("maxSpeed", least=-bound, most=bound),
        complete=parameters.boolean("complete"),
        view=parameters.view(),
    )


def cursor_text(cursor: Cursor | None, sort: tuple[SortBy, ...]) -> str | None:
    """Write a cursor opaquely; it holds the sort, so that it cannot be used with another one."""
    if cursor is None:
        return None
    return urlsafe_b64encode(msgspec.json.encode((sort, cursor))).decode().rstrip("=")


def not_allowed(name: str, value: str, allowed: Sequence[object]) -> Refusal:
    """Refuse a word, naming those that are allowed."""
    words = ", ".join(map(str, allowed))
    return Refusal("bad-parameter", f"{name}={_cut(value)} is not allowed; allowed: {words}")


def _sort(parameters: Parameters) -> tuple[SortBy, ...]:
    """Read `sort=-speed,channel`, or `order=desc` for a single key without a sign."""
    text = parameters.text("sort")
    order = parameters.one_of("order", ("asc", "desc"), "asc")
    words = text.split(",") if text is not None else ["channel"]
    signed = any(word.startswith("-") for word in words)
    if parameters.text("order") is not None and (signed or len(words) > 1):
        raise Refusal(
            "bad-parameter",
            "'order' goes with a single key without a sign; write 'sort=-speed,type'",
        )
    sort = tuple(_sort_by(word, descending=order == "desc") for word in words)
    if len({by.key for by in sort}) < len(sort):
        raise Refusal("bad-parameter", "a sort key is given more than once")
    return sort


def _sort_by(word: str, *, descending: bool) -> SortBy:
    key: SortKey = _one_of("sort", word.removeprefix("-"), SORT_KEYS)
    return SortBy(key, descending or word.startswith("-"))


def _cursor(parameters: Parameters, sort: tuple[SortBy, ...]) -> Cursor | None:
    text = parameters.text("cursor")
    if text is None:
        return None
    refused = Refusal(
        "bad-parameter", "the cursor is not one that this list, sorted this way, has given"
    )
    try:
        data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
        made_for, cursor = msgspec.json.decode(data, type=tuple[tuple[SortBy, ...], Cursor])
    except (ValueError, msgspec.MsgspecError, RecursionError):
        raise refused from None
    if made_for != sort or len(cursor.values) != len(sort) or not _fits(cursor, sort):
        raise refused
    return cursor


# Keys whose values are text; all others are whole numbers.
_TEXT_KEYS = frozenset[SortKey]({"channel", "type", "mission", "status"})


def _fits(cursor: Cursor, sort: tuple[SortBy, ...]) -> bool:
    """Say whether the values have the types of their keys, so that they compare."""
    kinds: list[Callable[[object], bool]] = [
        (lambda value: isinstance(value, str | None))
        if by.key in _TEXT_KEYS
        else (lambda value: isinstance(value, int | None))
        for by in sort
    ]
    return all(kind(value) for kind, value in zip(kinds, cursor.values, strict=True))


def _one_of(name: str, value: str, allowed: Sequence[T]) -> T:
    for word in allowed:
        if word == value:
            return word
    raise not_allowed(name, value, allowed)


def _cut(value: str) -> str:
    return repr(value[:200])
