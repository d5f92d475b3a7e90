"""What the tests of the journals work on."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from rockets.journal import SqliteJournal
from tests.journal.disks import FaultyVfs
from tests.journal.postgresql_server import PostgresqlServer, find_binaries
from tests.journal.redis_server import SERVER, RedisServer


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def journal(path: Path) -> Iterator[SqliteJournal]:
    with closing(SqliteJournal(path)) as opened:
        yield opened


@pytest.fixture
def vfs() -> FaultyVfs:
    return FaultyVfs()


@pytest.fixture
def faulty(path: Path, vfs: FaultyVfs) -> Iterator[SqliteJournal]:
    """A journal whose disk fails when told; it works again for the close."""
    opened = SqliteJournal(path, vfs=vfs.name)
    yield opened
    vfs.sync_fails = vfs.write_is_full = ""
    opened.close()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlServer]:
    """A server for all tests; each has a schema of its own in it."""
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL here: neither the development dependency nor the system has it")
    with closing(PostgresqlServer(binaries)) as server:
        yield server


@pytest.fixture(scope="session")
def redis() -> Iterator[RedisServer]:
    """A server for all tests; each has a prefix of its own on it."""
    if SERVER is None:
        pytest.skip("no redis-server here: make test-tools")
    with closing(RedisServer()) as server:
        yield server
