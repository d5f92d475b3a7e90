"""The report of a run at scale: as JSON, and as a section of docs/performance.md."""

from collections.abc import Iterable, Mapping
from datetime import datetime

import msgspec

from rockets.bench.machine import Machine
from rockets.bench.outcome import Failed
from rockets.bench.page import put, table
from rockets.bench.scale_cases import CASES
from rockets.bench.scale_found import HEADINGS, Found, cells
from rockets.bench.verdict import Verdict, remarks

BEGIN = "<!-- bench-scale: begin; written by `make bench-scale`, changes here are lost -->"
END = "<!-- bench-scale: end -->"


class ScaleReport(msgspec.Struct, frozen=True, rename="camel"):
    """Everything one run at scale has to say."""

    command: str
    started: datetime
    scale: int
    rounds: int
    seconds: int
    machine: Machine
    verdicts: list[Verdict]
    found: Mapping[str, Found | Failed]

    @property
    def passed(self) -> bool:
        """Whether every row reached what it must."""
        return all(verdict.passed for verdict in self.verdicts)

    def encode(self) -> bytes:
        """Write it as JSON, indented for a reader."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


def judge(found: Mapping[str, Found | Failed]) -> list[Verdict]:
    """Give the verdict on every row that was measured, in the order of the table."""
    rows = (row for case in CASES.values() for row in case.rows)
    return [row.judge(found[row.name]) for row in rows if row.name in found]


def circumstances(report: ScaleReport) -> list[str]:
    """Say in sentences when, how and on what it was measured."""
    size = "" if report.scale == 1 else f" Rockets and messages are 1/{report.scale:,} of it."
    return [
        f"Measured on {report.started:%Y-%m-%d} with `{report.command}`, wrk for "
        f"{report.seconds} s at a time.{size}",
        *report.machine.sentences(),
        *report.machine.doubts(),
    ]


def fill(page: str, report: ScaleReport) -> str:
    """Return the page with the figures of this run; PageUnmarked without a place for them."""
    return put(page, BEGIN, END, _section(report))


def _section(report: ScaleReport) -> str:
    measured = {verdict.case for verdict in report.verdicts}
    parts = (
        "\n".join(circumstances(report)),
        table(HEADINGS, map(cells, report.verdicts)),
        "\n".join(f"- {remark}" for remark in remarks(report.verdicts)),
        "The cases at scale:",
        table(("case", "load"), _loads(measured)),
    )
    return "\n\n".join(part for part in parts if part) + "\n"


def _loads(measured: Iterable[str]) -> list[tuple[str, str]]:
    names = set(measured)
    return [
        (", ".join(row.name for row in case.rows), case.load)
        for case in CASES.values()
        if names & {row.name for row in case.rows}
    ]
