"""One dedicated thread that runs blocking calls for trio, one after another.

trio's own `to_thread.run_sync` picks any thread of a cache.
A journal wants always the same one: its calls never overlap and their order is the order of asking.
Threads see bytes and the journal, never the state of an actor.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from queue import SimpleQueue
from threading import Thread
from typing import Any, Protocol, TypeVar

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
    The tasks that call belong inside the context: leaving blocks the loop for a call under way.
    """
    calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
    # A daemon, because after a crash inside trio nobody is left to end it,
    # and it must not keep the process from exiting.
    thread = Thread(target=_work, args=(calls,), name=name, daemon=True)
    thread.start()
    try:
        yield _Thread(calls)
    finally:
        # Who calls is nested in this context and cannot leave before its call is done,
        # so the thread is idle and the join takes microseconds.
        calls.put(None)
        thread.join()


class _Thread:
    """The hop to one thread, as `open_thread` yields it."""

    def __init__(self, calls: SimpleQueue[Callable[[], None] | None]) -> None:
        self._calls = calls

    async def __call__(self, fn: Callable[..., T], /, *args: object) -> T:
        await trio.lowlevel.checkpoint_if_cancelled()
        task = trio.lowlevel.current_task()
        token = trio.lowlevel.current_trio_token()

        def call() -> None:
            token.run_sync_soon(trio.lowlevel.reschedule, task, outcome.capture(fn, *args))

        self._calls.put(call)
        result: T = await trio.lowlevel.wait_task_rescheduled(_refuse_to_abort)
        return result


def _refuse_to_abort(_: Any) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.FAILED


def _work(calls: SimpleQueue[Callable[[], None] | None]) -> None:
    while (call := calls.get()) is not None:
        call()
        # Otherwise the last arguments and their result would live until the next call.
        del call
