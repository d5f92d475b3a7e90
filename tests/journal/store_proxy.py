"""A TCP proxy between a journal and its store, which fails on demand and at a chosen moment.

One thread owns all of its sockets, so that closing one takes effect at once; what is asked of it
is handed to that thread and waited for.
"""

import socket
import struct
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from selectors import EVENT_READ, DefaultSelector
from threading import Event, Thread
from typing import Literal, NamedTuple

Kind = Literal["reset", "close", "hold"]

HELD_MAX = 20


class Fault(NamedTuple):
    """What happens when the client's bytes hold `at`: they are passed on or not, and then `kind`.

    Passed on, it happens at the server's answer, which the client never gets.
    `hold` passes nothing on any more, in no direction, and closes nothing: a black hole.
    """

    at: bytes
    kind: Kind
    passed_on: bool = False


class Proxy:
    """Passes connections on to a port of this machine; each fault happens once, in their order."""

    def __init__(self, port: int) -> None:
        self.faults: deque[Fault] = deque()
        self.happened: list[Fault] = []
        self._target = "127.0.0.1", port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._asked: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._waking, self._wake = socket.socketpair()
        self._selector = DefaultSelector()
        self._selector.register(self._listener, EVENT_READ)
        self._selector.register(self._waking, EVENT_READ)
        self._peers: dict[socket.socket, socket.socket] = {}
        self._clients: set[socket.socket] = set()
        self._held: list[socket.socket] = []
        self._at_answer: dict[socket.socket, Fault] = {}
        self._is_cut = self._is_closed = False
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """Be a black hole, for the connections there are and for new ones."""
        self._do(self._hold_all)

    def heal(self) -> None:
        """Pass new connections on again, and reset those that were lost."""
        self._do(self._release)

    def reset(self) -> None:
        """Reset all connections; new ones are passed on."""
        self._do(self._reset_all)

    def close(self) -> None:
        self._do(self._end)
        self._thread.join()

    def _do(self, what: Callable[[], None]) -> None:
        done = Event()

        def ask() -> None:
            what()
            done.set()

        self._asked.put(ask)
        self._wake.send(b".")
        done.wait()

    def _run(self) -> None:
        while not self._is_closed:
            for key, _ in self._selector.select():
                ready = key.fileobj
                assert isinstance(ready, socket.socket)
                if ready is self._waking:
                    ready.recv(1)
                    self._asked.get()()
                elif ready is self._listener:
                    self._accept()
                elif ready in self._peers:  # not closed by one before it
                    self._pass_on(ready)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        if self._is_cut:
            self._held.append(client)
            return
        try:
            server = socket.create_connection(self._target)
        except ConnectionRefusedError:
            client.close()
            return
        self._clients.add(client)
        for end, other in ((client, server), (server, client)):
            self._peers[end] = other
            self._selector.register(end, EVENT_READ)

    def _pass_on(self, end: socket.socket) -> None:
        other = self._peers[end]
        sent = b""
        with suppress(OSError):
            sent = end.recv(1 << 16)
        if end in self._clients and self.faults and self.faults[0].at in sent:
            fault = self.faults.popleft()
            self.happened.append(fault)
            if not fault.passed_on:
                self._fail(end, fault.kind)
                return
            self._at_answer[other] = fault
        elif end in self._at_answer:
            self._fail(end, self._at_answer.pop(end).kind)
            return
        try:
            if sent:
                other.sendall(sent)
        except OSError:
            sent = b""
        if not sent:
            self._fail(end, "close")

    def _fail(self, end: socket.socket, kind: Kind) -> None:
        for each in (end, self._peers[end]):
            self._selector.unregister(each)
            del self._peers[each]
            self._clients.discard(each)
            self._at_answer.pop(each, None)
            if kind == "hold":
                self._held.append(each)
            else:
                _close(each, kind)
        # A server finds by itself that a peer is gone, in the end; else it would run out of room.
        while len(self._held) > HELD_MAX and not self._is_cut:
            _close(self._held.pop(0), "reset")

    def _hold_all(self) -> None:
        self._is_cut = True
        for client in list(self._clients):
            self._fail(client, "hold")

    def _release(self) -> None:
        self._is_cut = False
        while self._held:
            _close(self._held.pop(), "reset")

    def _reset_all(self) -> None:
        for client in list(self._clients):
            self._fail(client, "reset")

    def _end(self) -> None:
        self._reset_all()
        self._release()
        self._is_closed = True
        self._selector.close()
        for each in (self._listener, self._waking, self._wake):
            each.close()


def _close(end: socket.socket, kind: Kind) -> None:
    if kind == "reset":
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.close()
