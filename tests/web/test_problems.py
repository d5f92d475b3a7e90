"""Every error answer comes from one table and one builder."""

import json
from collections.abc import Iterator
from typing import get_args

import msgspec
import pytest

from rockets.actors.history import MessagesPruned
from rockets.actors.waiting import FleetUnavailable
from rockets.domain.messages import FieldError, MessageInvalid, MessageMalformed
from rockets.web.problems import (
    PROBLEM_TYPE,
    PROBLEMS,
    Answer,
    ProblemName,
    Refusal,
    problem,
    refusal,
    request_id,
)

FIELD_ERRORS = (FieldError("/metadata/channel", "is missing"), FieldError("/message/by", "is text"))


def test_every_name_has_a_status_and_a_title_of_its_own() -> None:
    assert tuple(PROBLEMS) == get_args(ProblemName)
    assert all(400 <= status <= 599 for status, _ in PROBLEMS.values())
    assert len({title for _, title in PROBLEMS.values()}) == len(PROBLEMS)


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_problem_has_the_same_members_whatever_its_name(name: ProblemName) -> None:
    answer = problem(name, "what was wrong", request_id="r-1", close=False)

    status, title = PROBLEMS[name]
    assert answer.status == status
    assert json.loads(answer.body) == {
        "type": f"/problems/{name}",
        "title": title,
        "status": status,
        "detail": "what was wrong",
        "requestId": "r-1",
    }
    headers = dict(answer.headers)
    assert headers.pop("Content-Type") == PROBLEM_TYPE
    assert headers.pop("X-Request-Id") == "r-1"
    assert headers == ({"Retry-After": "1"} if status in {429, 503} else {})


def test_wrong_fields_are_listed_with_their_pointers() -> None:
    answer = problem("invalid-message", "x", request_id="r", errors=FIELD_ERRORS, close=False)

    assert json.loads(answer.body)["errors"] == [
        {"pointer": "/metadata/channel", "detail": "is missing"},
        {"pointer": "/message/by", "detail": "is text"},
    ]


def test_a_problem_that_closes_says_so_and_keeps_the_headers_given() -> None:
    answer = problem(
        "method-not-allowed", "x", request_id="r", close=True, headers=[("Allow", "GET")]
    )

    assert ("Connection", "close") in answer.headers
    assert ("Allow", "GET") in answer.headers


def test_an_answer_is_written_as_http_and_for_head_without_its_body() -> None:
    answer = Answer(404, (("A", "b"),), b"{}")
    head = b"HTTP/1.1 404 Not Found\r\nA: b\r\nContent-Length: 2\r\nDate: today\r\n\r\n"

    assert answer.to_bytes(date="today", with_body=True) == head + b"{}"
    assert answer.to_bytes(date="today", with_body=False) == head


@pytest.mark.parametrize("name", PROBLEMS)
def test_every_problem_can_be_written(name: ProblemName) -> None:
    answer = problem(name, "caf\u00e9 \u20ac \r\n", request_id="r", close=True)

    head, _, body = answer.to_bytes(date="today", with_body=True).partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 %d " % PROBLEMS[name][0])
    assert json.loads(body)["detail"] == "caf\u00e9 \u20ac \r\n"


@pytest.mark.parametrize("incoming", ["a", "A-Za-z.0_9:", "x" * 128])
def test_a_valid_request_id_is_kept(incoming: str) -> None:
    assert request_id(incoming) == incoming


@pytest.mark.parametrize("incoming", [None, "", "x" * 129, "a b", "a\r\nb", "caf\u00e9", "a\n"])
def test_another_request_id_is_replaced_by_a_new_one(incoming: str | None) -> None:
    made = {request_id(incoming) for _ in range(9)}

    assert len(made) == 9
    assert incoming not in made


def errors() -> Iterator[tuple[Exception, ProblemName, str]]:
    """Every kind of error of the layers below."""
    yield Refusal("not-found", "nobody"), "not-found", "nobody"
    yield MessageMalformed("not JSON"), "malformed-body", "not JSON"
    yield MessageInvalid(FIELD_ERRORS), "invalid-message", "2 fields are wrong"
    yield MessageInvalid(FIELD_ERRORS[:1]), "invalid-message", "1 field is wrong"
    yield FleetUnavailable("busy"), "unavailable", "busy"
    yield MessagesPruned(7), "pruned", "the messages before number 7 were pruned"
    yield (
        KeyError("SELECT secret"),
        "internal-error",
        "an unexpected error; the log has the details",
    )


@pytest.mark.parametrize(("error", "name", "detail"), list(errors()))
def test_an_error_of_the_layers_below_becomes_its_problem(
    error: Exception, name: ProblemName, detail: str
) -> None:
    refused = refusal(error)

    assert (refused.name, refused.detail) == (name, detail)
    assert refused.errors == getattr(error, "errors", ())
    assert refused.first_number == getattr(error, "first_number", msgspec.UNSET)
