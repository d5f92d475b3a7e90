"""The habits of the real program, seen from the server's side of the socket."""

import hashlib
import json
import signal
import subprocess
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
import trio

from rockets.cli.expected import read_expected
from rockets.cli.go_client import GoClient
from rockets.cli.launch import Plan
from rockets.cli.launcher import Habits, Launcher, Tally
from rockets.cli.progress import table
from rockets.domain.messages import decode_message
from rockets.simulator import SimulatedMessage, flights
from tests.cli.test_verify import serve
from tests.cli.tiny_server import (
    NO_CONTENT,
    UNAVAILABLE,
    WITH_BODY,
    Answer,
    TinyServer,
    open_refusing_port,
    open_tiny_server,
)

MESSAGES = list(flights(444, 60))
AT_ONCE = Habits(resend_delay_s=0.0)


class LogLines:
    """Keeps what is logged, and cancels its scope at the limit."""

    def __init__(self, limit: int = 1_000_000) -> None:
        self.lines: list[tuple[str, str]] = []
        self.scope = trio.CancelScope()
        self._limit = limit

    def __call__(self, level: str, text: str, message: SimulatedMessage) -> None:
        self.lines.append((level, text))
        if len(self.lines) >= self._limit:
            self.scope.cancel()


async def launch(url: str, habits: Habits = AT_ONCE, log: LogLines | None = None) -> Tally:
    """Send the messages above and return the tally."""
    async with GoClient(url) as client:
        launcher = Launcher(
            iter(MESSAGES), client, habits=habits, messages_max=60, log=log or LogLines()
        )
        await launcher.run()
    return launcher.tally


def sent(server: TinyServer) -> Counter[tuple[str, int]]:
    """Count what arrived, by channel and number."""
    arrived = [decode_message(body) for body in server.bodies]
    return Counter((message.channel, message.number) for message in arrived)


def failing_first(times: int, reply: bytes = UNAVAILABLE) -> Answer:
    """Answer this many requests with a failure and the others with a 204."""
    replies = [reply] * times
    return lambda *_: replies.pop() if replies else NO_CONTENT


async def test_every_message_is_sent_once_to_a_server_that_takes_it() -> None:
    async with open_tiny_server(lambda *_: NO_CONTENT) as server:
        tally = await launch(server.url)

    assert sent(server) == {(message.channel, message.number): 1 for message in MESSAGES}
    assert (tally.taken, tally.delivered, tally.resends, tally.lost) == (60, 60, 0, 0)
    assert len(tally.latencies_s) == 60


async def test_one_worker_sends_the_messages_in_order() -> None:
    async with open_tiny_server(lambda *_: NO_CONTENT) as server:
        await launch(server.url, Habits(concurrency_level=1))

    arrived = [decode_message(body) for body in server.bodies]
    assert [(m.channel, m.number) for m in arrived] == [(m.channel, m.number) for m in MESSAGES]


async def test_workers_have_as_many_messages_under_way_as_they_are() -> None:
    async with open_tiny_server(lambda *_: NO_CONTENT, hold=7) as server:
        tally = await launch(server.url, Habits(concurrency_level=7))

    assert tally.delivered == 60


@pytest.mark.parametrize(
    "failure",
    [UNAVAILABLE, b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", b"", b"?\r\n\r\n"],
    ids=["503", "404", "closed", "malformed"],
)
async def test_whatever_fails_is_sent_again_until_it_is_taken(failure: bytes) -> None:
    async with open_tiny_server(failing_first(75, failure)) as server:
        tally = await launch(server.url)

    assert set(sent(server)) == {(message.channel, message.number) for message in MESSAGES}
    assert (tally.attempts, tally.delivered, tally.resends) == (135, 60, 75)
    assert tally.failures.total() == 75


async def test_an_attempt_without_a_reply_is_given_up_and_sent_again() -> None:
    # An interim reply is no reply; the client waits for the real one.
    mute = failing_first(3, b"HTTP/1.1 102 Processing\r\n\r\n")
    async with open_tiny_server(mute) as server:
        tally = await launch(server.url, Habits(timeout_s=0.05, resend_delay_s=0.0))

    assert tally.failures["timeout"] >= 3
    assert (tally.delivered, tally.lost) == (60, 0)


async def test_a_refused_connection_is_tried_again_without_end() -> None:
    log = LogLines(limit=200)
    async with open_refusing_port() as url:
        with log.scope:
            await launch(url, log=log)

    assert log.scope.cancelled_caught
    lines = [line for line in log.lines if line[0] != "debug"]
    assert set(lines) == {("info", "Retrying sending message: no connection")}


async def test_other_messages_go_on_while_one_waits_for_its_resend() -> None:
    scope = trio.CancelScope()

    def answer(_target: str, body: bytes) -> bytes:
        if body == server.bodies[0]:
            return UNAVAILABLE
        if len(server.bodies) == len(MESSAGES):
            scope.cancel()
        return NO_CONTENT

    async with open_tiny_server(answer) as server:
        with scope:
            await launch(server.url, Habits(concurrency_level=1, resend_delay_s=3600))

    assert sent(server).total() == len(MESSAGES)
    assert scope.cancelled_caught


async def test_a_resend_is_the_same_body_again() -> None:
    async with open_tiny_server(failing_first(1)) as server:
        await launch(server.url, Habits(concurrency_level=1, resend_delay_s=0.0))

    assert server.bodies.count(server.bodies[0]) == 2


async def test_dropping_at_the_end_loses_what_waits_and_says_so() -> None:
    log = LogLines()
    habits = Habits(concurrency_level=1, resend_delay_s=3600, drop_at_end=True)
    async with open_tiny_server(failing_first(5)) as server:
        tally = await launch(server.url, habits, log)

    assert (tally.attempts, tally.delivered, tally.lost) == (60, 55, 5)
    assert log.lines.count(("error", "Redelivering message failed: writer closed")) == 5


async def test_dropping_at_the_end_changes_nothing_when_nothing_waits() -> None:
    async with open_tiny_server(lambda *_: NO_CONTENT) as server:
        tally = await launch(server.url, Habits(drop_at_end=True))

    assert (tally.delivered, tally.lost) == (60, 0)


async def test_a_delay_spreads_the_messages() -> None:
    habits = Habits(concurrency_level=3, message_delay_s=0.002)
    async with open_tiny_server(lambda *_: NO_CONTENT) as server:
        tally = await launch(server.url, habits)

    assert tally.elapsed_s >= 59 * 0.002


async def test_replies_with_bodies_cost_a_connection_each() -> None:
    async with open_tiny_server(lambda *_: WITH_BODY) as server:
        async with GoClient(server.url) as client:
            launcher = Launcher(
                iter(MESSAGES), client, habits=AT_ONCE, messages_max=60, log=LogLines()
            )
            await launcher.run()

            assert client.connections_leaked == len(server.connections) == 60
            assert server.ended == 0
            assert table(launcher.tally, client)[-1].split() == ["connections", "leaked", "60"]


def test_the_expected_states_are_those_of_an_independent_fold() -> None:
    expected = Plan(seed=444, messages=5000, rockets=20).expected()

    messages = list(flights(444, 5000))
    assert expected.message_count == 5000
    assert [rocket.channel for rocket in expected.rockets] == sorted({m.channel for m in messages})
    for rocket in expected.rockets:
        own = [message for message in messages if message.channel == rocket.channel]
        state: dict[str, object] = {"status": "launched", "explosionReason": None}
        for message in own:
            follow(state, message)
        assert (rocket.type, rocket.speed, rocket.mission, rocket.status) == (
            state["type"],
            state["speed"],
            state["mission"],
            state["status"],
        )
        assert rocket.explosion_reason == state["explosionReason"]
        assert rocket.last_message_number == rocket.message_count == len(own)
        assert rocket.content_hash == hash_of(own)


def follow(state: dict[str, object], message: SimulatedMessage) -> None:
    """Apply one message, in other words than the domain's."""
    payload = message.payload
    speed = int(str(state.get("speed", 0)))
    match message.message_type:
        case "RocketLaunched":
            state.update(payload, speed=payload["launchSpeed"])
        case "RocketSpeedIncreased":
            state["speed"] = speed + int(payload["by"])
        case "RocketSpeedDecreased":
            state["speed"] = speed - int(payload["by"])
        case "RocketMissionChanged":
            state["mission"] = payload["newMission"]
        case _:
            state.update(status="exploded", explosionReason=payload["reason"])


def hash_of(messages: list[SimulatedMessage]) -> str:
    """Hash the content of one rocket's messages, from its description."""
    lines = [
        f"{m.number}|{m.message_type}|{json.dumps(m.payload, separators=(',', ':'))}\n"
        for m in messages
    ]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def test_copies_and_disorder_change_nothing_about_what_is_expected() -> None:
    plan = Plan(seed=1, messages=500, rockets=5, duplicates=0.2, shuffle=30)

    sent_keys = [(message.channel, message.number) for message in plan.abused()]
    assert len(sent_keys) > 500 == len(set(sent_keys))
    assert plan.expected() == Plan(seed=1, messages=500, rockets=5).expected()


@pytest.mark.slow
async def test_the_command_sends_writes_and_verifies(tmp_path: Path) -> None:
    path = tmp_path / "expected.json"
    plan = Plan(seed=7, messages=200, rockets=20)
    expected, sent = plan.expected(), tuple(plan.original())

    def answer(target: str, body: bytes) -> bytes:
        return NO_CONTENT if target == "/messages" else serve(expected, target, body, sent=sent)

    async with open_tiny_server(answer) as server:
        options = ["--seed=7", "--max-messages=200", "--verify", f"--expected={path}"]
        done = await run_command([*options, server.url])

    assert done.returncode == 0, done.stderr
    assert b"verified: 20 rockets as expected" in done.stdout
    assert read_expected(path) == expected
    assert len(server.bodies) > 200


@pytest.mark.slow
async def test_the_command_fails_when_the_service_lost_something() -> None:
    plan = Plan(seed=7, messages=199, rockets=20)
    less, sent = plan.expected(), tuple(plan.original())

    def answer(target: str, body: bytes) -> bytes:
        return NO_CONTENT if target == "/messages" else serve(less, target, body, sent=sent)

    async with open_tiny_server(answer) as server:
        done = await run_command(["--seed=7", "--max-messages=200", "--verify", server.url])

    assert done.returncode == 1
    assert b"messageCount: expected" in done.stdout


@pytest.mark.slow
async def test_a_service_whose_rockets_cannot_be_read_is_exit_code_2() -> None:
    async with open_tiny_server(lambda *_: NO_CONTENT) as server:
        done = await run_command(["--max-messages=5", "--verify", server.url])

    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        b"rockets launch: GET /rockets?limit=1000 was answered with 204"
    ]


@pytest.mark.slow
async def test_an_expected_file_that_cannot_be_written_stops_the_start(tmp_path: Path) -> None:
    async with open_tiny_server(lambda *_: NO_CONTENT) as server:
        done = await run_command([f"--expected={tmp_path / 'no' / 'folder'}", server.url])

    assert (done.returncode, server.bodies) == (2, [])


async def test_nothing_to_send_ends_at_once() -> None:
    async with open_refusing_port() as url, GoClient(url) as client:
        launcher = Launcher(iter([]), client, habits=AT_ONCE, messages_max=0, log=LogLines())
        await launcher.run()
        lines = table(launcher.tally, client)

    assert [line.split()[-1] for line in lines[:3]] == ["0", "0", "0"]


@pytest.mark.slow
async def test_an_interrupted_command_ends_with_its_table() -> None:
    reached = trio.Event()

    def answer(_target: str, _body: bytes) -> bytes:
        reached.set()
        return UNAVAILABLE

    async with open_tiny_server(answer) as server, trio.open_nursery() as nursery:
        process = await nursery.start(
            partial(
                trio.run_process,
                [sys.executable, "-m", "rockets", "launch", "--max-messages=5", server.url],
                check=False,
                stdout=subprocess.PIPE,
            )
        )
        await reached.wait()
        process.send_signal(signal.SIGINT)
        output = b"".join([chunk async for chunk in process.stdout])

    assert process.returncode == 130
    assert b"messages" in output


@pytest.mark.slow
async def test_a_wrong_address_is_one_line_and_exit_code_2() -> None:
    done = await run_command(["nowhere"])

    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        b"rockets launch: 'nowhere' is not of the form http://host:port/path"
    ]


async def run_command(arguments: list[str]) -> subprocess.CompletedProcess[bytes]:
    """Run `rockets launch` as a process to its end."""
    command = [sys.executable, "-m", "rockets", "launch", *arguments]
    return await trio.run_process(command, check=False, capture_stdout=True, capture_stderr=True)
