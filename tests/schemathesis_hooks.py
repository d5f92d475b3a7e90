"""What schemathesis cannot learn from the document; it imports this by the name in its environment.

Lines have no illegal form: what is not a message is its line's problem.
So whatever is sent as lines is held to what a legal request gets.

OpenAPI 3.1 has no words for three rules, so a request that is meant to be legal keeps them here:

* a `cursor` of `GET /rockets` is one that the list has given, for the same `sort`;
* its `order` goes with a single key without a sign;
* an integer is written as one: for JSON Schema 1.0 is an integer too, and no message has floats.

Requests that are meant to be illegal are sent as they are.
"""

import json
from typing import Any

import schemathesis

LINES = "application/x-ndjson"


@schemathesis.hook
def before_call(
    _context: schemathesis.HookContext, case: schemathesis.Case[Any], _kwargs: Any
) -> None:
    """Keep a legal request legal."""
    if case.meta is None:
        return
    if case.media_type == LINES:
        case.meta.generation.mode = schemathesis.GenerationMode.POSITIVE
        return
    if not case.meta.generation.mode.is_positive:
        return
    if case.operation.label == "GET /rockets":
        case.query.pop("cursor", None)
        if "sort" in case.query:
            case.query.pop("order", None)
    case.body = _with_plain_integers(case.body)


def _with_plain_integers(value: Any) -> Any:
    match value:
        case float() if value.is_integer():
            return int(value)
        case list():
            return [_with_plain_integers(item) for item in value]
        case dict():
            return {name: _with_plain_integers(member) for name, member in value.items()}
        case _:
            return value


@schemathesis.serializer(LINES)
def write_lines(_context: schemathesis.SerializationContext, value: Any) -> bytes:
    """Write text as it is and anything else as one line."""
    return (value if isinstance(value, str) else json.dumps(value)).encode()
