"""Bare inserts into PostgreSQL or Redis: what the server does for one client that only inserts.

Run as `python -m rockets.bench.inserts PLAN`, a process of its own on the server's core.
It opens the store as the journal does and sends the journal's own statement or script, one for
each batch and one round trip each; what it sends is made while the clock stands still.
The statement is a commit of its own, without the lock, the marker and the notification that an
append has as well.
The script is the whole append, since Redis has no smaller part that would be stored as one.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from time import perf_counter
from typing import Any

import msgspec
import psycopg

from rockets.bench.bodies import messages
from rockets.bench.commits import RECEIVED_AT
from rockets.bench.outcome import MeasurementFailed, Outcome, percentile, tell
from rockets.bench.shared import Plan
from rockets.journal.base import NOTE_LIMITS, JournalError, Record
from rockets.journal.hurry import Hurry
from rockets.journal.postgresql import ANSWER_S
from rockets.journal.postgresql_append import INSERT
from rockets.journal.postgresql_store import Store as PostgresqlStore
from rockets.journal.redis_append import APPEND, append_arguments
from rockets.journal.redis_link import Link, target_of
from rockets.journal.redis_store import Store as RedisStore
from rockets.journal.sql_rows import record_row

Insert = Callable[[], object]
Prepare = Callable[[Sequence[Record]], Insert]
"""Makes all that is sent for a batch, and returns what sends it."""


@contextmanager
def _postgresql(address: str) -> Iterator[Prepare]:
    # Prepared at once, as the journal does it.
    with psycopg.connect(address, autocommit=True, prepare_threshold=0) as connection:
        PostgresqlStore("rockets", "full", ANSWER_S).prepare(connection, read_only=False)

        def prepare(records: Sequence[Record]) -> Insert:
            columns = [list(column) for column in zip(*map(record_row, records), strict=True)]
            return lambda: connection.execute(INSERT, columns)

        yield prepare


@contextmanager
def _redis(address: str) -> Iterator[Prepare]:
    target, prefix = target_of(address, "full")
    with closing(Link(target, lambda: 1.0, Hurry())) as link:
        link.open()
        store = RedisStore(target.name, prefix, os.urandom)
        store.open(link)

        def prepare(records: Sequence[Record]) -> Insert:
            keys, arguments = append_arguments(store, NOTE_LIMITS, records, ())
            return lambda: store.write(link, APPEND, keys, arguments)

        yield prepare


def measure(plan: Plan) -> Outcome:
    """Insert until the time is over; the rate is of records, and of the time of round trips."""
    opened: Any = _postgresql if plan.kind == "postgresql" else _redis
    records = _records()
    latencies: list[float] = []
    try:
        with opened(plan.address) as prepare:
            end = perf_counter() + plan.seconds
            while perf_counter() < end:
                insert = prepare(list(islice(records, plan.rows_per_commit)))
                begun = perf_counter()
                insert()
                latencies.append(perf_counter() - begun)
    except (psycopg.Error, JournalError) as error:
        raise MeasurementFailed(f"an insert went wrong: {' '.join(str(error).split())}") from error
    latencies.sort()
    row_count = len(latencies) * plan.rows_per_commit
    return Outcome(
        rate=row_count / sum(latencies),
        p50_ms=percentile(latencies, 0.5) * 1000,
        p99_ms=percentile(latencies, 0.99) * 1000,
        details={"commits": len(latencies), "rows": row_count},
    )


def _records() -> Iterator[Record]:
    for index, sent in enumerate(messages()):
        yield Record(sent.channel, sent.number, sent.body, RECEIVED_AT + index)


if __name__ == "__main__":
    tell(lambda: measure(msgspec.json.decode(sys.argv[1], type=Plan)))
