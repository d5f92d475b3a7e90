"""The cases at scale that compare rates and waits: how flat the cost of a message stays."""

import os
import shutil
from pathlib import Path
from statistics import fmean, median

from rockets.bench import commits, scale_hot
from rockets.bench.outcome import MeasurementFailed, Outcome
from rockets.bench.scale_found import Found
from rockets.bench.scale_march import MESSAGES_PER_BATCH, March, in_batches
from rockets.bench.scale_sender import GRACE_S, PER_SECOND_MIN, send_batches
from rockets.bench.scale_shelf import ROCKETS_FEW, Fleet, Shelf, check_states
from rockets.bench.scale_stand import Grounds
from rockets.bench.stand import LOAD_EXTRA_S

COMMITS = "rockets.bench.commits"
HOT = "rockets.bench.scale_hot"

BATCHED = 200_000
BATCHED_MIN = 2_000
# A load that leaves the server half of its time at least, so that waiting has a reason.
RATE_SHARE = 0.25
# Every tenth message counts, so it takes longer until there are enough for a percentile.
HOT_TIMES = 2


def single_million(grounds: Grounds, shelf: Shelf) -> dict[str, Found]:
    """Single messages to rockets of a large fleet, against the same with a small one."""
    return {"single-million": _beside_few(grounds, shelf, shelf.many, few=March(ROCKETS_FEW, 1))}


def history(grounds: Grounds, shelf: Shelf) -> dict[str, Found]:
    """Single messages with much in the journal, against an empty one."""
    return {"history": _beside_few(grounds, shelf, shelf.history, few=March(ROCKETS_FEW, 0))}


def _beside_few(grounds: Grounds, shelf: Shelf, fleet: Fleet, *, few: March) -> Found:
    # Before and after, so that a machine that gets slower gets slower for both.
    references = [_few(grounds, shelf, few)]
    rates = []
    with shelf.using(fleet) as stored, grounds.server(stored.database) as server:
        for _ in range(grounds.rounds):
            outcome = grounds.wrk(server, stored.march)
            stored.settle(server, outcome)
            rates.append(outcome.rate)
        check_states(server, stored.march)
    references.append(_few(grounds, shelf, few))
    return Found(
        median(rates),
        fmean(references),
        details={"slowest": min(rates), "fastest": max(rates)},
    )


def _few(grounds: Grounds, shelf: Shelf, march: March) -> float:
    with shelf.fresh() as database, grounds.server(database) as server:
        loaded = March(march.rockets, 0)
        for _ in range(march.each):
            count = march.rockets
            send_batches(server.port, loaded.batches(count), total=count)
            loaded = loaded.after(count)
        return grounds.wrk(server, march).rate


def batch_million(grounds: Grounds, shelf: Shelf) -> dict[str, Found]:
    """Batches to rockets of a large fleet, against bare inserts of the same rows."""
    count = grounds.scaled(BATCHED, BATCHED_MIN)
    with shelf.using(shelf.many) as stored, shelf.fresh() as copy:
        _copy(stored.database, copy)
        march = stored.march
        batches = list(march.batches(count))
        with grounds.server(stored.database) as server:
            seconds = send_batches(server.port, batches, total=count)
            stored.sent(count)
            check_states(server, stored.march)
        limit_s = GRACE_S + count / PER_SECOND_MIN
        plan = commits.Plan(str(copy), "full", limit_s, MESSAGES_PER_BATCH, march, count)
        bare = grounds.bare(COMMITS, plan, limit_s=limit_s + LOAD_EXTRA_S)
    if bare.details["rows"] != count:
        raise MeasurementFailed(f"only {bare.details['rows']:,.0f} rows were inserted in time")
    return {"batch-million": Found(count / seconds, bare.rate)}


def _copy(database: Path, copy: Path) -> None:
    """Copy a database that nobody has open; what is written back later would disturb the next."""
    for ending in ("", "-wal"):
        source, target = Path(f"{database}{ending}"), Path(f"{copy}{ending}")
        if source.exists():
            shutil.copyfile(source, target)
            with target.open("rb") as written:
                os.fsync(written.fileno())


def hot_rocket(grounds: Grounds, shelf: Shelf) -> dict[str, Found]:
    """How long the others wait when one rocket takes 90 % of a load, and when all share it."""
    with shelf.fresh() as database, grounds.server(database) as server:
        rate = grounds.wrk(server, March(ROCKETS_FEW, 0)).rate * RATE_SHARE
    outcomes: dict[scale_hot.Mode, list[Outcome]] = {"alone": [], "hot": [], "even": []}
    for _ in range(grounds.rounds):
        for mode, found in outcomes.items():
            seconds = grounds.seconds * HOT_TIMES
            with shelf.fresh() as database, grounds.server(database) as server:
                launches = in_batches(scale_hot.launches())
                send_batches(server.port, launches, total=scale_hot.HOT + 1)
                plan = scale_hot.Plan(server.port, rate, seconds, mode)
                found.append(grounds.load(HOT, plan, limit_s=seconds + LOAD_EXTRA_S))
    p99 = {mode: median(map(_p99_ms, found)) for mode, found in outcomes.items()}
    late_ms = median(outcome.details["latenessP99Ms"] for outcome in outcomes["hot"])
    note = (
        f"{rate:,.0f}/s together, {rate / scale_hot.OTHERS_EVERY:,.0f}/s of the others; with "
        f"these alone, a tenth of the load, their p99 is {p99['alone']:.2f} ms; "
        f"p99 of the sender's own lateness: {late_ms:.2f} ms"
    )
    details = {"rate": rate, "aloneP99Ms": p99["alone"]}
    return {"hot-rocket": Found(p99["hot"], p99["even"], note, details)}


def _p99_ms(outcome: Outcome) -> float:
    assert outcome.p99_ms is not None, "an open loop has percentiles"
    return outcome.p99_ms
