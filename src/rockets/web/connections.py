"""Every open connection: how many, in which phase, since when, and which one has to go.

A connection is *reading* while its head is incomplete (a new one from the start), *receiving* while
its body is, *busy* from its complete request to the end of its answer, and *idle* after an answer,
also while the front waits for the peer to close it.
At the limit an idle one goes first (oldest first), then one that is reading, then one that is
receiving; a busy one never.
Times are kept here and looked at by one sweep: a timer around each receive would double the cost
of a small request.
"""

from collections import OrderedDict
from typing import Literal

import msgspec
import trio

Phase = Literal["reading", "receiving", "busy", "idle"]

# How often the sweep looks; a time limit is exceeded by at most this much.
SWEEP_INTERVAL_S = 0.25


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
    idle: int
    peak: int
    accepted: int
    evicted: int
    refused: int
    timed_out: int


class Connection:
    """One connection and its phase; the stream is the front's to read and write."""

    __slots__ = ("client", "phase", "server", "since", "stream")

    def __init__(self, stream: trio.SocketStream, *, since: float) -> None:
        self.stream = stream
        self.phase: Phase = "reading"
        self.since = since
        self.client = _address(stream.socket.getpeername())
        self.server = _address(stream.socket.getsockname())

    def close(self) -> None:
        """Close the socket at once; a task that waits on it gets ClosedResourceError."""
        self.stream.socket.close()


class Connections:
    """The register of open connections."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self._limits = limits
        # Each in the order of `since`, oldest first.
        self._phases: dict[Phase, OrderedDict[Connection, None]] = {
            "reading": OrderedDict(),
            "receiving": OrderedDict(),
            "busy": OrderedDict(),
            "idle": OrderedDict(),
        }
        self.stopping = False
        self._peak = self._accepted = self._evicted = self._refused = self._timed_out = 0

    def __len__(self) -> int:
        return sum(len(phase) for phase in self._phases.values())

    def admit(self, stream: trio.SocketStream) -> Connection | None:
        """Register a new connection; None when there is no room for it, or a stop has begun."""
        if self.stopping:
            return None
        if len(self) >= self._limits.connections_max and not self._evict():
            self._refused += 1
            return None
        try:
            connection = Connection(stream, since=trio.current_time())
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
        if connection not in self._phases[connection.phase]:
            raise trio.ClosedResourceError("the connection was dropped")
        del self._phases[connection.phase][connection]
        connection.phase = phase
        connection.since = trio.current_time()
        self._phases[phase][connection] = None

    def remove(self, connection: Connection) -> None:
        """Forget a connection and close its socket."""
        self._phases[connection.phase].pop(connection, None)
        connection.close()

    async def sweep(self) -> None:
        """Close what is over its time, for ever."""
        while True:
            await trio.sleep(SWEEP_INTERVAL_S)
            self._sweep_once()

    def stop(self) -> None:
        """Close what has no request; from now on a connection ends with its answer."""
        self.stopping = True
        for phase in ("idle", "reading"):
            for connection in list(self._phases[phase]):
                self._drop(connection)

    def cut_off(self) -> None:
        """Close everything, also what still has a request."""
        for phase in self._phases.values():
            for connection in list(phase):
                self._drop(connection)

    def statistics(self) -> ConnectionStatistics:
        """Give a snapshot of the counts."""
        return ConnectionStatistics(
            reading=len(self._phases["reading"]),
            receiving=len(self._phases["receiving"]),
            busy=len(self._phases["busy"]),
            idle=len(self._phases["idle"]),
            peak=self._peak,
            accepted=self._accepted,
            evicted=self._evicted,
            refused=self._refused,
            timed_out=self._timed_out,
        )

    def _evict(self) -> bool:
        for phase in ("idle", "reading", "receiving"):
            for connection in self._phases[phase]:
                self._drop(connection)
                self._evicted += 1
                return True
        return False

    def _sweep_once(self) -> None:
        now = trio.current_time()
        crowded = len(self) > self._limits.connections_max / 2
        idle_timeout_s = (
            self._limits.crowded_idle_timeout_s if crowded else self._limits.idle_timeout_s
        )
        self._drop_older("idle", now - idle_timeout_s)
        self._drop_older("reading", now - self._limits.header_timeout_s)

    def _drop_older(self, phase: Phase, since: float) -> None:
        for connection in list(self._phases[phase]):
            if connection.since > since:
                return
            self._drop(connection)
            self._timed_out += 1

    def _drop(self, connection: Connection) -> None:
        """Take a connection out and close it; its task ends by the closed socket."""
        self._phases[connection.phase].pop(connection, None)
        connection.close()


def _address(name: object) -> tuple[str, int] | None:
    """Give host and port of a TCP address."""
    if isinstance(name, tuple) and len(name) >= 2:
        return str(name[0]), int(name[1])
    return None
