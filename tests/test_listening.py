"""The loop that takes connections: what they inherit, and what it does when taking one fails."""

import errno
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from rockets.listening import (
    _GONE,
    ACCEPT_PAUSE_S,
    ACCEPTED_AT_ONCE,
    NOTSENT_LOWAT,
    accept,
    listen,
    url,
)


class Listener(socket.socket):
    """Listens for real; the first calls of `accept` fail with these errors."""

    errors: list[int]

    def accept(self) -> tuple[socket.socket, object]:
        """Take a connection, or fail."""
        if self.errors:
            raise OSError(self.errors.pop(0), "no")
        return super().accept()


class Taken:
    """Keeps the connections that were taken."""

    def __init__(self) -> None:
        self.sockets: list[socket.socket] = []
        self.first = trio.Event()

    def take(self, sock: socket.socket) -> None:
        """Take one."""
        self.sockets.append(sock)
        self.first.set()

    def close(self) -> None:
        """Close them all."""
        for sock in self.sockets:
            sock.close()


@asynccontextmanager
async def accepting(*errors: int) -> AsyncIterator[tuple[Listener, Taken]]:
    """Take connections of a listener on a free port."""
    [opened] = await listen("127.0.0.1", 0, backlog=200)
    taken = Taken()
    with Listener(fileno=opened.detach()) as listener:
        listener.errors = list(errors)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept, listener, taken.take)
            yield listener, taken
            nursery.cancel_scope.cancel()
    taken.close()


async def test_a_connection_does_not_block_and_has_the_options_of_its_listener() -> None:
    async with accepting() as (listener, taken):
        with socket.create_connection(listener.getsockname()) as client:
            await wait_all_tasks_blocked()
            [sock] = taken.sockets

            assert type(sock) is socket.socket
            assert not sock.getblocking()
            assert sock.getpeername() == client.getsockname()
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
            notsent = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT)
            assert notsent == NOTSENT_LOWAT


async def test_all_who_wait_are_taken_and_others_get_a_turn_meanwhile() -> None:
    seen: set[int] = set()
    count = 2 * ACCEPTED_AT_ONCE + 1
    async with accepting() as (listener, taken):
        clients = [socket.create_connection(listener.getsockname()) for _ in range(count)]
        while len(taken.sockets) < count:
            seen.add(len(taken.sockets))
            await trio.lowlevel.checkpoint()
        for client in clients:
            client.close()

    assert max(seen) in {ACCEPTED_AT_ONCE, 2 * ACCEPTED_AT_ONCE}


@pytest.mark.parametrize("error", sorted(_GONE))
async def test_a_connection_that_failed_before_it_was_taken_is_passed_over(error: int) -> None:
    with capture_logs() as logs:
        async with accepting(error, error) as (listener, taken):
            with socket.create_connection(listener.getsockname()):
                await wait_all_tasks_blocked()

            assert len(taken.sockets) == 1
    assert logs == []


async def test_a_shortage_of_descriptors_pauses_accepting_and_is_logged_once(
    autojump_clock: MockClock,
) -> None:
    shortage = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
    with capture_logs() as logs:
        async with accepting(*shortage) as (listener, taken):
            started = trio.current_time()
            with socket.create_connection(listener.getsockname()):
                await taken.first.wait()

            assert trio.current_time() - started == pytest.approx(4 * ACCEPT_PAUSE_S)
            assert len(taken.sockets) == 1
    assert [line["event"] for line in logs] == ["accept_paused"]


async def test_another_shortage_after_a_connection_is_logged_again(
    autojump_clock: MockClock,
) -> None:
    with capture_logs() as logs:
        async with accepting() as (listener, taken):
            for _ in range(2):
                listener.errors = [errno.EMFILE]
                with socket.create_connection(listener.getsockname()):
                    await trio.sleep(2 * ACCEPT_PAUSE_S)

            assert len(taken.sockets) == 2
    assert [line["event"] for line in logs] == ["accept_paused"] * 2


async def test_an_error_of_the_listener_itself_is_raised() -> None:
    with pytest.RaisesGroup(OSError):
        async with accepting(errno.EINVAL) as (listener, _):
            with socket.create_connection(listener.getsockname()):
                await trio.sleep_forever()


async def test_the_address_is_shown_as_a_url() -> None:
    [listener] = await listen("127.0.0.1", 0, backlog=1)
    with listener:
        assert url(listener) == f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_an_address_of_ipv6_stands_in_brackets_in_a_url() -> None:
    class Named(socket.socket):  # a machine may have no IPv6
        def getsockname(self) -> tuple[object, ...]:
            return "::1", 80, 0, 0

    with Named() as listener:
        assert url(listener) == "http://[::1]:80"


async def test_a_port_in_use_is_an_error_and_leaves_nothing_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        await listen("127.0.0.1", taken.getsockname()[1], backlog=1)
