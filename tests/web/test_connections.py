"""The register of connections: who goes first, when, what a stop closes, and answering."""

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from rockets.web.connections import (
    LINGER_S,
    SWEEP_INTERVAL_S,
    Connection,
    ConnectionLimits,
    Connections,
    Phase,
    Then,
)

PHASES: tuple[Phase, ...] = ("idle", "busy", "closing")
LIMITS = ConnectionLimits(
    connections_max=4, header_timeout_s=5, idle_timeout_s=75, crowded_idle_timeout_s=10
)


class Peers:
    """Connections of one register, and the far ends that keep them open."""

    def __init__(self, connections: Connections) -> None:
        self.connections = connections
        self._far_ends: list[socket.socket] = []

    def near_end(self) -> socket.socket:
        """Open a pair of sockets and give the near one."""
        near, far = socket.socketpair()
        near.setblocking(False)
        self._far_ends.append(far)
        return near

    def add(self, phase: Phase = "reading") -> Connection:
        """Admit a connection and bring it into a phase."""
        connection = self.connections.admit(self.near_end())
        assert connection is not None
        if phase != "reading":
            self.connections.enter(connection, phase)
        return connection

    def add_owing(self) -> tuple[Connection, socket.socket]:
        """Admit a connection that owes an answer; gives it and its peer, which does not block."""
        connection, far = self.add("busy"), self._far_ends[-1]
        far.setblocking(False)
        connection.owes = True
        return connection, far

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


class Unsent:
    """Who would send the rest of answers; notes which."""

    def __init__(self, connections: Connections) -> None:
        self.connections: list[Connection] = []
        connections.on_unsent = self.connections.append


def is_open(connection: Connection) -> bool:
    return connection.fileno() >= 0


async def time_of_close(connection: Connection, seconds: float) -> float:
    """Wait until a connection has been closed; gives how long it took, at most these seconds."""
    started = trio.current_time()
    with trio.move_on_after(seconds), pytest.raises(trio.ClosedResourceError):
        await connection.receive(1)
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


async def test_one_that_is_about_to_close_goes_before_an_idle_one() -> None:
    async with peers() as opened:
        others = [opened.add("idle"), opened.add(), opened.add("busy")]
        closing = opened.add("closing")

        opened.add()

        assert not is_open(closing)
        assert all(map(is_open, others))


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
        opened.connections.drop(opened.add("busy"))  # the newcomer goes before them as well
        opened.add("busy")
        opened.add("busy")

        assert not is_open(older)
        assert is_open(newer)
        assert is_open(busy)


async def test_a_busy_connection_is_never_closed_for_another_one() -> None:
    async with peers() as opened:
        busy = [opened.add("busy") for _ in range(4)]
        with opened.near_end() as sock:
            assert opened.connections.admit(sock) is None
        assert all(map(is_open, busy))
        assert opened.connections.statistics().refused == 1


async def test_the_counts_follow_the_phases() -> None:
    async with peers() as opened:
        opened.add()
        opened.add("idle")
        opened.add("closing")
        removed = opened.add("busy")
        opened.connections.drop(removed)
        opened.add("busy")

        counts = opened.connections.statistics()

        assert (counts.reading, counts.idle, counts.busy, counts.closing) == (1, 1, 1, 1)
        assert (counts.accepted, counts.peak, len(opened.connections)) == (5, 4, 4)
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


async def test_a_peer_that_does_not_close_after_the_last_answer_is_closed_soon(
    autojump_clock: MockClock,
) -> None:
    async with peers() as opened:
        took = await time_of_close(opened.add("closing"), 60)

        assert LINGER_S <= took <= LINGER_S + SWEEP_INTERVAL_S
        assert opened.connections.statistics().timed_out == 0  # it had its answer


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
        kept = [opened.add("receiving"), opened.add("closing")]

        opened.connections.stop()

        assert opened.connections.stopping
        assert not any(map(is_open, closed))
        assert all(map(is_open, kept))
        with opened.near_end() as sock:
            assert opened.connections.admit(sock) is None


async def test_after_a_stop_the_end_of_the_last_connection_is_told() -> None:
    async with peers() as opened, trio.open_nursery() as nursery:
        left = [opened.add("busy"), opened.add("closing")]
        ended = trio.Event()

        async def wait_end() -> None:
            await opened.connections.wait_none_left()
            ended.set()

        nursery.start_soon(wait_end)
        opened.connections.drop(opened.add())  # before the stop it is nothing to tell of
        opened.connections.stop()
        for connection in left:
            await wait_all_tasks_blocked()
            assert not ended.is_set()
            opened.connections.drop(connection)


@pytest.mark.parametrize("phase", ["idle", None])
async def test_a_stop_with_nobody_busy_is_over_at_once(phase: Phase | None) -> None:
    async with peers() as opened:
        if phase is not None:
            opened.add(phase)

        opened.connections.stop()

        await opened.connections.wait_none_left()


async def test_a_cut_off_closes_the_busy_too() -> None:
    async with peers() as opened:
        everyone = [opened.add(), *map(opened.add, PHASES)]

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
        opened.connections.drop(connection)

        assert len(opened.connections) == count


async def test_a_peer_that_has_already_gone_is_not_admitted() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    far = socket.create_connection(listener.getsockname())
    near, _ = listener.accept()
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # close resets
    far.close()
    listener.close()
    with near:
        with pytest.raises(ConnectionResetError):
            near.recv(1)

        connections = Connections(LIMITS)

        assert connections.admit(near) is None
        assert len(connections) == 0


async def test_a_connection_knows_both_addresses() -> None:
    async with peers() as opened:
        unnamed = opened.add()  # a pair of sockets has no addresses
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        async with listener, await trio.open_tcp_stream("127.0.0.1", port) as far:
            near = await listener.accept()
            connection = opened.connections.admit(socket.socket(fileno=near.socket.detach()))

            assert connection is not None
            assert connection.server == ("127.0.0.1", port)
            assert connection.client == far.socket.getsockname()
        assert (unnamed.client, unnamed.server) == (None, None)


# --- the answer that a connection owes ---

ANSWER = b"HTTP/1.1 204 \r\n\r\n"
LONG = bytes(range(256)) * 8_192  # 2 MiB: more than a pair of sockets holds
THENS: tuple[Then, ...] = ("keep", "close", "drop")


def received(far: socket.socket) -> bytes:
    """Everything that has come, up to the end or to what there is."""
    data = b""
    try:
        while piece := far.recv(1 << 20):
            data += piece
    except BlockingIOError:
        pass
    return data


def sees_end(far: socket.socket) -> bool:
    """Say whether the other side has ended its direction."""
    try:
        return far.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False


async def test_an_answer_is_sent_and_the_connection_waits_for_the_next_request() -> None:
    async with peers() as opened:
        connection, far = opened.add_owing()

        opened.connections.answer(connection, ANSWER, then="keep")

        assert (connection.phase, connection.owes, connection.unsent) == ("idle", False, None)
        assert received(far) == ANSWER
        assert is_open(connection)
        assert not sees_end(far)


async def test_after_a_last_answer_this_side_ends_and_the_peer_may_still_send() -> None:
    async with peers() as opened:
        connection, far = opened.add_owing()

        opened.connections.answer(connection, ANSWER, then="close")

        assert (connection.phase, connection.owes) == ("closing", False)
        assert received(far) == ANSWER
        assert sees_end(far)
        far.send(b"more")
        assert await connection.receive() == b"more"


async def test_after_a_last_answer_to_who_sends_no_more_the_connection_is_closed() -> None:
    async with peers() as opened:
        connection, far = opened.add_owing()

        opened.connections.answer(connection, ANSWER, then="drop")

        assert received(far) == ANSWER
        assert sees_end(far)
        assert not is_open(connection)
        assert (connection.owes, len(opened.connections)) == (False, 0)


@pytest.mark.parametrize("then", THENS)
async def test_during_a_stop_an_answer_is_the_last_one(then: Then) -> None:
    async with peers() as opened:
        connection, far = opened.add_owing()
        opened.connections.stop()

        opened.connections.answer(connection, ANSWER, then=then)

        assert received(far) == ANSWER
        assert sees_end(far)
        assert is_open(connection) is (then != "drop")
        opened.connections.drop(connection)
        await opened.connections.wait_none_left()


@pytest.mark.parametrize("then", THENS)
@pytest.mark.parametrize("data", [ANSWER, LONG])
async def test_whose_connection_was_dropped_gets_no_answer(data: bytes, then: Then) -> None:
    async with peers() as opened:
        unsent = Unsent(opened.connections)
        connection, far = opened.add_owing()
        opened.connections.drop(connection)

        opened.connections.answer(connection, data, then=then)

        assert received(far) == b""
        assert (len(opened.connections), unsent.connections) == (0, [])
        assert not connection.owes


@pytest.mark.parametrize("then", THENS)
async def test_a_peer_that_has_gone_before_its_answer_harms_nobody(then: Then) -> None:
    async with peers() as opened:
        unsent = Unsent(opened.connections)
        connection, far = opened.add_owing()
        far.close()

        opened.connections.answer(connection, ANSWER, then=then)

        assert not is_open(connection)
        assert (len(opened.connections), unsent.connections) == (0, [])


@pytest.mark.parametrize("then", THENS)
@pytest.mark.parametrize("full", [False, True])
async def test_what_the_socket_does_not_take_is_left_with_what_follows(
    then: Then, full: bool
) -> None:
    async with peers() as opened:
        unsent = Unsent(opened.connections)
        connection, far = opened.add_owing()
        before = fill(connection) if full else 0

        opened.connections.answer(connection, LONG, then=then)

        assert connection.unsent is not None
        rest, after = connection.unsent
        assert LONG.endswith(rest)
        assert (len(rest) == len(LONG)) is full
        assert after == then
        assert (connection.phase, connection.owes) == ("busy", True)
        assert unsent.connections == [connection]
        assert not sees_end(far)
        assert len(received(far)) == before + len(LONG) - len(rest)


def fill(connection: Connection) -> int:
    """Send until the socket takes no more; gives how many bytes that were."""
    count = 0
    while sent := connection.send_nowait(b"x" * 65_536):
        count += sent
    return count


async def test_nobody_is_called_for_the_rest_while_somebody_has_the_connection_in_hand() -> None:
    async with peers() as opened, trio.open_nursery() as nursery:
        unsent = Unsent(opened.connections)
        connection, _ = opened.add_owing()
        connection.in_hand = True
        nursery.start_soon(connection.wait_paid)  # who has it is told instead
        await wait_all_tasks_blocked()

        opened.connections.answer(connection, LONG, then="keep")

        assert connection.unsent is not None
        assert unsent.connections == []


@pytest.mark.parametrize(("then", "phase"), [("keep", "idle"), ("close", "closing")])
async def test_once_the_rest_is_sent_the_answer_is_over(then: Then, phase: Phase) -> None:
    async with peers() as opened:
        Unsent(opened.connections)
        connection, far = opened.add_owing()
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(far.dup()))
        opened.connections.answer(connection, LONG, then=then)
        assert connection.unsent is not None
        (rest, after), connection.unsent = connection.unsent, None
        data = b""

        async with stream, trio.open_nursery() as nursery:
            nursery.start_soon(connection.send, rest)
            while len(data) < len(LONG):
                data += await stream.receive_some()
        opened.connections.answer(connection, b"", then=after)

        assert data == LONG
        assert (connection.phase, connection.owes) == (phase, False)


@pytest.mark.parametrize("end", ["answer", "drop"])
async def test_who_waits_for_the_answer_is_told_that_it_is_sent_or_never_will_be(end: str) -> None:
    async with peers() as opened, trio.open_nursery() as nursery:
        connection, _ = opened.add_owing()
        nursery.start_soon(connection.wait_paid)
        await wait_all_tasks_blocked()

        if end == "answer":
            opened.connections.answer(connection, ANSWER, then="keep")
        else:
            opened.connections.drop(connection)

        assert not connection.owes
