"""Messages: their shape, their limits, and the way from bytes to a `Message` or to an error.

The annotated types below are the only place where limits are written.
A fast way takes almost every body; only what it refuses goes to the checker, which walks the same
types field by field and names every wrong one.
"""

import json
import re
from functools import lru_cache
from typing import Annotated, Final, NewType, TypeAlias, get_args

import msgspec
from msgspec import Meta

from rockets.domain import checker
from rockets.domain.checker import FieldError as FieldError
from rockets.domain.checker import MessageInvalid as MessageInvalid
from rockets.domain.checker import MessageMalformed as MessageMalformed
from rockets.domain.message_time import TIME
from rockets.domain.message_time import instant as instant

# --- limits ----------------------------------------------------------------------------------

DEPTH_MAX: Final = 16
CHANNEL_LENGTH_MAX: Final = 128
MESSAGE_TYPE_LENGTH_MAX: Final = 64
TEXT_LENGTH_MAX: Final = 256
MESSAGE_NUMBER_MAX: Final = 2**53 - 1  # the largest integer that JavaScript holds exactly
SPEED_MAX: Final = 1_000_000_000

# `$` of Python also matches before a last newline; `(?!\n)` closes that door and is a legal
# ECMA pattern, so the same text serves in a JSON schema.
_END: Final = r"$(?!\n)"

Channel = NewType("Channel", str)
MessageNumber = NewType("MessageNumber", int)

ChannelText: TypeAlias = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=CHANNEL_LENGTH_MAX,
        pattern="^[A-Za-z0-9._:-]+" + _END,
        description=f"1 to {CHANNEL_LENGTH_MAX} characters of A-Z a-z 0-9 . _ : -",
    ),
]
Number: TypeAlias = Annotated[
    MessageNumber,
    Meta(ge=1, le=MESSAGE_NUMBER_MAX, description=f"an integer from 1 to {MESSAGE_NUMBER_MAX}"),
]
TimeText: TypeAlias = Annotated[
    str,
    Meta(
        pattern=f"^{TIME}{_END}",
        description="an RFC 3339 date and time with offset, at most 9 fraction digits",
    ),
]
TypeName: TypeAlias = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=MESSAGE_TYPE_LENGTH_MAX,
        pattern="^[A-Za-z0-9_-]+" + _END,
        description=f"1 to {MESSAGE_TYPE_LENGTH_MAX} characters of A-Z a-z 0-9 _ -",
    ),
]
Speed: TypeAlias = Annotated[
    int, Meta(ge=0, le=SPEED_MAX, description=f"an integer from 0 to {SPEED_MAX}")
]
Text: TypeAlias = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=TEXT_LENGTH_MAX,
        pattern=r"^[^\x00-\x1f\x7f-\x9f]+" + _END,
        description=f"1 to {TEXT_LENGTH_MAX} characters, none of them a control character",
    ),
]

# --- shapes ----------------------------------------------------------------------------------


class Metadata(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """Which rocket, which number, when, and what kind of message."""

    channel: ChannelText
    message_number: Number
    message_time: TimeText
    message_type: TypeName


class RocketLaunched(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """The rocket left the ground."""

    type: Text
    launch_speed: Speed
    mission: Text


class RocketSpeedIncreased(msgspec.Struct, frozen=True, gc=False):
    """The rocket got faster."""

    by: Speed


class RocketSpeedDecreased(msgspec.Struct, frozen=True, gc=False):
    """The rocket got slower."""

    by: Speed


class RocketExploded(msgspec.Struct, frozen=True, gc=False):
    """The rocket is gone."""

    reason: Text


class RocketMissionChanged(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """The rocket flies for another mission."""

    new_mission: Text


class UnknownMessage(msgspec.Struct, frozen=True, gc=False):
    """A message of a type this version does not know: kept, never interpreted."""

    message_type: str
    content: str  # canonical JSON: two contents are equal when these texts are


KnownPayload: TypeAlias = (
    RocketLaunched
    | RocketSpeedIncreased
    | RocketSpeedDecreased
    | RocketExploded
    | RocketMissionChanged
)
Payload: TypeAlias = KnownPayload | UnknownMessage

# The class name is the messageType.
PAYLOAD_TYPES: Final[dict[str, type[KnownPayload]]] = {
    kind.__name__: kind
    for kind in (
        RocketLaunched,
        RocketSpeedIncreased,
        RocketSpeedDecreased,
        RocketExploded,
        RocketMissionChanged,
    )
}


class Message(msgspec.Struct, frozen=True, gc=False):
    """One accepted message; two have the same content when their payloads are equal."""

    channel: Channel
    number: MessageNumber
    time: str  # as sent; never used for order
    payload: Payload
    body: bytes  # as sent

    @property
    def message_type(self) -> str:
        """The messageType that was sent."""
        if isinstance(self.payload, UnknownMessage):
            return self.payload.message_type
        return type(self.payload).__name__


# --- from bytes to a message -----------------------------------------------------------------


class _LooseMetadata(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """Metadata whose three texts are checked in `_read`, not by msgspec."""

    # A pattern costs msgspec about twice what it costs here, where a known messageType needs none
    # and a channel seen lately is remembered. `Metadata` says the limits, and the slow way uses it.
    channel: str
    message_number: Number
    message_time: str
    message_type: str


class _LooseEnvelope(msgspec.Struct, frozen=True, gc=False):
    """A body before its `message` is looked at, which depends on the messageType."""

    metadata: _LooseMetadata
    message: msgspec.Raw


_decode_envelope: Final = msgspec.json.Decoder(_LooseEnvelope).decode
_decode_payload: Final = {
    name: msgspec.json.Decoder(kind).decode for name, kind in PAYLOAD_TYPES.items()
}
_decode_object: Final = msgspec.json.Decoder(dict[str, object]).decode
_encode_sorted: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode
_is_channel: Final = re.compile(get_args(ChannelText)[1].pattern).match
_is_time: Final = re.compile(get_args(TimeText)[1].pattern).match
_is_type_name: Final = re.compile(get_args(TypeName)[1].pattern).match
_is_plain_uuid: Final = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch
_is_uuid: Final = re.compile("[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}").fullmatch


def decode_message(body: bytes) -> Message:
    """Make a message of a body; raises MessageInvalid or MessageMalformed, never anything else."""
    if not body.isascii():
        checker.check_utf8(body)  # msgspec does not look into what it skips
    if body.count(b"{") + body.count(b"[") > DEPTH_MAX:
        checker.check_depth(body, DEPTH_MAX)  # also keeps msgspec from a RecursionError
    try:
        return _read(body, body)
    except (msgspec.DecodeError, ValueError):
        return _read_slowly(body)


def _read(text: bytes, body: bytes) -> Message:
    envelope = _decode_envelope(text)
    metadata = envelope.metadata
    if not _is_time(metadata.message_time):
        raise ValueError("messageTime")
    decode = _decode_payload.get(metadata.message_type)
    return Message(
        normalize_channel(metadata.channel),
        metadata.message_number,
        metadata.message_time,
        decode(envelope.message) if decode else _unknown(metadata.message_type, envelope.message),
        body,
    )


def _unknown(name: str, message: msgspec.Raw) -> UnknownMessage:
    if len(name) > MESSAGE_TYPE_LENGTH_MAX or not _is_type_name(name):
        raise ValueError("messageType")
    return UnknownMessage(name, _canonical(message))


def _canonical(message: msgspec.Raw) -> str:
    # Numbers are what Python reads: integers exact, others as doubles (1 and 1.0 differ, 1.0 and
    # 1e0 do not). A number beyond a double or beyond 4,300 digits is a ValidationError here, and a
    # ValueError from the encoder should Python be told a lower limit.
    return _encode_sorted(_decode_object(message))


@lru_cache(maxsize=4096)
def normalize_channel(text: str) -> Channel:
    """The channel a text means, as in a URL; ValueError when no channel can have that name."""
    if _is_plain_uuid(text):  # most are
        return Channel(text)
    if len(text) > CHANNEL_LENGTH_MAX or not _is_channel(text):
        raise ValueError(checker.rule_of(ChannelText))
    return Channel(text.lower() if _is_uuid(text) else text)


# --- the slow way: only for bodies that msgspec refused ----------------------------------------

_METADATA_TABLE: Final = checker.table_of(Metadata)
_PAYLOAD_TABLES: Final = {name: checker.table_of(kind) for name, kind in PAYLOAD_TYPES.items()}


def _read_slowly(body: bytes) -> Message:
    members = checker.members_of(body)
    metadata, errors = checker.check_object(members, "metadata", _METADATA_TABLE)
    name = _message_type_of(metadata)
    table = _PAYLOAD_TABLES.get(name, {})
    message, message_errors = checker.check_object(members, "message", table)
    errors += message_errors
    if name and name not in _PAYLOAD_TABLES and not message_errors:
        errors += _check_content(members["message"])
    if errors:
        raise MessageInvalid(tuple(errors))
    # Nothing is wrong, so msgspec stumbled over the earlier one of duplicate keys, of which the
    # last counts: written again without them it is an ordinary message.
    return _read(msgspec.json.encode({"metadata": metadata, "message": message}), body)


def _message_type_of(metadata: checker.Members) -> str:
    # "" when the type is missing or wrong: then nothing is known about the fields of `message`.
    rule = _METADATA_TABLE["messageType"]
    if checker.problem(metadata, "messageType", rule):
        return ""
    return str(rule.decode(metadata["messageType"]))


def _check_content(message: msgspec.Raw) -> list[FieldError]:
    try:
        _canonical(message)
    except (msgspec.DecodeError, ValueError):
        return [FieldError("/message", "must hold no number beyond a double or 4,300 digits")]
    return []


def claimed_identity(body: bytes) -> tuple[Channel | None, MessageNumber | None]:
    """Whose message a refused body says it is, as far as that can be read. Total.

    None stands for a channel or number that is missing, or that no message can have.
    """
    try:
        checker.check_utf8(body)
        checker.check_depth(body, DEPTH_MAX)
        members = checker.members_of(body)
    except (MessageInvalid, MessageMalformed):
        return None, None
    metadata, _ = checker.check_object(members, "metadata", _METADATA_TABLE)
    channel = _legal(metadata, "channel")
    number = _legal(metadata, "messageNumber")
    return (
        normalize_channel(str(channel)) if channel is not None else None,
        MessageNumber(number) if isinstance(number, int) else None,
    )


def _legal(metadata: checker.Members, name: str) -> object:
    """The value of a member that keeps its rule, else None."""
    rule = _METADATA_TABLE[name]
    if checker.problem(metadata, name, rule):
        return None
    return rule.decode(metadata[name])
