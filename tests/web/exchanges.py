"""What goes over one connection: bytes sent in pieces, and every answer in a form to compare."""

import re
import socket
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Self

import msgspec
import trio
from trio.testing import wait_all_tasks_blocked

from tests.helpers import get

# Ends a connection that is still there, so that everything has an end.
LAST = get("/livez", "Connection: close")

# So much at each end of a request comes byte by byte.
BYTEWISE = 200

_MADE_UP = re.compile(r"[0-9a-f]{16}")
_DATE = re.compile(
    r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT",
)


class Answer(msgspec.Struct, frozen=True):
    """One answer, without what differs from one to the next: the time and ids that are made up."""

    status: int
    headers: tuple[tuple[str, str], ...]  # by name, in lower case
    body: bytes

    def header(self, name: str) -> str | None:
        """Give the first header of this name."""
        return next((value for key, value in self.headers if key == name), None)


class Peer:
    """A client in the same loop as the service: it sends, and takes what is there."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        self.sent = b""
        self.received = b""
        self.ended = False

    async def send(self, data: bytes) -> None:
        """Send, and wait until the service has done what it can; one that closed is no fault."""
        self.sent += data
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send, data)
            await wait_all_tasks_blocked()
            self.take()  # so that an answer that the service wants to be rid of gets out
        await wait_all_tasks_blocked()
        self.take()

    async def send_bytewise(self, data: bytes) -> None:
        """Send byte by byte, with a turn for the service after each."""
        if len(data) > 2 * BYTEWISE:
            start, middle, end = data[:BYTEWISE], data[BYTEWISE:-BYTEWISE], data[-BYTEWISE:]
            await self.send_bytewise(start)
            await self.send(middle)
            await self.send_bytewise(end)
            return
        self.sent += data
        for place in range(len(data)):
            with suppress(ConnectionError):  # It was refused before its end.
                self._socket.send(data[place : place + 1])
            for _ in range(2):
                await trio.lowlevel.checkpoint()
        await wait_all_tasks_blocked()
        self.take()

    async def finish(self) -> None:
        """Send a last request and this side's end, and take everything up to the other's."""
        if not self.ended:
            await self.send(LAST)
        if not self.ended:
            await self._stream.send_eof()
            await wait_all_tasks_blocked()
            self.take()
        assert self.ended, "the service has left the connection open"

    async def _send(self, data: bytes) -> None:
        with suppress(trio.BrokenResourceError):  # It was refused before its end.
            await self._stream.send_all(data)

    def take(self) -> None:
        """Take what has come."""
        try:
            while data := self._socket.recv(1 << 20):
                self.received += data
        except BlockingIOError:
            return
        except ConnectionError:
            pass  # A reset is an end as well.
        self.ended = True

    def close(self) -> None:
        """Close the connection, whatever has become of it."""
        self._socket.close()

    def answers(self, methods: Sequence[bytes]) -> list[Answer]:
        """Read what has come as the answers to requests with these methods, and perhaps one more.

        What is no answer, or not a whole one, is a fault.
        """
        following = iter([*methods, b"GET"])
        data, found = self.received, []
        while data:
            head, mark, data = data.partition(b"\r\n\r\n")
            assert mark, f"the head of an answer is not whole: {head!r}"
            first, *lines = head.decode("latin-1").split("\r\n")
            status = re.fullmatch(r"HTTP/1\.1 (\d{3}) [A-Za-z ]*", first)
            assert status is not None, first
            pairs = [line.partition(":") for line in lines]
            headers = [(name.lower(), value.strip()) for name, _, value in pairs]
            length = int(dict(headers).get("content-length", "0"))
            if status[1].startswith("1") or next(following) == b"HEAD" or status[1] == "304":
                length = 0
            assert len(data) >= length, "the body of an answer is not whole"
            found.append(_comparable(int(status[1]), headers, data[:length], self.sent))
            data = data[length:]
        return found


class Peers:
    """Opens peers of one service and closes them all."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._peers: list[Peer] = []

    def connect(self) -> Peer:
        """Open another connection."""
        self._peers.append(Peer(socket.create_connection(("127.0.0.1", self._port))))
        return self._peers[-1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for peer in self._peers:
            peer.close()


def _comparable(
    status: int, headers: Iterable[tuple[str, str]], content: bytes, sent: bytes
) -> Answer:
    shown = []
    for name, value in headers:
        if name == "date":
            assert _DATE.fullmatch(value), value
            value = "a date"
        elif name == "x-request-id" and value.encode() not in sent:
            assert _MADE_UP.fullmatch(value), value
            content = content.replace(value.encode(), b"made up")
            value = "made up"
        shown.append((name, value))
    return Answer(status, tuple(sorted(shown)), content)
