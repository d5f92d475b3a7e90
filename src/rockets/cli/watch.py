"""`rockets watch`: the fleet as it changes, as a table on a terminal or line by line."""

import os
import sys
from contextlib import aclosing
from functools import partial
from typing import NoReturn
from urllib.parse import urlencode

import click
import trio

from rockets.cli.connector import parse_url
from rockets.cli.event_source import EventSource, StreamRefused
from rockets.cli.interrupts import run_until_signal
from rockets.cli.watch_view import LinesView, TableView
from rockets.web.feed import INTERVAL_MAX_MS, INTERVAL_MIN_MS, INTERVAL_MS
from rockets.web.parameters import STATUSES, VIEWS, list_query
from rockets.web.problems import Refusal

EXIT_IMPOSSIBLE = 2


@click.command()
@click.argument("url")
@click.option("--sort", default="channel", metavar="KEY,...", help="As in the API: -speed,channel.")
@click.option("--type", "types", multiple=True, metavar="TYPE", help="Only these.")
@click.option("--mission", "missions", multiple=True, metavar="MISSION", help="Only these.")
@click.option(
    "--status", "statuses", multiple=True, type=click.Choice(STATUSES), help="Only these."
)
@click.option("--explosion-reason", "reasons", multiple=True, metavar="REASON", help="Only these.")
@click.option("--min-speed", type=int, help="Only rockets at least this fast.")
@click.option("--max-speed", type=int, help="Only rockets at most this fast.")
@click.option("--complete/--with-gaps", default=None, help="Only rockets without gaps, or with.")
@click.option("--view", type=click.Choice(VIEWS), default="latest", show_default=True)
@click.option(
    "--interval",
    type=click.IntRange(INTERVAL_MIN_MS, INTERVAL_MAX_MS),
    default=INTERVAL_MS,
    show_default=True,
    help="Milliseconds between two updates.",
)
@click.option("--json", "as_json", is_flag=True, help="Print every event as a line of JSON.")
def watch(
    url: str,
    sort: str,
    types: tuple[str, ...],
    missions: tuple[str, ...],
    statuses: tuple[str, ...],
    reasons: tuple[str, ...],
    min_speed: int | None,
    max_speed: int | None,
    complete: bool | None,
    view: str,
    interval: int,
    as_json: bool,
) -> None:
    """Show the rockets of the service at URL as they change, until Ctrl-C.

    On a terminal that is a table, elsewhere a line for each change. Any address of the service
    will do; only its origin counts. Where the stream is lost it is opened again.
    Exits with 130 when interrupted, and with 2 when something asked for is impossible.
    """
    given: dict[str, list[str]] = {
        "type": list(types),
        "mission": list(missions),
        "status": list(statuses),
        "explosionReason": list(reasons),
        "minSpeed": [] if min_speed is None else [str(min_speed)],
        "maxSpeed": [] if max_speed is None else [str(max_speed)],
        "complete": [] if complete is None else [str(complete).lower()],
        "view": [view],
        "interval": [str(interval)],
    }
    try:
        parse_url(url)
        order = list_query({"sort": [sort]}).sort
        source = EventSource(url, f"/events?{urlencode(given, doseq=True)}")
        shown = TableView(order) if sys.stdout.isatty() and not as_json else LinesView(as_json)
        signum = trio.run(run_until_signal, partial(_follow, source, shown))
    except (ValueError, Refusal) as error:
        _give_up(str(error))
    except BaseExceptionGroup as group:
        refused, rest = group.split(StreamRefused)
        if rest is None and refused is not None:
            _give_up(str(leaf(refused)))
        if group.split(BrokenPipeError)[1] is not None:
            raise
        # Nobody reads on, as behind `| head`; what is still to be written has no place to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    sys.exit(0 if signum is None else 128 + signum)


async def _follow(source: EventSource, view: TableView | LinesView) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(view.show)
        async with aclosing(source.follow()) as stream:
            async for what in stream:
                view.take(what)


def leaf(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Give the first exception of a group that is none."""
    first = group.exceptions[0]
    return leaf(first) if isinstance(first, BaseExceptionGroup) else first


def _give_up(problem: str) -> NoReturn:
    click.echo(f"rockets watch: {problem}", err=True)
    sys.exit(EXIT_IMPOSSIBLE)
