"""The report of one run: every round, what came of it, and on what machine. Written as JSON."""

from collections.abc import Iterable
from datetime import datetime
from statistics import median

import msgspec

from rockets.bench.cases import CASES
from rockets.bench.machine import Machine
from rockets.bench.outcome import Failed, Outcome, median_of
from rockets.bench.rounds import Rounds
from rockets.bench.verdict import NOTHING, Verdict, judge

REFERENCE_HEADINGS = ("reference", "rate", "p50", "p99")


class Report(msgspec.Struct, frozen=True, rename="camel"):
    """Everything one run has to say; `measured` has all rounds of every measurement."""

    command: str
    started: datetime
    rounds: int
    seconds: int
    machine: Machine
    verdicts: list[Verdict]
    measured: dict[str, list[Outcome | Failed]]

    @property
    def passed(self) -> bool:
        """Whether every case reached what it must."""
        return all(verdict.passed for verdict in self.verdicts)

    def encode(self) -> bytes:
        """Write it as JSON, indented for a reader."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


def make_report(
    names: Iterable[str],
    measured: Rounds,
    *,
    command: str,
    started: datetime,
    rounds: int,
    seconds: int,
    machine: Machine,
) -> Report:
    """Judge the cases and put everything together."""
    verdicts = [judge(CASES[name], measured) for name in names]
    return Report(command, started, rounds, seconds, machine, verdicts, measured)


def reference_rows(report: Report) -> list[tuple[str, str, str, str]]:
    """Write one row for each reference, under REFERENCE_HEADINGS: medians over the rounds."""
    rows: list[tuple[str, str, str, str]] = []
    for name in report.measured:
        good = [result for result in report.measured[name] if isinstance(result, Outcome)]
        if name in CASES:
            continue
        if len(good) < len(report.measured[name]):
            rows.append((name, "failed", NOTHING, NOTHING))
            continue
        middle = median_of(good)
        rows.append((name, f"{middle.rate:,.0f}/s", _ms(middle.p50_ms), _ms(middle.p99_ms)))
    return rows


def circumstances(report: Report) -> list[str]:
    """Say in sentences when, how and on what it was measured."""
    machine = report.machine
    spreads = [_spread(results) for results in report.measured.values()]
    sentences = [
        f"Measured on {report.started:%Y-%m-%d} with `{report.command}`; "
        "every figure is the median over the rounds.",
        *machine.sentences(),
    ]
    if report.rounds == 1:
        sentences.append("One round only: nothing is known about how far such figures scatter.")
    else:
        sentences.append(
            f"From round to round a rate differed by {median(spreads):.0%} in the middle of all "
            f"measurements and by {max(spreads):.0%} at most."
        )
    return [*sentences, *machine.doubts()]


def _spread(results: list[Outcome | Failed]) -> float:
    """Tell how far apart highest and lowest rate are, as a share of the middle one."""
    rates = [result.rate for result in results if isinstance(result, Outcome)]
    return (max(rates) - min(rates)) / median(rates) if rates else 0.0


def _ms(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.2f} ms"
