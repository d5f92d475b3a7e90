"""`rockets export`: what it writes, when it refuses, and how it ends."""

import json
import signal
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner, Result

from rockets.cli import main
from rockets.journal import Pruned, SqliteJournal
from tests.cli.databases import COMMAND, Ingest, bodies, fill, flip, run_command, started
from tests.helpers import body, connected, serving
from tests.journal.disks import edit


def export(*words: str | Path) -> Result:
    """Run `rockets export` in this process."""
    return CliRunner().invoke(main, ["export", *map(str, words)])


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return fill(tmp_path / "rockets.db", bodies(12))


def test_every_message_is_a_line_in_the_order_of_its_commit(database: Path) -> None:
    result = export("--database", database)

    assert result.exit_code == 0
    assert result.stdout_bytes == b"\n".join([*bodies(12), b""])
    assert result.stderr == "12 messages exported\n"


def test_by_rocket_it_is_the_order_of_the_numbers(database: Path) -> None:
    lines = export("--database", database, "--by-rocket").stdout.splitlines()

    keys = [json.loads(line)["metadata"] for line in lines]
    assert [(key["channel"], key["messageNumber"]) for key in keys] == [
        (f"rocket-{rocket}", number) for rocket in range(3) for number in range(9, 13)
    ]


@pytest.mark.parametrize("order", [[], ["--by-rocket"]])
def test_only_the_rockets_asked_for_are_written(tmp_path: Path, order: list[str]) -> None:
    named = "193270A9-c9cf-404a-8f83-838e71d9ae67"
    database = fill(tmp_path / "a.db", [*bodies(6), body(named.lower(), 1)])

    result = export("--database", database, *order, "--channel", "rocket-2", "--channel", named)

    channels = {json.loads(line)["metadata"]["channel"] for line in result.stdout.splitlines()}
    assert channels == {"rocket-2", named.lower()}
    assert result.stderr == "3 messages exported\n"


@pytest.mark.parametrize(
    ("stored", "line"),
    [
        (b"%s", b"%s"),
        (b" \r\n\t%s\n", b"%s"),
        (b'{"later": [1.0,\n 1e400, -0.0, 1E5, 123456789012345678901234567890],\r\n%s', None),
        (b'{"later": "\\n\\u00e9\\ud83d\\ude00 \xc3\xa9\xe2\x80\xa8  ",\n\r%s', None),
    ],
)
def test_a_body_becomes_one_line_and_is_the_same_but_for_line_breaks(
    tmp_path: Path, stored: bytes, line: bytes | None
) -> None:
    given = body("rocket-1", 1)
    inner = given if line else given[1:]  # goes on with the members of an object
    database = fill(tmp_path / "a.db", [stored % inner])

    expected = line % inner if line else (stored % inner).replace(b"\r", b" ").replace(b"\n", b" ")
    assert export("--database", database).stdout_bytes == expected + b"\n"


def test_an_empty_database_gives_nothing(tmp_path: Path) -> None:
    result = export("--database", fill(tmp_path / "a.db", []))

    assert (result.exit_code, result.stdout) == (0, "")


def test_the_database_is_found_as_serve_finds_it(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert export().stderr == "12 messages exported\n"
    fill(tmp_path / "other.db", bodies(2))
    monkeypatch.setenv("ROCKETS_DATABASE", "other.db")
    assert export().stderr == "2 messages exported\n"
    monkeypatch.setenv("ROCKETS_WRONG", "1")
    assert export().stderr == "rockets export: ROCKETS_WRONG: unknown setting\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--database", "absent.db"], "absent.db: there is no such file"),
        (["--channel", "rocket-9"], "rockets.db: there is no message of rocket-9"),
        (["--channel", "a/b"], "'a/b' is not the name of a rocket"),
        (["--output", "rockets.db"], "rockets.db belongs to the database"),
        (["--output", "./rockets.db-wal"], "rockets.db-wal belongs to the database"),
        (["--output", "/dev/null"], "/dev/null is not a regular file"),
        (["--output", "absent/x"], "[Errno 2] No such file or directory: "),
    ],
)
def test_what_is_impossible_is_refused_in_one_line(
    database: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    monkeypatch.chdir(database.parent)

    result = export(*words)

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"rockets export: {said}")
    assert result.stderr.count("\n") == 1
    assert sorted(path.name for path in database.parent.iterdir() if "part" in path.name) == []


def test_an_output_file_is_there_when_it_is_whole(database: Path, tmp_path: Path) -> None:
    output = tmp_path / "messages.ndjson"

    result = export("--database", database, "--output", output)

    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == f"12 messages exported to {output}\n"
    assert output.read_bytes() == export("--database", database).stdout_bytes
    assert output.stat().st_mode & 0o777 == 0o600
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("order", [[], ["--by-rocket"]])
def test_damage_is_named_after_all_that_is_before_it(database: Path, order: list[str]) -> None:
    whole = export("--database", database, *order).stdout.splitlines()
    flip(database, bodies(12)[6])

    result = export("--database", database, *order)

    before = whole.index(bodies(12)[6].decode())
    assert result.exit_code == 1
    assert result.stdout.splitlines() == whole[:before]
    assert result.stderr == (
        f"rockets export: {database}: record 7 of rocket-0 does not match its checksum; "
        f"{before} messages before that were written\n"
    )


def test_after_damage_the_output_file_does_not_get_its_name(database: Path, tmp_path: Path) -> None:
    flip(database, bodies(12)[6])

    result = export("--database", database, "--output", tmp_path / "x")

    [part] = tmp_path.glob("x*")
    assert result.exit_code == 1
    assert result.stderr.endswith(f"; 6 messages before that are in {part}\n")
    assert part.read_bytes() == b"\n".join([*bodies(12)[:6], b""])


@pytest.fixture
def long_database(tmp_path: Path) -> Path:
    """Make a database of more than any pipe holds."""
    return fill(tmp_path / "rockets.db", bodies(3000, padding=1000))


@pytest.mark.slow
async def test_a_reader_that_has_enough_ends_it_quietly(long_database: Path) -> None:
    with trio.fail_after(30):
        async with started("export", "--database", str(long_database)) as command:
            await command.stdout.receive_some(100)
            await command.stdout.aclose()

            assert await command.process.wait() == 141
            assert await command.stderr.receive_some() == b""


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
async def test_an_interrupted_export_says_how_far_it_came(
    long_database: Path, signum: signal.Signals
) -> None:
    with trio.fail_after(30):
        async with started("export", "--database", str(long_database)) as command:
            # The pipe is full long before the end, so the command waits with the rest.
            await command.stdout.receive_some(100)
            command.process.send_signal(signum)
            while await command.stdout.receive_some(1 << 20):
                pass

            said = await command.stderr.receive_some()
            assert await command.process.wait() == 130
    assert said.startswith(b"rockets export: interrupted after "), said
    assert said.count(b"\n") == 1


@pytest.mark.slow
def test_a_full_disk_is_told_in_one_line(database: Path) -> None:
    with open("/dev/full", "wb") as full:
        ended = subprocess.run(
            [*COMMAND, "export", "--database", str(database)],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )

    assert ended.returncode == 2
    assert ended.stderr == b"rockets export: [Errno 28] No space left on device\n"


@pytest.mark.slow
async def test_beside_a_server_that_ingests_it_writes_what_was_acknowledged_before(
    tmp_path: Path,
) -> None:
    ingest = Ingest()
    async with serving(tmp_path) as server, connected(server.port) as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ingest.run, client)
            for order in ([], ["--by-rocket"]):
                before = ingest.acknowledged
                database = str(tmp_path / "rockets.db")
                ended = await run_command("export", "--database", database, *order)

                assert ended.returncode == 0, ended.stderr
                lines = ended.stdout.splitlines()
                assert before <= len(lines) <= ingest.acknowledged + 100
                assert lines == [body("rocket-1", number + 1) for number in range(len(lines))]
            nursery.cancel_scope.cancel()
        assert ingest.acknowledged > before > 0
        assert await server.stop() == 0


# Pruned messages


def prune(database: Path, *rockets: int) -> Path:
    """Prune numbers 9 and 10 of these rockets."""
    with closing(SqliteJournal(database)) as journal:
        prunings = [Pruned(f"rocket-{each}", 10, b"base") for each in rockets]
        assert journal.prune(prunings, limit=99) == 2 * len(rockets)
    return database


@pytest.mark.parametrize(
    ("rockets", "said"),
    [
        ([1], "1 rocket misses messages that were pruned: rocket-1 (1 to 10)"),
        (
            [0, 1, 2],
            "3 rockets miss messages that were pruned: "
            "rocket-0 (1 to 10), rocket-1 (1 to 10), rocket-2 (1 to 10)",
        ),
        (
            [0, 1, 2, 3],
            "4 rockets miss messages that were pruned: "
            "rocket-0 (1 to 10), rocket-1 (1 to 10), rocket-2 (1 to 10), ...",
        ),
    ],
)
def test_what_is_left_is_written_and_what_is_missing_is_said(
    tmp_path: Path, rockets: list[int], said: str
) -> None:
    given = [body(f"rocket-{rocket}", number) for rocket in range(4) for number in range(9, 13)]
    database = prune(fill(tmp_path / "rockets.db", [*given, body("rocket-9", 1)]), *rockets)

    result = export("--database", database, "--by-rocket")

    assert result.exit_code == 0
    keys = [json.loads(line)["metadata"] for line in result.stdout.splitlines()]
    assert [(key["channel"], key["messageNumber"]) for key in keys] == [
        (f"rocket-{rocket}", number)
        for rocket in range(4)
        for number in range(11 if rocket in rockets else 9, 13)
    ] + [("rocket-9", 1)]
    written = 17 - 2 * len(rockets)
    assert result.stderr == f"{written} messages exported\nrockets export: {said}\n"


def test_only_rockets_that_are_asked_for_are_said_to_miss_messages(database: Path) -> None:
    prune(database, 0, 1)

    result = export("--database", database, "--channel", "rocket-1", "--channel", "rocket-2")

    assert result.stderr == (
        "6 messages exported\n"
        "rockets export: 1 rocket misses messages that were pruned: rocket-1 (1 to 10)\n"
    )
    assert export("--database", database, "--channel", "rocket-2").stderr == "4 messages exported\n"


def test_a_rocket_of_which_all_was_pruned_is_no_unknown_one(database: Path) -> None:
    with closing(SqliteJournal(database)) as journal:
        journal.prune([Pruned("rocket-0", 12, b"base")], limit=99)

    result = export("--database", database, "--channel", "rocket-0")

    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.startswith("0 messages exported\nrockets export: 1 rocket misses ")


def test_damage_of_what_was_pruned_is_told_after_all_messages(database: Path) -> None:
    prune(database, 0)
    edit(database, "UPDATE pruned SET base = x'00'")

    result = export("--database", database)

    assert (result.exit_code, len(result.stdout.splitlines())) == (1, 10)
    assert result.stderr == (
        f"rockets export: {database}: what was pruned of rocket-0 does not match its checksum; "
        "10 messages before that were written\n"
    )
