"""Opens connections for the clients of the command line, and says in one way what went wrong.

Owns the errors, the taking apart of URLs and the few stream operations both clients share.
Neither knows about time: put `trio.fail_after` around a call.
"""

import os
import select
import ssl
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import msgspec
import trio

# A reply head of ours has under 1 KiB; what is larger than this is no reply.
HEAD_BYTES_MAX = 64 * 1024
RECEIVE_BYTES = 16 * 1024


class ClientError(Exception):
    """No usable reply came; the request may or may not have been carried out."""


class ConnectFailed(ClientError):
    """No connection could be opened, so nothing was sent."""


class ReplyCut(ClientError):
    """The connection ended before the reply was complete, or before it had `begun`."""

    def __init__(self, detail: str, *, begun: bool) -> None:
        super().__init__(detail)
        self.begun = begun


class ReplyMalformed(ClientError):
    """What came back is not an HTTP/1.1 reply, or is larger than this client takes."""


class Origin(msgspec.Struct, frozen=True):
    """Where a URL points: the server, and the target to ask it for."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """What belongs in the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_url(url: str) -> Origin:
    """Take apart an http or https URL; ValueError says in one line what is wrong with it."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"{url!r} is not of the form http://host:port/path")
    if not url.isascii() or any(character <= " " for character in url):
        raise ValueError(f"{url!r} holds a character that must be percent-encoded")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Origin(parts.scheme, parts.hostname, port, target)


# A family and an address of it, as `getaddrinfo` gives them and `connect` takes them.
_Address = tuple[int, tuple[Any, ...]]


class Connector:
    """Opens connections to one origin, asking for its addresses only once.

    `trio.open_tcp_stream` asks every time, in a thread; that would be most of the cost of a
    refused connection, and the program imitated here makes thousands of those a second.
    """

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._addresses: list[_Address] = []
        self._tls = ssl.create_default_context() if origin.scheme == "https" else None
        self.opened = 0

    async def open(self) -> trio.abc.Stream:
        """Open one connection; ConnectFailed when no address of the origin takes it."""
        try:
            stream = await self._open_tcp()
        except OSError as error:
            raise ConnectFailed(f"{self._origin.authority}: {_reason(error)}") from error
        self.opened += 1
        return stream if self._tls is None else await self._handshake(stream, self._tls)

    async def _open_tcp(self) -> trio.SocketStream:
        if not self._addresses:
            self._addresses = await self._resolve()
        refusal = OSError("the name has no address")
        for family, address in tuple(self._addresses):
            try:
                stream = await _connect(family, address)
            except OSError as error:
                refusal = error
                continue
            # The one that works goes first: of `localhost` often only the second address does.
            self._addresses.sort(key=lambda entry: entry != (family, address))
            return stream
        raise refusal

    async def _resolve(self) -> list[_Address]:
        found = await trio.socket.getaddrinfo(
            self._origin.host, self._origin.port, type=trio.socket.SOCK_STREAM
        )
        return [(family, address) for family, _, _, _, address in found]

    async def _handshake(
        self, stream: trio.SocketStream, context: ssl.SSLContext
    ) -> trio.SSLStream[trio.SocketStream]:
        # HTTP peers often skip TLS's own goodbye; lengths and chunks tell a whole reply anyway.
        wrapped = trio.SSLStream(
            stream, context, server_hostname=self._origin.host, https_compatible=True
        )
        try:
            await wrapped.do_handshake()
        except BaseException as error:
            close_now(wrapped)
            if not isinstance(error, trio.BrokenResourceError):
                raise
            reason = error.__cause__ or error
            raise ConnectFailed(f"{self._origin.authority}: TLS failed: {reason}") from error
        return wrapped


async def _connect(family: int, address: tuple[Any, ...]) -> trio.SocketStream:
    sock = trio.socket.socket(family, trio.socket.SOCK_STREAM)
    try:
        await sock.connect(address)
        return trio.SocketStream(sock)
    except BaseException:
        sock.close()
        raise


def _reason(error: OSError) -> str:
    # trio puts the address into the text; the number says the same in the system's words.
    # Failed look-ups of a name have negative numbers, and their own text.
    number = error.errno or 0
    text = os.strerror(number) if number > 0 else error.strerror or str(error)
    return text.lower()


def close_now(stream: trio.abc.Stream) -> None:
    """Close without a checkpoint and without TLS's goodbye, so it is safe while cancelled."""
    _transport(stream).socket.close()


def is_stale(stream: trio.abc.Stream) -> bool:
    """Say whether an idle connection has something to read: an end, or bytes nobody asked for.

    Go watches its idle connections all the time and drops one in either case.
    """
    # poll and not select, which fails for descriptors above 1,023.
    poller = select.poll()
    poller.register(_transport(stream).socket.fileno(), select.POLLIN)
    return bool(poller.poll(0))


def _transport(stream: trio.abc.Stream) -> trio.SocketStream:
    transport = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
    assert isinstance(transport, trio.SocketStream), "only Connector opens streams"
    return transport


async def send_all(stream: trio.abc.Stream, content: bytes) -> None:
    """Send everything, or as much as the server takes; what came of it shows in the reply."""
    # A server may answer and close without reading everything, and that answer is wanted.
    with suppress(trio.BrokenResourceError):
        await stream.send_all(content)


async def receive_some(stream: trio.abc.Stream, *, begun: bool) -> bytes:
    """Return what has arrived, nothing at the end; ReplyCut when the connection broke."""
    try:
        return bytes(await stream.receive_some(RECEIVE_BYTES))
    except trio.BrokenResourceError as error:
        raise ReplyCut(f"the connection broke: {error.__cause__ or error}", begun=begun) from error
