"""The front: owns every connection from accept to close.

It reads each head, checks framing and limits, reads the whole body (but of a stream of lines, whose
rest is read while the first lines are taken), and lends the request to Hypercorn; the connection
comes back with the bytes of the next request.
It never parses JSON and knows no route: `BodyRules` says how a body may look.

One connection's fault ends that connection and nothing else: `serve` is the barrier.
"""

import os
from contextlib import suppress
from email.utils import formatdate
from typing import Protocol

import msgspec
import structlog
import trio

from rockets.web import problems
from rockets.web.body_budget import BodyBudget, Holding
from rockets.web.body_stream import BodyStream
from rockets.web.connections import Connection, Connections, PeerGone
from rockets.web.framing import (
    ChunkedBody,
    CountedBody,
    FramingError,
    Head,
    find_head_end,
    parse_head,
    skip_empty_lines,
)

log = structlog.get_logger()

RECEIVE_SIZE = 64 * 1024

# What a stream of lines holds: a part of lines, an unfinished line and what waits in between.
STREAM_HELD = 512 * 1024

# After the last answer the peer may still be sending. Closing at once would reset the connection
# and could take the answer with it, so what comes is dropped for a moment, within these bounds.
LINGER_S = 1.0
LINGER_BYTES_MAX = 4 * 1024 * 1024


class FrontLimits(msgspec.Struct, frozen=True):
    """The bounds of one request; `settings` explains the values."""

    bodies_total_max: int = 64 * 1024 * 1024
    small_body_max: int = 64 * 1024
    body_pause_s: float = 10.0
    body_total_s: float = 60.0
    send_timeout_s: float = 5.0


class BodyRules(Protocol):
    """How long the body of a request may be, and whether it is read while it is answered."""

    def body_max(self, head: Head, start: bytes | bytearray) -> int:
        """Give the limit in bytes for a body of which this much is known."""

    def streams(self, head: Head) -> bool:
        """Say whether the handler takes the body piece by piece."""


class Lent(msgspec.Struct, frozen=True):
    """How a lent request ended."""

    answered: bool  # the whole answer was sent
    started: bool  # at least its first byte was
    keep: bool  # the connection can take another request
    rest: bytes  # what the client sent after this request
    refused: FramingError | None = None  # the stream of its body broke off so


class Lender(Protocol):
    """Answers one request on a connection; never raises for what a request can do.

    Where there is a stream the request is only its head, and the body comes from the stream.
    """

    async def __call__(
        self, request: bytes, connection: Connection, *, stream: BodyStream | None = None
    ) -> Lent: ...


class Front:
    """Serves connections; see the module."""

    def __init__(
        self, *, connections: Connections, lend: Lender, rules: BodyRules, limits: FrontLimits
    ) -> None:
        self._connections = connections
        self._lend = lend
        self._rules = rules
        self._limits = limits
        self._bodies = BodyBudget(limits.bodies_total_max, small_max=limits.small_body_max)

    async def serve(self, stream: trio.SocketStream) -> None:
        """Serve one connection until it ends."""
        connection = self._connections.admit(stream)
        if connection is None:
            self._turn_away(stream)
            return
        try:
            await self._serve_requests(connection)
        except (trio.BrokenResourceError, trio.ClosedResourceError, PeerGone):
            pass  # The peer, or the sweep, has closed the connection: nobody is left to answer.
        except Exception:
            log.exception("connection_failed")
        finally:
            self._connections.remove(connection)

    async def _serve_requests(self, connection: Connection) -> None:
        buffer: bytes | None = b""
        while buffer is not None:
            with self._bodies.hold() as holding:
                buffer = await self._serve_request(connection, buffer, holding)

    async def _serve_request(
        self, connection: Connection, buffer: bytes, holding: Holding
    ) -> bytes | None:
        """Serve one request; gives what came after it, or None when the connection is to end."""
        head: Head | None = None
        try:
            head, buffer = await self._read_head(connection, buffer)
            if head is None:
                return None
            body, buffer = await self._read_body(connection, head, buffer, holding)
        except FramingError as error:
            await self._refuse(connection, head, error)
            return None
        keep_alive = head.keep_alive and not self._connections.stopping
        lent = await self._lend_request(connection, head, body, keep_alive=keep_alive)
        if not lent.started:
            await self._refuse(connection, head, lent.refused or _no_answer())
            return None
        if not lent.answered:
            return None  # A reset tells the peer that the answer is not whole.
        if not (lent.keep and keep_alive) or self._connections.stopping:
            await self._linger(connection)
            return None
        buffer += lent.rest
        self._connections.enter(connection, "reading" if buffer else "idle")
        return buffer

    async def _lend_request(
        self, connection: Connection, head: Head, body: bytes | BodyStream, *, keep_alive: bool
    ) -> Lent:
        if isinstance(body, BodyStream):
            length = None if head.chunked else head.content_length
            request = head.rebuilt(length, keep_alive=keep_alive)
            return await self._lend(request, connection, stream=body)
        self._connections.enter(connection, "busy")
        request = head.rebuilt(len(body), keep_alive=keep_alive) + body
        return await self._lend(request, connection)

    async def _read_head(self, connection: Connection, buffer: bytes) -> tuple[Head | None, bytes]:
        """Read until the head is complete; None when the peer has ended between requests."""
        while True:
            buffer = skip_empty_lines(buffer)
            length = find_head_end(buffer) if buffer not in {b"", b"\r"} else -1
            if length >= 0:
                return parse_head(buffer[:length]), buffer[length:]
            data = await connection.stream.receive_some(RECEIVE_SIZE)
            if not data:
                return None, b""
            if connection.phase == "idle":
                self._connections.enter(connection, "reading")
            buffer += data

    async def _read_body(
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
        async def receive() -> bytes:
            data = await connection.stream.receive_some(RECEIVE_SIZE)
            if not data:
                raise PeerGone
            return bytes(data)

        return BodyStream(
            start,
            body,
            receive=receive,
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
            data = await connection.stream.receive_some(RECEIVE_SIZE)
            if not data:
                raise PeerGone
            return bytes(data)
        raise _too_slow(self._limits.body_pause_s)

    async def _refuse(self, connection: Connection, head: Head | None, error: FramingError) -> None:
        """Answer a problem and close."""
        self._connections.enter(connection, "busy")
        answer = problems.problem(
            error.problem,
            error.detail,
            request_id=problems.request_id(head.header(b"x-request-id") if head else None),
            close=True,
            headers=error.headers,
        )
        await self._write(connection, head, answer)
        await self._linger(connection)

    async def _write(
        self, connection: Connection, head: Head | None, answer: problems.Answer
    ) -> None:
        with_body = head is None or head.method != b"HEAD"
        data = answer.to_bytes(date=formatdate(usegmt=True), with_body=with_body)
        await self._send(connection, data)

    async def _send(self, connection: Connection, data: bytes) -> None:
        with trio.move_on_after(self._limits.send_timeout_s) as scope:
            await connection.stream.send_all(data)
        if scope.cancelled_caught:
            raise trio.BrokenResourceError("the peer does not read")

    async def _linger(self, connection: Connection) -> None:
        """Half-close, then drop what comes until the peer closes or the bounds are reached.

        The connection is idle for this time: where room is needed, it goes.
        """
        self._connections.enter(connection, "idle")
        dropped = 0
        with trio.move_on_after(LINGER_S):
            await connection.stream.send_eof()
            while dropped < LINGER_BYTES_MAX:
                data = await connection.stream.receive_some(RECEIVE_SIZE)
                if not data:
                    return
                dropped += len(data)

    def _turn_away(self, stream: trio.SocketStream) -> None:
        """Say 503 if the socket takes it at once, and close: there is no room to wait."""
        answer = problems.problem(
            "too-many-connections",
            "no more connections are taken now",
            request_id=problems.request_id(None),
            close=True,
        )
        data = answer.to_bytes(date=formatdate(usegmt=True), with_body=True)
        # Where the peer has gone or takes nothing, it learns from the close. What it has sent is
        # read, because closing over it would reset the connection.
        with suppress(OSError):
            os.write(stream.socket.fileno(), data)
            os.read(stream.socket.fileno(), RECEIVE_SIZE)
        stream.socket.close()


def _no_answer() -> FramingError:
    """The lent request ended without an answer: a bug, already logged."""
    detail = "the request ended without an answer; the log has the details"
    return FramingError("internal-error", detail)


def _too_slow(seconds: float) -> FramingError:
    return FramingError("request-timeout", f"the body paused or took longer than {seconds:g} s")
