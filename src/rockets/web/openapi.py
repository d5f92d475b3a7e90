"""`GET /openapi.json`: OpenAPI 3.1, made from the route table and the types of messages.

No schema is written twice: msgspec describes the types, limits included, and only what their
annotations cannot say is added here: that the messageType decides the form of `message`.
"""

import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from quart import Response
from quart_trio import QuartTrio

from rockets import __version__
from rockets.domain.messages import PAYLOAD_TYPES, Metadata
from rockets.web.batch import ITEMS_MAX
from rockets.web.pages import page
from rockets.web.problems import PROBLEM_TYPE, PROBLEMS, Problem, ProblemName
from rockets.web.route import Answer, Kind, Parameter, Route
from rockets.web.routes import HEADERS, ROUTES

Schema = dict[str, Any]

_COMPONENT = "#/components/schemas/"

# Answers of these leave out what has its default; all others always have all their members.
OMITTING = ("Problem", "BatchResult")

EXAMPLES: Mapping[str, Mapping[str, object]] = {
    "RocketLaunched": {"type": "Falcon-9", "launchSpeed": 500, "mission": "ARTEMIS"},
    "RocketSpeedIncreased": {"by": 3000},
    "RocketSpeedDecreased": {"by": 2500},
    "RocketExploded": {"reason": "PRESSURE_VESSEL_FAILURE"},
    "RocketMissionChanged": {"newMission": "SHUTTLE_MIR"},
    "RocketRefuelled": {"litres": 12},  # a type that this version does not know
}


def add_routes(app: QuartTrio, *, batch_messages_max: int) -> None:
    """Make the document and mount the route."""
    answer = page(
        msgspec.json.encode(document(batch_messages_max=batch_messages_max)), "application/json"
    ).answer

    @app.get("/openapi.json")
    async def get_openapi() -> Response:
        return answer()


def document(*, batch_messages_max: int = ITEMS_MAX) -> Schema:
    """Build the whole document."""
    kinds = [*_kinds(), Metadata, *PAYLOAD_TYPES.values()]
    schemas, components = msgspec.json.schema_components(
        kinds, ref_template=f"{_COMPONENT}{{name}}"
    )
    for name, component in components.items():
        _complete(name, component)
    components |= _messages(components, batch_messages_max)
    schema_of = {repr(kind): schema for kind, schema in zip(kinds, schemas, strict=True)}
    paths: dict[str, Schema] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Rockets",
            "version": __version__,
            "summary": "Rocket telemetry: durable, exactly once, in message-number order.",
            "description": _description(),
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": components},
    }


def _description() -> str:
    """Say what holds for every route."""
    names: tuple[ProblemName, ...] = (
        "method-not-allowed",
        "bad-request",
        "request-timeout",
        "content-too-large",
        "expectation-failed",
        "header-fields-too-large",
        "not-implemented",
        "too-many-connections",
        "overloaded",
        "http-version-not-supported",
    )
    listed = ", ".join(f"{PROBLEMS[name][0]} [{name}](/problems/{name})" for name in names)
    return (
        "Every error is application/problem+json, and its type is a page of this service "
        "([all of them](/problems)). "
        f"Whatever the route, a connection or a request as such may be refused: {listed}."
    )


def _kinds() -> Iterator[Kind]:
    """Every type that the table names."""
    yield Problem
    yield from (kind for kind, _ in HEADERS.values())
    for route in ROUTES:
        yield from (parameter.kind for parameter in route.taken)
        for kind in (kind for answer in route.given for kind in answer.content.values()):
            yield from kind if isinstance(kind, tuple) else (kind,)


def _complete(name: str, component: Schema) -> None:
    """Say of an answer's members that they are always there, and undo a docstring's indentation."""
    if "description" in component:
        component["description"] = inspect.cleandoc(component["description"])
    always = set(component.get("required", ()))
    for member, schema in component.get("properties", {}).items():
        if "default" in schema:
            del schema["default"]
            always |= set() if name in OMITTING else {member}
    if always:
        component["required"] = [member for member in component["properties"] if member in always]


# --- messages --------------------------------------------------------------------------------


def _messages(components: Mapping[str, Schema], batch_messages_max: int) -> dict[str, Schema]:
    """A form for each messageType and an open one for all others, and what a body may be."""
    metadata = components["Metadata"]
    forms = {
        f"{name}Message": _form(metadata, {"const": name}, {"$ref": _COMPONENT + name})
        for name in PAYLOAD_TYPES
    }
    other = metadata["properties"]["messageType"] | {"not": {"enum": list(PAYLOAD_TYPES)}}
    forms["OtherMessage"] = _form(metadata, other, {"type": "object"})
    refs = [{"$ref": _COMPONENT + name} for name in forms]
    message = {"$ref": f"{_COMPONENT}Message"}
    batch = {
        "type": "array",
        "maxItems": batch_messages_max,
        "description": "Messages; anything else in their place is that item's problem.",
        "items": {"anyOf": [message, {}]},
    }
    return {
        **forms,
        "Message": {"title": "Message", "oneOf": refs},
        "Batch": batch,
        "MessageOrBatch": {"oneOf": [message, {"$ref": f"{_COMPONENT}Batch"}]},
        # Without a type: what is not a message is its line's problem, so no body is refused.
        "Lines": {"description": "Text with a message on each line."},
    }


def _form(metadata: Schema, message_type: Schema, message: Schema) -> Schema:
    properties = metadata["properties"] | {"messageType": message_type}
    return {
        "type": "object",
        "required": ["metadata", "message"],
        "properties": {
            "metadata": metadata | {"title": "Metadata", "properties": properties},
            "message": message,
        },
    }


def examples() -> dict[str, Schema]:
    """One message of each type, in the order of a flight."""
    return {
        name: {
            "metadata": {
                "channel": "193270a9-c9cf-404a-8f83-838e71d9ae67",
                "messageNumber": number,
                "messageTime": f"2022-02-02T19:39:{number:02}.86337+01:00",
                "messageType": name,
            },
            "message": dict(content),
        }
        for number, (name, content) in enumerate(EXAMPLES.items(), 1)
    }


def _body_examples(media: str) -> Schema:
    messages = examples()
    if media == "application/x-ndjson":
        lines = b"\n".join(msgspec.json.encode(message) for message in messages.values())
        return {"flight": {"value": lines.decode()}}
    values = {name: {"value": message} for name, message in messages.items()}
    return values | {"batch": {"value": list(messages.values())}}


# --- operations ------------------------------------------------------------------------------


def _operation(route: Route, schema_of: Mapping[str, Schema]) -> Schema:
    words = re.findall(r"\w+", route.path) or ["dashboard"]
    operation: Schema = {
        "operationId": "_".join([route.method.lower(), *words]),
        "tags": [words[0]],
        "summary": route.summary,
        "responses": _responses(route, schema_of),
    }
    if route.description:
        operation["description"] = route.description
    if route.taken:
        operation["parameters"] = [_parameter(given, schema_of) for given in route.taken]
    if route.body:
        content = {
            media: {"schema": {"$ref": _COMPONENT + name}, "examples": _body_examples(media)}
            for media, name in route.body.items()
        }
        operation["requestBody"] = {"required": route.body_required, "content": content}
    return operation


def _parameter(parameter: Parameter, schema_of: Mapping[str, Schema]) -> Schema:
    written: Schema = {
        "name": parameter.name,
        "in": parameter.where,
        "required": parameter.where == "path",
        "description": parameter.description,
        "schema": schema_of[repr(parameter.kind)],
    }
    if parameter.example is not None:
        written["example"] = parameter.example
    return written


def _responses(route: Route, schema_of: Mapping[str, Schema]) -> Schema:
    responses = {str(answer.status): _response(answer, schema_of) for answer in route.given}
    by_status: dict[int, list[ProblemName]] = {}
    for name in route.refused:
        by_status.setdefault(PROBLEMS[name][0], []).append(name)
    for status, names in by_status.items():
        responses[str(status)] = _refused(status, names, schema_of)
    return dict(sorted(responses.items()))


def _response(answer: Answer, schema_of: Mapping[str, Schema]) -> Schema:
    response: Schema = {
        "description": answer.description,
        "headers": _headers(("X-Request-Id", *answer.headers), schema_of)
        | _headers(answer.headers_maybe, schema_of, required=False),
    }
    if answer.content:
        response["content"] = {
            media: {"schema": _either(kind, schema_of)} for media, kind in answer.content.items()
        }
    return response


def _either(kind: Kind, schema_of: Mapping[str, Schema]) -> Schema:
    if isinstance(kind, tuple):
        return {"oneOf": [schema_of[repr(one)] for one in kind]}
    return schema_of[repr(kind)]


def _refused(status: int, names: list[ProblemName], schema_of: Mapping[str, Schema]) -> Schema:
    headers = ("X-Request-Id", "Retry-After") if status in {429, 503} else ("X-Request-Id",)
    return {
        "description": "; ".join(f"[{PROBLEMS[name][1]}](/problems/{name})" for name in names),
        "headers": _headers(headers, schema_of),
        "content": {PROBLEM_TYPE: {"schema": schema_of[repr(Problem)]}},
    }


def _headers(
    names: tuple[str, ...], schema_of: Mapping[str, Schema], *, required: bool = True
) -> Schema:
    return {
        name: {
            "required": required,
            "description": HEADERS[name][1],
            "schema": schema_of[repr(HEADERS[name][0])],
        }
        for name in names
    }
