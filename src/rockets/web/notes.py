"""What went wrong: `GET /anomalies`, `GET /rejections` and `POST /rejections/{id}/retry`."""

import re
from base64 import b64encode
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

import msgspec
import trio
from quart import Response, request
from quart_trio import QuartTrio

from rockets.actors.anomalies import (
    CONFLICT,
    KINDS,
    Anomalies,
    AnomalyCursor,
    AnomalyQuery,
    Conflict,
    ListedKind,
)
from rockets.actors.anomaly_index import Anomaly
from rockets.actors.history import payload_as_sent, rfc3339
from rockets.actors.rejections import Rejection, Rejections
from rockets.domain.messages import (
    Channel,
    FieldError,
    MessageInvalid,
    MessageMalformed,
    decode_message,
    normalize_channel,
)
from rockets.web.conditional import json_response
from rockets.web.freshness import arguments
from rockets.web.messages import refuse_encoding
from rockets.web.parameters import LIMIT_MAX, Parameters, not_allowed
from rockets.web.problems import PROBLEMS, Refusal, refusal

One = TypeVar("One")
Shown = TypeVar("Shown")

LIMIT_DEFAULT = 100

DECODED_AT_ONCE_BYTES = 16 << 10
"""Refused bodies take the slow way: milliseconds for so many bytes, then others get a turn."""

# Within what a journal can number, and without a sign, space or other digits.
_ID = re.compile("[0-9]{1,18}")
_CURSOR = re.compile(r"([0-9]{1,18})?\.([0-9]{1,18})?")


class RejectionItem(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One refused body: what is wrong with it now, and how often it came.

    A body that this version takes has no status: to retry it is all there is to do.
    `body_base64` stands in for `body` where that is not UTF-8.
    """

    id: int
    channel: str | None
    message_number: int | None
    status: int | None
    detail: str
    errors: tuple[FieldError, ...] | msgspec.UnsetType = msgspec.UNSET
    body: str | msgspec.UnsetType = msgspec.UNSET
    body_base64: str | msgspec.UnsetType = msgspec.UNSET
    count: int
    first_at: str
    last_at: str


class RejectionList(msgspec.Struct, frozen=True, rename="camel"):
    """One page: `dropped` made way for newer ones, `not_kept` were only counted."""

    count: int
    rejections: list[RejectionItem]
    next: str | None
    dropped: int
    not_kept: int


class Content(msgspec.Struct, frozen=True, rename="camel"):
    """One of the contents of a conflict as it was sent.

    Null where this version cannot read it, or it was pruned.
    """

    message_type: str | None
    message_time: str | None
    message: msgspec.Raw | None


class AnomalyItem(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One message that changed nothing; both contents are there for a conflict."""

    channel: str
    message_number: int
    message_type: str | None
    kind: ListedKind
    message_time: str | None
    received_at: str
    stored: Content | msgspec.UnsetType = msgspec.UNSET
    refused: Content | msgspec.UnsetType = msgspec.UNSET


class AnomalyList(msgspec.Struct, frozen=True):
    """One page: `dropped` made way for newer ones."""

    count: int
    anomalies: list[AnomalyItem]
    next: str | None
    dropped: int


class AnswerMessage(Protocol):
    """What `POST /messages` does with a body, see `messages.answer_message`."""

    def __call__(self, body: bytes, *, prefer: str | None) -> Awaitable[Response]:
        """Give the answer, or raise what becomes a problem."""


def add_routes(
    app: QuartTrio, *, rejections: Rejections, anomalies: Anomalies, answer_message: AnswerMessage
) -> None:
    """Mount the routes."""

    @app.get("/rejections")
    async def list_rejections() -> Response:
        parameters = _parameters("channel", "limit", "cursor")
        page = await rejections.page(
            channel=_channel(parameters), before=_before(parameters), limit=_limit(parameters)
        )
        following = None if page.following is None else str(page.following)
        totals = await rejections.totals()
        items = await _in_turns(page.rejections, _rejection_item, lambda one: len(one.body))
        return json_response(
            RejectionList(len(items), items, following, totals.dropped, totals.not_kept)
        )

    @app.post("/rejections/<rejection_id>/retry")
    async def retry_rejection(rejection_id: str) -> Response:
        refuse_encoding(request.headers.get("Content-Encoding"))
        known = _ID.fullmatch(rejection_id)
        rejection = await rejections.find(int(rejection_id)) if known else None
        if rejection is None:
            raise Refusal("not-found", f"there is no rejection {rejection_id[:200]!r}")
        body = await request.get_data()
        assert isinstance(body, bytes)
        response = await answer_message(
            body or rejection.body, prefer=", ".join(request.headers.getlist("Prefer"))
        )
        await rejections.resolve(rejection)
        return response

    @app.get("/anomalies")
    async def list_anomalies() -> Response:
        page = await anomalies.page(
            _anomaly_query(_parameters("channel", "kind", "limit", "cursor"))
        )
        items = await _in_turns(page.items, _anomaly_item, _size)
        return json_response(
            AnomalyList(len(items), items, _cursor_text(page.following), page.dropped)
        )


def _parameters(*allowed: str) -> Parameters:
    return Parameters(arguments(), allowed, repeatable=("kind",))


def _limit(parameters: Parameters) -> int:
    return parameters.integer("limit", least=1, most=LIMIT_MAX) or LIMIT_DEFAULT


def _channel(parameters: Parameters) -> Channel | None:
    text = parameters.text("channel")
    if text is None:
        return None
    try:
        return normalize_channel(text)
    except ValueError as error:
        raise Refusal("bad-parameter", f"channel={text[:200]!r} {error}") from None


def _before(parameters: Parameters) -> int | None:
    text = parameters.text("cursor")
    if text is None:
        return None
    if not _ID.fullmatch(text):
        raise _bad_cursor()
    return int(text)


def _anomaly_query(parameters: Parameters) -> AnomalyQuery:
    text, after = parameters.text("cursor"), AnomalyCursor()
    if text is not None:
        found = _CURSOR.fullmatch(text)
        if found is None:
            raise _bad_cursor()
        position, note = (None if part is None else int(part) for part in found.groups())
        after = AnomalyCursor(position, note)
    return AnomalyQuery(
        channel=_channel(parameters),
        kinds=frozenset(_kind(text) for text in parameters.texts("kind")),
        limit=_limit(parameters),
        after=after,
    )


def _kind(text: str) -> ListedKind:
    for kind in KINDS:
        if kind == text:
            return kind
    raise not_allowed("kind", text, KINDS)


def _cursor_text(cursor: AnomalyCursor | None) -> str | None:
    if cursor is None:
        return None
    return ".".join("" if place is None else str(place) for place in (cursor.position, cursor.note))


def _bad_cursor() -> Refusal:
    return Refusal("bad-parameter", "the cursor is not one that this list has given")


async def _in_turns(
    found: Sequence[One], show: Callable[[One], Shown], size_of: Callable[[One], int]
) -> list[Shown]:
    """Show everything, giving others their turn whenever much has been decoded."""
    shown, size = [], 0
    for each in found:
        shown.append(show(each))
        size += size_of(each)
        if size > DECODED_AT_ONCE_BYTES:
            size = 0
            await trio.lowlevel.checkpoint()
    return shown


def _rejection_item(rejection: Rejection) -> RejectionItem:
    status, detail, errors = _judged(rejection.body)
    text: str | msgspec.UnsetType = msgspec.UNSET
    encoded: str | msgspec.UnsetType = msgspec.UNSET
    try:
        text = rejection.body.decode()
    except UnicodeDecodeError:
        encoded = b64encode(rejection.body).decode()
    return RejectionItem(
        id=rejection.id,
        channel=rejection.channel,
        message_number=rejection.number,
        status=status,
        detail=detail,
        errors=errors or msgspec.UNSET,
        body=text,
        body_base64=encoded,
        count=rejection.count,
        first_at=rfc3339(rejection.first_at),
        last_at=rfc3339(rejection.last_at),
    )


def _judged(body: bytes) -> tuple[int | None, str, tuple[FieldError, ...]]:
    """Say what is wrong with a body now: another version may have refused it."""
    try:
        decode_message(body)
    except (MessageInvalid, MessageMalformed) as error:
        refused = refusal(error)
        return PROBLEMS[refused.name][0], refused.detail, refused.errors
    return None, "this version takes it", ()


def _size(item: Anomaly | Conflict) -> int:
    return len(item.refused) + len(item.stored or b"") if isinstance(item, Conflict) else 100


def _anomaly_item(item: Anomaly | Conflict) -> AnomalyItem:
    if isinstance(item, Conflict):
        refused = _content(item.refused)
        return AnomalyItem(
            channel=item.channel,
            message_number=item.number,
            message_type=refused.message_type,
            kind=CONFLICT,
            message_time=refused.message_time,
            received_at=rfc3339(item.received_at),
            stored=_content(item.stored),
            refused=refused,
        )
    return AnomalyItem(
        channel=item.channel,
        message_number=item.number,
        message_type=item.message_type,
        kind=item.kind,
        message_time=item.time,
        received_at=rfc3339(item.received_at),
    )


def _content(body: bytes | None) -> Content:
    if body is None:
        return Content(None, None, None)
    try:
        message = decode_message(body)
    except (MessageInvalid, MessageMalformed):
        return Content(None, None, None)
    return Content(message.message_type, message.time, payload_as_sent(body))
