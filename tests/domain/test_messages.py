"""Messages: which bodies become one, which do not, and what is said about those."""

import json
import random
from datetime import UTC, datetime, timedelta, timezone
from time import perf_counter
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rockets.domain import checker, messages
from rockets.domain.messages import (
    Message,
    MessageInvalid,
    MessageMalformed,
    RocketExploded,
    RocketLaunched,
    RocketMissionChanged,
    RocketSpeedDecreased,
    RocketSpeedIncreased,
    UnknownMessage,
    decode_message,
    instant,
    normalize_channel,
)
from tests.domain.broken_bodies import (
    BROKEN_BODIES,
    CHANNEL,
    PAYLOADS,
    TIME,
    body_of,
    nested,
    with_literal,
)

Verdict = tuple[int, tuple[str, ...]]


def verdict_of(body: bytes) -> Verdict:
    """What a client would get: status and pointers."""
    try:
        decode_message(body)
    except MessageMalformed:
        return 400, ()
    except MessageInvalid as error:
        return 422, tuple(wrong.pointer for wrong in error.errors)
    return 204, ()


# --- accepted --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        ("RocketLaunched", RocketLaunched("Falcon-9", 500, "ARTEMIS")),
        ("RocketSpeedIncreased", RocketSpeedIncreased(3000)),
        ("RocketSpeedDecreased", RocketSpeedDecreased(2500)),
        ("RocketExploded", RocketExploded("PRESSURE_VESSEL_FAILURE")),
        ("RocketMissionChanged", RocketMissionChanged("SHUTTLE_MIR")),
        ("Later", UnknownMessage("Later", "{}")),
    ],
)
def test_every_type_is_decoded_and_keeps_time_and_body_as_sent(
    kind: str, payload: messages.Payload
) -> None:
    body = body_of(kind)
    message = decode_message(body)
    assert message == Message(
        normalize_channel(CHANNEL), messages.MessageNumber(1), TIME, payload, body
    )
    assert message.message_type == kind


LEGAL = [
    ("channel of 1", with_literal("/metadata/channel", '"a"')),
    ("channel of 128", with_literal("/metadata/channel", '"%s"' % ("a" * 128))),
    ("channel of all kinds of characters", with_literal("/metadata/channel", '"A-z.0_9:-"')),
    ("channel with escapes", with_literal("/metadata/channel", '"\\u0061"')),
    ("number 1", with_literal("/metadata/messageNumber", "1")),
    ("greatest number", with_literal("/metadata/messageNumber", "9007199254740991")),
    ("type name of 64", body_of("x" * 64)),
    ("type name of digits", body_of("0-_9")),
    ("speed 0", with_literal("/message/launchSpeed", "0")),
    ("speed minus 0", with_literal("/message/launchSpeed", "-0")),
    ("greatest speed", with_literal("/message/launchSpeed", "1000000000")),
    ("text of 1", with_literal("/message/mission", '" "')),
    ("text of 256 beyond the basic plane", with_literal("/message/mission", '"%s"' % ("🚀" * 256))),
    ("text of escaped surrogate pairs", with_literal("/message/mission", '"\\ud83d\\ude80"')),
    ("text next to control characters", with_literal("/message/mission", '"~\\u00a0\\u2028"')),
    ("text with escaped quotes", with_literal("/message/mission", '"\\"[{\\\\\\/"')),
    ("brackets in strings", with_literal("/message/mission", '"%s"' % ("[{" * 100))),
    ("16 levels", nested(16)),
    ("16 levels in an ignored field", body_of("RocketExploded", {"reason": "x", "y": [[[[{}]]]]})),
    ("many brackets, not deep", body_of("Later", {"x": [[]] * 1000})),
    ("unknown fields everywhere", body_of()[:-1] + b', "x": [1e400, {"y": null}]}'),
    ("5,000 digits in an ignored field", body_of()[:-1] + b', "x": ' + b"9" * 5000 + b"}"),
    ("white space", b" \r\n\t" + body_of() + b"\n "),
    ("wrong duplicate before", b'{"metadata": 1, "message": [], ' + body_of()[1:]),
    ("wrong duplicate field before", with_literal("/message/launchSpeed", '"x", "launchSpeed": 5')),
    ("unknown type with any numbers", body_of("Later", {"a": [10**400, -(10**30), 0.5]})),
]


@pytest.mark.parametrize("body", [pytest.param(body, id=name) for name, body in LEGAL])
def test_a_legal_body_is_accepted(body: bytes) -> None:
    assert verdict_of(body) == (204, ())


@pytest.mark.parametrize(
    "time",
    [
        *("2022-02-02T19:39:05Z", "2022-02-02t19:39:05z", "0000-01-01T00:00:00Z"),
        *("0000-02-29T00:00:00Z", "2000-02-29T00:00:00Z", "2024-02-29T23:59:59Z"),
        *(
            "9999-12-31T23:59:59.999999999-23:59",
            "2016-12-31T23:59:60Z",
            "2022-06-30T00:00:00+23:59",
        ),
        *("2022-01-31T00:00:00.0Z", "2022-01-01T00:00:00-00:00"),
    ],
)
def test_a_legal_time_is_accepted_and_kept(time: str) -> None:
    assert decode_message(body_of(messageTime=time)).time == time


# --- refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "pointers"),
    [pytest.param(body, status, places, id=name) for name, body, status, places in BROKEN_BODIES],
)
def test_a_broken_body_is_refused_and_every_wrong_field_is_named(
    body: bytes, status: int, pointers: tuple[str, ...]
) -> None:
    assert verdict_of(body) == (status, pointers)


def test_names_of_broken_bodies_are_unique() -> None:
    names = [name for name, *_ in BROKEN_BODIES]
    assert len(names) == len(set(names))


def test_details_say_what_a_field_must_be() -> None:
    with pytest.raises(MessageInvalid) as refused:
        decode_message(body_of(message={}, messageNumber=0))
    assert [(error.pointer, error.detail) for error in refused.value.errors] == [
        ("/metadata/messageNumber", "must be an integer from 1 to 9007199254740991"),
        ("/message/type", "is missing"),
        ("/message/launchSpeed", "is missing"),
        ("/message/mission", "is missing"),
    ]


def test_details_hold_nothing_of_the_input() -> None:
    for name, body, _, _ in BROKEN_BODIES:
        with pytest.raises((MessageInvalid, MessageMalformed)) as refused:
            decode_message(body)
        text = str(refused.value)
        assert len(text) < 600, name
        assert text.isprintable(), name
        assert text.isascii(), name


@pytest.mark.parametrize("bomb", [b"[" * 100_000, b'{"a":' * 13_000, b"[]" * 32_000])
def test_a_body_made_to_be_slow_is_refused_quickly(bomb: bytes) -> None:
    times = []
    for _ in range(20):
        start = perf_counter()
        verdict_of(bomb)
        times.append(perf_counter() - start)
    assert min(times) < 0.02  # seconds; a tenth of this on an idle machine


# --- channels --------------------------------------------------------------------------------


def test_a_uuid_is_lower_cased_in_bodies_and_urls() -> None:
    shouted = CHANNEL.upper()
    assert decode_message(body_of(channel=shouted)).channel == CHANNEL
    assert normalize_channel(shouted) == CHANNEL


@pytest.mark.parametrize("name", ["Rocket-1", "A" * 36, CHANNEL.upper() + "A", "G" + CHANNEL[1:]])
def test_other_names_keep_their_case(name: str) -> None:
    assert normalize_channel(name) == name
    assert decode_message(body_of(channel=name)).channel == name


@pytest.mark.parametrize("name", ["", "a b", "a\n", "é", "a" * 129, CHANNEL + "\n", "\ud800"])
def test_a_name_that_no_channel_can_have_is_a_value_error(name: str) -> None:
    with pytest.raises(ValueError, match="must be 1 to 128 characters"):
        normalize_channel(name)


# --- content ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ('{"a": 1, "b": [2]}', '{"b":[2],"a":1}', True),
        ('{"a": {"c": 1, "b": 2}}', '{"a": {"b": 2, "c": 1}}', True),
        ('{"a": "\\u00e9"}', '{"a": "é"}', True),
        ('{"a": 0, "a": 1}', '{"a": 1}', True),
        ('{"a": 1.0}', '{"a": 1e0}', True),
        ('{"a": -0}', '{"a": 0}', True),
        ('{"a": 1}', '{"a": 1.0}', False),
        ('{"a": 1}', '{"a": true}', False),
        ('{"a": 1}', '{"a": "1"}', False),
        ('{"a": null}', "{}", False),
        ('{"a": [1, 2]}', '{"a": [2, 1]}', False),
        ('{"a": 123456789012345678901}', '{"a": 123456789012345678902}', False),
    ],
)
def test_content_of_an_unknown_type_is_its_json_with_sorted_keys(
    one: str, other: str, same: bool
) -> None:
    left, right = (
        decode_message(body_of("Later", "@").replace(b'"@"', text.encode())).payload
        for text in (one, other)
    )
    assert (left == right) is same


def test_increase_and_decrease_by_the_same_are_not_the_same_content() -> None:
    up, down = (
        decode_message(body_of(f"RocketSpeed{way}", {"by": 1}))
        for way in ("Increased", "Decreased")
    )
    assert up.payload != down.payload


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
    max_leaves=6,
)
JSON_OBJECTS = st.dictionaries(st.text(st.characters(codec="utf-8")), JSON_VALUES, max_size=4)


def shuffled(value: Any, source: random.Random) -> Any:
    """The same JSON value with the keys of every object in another order."""
    if isinstance(value, list):
        return [shuffled(item, source) for item in value]
    if not isinstance(value, dict):
        return value
    keys = source.sample(sorted(value), len(value))
    return {key: shuffled(value[key], source) for key in keys}


@settings(deadline=None)
@given(
    st.sampled_from([*PAYLOADS, "Later"]),
    JSON_OBJECTS,
    st.randoms(use_true_random=False),
    st.booleans(),
)
def test_content_does_not_depend_on_formatting_or_time(
    kind: str, anything: dict[str, Any], source: random.Random, escaped: bool
) -> None:
    message = PAYLOADS.get(kind, anything)
    first = body_of(kind, message)
    again = shuffled(json.loads(body_of(kind, message, messageTime="2030-01-01T00:00:00Z")), source)
    second = json.dumps(again, indent=source.randrange(3), ensure_ascii=escaped).encode()
    assert decode_message(first).payload == decode_message(second).payload


# --- any bytes -------------------------------------------------------------------------------

# No deadline per example: how fast an example runs depends on the machine.
THOROUGH = settings(max_examples=500, deadline=None)

TOKENS = st.sampled_from(
    [
        *(
            b"{",
            b"}",
            b"[",
            b"]",
            b",",
            b":",
            b'"',
            b"\\",
            b"\\u",
            b"\\ud800",
            b"\\n",
            b"\x00",
            b"\xff",
        ),
        *(
            b"-",
            b"0",
            b"1",
            b".5",
            b"e9",
            b"1e400",
            b"9" * 20,
            b"9" * 5000,
            b"null",
            b"true",
            b"NaN",
        ),
        *(
            b"\xc3\xa9",
            b"\xed\xa0\x80",
            b"\xef\xbb\xbf",
            b" ",
            b"[" * 20,
            b"/",
            b'"a"',
            b"{}",
            b"[]",
        ),
        *(b'"channel":', b'"by":', b'"metadata":', b'"message":', b'{"x":', b'"RocketExploded"'),
    ]
)


@st.composite
def mutated_bodies(draw: st.DrawFn) -> bytes:
    """A valid body in which some stretches were replaced by tokens or by other stretches."""
    body = body_of(draw(st.sampled_from([*PAYLOADS, "Later"])))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(body)))
        end = min(len(body), start + draw(st.integers(0, 12)))
        body = body[:start] + draw(TOKENS | st.binary(max_size=4) | st.just(body)) + body[end:]
    return body


VALUES = st.sampled_from(
    [
        *(
            "null",
            "true",
            "0",
            "-0",
            "1",
            "1.0",
            "1e3",
            "1e400",
            "9007199254740991",
            "9007199254740992",
        ),
        *(
            "1000000000",
            "1000000001",
            "9" * 30,
            "9" * 5000,
            '""',
            '"a"',
            '"a\\n"',
            '"\\u0000"',
            '"\\ud800"',
        ),
        *(
            '"\\u0085"',
            f'"{TIME}"',
            '"2023-02-29T00:00:00Z"',
            '"Later"',
            '"RocketExploded"',
            "[]",
            "{}",
        ),
        *(f'"{"a" * size}"' for size in (64, 65, 128, 129, 256, 257)),
    ]
)


@st.composite
def assembled_bodies(draw: st.DrawFn) -> bytes:
    """A body of the right shape whose fields hold legal and illegal values, twice at times."""
    kind = draw(st.sampled_from([*PAYLOADS, "Later"]))
    parts = []
    for name, fields in json.loads(body_of(kind)).items():
        members = [(key, json.dumps(value)) for key, value in fields.items()]
        members += draw(
            st.lists(st.tuples(st.sampled_from([*fields, "other"]), VALUES), max_size=3)
        )
        members = draw(st.permutations(members))
        parts.append((name, object_of(members)))
    return object_of(parts).encode()


def object_of(members: list[tuple[str, str]]) -> str:
    """JSON text of an object whose values are JSON texts already; keys may repeat."""
    return "{" + ",".join(f'"{key}":{value}' for key, value in members) + "}"


@given(st.binary() | st.lists(TOKENS).map(b"".join) | mutated_bodies() | assembled_bodies())
@THOROUGH
def test_any_bytes_are_a_message_or_one_of_the_two_errors(body: bytes) -> None:
    status, pointers = verdict_of(body)
    assert (status == 422) is bool(pointers)


@given(mutated_bodies() | assembled_bodies())
@THOROUGH
def test_the_fast_way_and_the_checker_agree(body: bytes) -> None:
    try:
        checker.check_utf8(body)  # both ways begin only after these two
        checker.check_depth(body, messages.DEPTH_MAX)
        slow: object = messages._read_slowly(body)
    except (MessageInvalid, MessageMalformed) as error:
        slow = type(error)
    try:
        fast: object = messages._read(body, body)
    except (msgspec.DecodeError, ValueError):
        # Refused here and fine there is only the earlier one of duplicate keys.
        assert not isinstance(slow, Message) or has_duplicate_keys(body)
    except RecursionError:
        assert slow is MessageInvalid
    else:
        assert fast == slow or verdict_of(body)[0] != 204


def has_duplicate_keys(body: bytes) -> bool:
    """Whether any object in a body has one key twice."""
    found = False

    def note(pairs: list[tuple[str, object]]) -> None:
        nonlocal found
        found = found or len({key for key, _ in pairs}) < len(pairs)

    json.loads(body, object_pairs_hook=note, parse_int=str)
    return found


def test_the_loose_shape_of_the_fast_way_has_the_fields_of_metadata() -> None:
    def names(kind: type[msgspec.Struct]) -> list[str]:
        return [field.encode_name for field in msgspec.structs.fields(kind)]

    assert names(messages._LooseMetadata) == names(messages.Metadata)


# --- instants --------------------------------------------------------------------------------

SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("time", "nanoseconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.000000001Z", 1),
        ("1970-01-01t00:00:00.1z", SECOND // 10),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1969-12-31T23:30:00-00:30", 0),
        ("1970-01-01T00:00:60Z", 60 * SECOND),
        ("1970-01-01T00:00:60.5Z", 60 * SECOND + SECOND // 2),
        ("1969-12-31T23:59:59.999999999Z", -1),
        ("0000-01-01T00:00:00Z", -62_167_219_200 * SECOND),
        ("9999-12-31T23:59:59.999999999Z", 253_402_300_800 * SECOND - 1),
        ("9999-12-31T23:59:60-23:59", (253_402_300_800 + 86_340) * SECOND),
    ],
)
def test_an_instant_is_exact(time: str, nanoseconds: int) -> None:
    assert instant(time) == nanoseconds


OFFSETS = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
MOMENTS = st.datetimes(timezones=OFFSETS)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@settings(deadline=None)
@given(MOMENTS, MOMENTS)
def test_instants_are_those_of_datetime(one: datetime, other: datetime) -> None:
    for moment in (one, other):
        assert instant(moment.isoformat()) == (moment - EPOCH) // timedelta(microseconds=1) * 1000
        assert messages._is_time(moment.isoformat())
    assert (instant(one.isoformat()) < instant(other.isoformat())) is (one < other)
