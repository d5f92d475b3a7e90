"""Every open connection: how many, in which phase, since when, and which one has to go.

A connection is *reading* while its head is incomplete (a new one from the start), *receiving* while
its body is, *busy* from its complete request to the end of its answer, *streaming* while its answer
is the live feed, *idle* after an answer, and *closing* while the front waits for the peer to close
it.
At the limit a closing one goes first (oldest first), then an idle one, then one that is reading,
then one that is receiving; a busy or streaming one never.
Times are kept here and looked at by one sweep: a timer around each receive would double the cost
of a small request.
"""

import socket
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import Literal, Protocol

import msgspec
import trio

Phase = Literal["reading", "receiving", "busy", "streaming", "idle", "closing"]

# What happens to a connection after an answer: it waits for the next request, or this side ends and
# the peer may still send for a moment, or it is closed at once because the peer sends no more.
Then = Literal["keep", "close", "drop"]

# How often the sweep looks; a time limit is exceeded by at most this much.
SWEEP_INTERVAL_S = 0.25

# After the last answer the peer may still be sending. Closing at once would reset the connection
# and could take the answer with it, so what comes is dropped for a moment.
LINGER_S = 1.0

RECEIVE_SIZE = 64 * 1024

# One write of a long answer; each has the send timeout for itself, so that a slow reader that
# makes progress is not cut off.
SEND_SIZE = 64 * 1024


class PeerGone(Exception):
    """The peer closed before its request was complete: there is nobody to answer."""


class ConnectionLimits(msgspec.Struct, frozen=True):
    """The bounds of the connections; `settings` explains the values."""

    connections_max: int = 4_096
    header_timeout_s: float = 5.0
    idle_timeout_s: float = 75.0
    crowded_idle_timeout_s: float = 5.0


class ConnectionStatistics(msgspec.Struct, frozen=True):
    """A snapshot of the counts."""

    reading: int
    receiving: int
    busy: int
    streaming: int
    idle: int
    closing: int
    peak: int
    accepted: int
    evicted: int
    refused: int
    timed_out: int


class Watcher(Protocol):
    """Who looks at connections that no task works on."""

    def unwatch(self, connection: "Connection") -> None:
        """Look at it no more."""


class Holding(Protocol):
    """A share of the memory."""

    def end(self) -> None:
        """Give it back."""


class Connection:
    """One connection: its socket, its phase, and the answer it may still owe.

    It reads and writes the socket itself: a stream of trio's goes through the scheduler once more
    for every call (measured: a third of a small request).
    """

    __slots__ = (
        "_paid",
        "_socket",
        "client",
        "dropped",
        "holding",
        "in_hand",
        "on_close",
        "owes",
        "phase",
        "since",
        "unsent",
        "watcher",
    )

    # Whether what the peer reads and sends is enciphered.
    is_tls = False

    def __init__(
        self, sock: socket.socket, client: tuple[str, int] | None, *, since: float
    ) -> None:
        self._socket = sock
        self._paid: trio.Event | None = None
        self.client = client
        self.phase: Phase = "reading"
        self.since = since
        self.dropped = 0  # bytes that came after the last answer
        self.watcher: Watcher | None = None
        self.on_close: Callable[[], None] | None = None  # called once, before the socket closes
        self.in_hand = False  # somebody works on it, and will look at what is below
        self.owes = False  # its answer is still to come, by `Connections.answer`
        self.unsent: tuple[bytes, Then] | None = None  # the rest of an answer, and what follows
        self.holding: Holding | None = None  # what a long answer takes of the memory

    def fileno(self) -> int:
        """The descriptor of the socket, -1 once it is closed."""
        return self._socket.fileno()

    @property
    def server(self) -> tuple[str, int] | None:
        """The address that the peer has connected to."""
        return _address(self._socket.getsockname())

    async def receive(self, size: int = RECEIVE_SIZE) -> bytes:
        """Wait for bytes; b"" is the end of what the peer sends.

        Raises BrokenResourceError after a reset and ClosedResourceError where it was closed here.
        """
        while True:
            if self.fileno() < 0:
                raise self._gone()
            await trio.lowlevel.wait_readable(self._socket)
            data = self.receive_nowait(size)
            if data is not None:
                return data

    def receive_nowait(self, size: int = RECEIVE_SIZE) -> bytes | None:
        """Give the bytes that are there, None where there are none; else like `receive`."""
        try:
            return self._socket.recv(size)
        except BlockingIOError:
            return None
        except OSError as error:
            raise self._gone() from error

    async def send(self, data: bytes) -> None:
        """Send all of it; errors as in `receive`."""
        while data := data[self.send_nowait(data) :]:
            await trio.lowlevel.wait_writable(self._socket)

    def send_nowait(self, data: bytes | memoryview) -> int:
        """Send what the socket takes now; gives how many bytes that was."""
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise self._gone() from error

    def send_eof(self) -> None:
        """End this side; the peer reads the end after what was sent before."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    async def wait_paid(self) -> None:
        """Wait until the answer is sent, or as much of it as the socket took at once."""
        self._paid = trio.Event()
        await self._paid.wait()

    def tell_paid(self) -> None:
        """Wake who waits in `wait_paid`."""
        if self._paid is not None:
            self._paid.set()
            self._paid = None

    def close(self) -> None:
        """Close the socket at once; a task that waits on it gets ClosedResourceError."""
        if self.watcher is not None:
            self.watcher.unwatch(self)
        on_close, self.on_close = self.on_close, None
        if on_close is not None:
            on_close()
        if self.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()
        self.settle()
        self.tell_paid()

    def settle(self) -> None:
        """Owe no answer any more."""
        self.owes = False
        if self.holding is not None:
            self.holding.end()
            self.holding = None

    def _gone(self) -> Exception:
        if self.fileno() < 0:
            return trio.ClosedResourceError("the connection was closed here")
        return trio.BrokenResourceError("the peer has gone")


class Connect(Protocol):
    """Makes a connection of an accepted socket."""

    def __call__(
        self, sock: socket.socket, client: tuple[str, int] | None, *, since: float
    ) -> Connection: ...


class Connections:
    """The register of open connections."""

    def __init__(
        self, limits: ConnectionLimits, *, connect: Connect = Connection, use_tls: bool = False
    ) -> None:
        """`connect` makes a connection of an accepted socket; it may raise OSError."""
        self.use_tls = use_tls
        self._limits = limits
        self._connect = connect
        self._now = trio.lowlevel.current_clock().current_time
        # Each in the order of `since`, oldest first.
        self._phases: dict[Phase, OrderedDict[Connection, None]] = {
            "reading": OrderedDict(),
            "receiving": OrderedDict(),
            "busy": OrderedDict(),
            "streaming": OrderedDict(),
            "idle": OrderedDict(),
            "closing": OrderedDict(),
        }
        self.stopping = False
        # Called for a connection that has something unsent and is in nobody's hand.
        self.on_unsent: Callable[[Connection], None] = self.drop
        self._none_left = trio.Event()
        self._peak = self._accepted = self._evicted = self._refused = self._timed_out = 0

    def __len__(self) -> int:
        return sum(len(phase) for phase in self._phases.values())

    def admit(self, sock: socket.socket) -> Connection | None:
        """Register a new connection; None when there is no room for it, or a stop has begun."""
        if self.stopping:
            return None
        if len(self) >= self._limits.connections_max and not self._evict():
            self._refused += 1
            return None
        try:
            client = _address(sock.getpeername())
            connection = self._connect(sock, client, since=self._now())
        except OSError:
            return None  # The peer has already gone: it has no address any more.
        self._phases["reading"][connection] = None
        self._accepted += 1
        self._peak = max(self._peak, len(self))
        return connection

    def enter(self, connection: Connection, phase: Phase) -> None:
        """Move a connection to another phase; its time starts again.

        Raises ClosedResourceError for one that was dropped meanwhile: its task may just have
        received something, and must not bring it back.
        """
        present = self._phases[connection.phase]
        if connection not in present:
            raise trio.ClosedResourceError("the connection was dropped")
        del present[connection]
        connection.phase = phase
        connection.since = self._now()
        self._phases[phase][connection] = None

    def answer(self, connection: Connection, data: bytes, *, then: Then) -> None:
        """Send the answer that a connection owes, from any task; never raises and never waits.

        What the socket does not take at once is left in `unsent`.
        """
        if connection not in self._phases["busy"]:
            return  # Its peer has gone meanwhile.
        try:
            sent = connection.send_nowait(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.drop(connection)
            return
        if sent < len(data):
            connection.unsent = data[sent:], then
            connection.tell_paid()
            if not connection.in_hand:
                self.on_unsent(connection)
            return
        if then == "drop":
            self.drop(connection)
            return
        connection.settle()
        if then == "close" or self.stopping:
            self.linger(connection)
        else:
            self.enter(connection, "idle")
        connection.tell_paid()

    def linger(self, connection: Connection) -> None:
        """End this side after the last answer; what comes is dropped until the peer closes.

        The front bounds the bytes, the sweep the time.
        """
        self.enter(connection, "closing")
        connection.send_eof()

    def drop(self, connection: Connection) -> None:
        """Take a connection out and close it; its task ends by the closed socket."""
        self._phases[connection.phase].pop(connection, None)
        connection.close()
        if self.stopping and len(self) == 0:
            self._none_left.set()

    async def wait_none_left(self) -> None:
        """Wait for the end of the last connection, after `stop`."""
        await self._none_left.wait()

    async def sweep(self) -> None:
        """Close what is over its time, for ever."""
        while True:
            await trio.sleep(SWEEP_INTERVAL_S)
            self._sweep_once()

    def begin_stop(self) -> None:
        """Admit nobody any more; from now on a connection ends with its answer."""
        self.stopping = True
        if len(self) == 0:
            self._none_left.set()

    def stop(self) -> None:
        """Begin to stop, and close what has no request."""
        self.begin_stop()
        for phase in ("idle", "reading"):
            for connection in list(self._phases[phase]):
                self.drop(connection)

    def cut_off(self) -> None:
        """Close everything, also what still has a request."""
        for phase in self._phases.values():
            for connection in list(phase):
                self.drop(connection)

    def statistics(self) -> ConnectionStatistics:
        """Give a snapshot of the counts."""
        return ConnectionStatistics(
            reading=len(self._phases["reading"]),
            receiving=len(self._phases["receiving"]),
            busy=len(self._phases["busy"]),
            streaming=len(self._phases["streaming"]),
            idle=len(self._phases["idle"]),
            closing=len(self._phases["closing"]),
            peak=self._peak,
            accepted=self._accepted,
            evicted=self._evicted,
            refused=self._refused,
            timed_out=self._timed_out,
        )

    def _evict(self) -> bool:
        for phase in ("closing", "idle", "reading", "receiving"):
            for connection in self._phases[phase]:
                self.drop(connection)
                self._evicted += 1
                return True
        return False

    def _sweep_once(self) -> None:
        now = self._now()
        crowded = len(self) > self._limits.connections_max / 2
        idle_timeout_s = (
            self._limits.crowded_idle_timeout_s if crowded else self._limits.idle_timeout_s
        )
        self._drop_older("idle", now - idle_timeout_s)
        self._drop_older("reading", now - self._limits.header_timeout_s)
        self._drop_older("closing", now - LINGER_S)

    def _drop_older(self, phase: Phase, since: float) -> None:
        for connection in list(self._phases[phase]):
            if connection.since > since:
                return
            self.drop(connection)
            self._timed_out += phase != "closing"


def _address(name: object) -> tuple[str, int] | None:
    """Give host and port of a TCP address."""
    if isinstance(name, tuple) and len(name) >= 2:
        return str(name[0]), int(name[1])
    return None
