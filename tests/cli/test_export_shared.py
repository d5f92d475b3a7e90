"""`rockets export` of a journal on a server: the same as of a file, and beside its instances."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from random import random

import psycopg
import pytest
from click.testing import CliRunner, Result

from rockets.cli import main
from rockets.cli.shared_records import PAGE_RECORDS, SharedRecords
from rockets.domain.messages import decode_message
from rockets.journal import (
    JournalRefused,
    Pruned,
    Record,
    SharedJournal,
    open_postgresql,
    open_redis,
)
from rockets.settings import Settings
from tests.cli.databases import bodies, fill
from tests.helpers import body
from tests.journal.postgresql_server import PostgresqlServer, find_binaries
from tests.journal.redis_server import RedisServer


class Store:
    """An empty store on a server, and how a journal on it is opened."""

    def __init__(self, address: str, open_at: Callable[[str], SharedJournal]) -> None:
        self.address = address
        self._open_at = open_at

    def open(self) -> "closing[SharedJournal]":
        """A journal on it, to be used in `with`."""
        return closing(self._open_at(self.address))

    def fill(self, given: Sequence[bytes]) -> None:
        """Append these bodies in this order."""
        messages = [decode_message(each) for each in given]
        with self.open() as journal:
            journal.append([Record(each.channel, each.number, each.body, 1) for each in messages])

    def prune(self, *rockets: int) -> None:
        """Prune numbers 9 and 10 of these rockets."""
        with self.open() as journal:
            prunings = [Pruned(f"rocket-{each}", 10, b"base") for each in rockets]
            assert journal.prune(prunings, limit=99) == 2 * len(rockets)


def _in_postgresql(address: str) -> Store:
    return Store(address, lambda at: open_postgresql(at, durability="normal", jitter=random))


@pytest.fixture(params=["postgresql", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "redis":
        redis: RedisServer = request.getfixturevalue("redis")
        return Store(redis.url(tmp_path), lambda at: open_redis(at, durability="normal"))
    postgresql: PostgresqlServer = request.getfixturevalue("postgresql")
    return _in_postgresql(postgresql.url(database=postgresql.new_database()))


def export(*words: str | Path) -> Result:
    """Run `rockets export` in this process."""
    return CliRunner().invoke(main, ["export", *map(str, words)])


def keys(lines: str) -> list[tuple[str, int]]:
    """Rocket and number of every line."""
    metadata = [json.loads(line)["metadata"] for line in lines.splitlines()]
    return [(each["channel"], each["messageNumber"]) for each in metadata]


@pytest.mark.parametrize(
    "words", [[], ["--by-rocket"], ["--channel", "rocket-2"], ["--channel", "rocket-2"] * 2]
)
def test_it_writes_what_it_would_write_of_a_file(
    store: Store, tmp_path: Path, words: list[str]
) -> None:
    given = bodies(12)
    given[3] = given[3].replace(b", ", b",\r\n")
    store.fill(given)
    database = fill(tmp_path / "rockets.db", given)

    result = export("--journal", store.address, *words)
    of_a_file = export("--database", database, *words)

    assert result.exit_code == 0, result.stderr
    assert result.stdout_bytes == of_a_file.stdout_bytes
    assert result.stderr == of_a_file.stderr


@pytest.mark.parametrize("count", [PAGE_RECORDS - 1, PAGE_RECORDS, PAGE_RECORDS + 1])
@pytest.mark.parametrize("words", [[], ["--by-rocket"], ["--channel", "rocket-0"]])
def test_however_many_pages_it_is_each_message_comes_once(
    store: Store, count: int, words: list[str]
) -> None:
    store.fill(bodies(count, rockets=1))

    result = export("--journal", store.address, *words)

    numbers = [number for _, number in keys(result.stdout)]
    assert numbers == sorted(range(1, count + 1), reverse=not words or "--channel" in words)


@pytest.mark.parametrize("walk", [SharedRecords.by_position, SharedRecords.by_stream])
def test_what_is_stored_meanwhile_is_left_out(
    store: Store, walk: Callable[[SharedRecords], Iterator[list[object]]]
) -> None:
    store.fill(bodies(12))
    with SharedRecords(Settings(journal=store.address)) as records:
        store.fill([body("rocket-0", 13), body("rocket-3", 1)])

        assert sum(map(len, walk(records))) == 12


def test_an_empty_store_gives_nothing(store: Store) -> None:
    result = export("--journal", store.address)

    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "0 messages exported\n")


def test_the_store_is_found_as_serve_finds_it(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.fill(bodies(12))
    database = fill(tmp_path / "rockets.db", bodies(2))
    monkeypatch.setenv("ROCKETS_JOURNAL", store.address)

    assert export().stderr == "12 messages exported\n"
    assert export("--database", database).stderr == "2 messages exported\n"
    assert export("--journal", "sqlite", "--database", database).stderr == "2 messages exported\n"


def test_what_is_left_after_pruning_is_written_and_what_is_missing_is_said(store: Store) -> None:
    store.fill(
        [body(f"rocket-{rocket}", number) for rocket in (0, 1, 2) for number in range(9, 13)]
    )
    store.prune(0, 1)

    result = export("--journal", store.address, "--by-rocket")
    one = export("--journal", store.address, "--channel", "rocket-1", "--channel", "rocket-2")

    assert keys(result.stdout) == [
        (f"rocket-{rocket}", number)
        for rocket in (0, 1, 2)
        for number in range(9 if rocket == 2 else 11, 13)
    ]
    assert result.stderr == (
        "8 messages exported\nrockets export: 2 rockets miss messages that were pruned: "
        "rocket-0 (1 to 10), rocket-1 (1 to 10)\n"
    )
    assert one.stderr == (
        "6 messages exported\n"
        "rockets export: 1 rocket misses messages that were pruned: rocket-1 (1 to 10)\n"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--channel", "rocket-9"], "{kind}: there is no message of rocket-9"),
        (["--database", "x"], "--database is a file and --journal a server; give one of them"),
        (["--output", "/dev/null"], "/dev/null is not a regular file"),
    ],
)
def test_what_is_impossible_is_refused_in_one_line(
    store: Store, words: list[str], said: str
) -> None:
    store.fill(bodies(3))

    result = export("--journal", store.address, *words)

    kind = store.address.partition("://")[0]
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"rockets export: {said.format(kind=kind)}\n"


@pytest.mark.parametrize("scheme", ["postgresql", "redis"])
def test_a_server_that_is_not_there_is_told_without_the_password(scheme: str) -> None:
    result = export("--journal", f"{scheme}://rockets:secret@127.0.0.1:1/0")

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("rockets export: ")
    assert result.stderr.count("\n") == 1
    assert "secret" not in result.stderr


def test_damage_is_named_after_the_pages_before_it(
    postgresql: PostgresqlServer, tmp_path: Path
) -> None:
    count = PAGE_RECORDS + 2
    store = _in_postgresql(postgresql.url(database=postgresql.new_database()))
    store.fill(bodies(count, rockets=1))
    damage(store, count)

    result = export("--journal", store.address, "--output", tmp_path / "x")

    [part] = tmp_path.glob("x*")
    assert result.exit_code == 1
    assert f"record {count} " in result.stderr
    assert result.stderr.endswith(f"; {PAGE_RECORDS} messages before that are in {part}\n")


def damage(store: Store, position: int) -> None:
    """Change a body as nobody may."""
    with psycopg.connect(store.address) as connection:
        sql = "UPDATE rockets.records SET body = 'x' WHERE position = %s"
        assert connection.execute(sql, (position,)).rowcount == 1


def test_a_server_that_goes_away_meanwhile_is_told_in_one_line(tmp_path: Path) -> None:
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL here")
    with closing(PostgresqlServer(binaries)) as server:
        store = _in_postgresql(server.url())
        store.fill(bodies(2 * PAGE_RECORDS))
        with SharedRecords(Settings(journal=store.address)) as records:
            pages = records.by_position()
            assert len(next(pages)) == PAGE_RECORDS
            server.stop("immediate")
            with pytest.raises(JournalRefused, match="cannot be reached"):
                next(pages)
