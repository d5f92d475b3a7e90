"""The front: owns every connection from accept to close.

A connection is watched together with all others (`readiness`) until it sends something. A request
that is here as a whole goes to the fast lane at once. For anything else the connection gets a task,
which reads the request (`reading`), offers it to the fast lane and to the `streams`, else lends it
to Hypercorn, and ends when nothing more is there.
It never parses JSON and knows no route.

One connection's fault ends that connection and nothing else: `_look` and `_barrier` see to that.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.utils import formatdate
from typing import Protocol

import msgspec
import structlog
import trio

from rockets.web import problems
from rockets.web.body_stream import BodyStream
from rockets.web.byte_budget import ByteBudget, Holding
from rockets.web.connections import (
    RECEIVE_SIZE,
    SEND_SIZE,
    Connection,
    Connections,
    PeerGone,
)
from rockets.web.fast_lane import FastLane
from rockets.web.framing import FramingError, Head
from rockets.web.readiness import Readiness
from rockets.web.reading import BodyRules, ReadingLimits, RequestReader
from rockets.web.streams import Stream, Streams

log = structlog.get_logger()

# What a peer may still send after the last answer, see `connections.LINGER_S`.
LINGER_BYTES_MAX = 4 * 1024 * 1024


class FrontLimits(ReadingLimits, frozen=True):
    """The bounds of one request; `settings` explains the values."""

    bodies_total_max: int = 64 * 1024 * 1024
    send_timeout_s: float = 5.0


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


class FrontStatistics(msgspec.Struct, frozen=True):
    """How many requests were answered by the fast lane, and how many were lent."""

    fast_answers: int
    lent_requests: int


class Front:
    """Serves connections; see the module."""

    def __init__(
        self,
        *,
        connections: Connections,
        lend: Lender,
        rules: BodyRules,
        limits: FrontLimits,
        fast_lane: FastLane | None = None,
        streams: Streams | None = None,
    ) -> None:
        self._connections = connections
        self._lend = lend
        self._fast_lane = fast_lane
        self._streams = streams
        if streams is not None:
            streams.on_opening = self._open_stream
        self._readiness = Readiness(self._look)
        self._nursery: trio.Nursery
        connections.on_unsent = lambda connection: self._hand_over(connection, b"")
        self._fast_answers = self._lent_requests = 0
        self._limits = limits
        self._reader = RequestReader(
            connections,
            rules,
            limits,
            send=self._send,
            hot=(lambda head: None) if fast_lane is None else fast_lane.hot,
        )
        self._bodies = ByteBudget(
            limits.bodies_total_max, full=_too_many_bodies, small_max=limits.small_body_max
        )

    def statistics(self) -> FrontStatistics:
        """Give a snapshot of the counts."""
        return FrontStatistics(self._fast_answers, self._lent_requests)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve the connections that `take` brings, for ever; it may be called once started."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            await self._readiness.run()

    def take(self, sock: socket.socket) -> None:
        """Take a new connection, a non-blocking socket; never raises."""
        connection = self._connections.admit(sock)
        if connection is None:
            self._turn_away(sock)
            return
        self._look(connection)  # mostly its first request has come with it

    def _look(self, connection: Connection) -> None:
        """Take what a connection without a task has sent: the barrier for its faults."""
        connection.in_hand = True
        try:
            self._look_at(connection)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._connections.drop(connection)
        except Exception:
            log.exception("connection_failed")
            self._connections.drop(connection)

    def _look_at(self, connection: Connection) -> None:
        data = connection.receive_nowait()
        if data is None:
            self._let_go(connection)
        elif connection.phase in {"streaming", "closing"}:
            self._drop_rest(connection, data)
        elif connection.owes:
            self._hand_over(connection, data or None)
        elif not data:
            self._connections.drop(connection)
        else:
            rest = data[self._take_hot(connection, data) :]
            if rest or connection.unsent is not None:
                self._hand_over(connection, rest)
            else:
                self._let_go(connection)

    def _hand_over(self, connection: Connection, buffer: bytes | None) -> None:
        """Give a connection to a task of its own; see `_serve`."""
        if connection.watcher is not None:
            connection.watcher.unwatch(connection)
        connection.in_hand = True
        self._nursery.start_soon(self._serve, connection, buffer)

    def _let_go(self, connection: Connection) -> None:
        """Leave a connection until it sends something; one that was closed is left for good."""
        connection.in_hand = False
        if connection.watcher is None and connection.fileno() >= 0:
            self._readiness.watch(connection)

    def _drop_rest(self, connection: Connection, data: bytes) -> None:
        """Drop what a peer sends behind its last request, until it ends or there is too much."""
        connection.dropped += len(data)
        if not data or connection.dropped > LINGER_BYTES_MAX:
            self._connections.drop(connection)
        else:
            self._let_go(connection)

    async def _serve(self, connection: Connection, rest: bytes | None) -> None:
        """Serve what the fast lane does not take at once, in a task.

        `rest` is what the peer has sent, None where it has ended.
        """
        with self._barrier(connection):
            await self._settle(connection)
            while rest and connection.phase != "closing":
                with self._bodies.hold() as holding:
                    rest = await self._serve_request(connection, rest, holding)
                if connection.unsent is not None:
                    await self._settle(connection)
            if rest is None and connection.phase != "closing":
                self._connections.drop(connection)
            self._let_go(connection)

    def _open_stream(self, stream: Stream) -> None:
        """Give a stream a task that writes its opening."""
        self._nursery.start_soon(self._serve_opening, stream)

    async def _serve_opening(self, stream: Stream) -> None:
        assert self._streams is not None
        with self._barrier(stream.connection):
            await self._streams.open(stream)

    @contextmanager
    def _barrier(self, connection: Connection) -> Iterator[None]:
        """End the connection, and nothing else, where its task fails."""
        try:
            yield
        except (trio.BrokenResourceError, trio.ClosedResourceError, PeerGone):
            # The peer, or the sweep, has closed the connection: nobody is left to answer.
            self._connections.drop(connection)
        except Exception:
            log.exception("connection_failed")
            self._connections.drop(connection)
        except BaseException:
            self._connections.drop(connection)
            raise

    def _take_hot(self, connection: Connection, buffer: bytes) -> int:
        """Let the fast lane take a request that is here as a whole and has a head known already.

        Gives its length, or 0 where it is not taken. Nothing here that `_serve_request` would not
        do as well. (Measured: doing it in one step saves a tenth of a message.)
        """
        whole = self._reader.whole_hot(buffer)
        if whole is None or self._fast_lane is None:
            return 0
        hot, start, end = whole
        self._connections.enter(connection, "busy")
        if not self._fast_lane.take(connection, hot, buffer[start:end], more=len(buffer) > end):
            return 0
        self._fast_answers += 1
        return end

    async def _take_turns(self, connection: Connection) -> None:
        """Between requests that came together: answers in their order, and others get a turn."""
        await self._settle(connection)
        await trio.lowlevel.checkpoint()

    async def _serve_request(
        self, connection: Connection, buffer: bytes, holding: Holding
    ) -> bytes | None:
        """Serve one request; gives what came after it, or None when the connection is to end."""
        head: Head | None = None
        try:
            head, hot, buffer = await self._reader.read_head(connection, buffer)
            if head is None:
                return None
            body, buffer = await self._reader.read_body(connection, head, buffer, holding)
        except FramingError as error:
            await self._refuse(connection, head, error)
            return None
        if hot is not None and self._fast_lane is not None and isinstance(body, bytes):
            self._connections.enter(connection, "busy")
            if await self._fast_lane.take_waiting(connection, hot, body, more=bool(buffer)):
                self._fast_answers += 1
                if buffer:
                    await self._take_turns(connection)
                return buffer
        return await self._serve_lent(connection, head, body, buffer)

    async def _serve_lent(
        self, connection: Connection, head: Head, body: bytes | BodyStream, buffer: bytes
    ) -> bytes | None:
        """Let a stream, or Hypercorn, answer; gives what came after the request, as above."""
        if self._streams is not None and not body and self._streams.take(connection, head):
            return b""  # Nothing that comes behind an endless answer is a request.
        self._lent_requests += 1
        keep_alive = head.keep_alive and not self._connections.stopping
        lent = await self._lend_request(connection, head, body, keep_alive=keep_alive)
        if not lent.started:
            await self._refuse(connection, head, lent.refused or _no_answer())
            return None
        if not lent.answered:
            return None  # A reset tells the peer that the answer is not whole.
        if not (lent.keep and keep_alive) or self._connections.stopping:
            self._connections.linger(connection)
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

    async def _settle(self, connection: Connection) -> None:
        """Return when the connection owes no answer; sends what was left to send of it."""
        while connection.owes:
            if connection.unsent is None:
                await connection.wait_paid()
                continue
            (data, then), connection.unsent = connection.unsent, None
            await self._send(connection, data)
            self._connections.answer(connection, b"", then=then)

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
        self._connections.linger(connection)

    async def _write(
        self, connection: Connection, head: Head | None, answer: problems.Answer
    ) -> None:
        with_body = head is None or head.method != b"HEAD"
        data = answer.to_bytes(date=formatdate(usegmt=True), with_body=with_body)
        await self._send(connection, data)

    async def _send(self, connection: Connection, data: bytes) -> None:
        for start in range(0, len(data), SEND_SIZE):
            with trio.move_on_after(self._limits.send_timeout_s) as scope:
                await connection.send(data[start : start + SEND_SIZE])
            if scope.cancelled_caught:
                raise trio.BrokenResourceError("the peer does not read")

    def _turn_away(self, sock: socket.socket) -> None:
        """Say 503 if the socket takes it at once, and close: there is no room to wait.

        Nor for a handshake: over TLS it is only closed.
        """
        if self._connections.use_tls:
            sock.close()
            return
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
            sock.send(data)
            sock.recv(RECEIVE_SIZE)
        sock.close()


def _too_many_bodies() -> FramingError:
    return FramingError("overloaded", "too many large bodies are under way")


def _no_answer() -> FramingError:
    """The lent request ended without an answer: a bug, already logged."""
    detail = "the request ended without an answer; the log has the details"
    return FramingError("internal-error", detail)
