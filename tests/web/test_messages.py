"""`POST /messages`: what the client prefers, and a commit that takes too long."""

import json

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from rockets.web.messages import IntakeLimits, wants_representation
from tests.actors.fleets import Gate
from tests.helpers import body, connected, post
from tests.web.apps import running_app, running_service, send

PREFERENCES = [
    (None, False),
    ("", False),
    (",", False),
    ("return=representation", True),
    ("Return=Representation", True),
    ("RETURN=REPRESENTATION", True),
    ("  return=representation\t", True),
    ("return = representation", True),
    ("return=representation; foo=bar", True),
    ("return=representation ;foo", True),
    ("respond-async, return=representation", True),
    ("return=representation,wait=10", True),
    ("respond-async,,wait=10 , return=representation; a=b", True),
    ("return=minimal", False),
    ('return="representation"', True),
    ("return=representation, return=minimal", True),
    ("return=minimal, return=representation", False),
    ("return", False),
    ("representation", False),
    ("return=representations", False),
    ("xreturn=representation", False),
    ("wait=10; return=representation", False),
    ("respond-async, wait=10", False),
]
PREFER = {"Prefer": "return=representation"}


@pytest.mark.parametrize(("prefer", "wanted"), PREFERENCES)
def test_a_preference_is_read_as_rfc_7240_writes_it(prefer: str | None, wanted: bool) -> None:
    assert wants_representation(prefer) is wanted


async def test_a_message_is_answered_with_its_rocket_for_those_who_prefer_it() -> None:
    async with running_app() as client:
        launched = body("r", 1, "RocketLaunched")
        response = await client.post("/messages", data=launched, headers=PREFER)
        shown = await client.get("/rockets/r")

        assert (response.status_code, response.mimetype) == (200, "application/json")
        assert response.headers["Preference-Applied"] == "return=representation"
        assert response.headers["Rockets-Outcome"] == "applied"
        assert response.headers["Rockets-Settled"] == "1"
        answer = json.loads(await response.get_data())
        assert answer == {"outcome": "applied", "rocket": json.loads(await shown.get_data())}


@pytest.mark.parametrize("headers", [{}, {"Prefer": "return=minimal"}])
async def test_a_message_is_answered_with_headers_alone_otherwise(headers: dict[str, str]) -> None:
    async with running_app() as client:
        launched = body("r", 1, "RocketLaunched")
        response = await client.post("/messages", data=launched, headers=headers)

        assert (response.status_code, await response.get_data()) == (204, b"")
        assert "Preference-Applied" not in response.headers
        assert response.headers["Rockets-Outcome"] == "applied"
        assert response.headers["Rockets-Settled"] == "1"


@pytest.mark.parametrize("content_type", ["application/json", "application/x-ndjson"])
@pytest.mark.parametrize("prefer", [True, False])
async def test_a_batch_tells_every_outcome_to_those_who_prefer_it(
    content_type: str, prefer: bool
) -> None:
    items = [body("r", 1, "RocketLaunched"), b"{}", body("r", 3), body("r", 1, "RocketLaunched")]
    array = b"[" + b",".join(items) + b"]"
    content = array if content_type == "application/json" else b"\n".join(items)
    headers = {"Content-Type": content_type} | (PREFER if prefer else {})
    async with running_app() as client:
        response = await client.post("/messages", data=content, headers=headers)

        assert (response.status_code, response.mimetype) == (200, "application/json")
        applied = "return=representation" if prefer else None
        assert response.headers.get("Preference-Applied") == applied
        answer = json.loads(await response.get_data())
    assert ("outcomes" in answer) is prefer
    assert answer.get("outcomes") == (["applied", None, "held", "duplicate"] if prefer else None)
    assert [problem["index"] for problem in answer["problems"]] == [1]
    assert sum(answer["counts"].values()) == 3


@pytest.mark.parametrize("content", [body("r", 1), b"[" + body("r", 1) + b"]"])
@pytest.mark.parametrize(("margin_s", "status"), [(-0.01, None), (0.01, 503)])
async def test_a_message_whose_commit_is_held_back_is_in_doubt_after_the_time_for_it(
    content: bytes, margin_s: float, status: int | None, autojump_clock: MockClock
) -> None:
    gate = Gate()
    answered: list[int] = []
    async with running_app(gate=gate) as client:

        async def send_one() -> None:
            response = await client.post("/messages", data=content)
            answered.append(response.status_code)
            if response.status_code == 503:
                problem = json.loads(await response.get_data())
                assert problem["type"] == "/problems/unavailable"
                assert problem["detail"] == "not durable within 8 s"

        gate.shut()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_one)
            await wait_all_tasks_blocked()
            await trio.sleep(IntakeLimits().ask_timeout_s + margin_s)
            assert answered == ([status] if status else [])
            gate.open()
        assert answered == [status or (204 if content.startswith(b"{") else 200)]

        again = await client.post("/messages", data=body("r", 1))
        assert again.headers["Rockets-Outcome"] == "duplicate"  # in doubt, but stored
        await send(client, body("r", 2))


@pytest.mark.parametrize("fast_lane", [True, False])
async def test_five_posts_go_over_one_connection_and_none_has_a_body_header(
    fast_lane: bool,
) -> None:
    outcomes = []
    async with (
        running_service(fast_lane=fast_lane) as service,
        connected(service.port) as peer,
    ):
        for number in (1, 2, 4, 2, 3):
            reply = await peer.ask(post(body("r", number, "RocketLaunched")))
            outcomes.append(reply.headers.pop("rockets-outcome"))
            assert (reply.status, reply.body) == (204, b"")
            assert set(reply.headers) == {"date", "rockets-settled", "x-request-id"}

    assert outcomes == ["applied", "ignored", "held", "duplicate", "ignored"]
