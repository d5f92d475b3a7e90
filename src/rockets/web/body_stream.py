"""A body that is lent while it arrives: a long stream of lines need not wait for its end."""

from collections.abc import AsyncGenerator, Awaitable, Callable

from rockets.web.framing import ChunkedBody, CountedBody


class BodyStream:
    """The body of one request, read piece by piece; once it has ended, `rest` is what came after.

    How long it may take is the handler's to say: it is the one that waits.
    """

    def __init__(
        self,
        start: bytes,
        body: CountedBody | ChunkedBody,
        *,
        receive: Callable[[], Awaitable[bytes]],
        ended: Callable[[], None],
    ) -> None:
        self.rest = b""
        self._start = start
        self._body = body
        self._receive = receive
        self._ended = ended

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Give the body framed as its rebuilt head says.

        Raises FramingError where the body cannot be framed, and what `receive` raises where the
        peer leaves before its end.
        """
        chunked = isinstance(self._body, ChunkedBody)
        data = self._start
        while True:
            rest = self._body.feed(data)
            piece = self._body.take()
            if rest is not None:
                self.rest = rest
                self._ended()
            if piece:
                yield b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece
            if rest is not None:
                break
            data = await self._receive()
        if chunked:
            yield b"0\r\n\r\n"
