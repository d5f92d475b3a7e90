"""What a case at scale found, what it must reach, and whether it did."""

from collections.abc import Mapping
from typing import Literal

import msgspec

from rockets.bench.outcome import Failed
from rockets.bench.verdict import HEADINGS as BENCH_HEADINGS
from rockets.bench.verdict import Verdict
from rockets.bench.verdict import cells as bench_cells

# Nothing here is compared with the no-op, which has the last column.
HEADINGS = BENCH_HEADINGS[:-1]


class Found(msgspec.Struct, frozen=True, omit_defaults=True):
    """The figure of one row, what it is compared with, and what else there is to say."""

    ours: float
    reference: float | None = None
    note: str | None = None
    details: Mapping[str, float] = {}


class Row(msgspec.Struct, frozen=True):
    """One row: its unit, and the bound of its ratio or of its figure itself."""

    name: str
    unit: str
    bound: Literal["ratio at least", "ratio at most", "at most"]
    limit: float
    reference: str | None = None

    @property
    def target(self) -> str:
        """The bound in a few signs."""
        if self.bound == "at most":
            return f"≤ {self.limit:,g}{self.unit}"
        return f"{'≥' if self.bound == 'ratio at least' else '≤'} {self.limit:g} x"

    def judge(self, found: Found | Failed) -> Verdict:
        """Say whether the figure is within the bound; what failed is not."""
        if isinstance(found, Failed):
            return Verdict(self.name, self.target, False, unit=self.unit, failure=found.failure)
        ratio = None if found.reference is None else found.ours / found.reference
        if self.bound == "at most":
            reached = found.ours <= self.limit
        else:
            assert ratio is not None, "a ratio needs a reference"
            reached = ratio >= self.limit if self.bound == "ratio at least" else ratio <= self.limit
        return Verdict(
            self.name,
            self.target,
            reached,
            unit=self.unit,
            ours=found.ours,
            reference=found.reference,
            reference_name=self.reference,
            ratio=ratio,
            note=found.note,
        )


def cells(verdict: Verdict) -> tuple[str, ...]:
    """Write a row, one text for each heading."""
    return bench_cells(verdict)[:-1]
