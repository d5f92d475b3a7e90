"""The checker: what is wrong with a body, said field by field.

It knows bytes, JSON and annotated structs, not messages.
No detail holds anything of the input, so an answer or a log line made of it is short and printable.
"""

from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias, get_args

import msgspec

Members: TypeAlias = dict[str, msgspec.Raw]


class FieldError(msgspec.Struct, frozen=True, gc=False):
    """One wrong field: where (JSON pointer, "" is the whole body) and what it should be."""

    pointer: str
    detail: str


class MessageInvalid(Exception):
    """JSON, but not a message: `errors` names every wrong field."""

    def __init__(self, errors: tuple[FieldError, ...]) -> None:
        """Keep the wrong fields, in the order of the fields in a message."""
        super().__init__("; ".join(f"{error.pointer} {error.detail}" for error in errors))
        self.errors = errors


class MessageMalformed(Exception):
    """Not JSON, or not UTF-8."""

    def __init__(self, detail: str) -> None:
        """Keep what the reader of the bytes stumbled over."""
        super().__init__(detail)
        self.detail = detail


class FieldRule(NamedTuple):
    """How one field is read, and what to say when that fails."""

    decode: Callable[[msgspec.Raw], object]
    detail: str


FieldTable: TypeAlias = dict[str, FieldRule]


# --- the whole body --------------------------------------------------------------------------


def check_utf8(body: bytes) -> None:
    """Raise MessageMalformed when any byte of the body, even in a skipped field, is not UTF-8."""
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise MessageMalformed(f"the body is not UTF-8 (byte {error.start})") from None


def check_depth(body: bytes, limit: int) -> None:
    """Raise MessageInvalid when objects and arrays are nested deeper than the limit.

    The outermost object is level 1.
    It runs before any parser, so no parser can recurse far; what is not JSON may pass.
    """
    # The beginning alone gives away a body that was made to be deep, however long it is.
    if _is_deeper(body[:2048], limit) or _is_deeper(body, limit):
        raise MessageInvalid((FieldError("", f"must not be nested deeper than {limit} levels"),))


def _is_deeper(body: bytes, limit: int) -> bool:
    depth = 0
    for byte in _bare(body).translate(None, _NOT_BRACKETS):
        depth += _STEP[byte]
        if depth > limit:
            return True
    return False


def _bare(body: bytes) -> bytes:
    # Without the strings: escapes exist only in strings, and once the escaped quotes are gone,
    # every second part between quotes is outside of a string.
    unescaped = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    return b"".join(unescaped.split(b'"')[::2])


_STEP: Final = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_NOT_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in _STEP)


# --- fields ----------------------------------------------------------------------------------

_decode_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def rule_of(kind: object) -> str:
    """What a value of an annotated type must be, from the description in its Meta."""
    return f"must be {get_args(kind)[1].description}"


def table_of(kind: type[msgspec.Struct]) -> FieldTable:
    """The rules for all fields of a struct, by their JSON names."""
    return {
        field.encode_name: FieldRule(msgspec.json.Decoder(field.type).decode, rule_of(field.type))
        for field in msgspec.structs.fields(kind)
    }


def members_of(body: bytes) -> Members:
    """The members of a body, of duplicate keys the last; checks the JSON of all of it."""
    try:
        return _decode_members(body)
    except msgspec.ValidationError:
        raise MessageInvalid((FieldError("", "must be an object"),)) from None
    except msgspec.DecodeError as error:
        raise MessageMalformed(str(error)) from None


def check_object(
    members: Members, name: str, table: FieldTable
) -> tuple[Members, list[FieldError]]:
    """The members of the object under a name, and everything that is wrong with it."""
    if name not in members:
        return {}, [FieldError(f"/{name}", "is missing")]
    try:
        part = _decode_members(members[name])
    except msgspec.DecodeError:
        return {}, [FieldError(f"/{name}", "must be an object")]
    wrong = ((field, problem(part, field, rule)) for field, rule in table.items())
    return part, [FieldError(f"/{name}/{field}", detail) for field, detail in wrong if detail]


def problem(members: Members, name: str, rule: FieldRule) -> str | None:
    """What is wrong with one member, None when it is as it should be."""
    if name not in members:
        return "is missing"
    try:
        rule.decode(members[name])
    except (msgspec.DecodeError, ValueError):
        return rule.detail
    return None
