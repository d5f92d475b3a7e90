"""The well-behaved HTTP/1.1 client of the command line and of the end-to-end tests.

It reads every reply and uses its connections again; h11 does the protocol.
A cancelled call closes its connection, because the reply may still be under way.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

import h11
import msgspec
import trio

from rockets.cli.connector import (
    HEAD_BYTES_MAX,
    Connector,
    ReplyCut,
    ReplyMalformed,
    close_now,
    is_stale,
    parse_url,
    receive_some,
    send_all,
)

# The largest page of rockets (10,000) has about 6 MB.
BODY_BYTES_MAX = 64 * 1024 * 1024
# Methods that may be sent twice without harm (RFC 9110 section 9.2.2), as far as we use them.
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class Response(msgspec.Struct, frozen=True):
    """A reply, whole. Header names are in lower case; of a repeated header the last counts."""

    status: int
    headers: dict[str, str]
    body: bytes


class StreamedResponse:
    """A reply that is still arriving."""

    def __init__(self, status: int, headers: dict[str, str], connection: "_Connection") -> None:
        self.status = status
        self.headers = headers
        self._connection = connection

    async def receive(self) -> bytes:
        """Give the next part of the body; nothing at its end."""
        return await self._connection.receive_part()


class HttpClient:
    """A well-behaved client of one origin that keeps its idle connections for the next request.

    Use it in `async with`, which closes the connections.
    Requests may run concurrently; each has a connection to itself.
    """

    def __init__(self, url: str) -> None:
        self._origin = parse_url(url)
        self._connector = Connector(self._origin)
        self._idle: list[_Connection] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        while self._idle:
            self._idle.pop().close()

    @property
    def connections_opened(self) -> int:
        """How many connections were opened so far."""
        return self._connector.opened

    async def request(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Send one request and read the whole reply; ClientError when there is none.

        An idle connection that the server closes at the very moment it is used again gives no
        reply.
        A safe method is then sent once more on a fresh connection; any other is not, since the
        server may have carried it out.
        """
        request = self._build(method, target, body, headers or {})
        reused = self._take_idle()
        if reused is not None:
            try:
                return await self._exchange(reused, request, body)
            except ReplyCut as error:
                if error.begun or method not in SAFE_METHODS:
                    raise
        fresh = _Connection(await self._connector.open())
        return await self._exchange(fresh, request, body)

    @asynccontextmanager
    async def stream(
        self, target: str, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator["StreamedResponse"]:
        """Send a GET and give its reply while it arrives; the block's end closes the connection.

        Raises ClientError when there is none, and so does reading it where it breaks off.
        """
        connection = _Connection(await self._connector.open())
        try:
            await connection.send(self._build("GET", target, b"", headers or {}), b"")
            yield await connection.receive_head()
        finally:
            connection.close()

    def _build(
        self, method: str, target: str, body: bytes, headers: Mapping[str, str]
    ) -> h11.Request:
        fields = {"Host": self._origin.authority, **headers}
        if body or method not in SAFE_METHODS:
            fields.setdefault("Content-Length", str(len(body)))
        return h11.Request(method=method, target=target, headers=list(fields.items()))

    def _take_idle(self) -> "_Connection | None":
        while self._idle:
            connection = self._idle.pop()
            if not is_stale(connection.stream):
                return connection
            connection.close()
        return None

    async def _exchange(
        self, connection: "_Connection", request: h11.Request, body: bytes
    ) -> Response:
        try:
            await connection.send(request, body)
            response = await connection.receive()
        except BaseException:
            connection.close()
            raise
        if connection.prepare_reuse():
            self._idle.append(connection)
        else:
            connection.close()
        return response


class _Connection:
    """One connection of an `HttpClient`: a stream and what h11 knows about it."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._state = h11.Connection(h11.CLIENT, HEAD_BYTES_MAX)
        self._reply_begun = False

    def close(self) -> None:
        close_now(self.stream)

    def prepare_reuse(self) -> bool:
        """Say whether another request may follow, and get ready for it."""
        reusable = self._state.our_state is h11.DONE and self._state.their_state is h11.DONE
        if reusable:
            self._state.start_next_cycle()
            self._reply_begun = False
        return reusable

    async def send(self, request: h11.Request, body: bytes) -> None:
        parts = (request, h11.Data(data=body), h11.EndOfMessage())
        await send_all(self.stream, b"".join(self._state.send(part) or b"" for part in parts))

    async def receive(self) -> Response:
        head = await self.receive_head()
        return Response(head.status, head.headers, await self._receive_body())

    async def receive_head(self) -> StreamedResponse:
        event = await self._next_event()
        while isinstance(event, h11.InformationalResponse):
            event = await self._next_event()
        assert isinstance(event, h11.Response), event
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
        return StreamedResponse(event.status_code, headers, self)

    async def receive_part(self) -> bytes:
        event = await self._next_event()
        return bytes(event.data) if isinstance(event, h11.Data) else b""

    async def _receive_body(self) -> bytes:
        body = bytearray()
        while part := await self.receive_part():
            body += part
            if len(body) > BODY_BYTES_MAX:
                raise ReplyMalformed(f"the body is larger than {BODY_BYTES_MAX} bytes")
        return bytes(body)

    async def _next_event(self) -> h11.Event:
        while (event := self._next_event_nowait()) is None:
            received = await receive_some(self.stream, begun=self._reply_begun)
            if not received and not self._reply_begun:
                raise ReplyCut("the connection was closed before a reply", begun=False)
            self._reply_begun = True
            self._state.receive_data(received)
        return event

    def _next_event_nowait(self) -> h11.Event | None:
        try:
            event = self._state.next_event()
        except h11.RemoteProtocolError as error:
            if self._state.trailing_data[1]:
                raise ReplyCut(f"the reply is not complete: {error}", begun=True) from error
            raise ReplyMalformed(f"the reply is not HTTP/1.1: {error}") from error
        # PAUSED would need a second request under way, and there is never one.
        return event if isinstance(event, h11.Event) else None
