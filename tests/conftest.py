"""What all tests share: servers, and that a property has no deadline on a busy machine."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import settings

from tests.journal.postgresql_server import PostgresqlServer, find_binaries
from tests.journal.redis_server import SERVER, RedisServer

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
