"""Every error answer: RFC 9457 problem details, one table, one builder.

It returns plain data, so that the front and the Quart application answer alike.
"""

import re
import secrets
from collections.abc import Sequence
from http import HTTPStatus
from itertools import count
from typing import Literal, TypeGuard

import msgspec

from rockets.actors.history import HistoryUnavailable, MessagesPruned
from rockets.actors.replica import ReplicaUnavailable
from rockets.actors.waiting import FleetUnavailable
from rockets.domain.messages import FieldError, MessageInvalid, MessageMalformed

ProblemName = Literal[
    "malformed-body",
    "invalid-message",
    "bad-request",
    "bad-parameter",
    "not-found",
    "method-not-allowed",
    "request-timeout",
    "pruned",
    "content-too-large",
    "unsupported-content-encoding",
    "expectation-failed",
    "wrong-instance",
    "header-fields-too-large",
    "internal-error",
    "not-implemented",
    "unavailable",
    "too-many-gaps",
    "history-unavailable",
    "not-up-to-date",
    "overloaded",
    "too-many-connections",
    "too-many-readers",
    "http-version-not-supported",
]

# name -> status, title. The name is the last part of the problem's `type` and never changes.
PROBLEMS: dict[ProblemName, tuple[int, str]] = {
    "malformed-body": (400, "The body is not valid JSON"),
    "invalid-message": (422, "The message has wrong fields"),
    "bad-request": (400, "The request is not valid HTTP"),
    "bad-parameter": (400, "A query parameter is wrong"),
    "not-found": (404, "There is nothing here"),
    "method-not-allowed": (405, "The method is not allowed here"),
    "request-timeout": (408, "The body did not arrive in time"),
    "pruned": (410, "The messages that this needs were pruned"),
    "content-too-large": (413, "The body is too large"),
    "unsupported-content-encoding": (415, "Encoded bodies are not taken"),
    "expectation-failed": (417, "The expectation cannot be met"),
    "wrong-instance": (421, "Another instance is for this request"),
    "header-fields-too-large": (431, "The head of the request is too large"),
    "internal-error": (500, "The service made a mistake"),
    "not-implemented": (501, "The transfer coding is not supported"),
    "unavailable": (503, "The message may or may not be stored; send it again"),
    "too-many-gaps": (503, "The rocket has too many gaps; nothing was stored"),
    "history-unavailable": (503, "The history cannot be read now; ask again"),
    "not-up-to-date": (503, "The newest state cannot be shown now; ask again"),
    "overloaded": (503, "Too much is under way; nothing was stored"),
    "too-many-connections": (503, "Too many connections"),
    "too-many-readers": (503, "Too many clients read the live feed"),
    "http-version-not-supported": (505, "The HTTP version is not supported"),
}

RETRY_AFTER_S = 1
PROBLEM_TYPE = "application/problem+json"

_ids = count(secrets.randbits(64))
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class Problem(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The body of an error answer; `first_number` is there for `pruned` alone."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    errors: tuple[FieldError, ...] = ()
    first_number: int | msgspec.UnsetType = msgspec.UNSET


class Refusal(Exception):
    """Raised by a handler to answer with a problem."""

    def __init__(
        self,
        name: ProblemName,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        first_number: int | msgspec.UnsetType = msgspec.UNSET,
    ) -> None:
        super().__init__(detail)
        self.name = name
        self.detail = detail
        self.errors = tuple(errors)
        self.first_number = first_number


def too_many_gaps() -> Refusal:
    """Refuse a message for which there is no room behind a gap."""
    return Refusal("too-many-gaps", "the message would open one more gap")


class Answer(msgspec.Struct, frozen=True):
    """A whole answer as plain data."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def to_bytes(self, *, date: str, with_body: bool) -> bytes:
        """Serialise for HTTP/1.1; without the body for an answer to HEAD."""
        lines = [f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        lines += [f"Content-Length: {len(self.body)}", f"Date: {date}", "", ""]
        return "\r\n".join(lines).encode("latin-1") + (self.body if with_body else b"")


def request_id(incoming: str | None) -> str:
    """Keep a valid incoming request id, else make one."""
    return incoming if is_request_id(incoming) else new_request_id()


def is_request_id(incoming: str | None) -> TypeGuard[str]:
    """Say whether a client has sent a request id that can be kept."""
    return incoming is not None and _REQUEST_ID.fullmatch(incoming) is not None


def new_request_id() -> str:
    """Make a request id: 16 hexadecimal digits, counted from a random start."""
    # Asking the system for randomness each time costs as much as checking a message.
    return f"{next(_ids) & 2**64 - 1:016x}"


def problem_body(
    name: ProblemName,
    detail: str,
    *,
    request_id: str,
    errors: Sequence[FieldError] = (),
    first_number: int | msgspec.UnsetType = msgspec.UNSET,
) -> Problem:
    """Build the body of a problem."""
    status, title = PROBLEMS[name]
    kind = f"/problems/{name}"
    return Problem(kind, title, status, detail, request_id, tuple(errors), first_number)


def problem(
    name: ProblemName,
    detail: str,
    *,
    request_id: str,
    errors: Sequence[FieldError] = (),
    first_number: int | msgspec.UnsetType = msgspec.UNSET,
    close: bool,
    headers: Sequence[tuple[str, str]] = (),
) -> Answer:
    """Build the answer for a problem; `close` asks for `Connection: close`."""
    status = PROBLEMS[name][0]
    body = problem_body(
        name, detail, request_id=request_id, errors=errors, first_number=first_number
    )
    fields = [("Content-Type", PROBLEM_TYPE), ("X-Request-Id", request_id), *headers]
    if status in {429, 503}:
        fields.append(("Retry-After", str(RETRY_AFTER_S)))
    if close:
        fields.append(("Connection", "close"))
    return Answer(status, tuple(fields), msgspec.json.encode(body))


def refusal(error: Exception) -> Refusal:
    """Give the refusal for an error of the layers below; the one table from error to answer."""
    match error:
        case Refusal():
            return error
        case MessageMalformed():
            return Refusal("malformed-body", error.detail)
        case MessageInvalid():
            count = len(error.errors)
            fields = "1 field is wrong" if count == 1 else f"{count} fields are wrong"
            return Refusal("invalid-message", fields, errors=error.errors)
        case FleetUnavailable():
            return Refusal("unavailable", str(error))
        case ReplicaUnavailable():
            return Refusal("not-up-to-date", str(error))
        case HistoryUnavailable():
            return Refusal("history-unavailable", str(error))
        case MessagesPruned():
            return Refusal("pruned", str(error), first_number=error.first_number)
        case _:
            return Refusal("internal-error", "an unexpected error; the log has the details")
