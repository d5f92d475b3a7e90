"""Closed-loop load from wrk: each connection sends its next request when it has its answer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from rockets.bench import scale_march
from rockets.bench.bodies import CHANNELS, INCREASED, LAUNCHED
from rockets.bench.outcome import MeasurementFailed, Outcome
from rockets.bench.scale_march import March

SCRIPT = Path(__file__).with_name("messages.lua")
# A request that takes longer is counted as an error; the server answers within 8 s.
TIMEOUT_S = 10

Kind = Literal["distinct", "same", "new", "mixed", "one", "list"]

# What wrk calls its errors, and what they are.
_ERRORS = {
    "connect": "connections not opened",
    "read": "reads that failed",
    "write": "writes that failed",
    "timeout": f"answers later than {TIMEOUT_S} s",
    "status": "answers with a status of 400 or above",
}


class Load(msgspec.Struct, frozen=True):
    """What is sent on how many connections; with `close` each request opens a new one."""

    kind: Kind
    connections: int = 64
    close: bool = False


class _Summary(msgspec.Struct, frozen=True, rename="camel"):
    """The line that messages.lua ends with; `posts` and `gets` were sent, not all answered."""

    requests: int
    duration_us: int
    p50_us: float
    p99_us: float
    posts: int
    gets: int
    errors: dict[str, int]


def command(wrk: str, load: Load, url: str, seconds: int) -> list[str]:
    """Write the command line that runs wrk at this path for these seconds."""
    mode = "close" if load.close else "keep-alive"
    script = [load.kind, mode, LAUNCHED, INCREASED, *CHANNELS]
    return _command(wrk, load.connections, url, seconds, script)


def scattered(wrk: str, march: March, url: str, seconds: int, connections: int = 64) -> list[str]:
    """Write the command line that sends the next messages of a march for these seconds."""
    figures = (march.rockets, march.stride, march.each, march.sent)
    templates = (scale_march.LAUNCHED, scale_march.INCREASED)
    script = ["scattered", "keep-alive", *templates, *map(str, figures)]
    return _command(wrk, connections, url, seconds, script)


def _command(
    wrk: str, connections: int, url: str, seconds: int, script: Sequence[str]
) -> list[str]:
    return [
        wrk,
        "--threads=1",  # the script counts its messages, and would do so once in each thread
        f"--connections={connections}",
        f"--duration={seconds}s",
        f"--timeout={TIMEOUT_S}s",
        f"--script={SCRIPT}",
        url,
        "--",
        *script,
    ]


def parse(output: str) -> Outcome:
    """Read what wrk printed; MeasurementFailed when a single request went wrong."""
    lines = output.splitlines()
    try:
        summary = msgspec.json.decode(lines[-1] if lines else "", type=_Summary)
    except msgspec.DecodeError as error:
        raise MeasurementFailed(f"wrk gave no summary: {_last_words(lines)}") from error
    wrong = [f"{count:,} {_ERRORS[kind]}" for kind, count in summary.errors.items() if count]
    if wrong:
        raise MeasurementFailed(f"of {summary.requests:,} answers: {', '.join(wrong)}")
    if not summary.requests:
        raise MeasurementFailed("no request was answered")
    return Outcome(
        rate=summary.requests / summary.duration_us * 1_000_000,
        p50_ms=summary.p50_us / 1000,
        p99_ms=summary.p99_us / 1000,
        details={"requests": summary.requests, "posts": summary.posts, "gets": summary.gets},
    )


def _last_words(lines: Sequence[str]) -> str:
    return next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")
