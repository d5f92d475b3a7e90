"""`GET /fleet`: the figures agree with the rockets and with what was refused."""

import json

import pytest
from quart.typing import TestClientProtocol as Client

from rockets.actors import fleet_summary
from tests.helpers import body
from tests.web.apps import running_app, send


async def fleet(client: Client) -> dict[str, object]:
    response = await client.get("/fleet")
    assert response.status_code == 200
    content = json.loads(await response.get_data())
    assert isinstance(content, dict)
    return content


async def test_an_empty_fleet_is_all_zeros() -> None:
    async with running_app() as client:
        assert await fleet(client) == {
            "rockets": 0,
            "status": {"awaitingLaunch": 0, "launched": 0, "exploded": 0},
            "type": {},
            "mission": {},
            "explosionReason": {},
            "messages": {"received": 0, "missing": 0, "settled": 0},
            "gaps": {"rockets": 0, "missingRanges": 0},
            "anomalies": 0,
            "conflicts": 0,
            "rejections": {"kept": 0, "dropped": 0, "notKept": 0},
        }


async def test_everything_is_counted() -> None:
    async with running_app() as client:
        await send(
            client,
            body("a", 1, "RocketLaunched"),
            body("a", 2, "RocketLaunched"),
            body("a", 2, "RocketRefuelled", litres=1),
            body("b", 1, "RocketLaunched"),
            body("b", 4, "RocketExploded"),
            body("b", 9, by=1),
            body("c", 3, "RocketMissionChanged"),
        )
        for bad in (b"{", b"[", b"{"):
            await client.post("/messages", data=bad)

        assert await fleet(client) == {
            "rockets": 3,
            "status": {"awaitingLaunch": 1, "launched": 1, "exploded": 1},
            "type": {"Falcon-9": 2},
            "mission": {"ARTEMIS": 2, "SHUTTLE_MIR": 1},
            "explosionReason": {"PRESSURE_VESSEL_FAILURE": 1},
            # a: 1 2, b: 1 and 4 and 9, c: 3
            "messages": {"received": 6, "missing": 2 + 4 + 2, "settled": 3},
            "gaps": {"rockets": 2, "missingRanges": 3},
            "anomalies": 2,
            "conflicts": 1,
            "rejections": {"kept": 2, "dropped": 0, "notKept": 0},
        }


async def test_of_too_many_names_the_most_frequent_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fleet_summary, "NAMES_MAX", 2)
    async with running_app() as client:
        for number, mission in enumerate(["A", "B", "B", "C", "C", "C"]):
            await send(client, body(f"r{number}", 1, "RocketMissionChanged", newMission=mission))

        assert (await fleet(client))["mission"] == {"C": 3, "B": 2}


async def test_a_fleet_of_many_rockets_is_counted_in_turns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fleet_summary, "ROCKETS_AT_ONCE", 3)
    async with running_app() as client:
        await send(client, *(body(f"r{number}", 1) for number in range(10)))

        assert (await fleet(client))["rockets"] == 10


async def test_a_parameter_is_refused_and_an_etag_is_given() -> None:
    async with running_app() as client:
        assert (await client.get("/fleet?x=1")).status_code == 400
        tag = (await client.get("/fleet")).headers["ETag"]
        assert (await client.get("/fleet", headers={"If-None-Match": tag})).status_code == 304
