"""A client with the habits of the closed `rockets` program, which breaks naive servers.

That program is a Go client that neither reads nor closes the body of a reply.
This is the hot path of `rockets launch`, which shares two cores with the server it tests: one
write for a request, and of the reply only what decides the connection's fate is looked at.
"""

import os
import re
from types import TracebackType
from typing import Self

import trio

from rockets.cli.connector import (
    HEAD_BYTES_MAX,
    RECEIVE_BYTES,
    Connector,
    Origin,
    ReplyCut,
    ReplyMalformed,
    close_now,
    is_stale,
    parse_url,
    receive_some,
    send_all,
)

# Go's DefaultMaxIdleConnsPerHost.
GO_IDLE_CONNECTIONS_MAX = 2


class GoClient:
    """Posts to one URL with the habits of a Go client whose user forgets the replies.

    A reply with a body makes its connection unusable: it stays open and is never used again.
    An empty reply gives its connection back, and at most two idle ones are kept.
    Use it in `async with`, which closes everything, as the end of the process would.
    """

    def __init__(self, url: str) -> None:
        origin = parse_url(url)
        self._connector = Connector(origin)
        self._head = _go_head(origin)
        self._idle: list[trio.abc.Stream] = []
        self._leaked: list[trio.abc.Stream] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for stream in self._idle + self._leaked:
            close_now(stream)
        self._idle.clear()
        self._leaked.clear()

    @property
    def connections_opened(self) -> int:
        """How many connections were opened so far."""
        return self._connector.opened

    @property
    def connections_leaked(self) -> int:
        """How many connections are open and lost to an unread body."""
        return len(self._leaked)

    async def post(self, body: bytes) -> int:
        """Post one message and return the status of the reply; ClientError when none came.

        A failed attempt is never repeated here.
        Go would repeat a POST only when it had written nothing, and an idle connection that was
        closed is noticed before anything is written.
        """
        stream = self._take_idle() or await self._connector.open()
        try:
            received = await _exchange(stream, self._head % len(body) + body)
            status, head, surplus = await _receive_head(stream, received)
        except BaseException:
            close_now(stream)
            raise
        self._dispose(stream, status, head, surplus)
        return status

    def _take_idle(self) -> trio.abc.Stream | None:
        while self._idle:
            stream = self._idle.pop()
            if not is_stale(stream):
                return stream
            close_now(stream)
        return None

    def _dispose(self, stream: trio.abc.Stream, status: int, head: bytes, surplus: bool) -> None:
        if _has_body(status, head):
            self._leaked.append(stream)
        elif surplus or _CLOSE.search(head) or len(self._idle) >= GO_IDLE_CONNECTIONS_MAX:
            close_now(stream)
        else:
            self._idle.append(stream)


_CLOSE = re.compile(rb"^HTTP/1\.0|\r\nconnection:[^\r]*\bclose\b", re.IGNORECASE)
_EMPTY = re.compile(rb"\r\ncontent-length:[ \t]*0+[ \t]*(?:\r|$)", re.IGNORECASE)
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})(?: |$|\r)")


def _go_head(origin: Origin) -> bytes:
    """Build the head of every POST, with the fields of Go's client in Go's order."""
    # The only % that is meant is the length; a target may hold others, percent-encoded.
    target, authority = (part.replace("%", "%%") for part in (origin.target, origin.authority))
    return (
        f"POST {target} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: Go-http-client/1.1\r\n"
        "Content-Length: %d\r\nContent-Type: application/json\r\nAccept-Encoding: gzip\r\n\r\n"
    ).encode("ascii")


async def _exchange(stream: trio.abc.Stream, request: bytes) -> bytes:
    """Send the request and return the first bytes of the reply, nothing at the end."""
    if not isinstance(stream, trio.SocketStream):
        await send_all(stream, request)
        return await receive_some(stream, begun=False)
    # A stream costs a turn of the scheduler to send and another to receive.
    # The request nearly always fits the kernel's buffer and the reply is never there yet, so
    # this takes one turn for both; it is a third of what a message costs.
    descriptor = stream.socket.fileno()
    sent = _write_nowait(descriptor, request)
    if sent < len(request):
        await send_all(stream, request[sent:])
    await trio.lowlevel.wait_readable(descriptor)
    try:
        return os.read(descriptor, RECEIVE_BYTES)
    except OSError as error:
        raise ReplyCut(f"the connection broke: {error}", begun=False) from error


def _write_nowait(descriptor: int, content: bytes) -> int:
    """Write what the kernel takes at once; 0 when it takes nothing or the connection is gone."""
    try:
        return os.write(descriptor, content)
    except OSError:
        return 0


async def _receive_head(stream: trio.abc.Stream, received: bytes) -> tuple[int, bytes, bool]:
    """Read on until the head of the reply is whole.

    Returns the status, the head, and whether bytes came behind the head.
    """
    if not received:
        raise ReplyCut("the connection was closed before a reply", begun=False)
    head, end, surplus = received.partition(b"\r\n\r\n")
    while not end or (status := _status(head)) < 200:
        # Not whole yet, or an interim reply (RFC 9110 section 15.2), which another follows.
        received = surplus if end else received + await _receive_more(stream, received)
        head, end, surplus = received.partition(b"\r\n\r\n")
    return status, head, bool(surplus)


async def _receive_more(stream: trio.abc.Stream, before: bytes) -> bytes:
    if len(before) > HEAD_BYTES_MAX:
        raise ReplyMalformed(f"the head of the reply is larger than {HEAD_BYTES_MAX} bytes")
    received = await receive_some(stream, begun=bool(before))
    if not received:
        where = "within the head of the reply" if before else "before a reply"
        raise ReplyCut(f"the connection was closed {where}", begun=bool(before))
    return received


def _status(head: bytes) -> int:
    match = _STATUS_LINE.match(head)
    if match is None:
        raise ReplyMalformed(f"the reply is not HTTP/1.1: {head[:40]!r}")
    return int(match[1])


def _has_body(status: int, head: bytes) -> bool:
    """Say whether Go would see a body: without a length of 0 it waits for one."""
    return status not in {204, 304} and _EMPTY.search(head) is None
