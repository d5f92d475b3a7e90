"""The register of connections: who goes first, when, and what a stop closes."""

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from rockets.web.connections import (
    SWEEP_INTERVAL_S,
    Connection,
    ConnectionLimits,
    Connections,
    Phase,
)

LIMITS = ConnectionLimits(
    connections_max=4, header_timeout_s=5, idle_timeout_s=75, crowded_idle_timeout_s=10
)


class Peers:
    """Connections of one register, and the far ends that keep them open."""

    def __init__(self, connections: Connections) -> None:
        self.connections = connections
        self._far_ends: list[socket.socket] = []

    def stream(self) -> trio.SocketStream:
        """Open a pair of sockets and give the near one."""
        near, far = socket.socketpair()
        self._far_ends.append(far)
        return trio.SocketStream(trio.socket.from_stdlib_socket(near))

    def add(self, phase: Phase = "reading") -> Connection:
        """Admit a connection and bring it into a phase."""
        connection = self.connections.admit(self.stream())
        assert connection is not None
        if phase != "reading":
            self.connections.enter(connection, phase)
        return connection

    def close(self) -> None:
        for far in self._far_ends:
            far.close()


@asynccontextmanager
async def peers(limits: ConnectionLimits = LIMITS) -> AsyncIterator[Peers]:
    """A register with its sweep running."""
    opened = Peers(Connections(limits))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(opened.connections.sweep)
        yield opened
        nursery.cancel_scope.cancel()
    opened.connections.cut_off()
    opened.close()


def is_open(connection: Connection) -> bool:
    return connection.stream.socket.fileno() >= 0


async def time_of_close(connection: Connection, seconds: float) -> float:
    """Wait until a connection has been closed; gives how long it took, at most these seconds."""
    started = trio.current_time()
    with trio.move_on_after(seconds), pytest.raises(trio.ClosedResourceError):
        await connection.stream.receive_some(1)
    return trio.current_time() - started


async def test_at_the_limit_the_one_longest_idle_goes_first(autojump_clock: MockClock) -> None:
    async with peers() as opened:
        reading, busy = opened.add(), opened.add("busy")
        older = opened.add("idle")
        await trio.sleep(1)
        newer = opened.add("idle")

        opened.add()

        assert not is_open(older)
        assert all(is_open(other) for other in (reading, busy, newer))
        assert opened.connections.statistics().evicted == 1


async def test_a_connection_used_again_counts_as_idle_from_then_on(
    autojump_clock: MockClock,
) -> None:
    async with peers() as opened:
        used, unused = opened.add("idle"), opened.add("idle")
        opened.connections.enter(used, "busy")
        opened.connections.enter(used, "idle")
        opened.add("busy")
        opened.add("busy")

        opened.add()

        assert is_open(used)
        assert not is_open(unused)


async def test_without_an_idle_one_the_oldest_unfinished_head_goes() -> None:
    async with peers() as opened:
        older, newer = opened.add(), opened.add()
        busy = [opened.add("busy"), opened.add("busy")]

        opened.add()

        assert not is_open(older)
        assert is_open(newer)
        assert all(map(is_open, busy))


async def test_without_an_unfinished_head_the_oldest_unfinished_body_goes() -> None:
    async with peers() as opened:
        older, newer = opened.add("receiving"), opened.add("receiving")
        busy, reading = opened.add("busy"), opened.add()

        opened.add()
        assert not is_open(reading)
        opened.connections.remove(opened.add("busy"))  # the newcomer goes before them as well
        opened.add("busy")
        opened.add("busy")

        assert not is_open(older)
        assert is_open(newer)
        assert is_open(busy)


async def test_a_busy_connection_is_never_closed_for_another_one() -> None:
    async with peers() as opened:
        busy = [opened.add("busy") for _ in range(4)]
        stream = opened.stream()

        assert opened.connections.admit(stream) is None
        assert all(map(is_open, busy))
        assert opened.connections.statistics().refused == 1
        await stream.aclose()


async def test_the_counts_follow_the_phases() -> None:
    async with peers() as opened:
        opened.add()
        opened.add("idle")
        removed = opened.add("busy")
        opened.add("busy")
        opened.connections.remove(removed)

        counts = opened.connections.statistics()

        assert (counts.reading, counts.idle, counts.busy) == (1, 1, 1)
        assert (counts.accepted, counts.peak, len(opened.connections)) == (4, 4, 3)
        assert not is_open(removed)


async def test_an_unfinished_head_is_cut_within_a_sweep_after_its_time(
    autojump_clock: MockClock,
) -> None:
    async with peers() as opened:
        await trio.sleep(0.1)  # out of step with the sweep

        took = await time_of_close(opened.add(), 60)

        assert 5 <= took <= 5 + SWEEP_INTERVAL_S
        assert opened.connections.statistics().timed_out == 1


async def test_the_head_of_a_later_request_has_the_same_time(autojump_clock: MockClock) -> None:
    async with peers() as opened:
        connection = opened.add("idle")
        await trio.sleep(60)
        opened.connections.enter(connection, "reading")

        assert 5 <= await time_of_close(connection, 60) <= 5 + SWEEP_INTERVAL_S


async def test_an_idle_connection_is_closed_after_the_long_time_while_there_is_room(
    autojump_clock: MockClock,
) -> None:
    async with peers() as opened:
        opened.add("busy")

        took = await time_of_close(opened.add("idle"), 200)

        assert 75 <= took <= 75 + SWEEP_INTERVAL_S


async def test_an_idle_connection_is_closed_early_while_more_than_half_are_in_use(
    autojump_clock: MockClock,
) -> None:
    async with peers() as opened:
        opened.add("busy")
        opened.add("busy")

        took = await time_of_close(opened.add("idle"), 200)

        assert 10 <= took <= 10 + SWEEP_INTERVAL_S


async def test_a_connection_with_a_request_has_no_time_limit_here(
    autojump_clock: MockClock,
) -> None:
    async with peers() as opened:
        busy, receiving = opened.add("busy"), opened.add("receiving")

        await trio.sleep(200)

        assert is_open(busy)
        assert is_open(receiving)


async def test_a_stop_closes_what_has_no_request_and_admits_nobody() -> None:
    async with peers() as opened:
        closed = [opened.add(), opened.add("idle")]
        kept = [opened.add("receiving"), opened.add("busy")]
        stream = opened.stream()

        opened.connections.stop()

        assert opened.connections.stopping
        assert not any(map(is_open, closed))
        assert all(map(is_open, kept))
        assert opened.connections.admit(stream) is None
        await stream.aclose()


async def test_a_cut_off_closes_the_busy_too() -> None:
    async with peers() as opened:
        everyone = [opened.add(), opened.add("idle"), opened.add("busy")]

        opened.connections.cut_off()

        assert not any(map(is_open, everyone))
        assert len(opened.connections) == 0


DROPS: list[Callable[[Peers], object]] = [
    lambda opened: opened.connections.stop(),
    lambda opened: [opened.add("busy") for _ in range(4)],
]


@pytest.mark.parametrize("drop", DROPS, ids=["stop", "eviction"])
async def test_a_dropped_connection_cannot_come_back(drop: Callable[[Peers], object]) -> None:
    async with peers() as opened:
        connection = opened.add()
        drop(opened)
        count = len(opened.connections)

        # Its task had received the rest of the head just before.
        with pytest.raises(trio.ClosedResourceError):
            opened.connections.enter(connection, "busy")
        opened.connections.remove(connection)

        assert len(opened.connections) == count


async def test_a_peer_that_has_already_gone_is_not_admitted() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    far = socket.create_connection(listener.getsockname())
    near, _ = listener.accept()
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # close resets
    far.close()
    listener.close()
    async with trio.SocketStream(trio.socket.from_stdlib_socket(near)) as stream:
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some(1)

        connections = Connections(LIMITS)

        assert connections.admit(stream) is None
        assert len(connections) == 0


async def test_a_connection_knows_both_addresses() -> None:
    async with peers() as opened:
        unnamed = opened.add()  # a pair of sockets has no addresses
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        async with listener, await trio.open_tcp_stream("127.0.0.1", port) as far:
            connection = opened.connections.admit(await listener.accept())

            assert connection is not None
            assert connection.server == ("127.0.0.1", port)
            assert connection.client == far.socket.getsockname()
        assert (unnamed.client, unnamed.server) == (None, None)
