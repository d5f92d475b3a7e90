"""Sockets that listen, and the loop that takes connections from one.

It hands out plain non-blocking sockets: a stream of trio's costs a new connection two calls of the
system and a tenth of its time, for options that a socket inherits from the one that listens.
"""

import errno
import socket
from collections.abc import Callable

import structlog
import trio

log = structlog.get_logger()

# As trio's streams have it: bytes wait in the program that can still change them, not in the
# kernel, so a peer that does not read is noticed early.
NOTSENT_LOWAT = 16 * 1024

# So many connections are taken in one go; then the others get their turn.
ACCEPTED_AT_ONCE = 64

ACCEPT_PAUSE_S = 0.1
_PAUSES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

# Errors of the connection that was to be taken, not of the socket that listens (accept(2)).
_GONE = {
    errno.ECONNABORTED,
    errno.EPERM,
    errno.EPROTO,
    errno.ENETDOWN,
    errno.ENOPROTOOPT,
    errno.EHOSTDOWN,
    errno.ENONET,
    errno.EHOSTUNREACH,
    errno.EOPNOTSUPP,
    errno.ENETUNREACH,
}


async def listen(host: str, port: int, *, backlog: int) -> list[socket.socket]:
    """Listen on every address of the host; raises OSError, or UnicodeError for an odd name."""
    listeners = []
    for opened in await trio.open_tcp_listeners(port, host=host, backlog=backlog):
        listener = socket.socket(fileno=opened.socket.detach())
        listener.setblocking(False)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, NOTSENT_LOWAT)
        listeners.append(listener)
    return listeners


async def accept(listener: socket.socket, take: Callable[[socket.socket], None]) -> None:
    """Take connections for ever; where descriptors run out, pause and try again."""
    paused = False
    while True:
        await trio.lowlevel.wait_readable(listener)
        try:
            for _ in range(ACCEPTED_AT_ONCE):
                sock, _ = listener.accept()
                sock.setblocking(False)
                take(sock)
                paused = False
        except BlockingIOError:
            continue
        except OSError as error:
            if error.errno in _GONE:
                continue
            if error.errno not in _PAUSES:
                raise
            if not paused:  # one line for a whole shortage, not ten a second
                log.warning("accept_paused", reason=str(error))
            paused = True
            await trio.sleep(ACCEPT_PAUSE_S)


def url(listener: socket.socket) -> str:
    """Write the address of a listener as a URL without a path."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
