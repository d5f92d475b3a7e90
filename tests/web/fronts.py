"""Runs a front, and sees that it leaves nothing behind once its clients have gone."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from trio.testing import wait_all_tasks_blocked

from rockets import listening
from rockets.web.connections import Connection, ConnectionLimits, Connections
from rockets.web.front import Front


class Register(Connections):
    """A register that says when its last connection has gone, also without a stop."""

    def __init__(self, limits: ConnectionLimits | None = None) -> None:
        super().__init__(limits or ConnectionLimits())
        self._dropped = trio.Event()

    def drop(self, connection: Connection) -> None:
        """Take a connection out, and look whether it was the last one."""
        super().drop(connection)
        self._dropped.set()
        self._dropped = trio.Event()

    async def wait_count(self, count: int) -> None:
        """Wait until no more than so many connections are left."""
        while len(self) > count:
            await self._dropped.wait()


@asynccontextmanager
async def running(front: Front, connections: Register) -> AsyncIterator[None]:
    """Run a front with its sweep; each connection must end by itself once its client has left."""
    async with trio.open_nursery() as serving:
        await serving.start(front.run)
        async with trio.open_nursery() as sweeping:
            sweeping.start_soon(connections.sweep)
            yield
            sweeping.cancel_scope.cancel()
        await connections.wait_count(0)
        await wait_all_tasks_blocked()
        assert not front._nursery.child_tasks, "a task has outlived its connection"
        serving.cancel_scope.cancel()


@asynccontextmanager
async def open_port(front: Front, connections: Register) -> AsyncIterator[int]:
    """Run a front behind a port of this machine; gives the port."""
    [listener] = await listening.listen("127.0.0.1", 0, backlog=64)
    with listener:
        async with running(front, connections), trio.open_nursery() as accepting:
            accepting.start_soon(listening.accept, listener, front.take)
            yield listener.getsockname()[1]
            accepting.cancel_scope.cancel()


def pair(sent: bytes = b"") -> tuple[socket.socket, trio.SocketStream]:
    """Make two connected sockets: a plain one for the front, and its peer, which has sent this."""
    near, far = socket.socketpair()
    near.setblocking(False)
    far.sendall(sent)
    return near, trio.SocketStream(trio.socket.from_stdlib_socket(far))
