"""A Redis server of our own for tests: private, on free addresses, gone afterwards."""

import os
import shutil
import socket
import subprocess
from pathlib import Path
from signal import SIGCONT, SIGTERM, Signals
from tempfile import mkdtemp
from typing import Any

from redis.connection import Connection

from rockets.journal import NoteLimits
from rockets.journal.redis_streams import RedisJournal

# Debian's redis-tools has the server too: the program looks by which name it is called.
SERVER = shutil.which("redis-server") or shutil.which("redis-check-rdb")
# A test run that is killed, as one that hangs is, takes its servers along.
TIED = ("setpriv", "--pdeathsig", "KILL") if shutil.which("setpriv") else ()
STRICT = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


class RedisServer:
    """One server, with files that outlive its process; it syncs, since journals ask for that."""

    def __init__(self, *arguments: str) -> None:
        assert SERVER is not None
        self._folder = Path(mkdtemp(prefix="redis"))
        self._prefixes: dict[Path, str] = {}
        self.port = free_port()
        address = ("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder))
        program = self._folder / "redis-server"
        program.symlink_to(SERVER)
        self._command = [*TIED, str(program), *address, *STRICT, *arguments]
        self.start()

    def start(self) -> None:
        """Run it until it says that it is ready."""
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert self._process.stdout is not None
        said = [""]
        while "Ready to accept connections" not in said[-1]:
            said.append(self._process.stdout.readline())
            assert said[-1], "".join(said)

    def signal(self, number: Signals) -> None:
        os.kill(self._process.pid, number)

    def stop(self, number: Signals = SIGTERM) -> None:
        """End it, by SIGKILL as a crash does."""
        self.signal(number)
        with self._process:  # waits, and closes the pipe
            pass

    def close(self) -> None:
        if self._process.poll() is None:
            self.signal(SIGCONT)
            self.stop()
        shutil.rmtree(self._folder)

    def url(self, path: Path, port: int | None = None) -> str:
        """An address, perhaps through a proxy, with a prefix for every path."""
        return f"redis://127.0.0.1:{port or self.port}/0?prefix={self._prefix(path)}"

    def journal(self, path: Path, *, port: int | None = None, **more: Any) -> RedisJournal:
        return RedisJournal(self.url(path, port), **more)

    def emptied(self, path: Path, note_limits: NoteLimits) -> RedisJournal:
        """A journal on a store with nothing in it."""
        return self.journal(path, note_limits=note_limits)

    def key(self, path: Path, name: str) -> str:
        """The name of a key in the store of a path."""
        return f"{{{self._prefix(path)}}}:{name}"

    def _prefix(self, path: Path) -> str:
        return self._prefixes.setdefault(path, f"journal{len(self._prefixes)}")

    def ask(self, *command: Any) -> Any:
        """Give it a command of somebody else's."""
        connect: Any = Connection
        connection = connect(port=self.port, protocol=2, driver_info=None)
        try:
            connection.send_command(*command)
            return connection.read_response()
        finally:
            connection.disconnect()

    def copy(self, path: Path) -> dict[bytes, bytes]:
        """Everything in the store of a path, as a backup or a replica has it."""
        keys: list[bytes] = self.ask("KEYS", self.key(path, "*").replace("{", "\\{"))
        return {key: self.ask("DUMP", key) for key in keys}

    def replace(self, path: Path, content: dict[bytes, bytes]) -> None:
        """Put this in place of all there is in the store of a path."""
        for key in self.copy(path):
            self.ask("DEL", key)
        for key, value in content.items():
            self.ask("RESTORE", key, 0, value)

    def cut_file(self, size: int) -> None:
        """Take so many bytes off the end of the newest file, as a bad disk may."""
        newest = max(self._folder.glob("appendonlydir/*.incr.aof"))
        os.truncate(newest, newest.stat().st_size - size)
