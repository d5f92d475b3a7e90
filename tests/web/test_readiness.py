"""The watch over many connections: who is looked at, who no more, and turns for others."""

import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio
from trio.testing import wait_all_tasks_blocked

from rockets.web.connections import Connection
from rockets.web.readiness import READY_AT_ONCE, Readiness
from tests.web.fronts import Register


class Watched:
    """Connections that are watched, their peers, and in which order they were found ready."""

    def __init__(self) -> None:
        self.connections = Register()
        self.readiness = Readiness(self._look)
        self.looked: list[Connection] = []
        self.take: Callable[[Connection], object] = lambda connection: connection.receive_nowait()
        self._far_ends: dict[Connection, socket.socket] = {}

    def _look(self, connection: Connection) -> None:
        self.looked.append(connection)
        self.take(connection)

    def add(self) -> Connection:
        """Watch another connection."""
        return self.add_pair(*socket.socketpair())

    def add_pair(self, near: socket.socket, far: socket.socket) -> Connection:
        """Watch a connection that is made already."""
        near.setblocking(False)
        connection = self.connections.admit(near)
        assert connection is not None
        self._far_ends[connection] = far
        self.readiness.watch(connection)
        return connection

    def send(self, *connections: Connection) -> None:
        """Send a byte to each."""
        for connection in connections:
            self._far_ends[connection].sendall(b"x")

    def end(self, connection: Connection) -> None:
        """Close the peer."""
        self._far_ends[connection].close()

    def close(self) -> None:
        """Close everything."""
        self.connections.cut_off()
        for far in self._far_ends.values():
            far.close()


@asynccontextmanager
async def watching() -> AsyncIterator[Watched]:
    """Run a watch."""
    watched = Watched()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watched.readiness.run)
        yield watched
        watched.close()
        nursery.cancel_scope.cancel()


async def test_who_has_sent_something_is_looked_at_and_nobody_else() -> None:
    async with watching() as watched:
        first, _, third = (watched.add() for _ in range(3))
        watched.send(first, third)
        await wait_all_tasks_blocked()

    assert set(watched.looked) == {first, third}
    assert len(watched.looked) == 2


async def test_who_sends_again_is_looked_at_again() -> None:
    async with watching() as watched:
        connection = watched.add()
        for count in range(1, 4):
            watched.send(connection)
            await wait_all_tasks_blocked()
            assert watched.looked == [connection] * count


async def test_what_had_come_before_the_watch_is_found_too() -> None:
    async with watching() as watched:
        connection = watched.add()
        watched.readiness.unwatch(connection)
        watched.send(connection)
        await wait_all_tasks_blocked()
        assert watched.looked == []

        watched.readiness.watch(connection)
        await wait_all_tasks_blocked()

    assert watched.looked == [connection]


async def test_the_end_of_a_peer_is_something_to_look_at() -> None:
    async with watching() as watched:
        watched.take = watched.connections.drop
        connection = watched.add()
        watched.end(connection)
        await wait_all_tasks_blocked()

        assert watched.looked == [connection]
        assert (connection.watcher, connection.fileno()) == (None, -1)


async def test_who_is_closed_or_not_watched_is_not_looked_at() -> None:
    async with watching() as watched:
        closed, unwatched = watched.add(), watched.add()
        watched.send(closed, unwatched)
        watched.connections.drop(closed)
        watched.readiness.unwatch(unwatched)
        await wait_all_tasks_blocked()

        assert unwatched.watcher is None
    assert watched.looked == []


async def test_a_ready_one_that_another_one_has_closed_or_unwatched_is_not_looked_at() -> None:
    async with watching() as watched:
        connections = [watched.add() for _ in range(3)]

        def end_the_others(taken: Connection) -> None:
            taken.receive_nowait()
            one, other = (each for each in connections if each is not taken)
            watched.connections.drop(one)
            watched.readiness.unwatch(other)

        watched.take = end_the_others
        watched.send(*connections)
        await wait_all_tasks_blocked()

    assert len(watched.looked) == 1


async def test_a_new_connection_on_the_descriptor_of_a_closed_one_is_not_taken_for_it() -> None:
    async with watching() as watched:
        old = [watched.add(), watched.add()]
        new: list[Connection] = []

        def replace_the_other(taken: Connection) -> None:
            taken.receive_nowait()
            [other] = (each for each in old if each is not taken)
            near, far = socket.socketpair()
            number = other.fileno()
            watched.connections.drop(other)
            os.dup2(near.fileno(), number)
            near.close()
            new.append(watched.add_pair(socket.socket(fileno=number), far))

        watched.take = replace_the_other
        watched.send(*old)
        await wait_all_tasks_blocked()
        assert len(watched.looked) == 1

        watched.take = lambda connection: connection.receive_nowait()
        watched.send(*new)
        await wait_all_tasks_blocked()

    assert watched.looked[1:] == new


async def test_between_many_ready_ones_other_tasks_get_their_turn() -> None:
    seen: set[int] = set()
    async with watching() as watched:
        connections = [watched.add() for _ in range(2 * READY_AT_ONCE + 1)]
        await wait_all_tasks_blocked()
        watched.send(*connections)
        while len(watched.looked) < len(connections):
            seen.add(len(watched.looked))
            await trio.lowlevel.checkpoint()

    assert max(seen) in {READY_AT_ONCE, 2 * READY_AT_ONCE}
    assert set(watched.looked) == set(connections)
