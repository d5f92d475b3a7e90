"""Databases for the tests of the commands that read them, and the commands as processes."""

import subprocess
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import trio

from rockets.domain.messages import decode_message
from rockets.journal import Record, SqliteJournal
from tests.helpers import Client, body, post

COMMAND = (sys.executable, "-m", "rockets")


def bodies(count: int, *, rockets: int = 3, padding: int = 0) -> list[bytes]:
    """Write messages of a few rockets in turn, each rocket's numbers falling."""
    return [
        body(f"rocket-{index % rockets}", count - index // rockets, by=1, later="x" * padding)
        for index in range(count)
    ]


def fill(path: Path, given: Iterable[bytes]) -> Path:
    """Make a database that holds these bodies in this order, closed."""
    journal = SqliteJournal(path, durability="normal")
    messages = [decode_message(each) for each in given]
    journal.append([Record(each.channel, each.number, each.body, 1) for each in messages])
    journal.close()
    return path


def flip(path: Path, content: bytes) -> None:
    """Change one bit in the middle of this content, which the file holds once."""
    found = bytearray(path.read_bytes())
    assert found.count(content) == 1
    found[found.index(content) + len(content) // 2] ^= 4
    path.write_bytes(found)


async def run_command(*words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run a command of `rockets` to its end; gives its code and what it wrote."""
    with trio.fail_after(40):
        return await trio.run_process(
            [*COMMAND, *words], stdin=stdin, capture_stdout=True, capture_stderr=True, check=False
        )


def table(text: str) -> dict[str, str]:
    """Read the table that ends an import."""
    return {name: value for name, value, *_ in (line.split() for line in text.splitlines()[:9])}


class Started(NamedTuple):
    """A command that runs, and its three streams."""

    process: trio.Process
    stdin: trio.abc.SendStream
    stdout: trio.abc.ReceiveStream
    stderr: trio.abc.ReceiveStream


@asynccontextmanager
async def started(*words: str) -> AsyncIterator[Started]:
    """Start a command of `rockets`; at the end of the block it has ended, one way or the other."""
    pipe = subprocess.PIPE
    process = await trio.lowlevel.open_process(
        [*COMMAND, *words], stdin=pipe, stdout=pipe, stderr=pipe
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        yield Started(process, process.stdin, process.stdout, process.stderr)
    finally:
        if process.returncode is None:
            process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                await stream.aclose()


class Ingest:
    """Sends a hundred messages of one rocket after the other, and knows how many are stored."""

    def __init__(self) -> None:
        self.acknowledged = 0

    async def run(self, client: Client) -> None:
        """Send for ever."""
        while True:
            numbers = range(self.acknowledged + 1, self.acknowledged + 101)
            batch = b"\n".join(body("rocket-1", number) for number in numbers)
            reply = await client.ask(post(batch, "Content-Type: application/x-ndjson"))
            assert reply.json["problems"] == []
            self.acknowledged += 100
