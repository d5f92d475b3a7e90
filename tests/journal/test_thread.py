"""The dedicated thread: one, always the same, and gone when its context is."""

import os
import threading
from queue import SimpleQueue
from threading import Event

import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from rockets.journal import inline, open_thread


async def test_a_call_runs_in_the_named_thread_and_its_result_comes_back() -> None:
    async with open_thread("journal writes") as hop:
        name = await hop(lambda: threading.current_thread().name)
        total = await hop(max, 3, 5)

    assert (name, total) == ("journal writes", 5)


async def test_every_call_runs_in_the_same_thread() -> None:
    async with open_thread("one") as hop:
        idents = {await hop(threading.get_ident) for _ in range(9)}

    assert len(idents) == 1
    assert threading.get_ident() not in idents


async def test_an_exception_is_raised_in_the_caller_and_the_thread_goes_on() -> None:
    async with open_thread("one") as hop:
        with pytest.raises(ZeroDivisionError):
            await hop(divmod, 1, 0)

        assert await hop(divmod, 7, 2) == (3, 1)


async def test_calls_of_many_tasks_run_one_by_one_in_the_order_of_asking() -> None:
    gate = threading.Event()
    order: list[int] = []
    async with open_thread("one") as hop, trio.open_nursery() as nursery:
        nursery.start_soon(hop, gate.wait)
        await wait_all_tasks_blocked()
        for turn in range(5):
            nursery.start_soon(hop, order.append, turn)
            await wait_all_tasks_blocked()
        gate.set()

    assert order == [0, 1, 2, 3, 4]


async def test_a_running_call_cannot_be_cancelled() -> None:
    gate = threading.Event()
    async with open_thread("one") as hop, trio.open_nursery() as nursery:
        results: list[bool] = []

        async def call() -> None:
            with trio.CancelScope() as scope:
                nursery.start_soon(cancel_when_it_runs, scope)
                results.append(await hop(gate.wait))

        async def cancel_when_it_runs(scope: trio.CancelScope) -> None:
            await wait_all_tasks_blocked()
            scope.cancel()
            await wait_all_tasks_blocked()
            assert results == []
            gate.set()

        nursery.start_soon(call)

    assert results == [True]


@pytest.mark.parametrize("threaded", [True, False])
async def test_a_call_by_a_cancelled_task_does_not_happen(threaded: bool) -> None:
    done: list[int] = []
    async with open_thread("one") as hop:
        with trio.CancelScope() as scope:
            scope.cancel()
            await (hop if threaded else inline)(done.append, 1)

    assert scope.cancelled_caught
    assert done == []


async def test_the_thread_ends_with_its_context() -> None:
    async with open_thread("one") as hop:
        thread = await hop(threading.current_thread)
        assert thread.is_alive()

    assert not thread.is_alive()


async def test_the_thread_ends_when_its_context_fails() -> None:
    threads: list[threading.Thread] = []

    async def fail() -> None:
        async with open_thread("one") as hop:
            threads.append(await hop(threading.current_thread))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()

    assert [thread.is_alive() for thread in threads] == [False]


async def test_the_thread_ends_with_a_cancelled_context() -> None:
    with trio.CancelScope() as scope:
        async with open_thread("one") as hop:
            thread = await hop(threading.current_thread)
            scope.cancel()
            await trio.sleep_forever()

    assert not thread.is_alive()


async def test_a_call_under_way_when_the_context_ends_is_answered() -> None:
    gate = threading.Event()
    results: list[bool] = []

    async def call() -> None:
        results.append(await hop(gate.wait))

    async with trio.open_nursery() as nursery, open_thread("one") as hop:
        nursery.start_soon(call)
        await wait_all_tasks_blocked()
        gate.set()

    assert results == [True]


async def test_inline_runs_in_the_loop_after_a_checkpoint() -> None:
    with assert_checkpoints():
        ident = await inline(threading.get_ident)

    assert ident == threading.get_ident()


async def test_a_call_that_is_done_before_anybody_waits_is_told_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The thread has the result and has not yet said so, when the task comes to look."""
    done, told = Event(), Event()
    write = os.write

    def write_later(descriptor: int, content: bytes) -> int:
        done.set()
        assert told.wait(10)
        return write(descriptor, content)

    class Calls:
        """Puts a call, and returns when it is done."""

        def __init__(self, calls: SimpleQueue[object]) -> None:
            self._calls = calls

        def put(self, call: object) -> None:
            self._calls.put(call)
            assert call is None or done.wait(10)

    async with open_thread("test") as hop:
        monkeypatch.setattr(os, "write", write_later)
        monkeypatch.setattr(hop, "_calls", Calls(hop._calls))  # type: ignore[attr-defined]  # its own
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hop, lambda: None)
            await wait_all_tasks_blocked()
            told.set()
        monkeypatch.undo()
