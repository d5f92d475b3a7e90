"""A connection to a PostgreSQL server that is made anew when it is lost, and waited for in bounds.

A lost connection says nothing about a statement that was under way. Before COMMIT was sent, nothing
of a transaction can stay, so it is run again on a new connection. Once COMMIT was sent it may have
happened: only work that finds out by itself, or changes nothing, is run again then.

The invariant: a call ends, with a result or an error, when its time is over, whatever the network
does. A peer that acknowledges bytes and never answers is not found by TCP, so every wait on the
socket looks at the clock ten times a second. (`statement_timeout` ends waits on the server's side,
for locks and for its disk.)
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from threading import Event
from time import monotonic
from typing import Any, NamedTuple, Self, TypeVar

import psycopg
from psycopg import pq
from psycopg.abc import PQGen, PQGenConn
from psycopg.conninfo import conninfo_to_dict

from .absence import JournalAbsent
from .base import (
    JournalBehind,
    JournalBusy,
    JournalError,
    JournalFailed,
    JournalFull,
    JournalRefused,
    JournalUnreachable,
)
from .hurry import Hurry

T = TypeVar("T")
Step = TypeVar("Step")
Came = TypeVar("Came")

Connection = psycopg.Connection[tuple[Any, ...]]

LOCK = "SELECT pg_advisory_xact_lock(%s)"

PAUSE_S = 0.1
PAUSE_S_MAX = 1.0
"""Between attempts to connect, at most, doubling from the first: times a random share, so that
instances which lost the server together do not come back together."""

CONNECT_S = 2
"""For one attempt to connect to one address; libpq takes nothing shorter."""

START_S = 30.0
"""For the first connection, behind other instances that start at the same time."""


class OutOfTime(psycopg.OperationalError):
    """Raised out of a wait on the socket; the connection is closed then."""


class CommitUncertain(Exception):
    """Raised when COMMIT was sent and no answer came that could be trusted."""


class Patience:
    """How long a call, and each answer in it, may be waited for, and whether to stop at once."""

    def __init__(self, hurry: Hurry, *, answer_s: float, call_s: float) -> None:
        """Prepare only; `begin` starts the clock of a call."""
        self.interrupted = Event()
        self.hurry = hurry
        self._answer_s = answer_s
        self._call_s = call_s
        self._longest_s = answer_s
        self._until = 0.0

    def begin(self) -> None:
        """Give the call that begins its time."""
        self._until = monotonic() + self._call_s
        self._longest_s = self._answer_s

    def begin_start(self) -> None:
        """Give a start its time, in which tables are made."""
        self._until = monotonic() + START_S
        self._longest_s = START_S

    def watch(self, gen: Generator[Step, Came, T]) -> Generator[Step, Came, T]:
        """Pass a wait of psycopg's on; raises `OutOfTime` out of it when it takes too long."""
        asked_at = monotonic()
        until = min(self._until, asked_at + self._longest_s)
        try:
            step = next(gen)
            while True:
                came = yield step
                step = gen.send(came)
                over = monotonic() > until or self.hurry.is_over(asked_at)
                if over or self.interrupted.is_set():
                    raise OutOfTime("no answer in time")
        except StopIteration as done:
            result: T = done.value
            return result

    def pause(self, pause_s: float) -> bool:
        """Wait before another attempt; says whether there is time for one."""
        if monotonic() + pause_s > self._until or not self.hurry.may_connect:
            return False
        return not self.interrupted.wait(pause_s)


class Target(NamedTuple):
    """Where the store is and how it is spoken to: connection parameters, and what to call it."""

    parameters: dict[str, Any]
    name: str

    @classmethod
    def of(cls, url: str, answer_s: float) -> "Target":
        """Read an address; what it says itself counts before our timeouts."""
        try:
            given = conninfo_to_dict(url)
        except psycopg.ProgrammingError:
            given = {"port": "none"}
        host, port = given.get("host", "localhost"), str(given.get("port", 5432))
        name = str(given.get("dbname", ""))
        if not set(port) <= set("0123456789,") or "@" in name:
            # What is told of it must not be a password, or the half of one with a / in it; and the
            # driver's reason may quote all.
            raise JournalRefused(
                "no address of a PostgreSQL database: it has a part or parameter that is not known;"
                " in a password : / ? # @ are written as %3A and so on"
            )
        ours: dict[str, Any] = {
            "application_name": "rockets",
            "connect_timeout": CONNECT_S,
            "keepalives_idle": 2,
            "keepalives_interval": 1,
            "keepalives_count": 3,
            "tcp_user_timeout": round(answer_s * 1000),
            "client_encoding": "utf8",
        }
        return cls({**ours, **given}, f"PostgreSQL at {host}:{port}/{name}")


class Link:
    """One connection, and how it is made; belongs to one thread.

    `connections` counts those that were made: what a connection held is gone when it has changed.
    """

    def __init__(
        self,
        target: Target,
        prepare: Callable[[Connection], None],
        patience: Patience,
        jitter: Callable[[], float],
    ) -> None:
        """Connect at the first use; `prepare` is run on every new connection."""
        self.connections = 0
        self.patience = patience
        self._target = target
        self._prepare = prepare
        self._jitter = jitter
        self._class = _connection_class(patience)
        self._connection: Connection | None = None

    def ask(self, fn: Callable[[Connection], T], *, repeatable: bool = True) -> T:
        """Run `fn` on the connection, and again on a new one when it was lost, while time is left.

        Where COMMIT was sent already, only what is `repeatable` is run again.
        Raises `JournalUnreachable`, what `fn` raises, and the server's errors as `JournalError`.
        """
        self.patience.begin()
        pause_s = PAUSE_S
        while True:
            try:
                return fn(self._connected())
            except CommitUncertain as error:
                cause: Exception = error
                self.close()
                if not repeatable:
                    break
            except JournalRefused as error:
                # As it was at the start it was right, so somebody is working on it.
                cause = error
                self.close()
            except psycopg.Error as error:
                if not _is_lost(self._connection, error):
                    raise translated(error) from error
                cause = error
                self.close()
            if not self.patience.pause(pause_s * self._jitter()):
                break
            pause_s = min(2 * pause_s, PAUSE_S_MAX)
        reason = one_line(cause)
        raise JournalUnreachable(f"{self._target.name} cannot be reached: {reason}") from cause

    def open(self) -> None:
        """Connect for the first time, in one attempt; raises `JournalRefused`, `JournalAbsent`."""
        self.patience.begin_start()
        try:
            self._connected()
        except (psycopg.Error, JournalError) as error:
            self.close()
            kind = JournalAbsent if _is_absence(error) else JournalRefused
            raise kind(f"{self._target.name}: {one_line(error)}") from error

    def has(self, nth: int) -> bool:
        """Say whether the connection is still the one that was made as the `nth`."""
        return self._connection is not None and self.connections == nth

    def close(self) -> None:
        """Let the connection go; the next use makes another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            # Closing a socket can report what was wrong with it, which nobody needs any more.
            with suppress(psycopg.Error):
                connection.close()

    def _connected(self) -> Connection:
        if self._connection is None:
            if not self.patience.hurry.may_connect:
                raise OutOfTime("it was gone when this instance stopped")
            # Every execution is prepared: the statements are few, and their texts are constants.
            self._connection = self._class.connect(
                **self._target.parameters, autocommit=True, prepare_threshold=0
            )
            self.connections += 1
            try:
                self._prepare(self._connection)
            except Exception:
                self.close()  # half prepared it must not be used
                raise
        return self._connection


@contextmanager
def transaction(connection: Connection) -> Iterator[None]:
    """Commit when left normally, else roll back; may raise `CommitUncertain`.

    The block calls `begin` itself, so that more can go along in one pipeline. COMMIT goes alone:
    within a pipeline of which the rest does not come, the server would not count the silence.
    """
    try:
        yield
        _commit(connection)
    except BaseException:
        if (
            not connection.closed
            and connection.info.transaction_status != pq.TransactionStatus.IDLE
        ):
            with suppress(psycopg.Error):
                connection.execute("ROLLBACK", prepare=False)
        raise


def begin(connection: Connection, lock: int) -> None:
    """Begin a transaction that has taken a lock; costs nothing more within a pipeline."""
    connection.execute("BEGIN", prepare=False)
    connection.execute(LOCK, (lock,))


def _commit(connection: Connection) -> None:
    warnings = []

    def notice(said: psycopg.errors.Diagnostic) -> None:
        if said.severity_nonlocalized == "WARNING":
            warnings.append(said.message_primary)

    connection.add_notice_handler(notice)
    try:
        done = connection.execute("COMMIT", prepare=False)
    except psycopg.Error as error:
        if _is_lost(connection, error):
            raise CommitUncertain(f"the connection was lost at COMMIT: {error}") from error
        raise
    finally:
        connection.remove_notice_handler(notice)
    if done.statusmessage != "COMMIT":
        raise JournalFailed(f"the store answered COMMIT with {done.statusmessage}")
    if warnings:
        # Such as: the wait for a synchronous standby was cancelled, and only this server has it.
        raise CommitUncertain(f"the store warned at COMMIT: {warnings[0]}")


def _connection_class(patience: Patience) -> type[Connection]:
    class Connection(psycopg.Connection[tuple[Any, ...]]):
        """psycopg's connection, with every wait on its socket watched."""

        @classmethod
        def _connect_gen(cls, conninfo: str = "") -> PQGenConn[Self]:
            return patience.watch(super()._connect_gen(conninfo))

        def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
            try:
                return super().wait(patience.watch(gen), interval, timeout)
            except OutOfTime:
                # Whatever else is tried on it, such as to end a pipeline, fails at once.
                self.pgconn.finish()
                raise

    return Connection


# By SQLSTATE or its class (PostgreSQL's documentation, appendix A).
LOST = (
    "08",  # the connection is broken, as a proxy would say it
    "25006",  # a primary that has become a standby
    "25P03",  # this process was stopped within a transaction, and the server gave it up
    "25P04",  # the same, for transactions of any state
    "40",  # a deadlock or the like: everything is rolled back and may be run again
    "53300",  # too many connections
    "57P01",  # the server is shut down,
    "57P02",  # has crashed,
    "57P03",  # is just starting
    "57P05",  # or ended an idle session
)
ERRORS: tuple[tuple[str, type[JournalError], str], ...] = (
    ("53100", JournalFull, "no space for the journal"),
    ("53", JournalUnreachable, "the store is short of resources"),
    ("55P03", JournalBusy, "another program holds the journal"),
    ("57014", JournalBusy, "the store did not answer in time"),
    ("58", JournalUnreachable, "the store has trouble with its files"),
    ("3D000", JournalBehind, "the store is gone"),
    ("3F000", JournalBehind, "the store is gone"),
    ("42P01", JournalBehind, "the store is gone"),
    ("57P04", JournalBehind, "the store is gone"),
    ("", JournalFailed, "the journal has failed"),
)


def _is_lost(connection: Connection | None, error: psycopg.Error) -> bool:
    if error.sqlstate is not None:  # the server has said what is wrong
        return error.sqlstate.startswith(LOST)
    # After a reset the driver may say so in words alone, and take the connection for open.
    return connection is None or connection.closed or isinstance(error, psycopg.OperationalError)


def _is_absence(error: Exception) -> bool:
    """Say whether a first attempt has not come to a server that is up."""
    if not isinstance(error, psycopg.OperationalError):
        return False
    if error.sqlstate is not None:
        return error.sqlstate.startswith(LOST)
    # What a server says before a session is there comes without its code. One that asked for a
    # password is up, so it is the password or the database that it does not like.
    refused = error.pgconn
    return refused is None or not (refused.used_password or refused.needs_password)


def translated(error: psycopg.Error) -> JournalError:
    """Return a server's error as the journal's, in one line."""
    state = error.sqlstate or ""
    kind, words = next((kind, words) for code, kind, words in ERRORS if state.startswith(code))
    return kind(f"{words}: {one_line(error)}")


def one_line(error: Exception) -> str:
    """Return an error's text in one line; libpq and the server use several."""
    return " ".join(str(error).split())
