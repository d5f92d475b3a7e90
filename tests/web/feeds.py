"""The other side of the live feed: reads its events, and holds what they say."""

import json
import socket
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import trio
from trio.testing import wait_all_tasks_blocked

from tests.helpers import get


class Event(NamedTuple):
    """One event; `comment` events have no name and their text as data."""

    name: str
    data: Any
    id: str | None = None
    retry_ms: int | None = None


def read_events(text: bytes) -> list[Event]:
    """Read whole events, as strictly as an EventSource may not be."""
    if not text:
        return []
    assert text.endswith(b"\n\n"), "an event is not whole"
    return [_event(block.decode()) for block in text.removesuffix(b"\n\n").split(b"\n\n")]


def _event(block: str) -> Event:
    if block.startswith(":"):
        return Event("", block)
    fields = dict(line.split(": ", 1) for line in block.split("\n"))
    assert set(fields) <= {"event", "id", "data", "retry"}, block
    assert block.count("\n") == len(fields) - 1, "a field is there twice"
    retry = fields.get("retry")
    return Event(
        fields["event"],
        json.loads(fields["data"]),
        fields.get("id"),
        None if retry is None else int(retry),
    )


class Holder:
    """A client that does as it is told: what it holds, and the id that it comes back with."""

    def __init__(self) -> None:
        self.rockets: dict[str, Any] = {}
        self.last_id: str | None = None
        self.numbers: list[int] = []
        self.ready: Any = None  # the data of the last `ready`, None while there is none

    def take(self, events: Sequence[Event]) -> None:
        """Do what events say."""
        for event in events:
            self._take(event)

    def _take(self, event: Event) -> None:
        match event.name:
            case "hello":
                self.ready = None
                if not event.data["resumed"]:
                    self.rockets.clear()
            case "reset":
                self.ready = None
                self.rockets.clear()
            case "rocket":
                self.rockets[event.data["channel"]] = event.data
            case "gone":
                self.rockets.pop(event.data["channel"], None)
            case "ready":
                self.ready = event.data
            case "" | "bye":
                pass
            case _:
                raise AssertionError(event)
        if event.id is not None:
            self.last_id = event.id
            self.numbers.append(int(event.id.rpartition("-")[2]))


class Follower:
    """A client of `GET /events` on a real socket, in the same loop as the service."""

    def __init__(self, port: int, target: str = "/events", *headers: str, buffer: int = 0) -> None:
        self.socket = socket.socket()
        if buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.socket.connect(("127.0.0.1", port))
        self.socket.sendall(get(target, *headers))
        self.socket.setblocking(False)
        self.head = ""
        self.ended = self.cut = False  # whole to its end; or without its last chunk
        self.chunks: list[bytes] = []
        self._received = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    @property
    def status(self) -> int:
        """The status of the answer."""
        return int(self.head.split(" ")[1])

    async def events(self) -> list[Event]:
        """Let the service do what it can now, and read what has come of whole chunks."""
        await wait_all_tasks_blocked()
        while self._receive():
            await wait_all_tasks_blocked()
        before = len(self.chunks)
        self._divide()
        return [event for chunk in self.chunks[before:] for event in read_events(chunk)]

    async def wait(self, name: str, *, timeout_s: float = 20) -> list[Event]:
        """Read up to an event of this name; gives all that has come."""
        found: list[Event] = []
        with trio.fail_after(timeout_s):
            while all(event.name != name for event in found):
                await trio.lowlevel.wait_readable(self.socket)
                found += await self.events()
                assert not self.cut, [event.name for event in found[-5:]]
        return found

    async def wait_end(self, *, timeout_s: float = 20) -> list[Event]:
        """Read up to the end."""
        found: list[Event] = []
        with trio.fail_after(timeout_s):
            while not self.ended and not self.cut:
                await trio.lowlevel.wait_readable(self.socket)
                found += await self.events()
        return found

    def _receive(self) -> bool:
        try:
            data = self.socket.recv(1 << 20)
        except BlockingIOError:
            return False
        except ConnectionError:
            data = b""
        self.cut = not data and not self.ended
        self._received += data
        return bool(data)

    def _divide(self) -> None:
        if not self.head:
            head, mark, rest = self._received.partition(b"\r\n\r\n")
            if not mark:
                return
            self.head, self._received = head.decode(), rest
        while not self.ended and "Transfer-Encoding: chunked" in self.head:
            size, mark, rest = self._received.partition(b"\r\n")
            length = int(size, 16) if mark else 0
            if not mark or len(rest) < length + 2:
                return
            self.ended, self.cut = length == 0, self.cut and length > 0
            self._received = rest[length + 2 :]
            if length:
                self.chunks.append(rest[:length])
