"""Lends one complete request to Hypercorn and the Quart application behind it.

The only module that imports Hypercorn.
Hypercorn 0.18 with quart-trio 0.12 must not own a connection: it leaks it after every Quart answer
(quart-trio cancels the task that was to arm the idle timer), one exception in it ends the process,
and a peer that does not read blocks its shutdown for ever.
So its HTTP/1.1 protocol gets exactly one request, whose head the front has rebuilt (no Upgrade, so
neither h2c nor WebSocket), and everything it does with the connection passes through here:

* it sends through `_send`, in pieces with a time limit each;
* "idle" and "closed" mean that the answer is complete, and end the loan;
* any exception ends the loan and is logged.

Hypercorn's version is pinned; `tests/test_lending.py` holds the seam.
"""

import logging
from contextlib import aclosing
from functools import partial

import structlog
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework, ConnectionState

from rockets.web.body_stream import BodyStream
from rockets.web.connections import SEND_SIZE, Connection, PeerGone
from rockets.web.framing import FramingError
from rockets.web.front import Lender, Lent

log = structlog.get_logger()

# The most that is read ahead from a client that pipelines while its request runs.
READ_AHEAD_MAX = 64 * 1024


def lender(app: ASGIFramework, *, send_timeout_s: float) -> Lender:
    """Give the function that lends requests to this application."""
    return partial(
        _lend, ASGIWrapper(app), _config(), WorkerContext(None), send_timeout_s=send_timeout_s
    )


def _config() -> Config:
    config = Config()
    config.accesslog = None
    config.errorlog = logging.getLogger("rockets.hypercorn")
    config.include_server_header = False
    # The front counts heads and ends connections; Hypercorn must not.
    config.keep_alive_max_requests = 2**62
    config.h11_max_incomplete_size = 2**20
    return config


async def _lend(
    app: ASGIWrapper,
    config: Config,
    context: WorkerContext,
    request: bytes,
    connection: Connection,
    *,
    send_timeout_s: float,
    stream: BodyStream | None = None,
) -> Lent:
    loan = _Loan(connection, send_timeout_s=send_timeout_s, stream=stream)
    return await loan.run(app, config, context, request)


class _Loan:
    """One lent request."""

    def __init__(
        self, connection: Connection, *, send_timeout_s: float, stream: BodyStream | None
    ) -> None:
        self._connection = connection
        self._stream = stream
        self._send_timeout_s = send_timeout_s
        self._scope = trio.CancelScope()
        self._send_lock = trio.Lock()  # two tasks of Hypercorn may write: answer and error
        self._answered = self._started = self._keep = False
        self._is_endless = trio.Event()  # as far as the head of the answer says
        self._rest = b""
        self._refused: FramingError | None = None

    async def run(
        self, app: ASGIWrapper, config: Config, context: WorkerContext, request: bytes
    ) -> Lent:
        """Run the request to the end of its answer."""
        try:
            with self._scope:
                async with TaskGroup() as task_group:
                    protocol = H11Protocol(
                        app,
                        config,
                        context,
                        task_group,
                        ConnectionState({}),
                        self._connection.is_tls,
                        self._connection.client,
                        self._connection.server,
                        self._send,
                    )
                    await protocol.handle(RawData(request))
                    if await self._pass_on_body(protocol):
                        await self._watch()
                    await protocol.handle(Closed())
        except BaseExceptionGroup as group:
            cancelled, failed = group.split(trio.Cancelled)
            if failed is not None:
                log.error("request_crashed", exc_info=failed)
            if cancelled is not None:
                raise cancelled from None
        except Exception:
            log.exception("request_crashed")
        return Lent(
            answered=self._answered,
            started=self._started,
            keep=self._keep,
            rest=self._rest,
            refused=self._refused,
        )

    async def _pass_on_body(self, protocol: H11Protocol) -> bool:
        """Hand a streamed body over as it arrives; False when it breaks off before its end."""
        if self._stream is None:
            return True
        try:
            async with aclosing(self._stream.pieces()) as pieces:
                async for piece in pieces:
                    await protocol.handle(RawData(piece))
        except (PeerGone, trio.BrokenResourceError, trio.ClosedResourceError):
            return False
        except FramingError as error:
            self._refused = error
            return False
        self._rest = self._stream.rest
        return True

    async def _watch(self) -> None:
        """Return when the peer has reset the connection; keep what it sends meanwhile.

        An end of its sending side alone is no reason to stop: it may have closed that half and
        wait for the answer. But for an answer without an end nobody does that.
        """
        try:
            while len(self._rest) < READ_AHEAD_MAX:
                data = await self._connection.receive(READ_AHEAD_MAX)
                if not data:
                    break
                self._rest += data
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return
        await self._is_endless.wait()

    async def _send(self, event: Event) -> None:
        """Take what Hypercorn would do to the connection."""
        if isinstance(event, RawData):
            await self._send_data(event.data)
        elif isinstance(event, Closed):
            self._finish(keep=False)
        elif isinstance(event, Updated) and event.idle:
            self._finish(keep=True)

    def _finish(self, *, keep: bool) -> None:
        self._answered = True
        self._keep = keep
        self._scope.cancel()

    async def _send_data(self, data: bytes) -> None:
        """Write in pieces; a peer that takes none of one in time loses the connection.

        The shield keeps an answer whole when the request around it is cancelled; it has an end.
        """
        async with self._send_lock:
            if not self._started and b"\r\ncontent-type: text/event-stream\r\n" in data:
                self._is_endless.set()
            for start in range(0, len(data), SEND_SIZE):
                sent = False
                with trio.move_on_after(self._send_timeout_s, shield=True):
                    try:
                        self._started = True
                        await self._connection.send(data[start : start + SEND_SIZE])
                        sent = True
                    except (trio.BrokenResourceError, trio.ClosedResourceError):
                        pass  # The peer has gone; the loan ends below.
                if not sent:
                    self._connection.close()
                    self._scope.cancel()
                    return
