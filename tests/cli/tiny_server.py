"""A server of a few lines, for what a real one would never answer."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"
UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
WITH_BODY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"

# Decides the reply to a target and a body; b"" closes the connection without one.
Answer = Callable[[str, bytes], bytes]


def ok(content: bytes) -> bytes:
    """Write a whole reply with this body."""
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(content), content)


@dataclass
class TinyServer:
    """What a tiny server has seen so far."""

    answer: Answer
    hold: int
    port: int = 0
    heads: list[bytes] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    connections: list[trio.SocketStream] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._note_end, self._ends = trio.open_memory_channel[None](1000)
        self._held = trio.Event()

    @property
    def url(self) -> str:
        """The address to post to."""
        return f"http://127.0.0.1:{self.port}/messages"

    async def serve(self, stream: trio.SocketStream) -> None:
        """Answer one request after the other until either side has enough."""
        self.connections.append(stream)
        received = b""
        while chunk := await _receive(stream):
            received += chunk
            head, end, rest = received.partition(b"\r\n\r\n")
            length = _content_length(head)
            if not end or len(rest) < length:
                continue
            received = rest[length:]
            reply = self._reply(head, rest[:length])
            await self._wait_held()
            if reply:
                await stream.send_all(reply)
            if not reply or b"Connection: close" in reply:
                await stream.aclose()
                return
        self._note_end.send_nowait(None)

    async def wait_ended(self, connections: int) -> None:
        """Wait until clients have ended this many more of their connections."""
        for _ in range(connections):
            await self._ends.receive()

    @property
    def ended(self) -> int:
        """How many connections clients have ended since the last wait."""
        return self._ends.statistics().current_buffer_used

    async def _wait_held(self) -> None:
        """Wait until as many requests are here as the first ones must wait for."""
        if len(self.heads) >= self.hold:
            self._held.set()
        await self._held.wait()

    def _reply(self, head: bytes, body: bytes) -> bytes:
        target = head.split(b" ")[1].decode()
        self.heads.append(head)
        self.targets.append(target)
        self.bodies.append(body)
        return self.answer(target, body)


async def _receive(stream: trio.SocketStream) -> bytes:
    try:
        return bytes(await stream.receive_some())
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return b""


def _content_length(head: bytes) -> int:
    fields = [line.partition(b":") for line in head.split(b"\r\n")[1:]]
    return sum(int(value) for name, _, value in fields if name.lower() == b"content-length")


@asynccontextmanager
async def open_tiny_server(answer: Answer, *, hold: int = 1) -> AsyncIterator[TinyServer]:
    """Serve on a free port of this machine until the block ends.

    With `hold` the first replies are held back until that many requests are here.
    """
    server = TinyServer(answer, hold)
    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        server.port = listener.socket.getsockname()[1]
        await nursery.start(trio.serve_listeners, server.serve, [listener])
        yield server
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_refusing_port() -> AsyncIterator[str]:
    """Give an address where nobody listens and nobody else can start to."""
    with trio.socket.socket() as sock:
        await sock.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{sock.getsockname()[1]}/messages"
