"""What `rockets watch` shows: a table on a terminal, lines elsewhere."""

from typing import TYPE_CHECKING

import click
import msgspec
import trio

from rockets.actors.listing import SortBy
from rockets.cli.event_source import Event, Lost
from rockets.cli.watched_fleet import Tiles, WatchedFleet
from rockets.domain.rocket import Rocket
from rockets.web.feed_events import Gone, Hello, Stale

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

REFRESH_S = 0.25
# Besides the rockets: two lines above the table, four of its frame and head, one to spare.
LINES_AROUND = 7

COLUMNS = ("channel", "status", "type", "mission", "speed", "message", "missing", "reason")
NUMBERS = ("speed", "message", "missing")
STYLES = {"launched": "green", "exploded": "red", "awaitingLaunch": "yellow"}


class _NamedEvent(msgspec.Struct, frozen=True):
    """An event as a line of JSON."""

    event: str
    id: str | None
    data: msgspec.Raw


class LinesView:
    """Prints a line for each rocket that changes or is gone; the state of the stream on stderr."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json

    async def show(self) -> None:
        """Wait: a line is printed when it comes."""
        await trio.sleep_forever()

    def take(self, what: Event | Lost) -> None:
        """Print what has come."""
        if isinstance(what, Lost):
            click.echo(_lost(what), err=True)
        elif self._as_json:
            line = msgspec.json.encode(_NamedEvent(what.name, what.id, msgspec.Raw(what.data)))
            click.echo(line)
        elif what.name == "rocket":
            click.echo(_line(msgspec.json.decode(what.data, type=Rocket)))
        elif what.name == "gone":
            click.echo(f"{msgspec.json.decode(what.data, type=Gone).channel} gone")
        elif what.name == "reset":
            click.echo("out of date; the whole fleet follows", err=True)
        elif what.name == "stale":
            click.echo(_stale(what), err=True)
        elif what.name == "fresh":
            click.echo("up to date again", err=True)
        elif what.name == "hello" and msgspec.json.decode(what.data, type=Hello).resumed:
            click.echo("resumed; nothing was missed", err=True)


class TableView:
    """Shows the fleet as a table on the whole terminal until it is cancelled."""

    def __init__(self, sort: tuple[SortBy, ...]) -> None:
        self._sort = sort
        self._fleet = WatchedFleet()
        self.state = "connecting"  # of the stream, in words

    def take(self, what: Event | Lost) -> None:
        """Note what has come; it is shown with the next refresh."""
        if isinstance(what, Lost):
            self.state = f"stale: {_lost(what)}"
            return
        if what.name == "hello":
            resumed = msgspec.json.decode(what.data, type=Hello).resumed
            self.state = "live, resumed" if resumed else "live"
            if not resumed:
                self._fleet.forget()
        elif what.name == "stale":
            self.state = _stale(what)
        elif what.name == "fresh":
            self.state = "live"
        self._fleet.take(what)

    async def show(self) -> None:
        """Show the table, again and again."""
        # Imported here: rich takes longer to import than a wrong option takes to be found.
        from rich.console import Console
        from rich.live import Live

        console = Console()
        with Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                room = max(1, console.size.height - LINES_AROUND)
                live.update(self._page(room), refresh=True)
                await trio.sleep(REFRESH_S)

    def _page(self, room: int) -> "Table":
        from rich.table import Table
        from rich.text import Text

        tiles = self._fleet.tiles(trio.current_time())
        page = Table.grid()
        page.add_row(_tiles(tiles))
        page.add_row(Text(self.state, style="bold" if self.state.startswith("live") else "red"))
        table = Table(expand=True)
        for name in COLUMNS:
            table.add_column(name, justify="right" if name in NUMBERS else "left", no_wrap=True)
        rockets = self._fleet.sorted(self._sort)
        for rocket in rockets[:room]:
            table.add_row(*_cells(rocket))
        page.add_row(table)
        return page


def _tiles(tiles: Tiles) -> "Text":
    from rich.text import Text

    of = "" if tiles.total is None else f" of {tiles.total}"
    status = tiles.status
    return Text(
        f"rockets {tiles.rockets}{of}   launched {status.get('launched', 0)}   "
        f"awaiting {status.get('awaitingLaunch', 0)}   exploded {status.get('exploded', 0)}   "
        f"with gaps {tiles.with_gaps}   {tiles.messages_per_s:,.0f} messages/s"
    )


def _cells(rocket: Rocket) -> "list[Text]":
    """Write a row; as Text, so that nothing that a rocket has sent is read as markup."""
    from rich.text import Text

    return [
        Text(rocket.channel),
        Text(rocket.status, style=STYLES[rocket.status]),
        Text(rocket.type or ""),
        Text(rocket.mission or ""),
        Text("" if rocket.speed is None else f"{rocket.speed}"),
        Text(f"{rocket.last_message_number}"),
        Text(f"{rocket.sequence.missing_count or ''}"),
        Text(rocket.explosion_reason or ""),
    ]


def _line(rocket: Rocket) -> str:
    """Write one rocket as a line."""
    words = [rocket.channel, rocket.status, f"message {rocket.last_message_number}"]
    if rocket.speed is not None:
        words.append(f"speed {rocket.speed}")
    if rocket.mission is not None:
        words.append(f"mission {rocket.mission}")
    if rocket.explosion_reason is not None:
        words.append(f"reason {rocket.explosion_reason}")
    if rocket.sequence.missing_count:
        words.append(f"missing {rocket.sequence.missing_count}")
    return ", ".join(words)


def _stale(event: Event) -> str:
    seconds = msgspec.json.decode(event.data, type=Stale).seconds
    return f"stale by {seconds} s and more: the service is cut off from its store, or behind"


def _lost(lost: Lost) -> str:
    return f"lost, again in {lost.retry_s:.1f} s: {lost.reason}"
