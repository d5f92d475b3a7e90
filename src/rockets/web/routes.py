"""The table of routes: what each takes and answers, as values; `openapi` makes the document of it.

A type stands for its schema, so every limit is the one that the code checks.
`tests/web/test_openapi.py` fails on a route without an entry and on an entry without a route.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta
from werkzeug.routing import Rule

from rockets.actors.anomalies import ListedKind
from rockets.actors.listing import SORT_KEYS
from rockets.domain.ledger import Outcome
from rockets.domain.messages import MESSAGE_NUMBER_MAX, ChannelText, Number, TimeText
from rockets.domain.rocket import Rocket, Status, View
from rockets.web.batch import BatchResult
from rockets.web.feed import INTERVAL_MAX_MS, INTERVAL_MIN_MS
from rockets.web.feed_events import Bye, Fresh, Gone, Hello, Ready, Reset, Stale
from rockets.web.fleet import FleetNumbers
from rockets.web.history import MessageList
from rockets.web.messages import Representation
from rockets.web.notes import AnomalyList, RejectionList
from rockets.web.operations import Health
from rockets.web.parameters import LIMIT_MAX
from rockets.web.problems import ProblemName
from rockets.web.rocket_list import RocketList
from rockets.web.route import Answer, Kind, Parameter, Route

JSON = "application/json"
HTML = "text/html"
EVENT_STREAM = "text/event-stream"

# Headers of answers: the type and what it says.
HEADERS: Mapping[str, tuple[Kind, str]] = {
    "X-Request-Id": (str, "Names this answer in the log; a valid one of the request is kept."),
    "Rockets-Outcome": (Outcome, "What became of the message."),
    "Rockets-Settled": (Annotated[int, Meta(ge=0)], "The highest number with no gap before it."),
    "Preference-Applied": (Literal["return=representation"], "The preference that was followed."),
    "Retry-After": (Annotated[int, Meta(ge=0)], "Seconds to wait before sending it again."),
    "Age-Ms": (
        Annotated[int, Meta(ge=0)],
        "How old the list may be, in milliseconds, where there are more than 10,000 rockets.",
    ),
    "Rockets-Stale": (
        Annotated[int, Meta(ge=0)],
        "With `stale=ok`: the answer holds all that was stored so many seconds ago.",
    ),
    "Cache-Control": (Literal["no-store"], "What changes all the time is not to be kept."),
    "ETag": (str, "A hash of the body; If-None-Match with it gives 304."),
}

# One word each, no key twice, which is also what the parameter's own reader demands.
_KEYS = "|".join(SORT_KEYS)
_SORT = Annotated[
    str, Meta(pattern=rf"^(?!.*\b(\w+)\b.*\b\1\b)-?(?:{_KEYS})(?:,-?(?:{_KEYS}))*$(?!\n)")
]
# What the cursors of the two note lists look like; both are as opaque as the other one.
_NOTE_CURSOR = Annotated[str, Meta(pattern=r"^[0-9]{1,18}$(?!\n)")]
_ANOMALY_CURSOR = Annotated[str, Meta(pattern=r"^(?:[0-9]{1,18})?\.(?:[0-9]{1,18})?$(?!\n)")]
_BOUND = 2**63 - 1
_SPEED = Annotated[int, Meta(ge=-_BOUND, le=_BOUND)]
_LIMIT = Annotated[int, Meta(ge=1, le=LIMIT_MAX)]

_REQUEST_ID = Parameter(
    "X-Request-Id",
    "header",
    str,
    "Your name for the request: 1 to 128 characters of A-Z a-z 0-9 . _ : -; another is replaced.",
)
_PREFER = Parameter(
    "Prefer",
    "header",
    str,
    "`return=representation` asks for the rocket, or for a batch's outcomes, in the answer; "
    "all else is ignored.",
    "return=representation",
)
_VIEW = Parameter("view", "query", View, "`latest`: all that is stored; `settled`: up to a gap.")
_CHANNEL = Parameter(
    "channel",
    "path",
    ChannelText,
    "The rocket; a UUID in capitals means the same.",
    "193270a9-c9cf-404a-8f83-838e71d9ae67",
)


def _query(name: str, kind: Kind, description: str) -> Parameter:
    return Parameter(name, "query", kind, description)


_FILTERS = (
    _query("type", list[str], "Only these; repeat for or."),
    _query("mission", list[str], "Only these; repeat for or."),
    _query("status", list[Status], "Only these; repeat for or."),
    _query("explosionReason", list[str], "Only these; repeat for or."),
    _query("minSpeed", _SPEED, "Only rockets at least this fast."),
    _query("maxSpeed", _SPEED, "Only rockets at most this fast."),
    _query("complete", Literal["true", "false"], "`true`: without gaps, `false`: with gaps."),
    _VIEW,
)
_LIST = (
    Parameter("sort", "query", _SORT, "Keys with commas, `-` for descending.", "-speed,channel"),
    _query("order", Literal["asc", "desc"], "Only with a single key without a sign."),
    *_FILTERS,
    _query("limit", _LIMIT, "The most on one page; 1,000 unless told."),
    _query("cursor", str, "`next` of the last page; only with the same sort."),
)
_FEED = (
    *_FILTERS,
    _query(
        "interval",
        Annotated[int, Meta(ge=INTERVAL_MIN_MS, le=INTERVAL_MAX_MS)],
        "Milliseconds between two tellings; 250 unless told.",
    ),
    _query("snapshot", Literal["yes", "no"], "`no`: only what changes from now on."),
    _query("lastEventId", str, "As the header, for who cannot send one; the header goes first."),
    Parameter("Last-Event-ID", "header", str, "The id of the last event you got: go on behind it."),
)

_TAKEN = (
    Answer(
        200,
        "The batch is durable, or the message is and `Prefer` asked for the rocket.",
        {JSON: (BatchResult, Representation)},
        headers_maybe=("Preference-Applied", "Rockets-Outcome", "Rockets-Settled"),
    ),
    Answer(
        204,
        "The message is durable: new, duplicate or conflicting.",
        headers=("Rockets-Outcome", "Rockets-Settled"),
    ),
)
_NOT_TAKEN: tuple[ProblemName, ...] = (
    "malformed-body",
    "bad-request",
    "request-timeout",
    "content-too-large",
    "unsupported-content-encoding",
    "invalid-message",
    "unavailable",
    "too-many-gaps",
    "overloaded",
)
_PAGE = (Answer(200, "A page.", {HTML: str}, headers=("ETag",)),)
_FILE = (
    Answer(
        200,
        "The file.",
        {HTML: str, "text/css": str, "text/javascript": str, "text/plain": str},
        headers=("ETag",),
    ),
)

ROUTES: tuple[Route, ...] = (
    Route(
        "POST",
        "/messages",
        "Take a message, or a batch",
        takes_messages=True,
        description=(
            "One message of at most 64 KiB is answered with 204 and no body, unless `Prefer` asks "
            "for the rocket. "
            "A body that begins with `[` or has the type `application/x-ndjson` is a batch: at "
            "most 8 MiB and 10,000 messages, answered with 200 and counts. "
            "Its items are judged one by one, and what is not a message is that item's problem. "
            "Integers are written without a fraction: 1.0 is refused. "
            "The answer comes when everything is durable. "
            "Any other answer, or none, means unknown: sending the same again is always safe."
        ),
        parameters=(_PREFER, _REQUEST_ID),
        body={JSON: "MessageOrBatch", "application/x-ndjson": "Lines"},
        answers=_TAKEN,
        problems=_NOT_TAKEN,
    ),
    Route(
        "GET",
        "/rockets",
        "List rockets",
        shows_state=True,
        description=(
            "Sorted, filtered and paged; `total` counts what matches. "
            "Exact up to 10,000 rockets; above, `Age-Ms` says how old the list may be."
        ),
        parameters=_LIST,
        answers=(
            Answer(
                200,
                "One page.",
                {JSON: RocketList},
                headers=("ETag",),
                headers_maybe=("Age-Ms",),
            ),
        ),
        problems=("bad-parameter",),
    ),
    Route(
        "GET",
        "/rockets/{channel}",
        "One rocket",
        shows_state=True,
        parameters=(
            _CHANNEL,
            _VIEW,
            _query(
                "at",
                Number | TimeText,
                "As it was then: the stored messages up to this number, or up to the last one "
                "with a messageTime not later.",
            ),
        ),
        answers=(Answer(200, "The rocket.", {JSON: Rocket}, headers=("ETag",)),),
        problems=("bad-parameter", "not-found", "pruned", "history-unavailable"),
    ),
    Route(
        "GET",
        "/rockets/{channel}/messages",
        "The stored messages of a rocket",
        shows_state=True,
        parameters=(
            _CHANNEL,
            _query("after", Annotated[int, Meta(ge=0, le=MESSAGE_NUMBER_MAX)], "Only above this."),
            _query("limit", _LIMIT, "The most on one page; 1,000 unless told."),
            _query(
                "state",
                Literal["speed"],
                "Adds the speed after each, thinned to at most `limit` points, 10,000 unless told.",
            ),
        ),
        answers=(Answer(200, "One page.", {JSON: MessageList}, headers=("ETag",)),),
        problems=("bad-parameter", "not-found", "history-unavailable"),
    ),
    Route(
        "GET",
        "/events",
        "The live feed",
        shows_state=True,
        is_live=True,
        description=(
            "Server-Sent Events without an end; the schema is that of the data of each event. "
            "First `hello`, then a `rocket` for each that matches, at most 10,000, then `ready`. "
            "From then on, once in an interval, a `rocket` for each that has changed, as it is by "
            "then, or `gone` where it matches no more. "
            "With the id of the last event it goes on there; `reset` says that what you hold is "
            "out of date and that everything follows. Between `stale` and `fresh` something may be "
            "missing that other instances have stored. `bye` is the last event of a service that "
            "stops. "
            "A comment comes after 15 s without an event; who does not read for 5 s is cut off."
        ),
        parameters=_FEED,
        answers=(
            Answer(
                200,
                "Events.",
                {EVENT_STREAM: (Hello, Rocket, Gone, Reset, Ready, Stale, Fresh, Bye)},
                headers=("Cache-Control",),
            ),
        ),
        problems=("bad-parameter", "too-many-readers"),
    ),
    Route(
        "GET",
        "/fleet",
        "The whole fleet in numbers",
        shows_state=True,
        answers=(Answer(200, "The numbers.", {JSON: FleetNumbers}, headers=("ETag",)),),
        problems=("bad-parameter", "history-unavailable"),
    ),
    Route(
        "GET",
        "/anomalies",
        "Messages that changed nothing, and conflicts",
        shows_state=True,
        description="Newest first.",
        parameters=(
            _query("channel", ChannelText, "Only of this rocket."),
            _query("kind", list[ListedKind], "Only these; repeat for or."),
            _query("limit", _LIMIT, "The most on one page; 100 unless told."),
            _query("cursor", _ANOMALY_CURSOR, "`next` of the last page."),
        ),
        answers=(Answer(200, "One page.", {JSON: AnomalyList}, headers=("ETag",)),),
        problems=("bad-parameter", "history-unavailable"),
    ),
    Route(
        "GET",
        "/rejections",
        "Refused bodies",
        description="Newest first; each once, with a count, and what is wrong with it now.",
        parameters=(
            _query("channel", ChannelText, "Only of this rocket."),
            _query("limit", _LIMIT, "The most on one page; 100 unless told."),
            _query("cursor", _NOTE_CURSOR, "`next` of the last page."),
        ),
        answers=(Answer(200, "One page.", {JSON: RejectionList}, headers=("ETag",)),),
        problems=("bad-parameter", "history-unavailable"),
    ),
    Route(
        "POST",
        "/rejections/{rejection_id}/retry",
        "Send a refused body again",
        takes_messages=True,
        description=(
            "Takes the stored body, or the one in the request, as `POST /messages` would; "
            "where it is taken, the rejection is gone."
        ),
        parameters=(
            Parameter("rejection_id", "path", str, "Its `id` in the list.", "1"),
            _PREFER,
        ),
        body={JSON: "Message"},
        body_required=False,
        answers=_TAKEN,
        problems=("not-found", "history-unavailable", *_NOT_TAKEN),
    ),
    Route(
        "GET",
        "/health",
        "How the service is",
        answers=(
            Answer(200, "It takes messages.", {JSON: Health}),
            Answer(
                503,
                "It stops, has no space left, or its storage is in doubt or behind.",
                {JSON: Health},
            ),
        ),
    ),
    Route("GET", "/livez", "Alive", answers=(Answer(200, "The process answers."),)),
    Route(
        "GET",
        "/readyz",
        "Ready",
        answers=(Answer(200, "It can take messages."), Answer(503, "It cannot.")),
    ),
    Route(
        "GET",
        "/openapi.json",
        "This document",
        answers=(Answer(200, "OpenAPI 3.1.", {JSON: dict[str, Any]}, headers=("ETag",)),),
    ),
    Route(
        "GET",
        "/",
        "The dashboard",
        answers=_PAGE,
    ),
    Route(
        "GET",
        "/dashboard/{file}",
        "A file of the dashboard",
        parameters=(Parameter("file", "path", str, "Its name.", "dashboard.css"),),
        answers=_FILE,
        problems=("not-found",),
    ),
    Route(
        "GET",
        "/docs",
        "Swagger UI",
        answers=_PAGE,
    ),
    Route(
        "GET",
        "/docs/{file}",
        "A file of Swagger UI",
        parameters=(Parameter("file", "path", str, "Its name.", "swagger-ui.css"),),
        answers=_FILE,
        problems=("not-found",),
    ),
    Route(
        "GET",
        "/problems",
        "All problems",
        answers=_PAGE,
    ),
    Route(
        "GET",
        "/problems/{name}",
        "What a problem means",
        parameters=(
            Parameter("name", "path", str, "The end of a problem's `type`.", "invalid-message"),
        ),
        answers=_PAGE,
        problems=("not-found",),
    ),
)

_BY_RULE: Mapping[tuple[str, str], Route] = {
    (route.method, re.sub(r"\{(\w+)\}", r"<\1>", route.path)): route for route in ROUTES
}


def routed(method: str, rule: Rule | None) -> Route | None:
    """Find the entry of a request by its method and the rule that Quart has matched, if any."""
    return None if rule is None else _BY_RULE.get((method.replace("HEAD", "GET"), rule.rule))
