"""The readers of the live feed whose connections the front keeps: one task serves all of them.

A stream begins in a task of its own, which writes what the reader is told first. From then on it is
a reader and a socket: served in rounds, never waited for. What a socket does not take at once is
kept, the next round passes it by, and it goes on when it can be written to; who takes longer than
the limit loses the connection.
"""

import selectors
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from email.utils import formatdate
from functools import partial
from urllib.parse import parse_qs

import structlog
import trio

from rockets.web import feed_events, problems
from rockets.web.connections import Connection, Connections
from rockets.web.feed import INTERVAL_MIN_MS, Feed, Round
from rockets.web.feed_reader import Behind, Reader, next_time
from rockets.web.framing import Head
from rockets.web.parameters import feed_query
from rockets.web.problems import Refusal

log = structlog.get_logger()

TICK_MS = INTERVAL_MIN_MS
TICK_S = TICK_MS / 1_000
READERS_AT_ONCE = 50
"""One to two milliseconds; then others get their turn."""

_LAST_CHUNK = b"0\r\n\r\n"


class Stream:
    """A reader and its connection."""

    def __init__(self, connection: Connection, head: bytes, reader: Reader) -> None:
        self.connection = connection
        self.reader = reader
        self.head = head  # of the answer, until it is sent
        self.opening: AsyncGenerator[bytes, None] = reader.opening()
        self.scope: trio.CancelScope | None = None  # of the task that writes the opening
        self.writing = False  # that task waits for the socket
        self.due = 0.0
        self.unsent: memoryview | None = None
        self.unsent_since = 0.0


class Streams:
    """Serves streams; see the module."""

    def __init__(self, feed: Feed, connections: Connections, *, send_timeout_s: float) -> None:
        self._feed = feed
        self._connections = connections
        self._send_timeout_s = send_timeout_s
        self._now = trio.lowlevel.current_clock().current_time
        self._opening: dict[Stream, None] = {}
        self._following: dict[Stream, None] = {}
        self._unsent: dict[Stream, None] = {}  # of those that follow; longest since first
        self._selector = selectors.DefaultSelector()
        self._occupied = trio.Event()
        self._chunk: tuple[bytes, bytes] = b"", b""
        # Called with a stream that has something to write for which its reader may be slow.
        self.on_opening: Callable[[Stream], None] = lambda stream: None

    def take(self, connection: Connection, head: Head) -> bool:
        """Begin a stream; False where the request has to be lent.

        Whatever is wrong with it, the handler says so.
        """
        if head.method != b"GET" or head.path != b"/events" or not head.version_1_1:
            return False
        try:
            _, _, text = head.target.partition(b"?")
            given = parse_qs(text.decode("ascii"), keep_blank_values=True, errors="strict")
            query = feed_query(given, head.header(b"last-event-id"))
            self._feed.check_room()
        except (Refusal, ValueError):
            return False
        reader = Reader(self._feed, query, retry_ms=self._feed.enter())
        stream = Stream(connection, _answer_head(head), reader)
        connection.on_close = partial(self._forget, stream)
        self._connections.enter(connection, "streaming")
        self._open(stream)
        return True

    def _open(self, stream: Stream) -> None:
        self._following.pop(stream, None)
        self._opening[stream] = None
        self.on_opening(stream)
        self._occupied.set()

    async def open(self, stream: Stream) -> None:
        """Write what a stream begins with, or begins again with, and let it follow."""
        with trio.CancelScope() as stream.scope:
            async with aclosing(stream.opening) as texts:
                async for text in texts:
                    await self._send(stream, text)
                    if self._feed.stopping.is_set():
                        break
        if stream not in self._opening:
            return  # It is closed already.
        if self._feed.stopping.is_set():
            self._end(stream)
            return
        del self._opening[stream]
        self._following[stream] = None
        stream.due = stream.reader.due_after(self._now())

    async def _send(self, stream: Stream, text: bytes) -> None:
        data, stream.head = stream.head + _chunk(text), b""
        stream.writing = True
        with trio.move_on_after(self._send_timeout_s) as scope:
            await stream.connection.send(data)
        stream.writing = False
        if scope.cancelled_caught:
            raise trio.BrokenResourceError("the reader does not read")

    async def run_rounds(self) -> None:
        """Serve all streams in rounds, for ever."""
        while True:
            if not self._opening and not self._following:
                self._occupied = trio.Event()
                await self._occupied.wait()
            await trio.sleep_until(next_time(self._now(), TICK_MS))
            self._close_overdue()
            await self._serve_round()

    async def _serve_round(self) -> None:
        now, following = self._now(), self._feed.round()
        soon = now + TICK_S / 2  # multiples of two intervals are rounded apart
        waiting = [stream for stream in self._following if stream.due <= soon]
        while waiting:
            behind = []
            for place, stream in enumerate(waiting):
                if place % READERS_AT_ONCE == 0:
                    await trio.lowlevel.checkpoint()
                if stream in self._following and stream.unsent is None:
                    self._tell(stream, now, following)
                    if stream.reader.has_more:
                        behind.append(stream)
            waiting = behind

    def _tell(self, stream: Stream, now: float, following: Round) -> None:
        """Send the news of a round: the barrier for the faults of one stream."""
        stream.due = stream.reader.due_after(now)
        try:
            if text := stream.reader.news(now, following):
                self._send_nowait(stream, self._shared_chunk(text))
        except Behind:
            stream.opening = stream.reader.reopening()
            self._open(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._connections.drop(stream.connection)
        except Exception:
            log.exception("connection_failed")
            self._connections.drop(stream.connection)

    def _shared_chunk(self, text: bytes) -> bytes:
        """Frame a text; who is told the same gets the same bytes."""
        if self._chunk[0] is not text:
            self._chunk = text, _chunk(text)
        return self._chunk[1]

    def _send_nowait(self, stream: Stream, data: bytes) -> None:
        sent = stream.connection.send_nowait(data)
        if sent < len(data):
            stream.unsent, stream.unsent_since = memoryview(data)[sent:], self._now()
            self._unsent[stream] = None
            self._selector.register(stream.connection, selectors.EVENT_WRITE, stream)

    async def send_unsent(self) -> None:
        """Go on where a socket can be written to again, for ever."""
        try:
            while True:
                await trio.lowlevel.wait_readable(self._selector)
                for key, _ in self._selector.select(0):
                    self._go_on(key.data)
                await trio.lowlevel.checkpoint()
        finally:
            self._selector.close()

    def _go_on(self, stream: Stream) -> None:
        if stream.unsent is None:
            return  # Another one's fault has closed it.
        try:
            sent = stream.connection.send_nowait(stream.unsent)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._connections.drop(stream.connection)
            return
        stream.unsent = stream.unsent[sent:]
        if not stream.unsent:
            self._all_sent(stream)

    def _all_sent(self, stream: Stream) -> None:
        stream.unsent = None
        del self._unsent[stream]
        self._selector.unregister(stream.connection)

    def _close_overdue(self) -> None:
        """Close who takes too long."""
        since = self._now() - self._send_timeout_s
        for stream in list(self._unsent):
            if stream.unsent_since > since:
                return
            self._connections.drop(stream.connection)

    def stop(self) -> None:
        """Say goodbye to all; who does not take it at once is cut off."""
        self._feed.stopping.set()
        for stream in list(self._following):
            self._end(stream)
        for stream in self._opening:
            # One that is being written to has its time limit, and says goodbye after that.
            if stream.scope is not None and not stream.writing:
                stream.scope.cancel()

    def _end(self, stream: Stream) -> None:
        """Write the last event and end this side."""
        data = stream.head + _chunk(stream.reader.bye()) + _LAST_CHUNK
        connection = stream.connection
        try:
            whole = stream.unsent is None and connection.send_nowait(data) == len(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            whole = False
        if not whole:
            self._connections.drop(connection)
            return
        connection.on_close = None
        self._forget(stream)
        self._connections.linger(connection)

    def _forget(self, stream: Stream) -> None:
        """Free what a stream holds; its connection is about to be closed, or ends otherwise."""
        self._opening.pop(stream, None)
        self._following.pop(stream, None)
        if stream.unsent is not None:
            self._all_sent(stream)
        if stream.scope is not None:
            stream.scope.cancel()
        self._feed.leave()


def _answer_head(head: Head) -> bytes:
    """Write the head of the answer, as the handler's would be."""
    lines = ["HTTP/1.1 200 ", *(f"{name}: {value}" for name, value in feed_events.HEADERS)]
    lines.append(f"x-request-id: {problems.request_id(head.header(b'x-request-id'))}")
    lines.append(f"date: {formatdate(usegmt=True)}")
    if not head.keep_alive:
        lines.append("connection: close")
    lines.append("Transfer-Encoding: chunked")
    return "\r\n".join([*lines, "", ""]).encode()


def _chunk(text: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(text), text)
