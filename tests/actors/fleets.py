"""A real fleet over a journal in memory, with commits that a test can hold back or fail."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import trio

from rockets.actors.fleet import Fleet, FleetLimits, open_fleet
from rockets.actors.part import Reply
from rockets.actors.read_model import ReadModel
from rockets.domain.messages import Message
from rockets.journal.base import Journal
from rockets.journal.memory import MemoryJournal
from rockets.journal.thread import T, inline
from rockets.journal.writer import open_writer


class Gate:
    """A hop that runs inline; while it is shut, what comes waits before it is done."""

    def __init__(self) -> None:
        self._open = trio.Event()
        self._open.set()
        self.waiting = 0

    def shut(self) -> None:
        """Hold back what comes from now on."""
        self._open = trio.Event()

    def open(self) -> None:
        """Let everything through."""
        self._open.set()

    async def __call__(self, fn: Callable[..., T], /, *args: object) -> T:
        """Run the function once the gate is open."""
        self.waiting += 1
        await self._open.wait()
        self.waiting -= 1
        return await inline(fn, *args)


@asynccontextmanager
async def running_fleet(
    journal: Journal | None = None, *, gate: Gate | None = None, limits: FleetLimits | None = None
) -> AsyncIterator[Fleet]:
    """Run a fleet; give a journal to see what it holds, a gate to hold its commits back."""
    async with (
        open_writer(journal or MemoryJournal(), write=gate or inline, read=inline) as writer,
        open_fleet(journal=writer, read_model=ReadModel(), limits=limits or FleetLimits()) as fleet,
    ):
        yield fleet


async def ask(fleet: Fleet, *messages: Message) -> Sequence[Reply]:
    """Hand over messages of one rocket, received at microsecond 1."""
    return await fleet.ask(messages[0].channel, messages, received_at=1)
