"""Query parameters: each right, wrong, unknown and repeated, and cursors tampered with."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rockets.actors.listing import SORT_KEYS, Cursor, ListQuery, SortBy
from rockets.domain.messages import Channel
from rockets.web.parameters import (
    LIMIT_MAX,
    LIST_PARAMETERS,
    STATUSES,
    Parameters,
    cursor_text,
    list_query,
)
from rockets.web.problems import Refusal

DEFAULT = ListQuery(sort=(SortBy("channel"),), limit=1_000)
BOUND = 2**63 - 1


def read(query: str) -> ListQuery:
    """Read the parameters of a list from `a=1&b=2`."""
    given: dict[str, list[str]] = {}
    for part in filter(None, query.split("&")):
        name, _, value = part.partition("=")
        given.setdefault(name, []).append(value)
    return list_query(given)


def refusal(query: str) -> str:
    """Read parameters that must be refused; gives the detail."""
    with pytest.raises(Refusal) as refused:
        read(query)
    assert refused.value.name == "bad-parameter"
    return refused.value.detail


def with_(**changes: object) -> ListQuery:
    values = {name: getattr(DEFAULT, name) for name in DEFAULT.__struct_fields__}
    return ListQuery(**(values | changes))


def by(*words: str) -> tuple[SortBy, ...]:
    keys = {str(key): key for key in SORT_KEYS}
    return tuple(SortBy(keys[word.removeprefix("-")], word.startswith("-")) for word in words)


RIGHT = {
    "": DEFAULT,
    "sort=speed": with_(sort=by("speed")),
    "sort=-speed,channel": with_(sort=by("-speed", "channel")),
    "order=desc": with_(sort=by("-channel")),
    "order=asc": DEFAULT,
    "sort=speed&order=desc": with_(sort=by("-speed")),
    "type=Falcon-9": with_(types=frozenset({"Falcon-9"})),
    "type=a&type=b&type=a": with_(types=frozenset({"a", "b"})),
    "type=": with_(types=frozenset({""})),
    "mission=a&mission=b": with_(missions=frozenset({"a", "b"})),
    "status=launched&status=exploded": with_(statuses=frozenset({"launched", "exploded"})),
    "explosionReason=a&explosionReason=b": with_(explosion_reasons=frozenset({"a", "b"})),
    "minSpeed=0": with_(speed_min=0),
    "minSpeed=-5&maxSpeed=5": with_(speed_min=-5, speed_max=5),
    f"minSpeed=-{BOUND}&maxSpeed={BOUND}": with_(speed_min=-BOUND, speed_max=BOUND),
    "complete=true": with_(complete=True),
    "complete=false": with_(complete=False),
    "view=settled": with_(view="settled"),
    "view=latest": DEFAULT,
    "limit=1": with_(limit=1),
    f"limit={LIMIT_MAX}": with_(limit=LIMIT_MAX),
}


@pytest.mark.parametrize("query", RIGHT)
def test_a_right_parameter_is_read(query: str) -> None:
    assert read(query) == RIGHT[query]


@pytest.mark.parametrize("key", SORT_KEYS)
def test_every_sort_key_works_in_both_directions(key: str) -> None:
    assert read(f"sort={key}").sort == by(key)
    assert read(f"sort=-{key}").sort == by(f"-{key}")


WRONG = [
    "sort=", "sort=Speed", "sort=speed,", "sort=--speed", "sort=+speed", "sort=speed, channel",
    "order=", "order=DESC", "order=down", "status=", "status=Launched", "view=", "view=all",
    "complete=", "complete=1", "complete=TRUE", "complete=yes",
    "limit=", "limit=0", f"limit={LIMIT_MAX + 1}", "limit=-1", "limit=1.0", "limit=1e3",
    "limit= 1", "limit=1_0", "limit=+1", "limit=0x1", "limit=\u0661", "limit=--1", "limit=-",
    "minSpeed=", "minSpeed=fast", f"minSpeed={BOUND + 1}", f"maxSpeed=-{BOUND + 1}",
    "maxSpeed=" + "9" * 5_000, "cursor=", "cursor=x",
]  # fmt: skip


@pytest.mark.parametrize("query", WRONG)
def test_a_wrong_value_is_refused_and_named(query: str) -> None:
    detail = refusal(query)

    assert query.partition("=")[0] in detail
    assert len(detail) < 500


@pytest.mark.parametrize(
    ("query", "words"),
    [("sort=x", SORT_KEYS), ("status=x", STATUSES), ("sor=speed", LIST_PARAMETERS)],
)
def test_a_refusal_names_what_is_allowed(query: str, words: tuple[str, ...]) -> None:
    assert refusal(query).endswith(", ".join(words))


@pytest.mark.parametrize("query", ["sorts=x", "SORT=speed", "=x", "type[]=x", "\0=x"])
def test_an_unknown_parameter_is_refused(query: str) -> None:
    assert "is not allowed" in refusal(query)


REPEATABLE = {"type", "mission", "status", "explosionReason"}


@pytest.mark.parametrize("name", sorted(set(LIST_PARAMETERS) - REPEATABLE))
def test_a_parameter_with_one_value_is_refused_twice_even_with_the_same(name: str) -> None:
    assert refusal(f"{name}=1&{name}=1") == f"parameter {name!r} is given more than once"


@pytest.mark.parametrize("query", ["sort=-speed&order=asc", "sort=speed,type&order=desc"])
def test_order_goes_with_a_single_unsigned_key_only(query: str) -> None:
    assert "'order'" in refusal(query)


@pytest.mark.parametrize("query", ["sort=speed,speed", "sort=speed,-speed"])
def test_a_sort_key_given_twice_is_refused(query: str) -> None:
    assert "more than once" in refusal(query)


def test_a_single_rocket_takes_the_view_only() -> None:
    assert Parameters({"view": ["settled"]}, ("view",)).view() == "settled"
    with pytest.raises(Refusal):
        Parameters({"limit": ["1"]}, ("view",))


CURSORS = [
    ("sort=channel", Cursor(("c",), Channel("c"))),
    ("sort=-speed,mission", Cursor((-5, None), Channel("c"))),
    ("sort=launchedAt", Cursor((None,), Channel("c"))),
    ("sort=status,missingCount", Cursor(("launched", 3), Channel("c"))),
]


@pytest.mark.parametrize(("query", "cursor"), CURSORS)
def test_a_cursor_comes_back_as_it_was_given(query: str, cursor: Cursor) -> None:
    text = cursor_text(cursor, read(query).sort)

    assert text is not None
    assert "=" not in text
    assert read(f"{query}&cursor={text}").after == cursor


def test_the_last_page_has_no_cursor() -> None:
    assert cursor_text(None, by("speed")) is None


def encoded(content: object) -> str:
    return urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


SORT = [{"key": "speed", "descending": False}]
TAMPERED = {
    "another sort": cursor_text(Cursor((5,), Channel("c")), by("-speed")),
    "text for a number": encoded([SORT, [["5"], "c"]]),
    "a fraction": encoded([SORT, [[5.5], "c"]]),
    "a truth value": encoded([SORT, [[True], "c"]]),
    "too many values": encoded([SORT, [[5, 5], "c"]]),
    "no values": encoded([SORT, [[], "c"]]),
    "a channel that is a number": encoded([SORT, [[5], 5]]),
    "no channel": encoded([SORT, [[5]]]),
    "an unknown sort key": encoded([[{"key": "x", "descending": False}], [[5], "c"]]),
    "no cursor": encoded([SORT]),
    "null": encoded(None),
    "deep nesting": urlsafe_b64encode(b"[" * 5_000).decode(),
    "not UTF-8": urlsafe_b64encode(b'[[],["\xff"]]').decode(),
    "not base64": "!!!!",
    "one letter": "A",
    "not ASCII": "\u00e9",
    "surrogates": "\udcff",
}


@pytest.mark.parametrize("case", TAMPERED)
def test_a_cursor_that_was_tampered_with_is_refused(case: str) -> None:
    assert "cursor" in refusal(f"sort=speed&cursor={TAMPERED[case]}")


@given(st.text(max_size=80) | st.binary(max_size=60).map(lambda d: urlsafe_b64encode(d).decode()))
def test_any_text_for_a_cursor_is_a_refusal_at_worst(text: str) -> None:
    with pytest.raises(Refusal):
        list_query({"cursor": [text]})


@given(st.data())
def test_a_cursor_with_one_byte_changed_is_a_refusal_at_worst(data: st.DataObject) -> None:
    text = cursor_text(Cursor((5,), Channel("channel-1")), by("speed"))
    assert text is not None
    content = bytearray(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    changed = urlsafe_b64encode(content).decode()
    try:
        query = list_query({"sort": ["speed"], "cursor": [changed]})
    except Refusal:
        return
    assert query.after is not None
    assert isinstance(query.after.values[0], int)
