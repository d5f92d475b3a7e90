"""The routes of what went wrong: what they show, what they take, and what they refuse."""

import json
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
from quart.typing import TestClientProtocol as Client

from rockets.journal import JournalFull, MemoryJournal, Note
from rockets.journal.base import Appended, Record
from rockets.web import notes
from tests.actors.prunings import prune_through
from tests.helpers import body, connected, get, post, serving
from tests.web.apps import running_app, send

BAD = body("r", 2, by=-1)
SEVEN = "1970-01-01T00:00:00.000007Z"  # where the clock stands


async def ask(client: Client, target: str, *, status: int = 200) -> dict[str, Any]:
    response = await client.get(target)
    content = json.loads(await response.get_data())
    assert response.status_code == status, content
    assert isinstance(content, dict)
    return content


async def refuse(client: Client, *bodies: bytes) -> list[dict[str, Any]]:
    """Post bodies that are refused; gives the rejections, newest first."""
    for each in bodies:
        assert (await client.post("/messages", data=each)).status_code in {400, 422}
    rejections = (await ask(client, "/rejections"))["rejections"]
    assert isinstance(rejections, list)
    return rejections


async def test_a_refused_message_is_shown_with_what_is_wrong() -> None:
    async with running_app() as client:
        [found] = await refuse(client, BAD, BAD)

        page = await ask(client, "/rejections")

    assert found == {
        "id": found["id"],
        "channel": "r",
        "messageNumber": 2,
        "status": 422,
        "detail": "1 field is wrong",
        "errors": [{"pointer": "/message/by", "detail": "must be an integer from 0 to 1000000000"}],
        "body": BAD.decode(),
        "count": 2,
        "firstAt": SEVEN,
        "lastAt": SEVEN,
    }
    assert page == {"count": 1, "rejections": [found], "next": None, "dropped": 0, "notKept": 0}


async def test_any_bytes_are_shown() -> None:
    contents = [b"", b"\x00\x01", b"\xff\xfe", '{"ü": "\ud7ff"'.encode(), b"<script>", b'"\\"']
    async with running_app() as client:
        found = await refuse(client, *contents)

    shown = [
        b64decode(each["bodyBase64"]) if "bodyBase64" in each else each["body"].encode()
        for each in reversed(found)
    ]
    assert shown == contents
    assert [each["status"] for each in found] == [400] * len(contents)
    assert all(each["channel"] is each["messageNumber"] is None for each in found)
    assert not any("errors" in each for each in found)


async def test_invalid_items_of_a_batch_are_shown_each_with_its_own_bytes() -> None:
    items = [b'{"metadata": 1}', body("r", 1), BAD]
    async with running_app() as client:
        response = await client.post("/messages", data=b"[" + b",".join(items) + b"]")
        assert response.status_code == 200

        found = (await ask(client, "/rejections"))["rejections"]

    assert [each["body"].encode() for each in found] == [BAD, items[0]]


async def test_a_body_that_a_newer_version_takes_has_no_status() -> None:
    journal = MemoryJournal()
    journal.append([], [Note("rejection", "r", 1, b"key", body("r", 1), 7)])
    async with running_app(journal) as client:
        [found] = (await ask(client, "/rejections"))["rejections"]

    assert (found["status"], found["detail"]) == (None, "this version takes it")


async def test_rejections_are_paged_and_filtered_by_channel() -> None:
    async with running_app() as client:
        await refuse(client, *(body("ab"[n % 2], n, by=-1) for n in range(1, 8)))

        for channel, numbers in (("", [7, 6, 5, 4, 3, 2, 1]), ("&channel=b", [7, 5, 3, 1])):
            seen, cursor = [], ""
            while True:
                page = await ask(client, f"/rejections?limit=3{channel}{cursor}")
                seen += [each["messageNumber"] for each in page["rejections"]]
                if page["next"] is None:
                    break
                assert page["count"] == 3
                cursor = f"&cursor={page['next']}"
            assert seen == numbers


async def test_a_retry_sends_the_stored_body_again() -> None:
    journal = MemoryJournal()
    journal.append([], [Note("rejection", "r", 1, b"key", body("r", 1), 7)])
    async with running_app(journal) as client:
        response = await client.post("/rejections/1/retry")

        assert response.status_code == 204
        assert await response.get_data() == b""
        assert response.headers["Rockets-Outcome"] == "ignored"
        assert response.headers["Rockets-Settled"] == "1"
        assert (await ask(client, "/rejections"))["count"] == 0
        assert (await client.post("/rejections/1/retry")).status_code == 404


async def test_a_retry_with_a_body_sends_that_one_and_follows_prefer() -> None:
    async with running_app() as client:
        [found] = await refuse(client, BAD)

        response = await client.post(
            f"/rejections/{found['id']}/retry",
            data=body("r", 2, by=1),
            headers={"Prefer": "return=representation"},
        )

        assert response.status_code == 200
        assert response.headers["Preference-Applied"] == "return=representation"
        content = json.loads(await response.get_data())
        assert (content["outcome"], content["rocket"]["channel"]) == ("held", "r")
        assert (await ask(client, "/rejections"))["count"] == 0


@pytest.mark.parametrize(
    ("content", "status"), [(b"", 422), (b"{", 400), (b"x" * 65_537, 413), (b"[]", 422)]
)
async def test_a_retry_that_is_refused_gives_the_same_problem_and_keeps_the_rejection(
    content: bytes, status: int
) -> None:
    async with running_app() as client:
        [found] = await refuse(client, BAD)

        response = await client.post(f"/rejections/{found['id']}/retry", data=content)

        problem = json.loads(await response.get_data())
        assert (response.status_code, problem["status"]) == (status, status)
        kept = (await ask(client, "/rejections"))["rejections"]
        assert found["id"] in [each["id"] for each in kept]
        if not content:
            assert problem["errors"] == found["errors"]
            assert [each["count"] for each in kept] == [2]


@pytest.mark.parametrize(
    "name", ["0", "2", "99999999999999999999", "9" * 5_000, "-1", "x", "1.0", "%D9%A1", "+1", " 1"]
)
async def test_a_retry_of_what_is_not_there_is_404(name: str) -> None:
    async with running_app() as client:
        await refuse(client, BAD)

        assert (await client.post(f"/rejections/{name}/retry")).status_code == 404
        assert (await ask(client, "/rejections"))["count"] == 1


async def test_a_conflict_cannot_be_retried() -> None:
    async with running_app() as client:
        await send(client, body("r", 1), body("r", 1, by=1))

        assert (await client.post("/rejections/1/retry")).status_code == 404
        assert (await ask(client, "/anomalies?kind=conflict"))["count"] == 1


async def test_an_encoded_retry_is_refused() -> None:
    async with running_app() as client:
        [found] = await refuse(client, BAD)

        response = await client.post(
            f"/rejections/{found['id']}/retry", headers={"Content-Encoding": "gzip"}
        )
        assert response.status_code == 415


async def test_anomalies_are_shown_with_their_reason_and_a_conflict_with_both_contents() -> None:
    stored = b'{"by":  5 , "note": "\xc3\xbc"}'
    text = body("r", 1).replace(b'{"by": 500}', stored)
    async with running_app() as client:
        await send(client, text, body("r", 1, "Odd", a=[1, 2.50]))

        page = await ask(client, "/anomalies")

    shared = {"channel": "r", "messageNumber": 1, "receivedAt": SEVEN}
    time = page["anomalies"][0]["messageTime"]
    early = {"messageType": "RocketSpeedIncreased", "messageTime": time}
    odd = {"messageType": "Odd", "messageTime": time}
    assert page == {
        "count": 2,
        "anomalies": [
            {**shared, **early, "kind": "beforeLaunch"},
            {
                **shared,
                **odd,
                "kind": "conflict",
                "stored": {**early, "message": {"by": 5, "note": "ü"}},
                "refused": {**odd, "message": {"a": [1, 2.5]}},
            },
        ],
        "next": None,
        "dropped": 0,
    }


async def test_an_unreadable_content_of_a_conflict_is_null() -> None:
    journal = MemoryJournal()
    journal.append([Record("r", 1, b"newer", 7)], [Note("conflict", "r", 1, b"k", b"other", 7)])
    async with running_app(journal) as client:
        found = (await ask(client, "/anomalies?kind=conflict"))["anomalies"]

    nothing = {"messageType": None, "messageTime": None, "message": None}
    assert [(each["stored"], each["refused"]) for each in found] == [(nothing, nothing)]


async def test_the_stored_content_of_a_conflict_is_null_once_it_is_pruned() -> None:
    journal = MemoryJournal()
    async with running_app(journal) as client:
        await send(client, body("r", 1, by=1), body("r", 1, by=2), body("r", 2), body("other", 1))
        prune_through(journal, "r", 1)
        [found] = (await ask(client, "/anomalies?kind=conflict"))["anomalies"]

    assert found["stored"] == {"messageType": None, "messageTime": None, "message": None}
    assert found["refused"]["message"] == {"by": 2}


async def test_anomalies_are_paged_and_filtered() -> None:
    async with running_app() as client:
        await send(client, *(body(name, n) for n in (1, 2, 3) for name in "ab"))
        await send(client, body("b", 2, by=7))

        for filters, expected in (
            ("", 7),
            ("&channel=b", 4),
            ("&kind=beforeLaunch", 6),
            ("&kind=conflict", 1),
            ("&kind=conflict&kind=beforeLaunch&channel=b", 4),
            ("&kind=secondLaunch", 0),
        ):
            seen, cursor = 0, ""
            while True:
                page = await ask(client, f"/anomalies?limit=2{filters}{cursor}")
                seen += page["count"]
                if page["next"] is None:
                    break
                cursor = f"&cursor={page['next']}"
            assert seen == expected, filters


@pytest.mark.parametrize(
    "query",
    [
        "x=1",
        "limit=0",
        "limit=10001",
        "limit=x",
        "limit=1&limit=2",
        "cursor=x",
        "cursor=-1",
        "cursor=9999999999999999999",
        "cursor=",
        "channel=a%20b",
        "channel=",
    ],
)
@pytest.mark.parametrize("target", ["/rejections", "/anomalies"])
async def test_a_wrong_parameter_is_refused(target: str, query: str) -> None:
    async with running_app() as client:
        problem = await ask(client, f"{target}?{query}", status=400)

    assert problem["type"] == "/problems/bad-parameter"


async def test_a_wrong_kind_is_refused_with_the_right_ones() -> None:
    async with running_app() as client:
        problem = await ask(client, "/anomalies?kind=odd", status=400)
        assert (await ask(client, "/rejections?kind=conflict", status=400))["status"] == 400

    assert "secondLaunch, beforeLaunch, afterExplosion, unknownType, conflict" in problem["detail"]


@pytest.mark.parametrize("limit", [1, 10_000])
@pytest.mark.parametrize("target", ["/rejections", "/anomalies"])
async def test_the_bounds_of_the_limit_are_taken(target: str, limit: int) -> None:
    async with running_app() as client:
        assert (await ask(client, f"{target}?limit={limit}"))["count"] == 0


async def test_large_bodies_are_judged_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notes, "DECODED_AT_ONCE_BYTES", 1)
    async with running_app() as client:
        assert len(await refuse(client, b"a", b"bb", b"ccc")) == 3


class Full(MemoryJournal):
    """Has no room for notes."""

    def append(self, records: Any, given: Any = ()) -> Appended:
        if given:
            raise JournalFull("no space")
        return super().append(records, given)


async def test_a_journal_without_room_does_not_change_the_refusal() -> None:
    async with running_app(Full()) as client:
        response = await client.post("/messages", data=BAD)

        assert response.status_code == 422
        page = await ask(client, "/rejections")
        assert (page["count"], page["notKept"]) == (0, 1)
        await send(client, body("r", 1))


@pytest.mark.slow
async def test_rejections_and_conflicts_survive_kill_and_restart(tmp_path: Path) -> None:
    targets = ("/rejections", "/anomalies", "/fleet", "/rockets/r")
    async with serving(tmp_path) as server:
        async with connected(server.port) as client:
            for content in (body("r", 1, "RocketLaunched"), body("r", 1), body("r", 2, "Odd")):
                assert (await client.ask(post(content))).status == 204
        for content in (BAD, b"{", BAD):
            async with connected(server.port) as client:
                assert (await client.ask(post(content))).status in {400, 422}
        async with connected(server.port) as client:
            before = [(await client.ask(get(target))).json for target in targets]
        await server.kill()

    assert [each["count"] for each in before[:2]] == [2, 2]
    async with serving(tmp_path) as server, connected(server.port) as client:
        assert [(await client.ask(get(target))).json for target in targets] == before
        found = before[0]["rejections"]
        assert isinstance(found, list)
        retry = f"/rejections/{found[-1]['id']}/retry"
        assert (await client.ask(post(body("r", 3), target=retry))).status == 204
        assert (await client.ask(get("/rejections"))).json["count"] == 1
        assert server.events("request_failed") == []
