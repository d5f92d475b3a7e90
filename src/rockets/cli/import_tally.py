"""What has become of the lines of an import so far."""

from bisect import insort
from collections import Counter
from time import perf_counter
from typing import get_args

import msgspec

from rockets.domain.ledger import Outcome

FAULTS_SHOWN_MAX = 20


class Fault(msgspec.Struct, frozen=True, order=True):
    """A line that is not stored as it is, and why, in one line of text."""

    line: int
    text: str


class ImportTally:
    """Counts lines; of the faults it keeps those with the lowest line numbers."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.problems = 0
        self.first_faults: list[Fault] = []
        # Every line up to this one is settled: stored, or told of as a fault.
        self.settled_through = 0
        self.read_through = 0
        self._begins: list[int] = []
        self._started_at = perf_counter()

    @property
    def lines(self) -> int:
        """How many lines are settled, blank ones aside."""
        return self.outcomes.total() + self.problems

    @property
    def faults(self) -> int:
        """How many lines are not stored as they are."""
        return self.problems + self.outcomes["conflict"]

    def begin(self, through: int) -> int:
        """Note that the lines up to this one are under way; returns the first of them."""
        begin, self.read_through = self.read_through + 1, through
        insort(self._begins, begin)
        return begin

    def settle(self, begin: int) -> None:
        """Note that the lines that begin here are settled."""
        self._begins.remove(begin)
        self.settled_through = min(self._begins, default=self.read_through + 1) - 1

    def add_problem(self, line: int, text: str) -> None:
        """Count a line that is not stored."""
        self.problems += 1
        self._add_fault(Fault(line, text))

    def add_conflict(self, line: int) -> None:
        """Name a line whose number is stored with other content; its outcome is counted besides."""
        self._add_fault(Fault(line, "conflict: other content is stored under this number"))

    def _add_fault(self, fault: Fault) -> None:
        insort(self.first_faults, fault)
        del self.first_faults[FAULTS_SHOWN_MAX:]

    def table(self) -> list[str]:
        """Return what ends a run: a table, and the first faults."""
        elapsed_s = perf_counter() - self._started_at
        rows = [
            ("lines", f"{self.lines}"),
            *((outcome, f"{self.outcomes[outcome]}") for outcome in get_args(Outcome)),
            ("problems", f"{self.problems}"),
            ("duration", f"{elapsed_s:.2f} s"),
            ("rate", f"{self.lines / max(elapsed_s, 1e-9):.0f} /s"),
        ]
        width = max(len(value) for _, value in rows)
        shown = [f"line {fault.line}: {fault.text}" for fault in self.first_faults]
        if self.faults > len(shown):
            shown.append(f"and {self.faults - len(shown)} more")
        return [*(f"{name:<12}{value:>{width}}" for name, value in rows), *shown]
