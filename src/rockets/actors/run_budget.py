"""How many runs behind a gap all ledgers hold together, so that gaps cannot use up the memory.

Such a run costs about 300 bytes, so the limits of `settings` bound them at some 75 MB.
The run that starts at number 1 does not count: a rocket without a gap costs nothing here.
"""


class RunBudget:
    """Counts open runs; an actor reserves before its commit and settles after it."""

    def __init__(self, *, total_max: int, rocket_max: int) -> None:
        self._total_max = total_max
        self._rocket_max = rocket_max
        self.used = 0

    def gaps_max(self, gap_count: int) -> int:
        """Say how many runs behind a gap a ledger that has `gap_count` now may have."""
        return min(self._rocket_max, gap_count + max(0, self._total_max - self.used))

    def change(self, runs: int) -> None:
        """Count runs opened (positive) or closed (negative)."""
        self.used += runs
