"""`rockets bench-scale`: measures one instance with a million rockets and ten million messages."""

import os
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from rockets.bench.machine import look
from rockets.bench.page import PageUnmarked
from rockets.bench.processes import find_cores
from rockets.bench.scale_cases import CASES, run
from rockets.bench.scale_found import HEADINGS, cells
from rockets.bench.scale_report import ScaleReport, circumstances, fill, judge
from rockets.bench.scale_stand import Grounds
from rockets.bench.verdict import remarks
from rockets.cli.bench import EXIT_IMPOSSIBLE, EXIT_MISSED, CaseNames, show_table
from rockets.cli.interrupts import EXIT_INTERRUPTED, end

ROUNDS = 3
SECONDS = 10
# A smaller fleet is for trying it out.
ROUNDS_SCALED = 1
SECONDS_SCALED = 2


@click.command("bench-scale")
@click.option(
    "--scale",
    type=click.IntRange(min=1, max=10_000),
    default=1,
    show_default=True,
    help="Divide rockets and messages by this, and measure for a shorter time; 1 is what counts.",
)
@click.option(
    "--cases",
    type=CaseNames(CASES),
    default=(),
    help=f"Measure only these: {', '.join(CASES)}.",
)
@click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path, dir_okay=False),
    default="bench-scale.json",
    show_default=True,
    help="Where every figure goes.",
)
@click.option(
    "--write",
    "page",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Also write the figures into this page; only those of all cases at scale 1.",
)
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where loaded databases stay for the next run; else they go with this one.",
)
def bench_scale(
    scale: int,
    cases: tuple[str, ...],
    json_file: Path,
    page: Path | None,
    directory: Path | None,
) -> None:
    """Measure one instance at scale: a million rockets, ten million messages.

    Server and load have a core each, and both are for this run alone.
    Exits with 0 when every case reached its target, 1 when one did not or could not be measured,
    and 130 when interrupted.
    """
    # Like Ctrl-C it unwinds what runs, so that every process is ended.
    signal.signal(signal.SIGTERM, lambda signum, _frame: sys.exit(128 + signum))
    try:
        with _place(directory) as databases:
            report = _measure(cases or tuple(CASES), scale, databases, _command(scale, cases))
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    _show(report)
    is_whole = scale == 1 and not cases
    try:
        json_file.write_bytes(report.encode())
        if page is not None and is_whole:
            page.write_text(fill(page.read_text(), report))
    except (OSError, PageUnmarked) as error:
        end("bench-scale", EXIT_IMPOSSIBLE, str(error))
    if page is not None and not is_whole:
        click.echo(f"{page} was left as it is: this is not all of it", err=True)
    sys.exit(0 if report.passed else EXIT_MISSED)


@contextmanager
def _place(directory: Path | None) -> Iterator[Path]:
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
        yield directory
        return
    with TemporaryDirectory(prefix="rockets-bench-scale-") as temporary:
        yield Path(temporary)


def _command(scale: int, cases: Sequence[str]) -> str:
    """Write the command without its file names, which only mean something on this machine."""
    chosen = f" --cases {','.join(cases)}" if cases else ""
    return f"rockets bench-scale --scale {scale}{chosen}"


def _measure(names: Sequence[str], scale: int, directory: Path, command: str) -> ScaleReport:
    started = datetime.now(UTC)
    cores = find_cores()
    wrk = shutil.which("wrk")
    seconds, rounds = (SECONDS, ROUNDS) if scale == 1 else (SECONDS_SCALED, ROUNDS_SCALED)
    grounds = Grounds(
        directory,
        cores=cores,
        scale=scale,
        seconds=seconds,
        rounds=rounds,
        wrk=wrk,
        say=lambda line: click.echo(line, err=True),
    )
    # We load and ask ourselves, and must not do so on the core of the server.
    with _on_core(cores.load):
        found = run(names, grounds)
    machine = look(directory, cores=cores, wrk=wrk)
    return ScaleReport(command, started, scale, rounds, seconds, machine, judge(found), found)


@contextmanager
def _on_core(core: int) -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _show(report: ScaleReport) -> None:
    show_table(HEADINGS, [(cells(verdict), verdict.passed) for verdict in report.verdicts])
    for line in (*remarks(report.verdicts), *circumstances(report)):
        click.echo(line)
