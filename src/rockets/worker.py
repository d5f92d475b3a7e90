"""A worker: one of several processes that serve one port, seen from inside.

It inherits from its parent the sockets that listen, the board, and the lock on the journal's file:
nobody else opens that while a worker lives, whatever has become of the parent.
The line between the two says when the worker is ready, and by its end that the other one is gone.
"""

import os
import socket
from contextlib import suppress
from typing import Self

import msgspec
import structlog
import trio

from rockets import listening
from rockets.settings import Settings
from rockets.stopping import Stop
from rockets.worker_board import WorkerBoard

log = structlog.get_logger()

READY = b"ready\n"


class Order(msgspec.Struct, frozen=True):
    """What a parent tells its worker, as one line of JSON; descriptors are those inherited."""

    settings: Settings
    index: int
    listeners: list[int]
    board: int


class Worker:
    """What a worker has from its parent, and how it tells that it is ready."""

    def __init__(self, order: Order, line: socket.socket) -> None:
        """Take over what the order names; OSError where that is not there."""
        self.index = order.index
        self.settings = order.settings
        self.listeners = [listening.adopted(each) for each in order.listeners]
        self.board = WorkerBoard(order.board, order.settings.workers)
        self._line = line

    @classmethod
    def begin(cls, descriptor: int) -> Self:
        """Wait for the order on the line with this descriptor, before trio runs."""
        line = socket.socket(fileno=descriptor)
        with line.makefile("rb") as orders:
            return cls(msgspec.json.decode(orders.readline(), type=Order), line)

    def tell_ready(self, _url: str) -> None:
        """Tell the parent that connections are taken; one that is gone is found elsewhere."""
        with suppress(OSError):
            self._line.send(READY)

    async def stop_with_parent(self, stop: Stop) -> None:
        """Stop when the parent is gone, as after a signal."""
        self._line.setblocking(False)
        with suppress(ConnectionError):
            await trio.socket.from_stdlib_socket(self._line).recv(1)
        log.error("parent_gone", pid=os.getpid())
        stop.signal()
