"""The measurements of what several processes can share: two workers, PostgreSQL, Redis.

The reference of each is bare inserts, with the same statement or script into the same tables or
keys, and synced as well, in commits as large as the service's.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Literal

import msgspec

from rockets.bench import batches, commits
from rockets.bench.batches import MESSAGES_PER_BATCH
from rockets.bench.outcome import MeasurementFailed, Outcome
from rockets.bench.stand import Stand, ask, port_of
from rockets.bench.stores import Kind
from rockets.bench.wrk import Load

COMMITS = "rockets.bench.commits"
INSERTS = "rockets.bench.inserts"
BATCHES = "rockets.bench.batches"

Place = Kind | Literal["sqlite", "sqlite-2"]
"""Where the messages go: to a server, or to a file, by one worker or by two."""

PLACES: tuple[Place, ...] = ("sqlite", "sqlite-2", "postgresql", "redis")

Found = Mapping[str, Outcome]


class Plan(msgspec.Struct, frozen=True):
    """What `inserts` is told: into which empty store, for how long, how many at a time.

    It is here because `inserts` needs drivers that are optional.
    """

    kind: Kind
    address: str
    seconds: float
    rows_per_commit: int


class _Health(msgspec.Struct, frozen=True):
    """What a measurement needs of GET /health."""

    counts: dict[str, int]


@contextmanager
def _server(place: Place, stand: Stand) -> Iterator[str]:
    if place == "sqlite":
        with stand.server("full") as url:
            yield url
    elif place == "sqlite-2":
        # Two processes on one core would only take turns.
        with stand.server("full", "--workers", "2", pinned=False) as url:
            yield url
    else:
        with (
            stand.store(place) as address,
            stand.server("full", "--journal", address) as url,
        ):
            yield url


def _post(place: Place, stand: Stand, _found: Found) -> Outcome:
    with _server(place, stand) as url:
        return _with_commits(stand.wrk(Load("distinct"), url), url)


def _batch(place: Place, stand: Stand, _found: Found) -> Outcome:
    with _server(place, stand) as url:
        plan = batches.Plan(port_of(url), stand.seconds, "ndjson")
        return _with_commits(stand.load(BATCHES, plan), url)


def _with_commits(outcome: Outcome, url: str) -> Outcome:
    """Add how many records a commit had, by what the service says."""
    counts = msgspec.json.decode(ask(url, "GET", "/health"), type=_Health).counts
    try:
        per_commit = counts["committedRecords"] / counts["commits"]
    except (KeyError, ZeroDivisionError) as error:
        raise MeasurementFailed(f"GET /health tells no commits: {error!r}") from error
    details = {**outcome.details, "recordsPerCommit": per_commit}
    return msgspec.structs.replace(outcome, details=details)


def _as_posted(place: Place, stand: Stand, found: Found) -> Outcome:
    """Insert in commits as large as those that the single messages of this round got."""
    ours = f"post-{place}"
    if ours not in found:
        raise MeasurementFailed(f"there is no {ours} whose commits could be imitated")
    return _bare(place, max(1, round(found[ours].details["recordsPerCommit"])), stand)


def _as_batched(place: Place, stand: Stand, _found: Found) -> Outcome:
    return _bare(place, MESSAGES_PER_BATCH, stand)


def _bare(place: Place, rows: int, stand: Stand) -> Outcome:
    if place in ("postgresql", "redis"):
        with stand.store(place) as address:
            return stand.bare(INSERTS, Plan(place, address, stand.seconds, rows))
    with stand.database() as database:
        return stand.bare(COMMITS, commits.Plan(str(database), "full", stand.seconds, rows))


_LOADS: Mapping[str, tuple[Callable[..., Outcome], Callable[..., Outcome]]] = {
    "post": (_post, _as_posted),
    "batch": (_batch, _as_batched),
}

SHARED: Mapping[str, Callable[[Stand, Found], Outcome]] = {
    f"{prefix}{load}-{place}": partial(measure, place)
    for place in PLACES
    for load, measures in _LOADS.items()
    for prefix, measure in zip(("", "inserts-"), measures, strict=True)
}
"""As in `measurements`, each directly before its reference."""
