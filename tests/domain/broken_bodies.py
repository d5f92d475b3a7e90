"""Bodies that must be refused, for the decoder's tests and for those of the HTTP front.

Each is (name, body, status, pointers): 400 is not JSON and has no pointers, 422 names every wrong
field.
"""

import json
from typing import Final, TypeAlias

Broken: TypeAlias = tuple[str, bytes, int, tuple[str, ...]]

CHANNEL: Final = "193270a9-c9cf-404a-8f83-838e71d9ae67"
TIME: Final = "2022-02-02T19:39:05.86337+01:00"
PAYLOADS: Final[dict[str, dict[str, object]]] = {
    "RocketLaunched": {"type": "Falcon-9", "launchSpeed": 500, "mission": "ARTEMIS"},
    "RocketSpeedIncreased": {"by": 3000},
    "RocketSpeedDecreased": {"by": 2500},
    "RocketExploded": {"reason": "PRESSURE_VESSEL_FAILURE"},
    "RocketMissionChanged": {"newMission": "SHUTTLE_MIR"},
}


def body_of(kind: str = "RocketLaunched", message: object = None, **metadata: object) -> bytes:
    """A body, valid but for what is passed; `...` leaves a metadata field out."""
    head = {"channel": CHANNEL, "messageNumber": 1, "messageTime": TIME, "messageType": kind}
    head = {key: value for key, value in {**head, **metadata}.items() if value is not ...}
    payload = PAYLOADS.get(kind, {}) if message is None else message
    return json.dumps({"metadata": head, "message": payload}).encode()


def with_literal(place: str, literal: str) -> bytes:
    """A valid launch in which the JSON text of one field is replaced, as json cannot write it."""
    part, field = place.split("/")[1:]
    parts = json.loads(body_of())
    parts[part][field] = "@"
    return json.dumps(parts).encode().replace(b'"@"', literal.encode("utf-8", "surrogatepass"))


def nested(depth: int, *, kind: str = "Later") -> bytes:
    """A body of an unknown type that is `depth` levels deep as a whole."""
    inner = depth - 3  # the body, `message` and the member of `message` are objects or arrays too
    text = body_of(kind, {"deep": "@"}).decode()
    return text.replace('"@"', "[" * (inner + 1) + "]" * (inner + 1)).encode()


NUMBER: Final = "/metadata/messageNumber"
ALL_METADATA: Final = tuple(
    f"/metadata/{name}" for name in ("channel", "messageNumber", "messageTime", "messageType")
)
ALL_LAUNCH: Final = ("/message/type", "/message/launchSpeed", "/message/mission")

_VALID: Final = body_of()
_IGNORED: Final = _VALID[:-1] + b', "later": %s}'

_NOT_JSON: Final[list[tuple[str, bytes]]] = [
    ("empty", b""),
    ("white space", b" \r\n\t "),
    ("a word", b"hello"),
    ("a NUL", b"\x00"),
    ("cut off", _VALID[:-1]),
    ("cut off in a string", _VALID[:30]),
    ("trailing garbage", _VALID + b"x"),
    ("a second value", _VALID + _VALID),
    ("a trailing NUL", _VALID + b"\x00"),
    ("trailing comma in an object", _VALID[:-1] + b",}"),
    ("trailing comma in an array", _IGNORED % b"[1,]"),
    ("comment", b"/* hi */" + _VALID),
    ("line comment", _VALID + b"// hi"),
    ("single quotes", _VALID.replace(b'"', b"'")),
    ("bare keys", b"{metadata: 1}"),
    ("missing colon", b'{"metadata" 1}'),
    ("missing comma", _VALID.replace(b", ", b" ", 1)),
    ("closing bracket of the other kind", _VALID[:-1] + b"]"),
    ("only closing brackets", b"]" * 100),
    ("byte order mark", b"\xef\xbb\xbf" + _VALID),
    ("UTF-16 with byte order mark", _VALID.decode().encode("utf-16")),
    ("UTF-16 little endian", _VALID.decode().encode("utf-16-le")),
    ("UTF-16 big endian", _VALID.decode().encode("utf-16-be")),
    ("UTF-32", _VALID.decode().encode("utf-32")),
    ("not UTF-8 in a field", _VALID.replace(b"ARTEMIS", b"ART\xffMIS")),
    ("not UTF-8 in an ignored field", _IGNORED % b'"\xff"'),
    ("not UTF-8 in an ignored key", _VALID[:-1] + b', "\xc3(": 1}'),
    ("UTF-8 of a surrogate", _IGNORED % b'"\xed\xa0\x80"'),
    ("overlong UTF-8", _IGNORED % b'"\xc0\xaf"'),
    ("not UTF-8 and too deep", b"[" * 17 + b"\xff"),
    ("lone high surrogate", with_literal("/message/mission", '"\\ud800"')),
    ("lone low surrogate", with_literal("/message/mission", '"\\udc00"')),
    ("lone surrogate in an ignored field", _IGNORED % b'"\\ud800 "'),
    ("lone surrogate in a key", _VALID[:-1] + b', "\\ud800": 1}'),
    ("surrogates in the wrong order", with_literal("/message/mission", '"\\udc00\\ud800"')),
    ("unknown escape", with_literal("/message/mission", '"\\x41"')),
    ("short escape", with_literal("/message/mission", '"\\u00"')),
    ("raw new line in a string", with_literal("/message/mission", '"a\nb"')),
    ("raw NUL in a string", with_literal("/message/mission", '"a\x00b"')),
    ("raw NUL in an ignored field", _IGNORED % b'"\x00"'),
    ("NaN", with_literal("/message/launchSpeed", "NaN")),
    ("NaN in an ignored field", _IGNORED % b"NaN"),
    ("Infinity", with_literal("/message/launchSpeed", "Infinity")),
    ("minus Infinity", with_literal("/message/launchSpeed", "-Infinity")),
    ("None", with_literal("/message/mission", "None")),
    ("True", with_literal("/message/mission", "True")),
    ("leading zero", with_literal(NUMBER, "01")),
    ("plus sign", with_literal(NUMBER, "+1")),
    ("hexadecimal", with_literal(NUMBER, "0x1")),
    ("no digits after the point", with_literal(NUMBER, "1.")),
    ("no digits before the point", with_literal(NUMBER, ".5")),
    ("no digits in the exponent", with_literal(NUMBER, "1e")),
    ("only a minus sign", with_literal(NUMBER, "-")),
    ("underscore in a number", with_literal(NUMBER, "1_000")),
    ("two messages in lines", _VALID + b"\n" + _VALID),
]

_WRONG_SHAPE: Final[list[tuple[str, bytes, tuple[str, ...]]]] = [
    ("an array", b"[]", ("",)),
    ("a string", b'"hello"', ("",)),
    ("a number", b"1", ("",)),
    ("null", b"null", ("",)),
    ("true", b"true", ("",)),
    ("an array of a message", b"[" + _VALID + b"]", ("",)),
    ("an empty object", b"{}", ("/metadata", "/message")),
    ("no metadata", b'{"message": {}}', ("/metadata",)),
    (
        "no message",
        json.dumps({"metadata": json.loads(_VALID)["metadata"]}).encode(),
        ("/message",),
    ),
    ("both null", b'{"metadata": null, "message": null}', ("/metadata", "/message")),
    ("metadata an array", b'{"metadata": [], "message": {}}', ("/metadata",)),
    ("keys in capitals", b'{"METADATA": {}, "MESSAGE": {}}', ("/metadata", "/message")),
    ("all metadata missing", b'{"metadata": {}, "message": {}}', ALL_METADATA),
    ("all message fields missing", body_of(message={}), ALL_LAUNCH),
    (
        "snake case",
        body_of(message={"type": "F", "launch_speed": 1, "mission": "A"}),
        ALL_LAUNCH[1:2],
    ),
    ("message an array", body_of(message=[]), ("/message",)),
    ("message a string", body_of(message="x"), ("/message",)),
    ("message of an unknown type an array", body_of("Later", [1]), ("/message",)),
    ("message of an unknown type a number", body_of("Later", 1), ("/message",)),
    (
        "everything wrong",
        body_of(
            message={"type": "", "launchSpeed": -1, "mission": None},
            channel="",
            messageNumber=0,
            messageTime="now",
        ),
        (*ALL_METADATA[:3], *ALL_LAUNCH),
    ),
    (
        "wrong metadata and message not an object",
        body_of(message=[], channel=1),
        ("/metadata/channel", "/message"),
    ),
    (
        "fields of a wrong type are not judged",
        body_of(message={"launchSpeed": -1}, messageType="no such!"),
        ("/metadata/messageType",),
    ),
    (
        "fields of a missing type are not judged, the kind of message is",
        body_of(message=3, messageType=...),
        ("/metadata/messageType", "/message"),
    ),
    ("the last of duplicate keys counts", _VALID[:-1] + b', "message": 1}', ("/message",)),
    (
        "the last of duplicate fields counts",
        with_literal("/message/launchSpeed", '5, "launchSpeed": -5'),
        ("/message/launchSpeed",),
    ),
    ("nested 17 deep", nested(17), ("",)),
    ("nested 17 deep in an ignored field", nested(17, kind="RocketExploded"), ("",)),
    ("nested 100,000 deep, arrays", b"[" * 100_000, ("",)),
    ("nested 100,000 deep, closed", b"[" * 100_000 + b"]" * 100_000, ("",)),
    ("nested 10,000 deep, objects", b'{"a":' * 10_000, ("",)),
    ("nested 100,000 deep in a message", nested(100_000), ("",)),
    ("deep after a string of brackets", b'["]]]]]\\"]]]"' + b",[" * 17, ("",)),
    (
        "1e400 in an unknown type",
        body_of("Later", {"x": "@"}).replace(b'"@"', b"1e400"),
        ("/message",),
    ),
    (
        "5,000 digits in an unknown type",
        body_of("Later", {"x": "@"}).replace(b'"@"', b"9" * 5000),
        ("/message",),
    ),
]

_WRONG_VALUES: Final[dict[str, list[str]]] = {
    "/metadata/channel": [
        *("null", "1", "true", "[]", "{}", '""', '" "', '"a b"', '"a/b"', '"é"', '"a\\n"', '"\\n"'),
        *('"a\\u0000"', '"a%20b"', '"{193270a9}"', '"%s"' % ("a" * 129)),
    ],
    NUMBER: [
        *("null", '"1"', "true", "false", "[]", "{}", "0", "-0", "-1", "1.0", "1.5", "1e3", "1E0"),
        *("9007199254740992", "9007199254740991.0", "9223372036854775807", "9223372036854775808"),
        *("18446744073709551615", "18446744073709551616", "9" * 400, "9" * 5000, "-" + "9" * 5000),
        *("1e400", "-1e400", "1e-400", "-9007199254740991"),
    ],
    "/metadata/messageTime": [
        *("null", "1643827145", "true", '""', '"now"', '"2022-02-02"', '"2022-02-02T19:39:05"'),
        *(
            f'"{time}"'
            for time in (
                "2022-02-30T00:00:00Z",
                "1900-02-29T00:00:00Z",
                "2023-02-29T00:00:00Z",
                "2100-02-29T00:00:00Z",
                "2022-04-31T00:00:00Z",
                "2022-00-01T00:00:00Z",
                "2022-13-01T00:00:00Z",
                "2022-01-00T00:00:00Z",
                "2022-01-32T00:00:00Z",
                "2022-01-01T24:00:00Z",
                "2022-01-01T00:60:00Z",
                "2022-01-01T00:00:61Z",
                "2022-01-01T00:00:00.Z",
                "2022-01-01T00:00:00.1234567890Z",
                "2022-01-01T00:00:00,5Z",
                "2022-01-01T00:00:00+24:00",
                "2022-01-01T00:00:00+01:60",
                "2022-01-01T00:00:00+0100",
                "2022-01-01T00:00:00+01",
                "2022-01-01T00:00Z",
                "2022-01-01 00:00:00Z",
                "2022-1-1T00:00:00Z",
                "22-01-01T00:00:00Z",
                "12022-01-01T00:00:00Z",
                "-2022-01-01T00:00:00Z",
                "2022-01-01T00:00:00Z ",
                " 2022-01-01T00:00:00Z",
                "2022-01-01T00:00:00Z\\n",
                "2022-01-01T00:00:00Z\\u0000",
                "\uff12022-01-01T00:00:00Z",
            )
        ),
    ],
    "/metadata/messageType": [
        *("null", "1", "[]", '""', '"Rocket Launched"', '"Rocket.Launched"', '"Rakété"'),
        *('"RocketLaunched\\n"', '"RocketLaunched\\u0000"', '"%s"' % ("a" * 65)),
    ],
    "/message/launchSpeed": [
        *("null", '"500"', "true", "[]", "-1", "1.0", "1e3", "0.0", "-0.0", "1000000001"),
        *("9223372036854775808", "18446744073709551616", "9" * 400, "9" * 5000, "1e400"),
    ],
    "/message/type": [
        *("null", "9", "true", "[]", "{}", '""', '"a\\u0000b"', '"\\n"', '"a\\n"', '"\\u001f"'),
        *(
            '"\\u007f"',
            '"\\u0080"',
            '"\\u0085"',
            '"\\u009f"',
            '"\x7f"',
            '"\x85"',
            '"%s"' % ("a" * 257),
        ),
    ],
    "/message/mission": ["null", "0", '""', '"a\\tb"', '"\\u0000"', '"%s"' % ("é" * 257)],
}

_OTHER_TYPES: Final[list[tuple[str, object, str]]] = [
    ("RocketSpeedIncreased", {}, "by"),
    ("RocketSpeedIncreased", {"by": "1"}, "by"),
    ("RocketSpeedDecreased", {"by": -1}, "by"),
    ("RocketSpeedDecreased", {"by": 1.0}, "by"),
    ("RocketSpeedDecreased", {"by": 1_000_000_001}, "by"),
    ("RocketExploded", {}, "reason"),
    ("RocketExploded", {"reason": ""}, "reason"),
    ("RocketExploded", {"reason": "x" * 257}, "reason"),
    ("RocketMissionChanged", {"mission": "A"}, "newMission"),
    ("RocketMissionChanged", {"newMission": None}, "newMission"),
    ("RocketMissionChanged", {"newMission": "a\x9fb"}, "newMission"),
]


def _without(place: str) -> bytes:
    part, field = place.split("/")[1:]
    parts = json.loads(_VALID)
    del parts[part][field]
    return json.dumps(parts).encode()


BROKEN_BODIES: Final[list[Broken]] = [
    *((name, body, 400, ()) for name, body in _NOT_JSON),
    *((name, body, 422, pointers) for name, body, pointers in _WRONG_SHAPE),
    *((f"{place} missing", _without(place), 422, (place,)) for place in _WRONG_VALUES),
    *(
        (f"{place} {literal[:30]!a} of {len(literal)}", with_literal(place, literal), 422, (place,))
        for place, literals in _WRONG_VALUES.items()
        for literal in literals
    ),
    *(
        (f"{kind} {str(message)[:40]!a}", body_of(kind, message), 422, (f"/message/{field}",))
        for kind, message, field in _OTHER_TYPES
    ),
]
