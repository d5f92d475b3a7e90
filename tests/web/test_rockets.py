"""`GET /rockets` of many rockets; `GET /rockets/{channel}`: now, settled, and as it was."""

import pytest

from rockets.journal.memory import MemoryJournal
from tests.actors.prunings import prune_through
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


@pytest.mark.parametrize("exact_max", [5, 4])
async def test_a_list_of_many_rockets_says_its_age_and_is_the_same(exact_max: int) -> None:
    seen, target = [], "/rockets?sort=-speed&limit=2"
    async with running_app(exact_max=exact_max) as client:
        for number in range(5):
            await send(client, body(f"r{number}", 1, "RocketLaunched"))
            await send(client, body(f"r{number}", 2, by=number))
        cursor = ""
        while cursor is not None:
            response = await client.get(target + cursor)
            page = await response.get_json()
            seen += [rocket["speed"] for rocket in page["rockets"]]
            assert page["total"] == 5
            assert ("Age-Ms" in response.headers) is (exact_max < 5)
            assert int(response.headers.get("Age-Ms", 0)) >= 0
            cursor = page["next"] and f"&cursor={page['next']}"

    assert seen == [504, 503, 502, 501, 500]


async def test_a_long_list_that_the_client_has_is_304_with_its_age() -> None:
    async with running_app(exact_max=0) as client:
        await send(client, *HISTORY)
        tag = (await client.get("/rockets")).headers["ETag"]
        response = await client.get("/rockets", headers={"If-None-Match": tag})

    assert response.status_code == 304
    assert "Age-Ms" in response.headers


@pytest.mark.parametrize(
    "query", ["type=%00", "type=%ED%A0%80", "mission=%F0%9F%9A%80", "type=A%27"]
)
async def test_a_long_list_can_be_filtered_by_any_text(query: str) -> None:
    async with running_app(exact_max=0) as client:
        await send(client, *HISTORY)
        response = await client.get(f"/rockets?{query}")

        assert (await response.get_json())["total"] == 0


PRUNED = tuple(body("r", number, time=f"2022-02-02T19:39:0{number}Z") for number in range(1, 7))


@pytest.mark.parametrize(
    ("query", "number"),
    [
        ("at=1", None),
        ("at=3", None),
        ("at=4", 4),
        ("at=5", 5),
        ("at=9", 6),
        ("", 6),
        ("at=2022-02-02T19:39:01Z", None),
        ("at=2022-02-02T19:39:03.9Z", None),
        ("at=2022-02-02T19:39:04Z", 4),
        ("at=2022-02-02T19:39:59Z", 6),
        ("at=2021-02-02T19:39:59Z", None),
    ],
)
@pytest.mark.parametrize("view", ["latest", "settled"])
async def test_below_what_is_left_the_answer_is_410_with_the_first_number(
    query: str, number: int | None, view: str
) -> None:
    journal = MemoryJournal()
    async with running_app(journal) as client:
        await send(client, body("r", 1, "RocketLaunched", time="2022-02-02T19:39:01Z"))
        await send(client, *PRUNED[1:], body("other", 1))
        before = await (await client.get(f"/rockets/r?{query}&view={view}")).get_json()
        prune_through(journal, "r", 3)
        response = await client.get(f"/rockets/r?{query}&view={view}")
        content = await response.get_json()

    if number is None:
        assert response.status_code == 410
        assert content.pop("requestId")
        assert content == {
            "type": "/problems/pruned",
            "title": "The messages that this needs were pruned",
            "status": 410,
            "detail": "the messages before number 4 were pruned",
            "firstNumber": 4,
        }
    else:
        assert (response.status_code, content["lastMessageNumber"]) == (200, number)
        assert content == before
