"""Readers of the live feed: some that read all that comes, and some that never read.

Run as `python -m rockets.bench.feed_readers PLAN`, a process of its own on the core of the load.
It prints one line when every reader has its place, and reads until it is ended.
"""

import select
import socket
import sys
from contextlib import ExitStack

import msgspec

REQUEST = b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n"
RECEIVE_BYTES = 1 << 20
READY = b"event: ready\n"


class Plan(msgspec.Struct, frozen=True):
    """How many readers of each kind, at which port of this machine."""

    port: int
    reading: int
    silent: int


def _run(plan: Plan) -> None:
    with ExitStack() as opened, select.epoll() as poller:
        reading: dict[int, socket.socket] = {}
        for place in range(plan.reading + plan.silent):
            sock = opened.enter_context(socket.create_connection(("127.0.0.1", plan.port)))
            sock.sendall(REQUEST)
            _wait_ready(sock)
            if place < plan.reading:
                sock.setblocking(False)
                poller.register(sock, select.EPOLLIN)
                reading[sock.fileno()] = sock
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            for descriptor, _ in poller.poll():
                if not reading[descriptor].recv(RECEIVE_BYTES):
                    sys.exit("the service has ended a stream")


def _wait_ready(sock: socket.socket) -> None:
    received = b""
    while READY not in received:
        data = sock.recv(RECEIVE_BYTES)
        if not data:
            sys.exit(f"not answered with events: {received[:100]!r}")
        received += data


if __name__ == "__main__":
    _run(msgspec.json.decode(sys.argv[1], type=Plan))
