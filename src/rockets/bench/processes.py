"""Starts the processes of a measurement, each on its core, and ends every one of them.

The invariant: when a block here is left, however that happens, its process is gone.
"""

import os
import select
import signal
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from time import monotonic
from typing import NamedTuple

from rockets.bench.outcome import MeasurementFailed

# The server ends within 10 s of a SIGTERM by itself.
STOP_S = 15.0
START_S = 30.0


class Cores(NamedTuple):
    """Which core the server has and which the load; the same one where there is no other."""

    server: int
    load: int

    @property
    def shared(self) -> bool:
        """Whether the load takes from the server what it needs itself."""
        return self.server == self.load


def find_cores() -> Cores:
    """Choose among the cores this process may use; the first often has the interrupts as well."""
    usable = sorted(os.sched_getaffinity(0))
    return Cores(server=usable[-1], load=usable[0])


@contextmanager
def running(
    command: Sequence[str],
    *,
    core: int | None,
    log: Path,
    descriptors: Sequence[int] = (),
    stop_s: float = STOP_S,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command on a core until the block ends, with stdout as a pipe and stderr in a log.

    Without a core it runs wherever the system likes.
    It gets SIGTERM then, and SIGKILL when it has not ended after `stop_s`.
    """
    with log.open("wb") as stderr, ExitStack() as ended:
        # A signal between the fork and the callback would leave a process that nobody ends.
        unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=_environment(),
                pass_fds=descriptors,
                # A Ctrl-C is for us alone; we end the others in our order.
                process_group=0,
                preexec_fn=partial(_prepare, core, unblocked),
            )
            ended.callback(_end, process, stop_s)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
        yield process


def _environment() -> dict[str, str]:
    """Leave out what somebody has set for a service of their own: here only defaults count."""
    return {name: value for name, value in os.environ.items() if not name.startswith("ROCKETS_")}


def _prepare(core: int | None, signals_blocked: Iterable[int]) -> None:
    """Make a new process ready, in itself and before it becomes another program."""
    if core is not None:
        os.sched_setaffinity(0, {core})
    signal.pthread_sigmask(signal.SIG_SETMASK, signals_blocked)


def _end(process: subprocess.Popen[bytes], stop_s: float) -> None:
    try:
        if process.poll() is None:
            process.terminate()
            process.wait(stop_s)
    except subprocess.TimeoutExpired:
        pass  # It is killed below, as it is after a second Ctrl-C while we waited.
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def finish(command: Sequence[str], *, core: int, log: Path, limit_s: float) -> str:
    """Run a command on a core to its end and return what it printed.

    MeasurementFailed with its last words when it ends with another code than 0, or not in time.
    """
    with running(command, core=core, log=log, stop_s=1.0) as process:
        try:
            output, _ = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired as error:
            raise MeasurementFailed(f"the load did not end within {limit_s:g} s") from error
        if process.returncode != 0:
            raise MeasurementFailed(last_line(log) or f"ended with code {process.returncode}")
    return output.decode()


def read_line(process: subprocess.Popen[bytes], log: Path, *, limit_s: float | None = None) -> str:
    """Read the first line a process prints; MeasurementFailed when it ends, or is silent, before.

    It must print no second one at once, which would be lost.
    """
    assert process.stdout is not None, "running() makes it a pipe"
    deadline = monotonic() + (START_S if limit_s is None else limit_s)
    line = b""
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - monotonic()))
        data = os.read(process.stdout.fileno(), 4096) if ready else b""
        if not data:
            raise MeasurementFailed(f"it did not start: {last_line(log) or 'it said nothing'}")
        line += data
    return line.decode().strip()


def last_line(log: Path) -> str:
    """Return the last line of a log that says anything, or nothing."""
    lines = log.read_text(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
