"""Shows a run of `rockets launch`: how far it is, and at the end what happened in a table."""

import sys

import click
import trio

from rockets.cli.go_client import GoClient
from rockets.cli.launcher import Tally

# Often enough for a moving bar, seldom enough to cost nothing.
BAR_INTERVAL_S = 0.2
# A terminal is watched; a file is read later, where a line every few seconds is enough.
LINE_INTERVAL_S = 5.0


async def show_progress(tally: Tally, total: int) -> None:
    """Show how far the run is, on stderr, until cancelled: a bar on a terminal, else lines."""
    if sys.stderr.isatty():
        await _show_bar(tally, total)
    else:
        await _show_lines(tally, total)


async def _show_bar(tally: Tally, total: int) -> None:
    # Imported here: rich takes longer to import than a short run takes.
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("launch"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:,.0f}/s"),
        TimeRemainingColumn(),
    )
    # Without rich's own thread, which would take the interpreter from the senders.
    with Progress(*columns, console=Console(stderr=True), auto_refresh=False) as progress:
        task = progress.add_task("launch", total=total, rate=0.0)
        try:
            while True:
                progress.update(task, completed=tally.delivered, rate=tally.rate, refresh=True)
                await trio.sleep(BAR_INTERVAL_S)
        finally:
            progress.update(task, completed=tally.delivered, rate=tally.rate, refresh=True)


async def _show_lines(tally: Tally, total: int) -> None:
    while True:
        await trio.sleep(LINE_INTERVAL_S)
        click.echo(f"{tally.delivered} of {total} messages delivered", err=True)


def table(tally: Tally, client: GoClient) -> list[str]:
    """Return the lines of the table that ends a run, names left and values right."""
    rows = [
        ("messages", f"{tally.taken}"),
        ("sent", f"{tally.attempts}"),
        ("2xx", f"{tally.delivered}"),
        *sorted((failure, f"{count}") for failure, count in tally.failures.items()),
        ("duration", f"{tally.elapsed_s:.2f} s"),
        ("rate", f"{tally.rate:.0f} /s"),
        ("latency p50", _milliseconds(tally.latency_s(0.5))),
        ("latency p99", _milliseconds(tally.latency_s(0.99))),
        ("latency max", _milliseconds(tally.latency_s(1.0))),
        ("resends", f"{tally.resends}"),
        ("lost", f"{tally.lost}"),
        ("connections opened", f"{client.connections_opened}"),
        ("connections leaked", f"{client.connections_leaked}"),
    ]
    width = max(len(value) for _, value in rows)
    return [f"{name:<20}{value:>{width}}" for name, value in rows]


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.2f} ms"
