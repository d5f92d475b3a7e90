"""What all tests share: servers, and that a property has no deadline on a busy machine."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import settings

import tests.fault_rounds  # noqa: F401  # takes its variable before any service is started
from tests.journal.postgresql_server import PostgresqlServer, find_binaries
from tests.journal.redis_server import SERVER, RedisServer
from tests.stores import (
    Stoppable,
    Store,
    in_postgresql,
    in_redis,
    stoppable_postgresql,
    stoppable_redis,
)

settings.register_profile("rockets", deadline=None)
settings.load_profile("rockets")


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


@pytest.fixture(params=["postgresql", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty store on a server that tests share."""
    if request.param == "redis":
        return in_redis(request.getfixturevalue("redis"), tmp_path)
    server: PostgresqlServer = request.getfixturevalue("postgresql")
    return in_postgresql(server, server.new_database())


@pytest.fixture(params=["postgresql", "redis"])
def stoppable(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stoppable]:
    """A store on a server of the test's own."""
    request.getfixturevalue(request.param)  # skips where there is none
    if request.param == "redis":
        with closing(RedisServer()) as redis:
            yield stoppable_redis(redis, tmp_path)
    else:
        binaries = find_binaries()
        assert binaries is not None
        with closing(PostgresqlServer(binaries)) as server:
            yield stoppable_postgresql(server)
