"""`rockets backup`: a copy of a live database that holds what was acknowledged."""

import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner, Result

from rockets.cli import main
from rockets.journal import BackupProgress, Position, SqliteJournal
from rockets.journal import backup as copy
from tests.cli.databases import Ingest, bodies, fill, flip, run_command
from tests.helpers import body, connected, serving


def backup(*words: str | Path) -> Result:
    """Run `rockets backup` in this process."""
    return CliRunner().invoke(main, ["backup", *map(str, words)])


def stored(path: Path) -> list[bytes]:
    """Open a database as the service does and read every body."""
    journal = SqliteJournal(path, durability="normal")
    try:
        return [record.body for record in journal.follow(Position(0), limit=1_000_000)]
    finally:
        journal.close()


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return fill(tmp_path / "rockets.db", bodies(12))


def test_the_copy_is_one_file_that_opens_as_a_journal(database: Path, tmp_path: Path) -> None:
    target = tmp_path / "folder" / "copy.db"
    target.parent.mkdir()

    result = backup("--database", database, target)

    assert result.exit_code == 0, result.stderr
    assert (
        result.stdout
        == f"{database} copied to {target}: 12 messages, {target.stat().st_size} bytes\n"
    )
    assert [path.name for path in target.parent.iterdir()] == ["copy.db"]
    assert target.stat().st_mode & 0o777 == 0o600
    assert stored(target) == bodies(12)


@pytest.mark.parametrize("taken", ["copy.db", "copy.db-wal"])
def test_a_file_that_exists_is_never_overwritten(
    database: Path, tmp_path: Path, taken: str
) -> None:
    (tmp_path / taken).write_text("mine")

    result = backup("--database", database, tmp_path / "copy.db")

    assert (result.exit_code, result.stdout) == (1, "")
    assert "exists" in result.stderr
    assert (tmp_path / taken).read_text() == "mine"
    assert not list(tmp_path.glob("*.part*"))


@pytest.mark.parametrize(
    ("source", "target", "part"),
    [
        ("absent.db", "copy.db", "absent.db"),
        ("text.db", "copy.db", "text.db"),
        ("rockets.db", "absent/copy.db", "copy.db"),
        ("rockets.db", "rockets.db", "exists"),
    ],
)
def test_what_is_impossible_is_refused_in_one_line_and_leaves_nothing(
    database: Path, monkeypatch: pytest.MonkeyPatch, source: str, target: str, part: str
) -> None:
    monkeypatch.chdir(database.parent)
    Path("text.db").write_text("no database at all " * 100)
    before = sorted(Path().iterdir())

    result = backup("--database", source, target)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("rockets backup: ")
    assert part in result.stderr
    assert result.stderr.count("\n") == 1
    assert sorted(Path().iterdir()) == before


def test_damage_in_the_original_is_named(database: Path, tmp_path: Path) -> None:
    flip(database, bodies(12)[6])
    target = tmp_path / "copy.db"

    result = backup("--database", database, target)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f"rockets backup: {database} is damaged, and so is its copy: "
        f"{target}: record 7 of rocket-0 does not match its checksum\n"
    )
    assert [path.name for path in tmp_path.glob("copy*")] == ["copy.db"]


@pytest.mark.slow
async def test_a_copy_beside_a_server_that_ingests_holds_what_was_acknowledged_before(
    tmp_path: Path,
) -> None:
    ingest = Ingest()
    copy = tmp_path / "copy.db"
    async with serving(tmp_path) as server, connected(server.port) as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ingest.run, client)
            await run_command("export", "--database", str(tmp_path / "rockets.db"))
            before = ingest.acknowledged
            words = ("backup", "--database", str(tmp_path / "rockets.db"), str(copy))
            ended = await run_command(*words)
            assert ended.returncode == 0, ended.stderr
            assert ingest.acknowledged > before > 0
            nursery.cancel_scope.cancel()
        assert await server.stop() == 0

    found = stored(copy)
    assert before <= len(found) <= ingest.acknowledged + 100
    assert found == [body("rocket-1", number + 1) for number in range(len(found))]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_backup_leaves_no_half_file(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signum: signal.Signals
) -> None:
    steps = []

    def interrupted(source: Path, target: Path) -> Iterator[BackupProgress]:
        with closing(copy(source, target, pages=1)) as copying:
            for step in copying:
                steps.append(step)
                signal.raise_signal(signum)
                yield step

    monkeypatch.setattr("rockets.cli.backup.copy", interrupted)
    result = backup("--database", database, tmp_path / "copy.db")

    assert (result.exit_code, len(steps)) == (130, 1)
    assert result.stderr == "rockets backup: interrupted; there is no copy\n"
    assert not list(tmp_path.glob("copy*"))
