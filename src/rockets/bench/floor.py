"""The floor: what a trio server costs that parses requests with httptools and does nothing.

Run as `python -m rockets.bench.floor DESCRIPTOR`, where the descriptor is a listening socket.
It reads every byte, finds every end of a request and answers each with an empty 204: no route,
no header, no decoding, no storage.
So a ratio to it says how much of the possible is left when all of that is done.
"""

import socket
import sys

import httptools
import trio

NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"
LAST_NO_CONTENT = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"


class _Requests:
    """Counts the requests of one connection that are complete and not answered."""

    def __init__(self) -> None:
        self.parser = httptools.HttpRequestParser(self)
        self.complete = 0
        self.is_last = False

    def on_message_complete(self) -> None:
        self.complete += 1
        # The parser knows it here and forgets it when it goes on to the next request.
        self.is_last = not self.parser.should_keep_alive()


async def serve(stream: trio.SocketStream) -> None:
    """Answer the requests of one connection until either side has enough."""
    requests = _Requests()
    async with stream:
        try:
            while data := await stream.receive_some():
                requests.parser.feed_data(data)
                if not requests.complete:
                    continue
                if requests.is_last:
                    await stream.send_all(LAST_NO_CONTENT)
                    return
                await stream.send_all(NO_CONTENT * requests.complete)
                requests.complete = 0
        except (httptools.HttpParserError, trio.BrokenResourceError):
            return  # There is nobody left who could be told.
        finally:
            del requests.parser  # They hold each other, and collecting that would cost more.


async def _run(descriptor: int) -> None:
    sock = trio.socket.from_stdlib_socket(socket.socket(fileno=descriptor))
    await trio.serve_listeners(serve, [trio.SocketListener(sock)])


if __name__ == "__main__":
    trio.run(_run, int(sys.argv[1]))
