"""What readers of the live feed may cost, and a run of the command that measures it."""

import shutil
import sys
from pathlib import Path

import msgspec
import pytest
import trio

from rockets.bench.feed_cost import COST_MAX, MEMORY_MAX_BYTES, STOP_MAX_S, FeedCost, Round, Run

MIB = 1024 * 1024


def found(*, cpu_s: float = 1.0, memory_bytes: int = 100 * MIB, stop_s: float = 0.1) -> FeedCost:
    """Make a result in which the server without readers took 1 s and 100 MiB."""
    without = Run(10_000, 1.0, 100 * MIB, 0.1)
    return FeedCost(200, [Round(without, Run(10_000, cpu_s, memory_bytes, stop_s))])


@pytest.mark.parametrize(
    ("cost", "passed"),
    [
        (found(), True),
        (found(cpu_s=COST_MAX), True),
        (found(cpu_s=COST_MAX + 0.001), False),
        (found(memory_bytes=100 * MIB + MEMORY_MAX_BYTES), True),
        (found(memory_bytes=100 * MIB + MEMORY_MAX_BYTES + 1), False),
        (found(stop_s=STOP_MAX_S), True),
        (found(stop_s=STOP_MAX_S + 0.01), False),
    ],
)
def test_readers_may_cost_so_much_and_no_more(cost: FeedCost, passed: bool) -> None:
    assert cost.passed is passed


def test_the_figures_are_those_of_the_median_round_and_the_longest_stop() -> None:
    cost = FeedCost(200, [*found(stop_s=3.0).rounds, *found(cpu_s=1.05).rounds * 2])

    assert "  times as much      1.050 (≤ 1.10; 1.000, 1.050, 1.050)" in cost.lines()
    assert "time for a message   100.0 µs, with readers 105.0 µs" in cost.lines()
    assert "stop                 3.00 s (≤ 10)" in cost.lines()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("wrk") is None, reason="`make bench-tools` installs wrk")
async def test_a_run_measures_both_servers(tmp_path: Path) -> None:
    file = tmp_path / "feed.json"
    flags = ("--rounds", "1", "--seconds", "1", "--readers", "4", "--json", str(file))
    done = await trio.run_process(
        [sys.executable, "-m", "rockets", "bench-feed", *flags], capture_stdout=True, check=False
    )

    # On a busy machine one second may miss what is allowed; that it was measured is what counts.
    assert done.returncode in {0, 1}
    assert done.stdout.startswith(b"readers              4, half of them silent\n")
    [measured] = msgspec.json.decode(file.read_bytes(), type=FeedCost).rounds
    assert min(measured.without.messages, measured.beside.messages) > 0
    assert min(measured.without.cpu_s, measured.beside.cpu_s) > 0
