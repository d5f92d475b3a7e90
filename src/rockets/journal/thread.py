"""One dedicated thread that runs blocking calls for trio, one after another.

trio's own `to_thread.run_sync` picks any thread of a cache.
A journal wants always the same one: its calls never overlap and their order is the order of asking.
Threads see bytes and the journal, never the state of an actor.
"""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from queue import SimpleQueue
from threading import Thread
from typing import Protocol, TypeVar

import outcome
import trio

T = TypeVar("T")


class Hop(Protocol):
    """Runs a blocking function somewhere and hands back its result or its exception."""

    async def __call__(self, fn: Callable[..., T], /, *args: object) -> T:
        """Run `fn(*args)`."""


async def inline(fn: Callable[..., T], /, *args: object) -> T:
    """Run the function in the loop, after a checkpoint: for memory and for tests.

    Cancellation is seen before the function starts, never after it.
    """
    await trio.lowlevel.checkpoint()
    return fn(*args)


@asynccontextmanager
async def open_thread(name: str) -> AsyncIterator[Hop]:
    """Start a thread and yield the hop to it; the thread has ended when the context has.

    A call is cancelled only before it was handed over, and then it did not happen.
    From there on it cannot be cancelled: a commit that runs in a thread goes on whatever we do,
    so a `Cancelled` would claim that something did not happen that does.
    The tasks that call belong inside the context: leaving waits for a call under way.
    """
    calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
    # A daemon, because after a crash inside trio nobody is left to end it,
    # and it must not keep the process from exiting.
    thread = Thread(target=_work, args=(calls,), name=name, daemon=True)
    thread.start()
    waiting, waking = os.pipe()
    os.set_blocking(waiting, False)
    hop = _Thread(calls, waiting, waking)
    try:
        yield hop
    finally:
        with trio.CancelScope(shield=True):
            await hop.turn.acquire()  # after the call that may be under way
        calls.put(None)
        thread.join()
        os.close(waiting)
        os.close(waking)


class _Thread:
    """The hop to one thread, as `open_thread` yields it.

    The thread says through a pipe that a call is done. (Measured: trio's own way back costs two
    turns of the scheduler more, 25 µs of the 105 that a hop takes.)
    """

    def __init__(
        self, calls: SimpleQueue[Callable[[], None] | None], waiting: int, waking: int
    ) -> None:
        self.turn = trio.StrictFIFOLock()
        self._calls = calls
        self._waiting = waiting
        self._waking = waking

    async def __call__(self, fn: Callable[..., T], /, *args: object) -> T:
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            self.turn.acquire_nowait()
        except trio.WouldBlock:
            await self.turn.acquire()
        try:
            done: list[outcome.Outcome[T]] = []

            def call() -> None:
                done.append(outcome.capture(fn, *args))
                os.write(self._waking, b".")

            self._calls.put(call)
            # It says so a moment after it is done: what counts is what it says.
            with trio.CancelScope(shield=True):
                await trio.lowlevel.wait_readable(self._waiting)
            os.read(self._waiting, 1)
        finally:
            self.turn.release()
        return done[0].unwrap()


def _work(calls: SimpleQueue[Callable[[], None] | None]) -> None:
    while (call := calls.get()) is not None:
        call()
        # Otherwise the last arguments and their result would live until the next call.
        del call
