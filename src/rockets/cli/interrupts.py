"""Ends a command cleanly, whoever or whatever asks for the end."""

import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

import click
import trio

EXIT_INTERRUPTED = 128 + signal.SIGINT


def end(command: str, code: int, *lines: str) -> NoReturn:
    """Say on standard error why a command ends, each line with its name, and end it."""
    for line in lines:
        click.echo(f"rockets {command}: {line}", err=True)
    sys.exit(code)


@contextmanager
def terminated_like_interrupted() -> Iterator[None]:
    """Raise KeyboardInterrupt for SIGTERM too, so that what is cleaned up for one is for both."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


async def run_until_signal(run: Callable[[], Awaitable[None]]) -> int | None:
    """Run to the end, or cancel it at SIGINT or SIGTERM; returns the signal that did that."""
    caught: list[int] = []
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_catch, signals, caught, nursery.cancel_scope)
            await run()
            nursery.cancel_scope.cancel()
    return caught[0] if caught else None


async def _catch(signals: AsyncIterator[int], caught: list[int], scope: trio.CancelScope) -> None:
    async for signum in signals:
        caught.append(signum)
        scope.cancel()
