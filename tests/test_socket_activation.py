"""Sockets that a service manager opens: the service takes them, and a restart refuses nobody."""

import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import pytest
import trio

from rockets.listening import FIRST_INHERITED, NOTSENT_LOWAT, inherited
from tests.helpers import ServerProcess, body, connected, get, post, serving

NOBODY = "1"


class HasFileno(Protocol):
    """An open file or socket."""

    def fileno(self) -> int:
        """Its descriptor."""


@contextmanager
def listening_socket() -> Iterator[socket.socket]:
    """Listen on a free port, as a service manager does before it starts anybody."""
    with socket.create_server(("127.0.0.1", 0), backlog=1_024) as sock:
        yield sock


@contextmanager
def passed_on(opened: HasFileno) -> Iterator[None]:
    """Put a copy of a socket where a service manager puts it; who takes it may close it."""
    try:
        before = os.dup(FIRST_INHERITED)
    except OSError:
        before = None
    os.dup2(opened.fileno(), FIRST_INHERITED)
    try:
        yield
    finally:
        if before is None:
            with suppress(OSError):
                os.close(FIRST_INHERITED)
        else:
            os.dup2(before, FIRST_INHERITED)
            os.close(before)


@asynccontextmanager
async def activated(
    directory: Path, sock: socket.socket, *flags: str
) -> AsyncIterator[ServerProcess]:
    """Run a server on a socket that was opened before it."""
    descriptor = sock.fileno()
    command = ("-m", "tests.activated_serve", str(descriptor))
    async with serving(directory, *flags, command=command, pass_fds=(descriptor,)) as server:
        yield server


def variables(pid: str, count: str) -> dict[str, str]:
    """The variables of a service manager, and another one."""
    return {"LISTEN_PID": pid, "LISTEN_FDS": count, "LISTEN_FDNAMES": "http", "HOME": "/"}


def test_a_socket_that_was_passed_on_is_taken_and_its_variables_are_removed() -> None:
    environment = variables(str(os.getpid()), "1")
    with listening_socket() as sock, passed_on(sock):
        [listener] = inherited(environment)

        assert listener.fileno() == FIRST_INHERITED
        assert listener.getsockname() == sock.getsockname()
        assert not listener.get_inheritable()
        assert listener.gettimeout() == 0
        assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == NOTSENT_LOWAT
        listener.detach()
    assert environment == {"HOME": "/"}


@pytest.mark.parametrize(
    "environment",
    [{}, variables(NOBODY, "1"), variables("", ""), variables(str(os.getpid()), "0")],
)
def test_without_sockets_for_this_process_there_are_none(environment: dict[str, str]) -> None:
    assert inherited(environment) == []


def test_a_descriptor_that_does_not_listen_is_refused() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, passed_on(ours), pytest.raises(OSError, match="does not listen for TCP"):
        inherited(variables(str(os.getpid()), "1"))


def test_a_descriptor_that_is_no_socket_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file, passed_on(file):
        with pytest.raises(OSError, match="non-socket"):
            inherited(variables(str(os.getpid()), "1"))


def test_a_count_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="'many'"):
        inherited(variables(str(os.getpid()), "many"))


@pytest.mark.slow
async def test_a_restart_under_load_refuses_nobody_and_loses_nothing(tmp_path: Path) -> None:
    clients, each = 8, 60
    answers: dict[tuple[str, int], int] = {}
    half, whole = trio.Event(), trio.Event()

    async def send(port: int, channel: str) -> None:
        """Send one message on each connection, as the test program does not but many scripts do."""
        for number in range(1, each + 1):
            async with connected(port) as client:
                reply = await client.ask(post(body(channel, number)), timeout_s=30)
            answers[channel, number] = reply.status
            if len(answers) == clients * each // 2:
                half.set()
            if len(answers) == clients * each:
                whole.set()

    with listening_socket() as sock:
        port = sock.getsockname()[1]
        async with trio.open_nursery() as nursery, activated(tmp_path, sock) as first:
            assert first.port == port
            for place in range(clients):
                nursery.start_soon(send, port, f"r-{place}")
            await half.wait()
            assert await first.stop() == 0
            answered = len(answers)
            async with activated(tmp_path, sock) as second:
                with trio.fail_after(30):
                    await whole.wait()
                async with connected(port) as client:
                    page: Any = (await client.ask(get("/rockets"))).json
                    listed = [rocket["lastMessageNumber"] for rocket in page["rockets"]]
                assert await second.stop() == 0
    assert answered < clients * each, "there was load while nobody accepted"
    assert set(answers.values()) == {204}
    assert listed == [each] * clients


@pytest.mark.slow
async def test_requests_on_kept_connections_are_answered_when_a_stop_begins(tmp_path: Path) -> None:
    """Whoever sends one request after the other learns of the stop from an answer, not a reset."""
    # In memory, so that a connection is as often between two requests as in one.
    memory = ("--durability", "memory")
    async with serving(tmp_path, *memory) as server, trio.open_nursery() as nursery:
        last: list[tuple[int, str | None]] = []

        async def send(channel: str) -> None:
            async with connected(server.port) as client:
                number = 0
                while True:
                    number += 1
                    reply = await client.ask(post(body(channel, number)), timeout_s=10)
                    if reply.headers.get("connection") == "close":
                        last.append((reply.status, channel))
                        return
                    if number == 20:
                        started.set()

        started = trio.Event()
        for place in range(8):
            nursery.start_soon(send, f"r-{place}")
        await started.wait()
        server.process.send_signal(signal.SIGTERM)
        assert await server.wait() == 0
    assert sorted(last) == [(204, f"r-{place}") for place in range(8)]
