"""Everything that is measured, by name: ours and the references, in the order of a round.

A reference stands beside what is compared with it, so that both meet the same machine.
"""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import islice
from typing import Literal

import msgspec

from rockets.bench import batches, commits, open_loop
from rockets.bench.batches import MESSAGES_PER_BATCH
from rockets.bench.bodies import CHANNELS, array, messages
from rockets.bench.outcome import MeasurementFailed, Outcome
from rockets.bench.shared import SHARED
from rockets.bench.stand import Stand, ask, port_of
from rockets.bench.wrk import Load

FLOOR = "rockets.bench.floor"
NO_OP = "rockets.bench.no_op"
COMMITS = "rockets.bench.commits"
OPEN_LOOP = "rockets.bench.open_loop"
BATCHES = "rockets.bench.batches"

# How many messages each rocket has before it is read.
STORED_PER_ROCKET = 5
# Half of what it can do: busy, and far from falling behind.
RATE_SHARE = 0.5

Measure = Callable[[Stand, Mapping[str, Outcome]], Outcome]
"""Measures once, knowing what this round has found so far; MeasurementFailed without a figure."""


class _Health(msgspec.Struct, frozen=True):
    """What a measurement needs of GET /health."""

    counts: dict[str, int]


def _reference(module: str, load: Load, stand: Stand, _found: Mapping[str, Outcome]) -> Outcome:
    with stand.reference(module) as url:
        return stand.wrk(load, url)


def _ours(durability: str, load: Load, stand: Stand, _found: Mapping[str, Outcome]) -> Outcome:
    with stand.server(durability) as url:
        return stand.wrk(load, url)


def _reading(load: Load, stand: Stand, _found: Mapping[str, Outcome]) -> Outcome:
    stored = islice(messages(), len(CHANNELS) * STORED_PER_ROCKET)
    with stand.server("full") as url:
        ask(url, "POST", "/messages", array([sent.body for sent in stored]))
        return stand.wrk(load, url)


def _mixed(stand: Stand, _found: Mapping[str, Outcome]) -> Outcome:
    """Both kinds on the same connections, and what the service says about who answered."""
    with stand.server("full") as url:
        outcome = stand.wrk(Load("mixed"), url)
        counts = msgspec.json.decode(ask(url, "GET", "/health"), type=_Health).counts
    try:
        lanes = {"fast": counts["fastAnswers"], "lent": counts["lentRequests"]}
    except KeyError as error:
        raise MeasurementFailed(f"GET /health has no count {error}") from error
    return msgspec.structs.replace(outcome, details={**outcome.details, **lanes})


def _commits(
    durability: Literal["full", "normal"],
    rows_per_commit: int,
    stand: Stand,
    _found: Mapping[str, Outcome],
) -> Outcome:
    with stand.database() as database:
        plan = commits.Plan(str(database), durability, stand.seconds, rows_per_commit)
        return stand.bare(COMMITS, plan)


def _batches(form: batches.Form, stand: Stand, _found: Mapping[str, Outcome]) -> Outcome:
    with stand.server("full") as url:
        return stand.load(BATCHES, batches.Plan(port_of(url), stand.seconds, form))


def _latency(stand: Stand, found: Mapping[str, Outcome]) -> Outcome:
    if "post-full-64" not in found:
        raise MeasurementFailed("there is no rate of post-full-64 to take the half of")
    rate = found["post-full-64"].rate * RATE_SHARE
    with stand.server("full") as url:
        plan = open_loop.Plan(port_of(url), rate, stand.seconds, connections=64)
        return stand.load(OPEN_LOOP, plan)


MEASUREMENTS: Mapping[str, Measure] = {
    "floor-64": partial(_reference, FLOOR, Load("distinct")),
    "post-memory-64": partial(_ours, "memory", Load("distinct")),
    "no-op-64": partial(_reference, NO_OP, Load("distinct")),
    "post-normal-64": partial(_ours, "normal", Load("distinct")),
    "post-full-64": partial(_ours, "full", Load("distinct")),
    "commits-full": partial(_commits, "full", 1),
    "latency-half-rate": _latency,
    "post-full-3": partial(_ours, "full", Load("distinct", connections=3)),
    "commits-normal": partial(_commits, "normal", 1),
    "floor-256": partial(_reference, FLOOR, Load("distinct", connections=256)),
    "post-full-256": partial(_ours, "full", Load("distinct", connections=256)),
    "floor-new-connection": partial(_reference, FLOOR, Load("distinct", close=True)),
    "post-new-connection": partial(_ours, "normal", Load("distinct", close=True)),
    "no-op-new-connection": partial(_reference, NO_OP, Load("distinct", close=True)),
    "duplicates-64": partial(_ours, "full", Load("same")),
    "new-rockets-64": partial(_ours, "full", Load("new")),
    "mixed-64": _mixed,
    "get-one-64": partial(_reading, Load("one")),
    "get-list-64": partial(_reading, Load("list")),
    "batch-1000": partial(_batches, "ndjson"),
    "executemany-1000": partial(_commits, "full", MESSAGES_PER_BATCH),
    **SHARED,
}
