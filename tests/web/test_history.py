"""`GET /rockets/{channel}/messages`: what is stored, page by page, and the speed after each."""

import pytest

from rockets.journal.base import JournalBusy, StoredRecord
from rockets.journal.memory import MemoryJournal
from tests.actors.prunings import prune_through
from tests.helpers import TIME, body
from tests.web.apps import running_app, send

LAUNCH = body("r", 1, "RocketLaunched")
FASTER = [body("r", number) for number in range(2, 6)]


async def test_a_history_is_listed_as_it_was_sent() -> None:
    spread = LAUNCH.replace(b'"message": {', b'"message":  {\n ')
    async with running_app() as client:
        await send(client, FASTER[1], spread)
        response = await client.get("/rockets/r/messages")
        content = await response.get_data(as_text=True)

    assert response.status_code == 200
    assert response.content_type == "application/json"
    assert content == (
        '{"channel":"r","count":2,"messages":[{"number":1,"type":"RocketLaunched",'
        f'"time":"{TIME}","payload":'
        '{\n "type": "Falcon-9", "launchSpeed": 500, "mission": "ARTEMIS"},'
        '"receivedAt":"1970-01-01T00:00:00.000007Z"},'
        '{"number":3,"type":"RocketSpeedIncreased",'
        f'"time":"{TIME}","payload":{{"by": 500}},"receivedAt":"1970-01-01T00:00:00.000007Z"}}],'
        '"next":null,"prunedThrough":0}'
    )


async def test_next_leads_through_all_pages() -> None:
    walked, following = [], 0
    async with running_app() as client:
        await send(client, LAUNCH, *FASTER)
        while following is not None:
            response = await client.get(f"/rockets/r/messages?limit=2&after={following}")
            page = await response.get_json()
            assert page["count"] == len(page["messages"])
            walked.append([each["number"] for each in page["messages"]])
            following = page["next"]

    assert walked == [[1, 2], [3, 4], [5]]


@pytest.mark.parametrize(
    ("query", "points"),
    [
        ("", [(1, None), (2, 500), (3, 1000), (4, 1500), (5, 2000)]),
        ("&after=3", [(4, 1500), (5, 2000)]),
        ("&after=5", []),
        ("&limit=3", [(1, None), (3, 1000), (5, 2000)]),
        ("&limit=2", [(1, None), (5, 2000)]),
        ("&limit=1", [(5, 2000)]),
    ],
)
async def test_the_speed_after_each_message_is_thinned_to_the_limit(
    query: str, points: list[tuple[int, int | None]]
) -> None:
    launch = body("r", 2, "RocketLaunched")
    async with running_app() as client:
        await send(client, body("r", 1), launch, *FASTER[1:])
        response = await client.get(f"/rockets/r/messages?state=speed{query}")
        page = await response.get_json()

    assert [(each["number"], each["speed"]) for each in page["messages"]] == points
    assert page["next"] is None


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("before=1", "parameter='before' is not allowed; allowed: after, limit, state"),
        ("after=1&after=2", "parameter 'after' is given more than once"),
        ("after=-1", "after='-1' is not a whole number from 0 to 9007199254740991"),
        ("after=", "after='' is not a whole number from 0 to 9007199254740991"),
        ("after=9007199254740992", "is not a whole number from 0 to 9007199254740991"),
        ("limit=0", "limit='0' is not a whole number from 1 to 10000"),
        ("limit=10001", "limit='10001' is not a whole number from 1 to 10000"),
        ("limit=1.5", "limit='1.5' is not a whole number from 1 to 10000"),
        ("state=mission", "state='mission' is not allowed; allowed: speed"),
        ("state=", "state='' is not allowed; allowed: speed"),
    ],
)
async def test_a_wrong_parameter_is_400_and_named(query: str, detail: str) -> None:
    async with running_app() as client:
        await send(client, LAUNCH)
        response = await client.get(f"/rockets/r/messages?{query}")
        problem = await response.get_json()

    assert (response.status_code, problem["type"]) == (400, "/problems/bad-parameter")
    assert detail in problem["detail"]


@pytest.mark.parametrize("channel", ["q", "no%20channel", "caf%C3%A9", "a" * 129])
async def test_the_history_of_a_rocket_nobody_knows_is_404(channel: str) -> None:
    async with running_app() as client:
        response = await client.get(f"/rockets/{channel}/messages")
        problem = await response.get_json()

    assert (response.status_code, problem["type"]) == (404, "/problems/not-found")


async def test_a_channel_that_is_a_uuid_is_found_in_any_case() -> None:
    channel = "193270a9-c9cf-404a-8f83-838e71d9ae67"
    async with running_app() as client:
        await send(client, body(channel, 1))
        response = await client.get(f"/rockets/{channel.upper()}/messages")

    assert (await response.get_json())["channel"] == channel


class BusyJournal(MemoryJournal):
    """Refuses every read, as SQLite does while another program holds the file."""

    def read(self, stream: str, first: int, last: int, *, limit: int) -> list[StoredRecord]:
        raise JournalBusy("another program holds the journal")


@pytest.mark.parametrize("target", ["/rockets/r/messages", "/rockets/r?at=1"])
async def test_a_history_that_cannot_be_read_is_503_and_the_rocket_still_shows(target: str) -> None:
    async with running_app(BusyJournal()) as client:
        await send(client, LAUNCH, FASTER[0])
        response = await client.get(target)
        problem = await response.get_json()
        shown = await client.get("/rockets/r")

    assert (response.status_code, problem["type"]) == (503, "/problems/history-unavailable")
    assert response.headers["Retry-After"] == "1"
    assert shown.status_code == 200


@pytest.mark.parametrize(
    ("query", "numbers", "following"),
    [
        ("", [4, 5], None),
        ("?after=2", [4, 5], None),
        ("?after=3", [4, 5], None),
        ("?after=4", [5], None),
        ("?limit=1", [4], 4),
        ("?state=speed", [4, 5], None),
    ],
)
async def test_a_history_begins_with_what_is_left_and_says_so(
    query: str, numbers: list[int], following: int | None
) -> None:
    journal = MemoryJournal()
    async with running_app(journal) as client:
        await send(client, LAUNCH, *FASTER, body("other", 1))
        prune_through(journal, "r", 3)
        page = await (await client.get(f"/rockets/r/messages{query}")).get_json()

    assert [each["number"] for each in page["messages"]] == numbers
    assert (page["next"], page["prunedThrough"]) == (following, 3)
    if "speed" in query:
        assert [each["speed"] for each in page["messages"]] == [2000, 2500]
