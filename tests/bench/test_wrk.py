"""What wrk sends, and that its figure is refused when a single request went wrong."""

import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from itertools import islice

import pytest
import trio

from rockets.bench.bodies import CHANNELS, messages
from rockets.bench.floor import LAST_NO_CONTENT
from rockets.bench.outcome import MeasurementFailed, Outcome
from rockets.bench.wrk import Load, command, parse
from rockets.domain.messages import RocketLaunched, decode_message
from tests.cli.tiny_server import NO_CONTENT, UNAVAILABLE, TinyServer, open_tiny_server

WRK = shutil.which("wrk")
needs_wrk = pytest.mark.skipif(WRK is None, reason="wrk is not installed: make bench-tools")

ENOUGH = 200
REPORT = """Running 1s test @ http://127.0.0.1:1
  1 threads and 64 connections
Requests/sec:   2000.00

{"requests":1000,"durationUs":500000,"p50Us":1500,"p99Us":9000,"posts":1064,"gets":0,"errors":%s}
"""
NO_ERRORS = '{"connect":0,"read":0,"write":0,"timeout":0,"status":0}'


def test_the_summary_becomes_an_outcome() -> None:
    assert parse(REPORT % NO_ERRORS) == Outcome(
        2000, p50_ms=1.5, p99_ms=9.0, details={"requests": 1000, "posts": 1064, "gets": 0}
    )


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("connect", "1 connections not opened"),
        ("read", "1 reads that failed"),
        ("write", "1 writes that failed"),
        ("timeout", "1 answers later than 10 s"),
        ("status", "1 answers with a status of 400 or above"),
    ],
)
def test_one_error_of_a_thousand_answers_leaves_no_figure(error: str, words: str) -> None:
    errors = NO_ERRORS.replace(f'"{error}":0', f'"{error}":1')

    with pytest.raises(MeasurementFailed, match=words):
        parse(REPORT % errors)


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("", "it printed nothing"),
        ("unable to connect to 127.0.0.1:1 Connection refused\n\n", "unable to connect"),
        ((REPORT % NO_ERRORS).replace('"requests":1000', '"requests":0'), "no request"),
    ],
)
def test_without_answers_there_is_no_figure(output: str, words: str) -> None:
    with pytest.raises(MeasurementFailed, match=words):
        parse(output)


async def run_wrk(load: Load, answer: Callable[[], bytes]) -> tuple[TinyServer, str]:
    """Run wrk with a load, as `run_command` does."""
    assert WRK is not None
    wrk = WRK
    return await run_command(lambda url: command(wrk, load, url, seconds=5), answer)


async def run_command(
    make: Callable[[str], list[str]], answer: Callable[[], bytes]
) -> tuple[TinyServer, str]:
    """Run wrk until the server has seen enough; gives what that saw and what wrk says."""
    seen = trio.Event()

    def noted(_target: str, _body: bytes) -> bytes:
        if len(server.targets) >= ENOUGH:
            seen.set()
        return answer()

    async with open_tiny_server(noted) as server:
        run = make(server.url.removesuffix("/messages"))
        process = await trio.lowlevel.open_process(run, stdout=subprocess.PIPE)
        try:
            with trio.fail_after(10):
                await seen.wait()
                # It then ends as it does when its time is over.
                process.send_signal(signal.SIGINT)
                output = await _read_all(process)
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
    return server, output


async def _read_all(process: trio.Process) -> str:
    assert process.stdout is not None
    async with process.stdout as stdout:
        return b"".join([bytes(data) async for data in stdout]).decode()


@needs_wrk
async def test_the_messages_are_those_of_bodies_in_their_order() -> None:
    server, output = await run_wrk(Load("distinct", connections=1), lambda: NO_CONTENT)

    assert server.bodies == [sent.body for sent in islice(messages(), len(server.bodies))]
    assert server.targets == ["/messages"] * len(server.bodies)
    # Those under way at the end may have been seen and not answered, one on each connection.
    outcome = parse(output)
    assert outcome.details["posts"] - 1 <= outcome.details["requests"] <= len(server.bodies)


@needs_wrk
async def test_with_close_every_request_says_so_and_opens_a_connection() -> None:
    load = Load("distinct", connections=8, close=True)

    server, output = await run_wrk(load, lambda: LAST_NO_CONTENT)

    assert all(b"\r\nConnection: close\r\n" in head for head in server.heads)
    assert len(server.connections) >= len(server.heads)
    assert parse(output).details["requests"] > ENOUGH / 2


@needs_wrk
async def test_the_same_message_is_always_the_same() -> None:
    server, _ = await run_wrk(Load("same", connections=8), lambda: NO_CONTENT)

    assert set(server.bodies) == {next(messages()).body}


@needs_wrk
async def test_every_new_rocket_is_launched_once() -> None:
    server, _ = await run_wrk(Load("new", connections=8), lambda: NO_CONTENT)

    launches = [decode_message(body) for body in server.bodies]
    assert len({launch.channel for launch in launches}) == len(launches)
    assert all(isinstance(launch.payload, RocketLaunched) for launch in launches)
    assert {launch.number for launch in launches} == {1}


@needs_wrk
async def test_of_ten_mixed_requests_one_reads_and_all_are_counted() -> None:
    server, output = await run_wrk(Load("mixed", connections=1), lambda: NO_CONTENT)

    seen = Counter(server.targets)
    assert server.targets[9::10] == ["/rockets?status=launched"] * (len(server.targets) // 10)
    assert [body for body in server.bodies if body] == [
        sent.body for sent in islice(messages(), seen["/messages"])
    ]
    details = parse(output).details
    assert details["posts"] + details["gets"] - len(server.targets) in {0, 1}


@needs_wrk
@pytest.mark.parametrize(
    ("load", "targets"),
    [
        (Load("one", connections=8), {f"/rockets/{channel}" for channel in CHANNELS}),
        (Load("list", connections=8), {"/rockets"}),
    ],
)
async def test_reading_asks_for_these(load: Load, targets: set[str]) -> None:
    server, _ = await run_wrk(load, lambda: NO_CONTENT)

    assert set(server.targets) == targets


@needs_wrk
async def test_a_real_run_with_error_answers_is_refused() -> None:
    _, output = await run_wrk(Load("list", connections=8), lambda: UNAVAILABLE)

    with pytest.raises(MeasurementFailed, match="a status of 400 or above"):
        parse(output)
