"""Compares a case with its reference and says whether it reached its target.

Both figures are medians over the rounds.
A case of which any round failed has no figure and did not reach anything.
"""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import assert_never

import msgspec

from rockets.bench.cases import (
    IN_FLIGHT_MAX,
    TIMES_NO_OP_MIN,
    AtLeast,
    Case,
    LanesHold,
    NoTarget,
    P99AtMost,
)
from rockets.bench.outcome import Failed, Outcome, median_of
from rockets.bench.rounds import failures

HEADINGS = ("case", "ours", "reference", "ratio", "target", "reached", "x no-op")
NOTHING = "-"
# Figures in other units have two decimals.
WHOLE_UNITS = ("/s", " B")


class Verdict(msgspec.Struct, frozen=True, rename="camel"):
    """One case: both figures in `unit`, and what came of the comparison.

    `ten_times` says whether `times_no_op` is enough; None where that is not asked.
    """

    case: str
    target: str
    reached: bool
    unit: str = "/s"
    ours: float | None = None
    reference: float | None = None
    reference_name: str | None = None
    ratio: float | None = None
    times_no_op: float | None = None
    ten_times: bool | None = None
    failure: str | None = None
    note: str | None = None

    @property
    def passed(self) -> bool:
        """Whether everything that is asked of the case is so."""
        return self.reached and self.ten_times is not False


def judge(case: Case, results: Mapping[str, Sequence[Outcome | Failed]]) -> Verdict:
    """Give the verdict on one case, from what every round found."""
    target = str(case.target)
    for name in (case.name, *sorted(case.needs - {case.name})):
        if failed := failures(results[name]):
            source = "" if name == case.name else f"{name}: "
            return Verdict(case.name, target, False, failure=source + "; ".join(failed))
    rounds = _outcomes(results[case.name])
    ours = median_of(rounds)
    reference = median_of(_outcomes(results[case.reference])) if case.reference else None
    times = ours.rate / median_of(_outcomes(results[case.no_op])).rate if case.no_op else None
    verdict = Verdict(
        case.name,
        target,
        False,
        ours=ours.rate,
        reference=reference.rate if reference else None,
        reference_name=case.reference,
        times_no_op=times,
        ten_times=None if times is None else times >= TIMES_NO_OP_MIN,
    )
    match case.target:
        case AtLeast() as at_least:
            assert reference is not None, "a rate is compared with another"
            return _at_least(verdict, at_least, ours, reference)
        case P99AtMost() as at_most:
            assert reference is not None, "a percentile is compared with another"
            return _p99_at_most(verdict, at_most, ours, reference)
        case LanesHold():
            return _lanes_hold(verdict, rounds)
        case NoTarget():
            assert case.reference is not None, "a rate is compared with another"
            return _no_target(verdict, rounds, _outcomes(results[case.reference]))
        case other:
            assert_never(other)


def _outcomes(results: Sequence[Outcome | Failed]) -> list[Outcome]:
    return [result for result in results if isinstance(result, Outcome)]


def _at_least(verdict: Verdict, target: AtLeast, ours: Outcome, reference: Outcome) -> Verdict:
    ratio = ours.rate / reference.rate
    fast_enough = target.rate is not None and ours.rate >= target.rate
    return msgspec.structs.replace(
        verdict, ratio=ratio, reached=ratio >= target.factor or fast_enough
    )


def _p99_at_most(verdict: Verdict, target: P99AtMost, ours: Outcome, reference: Outcome) -> Verdict:
    assert ours.p99_ms is not None
    assert reference.p99_ms is not None
    late_ms = ours.details["latenessP99Ms"]
    return msgspec.structs.replace(
        verdict,
        unit=" ms",
        ours=ours.p99_ms,
        reference=reference.p99_ms,
        ratio=ours.p99_ms / reference.p99_ms,
        reached=ours.p99_ms <= target.factor * reference.p99_ms + target.extra_ms,
        note=f"sent {ours.rate:,.0f}/s; p99 of the sender's own lateness: {late_ms:.2f} ms",
    )


def _no_target(
    verdict: Verdict, rounds: Sequence[Outcome], references: Sequence[Outcome]
) -> Verdict:
    """Compare round by round: with a server between them both figures scatter much."""
    ratios = [one.rate / other.rate for one, other in zip(rounds, references, strict=True)]
    ours, reference = median_of(rounds), median_of(references)
    return msgspec.structs.replace(
        verdict,
        ratio=median(ratios),
        reached=True,
        note=(
            f"ratios from {min(ratios):.2f} to {max(ratios):.2f}; "
            f"{ours.details['recordsPerCommit']:,.0f} records to a commit, the reference has "
            f"{reference.details['rows'] / reference.details['commits']:,.0f}; "
            f"p50 {ours.p50_ms:.2f} ms, p99 {ours.p99_ms:.2f} ms"
        ),
    )


def _lanes_hold(verdict: Verdict, rounds: Sequence[Outcome]) -> Verdict:
    wrong = [outcome.details for outcome in rounds if not _hold(outcome.details)]
    shown = wrong[0] if wrong else rounds[-1].details
    return msgspec.structs.replace(
        verdict,
        reached=not wrong,
        note=(
            f"{shown['lent']:,.0f} lent for {shown['gets']:,.0f} GETs sent, "
            f"{shown['fast']:,.0f} answered fast for {shown['posts']:,.0f} POSTs sent"
        ),
    )


def _hold(details: Mapping[str, float]) -> bool:
    """Whether the counts of both lanes are those of what was sent.

    The health request that asked for the counts may be among the lent ones.
    What was under way at the end may be missing, of both kinds together one per connection.
    """
    fast_missing = details["posts"] - details["fast"]
    lent_missing = details["gets"] - details["lent"]
    return (
        fast_missing >= 0
        and lent_missing >= -1
        and max(0, lent_missing) + fast_missing <= IN_FLIGHT_MAX
    )


def cells(verdict: Verdict) -> tuple[str, ...]:
    """Write the row of a case, one text for each heading."""
    ratio = NOTHING if verdict.ratio is None else f"{verdict.ratio:.2f} x"
    reached = "failed" if verdict.failure else _yes(verdict.reached)
    if verdict.target == str(NoTarget()) and verdict.reached:
        reached = NOTHING
    times = NOTHING
    if verdict.times_no_op is not None:
        enough = "" if verdict.ten_times else f", not {TIMES_NO_OP_MIN:g}"
        times = f"{verdict.times_no_op:.1f} x{enough}"
    return (
        verdict.case,
        _figure(verdict.ours, verdict.unit),
        _figure(verdict.reference, verdict.unit),
        ratio,
        verdict.target,
        reached,
        times,
    )


def remarks(verdicts: Sequence[Verdict]) -> list[str]:
    """Return what is to be said below the table: every failure, and what a note explains."""
    return [
        f"{verdict.case}: {verdict.failure or verdict.note}"
        for verdict in verdicts
        if verdict.failure or verdict.note
    ]


def _yes(reached: bool) -> str:
    return "yes" if reached else "NO"


def _figure(value: float | None, unit: str) -> str:
    if value is None:
        return NOTHING
    return f"{value:,.0f}{unit}" if unit in WHOLE_UNITS else f"{value:,.2f}{unit}"
