"""Builders of messages, and a real server in a real process."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from rockets.domain.messages import Message, decode_message

# For tests of the real server that must come out the same whichever way messages are taken.
both_lanes = pytest.mark.parametrize("lane", ["--fast-lane", "--no-fast-lane"])

_CONTENTS: dict[str, dict[str, object]] = {
    "RocketLaunched": {"type": "Falcon-9", "launchSpeed": 500, "mission": "ARTEMIS"},
    "RocketExploded": {"reason": "PRESSURE_VESSEL_FAILURE"},
    "RocketMissionChanged": {"newMission": "SHUTTLE_MIR"},
}

TIME = "2022-02-02T19:39:05.86337+01:00"


def body(
    channel: str,
    number: int,
    kind: str = "RocketSpeedIncreased",
    *,
    time: str = TIME,
    **content: object,
) -> bytes:
    """Write a message as the test program does; a speed increase by 500 unless told."""
    content = content or _CONTENTS.get(kind, {"by": 500})
    metadata = {
        "channel": channel,
        "messageNumber": number,
        "messageTime": time,
        "messageType": kind,
    }
    return json.dumps({"metadata": metadata, "message": content}).encode()


def message(
    channel: str,
    number: int,
    kind: str = "RocketSpeedIncreased",
    *,
    time: str = TIME,
    **content: object,
) -> Message:
    """Build a decoded message."""
    return decode_message(body(channel, number, kind, time=time, **content))


def post(content: bytes, *headers: str, target: str = "/messages") -> bytes:
    """Write a whole HTTP request that posts this content."""
    lines = [
        f"POST {target} HTTP/1.1",
        "Host: localhost",
        *headers,
        f"Content-Length: {len(content)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + content


def get(target: str, *headers: str) -> bytes:
    """Write a whole HTTP request without a body."""
    return "\r\n".join([f"GET {target} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()


class Reply:
    """A whole answer as read off a socket."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> dict[str, object]:
        """The body as an object."""
        content = json.loads(self.body)
        assert isinstance(content, dict)
        return content


class Client:
    """One connection that writes any bytes and reads whole answers."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.buffer = b""

    async def ask(self, request: bytes, *, timeout_s: float = 20) -> Reply:
        """Write bytes and read one answer."""
        await self.stream.send_all(request)
        return await self.read(timeout_s=timeout_s, head_only=request.startswith(b"HEAD "))

    async def read(self, *, timeout_s: float = 20, head_only: bool = False) -> Reply:
        """Read one answer; EOFError when the server closes before it is whole."""
        with trio.fail_after(timeout_s):
            while b"\r\n\r\n" not in self.buffer:
                await self._more()
            head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")
            headers = {
                name.lower(): value.strip()
                for name, _, value in (line.partition(":") for line in lines)
            }
            length = 0 if head_only else int(headers.get("content-length", 0))
            while len(self.buffer) < length:
                await self._more()
            content, self.buffer = self.buffer[:length], self.buffer[length:]
        return Reply(int(first.split(" ")[1]), headers, content)

    async def wait_closed(self, *, timeout_s: float = 20) -> bytes:
        """Read to the end of the connection; gives what came, reset or not."""
        rest = self.buffer
        with trio.fail_after(timeout_s):
            try:
                while data := await self.stream.receive_some(65536):
                    rest += data
            except trio.BrokenResourceError:
                pass  # A reset is an end as well.
        return rest

    async def _more(self) -> None:
        data = await self.stream.receive_some(65536)
        if not data:
            raise EOFError(self.buffer)
        self.buffer += data


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Client]:
    """Open one connection to a local server."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        yield Client(stream)


@asynccontextmanager
async def crowd(port: int, count: int) -> AsyncIterator[list[Client]]:
    """Open many connections."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(connected(port)) for _ in range(count)]


class ServerProcess:
    """`rockets serve` as a process of its own."""

    def __init__(self, process: trio.Process, port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self._log = log

    @property
    def url(self) -> str:
        """Where to send to, without a path."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> list[dict[str, object]]:
        """Every log line so far."""
        lines = self._log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def events(self, event: str) -> list[dict[str, object]]:
        """The log lines of one event."""
        return [line for line in self.log if line["event"] == event]

    async def stop(self, *, timeout_s: float = 20) -> int:
        """Send SIGTERM and wait for the end; gives the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return await self.wait(timeout_s=timeout_s)

    async def kill(self) -> None:
        """Send SIGKILL and wait for the end."""
        self.process.kill()
        await self.process.wait()

    async def wait(self, *, timeout_s: float = 20) -> int:
        """Wait for the end; gives the exit code."""
        with trio.fail_after(timeout_s):
            return await self.process.wait()


def _limit_descriptors(soft: int | None, hard: int | None) -> None:
    present = resource.getrlimit(resource.RLIMIT_NOFILE)
    hard = hard or present[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft or hard, hard))


@asynccontextmanager
async def serving(
    directory: Path,
    *flags: str,
    descriptors: int | None = None,
    soft_descriptors: int | None = None,
    command: Sequence[str] = ("-m", "rockets", "serve"),
    environment: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
    interpreter: str = sys.executable,
) -> AsyncIterator[ServerProcess]:
    """Run a server on a free port with its database in this directory, until the block ends.

    `descriptors` sets both limits, `soft_descriptors` the soft one alone.
    `pass_fds` stay open in it.
    """
    limited = descriptors or soft_descriptors
    log = directory / "server.log"
    database = directory / "rockets.db"
    with log.open("ab") as stderr:
        process = await trio.lowlevel.open_process(
            [interpreter, *command, "--port", "0", "--database", str(database), *flags],
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=environment,
            pass_fds=pass_fds,
            preexec_fn=partial(_limit_descriptors, soft_descriptors, descriptors)
            if limited
            else None,
        )
    try:
        yield ServerProcess(process, await _read_port(process, log), log)
    finally:
        if process.returncode is None:
            process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            assert process.stdout is not None
            await process.stdout.aclose()


async def _read_port(process: trio.Process, log: Path) -> int:
    """Wait for the line that says where the server listens."""
    assert process.stdout is not None
    output = b""
    with trio.fail_after(30):
        while (match := re.search(rb"listening on https?://[^:]*:(\d+)\n", output)) is None:
            data = await process.stdout.receive_some()
            assert data, f"the server ended before it listened; its log is {log}"
            output += data
    return int(match[1])


HELD_SERVE = str(Path(__file__).with_name("held_serve.py"))


class HeldServer:
    """A server whose commits hang until `let_go`."""

    def __init__(self, server: ServerProcess, fifo: Path) -> None:
        self.server = server
        self.port = server.port
        self._fifo = fifo

    async def let_go(self) -> None:
        """Let the disk work; waits until a commit hangs on it."""
        with trio.fail_after(20):
            await trio.to_thread.run_sync(self._fifo.write_bytes, b"", abandon_on_cancel=True)


@asynccontextmanager
async def serving_held(directory: Path, *flags: str) -> AsyncIterator[HeldServer]:
    """Run a server on a disk that hangs, until the block ends."""
    fifo = directory / "held"
    os.mkfifo(fifo)
    environment = os.environ | {"HELD_BY": str(fifo)}
    async with serving(
        directory, *flags, command=(HELD_SERVE, "serve"), environment=environment
    ) as server:
        yield HeldServer(server, fifo)
