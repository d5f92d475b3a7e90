"""The stand for one instance at scale: a server on a database that stays, and what it takes.

What a server takes is read where Linux tells it: resident memory and processor time.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from time import monotonic, perf_counter, sleep
from urllib.parse import urlsplit

import msgspec

from rockets.bench import wrk
from rockets.bench.outcome import MeasurementFailed, Outcome
from rockets.bench.processes import Cores, finish, last_line, read_line, running
from rockets.bench.scale_march import March
from rockets.bench.stand import LOAD_EXTRA_S, ask

# Far beyond what a start may take, so that a slow one has a figure too.
START_LIMIT_S = 900.0
# A clean stop writes every ledger that has changed.
STOP_LIMIT_S = 120.0
IDLE_LIMIT_S = 90.0


class Health(msgspec.Struct, frozen=True):
    """What a measurement needs of GET /health."""

    counts: dict[str, int]


class Server:
    """A running server: where it listens, how long its start took, and what it takes."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, start_s: float) -> None:
        self._process = process
        self.url = url
        self.start_s = start_s
        self.is_killed = False

    @property
    def port(self) -> int:
        """The port, on 127.0.0.1."""
        port = urlsplit(self.url).port
        assert port is not None, "the server says where it listens"
        return port

    @property
    def resident(self) -> int:
        """Bytes of memory it has now."""
        return self._status("VmRSS")

    @property
    def resident_peak(self) -> int:
        """The most bytes of memory it has had."""
        return self._status("VmHWM")

    @property
    def cpu_s(self) -> float:
        """Processor time of all its threads so far, to the hundredth of a second."""
        return cpu_seconds(_read(Path(f"/proc/{self._process.pid}/stat")))

    def counts(self) -> dict[str, int]:
        """Return what GET /health counts."""
        return msgspec.json.decode(ask(self.url, "GET", "/health"), type=Health).counts

    def wait_until_idle(self, limit_s: float = IDLE_LIMIT_S) -> bool:
        """Wait until no rocket has an actor; says whether it came to that in time."""
        deadline = monotonic() + limit_s
        while self.counts().get("liveActors", 0) > 0:
            if monotonic() > deadline:
                return False
            sleep(0.5)
        return True

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.is_killed = True
        self._process.kill()
        self._process.wait()

    def _status(self, field: str) -> int:
        return status_bytes(_read(Path(f"/proc/{self._process.pid}/status")), field)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise MeasurementFailed(f"the server cannot be looked at: {error}") from error


def status_bytes(status: str, field: str) -> int:
    """Read a size out of /proc/PID/status; MeasurementFailed where it is missing."""
    found = re.search(rf"^{field}:\s+(\d+) kB$", status, re.MULTILINE)
    if found is None:
        raise MeasurementFailed(f"the server's status has no {field}")
    return int(found[1]) * 1024


def cpu_seconds(stat: str) -> float:
    """Read user and system time out of /proc/PID/stat, where the name may have blanks in it."""
    fields = stat.rpartition(")")[2].split()
    try:
        ticks = int(fields[11]) + int(fields[12])
    except (IndexError, ValueError) as error:
        raise MeasurementFailed("the server's processor time cannot be read") from error
    return ticks / os.sysconf("SC_CLK_TCK")


class Grounds:
    """Runs servers on one core and loads on another, with databases in a directory.

    `flags` go to every server; a benchmark has none, since defaults are what counts.
    """

    def __init__(
        self,
        directory: Path,
        *,
        cores: Cores,
        scale: int,
        seconds: int,
        rounds: int,
        wrk: str | None,
        say: Callable[[str], None],
        flags: Sequence[str] = (),
    ) -> None:
        self.directory = directory
        self.cores = cores
        self.scale = scale
        self.seconds = seconds
        self.rounds = rounds
        self.say = say
        self._wrk = wrk
        self._flags = flags
        self._load_log = directory / "load.log"

    def scaled(self, count: int, at_least: int) -> int:
        """Divide a number of rockets or messages by the scale."""
        return max(at_least, count // self.scale)

    @contextmanager
    def server(self, database: Path, durability: str = "full") -> Iterator[Server]:
        """Run a server on a database until the block ends.

        MeasurementFailed when it does not start, and when it was not killed and does not end with
        code 0.
        """
        log = self.directory / "server.log"
        # A clean stop of a million rockets keeps all their ledgers first, as long as it takes.
        grace = ("--shutdown-grace-s", str(STOP_LIMIT_S - 5))
        flags = ("--port", "0", "--durability", durability, *grace, *self._flags)
        serve = [sys.executable, "-m", "rockets", "serve", "--database", str(database), *flags]
        begun = perf_counter()
        with running(serve, core=self.cores.server, log=log, stop_s=STOP_LIMIT_S) as process:
            url = read_line(process, log, limit_s=START_LIMIT_S).rpartition(" ")[2]
            server = Server(process, url, perf_counter() - begun)
            yield server
        if not server.is_killed and process.returncode != 0:
            raise MeasurementFailed(
                f"the server ended with code {process.returncode}: {last_line(log)}"
            )

    def wrk(self, server: Server, march: March) -> Outcome:
        """Send the next messages of a march with wrk, as fast as the answers come."""
        with self.wrk_beside(server, march) as finished:
            return finished()

    @contextmanager
    def wrk_beside(self, server: Server, march: March) -> Iterator[Callable[[], Outcome]]:
        """Start the same and go on; what is given waits for the end and returns the outcome."""
        run = wrk.scattered(self._tool(), march, server.url, self.seconds)
        limit_s = self.seconds + wrk.TIMEOUT_S + LOAD_EXTRA_S
        log = self._load_log
        with running(run, core=self.cores.load, log=log, stop_s=1.0) as process:

            def finished() -> Outcome:
                try:
                    output, _ = process.communicate(timeout=limit_s)
                except subprocess.TimeoutExpired as error:
                    raise MeasurementFailed(f"wrk did not end within {limit_s:g} s") from error
                return wrk.parse(output.decode())

            yield finished

    def _tool(self) -> str:
        if self._wrk is None:
            raise MeasurementFailed("wrk is not installed; `make bench-tools` installs it")
        return self._wrk

    def load(self, module: str, plan: msgspec.Struct, *, limit_s: float) -> Outcome:
        """Run a load of our own, on the core of the load."""
        return self._run(module, plan, self.cores.load, limit_s)

    def bare(self, module: str, plan: msgspec.Struct, *, limit_s: float) -> Outcome:
        """Run a reference that is no server, on the core of the server."""
        return self._run(module, plan, self.cores.server, limit_s)

    def _run(self, module: str, plan: msgspec.Struct, core: int, limit_s: float) -> Outcome:
        command = [sys.executable, "-m", module, msgspec.json.encode(plan).decode()]
        output = finish(command, core=core, log=self._load_log, limit_s=limit_s)
        return msgspec.json.decode(output, type=Outcome)


class Reply(msgspec.Struct, frozen=True):
    """An answer with its headers' names in lower case."""

    headers: dict[str, str]
    body: bytes


class Reader:
    """One kept connection that reads."""

    def __init__(self, url: str) -> None:
        self._connection = HTTPConnection(urlsplit(url).netloc, timeout=LOAD_EXTRA_S)

    def get(self, target: str) -> Reply:
        """Ask for a target; MeasurementFailed unless the answer is 200."""
        try:
            self._connection.request("GET", target)
            response = self._connection.getresponse()
            body = response.read()
        except (OSError, HTTPException) as error:
            raise MeasurementFailed(f"GET {target}: {error!r}") from error
        if response.status != 200:
            raise MeasurementFailed(f"GET {target} was answered with {response.status}")
        return Reply({name.lower(): value for name, value in response.getheaders()}, body)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
