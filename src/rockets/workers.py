"""The parent of several workers that serve one port: it starts them, and none of the requests.

It binds the port, holds the journal's file for them, and keeps all of them running: one that dies
of a signal is started again, one that ends with an error ends all, because what is wrong with the
storage is wrong for all. They are stopped together.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import msgspec
import structlog
import trio

from rockets import __version__, listening
from rockets.journal import hold_file
from rockets.settings import Settings
from rockets.stopping import EXIT_FORCED, Stop, watch_signals
from rockets.worker import READY, Order
from rockets.worker_board import WorkerBoard

log = structlog.get_logger()

RESTART_S = 1.0
"""Between two starts of one worker, so that one that dies at once does not take all the time."""

KILL_S = 2.0
"""A worker ends by itself within its grace period; so long after that it is killed."""


async def serve_workers(
    settings: Settings, *, started: Callable[[str], None] = lambda url: None
) -> int:
    """Run `settings.workers` workers until a signal or a failure; gives the exit code.

    `started` gets the URL once all of them take connections.
    Raises ServeRefused or JournalRefused where it cannot start.
    """
    stop = Stop(settings.shutdown_grace_s)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_signals, stop.signal)
        with _held(settings) as lock, ExitStack() as opened:
            listeners = await listening.open_listeners(
                settings.host, settings.port, backlog=settings.backlog
            )
            for listener in listeners:
                opened.enter_context(listener)
            board = WorkerBoard.make(settings.workers)
            opened.callback(os.close, board)
            workers = _Workers(settings, stop, listeners, board, lock)
            url = listening.url(listeners[0], use_tls=bool(settings.tls_certificate))
            nursery.start_soon(_tell_started, workers, url, started)
            await workers.run()
        log.info("stopped", failed=stop.failed.is_set())
        nursery.cancel_scope.cancel()
    return stop.code


@contextmanager
def _held(settings: Settings) -> Iterator[list[int]]:
    """Hold the journal's file, where it is one; gives what makes a worker hold it as well."""
    if settings.journal_kind != "sqlite":
        yield []
        return
    with hold_file(settings.database, settings.durability) as lock:
        yield [lock]


async def _tell_started(workers: "_Workers", url: str, started: Callable[[str], None]) -> None:
    for ready in workers.ready:
        await ready.wait()
    log.info("started", url=url, pid=os.getpid(), version=__version__, workers=len(workers.ready))
    started(url)


class _Workers:
    """All workers, each kept by a task of its own."""

    def __init__(
        self,
        settings: Settings,
        stop: Stop,
        listeners: list[socket.socket],
        board: int,
        lock: list[int],
    ) -> None:
        self.ready = [trio.Event() for _ in range(settings.workers)]
        self._settings = settings
        self._stop = stop
        self._listeners = listeners
        self._board = board
        self._health = WorkerBoard(board, settings.workers)
        self._lock = lock
        self._running: dict[int, trio.Process] = {}

    async def run(self) -> None:
        """Keep them until a stop, and end them."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._end)
            async with trio.open_nursery() as keeping:
                for index in range(self._settings.workers):
                    keeping.start_soon(self._keep, index)
            nursery.cancel_scope.cancel()

    async def _end(self) -> None:
        """Let all of them stop when that is asked for, and kill what does not come to an end."""
        await self._stop.requested.wait()
        log.info("stopping", workers=len(self._running))
        for listener in self._listeners:
            listener.close()
        for process in self._running.values():
            process.terminate()
        await trio.sleep(self._stop.grace_s + KILL_S)
        log.error("stop_forced", grace_s=self._stop.grace_s)
        self._stop.fail(EXIT_FORCED)
        for process in self._running.values():
            process.kill()

    async def _keep(self, index: int) -> None:
        """Run one worker, and again where it has died and all others go on."""
        while not self._stop.requested.is_set():
            began = trio.current_time()
            code = await self._run(index)
            if code > 0 and code != EXIT_FORCED:
                # What the first one ended with says more than what the others then find.
                self._stop.fail(self._stop.code or code)
            elif not self._stop.requested.is_set():
                log.warning("worker_ended", worker=index + 1, code=code)
                with trio.move_on_at(began + RESTART_S):
                    await self._stop.requested.wait()

    async def _run(self, index: int) -> int:
        """Run one worker to its end; gives its exit code, or the number of a signal below 0."""
        listeners = [listener.fileno() for listener in self._listeners]
        order = Order(self._settings, index, listeners, self._board)
        ours, its = socket.socketpair()
        with ours:
            with its:
                process = await self._start(order, its)
                ours.send(msgspec.json.encode(order) + b"\n")
            self._running[index] = process
            if self._stop.requested.is_set():
                process.terminate()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._wait_ready, index, ours)
                code = await process.wait()
                nursery.cancel_scope.cancel()
        del self._running[index]
        self._health.clear(index)
        return code

    async def _start(self, order: Order, line: socket.socket) -> trio.Process:
        of = f"{order.index + 1}/{self._settings.workers}"  # for whoever reads a list of processes
        return await trio.lowlevel.open_process(
            [sys.executable, "-m", "rockets.cli.worker", str(line.fileno()), of],
            stdin=subprocess.DEVNULL,
            pass_fds=[line.fileno(), *order.listeners, order.board, *self._lock],
            # Ctrl-C goes to a whole group; they are told by the parent, once.
            process_group=0,
        )

    async def _wait_ready(self, index: int, line: socket.socket) -> None:
        line.setblocking(False)
        # Nothing comes from one that ends before it is ready.
        with suppress(ConnectionError):
            if await trio.socket.from_stdlib_socket(line).recv(len(READY)) == READY:
                self.ready[index].set()
