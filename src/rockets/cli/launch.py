"""`rockets launch`: simulates the closed `rockets` program, with its flags and its habits."""

import resource
import sys
from collections.abc import Iterator
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import NoReturn

import click
import msgspec
import trio

from rockets.cli.connector import parse_url
from rockets.cli.duration import Duration
from rockets.cli.expected import Expected, expect, write_expected
from rockets.cli.go_client import GoClient
from rockets.cli.interrupts import run_until_signal
from rockets.cli.launcher import Habits, Launcher, Log
from rockets.cli.progress import show_progress, table
from rockets.cli.verify import EXIT_IMPOSSIBLE, ServiceUnreadable, report
from rockets.simulator import SimulatedMessage, flights, repeated, shuffled

# Of a larger fleet the service may serve a list that is this old.
LIST_EXACT_ROCKETS_MAX = 10_000
LIST_AGE_MAX_S = 0.25

LOG_LEVELS = ("debug", "info", "warning", "error")


class Plan(msgspec.Struct, frozen=True):
    """Which messages a run sends: the seed says what they are, the rest what is done to them."""

    seed: int
    messages: int
    rockets: int
    duplicates: float = 0.0
    shuffle: int = 0

    def original(self) -> Iterator[SimulatedMessage]:
        """Make the messages as the rockets would send them."""
        return flights(self.seed, self.messages, self.rockets)

    def abused(self) -> Iterator[SimulatedMessage]:
        """Make the messages as they are sent, with the copies and the disorder asked for."""
        messages = self.original()
        if self.duplicates:
            messages = repeated(messages, fraction=self.duplicates, seed=self.seed)
        if self.shuffle:
            messages = shuffled(messages, window=self.shuffle, seed=self.seed)
        return messages

    def count(self) -> int:
        """Count what is sent, copies included."""
        return sum(1 for _ in self.abused()) if self.duplicates else self.messages

    def expected(self) -> Expected:
        """Work out the final states, which no copy and no disorder may change."""
        return expect(f"rockets launch seed{self.seed}-{self.messages}", self.original())


@click.command()
@click.argument("url")
@click.option(
    "--message-delay", type=Duration(), default="0", help="Time between messages, such as 20ms."
)
@click.option(
    "--concurrency-level",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="How many messages are under way at once.",
)
@click.option(
    "--max-messages",
    type=click.IntRange(min=0),
    default=100_000,
    show_default=True,
    help="How many messages to send.",
)
@click.option(
    "--seed", type=int, default=444, show_default=True, help="Everything but the time follows it."
)
@click.option(
    "--rockets",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="Size of the fleet.",
)
@click.option(
    "--duplicates",
    type=click.FloatRange(0, 1),
    default=0.0,
    metavar="FRACTION",
    help="Send this share of the messages twice.",
)
@click.option(
    "--shuffle",
    type=click.IntRange(min=0),
    default=0,
    metavar="WINDOW",
    help="Draw each message at random from the next WINDOW ones.",
)
@click.option(
    "--timeout",
    type=Duration(),
    default="10s",
    show_default=True,
    help="Limit for one attempt; 0 for none.",
)
@click.option(
    "--drop-at-end",
    is_flag=True,
    help="Like the real program: when the last message was made, lose what waits for a resend.",
)
@click.option(
    "--expected",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the final states to this file.",
)
@click.option("--verify", is_flag=True, help="Compare the service's final states at the end.")
@click.option("--log-level", type=click.Choice(LOG_LEVELS), default="warning", show_default=True)
def launch(
    url: str,
    message_delay: float,
    concurrency_level: int,
    max_messages: int,
    seed: int,
    rockets: int,
    duplicates: float,
    shuffle: int,
    timeout: float,
    drop_at_end: bool,
    expected: Path | None,
    verify: bool,
    log_level: str,
) -> None:
    """Send simulated messages to URL, the whole address to post to.

    Imitates the closed `rockets` program of the challenge, but its messages are others.
    Exits with 0 at the end, 1 when --verify finds a difference, 2 when something asked for is
    impossible, and 130 when interrupted.
    """
    plan = Plan(seed, max_messages, rockets, duplicates, shuffle)
    habits = Habits(
        concurrency_level=concurrency_level,
        message_delay_s=message_delay,
        timeout_s=timeout or inf,
        drop_at_end=drop_at_end,
    )
    _raise_descriptor_limit()
    try:
        parse_url(url)
        states = plan.expected() if expected or verify else None
        if expected and states:
            write_expected(expected, states)
    except (ValueError, OSError) as error:
        _give_up(error)
    try:
        code = trio.run(run, url, plan, habits, _log_from(log_level), states if verify else None)
    except ServiceUnreadable as error:
        _give_up(error)
    sys.exit(code)


def _give_up(error: Exception) -> NoReturn:
    click.echo(f"rockets launch: {error}", err=True)
    sys.exit(EXIT_IMPOSSIBLE)


async def run(url: str, plan: Plan, habits: Habits, log: Log, expected: Expected | None) -> int:
    """Send everything, print the table, compare if there is something to compare with.

    Returns the exit code.
    """
    total = plan.count()
    async with GoClient(url) as client:
        launcher = Launcher(plan.abused(), client, habits=habits, messages_max=total, log=log)
        signum = await run_until_signal(lambda: _run_watched(launcher, total))
        for line in table(launcher.tally, client):
            click.echo(line)
    if signum is not None:
        return 128 + signum
    if expected is None:
        return 0
    if plan.rockets > LIST_EXACT_ROCKETS_MAX:
        await trio.sleep(LIST_AGE_MAX_S)
    return await report(expected, url)


async def _run_watched(launcher: Launcher, total: int) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(show_progress, launcher.tally, total)
        await launcher.run()
        nursery.cancel_scope.cancel()


def _log_from(lowest: str) -> Log:
    """Make a log that writes one line to stderr for everything not below the level `lowest`."""
    shown = frozenset(LOG_LEVELS[LOG_LEVELS.index(lowest) :])

    def log(level: str, text: str, message: SimulatedMessage) -> None:
        if level in shown:
            click.echo(f"{level} {text} ({message.channel} {message.number})", err=True)

    return log


def _raise_descriptor_limit() -> None:
    """Allow as many leaked connections as the system lets us have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Where the hard limit is no number the system takes, the soft one has to do.
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
