"""What readers of the live feed cost: the server's time for a message, memory, and its stop.

Each round runs two fresh servers under the same load, one without readers and one with, so that
both meet the same machine.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import monotonic
from urllib.parse import urlsplit

import msgspec

from rockets.bench import wrk
from rockets.bench.feed_readers import Plan
from rockets.bench.outcome import MeasurementFailed
from rockets.bench.processes import STOP_S, Cores, finish, last_line, read_line, running
from rockets.bench.scale_stand import cpu_seconds, status_bytes
from rockets.bench.stand import LOAD_EXTRA_S
from rockets.bench.wrk import TIMEOUT_S, Load

READERS = "rockets.bench.feed_readers"

# With half of the readers reading and the other half silent.
COST_MAX = 1.10
MEMORY_MAX_BYTES = 60 * 1024 * 1024
STOP_MAX_S = 10.0


class Run(msgspec.Struct, frozen=True, rename="camel"):
    """What one server took."""

    messages: int
    cpu_s: float
    memory_bytes: int
    stop_s: float

    @property
    def message_us(self) -> float:
        """The server's time for a message, in microseconds."""
        return self.cpu_s / self.messages * 1e6


class Round(msgspec.Struct, frozen=True):
    """The same load without readers and with them."""

    without: Run
    beside: Run

    @property
    def cost(self) -> float:
        """How many times as much a message took."""
        return self.beside.message_us / self.without.message_us

    @property
    def memory_bytes(self) -> int:
        """How much more memory the server had in the end."""
        return self.beside.memory_bytes - self.without.memory_bytes


class FeedCost(msgspec.Struct, frozen=True):
    """All rounds, and whether they are within what readers may cost."""

    readers: int
    rounds: list[Round]

    def lines(self) -> list[str]:
        """Say what was found and what is allowed."""
        without = median(each.without.message_us for each in self.rounds)
        beside = median(each.beside.message_us for each in self.rounds)
        costs = ", ".join(f"{each.cost:.3f}" for each in self.rounds)
        return [
            f"readers              {self.readers}, half of them silent",
            f"time for a message   {without:.1f} µs, with readers {beside:.1f} µs",
            f"  times as much      {self._cost:.3f} (≤ {COST_MAX:.2f}; {costs})",
            f"memory               {self._memory_bytes / 2**20:+.1f} MiB "
            f"(≤ {MEMORY_MAX_BYTES / 2**20:.0f})",
            f"stop                 {self._stop_s:.2f} s (≤ {STOP_MAX_S:g})",
        ]

    @property
    def passed(self) -> bool:
        """Whether all of it is allowed."""
        return (
            self._cost <= COST_MAX
            and self._memory_bytes <= MEMORY_MAX_BYTES
            and self._stop_s <= STOP_MAX_S
        )

    @property
    def _cost(self) -> float:
        return median(each.cost for each in self.rounds)

    @property
    def _memory_bytes(self) -> float:
        return median(each.memory_bytes for each in self.rounds)

    @property
    def _stop_s(self) -> float:
        return max(each.beside.stop_s for each in self.rounds)


def measure(
    *, rounds: int, seconds: int, readers: int, cores: Cores, say: Callable[[str], None]
) -> FeedCost:
    """Run all rounds; MeasurementFailed where one has no figure."""
    found = []
    with TemporaryDirectory(prefix="rockets-bench-feed-") as directory:
        for number in range(rounds):
            place = Path(directory) / str(number)
            place.mkdir()
            stand = _Stand(place, cores=cores, seconds=seconds)
            found.append(Round(stand.run(0), stand.run(readers)))
            say(f"round {number + 1} of {rounds}: {found[-1].cost:.3f}")
    return FeedCost(readers, found)


class _Stand:
    """Runs one server after the other, each with a database of its own."""

    def __init__(self, directory: Path, *, cores: Cores, seconds: int) -> None:
        self._directory = directory
        self._cores = cores
        self._seconds = seconds

    def run(self, readers: int) -> Run:
        log = self._directory / f"server-{readers}.log"
        database = self._directory / f"{readers}.db"
        flags = ("--port", "0", "--database", str(database))
        serve = [sys.executable, "-m", "rockets", "serve", *flags]
        with running(serve, core=self._cores.server, log=log) as process:
            url = read_line(process, log).rpartition(" ")[2]
            if not readers:
                messages, cpu_s, memory = self._load(process.pid, url)
                stop_s = self._stop(process.terminate, process.wait)
            else:
                port = urlsplit(url).port
                assert port is not None
                plan = msgspec.json.encode(Plan(port, readers // 2, readers - readers // 2))
                read = [sys.executable, "-m", READERS, plan.decode()]
                reader_log = self._directory / "readers.log"
                with running(read, core=self._cores.load, log=reader_log) as others:
                    read_line(others, reader_log)
                    messages, cpu_s, memory = self._load(process.pid, url)
                    if others.poll() is not None:
                        raise MeasurementFailed(f"the readers ended: {last_line(reader_log)}")
                    stop_s = self._stop(process.terminate, process.wait)
            if process.returncode != 0:
                raise MeasurementFailed(f"the server ended with code {process.returncode}")
        return Run(messages, cpu_s, memory, stop_s)

    def _load(self, pid: int, url: str) -> tuple[int, float, int]:
        before = cpu_seconds(_proc(pid, "stat"))
        limit_s = self._seconds + TIMEOUT_S + LOAD_EXTRA_S
        command = wrk.command("wrk", Load("distinct"), url, self._seconds)
        log = self._directory / "load.log"
        outcome = wrk.parse(finish(command, core=self._cores.load, log=log, limit_s=limit_s))
        cpu_s = cpu_seconds(_proc(pid, "stat")) - before
        return int(outcome.details["posts"]), cpu_s, status_bytes(_proc(pid, "status"), "VmRSS")

    def _stop(self, terminate: Callable[[], None], wait: Callable[[float], int]) -> float:
        began = monotonic()
        terminate()
        wait(STOP_S)
        return monotonic() - began


def _proc(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()
