"""Stores that instances share, as tests have them: PostgreSQL and Redis."""

import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from random import random
from typing import NamedTuple

import msgspec

from rockets.domain.messages import Channel, Message, decode_message
from rockets.domain.rocket import fold
from rockets.journal import Position, SharedJournal, StoredRecord, open_postgresql, open_redis
from tests.helpers import connected, get
from tests.journal.postgresql_server import PostgresqlServer
from tests.journal.redis_server import RedisServer


class Store(NamedTuple):
    """A store on some server: its address, that through a proxy, and how a test looks into it."""

    address: str
    through: Callable[[int], str]
    port: int
    open: Callable[[], SharedJournal]

    @property
    def flags(self) -> tuple[str, ...]:
        """For `rockets serve`; the PostgreSQL server of the tests does not sync."""
        return "--journal", self.address, "--durability", "normal"

    def flags_through(self, port: int) -> tuple[str, ...]:
        """The same for an instance that comes by a proxy."""
        return "--journal", self.through(port), "--durability", "normal"


def in_postgresql(server: PostgresqlServer, database: str = "postgres") -> Store:
    """The store in a database."""
    address = server.url(database=database)
    return Store(
        address,
        lambda port: server.url(port, database),
        server.port,
        lambda: open_postgresql(address, durability="normal", jitter=random),
    )


def in_redis(server: RedisServer, path: Path) -> Store:
    """The store of a path."""
    address = server.url(path)
    return Store(
        address,
        lambda port: server.url(path, port),
        server.port,
        lambda: open_redis(address, durability="normal"),
    )


class Stoppable(NamedTuple):
    """A server of a test's own and the store on it; `kills` says how it may die."""

    store: Store
    stop: Callable[[], None]
    start: Callable[[], None]
    empty: Callable[[], object]
    kills: dict[str, Callable[[], None]]


def stoppable_redis(server: RedisServer, path: Path) -> Stoppable:
    def kill() -> None:
        server.stop(signal.SIGKILL)
        server.start()

    return Stoppable(
        in_redis(server, path),
        lambda: server.stop(signal.SIGKILL),
        server.start,
        lambda: server.ask("FLUSHALL"),
        {"server": kill},
    )


def stoppable_postgresql(server: PostgresqlServer) -> Stoppable:
    def stop() -> None:
        server.stop("immediate")

    def kill() -> None:
        stop()
        server.start()

    return Stoppable(
        in_postgresql(server),
        stop,
        server.start,
        lambda: server.ask(Path("any"), "DELETE FROM rockets.records"),
        {"server": kill, "backend": server.kill_backend},
    )


def stored(store: Store) -> list[StoredRecord]:
    """Everything that the store holds, in commit order."""
    with closing(store.open()) as journal:
        found: list[StoredRecord] = []
        while some := journal.follow(found[-1].position if found else Position(0), limit=10_000):
            found += some
        return found


def folded(store: Store) -> dict[tuple[str, str], object]:
    """Every rocket in both views, as the specification makes it of what the store holds."""
    with closing(store.open()) as journal:
        conflicts = journal.count_notes("conflict")
    return fold_records(stored(store), conflicts)


def fold_records(
    records: Iterable[StoredRecord], conflicts: Mapping[str, int]
) -> dict[tuple[str, str], object]:
    """Every rocket of these records in both views, as JSON shows it."""
    messages_of: dict[str, list[Message]] = {}
    for record in records:
        messages_of.setdefault(record.stream, []).append(decode_message(record.body))
    return {
        (channel, view): msgspec.json.decode(
            msgspec.json.encode(
                fold(Channel(channel), messages, view=view, conflicts=conflicts.get(channel, 0))
            )
        )
        for channel, messages in messages_of.items()
        for view in ("latest", "settled")
    }


async def shown(port: int, wanted: Sequence[tuple[str, str]]) -> dict[tuple[str, str], object]:
    """Every rocket in every view, as an instance shows it."""
    async with connected(port) as client:
        return {
            (channel, view): (await client.ask(get(f"/rockets/{channel}?view={view}"))).json
            for channel, view in wanted
        }
