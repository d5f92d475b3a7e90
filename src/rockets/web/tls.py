"""Connections over TLS, as the front has all others: nothing here waits.

The handshake is a part of the first read, so it has the time that a head has, and a peer that
stands still in it is one that has sent no head yet.
A read gives at most one record, which is shorter than what is asked for: so nothing that was
deciphered is left where nobody who watches the socket would find it, and OpenSSL reads no further
than the record it is in (SSL_CTX_set_read_ahead(3), off).
"""

import socket
import ssl
import stat
from contextlib import suppress
from pathlib import Path

from rockets.web.connections import RECEIVE_SIZE, Connection

RECORD_MAX = 16 * 1024
"""Plain bytes of one record (RFC 8446 §5.1)."""


# The handshake or a record is not here as a whole, or the socket is full. The last one comes from
# below TLS, once this side has ended it.
_NOT_NOW = (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError)


class TlsRefused(Exception):
    """The certificate or its key cannot be used; the text is one line for the operator."""


def load(certificate: str, key: str) -> ssl.SSLContext:
    """Read a chain of certificates and its key, both PEM; for TLS 1.2 and 1.3, and HTTP/1.1.

    Raises TlsRefused, also for a key that others than its owner and its group may read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        if Path(key).stat().st_mode & stat.S_IRWXO:
            raise TlsRefused(f"{key}: others may read the key; chmod o= {key}")
        # Without a password a key that has one would ask for it on the terminal.
        context.load_cert_chain(certificate, key, password=lambda: b"")
    except (OSError, ValueError) as error:  # an SSLError is an OSError
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
        name = getattr(error, "filename", None) or f"{certificate}, {key}"
        raise TlsRefused(f"{name}: cannot be used: {reason}") from error
    return context


class TlsConnection(Connection):
    """A connection whose bytes are enciphered.

    Inheritance, against the rule: it is the same connection with another socket, and a third of the
    calls of a small request would be passed on by one that only holds it.
    """

    __slots__ = ("_tls",)

    is_tls = True

    def __init__(
        self,
        context: ssl.SSLContext,
        sock: socket.socket,
        client: tuple[str, int] | None,
        *,
        since: float,
    ) -> None:
        """Take over a connected socket; OSError where its peer has gone already."""
        tls = context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        super().__init__(tls, client, since=since)
        self._tls = tls

    def receive_nowait(self, size: int = RECEIVE_SIZE) -> bytes | None:
        """Give the bytes of a record that is there, None where there is none; also in a handshake.

        What the handshake says against the peer is as good as that it has gone.
        """
        assert size >= RECORD_MAX, "what is left of a record would wait for the next one"
        try:
            return self._tls.recv(size)
        except _NOT_NOW:
            return None
        except OSError as error:
            raise self._gone() from error

    def send_nowait(self, data: bytes | memoryview) -> int:
        """Send what the socket takes now, record by record; gives how many bytes that was.

        What was not taken has to come again from there on (SSL_write(3)), as every caller does.
        """
        view = memoryview(data)
        sent = 0
        try:
            while sent < len(view):
                sent += self._tls.send(view[sent:])
        except _NOT_NOW:
            pass
        except OSError as error:
            raise self._gone() from error
        return sent

    def send_eof(self) -> None:
        """End this side, within TLS and below; the peer reads the end after what was sent."""
        self._close_notify()
        super().send_eof()

    def close(self) -> None:
        """Close the socket at once, so that the peer knows that nothing was cut off."""
        if self.fileno() >= 0:
            self._close_notify()
        super().close()

    def _close_notify(self) -> None:
        # It waits for the peer's as well, which nobody here does; what is broken needs none.
        with suppress(OSError, ValueError):
            self._tls.unwrap()
