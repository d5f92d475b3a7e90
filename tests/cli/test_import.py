"""`rockets import`: nothing lost, nothing sent for nothing, and a true report at the end."""

import json
import signal
from collections import Counter
from io import BytesIO
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner

from rockets.cli import main
from rockets.cli.client import HttpClient
from rockets.cli.import_file import Manner, send
from rockets.cli.importer import Importer, pause_before
from rockets.cli.line_batches import Batch, LineBatches
from tests.cli.databases import run_command, started, table
from tests.cli.tiny_server import Answer, ok, open_refusing_port, open_tiny_server
from tests.helpers import body, connected, get, serving

LINES = [body("rocket-1", number) for number in range(1, 11)]
FILE = b"\n".join(LINES)
BUSY = b"HTTP/1.1 503 Busy\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n"
TOO_LARGE = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def store(_target: str, content: bytes) -> bytes:
    """Answer as a service that stores every line."""
    return answered(["applied"] * len(content.split(b"\n")))


def answered(outcomes: list[str | None], problem: object = None) -> bytes:
    """Answer with these outcomes; where there is none there is the problem."""
    counts = Counter(outcome for outcome in outcomes if outcome)
    problems = [
        {"index": index, "problem": problem}
        for index, outcome in enumerate(outcomes)
        if outcome is None
    ]
    return ok(json.dumps({"counts": counts, "problems": problems, "outcomes": outcomes}).encode())


def first(answers: list[bytes], then: Answer = store) -> Answer:
    """Answer with these, one after the other, and then as told."""
    left = list(answers)
    return lambda target, content: left.pop(0) if left else then(target, content)


def manner(**changes: float) -> Manner:
    """How the tests send: three lines at a time, one batch after the other."""
    return Manner(**{"batch_lines": 3, "connections": 1, "give_up_after_s": 20.0, **changes})  # type: ignore[arg-type]  # each value has the type of its field


@pytest.mark.parametrize("connections", [1, 3])
async def test_lines_are_sent_in_batches_on_kept_connections(
    capsys: pytest.CaptureFixture[str], connections: int
) -> None:
    async with open_tiny_server(store) as server:
        code = await send(BytesIO(FILE), server.url, manner(connections=connections))

    assert code == 0
    assert sorted(server.bodies) == sorted(b"\n".join(LINES[i : i + 3]) for i in (0, 3, 6, 9))
    assert len(server.connections) <= connections
    assert all(b"application/x-ndjson" in head for head in server.heads)
    found = table(capsys.readouterr().out)
    assert (found["lines"], found["applied"], found["problems"]) == ("10", "10", "0")


@pytest.mark.parametrize(
    "failures",
    [
        [BUSY],
        [BUSY] * 5,
        [b""] * 3,
        [b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\nConnection: close\r\n\r\n{"],
        [b"no HTTP\r\n\r\n"],
    ],
)
async def test_a_batch_whose_fate_is_open_is_sent_again(
    capsys: pytest.CaptureFixture[str], failures: list[bytes]
) -> None:
    async with open_tiny_server(first(failures)) as server:
        code = await send(BytesIO(FILE), server.url, manner())

    assert code == 0
    batches = [b"\n".join(LINES[i : i + 3]) for i in (0, 3, 6, 9)]
    assert server.bodies == [batches[0]] * len(failures) + batches
    assert table(capsys.readouterr().out)["applied"] == "10"


@pytest.mark.parametrize(
    ("asked_s", "failures", "pause_s"),
    [
        (None, 0, 0.1),
        (None, 1, 0.2),
        (None, 5, 3.2),
        (None, 6, 5.0),
        (None, 10_000, 5.0),
        (17.0, 0, 17.0),
        (1.0, 10_000, 1.0),
        (0.0, 0, 0.05),
    ],
)
def test_the_pause_is_the_one_asked_for_or_grows(
    asked_s: float | None, failures: int, pause_s: float
) -> None:
    assert pause_before(asked_s, failures) == pytest.approx(pause_s)


async def test_a_service_that_is_away_for_too_long_ends_the_import(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with open_refusing_port() as url:
        code = await send(BytesIO(FILE), url, manner(connections=3, give_up_after_s=0.2))

    said = capsys.readouterr()
    assert (code, table(said.out)["lines"]) == (1, "0")
    assert said.err.startswith("rockets import: given up after 0.2 s: 127.0.0.1:")
    assert said.err.endswith("connection refused; sending all again is safe\n")


async def test_a_pause_that_is_longer_than_the_patience_is_not_waited_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    longer = BUSY.replace(b"Retry-After: 0", b"Retry-After: 9999")
    async with open_tiny_server(first([store("", LINES[0] + b"\n\n"), longer])) as server:
        with trio.fail_after(10):
            code = await send(BytesIO(FILE), server.url, manner())

    said = capsys.readouterr()
    assert (code, table(said.out)["lines"]) == (1, "3")
    assert said.err == (
        "rockets import: given up after 20 s: 503; the first 3 lines are settled; "
        "sending all again is safe\n"
    )


async def test_an_answer_that_no_service_gives_stops_the_import(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with open_tiny_server(lambda *_: ok(b"<p>")) as server:
        code = await send(BytesIO(FILE), server.url, manner(connections=3))

    assert code == 1
    assert "this is not the answer to a batch" in capsys.readouterr().err


async def test_a_batch_that_is_too_large_is_halved_and_a_line_that_is_too_large_is_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def answer(target: str, content: bytes) -> bytes:
        too_large = content.count(b"\n") > 1 or LINES[4] in content
        return TOO_LARGE if too_large else store(target, content)

    async with open_tiny_server(answer) as server:
        code = await send(BytesIO(FILE), server.url, manner(batch_lines=10))

    said = capsys.readouterr().out
    found = table(said)
    assert (code, found["applied"], found["problems"]) == (1, "9", "1")
    assert said.splitlines()[9:] == ["line 5: 413"]


async def test_lines_for_which_there_is_no_room_are_sent_again_without_the_others(
    capsys: pytest.CaptureFixture[str],
) -> None:
    problem = {"status": 503, "title": "Too many gaps"}
    no_room = [answered(["held", None, None], problem), answered([None, None], problem)]
    async with open_tiny_server(first(no_room)) as server:
        code = await send(BytesIO(FILE), server.url, manner())

    assert code == 0
    assert server.bodies[:3] == [
        b"\n".join(LINES[0:3]),
        b"\n".join(LINES[1:3]),
        b"\n".join(LINES[1:3]),
    ]
    found = table(capsys.readouterr().out)
    assert (found["lines"], found["held"], found["applied"]) == ("10", "1", "9")


async def test_faults_are_named_by_the_number_of_their_line_the_first_of_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    problem = {"status": 400, "title": "Not JSON", "detail": "no"}
    file = b"\n" + b"\n\n".join(LINES) + b"\n" + b"x" * 70_000

    def answer(_target: str, content: bytes) -> bytes:
        return answered(
            [["conflict", None][i % 2] for i in range(content.count(b"\n") + 1)], problem
        )

    async with open_tiny_server(answer) as server:
        code = await send(BytesIO(file), server.url, manner(connections=3))
        await send(BytesIO(file * 3), server.url, manner(connections=3))

    said = capsys.readouterr().out
    lines = said.splitlines()
    conflict = "conflict: other content is stored under this number"
    assert code == 1
    assert (table(said)["conflict"], table(said)["problems"]) == ("7", "4")
    assert lines[9:12] == [f"line 2: {conflict}", "line 4: 400 Not JSON: no", f"line 6: {conflict}"]
    assert lines[19] == "line 21: is over 65536 bytes"
    assert len(lines[20:]) == 9 + 20 + 1
    assert lines[-1] == "and 13 more"


@pytest.mark.slow
async def test_a_service_that_dies_and_comes_back_gets_every_line_once(tmp_path: Path) -> None:
    count = 4000
    file = BytesIO(b"\n".join(body("rocket-1", number) for number in range(1, count + 1)))
    batches = LineBatches(file, lines_max=20)
    middle, finished = trio.Event(), trio.Event()

    def take() -> Batch | None:
        batch = batches.take()
        if batch and batch.numbers[0] == count // 2 + 1:
            trio.from_thread.run_sync(middle.set)
        return batch

    async with serving(tmp_path) as server, HttpClient(server.url) as client:
        importer = Importer(take, client, "/messages", connections=3, give_up_after_s=30)

        async def run() -> None:
            await importer.run()
            finished.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await middle.wait()
            await server.kill()
            assert not finished.is_set()
            async with serving(tmp_path, "--port", str(server.port)) as again:
                await finished.wait()
                async with connected(again.port) as asking:
                    rocket = (await asking.ask(get("/rockets/rocket-1"))).json

    assert importer.stopped is None
    assert importer.tally.lines == count
    assert importer.tally.settled_through == count
    assert rocket["sequence"] == {
        "settledThrough": count,
        "received": count,
        "missingCount": 0,
        "missing": [],
        "complete": True,
    }


@pytest.mark.slow
async def test_limits_of_the_service_are_kept_and_what_is_over_them_is_named(
    tmp_path: Path,
) -> None:
    def sized(number: int, size: int) -> bytes:
        content = body("rocket-1", number, by=1, later="@")
        return content.replace(b"@", b"x" * (size - len(content) + 1))

    sizes = {2: 65_535, 3: 65_536, 4: 65_537, 5: 200_000}
    lines = [sized(number, sizes.get(number, 200)) for number in range(1, 10_003)]
    long_ones = [sized(number, 65_536) for number in range(20_000, 20_130)]
    (tmp_path / "many").write_bytes(b"\n".join([*lines, *long_ones]))

    async with serving(tmp_path) as server:
        words = ["import", str(tmp_path / "many"), f"{server.url}/messages"]
        ended = await run_command(*words, "--batch-lines", "10000")

    found = table(ended.stdout.decode())
    assert ended.returncode == 1
    assert (found["lines"], found["problems"], found["held"]) == ("10132", "2", "10127")
    assert ended.stdout.decode().splitlines()[9:] == [
        "line 4: is over 65536 bytes",
        "line 5: is over 65536 bytes",
    ]


@pytest.mark.slow
async def test_a_service_with_lower_limits_gets_smaller_batches(tmp_path: Path) -> None:
    lines = [*LINES[:5], body("rocket-1", 6, by=1, later="x" * 1000), *LINES[6:]]

    async with serving(tmp_path, "--batch-max", "1500", "--message-max", "1000") as server:
        words = ["import", "-", f"{server.url}/messages"]
        ended = await run_command(*words, stdin=b"\n".join(lines))

    said = ended.stdout.decode()
    assert ended.returncode == 1, ended.stderr
    assert (table(said)["lines"], table(said)["problems"]) == ("10", "1")
    assert said.splitlines()[9:] == [
        "line 6: 413 The body is too large: the message is over 1000 bytes"
    ]


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
async def test_an_interrupted_import_says_how_far_it_came(
    signum: signal.Signals, name: str
) -> None:
    send_seen, seen = trio.open_memory_channel[None](10)

    def answer(target: str, content: bytes) -> bytes:
        send_seen.send_nowait(None)
        return store(target, content)

    words = ("--batch-lines", "4", "--connections", "1")
    async with open_tiny_server(answer) as server:
        with trio.fail_after(30):
            async with started("import", name, server.url, *words) as command:
                # The third batch is not whole, so a thread waits for the rest of it.
                await command.stdin.send_all(FILE)
                await seen.receive()
                await seen.receive()
                command.process.send_signal(signum)
                assert await command.process.wait() == 128 + signum
                said = await command.stderr.receive_some()
                out = await command.stdout.receive_some()

    # The first batch was answered before the second came, whose answer may have been too late.
    lines = table(out.decode())["applied"]
    assert lines in {"4", "8"}
    assert said.decode() == (
        f"rockets import: interrupted; the first {lines} lines are settled; "
        "sending all again is safe\n"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["absent", "http://localhost:1/messages"], "[Errno 2] No such file"),
        ([".", "http://localhost:1/messages"], "[Errno 21] Is a directory"),
        (["-", "localhost:1/messages"], "'localhost:1/messages' is not of the form"),
    ],
)
def test_what_is_impossible_is_refused_in_one_line(words: list[str], said: str) -> None:
    result = CliRunner().invoke(main, ["import", *words])

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"rockets import: {said}")
    assert result.stderr.count("\n") == 1
