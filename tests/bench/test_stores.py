"""Every measurement gets an empty store on a given server, and leaves nothing there."""

from contextlib import ExitStack
from pathlib import Path
from random import random

import pytest

from rockets.bench import stores as stores_module
from rockets.bench.outcome import MeasurementFailed
from rockets.bench.stores import Stores
from rockets.journal import Record, open_postgresql, open_redis
from tests.journal.postgresql_server import PostgresqlServer
from tests.journal.redis_server import RedisServer

RECORD = Record("a", 1, b"{}", 1)


def test_on_postgresql_it_is_a_database(postgresql: PostgresqlServer, tmp_path: Path) -> None:
    names = "SELECT datname FROM pg_database ORDER BY datname"
    before = postgresql.ask(tmp_path, names)

    with Stores(tmp_path, {"postgresql": postgresql.url()}) as stores, ExitStack() as left:
        for _ in range(2):
            with stores.fresh("postgresql") as address:
                journal = open_postgresql(address, durability="normal", jitter=random)
                # Later than its database: a service that hangs does not keep that.
                left.callback(journal.close)
                assert journal.append([RECORD]).head == 1
                assert len(postgresql.ask(tmp_path, names)) == len(before) + 1

    assert postgresql.ask(tmp_path, names) == before
    assert list(stores.versions) == ["PostgreSQL"]


def test_on_redis_it_is_a_prefix(redis: RedisServer, tmp_path: Path) -> None:
    before = redis.ask("DBSIZE")
    given = f"redis://127.0.0.1:{redis.port}/0?prefix=mine&policy=unchecked"

    with Stores(tmp_path, {"redis": given}) as stores:
        for _ in range(2):
            with stores.fresh("redis") as address:
                assert "policy=unchecked" in address
                journal = open_redis(address)
                assert journal.append([RECORD]).head == 1
                journal.close()
                assert redis.ask("DBSIZE") > before

    assert redis.ask("DBSIZE") == before
    assert list(stores.versions) == ["Redis"]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("postgresql", "no PostgreSQL here; --postgresql"),
        ("redis", "no redis-server here; --redis"),
    ],
)
def test_without_a_server_it_says_how_to_name_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: stores_module.Kind, words: str
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr("rockets.bench.stores._postgresql_binaries", lambda: None)

    with (
        Stores(tmp_path, {}) as stores,
        pytest.raises(MeasurementFailed, match=words),
        stores.fresh(kind),
    ):
        pass


@pytest.mark.parametrize(
    ("kind", "address"),
    [("postgresql", "postgresql://127.0.0.1:1/x"), ("redis", "redis://127.0.0.1:1/0")],
)
def test_a_server_that_does_not_answer_leaves_no_figure(
    tmp_path: Path, kind: stores_module.Kind, address: str
) -> None:
    with (
        Stores(tmp_path, {kind: address}) as stores,
        pytest.raises(MeasurementFailed, match="refused"),
        stores.fresh(kind),
    ):
        pass
