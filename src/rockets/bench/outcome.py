"""What one measurement found in one round, and how several become one figure.

A figure over error answers is a lie, so a measurement that saw one has no figure: it failed.
"""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from statistics import median

import msgspec


class MeasurementFailed(Exception):
    """A measurement has no figure; the text says why in one line."""


class Outcome(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """One measurement of one round.

    `rate` is per second: answers, messages, commits or rows, as the measurement counts.
    The percentiles are of one request or one commit; `details` has what else was counted.
    """

    rate: float
    p50_ms: float | None = None
    p99_ms: float | None = None
    details: Mapping[str, float] = {}


class Failed(msgspec.Struct, frozen=True):
    """A measurement that has no figure in this round, and why."""

    failure: str


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least this share of all values does not exceed.

    The values must be sorted and at least one.
    """
    return values[max(0, math.ceil(share * len(values)) - 1)]


def median_of(outcomes: Sequence[Outcome]) -> Outcome:
    """Return the medians, each figure by itself; details that every round has."""
    shared = set.intersection(*(set(outcome.details) for outcome in outcomes))
    return Outcome(
        rate=median(outcome.rate for outcome in outcomes),
        p50_ms=_median([outcome.p50_ms for outcome in outcomes]),
        p99_ms=_median([outcome.p99_ms for outcome in outcomes]),
        details={
            key: median(outcome.details[key] for outcome in outcomes)
            for key in outcomes[0].details
            if key in shared
        },
    )


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def tell(measure: Callable[[], Outcome]) -> None:
    """End a process that measures: its outcome as JSON on stdout, or why it failed on stderr."""
    try:
        outcome = measure()
    except MeasurementFailed as error:
        sys.exit(str(error))
    sys.stdout.write(msgspec.json.encode(outcome).decode() + "\n")
