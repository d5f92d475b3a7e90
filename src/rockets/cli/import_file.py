"""`rockets import`: send a file of NDJSON to a service, as `rockets export` writes it."""

import sys
from pathlib import Path
from typing import BinaryIO

import click
import msgspec
import trio

from rockets.cli.client import HttpClient
from rockets.cli.connector import parse_url
from rockets.cli.duration import Duration
from rockets.cli.importer import Importer
from rockets.cli.interrupts import run_until_signal
from rockets.cli.line_batches import LINES_MAX, LineBatches
from rockets.cli.progress_line import INTERVAL_S, ProgressLine

EXIT_NOT_ALL = 1
EXIT_IMPOSSIBLE = 2
# Lines are read this far ahead of the batch that is made of them.
READ_BYTES = 1 << 18


class Manner(msgspec.Struct, frozen=True):
    """How an import is sent."""

    batch_lines: int = 1_000
    connections: int = 3
    give_up_after_s: float = 300.0


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.argument("url")
@click.option(
    "--batch-lines",
    type=click.IntRange(1, LINES_MAX),
    default=1_000,
    show_default=True,
    help="Lines in a request.",
)
@click.option(
    "--connections",
    type=click.IntRange(1, 16),
    default=3,
    show_default=True,
    help="Requests under way at once; with 1 the lines arrive in the order of the file.",
)
@click.option(
    "--give-up-after",
    type=Duration(),
    default="5m",
    show_default=True,
    help="How long the service may take nothing before the import ends.",
)
def import_file(
    file: Path, url: str, batch_lines: int, connections: int, give_up_after: float
) -> None:
    """Send the messages in FILE, one a line, to URL, the whole address to post to.

    FILE may be - for standard input. A service that is busy or away is asked again; sending a
    file again is always safe: what is there is counted as a duplicate.
    Exits with 0 when every line is stored or was stored already, 1 when not, 2 when something
    asked for is impossible, and 130 when interrupted.
    """
    manner = Manner(batch_lines, connections, give_up_after)
    try:
        parse_url(url)
        code = trio.run(send, _open(file), url, manner)
    except (ValueError, OSError) as error:
        click.echo(f"rockets import: {error}", err=True)
        code = EXIT_IMPOSSIBLE
    sys.exit(code)


def _open(file: Path) -> BinaryIO:
    """Open what is to be read and leave it open.

    At an early end a thread may still wait for more of a pipe, and closing would wait for it.
    """
    if str(file) == "-":
        return open(0, "rb", buffering=READ_BYTES, closefd=False)
    return file.open("rb", buffering=READ_BYTES)


async def send(file: BinaryIO, url: str, manner: Manner) -> int:
    """Send everything, print what has become of it, and return the exit code."""
    async with HttpClient(url) as client:
        importer = Importer(
            LineBatches(file, lines_max=manner.batch_lines).take,
            client,
            parse_url(url).target,
            connections=manner.connections,
            give_up_after_s=manner.give_up_after_s,
        )
        signum = await run_until_signal(lambda: _run_watched(importer))
    tally = importer.tally
    for line in tally.table():
        click.echo(line)
    if signum is None and importer.stopped is None:
        return EXIT_NOT_ALL if tally.faults else 0
    why = importer.stopped or "interrupted"
    done = f"the first {tally.settled_through} lines are settled" if tally.settled_through else ""
    more = "sending all again is safe"
    click.echo(f"rockets import: {'; '.join(filter(None, [why, done, more]))}", err=True)
    return EXIT_NOT_ALL if signum is None else 128 + signum


async def _run_watched(importer: Importer) -> None:
    with ProgressLine() as progress:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_show, progress, importer)
            await importer.run()
            nursery.cancel_scope.cancel()


async def _show(progress: ProgressLine, importer: Importer) -> None:
    while True:
        tally = importer.tally
        progress.show(f"{tally.lines:,} lines sent, {tally.faults:,} of them not stored")
        await trio.sleep(INTERVAL_S)
