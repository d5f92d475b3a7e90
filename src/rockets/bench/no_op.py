"""The no-op: a Quart application that does nothing, on Hypercorn as it comes, in one process.

Run as `python -m rockets.bench.no_op DESCRIPTOR`, where the descriptor is a listening socket.
It is what the service would cost at least if every message went the usual way.
"""

import sys
from functools import partial

import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from quart import Response
from quart_trio import QuartTrio

app = QuartTrio("rockets.bench.no_op")


@app.post("/messages")
async def take_message() -> Response:
    """Answer without looking at the message."""
    response = Response(b"", 204)
    # A 204 with one of these makes h11 refuse the answer, or Hypercorn close the connection.
    del response.headers["content-type"], response.headers["content-length"]
    return response


if __name__ == "__main__":
    config = Config()
    config.bind = [f"fd://{sys.argv[1]}"]
    trio.run(partial(serve, app, config))
