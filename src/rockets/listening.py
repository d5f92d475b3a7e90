"""Sockets that listen, and the loop that takes connections from one.

It hands out plain non-blocking sockets: a stream of trio's costs a new connection two calls of the
system and a tenth of its time, for options that a socket inherits from the one that listens.
"""

import errno
import os
import socket
from collections.abc import Callable, MutableMapping

import structlog
import trio

from rockets.stopping import ServeRefused

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


# The first descriptor that a service manager passes on; sd_listen_fds(3), as all of `inherited`.
FIRST_INHERITED = 3


async def listen(host: str, port: int, *, backlog: int) -> list[socket.socket]:
    """Listen on every address of the host; raises OSError, or UnicodeError for an odd name."""
    opened = await trio.open_tcp_listeners(port, host=host, backlog=backlog)
    return [_prepared(socket.socket(fileno=each.socket.detach())) for each in opened]


async def open_listeners(host: str, port: int, *, backlog: int) -> list[socket.socket]:
    """Listen where the service manager does that for us, else on the port.

    Raises ServeRefused with one line that says what is in the way.
    """
    try:
        if listeners := inherited(os.environ):
            return listeners
    except (OSError, ValueError) as error:
        raise ServeRefused(f"the sockets passed on cannot be used: {error}") from error
    try:
        return await listen(host, port, backlog=backlog)
    except (OSError, UnicodeError) as error:  # a name no resolver can take is a UnicodeError
        reason = getattr(error, "strerror", None) or str(error)
        raise ServeRefused(f"cannot listen on {host} port {port}: {reason}") from error


def inherited(environment: MutableMapping[str, str]) -> list[socket.socket]:
    """Take over the listening sockets that a service manager has opened for this process.

    Its variables leave the environment, since they do not concern any child.
    Such a socket stays open when this process ends, and who connects meanwhile waits for the next.
    Raises OSError for a descriptor that is no socket listening for TCP, ValueError for a count
    that is none.
    """
    pid, count = environment.pop("LISTEN_PID", ""), environment.pop("LISTEN_FDS", "")
    environment.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()):
        return []  # They are of a parent that has passed its environment on.
    descriptors = range(FIRST_INHERITED, FIRST_INHERITED + int(count))
    return [adopted(descriptor) for descriptor in descriptors]


def adopted(descriptor: int) -> socket.socket:
    """Take over an inherited socket; OSError where it is none that listens for TCP."""
    return _prepared(_listening(descriptor))


def _listening(descriptor: int) -> socket.socket:
    os.set_inheritable(descriptor, False)
    listener = socket.socket(fileno=descriptor)
    is_tcp = listener.family in (socket.AF_INET, socket.AF_INET6)
    if not is_tcp or not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        listener.close()
        raise OSError(errno.EINVAL, f"descriptor {descriptor} does not listen for TCP")
    return listener


def _prepared(listener: socket.socket) -> socket.socket:
    """Set what every connection inherits from a listener."""
    listener.setblocking(False)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, NOTSENT_LOWAT)
    return listener


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


def url(listener: socket.socket, *, use_tls: bool = False) -> str:
    """Write the address of a listener as a URL without a path."""
    scheme = "https" if use_tls else "http"
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
