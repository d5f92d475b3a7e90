"""What an answer to a batch means."""

import json

import pytest

from rockets.cli.batch_answer import Busy, ImportStopped, Taken, TooLarge, judge
from rockets.cli.client import Response
from rockets.cli.line_batches import Batch

BATCH = Batch((b"a", b"b", b"c"), (1, 2, 3), (), 3)
COUNTS = {"applied": 1, "conflict": 1}
WRONG = {
    "status": 422,
    "title": "The message has wrong fields",
    "detail": "1 field is wrong",
    "errors": [{"pointer": "/message/by", "detail": "is missing"}],
}
NO_ROOM = {"status": 503, "title": "Too many gaps", "detail": "the message would open one more"}


def answer(problem: object, outcomes: object = ("applied", None, "conflict")) -> Response:
    """Write the answer in which the second line has a problem."""
    problems = [{"index": 1, "problem": problem}]
    body = json.dumps({"counts": COUNTS, "problems": problems, "outcomes": outcomes})
    return Response(200, {}, body.encode())


def test_outcomes_problems_and_conflicts_are_read_off() -> None:
    assert judge(answer(WRONG), BATCH) == Taken(
        {"applied": 1, "conflict": 1},
        [(1, "422 The message has wrong fields: /message/by is missing")],
        [2],
        [],
        None,
    )


def test_a_line_for_which_there_is_no_room_now_is_for_later() -> None:
    busy = Busy("503 Too many gaps: the message would open one more")

    assert judge(answer(NO_ROOM), BATCH) == Taken({"applied": 1, "conflict": 1}, [], [2], [1], busy)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
@pytest.mark.parametrize(
    ("headers", "pause_s"),
    [
        ({}, None),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "17"}, 17.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "²"}, None),
    ],
)
def test_a_service_that_is_busy_may_say_how_long(
    status: int, headers: dict[str, str], pause_s: float | None
) -> None:
    assert judge(Response(status, headers, b""), BATCH) == Busy(str(status), pause_s)


def test_the_words_of_a_problem_are_the_reason() -> None:
    problem = {"status": 413, "title": "The body is too large", "detail": "over 10 bytes"}

    verdict = judge(Response(413, {}, json.dumps(problem).encode()), BATCH)

    assert verdict == TooLarge("413 The body is too large: over 10 bytes")


@pytest.mark.parametrize(
    ("response", "part"),
    [
        (Response(404, {}, b"<p>"), "answered 404$"),
        (Response(204, {}, b""), "answered 204$"),
        (Response(301, {}, b""), "answered 301$"),
        (Response(200, {}, b"<p>"), "not the answer to a batch"),
        (Response(200, {}, b"{}"), "not the answer to a batch"),
        (answer(WRONG, [None]), "took 3 lines for 1 messages"),
    ],
)
def test_any_other_answer_stops_the_import(response: Response, part: str) -> None:
    with pytest.raises(ImportStopped, match=part):
        judge(response, BATCH)
