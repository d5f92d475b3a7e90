"""How often the tests of faults do a thing: one variable, a twentieth of the whole unless told.

`ROCKETS_FAULT_ROUNDS=100`, as `make nightly` sets it, is the whole: 100 rounds of each fault of
a network, 50 of each kill, 10,000 reads behind a write. CI runs with 5.
"""

import os
from math import ceil

WHOLE = 100

# Taken out, because the service refuses variables of its prefix that it does not know.
ROUNDS = int(os.environ.pop("ROCKETS_FAULT_ROUNDS", "5"))


def rounds(whole: int) -> int:
    """Say how many of so many rounds are run."""
    return max(1, ceil(whole * ROUNDS / WHOLE))
