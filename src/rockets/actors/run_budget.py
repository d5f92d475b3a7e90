"""How many runs all ledgers hold together, so that gaps cannot use up the memory.

A run costs about 300 bytes, so the limits of `settings` bound the ledgers at some 75 MB.
"""


class RunBudget:
    """Counts open runs; an actor reserves before its commit and settles after it."""

    def __init__(self, *, total_max: int, rocket_max: int) -> None:
        self._total_max = total_max
        self._rocket_max = rocket_max
        self.used = 0

    def runs_max(self, run_count: int) -> int:
        """Say how many runs a ledger that has `run_count` now may have."""
        return min(self._rocket_max, run_count + max(0, self._total_max - self.used))

    def change(self, runs: int) -> None:
        """Count runs opened (positive) or closed (negative)."""
        self.used += runs
