"""Reads requests off a connection: the head, then the body, within their limits.

Of a stream of lines only the head is read here, and the rest while the first lines are taken.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

import msgspec
import trio

from rockets.web.body_stream import BodyStream
from rockets.web.byte_budget import Holding
from rockets.web.connections import Connection, Connections, PeerGone
from rockets.web.fast_lane import Hot
from rockets.web.framing import (
    HEAD_MAX,
    HEADERS_MAX,
    ChunkedBody,
    CountedBody,
    FramingError,
    Head,
    find_head_end,
    parse_head,
    skip_empty_lines,
)

# What a stream of lines holds: a part of lines, an unfinished line and what waits in between.
STREAM_HELD = 512 * 1024

# Clients send the same head again and again, so read ones are kept. (Measured: reading one costs
# as much as all else that the front does for a small request.) Long ones are rarely the same.
KNOWN_HEADS_MAX = 1_024
KNOWN_HEAD_BYTES_MAX = 1_024

_UNKNOWN: tuple[Head | None, Hot | None] = None, None


class ReadingLimits(msgspec.Struct, frozen=True):
    """The bounds of a head and of a body; `settings` explains the values."""

    head_max: int = HEAD_MAX
    headers_max: int = HEADERS_MAX
    small_body_max: int = 64 * 1024
    body_pause_s: float = 10.0
    body_total_s: float = 60.0


class BodyRules(Protocol):
    """How long the body of a request may be, and whether it is read while it is answered."""

    def body_max(self, head: Head, start: bytes | bytearray) -> int:
        """Give the limit in bytes for a body of which this much is known."""

    def streams(self, head: Head) -> bool:
        """Say whether the handler takes the body piece by piece."""


class RequestReader:
    """Reads requests; the connection is in the hands of who calls."""

    def __init__(
        self,
        connections: Connections,
        rules: BodyRules,
        limits: ReadingLimits,
        *,
        send: Callable[[Connection, bytes], Awaitable[None]],
        hot: Callable[[Head], Hot | None],
    ) -> None:
        """`hot` says what the fast lane knows about a head."""
        self._connections = connections
        self._rules = rules
        self._limits = limits
        self._send = send
        self._hot = hot
        self._known: dict[bytes, tuple[Head | None, Hot | None]] = {}

    def whole_hot(self, buffer: bytes) -> tuple[Hot, int, int] | None:
        """Find a hot request whose head is known and whose body is here: its start and end.

        Nothing that `read_head` and `read_body` would not find as well.
        """
        start = buffer.find(b"\r\n\r\n") + 4
        head, hot = self._known.get(buffer[:start], _UNKNOWN)
        if head is None or hot is None or head.chunked:
            return None
        length = head.content_length
        if length > self._limits.small_body_max or len(buffer) < start + length:
            return None
        return hot, start, start + length

    async def read_head(
        self, connection: Connection, buffer: bytes
    ) -> tuple[Head | None, Hot | None, bytes]:
        """Read until the head is complete; None when the peer has ended between requests.

        The second value is set where the fast lane knows such requests.
        """
        while True:
            buffer = skip_empty_lines(buffer)
            length = -1
            if buffer not in {b"", b"\r"}:
                length = find_head_end(buffer, head_max=self._limits.head_max)
            if length >= 0:
                return *self._parse_head(buffer[:length]), buffer[length:]
            if buffer and connection.phase == "idle":
                self._connections.enter(connection, "reading")
            data = await connection.receive()
            if not data:
                return None, None, b""
            buffer += data

    def _parse_head(self, data: bytes) -> tuple[Head, Hot | None]:
        head = parse_head(data, headers_max=self._limits.headers_max)
        known = head, self._hot(head)
        if len(data) <= KNOWN_HEAD_BYTES_MAX:
            if len(self._known) >= KNOWN_HEADS_MAX:
                self._known.clear()
            self._known[data] = known
        return known

    async def read_body(
        self, connection: Connection, head: Head, buffer: bytes, holding: Holding
    ) -> tuple[bytes | BodyStream, bytes]:
        """Read the body, or begin its stream; gives it and what came after it."""
        length = head.content_length
        self._check_length(head, length, buffer)
        if not head.chunked and len(buffer) >= length:
            holding.grow_to(length)
            return buffer[:length], buffer[length:]
        self._connections.enter(connection, "receiving")
        if head.expects_continue and not buffer:
            await self._send(connection, b"HTTP/1.1 100 Continue\r\n\r\n")
        limit = self._rules.body_max(head, b"")
        body = ChunkedBody(body_max=limit) if head.chunked else CountedBody(length)
        if self._rules.streams(head):
            holding.grow_to(STREAM_HELD)
            return self._stream(connection, body, buffer), b""
        with trio.move_on_after(self._limits.body_total_s):
            return await self._read_whole(connection, head, body, buffer, holding)
        raise _too_slow(self._limits.body_total_s)

    def _stream(
        self, connection: Connection, body: CountedBody | ChunkedBody, start: bytes
    ) -> BodyStream:
        return BodyStream(
            start,
            body,
            receive=partial(_receive_more, connection),
            ended=lambda: self._connections.enter(connection, "busy"),
        )

    async def _read_whole(
        self,
        connection: Connection,
        head: Head,
        body: CountedBody | ChunkedBody,
        buffer: bytes,
        holding: Holding,
    ) -> tuple[bytes, bytes]:
        rest = body.feed(buffer)
        while True:
            self._check_length(head, max(head.content_length, len(body.body)), body.body)
            holding.grow_to(len(body.body))
            if rest is not None:
                return bytes(body.body), rest
            rest = body.feed(await self._receive(connection))

    def _check_length(self, head: Head, length: int, start: bytes | bytearray) -> None:
        limit = self._rules.body_max(head, start)
        if length > limit:
            raise FramingError("content-too-large", f"the body is over {limit} bytes")

    async def _receive(self, connection: Connection) -> bytes:
        """Receive a piece of the body."""
        with trio.move_on_after(self._limits.body_pause_s):
            return await _receive_more(connection)
        raise _too_slow(self._limits.body_pause_s)


async def _receive_more(connection: Connection) -> bytes:
    """Receive more of a request that is not whole yet."""
    data = await connection.receive()
    if not data:
        raise PeerGone
    return data


def _too_slow(seconds: float) -> FramingError:
    return FramingError("request-timeout", f"the body paused or took longer than {seconds:g} s")
