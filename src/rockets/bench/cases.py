"""The cases of the benchmark: what is compared with what, and what it must reach."""

from collections.abc import Iterable, Mapping

import msgspec

from rockets.bench.measurements import MEASUREMENTS
from rockets.bench.shared import Place

# How much faster than a Quart application that does nothing a message must be answered.
TIMES_NO_OP_MIN = 10.0
# Requests that wrk sent and did not wait for when its time was over: one for each connection.
IN_FLIGHT_MAX = 64


class AtLeast(msgspec.Struct, frozen=True):
    """Our rate is at least this multiple of the reference's, or, where given, this many a second.

    Either is enough.
    """

    factor: float
    rate: float | None = None

    def __str__(self) -> str:
        factor = f"≥ {self.factor:g} x"
        return factor if self.rate is None else f"{factor} or {self.rate:,.0f}/s"


class P99AtMost(msgspec.Struct, frozen=True):
    """Our 99th percentile is at most this multiple of the reference's and so much more."""

    factor: float
    extra_ms: float

    def __str__(self) -> str:
        return f"p99 ≤ {self.factor:g} x + {self.extra_ms:g} ms"


class LanesHold(msgspec.Struct, frozen=True):
    """A request that has to be lent takes only itself off the fast lane, not its connection."""

    def __str__(self) -> str:
        return "only GETs lent"


class NoTarget(msgspec.Struct, frozen=True):
    """Nothing is asked: the figures are for the reader."""

    def __str__(self) -> str:
        return "no target"


Target = AtLeast | P99AtMost | LanesHold | NoTarget


class Case(msgspec.Struct, frozen=True):
    """One row: the measurement of the same name, and what it is held against.

    `no_op` is the no-op Quart application in the same mode, for cases that post messages.
    `beside` is measured as well, for the reader or because the case works with its figure.
    """

    name: str
    load: str
    target: Target
    reference: str | None = None
    no_op: str | None = None
    beside: tuple[str, ...] = ()

    @property
    def needs(self) -> frozenset[str]:
        """Every measurement this case needs."""
        names = (self.name, self.reference, self.no_op, *self.beside)
        return frozenset(name for name in names if name is not None)


OF_ONE: Mapping[str, Case] = {
    case.name: case
    for case in (
        Case(
            "post-memory-64",
            "POST, 64 connections, `memory`",
            AtLeast(0.65),
            reference="floor-64",
            no_op="no-op-64",
        ),
        Case(
            "post-normal-64",
            "POST, 64 connections, `normal`",
            AtLeast(0.40),
            reference="floor-64",
            no_op="no-op-64",
            beside=("commits-normal",),
        ),
        Case(
            "post-full-64",
            "POST, 64 connections, `full`",
            AtLeast(0.30),
            reference="floor-64",
            no_op="no-op-64",
        ),
        Case(
            "post-full-256",
            "POST, 256 connections, `full`",
            AtLeast(0.50),
            reference="floor-256",
            no_op="no-op-64",
        ),
        Case(
            "post-full-3",
            "POST, 3 connections, `full`",
            AtLeast(1.3),
            reference="commits-full",
            no_op="no-op-64",
        ),
        Case(
            "post-new-connection",
            "POST, each on a new connection, 64 at once, `normal`",
            AtLeast(0.45),
            reference="floor-new-connection",
            no_op="no-op-new-connection",
        ),
        Case(
            "duplicates-64",
            "POST of one message again and again, 64 connections, `full`",
            AtLeast(0.50),
            reference="floor-64",
            no_op="no-op-64",
        ),
        Case(
            "new-rockets-64",
            "POST, each of a new rocket, 64 connections, `full`",
            AtLeast(0.20),
            reference="floor-64",
            no_op="no-op-64",
        ),
        Case(
            "mixed-64",
            "9 POST to 1 `GET /rockets?status=launched`, 64 connections, `full`",
            LanesHold(),
        ),
        Case(
            "get-one-64",
            "`GET /rockets/{channel}`, 20 rockets, 64 connections",
            AtLeast(0.70),
            reference="floor-64",
        ),
        Case(
            "get-list-64",
            "`GET /rockets`, 20 rockets, 64 connections",
            AtLeast(0.50),
            reference="floor-64",
        ),
        Case(
            "batch-1000",
            "NDJSON of 1,000 messages, 2 connections, `full`",
            AtLeast(0.5, rate=100_000),
            reference="executemany-1000",
        ),
        Case(
            "latency-half-rate",
            "POST on a schedule at half the rate of post-full-64, 64 connections, `full`",
            P99AtMost(2, extra_ms=3),
            reference="commits-full",
            beside=("post-full-64",),
        ),
    )
}


_PLACES: Mapping[Place, str] = {
    "sqlite": "SQLite, one worker",
    "sqlite-2": "SQLite, two workers",
    "postgresql": "PostgreSQL, one instance",
    "redis": "Redis, one instance",
}
_LOADS = {
    "post": ("POST, 64 connections", "as many rows to a commit as the service had"),
    "batch": ("NDJSON of 1,000 messages, 2 connections", "1,000 rows to a commit"),
}

OF_SHARED: Mapping[str, Case] = {
    f"{name}-{place}": Case(
        f"{name}-{place}",
        f"{load}, `full`, {words}; bare inserts, {rows}",
        NoTarget(),
        reference=f"inserts-{name}-{place}",
    )
    for name, (load, rows) in _LOADS.items()
    for place, words in _PLACES.items()
}
"""What processes share, with and without servers."""

CASES: Mapping[str, Case] = {**OF_ONE, **OF_SHARED}


def needed(names: Iterable[str]) -> list[str]:
    """Return the measurements that these cases need, in the order of a round."""
    wanted = frozenset[str]().union(*(CASES[name].needs for name in names))
    return [name for name in MEASUREMENTS if name in wanted]
