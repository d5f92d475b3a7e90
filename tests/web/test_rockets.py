"""`GET /rockets/{channel}`: now, settled, and as it was."""

import pytest

from tests.helpers import body
from tests.web.apps import running_app, send

# A gap at 4: the settled view ends before it.
HISTORY = (
    body("r", 2, "RocketLaunched", time="2022-02-02T19:39:02Z"),
    body("r", 3, time="2022-02-02T19:39:03.5Z"),
    body("r", 5, time="2022-02-02T20:39:04+01:00"),
    body("r", 6, time="2022-02-02T19:39:06Z"),
)
FIRST = body("r", 1, "RocketMissionChanged", time="2022-02-02T19:39:09Z")


@pytest.mark.parametrize(
    ("query", "number", "speed"),
    [
        ("", 6, 1500 + 500),
        ("at=6", 6, 2000),
        ("at=9007199254740991", 6, 2000),
        ("at=5", 5, 1500),
        ("at=4", 3, 1000),
        ("at=3", 3, 1000),
        ("at=002", 2, 500),
        ("at=2022-02-02T19:39:02Z", 2, 500),
        ("at=2022-02-02T19:39:03.499999999Z", 2, 500),
        ("at=2022-02-02T19:39:03.5z", 3, 1000),
        ("at=2022-02-02T20:39:03.5%2B01:00", 3, 1000),
        ("at=2022-02-02T20:39:03.5+01:00", 3, 1000),
        ("at=2022-02-02T18:39:03.5-01:00", 3, 1000),
        ("at=2022-02-02T19:39:05Z", 5, 1500),
        ("at=9999-12-31T23:59:59Z", 6, 2000),
        ("at=6&view=settled", 3, 1000),
        ("at=5&view=settled", 3, 1000),
        ("at=2&view=settled", 2, 500),
    ],
)
async def test_a_rocket_is_shown_as_it_was(query: str, number: int, speed: int) -> None:
    async with running_app() as client:
        await send(client, *HISTORY, FIRST)
        response = await client.get(f"/rockets/r?{query}")
        rocket = await response.get_json()

    assert response.status_code == 200
    assert (rocket["lastMessageNumber"], rocket["speed"]) == (number, speed)


async def test_a_past_sequence_describes_the_messages_up_to_then() -> None:
    async with running_app() as client:
        await send(client, *HISTORY)
        rocket = await (await client.get("/rockets/r?at=5&view=settled")).get_json()

    assert rocket["lastMessageNumber"] == 0
    assert rocket["sequence"] == {
        "settledThrough": 0,
        "received": 3,
        "missingCount": 2,
        "missing": [[1, 1], [4, 4]],
        "complete": False,
    }


@pytest.mark.parametrize(
    "target",
    [
        "/rockets/q",
        "/rockets/q?at=1",
        "/rockets/r?at=1",
        "/rockets/r?at=2022-02-02T19:39:01Z",
        "/rockets/no%20channel?at=1",
    ],
)
async def test_before_the_first_message_there_is_no_rocket(target: str) -> None:
    async with running_app() as client:
        await send(client, *HISTORY)
        response = await client.get(target)
        problem = await response.get_json()

    assert (response.status_code, problem["type"]) == (404, "/problems/not-found")


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("at=0", "at='0' is not a whole number from 1 to 9007199254740991"),
        ("at=00", "is not a whole number from 1 to 9007199254740991"),
        ("at=9007199254740992", "is not a whole number from 1 to 9007199254740991"),
        ("at=" + "9" * 5000, "is not a whole number from 1 to 9007199254740991"),
        ("at=", "neither a message number from 1 to 9007199254740991 nor an RFC 3339 date"),
        ("at=-1", "neither a message number"),
        ("at=1.0", "neither a message number"),
        ("at=%D9%A3", "neither a message number"),
        ("at=now", "neither a message number"),
        ("at=2022-02-02", "neither a message number"),
        ("at=2022-02-02T19:39:05", "neither a message number"),
        ("at=2022-02-30T19:39:05Z", "neither a message number"),
        ("at=2022-02-02+19:39:05Z", "neither a message number"),
        ("at=2022-02-02T19:39:05Z%0A", "neither a message number"),
        ("at=1&at=2", "parameter 'at' is given more than once"),
        ("at=1&view=now", "view='now' is not allowed; allowed: latest, settled"),
        ("when=1", "parameter='when' is not allowed; allowed: view, at"),
    ],
)
async def test_a_wrong_parameter_is_400_and_says_what_is_allowed(query: str, detail: str) -> None:
    async with running_app() as client:
        await send(client, *HISTORY)
        response = await client.get(f"/rockets/r?{query}")
        problem = await response.get_json()

    assert (response.status_code, problem["type"]) == (400, "/problems/bad-parameter")
    assert detail in problem["detail"]
