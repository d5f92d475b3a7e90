"""Bare commits: what SQLite does when nothing stands between a loop and the journal's table.

Run as `python -m rockets.bench.commits PLAN`, a process of its own on the server's core.
It opens the file as the journal does, writes the same rows into the same table and copies the
WAL back at the same length.
Rows are made while the clock stands still.
"""

import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Literal

import apsw
import msgspec

from rockets.bench.bodies import Sent, messages
from rockets.bench.outcome import Outcome, percentile, tell
from rockets.bench.scale_march import March
from rockets.journal.checksum import checksum
from rockets.journal.sqlite import INSERT
from rockets.journal.sqlite_file import (
    BUSY_TIMEOUT_MS,
    WAL_PAGES_MAX,
    checkpoint,
    open_file,
)

Row = tuple[str, int, bytes, int, bytes]

# Microseconds since the epoch, as the journal keeps them; which ones does not matter.
RECEIVED_AT = 1_643_827_145_000_000


class Plan(msgspec.Struct, frozen=True):
    """Which file, how safe, for how long, and how many rows make one transaction.

    With a march it ends after `march_rows` of it, and else has the messages of `bodies`.
    """

    database: str
    durability: Literal["full", "normal"]
    seconds: float
    rows_per_commit: int
    march: March | None = None
    march_rows: int = 0


class _Committer:
    """Commits rows, and copies the WAL back when it has become long."""

    def __init__(self, writer: apsw.Connection) -> None:
        self._writer = writer
        self._wal_pages = 0
        writer.set_wal_hook(self._note_wal_pages)

    def commit(self, rows: list[Row]) -> None:
        if len(rows) == 1:
            self._writer.execute(INSERT, rows[0])  # a transaction of its own
            return
        self._writer.execute("BEGIN IMMEDIATE")
        self._writer.executemany(INSERT, rows)
        self._writer.execute("COMMIT")

    def maintain(self) -> None:
        if self._wal_pages > WAL_PAGES_MAX:
            checkpoint(self._writer, "PASSIVE")
            self._wal_pages = 0

    def _note_wal_pages(self, _connection: apsw.Connection, _schema: str, pages: int) -> int:
        self._wal_pages = pages
        return apsw.SQLITE_OK


def measure(plan: Plan) -> Outcome:
    """Commit until the time is over.

    The rate is of rows, and of the time spent in commits and checkpoints; the percentiles are
    of commits alone.
    """
    march = plan.march
    source = _rows(messages() if march is None else march.messages(plan.march_rows))
    row_count = 0
    latencies: list[float] = []
    maintained_s = 0.0
    with ExitStack() as opened:
        path = Path(plan.database)
        file = open_file(path, plan.durability, BUSY_TIMEOUT_MS, None, opened)
        committer = _Committer(file.writer)
        end = perf_counter() + plan.seconds
        while perf_counter() < end and (rows := list(islice(source, plan.rows_per_commit))):
            begun = perf_counter()
            committer.commit(rows)
            committed = perf_counter()
            committer.maintain()
            maintained_s += perf_counter() - committed
            latencies.append(committed - begun)
            row_count += len(rows)
    latencies.sort()
    return Outcome(
        rate=row_count / (sum(latencies) + maintained_s),
        p50_ms=percentile(latencies, 0.5) * 1000,
        p99_ms=percentile(latencies, 0.99) * 1000,
        details={"commits": len(latencies), "rows": row_count},
    )


def _rows(sources: Iterable[Sent]) -> Iterator[Row]:
    for index, sent in enumerate(sources):
        mark = checksum(sent.channel, sent.number, sent.body)
        yield sent.channel, sent.number, sent.body, RECEIVED_AT + index, mark


if __name__ == "__main__":
    tell(lambda: measure(msgspec.json.decode(sys.argv[1], type=Plan)))
