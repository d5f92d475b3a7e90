"""The stand: where a measurement happens, with a fresh server and a fresh database each time."""

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import msgspec

from rockets.bench.bodies import messages
from rockets.bench.outcome import MeasurementFailed, Outcome
from rockets.bench.processes import START_S, Cores, finish, last_line, read_line, running
from rockets.bench.stores import Kind, Stores
from rockets.bench.wrk import TIMEOUT_S, Load, command, parse

# More connections at once than any load here opens.
BACKLOG = 1024
# What a load may take beyond its time: to start, to make its bodies, to wait for late answers.
LOAD_EXTRA_S = 60.0


class Stand:
    """Starts servers on one core and loads on another, in a directory of its own."""

    def __init__(
        self, directory: Path, *, cores: Cores, seconds: int, wrk: str, stores: Stores | None = None
    ) -> None:
        self.seconds = seconds
        self._directory = directory
        self._cores = cores
        self._wrk = wrk
        self._stores = stores
        self._load_log = directory / "load.log"

    @contextmanager
    def database(self) -> Iterator[Path]:
        """Name a database that does not exist yet, and remove it after the block."""
        with TemporaryDirectory(dir=self._directory) as directory:
            yield Path(directory) / "rockets.db"

    @contextmanager
    def store(self, kind: Kind) -> Iterator[str]:
        """Give the address of an empty store on a server, and remove it after the block.

        MeasurementFailed where there is no such server.
        """
        if self._stores is None:
            raise MeasurementFailed(f"this run has no {kind}")
        with self._stores.fresh(kind) as address:
            yield address

    @contextmanager
    def server(self, durability: str, *more: str, pinned: bool = True) -> Iterator[str]:
        """Run the service on a fresh database, perhaps with `more` flags; gives its URL.

        It has the server's core, or, not `pinned`, whatever it gets.
        MeasurementFailed when it does not start, and when it does not end with code 0.
        """
        log = self._directory / "server.log"
        flags = ("--port", "0", "--durability", durability, *more)
        core = self._cores.server if pinned else None
        with self.database() as database:
            serve = [sys.executable, "-m", "rockets", "serve", "--database", str(database), *flags]
            with running(serve, core=core, log=log) as process:
                yield read_line(process, log).rpartition(" ")[2]
            if process.returncode != 0:
                raise MeasurementFailed(
                    f"the server ended with code {process.returncode}: {last_line(log)}"
                )

    @contextmanager
    def reference(self, module: str) -> Iterator[str]:
        """Run one of our reference servers; gives its URL.

        It inherits the listening socket, so that a client may connect at once; the first answer
        says that it is ready.
        """
        log = self._directory / "reference.log"
        with socket.create_server(("127.0.0.1", 0), backlog=BACKLOG) as listener:
            descriptor, port = listener.fileno(), listener.getsockname()[1]
            serve = [sys.executable, "-m", module, str(descriptor)]
            with running(serve, core=self._cores.server, log=log, descriptors=[descriptor]):
                url = f"http://127.0.0.1:{port}"
                ask(url, "POST", "/messages", next(messages()).body)
                yield url

    def wrk(self, load: Load, url: str) -> Outcome:
        """Load a server with wrk."""
        limit_s = self.seconds + TIMEOUT_S + LOAD_EXTRA_S
        run = command(self._wrk, load, url, self.seconds)
        return parse(finish(run, core=self._cores.load, log=self._load_log, limit_s=limit_s))

    def load(self, module: str, plan: msgspec.Struct) -> Outcome:
        """Run one of our own loads, on the core of the load."""
        return self._measure(module, plan, self._cores.load)

    def bare(self, module: str, plan: msgspec.Struct) -> Outcome:
        """Run a reference that is no server, on the core of the server."""
        return self._measure(module, plan, self._cores.server)

    def _measure(self, module: str, plan: msgspec.Struct, core: int) -> Outcome:
        run = [sys.executable, "-m", module, msgspec.json.encode(plan).decode()]
        limit_s = self.seconds + LOAD_EXTRA_S
        output = finish(run, core=core, log=self._load_log, limit_s=limit_s)
        return msgspec.json.decode(output, type=Outcome)


def port_of(url: str) -> int:
    """Return the port in a URL that a server has told."""
    port = urlsplit(url).port
    assert port is not None, "the server says where it listens"
    return port


def ask(url: str, method: str, target: str, body: bytes = b"") -> bytes:
    """Send one request and return the body of the answer; MeasurementFailed unless it is 2xx."""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=START_S)
    try:
        connection.request(method, target, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        content = response.read()
    except (OSError, HTTPException) as error:
        raise MeasurementFailed(f"{method} {target}: {error!r}") from error
    finally:
        connection.close()
    if response.status // 100 != 2:
        raise MeasurementFailed(f"{method} {target} was answered with {response.status}")
    return content
