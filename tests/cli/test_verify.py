"""What is expected of a run, and how a service is held against it."""

import json
import sys
from collections.abc import Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
import trio

from rockets.cli.expected import (
    ContentHash,
    Expected,
    ExpectedUnreadable,
    differences,
    expect,
    read_expected,
    write_expected,
)
from rockets.cli.verify import ServiceUnreadable, read_rockets, report
from rockets.simulator import SimulatedMessage, flights
from tests.cli.tiny_server import NO_CONTENT, ok, open_refusing_port, open_tiny_server

SENT = tuple(flights(444, 2000))
EXPECTED = expect("a test", SENT)


def serve(
    expected: Expected,
    target: str,
    _body: bytes,
    *,
    sent: Sequence[SimulatedMessage] = SENT,
    page_rockets: int = 7,
    page_messages: int = 60,
) -> bytes:
    """Answer GETs as the service would that ended exactly as expected after these messages."""
    parts = urlsplit(target)
    if parts.path.endswith("/messages"):
        own = [each for each in sent if each.channel == parts.path.split("/")[2]]
        return history(own, int(parse_qs(parts.query)["after"][0]), page_messages)
    assert parts.path == "/rockets"
    start = int(parse_qs(urlsplit(target).query).get("cursor", ["+0"])[0])
    end = start + page_rockets
    rockets = [served(rocket) for rocket in msgspec.to_builtins(expected.rockets)]
    following = f"+{end}" if end < len(rockets) else None
    return ok(json.dumps({"rockets": rockets[start:end], "next": following}).encode())


def history(messages: Sequence[SimulatedMessage], after: int, limit: int) -> bytes:
    """Answer with a page of these messages, written with white space as a client may send them."""
    ascending = sorted(messages, key=lambda message: message.number)
    behind = [message for message in ascending if message.number > after]
    page = [
        {"number": message.number, "type": message.message_type, "payload": message.payload}
        for message in behind[:limit]
    ]
    following = page[-1]["number"] if len(behind) > limit else None
    return ok(json.dumps({"messages": page, "next": following}, indent=2).encode())


def served(rocket: dict[str, object]) -> dict[str, object]:
    """Turn an expected rocket into what the service's list holds of it."""
    return {**rocket, "sequence": {"received": rocket["messageCount"]}, "launchSpeed": 500}


def test_an_expected_file_has_the_form_of_the_challenges_own(tmp_path: Path) -> None:
    write_expected(tmp_path / "expected.json", EXPECTED)

    content = json.loads((tmp_path / "expected.json").read_text())
    assert list(content) == ["source", "messageCount", "rockets"]
    assert list(content["rockets"][0]) == [
        "channel",
        "type",
        "mission",
        "speed",
        "status",
        "explosionReason",
        "lastMessageNumber",
        "messageCount",
        "contentHash",
    ]
    assert read_expected(tmp_path / "expected.json") == EXPECTED


@pytest.mark.parametrize("content", [None, b"", b"[]", b'{"source": "x"}', b"\xff"])
def test_a_file_that_cannot_be_read_is_named_in_one_line(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "expected.json"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ExpectedUnreadable, match=r"expected\.json[^\n]+$"):
        read_expected(path)


async def test_a_service_as_expected_is_verified_over_all_its_pages(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with open_tiny_server(partial(serve, EXPECTED)) as server:
        code = await report(EXPECTED, server.url)

    assert code == 0
    assert capsys.readouterr().out == "verified: 20 rockets as expected\n"
    assert server.targets[0] == "/rockets?limit=1000"
    assert server.targets[1] == "/rockets?limit=1000&cursor=%2B7"
    channel = EXPECTED.rockets[0].channel
    assert server.targets[3] == f"/rockets/{channel}/messages?limit=10000&after=0"
    assert server.targets[4] == f"/rockets/{channel}/messages?limit=10000&after=60"


@pytest.mark.parametrize("change", [{"number": 2000}, {"message_type": "X"}, {"payload": {}}])
async def test_a_message_that_was_not_sent_so_changes_the_hash(
    capsys: pytest.CaptureFixture[str], change: dict[str, object]
) -> None:
    sent = (msgspec.structs.replace(SENT[0], **change), *SENT[1:])
    async with open_tiny_server(partial(serve, EXPECTED, sent=sent)) as server:
        code = await report(EXPECTED, server.url)

    assert code == 1
    difference, total = capsys.readouterr().out.splitlines()
    assert difference.startswith(f"{SENT[0].channel} contentHash: expected ")
    assert total == "not verified: 1 differences"


async def test_without_hashes_no_history_is_read_and_the_answer_says_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with open_tiny_server(partial(serve, EXPECTED, sent=())) as server:
        code = await report(EXPECTED, server.url, hashes=False)

    assert code == 0
    assert "20 rockets as expected (contentHash was not compared)" in capsys.readouterr().out
    assert len(server.targets) == 3


def test_the_hash_is_that_of_the_lines_without_white_space() -> None:
    digest = ContentHash()
    digest.add(1, "RocketMissionChanged", b'{ "newMission" :\n"A \\u00e9 B" }')
    digest.add(12, "RocketSpeedIncreased", b'{"by":5}')

    lines = (
        b'1|RocketMissionChanged|{"newMission":"A \\u00e9 B"}\n12|RocketSpeedIncreased|{"by":5}\n'
    )
    assert digest.hexdigest() == sha256(lines).hexdigest()


async def test_every_difference_is_printed_with_both_values(
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, second, *others = EXPECTED.rockets
    wrong = msgspec.structs.replace(first, speed=7, explosion_reason="NONE", message_count=9)
    actual = msgspec.structs.replace(EXPECTED, rockets=(wrong, second, *others))
    async with open_tiny_server(partial(serve, actual)) as server:
        code = await report(EXPECTED, server.url)

    assert code == 1
    assert capsys.readouterr().out.splitlines() == [
        f"{first.channel} speed: expected {first.speed}, got 7",
        f'{first.channel} explosionReason: expected null, got "NONE"',
        f"{first.channel} messageCount: expected {first.message_count}, got 9",
        "not verified: 3 differences",
    ]


async def test_of_many_differences_fifty_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    rockets = tuple(
        msgspec.structs.replace(rocket, type="", mission="", speed=-1)
        for rocket in EXPECTED.rockets
    )
    actual = msgspec.structs.replace(EXPECTED, rockets=rockets)
    async with open_tiny_server(partial(serve, actual)) as server:
        await report(EXPECTED, server.url)

    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 52
    assert lines[-2:] == ["and 10 more", "not verified: 60 differences"]


def test_a_missing_and_an_unexpected_rocket_are_differences() -> None:
    lost, *kept = msgspec.to_builtins(EXPECTED.rockets)
    actual = {rocket["channel"]: rocket for rocket in kept} | {"stranger": {}}

    assert [str(difference) for difference in differences(EXPECTED, actual)] == [
        f"{lost['channel']} rocket: expected present, got absent",
        "stranger rocket: expected absent, got present",
    ]


@pytest.mark.parametrize(
    ("reply", "detail"),
    [
        (NO_CONTENT, "answered with 204"),
        (ok(b"<html>"), "not what was asked for"),
        (ok(b"{}"), "not what was asked for"),
        (b"", "before a reply"),
    ],
)
async def test_a_service_that_gives_no_rockets_is_unreadable(reply: bytes, detail: str) -> None:
    async with open_tiny_server(lambda *_: reply) as server:
        with pytest.raises(ServiceUnreadable, match=detail):
            await read_rockets(server.url)


@pytest.mark.slow
async def test_the_command_exits_with_0_1_and_2(tmp_path: Path) -> None:
    path = tmp_path / "expected.json"
    write_expected(path, EXPECTED)
    other = msgspec.structs.replace(EXPECTED, rockets=EXPECTED.rockets[1:])

    async with open_tiny_server(partial(serve, EXPECTED)) as server:
        assert await exit_code(path, server.url) == 0
    async with open_tiny_server(partial(serve, other)) as server:
        assert await exit_code(path, server.url) == 1
    async with open_tiny_server(partial(serve, EXPECTED, sent=())) as server:
        assert await exit_code(path, server.url) == 1
        assert await exit_code("--no-hashes", path, server.url) == 0
    async with open_refusing_port() as url:
        assert await exit_code(path, url) == 2
    assert await exit_code(path, "nowhere") == 2


async def exit_code(*arguments: str | Path) -> int:
    """Run `rockets verify` as a process."""
    command = [sys.executable, "-m", "rockets", "verify", *map(str, arguments)]
    done = await trio.run_process(command, check=False, capture_stdout=True, capture_stderr=True)
    assert len(done.stderr.splitlines()) == (1 if done.returncode == 2 else 0)
    return done.returncode
