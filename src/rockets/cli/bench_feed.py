"""`rockets bench-feed`: measures what readers of the live feed cost."""

import shutil
import signal
import sys
from pathlib import Path

import click
import msgspec

from rockets.bench.feed_cost import measure
from rockets.bench.outcome import MeasurementFailed
from rockets.bench.processes import find_cores
from rockets.cli.interrupts import EXIT_INTERRUPTED

EXIT_MISSED = 1
EXIT_IMPOSSIBLE = 2


@click.command()
@click.option("--rounds", type=click.IntRange(1, 100), default=5, show_default=True)
@click.option(
    "--seconds",
    type=click.IntRange(1, 60),
    default=4,
    show_default=True,
    help="How long the load lasts, without readers and then with them.",
)
@click.option(
    "--readers",
    type=click.IntRange(2, 1_000),
    default=200,
    show_default=True,
    help="How many; every second one never reads.",
)
@click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where every round goes.",
)
def bench_feed(rounds: int, seconds: int, readers: int, json_file: Path | None) -> None:
    """Measure the service under load without readers of its live feed, and with them.

    Exits with 0 when they cost no more than they may, 1 when they do or that could not be
    measured, 2 when wrk is missing, and 130 when interrupted.
    """
    if shutil.which("wrk") is None:
        click.echo("rockets bench-feed: wrk is missing; `make bench-tools` installs it", err=True)
        sys.exit(EXIT_IMPOSSIBLE)
    # Like Ctrl-C it unwinds what runs, so that every process is ended.
    signal.signal(signal.SIGTERM, lambda signum, _frame: sys.exit(128 + signum))
    try:
        found = measure(
            rounds=rounds,
            seconds=seconds,
            readers=readers,
            cores=find_cores(),
            say=lambda line: click.echo(line, err=True),
        )
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except MeasurementFailed as error:
        click.echo(f"rockets bench-feed: {error}", err=True)
        sys.exit(EXIT_MISSED)
    for line in found.lines():
        click.echo(line)
    if json_file is not None:
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode(found)))
    sys.exit(0 if found.passed else EXIT_MISSED)
