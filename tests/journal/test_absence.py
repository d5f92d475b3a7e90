"""A server that is not there yet is told from one that does not want us: only one is waited for."""

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread

import pytest

from rockets.journal import (
    JournalAbsent,
    JournalRefused,
    SharedJournal,
    open_postgresql,
    open_redis,
)


def postgresql(port: int, user: str = "me") -> SharedJournal:
    url = f"postgresql://{user}@127.0.0.1:{port}/rockets?sslmode=disable"
    return open_postgresql(url, jitter=lambda: 0.5)


def redis(port: int, user: str = "") -> SharedJournal:
    return open_redis(f"redis://{user}127.0.0.1:{port}")


@contextmanager
def answering(*answers: bytes) -> Iterator[int]:
    """Be a server with one connection, which answers what comes with these, and closes it."""

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            for answer in answers:
                connection.recv(1 << 16)
                connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = Thread(target=serve)
        serving.start()
        yield listener.getsockname()[1]
        serving.join()


def said(kind: bytes, content: bytes) -> bytes:
    """A message of PostgreSQL's protocol."""
    return kind + struct.pack("!i", len(content) + 4) + content


def error(state: str, words: str) -> bytes:
    fields = ("SFATAL", "VFATAL", f"C{state}", f"M{words}")
    return said(b"E", b"".join(field.encode() + b"\0" for field in fields) + b"\0")


@pytest.mark.parametrize("open_at", [postgresql, redis])
def test_where_nobody_listens_it_is_absent(open_at: Callable[[int], SharedJournal]) -> None:
    with pytest.raises(JournalAbsent, match=r"127\.0\.0\.1:1[/:]"):
        open_at(1)


def test_a_postgresql_that_is_starting_is_absent() -> None:
    with answering(error("57P03", "the database system is starting up")) as port:
        with pytest.raises(JournalAbsent, match="is starting up"):
            postgresql(port)


def test_a_redis_that_is_loading_is_absent() -> None:
    with answering(b"-LOADING Redis is loading the dataset in memory\r\n") as port:
        with pytest.raises(JournalAbsent, match="is loading"):
            redis(port)


@pytest.mark.parametrize("user", ["me:wrong", "me"])
def test_a_postgresql_that_wants_another_password_refuses(user: str) -> None:
    wants = said(b"R", struct.pack("!i", 3))
    answers = [wants, error("28P01", "password authentication failed")][: 1 + ("wrong" in user)]
    with answering(*answers) as port:
        with pytest.raises(JournalRefused, match="password") as refused:
            postgresql(port, user)
    assert not isinstance(refused.value, JournalAbsent)


def test_a_redis_that_wants_another_password_refuses() -> None:
    with answering(b"-WRONGPASS invalid username-password pair\r\n") as port:
        with pytest.raises(JournalRefused, match="invalid username-password") as refused:
            redis(port, "me:wrong@")
    assert not isinstance(refused.value, JournalAbsent)
