"""The cases of one instance at scale: what is measured, and what it must reach."""

from collections.abc import Callable, Iterable, Mapping

import msgspec

from rockets.bench import scale_bounds, scale_rates
from rockets.bench.outcome import Failed, MeasurementFailed
from rockets.bench.scale_bounds import START_CLEAN_MAX_S, START_KILLED_MAX_S
from rockets.bench.scale_found import Found, Row
from rockets.bench.scale_shelf import Shelf
from rockets.bench.scale_stand import Grounds

Measure = Callable[[Grounds, Shelf], dict[str, Found]]
"""Measures a case; gives what it found by the names of its rows, or raises MeasurementFailed."""


class Case(msgspec.Struct, frozen=True):
    """One case and its rows."""

    name: str
    load: str
    measure: Measure
    rows: tuple[Row, ...]


def _case(measure: Measure, load: str, *rows: Row, name: str | None = None) -> Case:
    return Case(name or rows[0].name, load, measure, rows)


# Those that share a fleet stand together; a load takes minutes.
CASES: Mapping[str, Case] = {
    case.name: case
    for case in (
        _case(
            scale_bounds.memory,
            "resident memory for each idle rocket of 1,000,000, the whole process without what "
            "an empty one takes; the larger of after loading, when all is idle, and after a "
            "restart",
            Row("memory", " B", "at most", 1024),
        ),
        _case(
            scale_rates.single_million,
            "POST, 64 connections, `full`, 1,000,000 rockets in turn; the same with 20 rockets",
            Row("single-million", "/s", "ratio at least", 0.5, "20 rockets"),
        ),
        _case(
            scale_rates.batch_million,
            "NDJSON of 1,000 messages of as many of 1,000,000 rockets, 2 connections, `full`; a "
            "bare `executemany` of the same rows into a copy of the same database",
            Row("batch-million", "/s", "ratio at least", 0.6, "executemany"),
        ),
        _case(
            scale_bounds.fleet_list,
            "`GET /rockets?sort=-speed&limit=100` over 1,000,000 rockets, every 200 ms, under "
            "POST on 64 connections, `full`; processor time of the server for each message, "
            "with these queries and without",
            Row("list-p99", " ms", "at most", 150),
            Row("list-cpu", " µs", "ratio at most", 1.15, "without queries"),
            name="list",
        ),
        _case(
            scale_bounds.start_clean,
            "from exec to the open port, 1,000,000 rockets with 10 messages each, after a clean "
            "stop",
            Row("start-clean", " s", "at most", START_CLEAN_MAX_S),
        ),
        _case(
            scale_bounds.start_killed,
            "the same after SIGKILL under load; every acknowledged message must be there",
            Row("start-killed", " s", "at most", START_KILLED_MAX_S),
        ),
        _case(
            scale_rates.history,
            "POST, 64 connections, `full`, 20 rockets, 10,000,000 messages in the journal; the "
            "same with an empty one",
            Row("history", "/s", "ratio at least", 0.8, "an empty journal"),
        ),
        _case(
            scale_bounds.reverse,
            "1,000,000 messages of one rocket in reverse order; growth of resident memory",
            Row("reverse", " MiB", "at most", 64),
        ),
        _case(
            scale_rates.hot_rocket,
            "one rocket has 90 % of the messages, on a schedule at a quarter of what is possible; "
            "p99 of the others' messages, and of the same ones at the same times when the 90 % are "
            "spread over other rockets",
            Row("hot-rocket", " ms", "ratio at most", 2, "an even load"),
        ),
    )
}


def run(names: Iterable[str], grounds: Grounds) -> dict[str, Found | Failed]:
    """Measure these cases in the order of the table; one that fails leaves the others."""
    shelf = Shelf(grounds)
    chosen = set(names)
    found: dict[str, Found | Failed] = {}
    for case in CASES.values():
        if case.name not in chosen:
            continue
        grounds.say(f"{case.name}: begins")
        results = _attempt(case, grounds, shelf)
        for row in case.rows:
            found[row.name] = results[row.name]
            grounds.say(f"{row.name}: {_words(row, results[row.name])}")
    return found


def _attempt(case: Case, grounds: Grounds, shelf: Shelf) -> Mapping[str, Found | Failed]:
    try:
        return case.measure(grounds, shelf)
    except (MeasurementFailed, OSError, msgspec.DecodeError) as error:
        return {row.name: Failed(str(error)) for row in case.rows}


def _words(row: Row, result: Found | Failed) -> str:
    if isinstance(result, Failed):
        return f"failed: {result.failure}"
    reference = "" if result.reference is None else f", {row.reference}: {result.reference:,.2f}"
    return f"{result.ours:,.2f}{row.unit}{reference}, target {row.target}"
