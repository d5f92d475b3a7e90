"""A connection to a Redis server that is made anew when it is lost, and waits for a bounded time.

A lost connection says nothing about a script that was under way: it may have run, or run later,
when a proxy lets its bytes go. So only what may be run again is sent, which `redis_store` sees to.

The invariant: a call ends, with a result or an error, when its time is over, whatever the network
does: every wait on the socket looks at the clock ten times a second. (Looking up the name of a
host is the system's affair, and not bounded here.)
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from hashlib import sha1
from threading import Event
from time import monotonic
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import redis
from redis.connection import Connection, parse_url

from .absence import JournalAbsent
from .base import JournalBusy, JournalError, JournalFailed, JournalFull, JournalRefused
from .base import JournalUnreachable as Unreachable
from .hurry import Hurry
from .redis_policy import PATTERNS, check_policy

T = TypeVar("T")

PAUSE_S = 0.05
PAUSE_S_MAX = 0.5
"""Between attempts, at most, doubling from the first: times a random share, so that instances
which lost the server together do not come back together."""

ANSWER_S = 2.0
"""For one answer: a sync takes milliseconds, and a second attempt must fit into a call."""

CALL_S = 5.0
"""For a call with all its attempts: whoever waits for an append gives up after eight."""

GLANCE_S = 0.1
CONNECT_S = 1.0
URL_PARAMETERS = "host", "port", "db", "path", "username", "password", "client_name"


class Script:
    """A Lua script, which the server knows by its SHA-1 once it has run."""

    def __init__(self, *texts: str) -> None:
        """Join the texts; the name is of the whole."""
        self.text = "".join(texts)
        # The name is Redis's choice and guards nothing.
        self.name = sha1(self.text.encode(), usedforsecurity=False).hexdigest()


class Target(NamedTuple):
    """Where the server is and how to speak to it, what to call it, and what it must be like."""

    connection: type[Connection]
    parameters: dict[str, Any]
    name: str
    durability: str
    check_config: bool


class Interrupted(Exception):
    """Raised out of a wait that another thread has ended."""


class Link:
    """One connection, and how it is made; belongs to one thread, but for `interrupted`."""

    def __init__(
        self,
        target: Target,
        jitter: Callable[[], float],
        hurry: Hurry,
        *,
        answer_s: float = ANSWER_S,
        call_s: float = CALL_S,
        connect_s: float = CONNECT_S,
    ) -> None:
        """Connect at the first use."""
        self.interrupted = Event()
        self._target = target
        self._jitter = jitter
        self._hurry = hurry
        self._answer_s = answer_s
        self._call_s = call_s
        self._until = 0.0
        # protocol 2: the newer one would only bring other shapes and pushed messages.
        self._connection: Any = target.connection(
            **target.parameters,
            protocol=2,
            driver_info=None,  # nobody reads it, and it would cost two round trips
            socket_timeout=answer_s,
            socket_connect_timeout=min(connect_s, answer_s),
        )
        self._is_ready = False

    def open(self) -> None:
        """Connect for the first time, in one attempt; raises `JournalRefused`, `JournalAbsent`."""
        self._until = monotonic() + self._call_s
        try:
            self._connect()
        except (redis.RedisError, JournalRefused) as error:
            self.close()
            kind = JournalAbsent if _is_absence(error) else JournalRefused
            raise kind(f"{self._target.name}: {_line(error)}") from error

    def run(self, script: Script, keys: Sequence[bytes], arguments: Sequence[object]) -> Any:
        """Run a script, again after a loss; raises `JournalUnreachable` and others by `ERRORS`.

        Raises `Interrupted` as soon as that is set.
        """
        return self._ask(lambda: self._run(script, keys, arguments))

    def run_and(
        self,
        script: Script,
        keys: Sequence[bytes],
        arguments: Sequence[object],
        command: Sequence[object],
    ) -> tuple[Any, Any]:
        """Run a script, and a command right behind it that only reads; raises as `run` does."""

        def ask() -> tuple[Any, Any]:
            with suppress(redis.exceptions.NoScriptError):
                ran, came = self._commands(_evalsha(script, keys, arguments), command)
                return ran, came
            return self._run(script, keys, arguments), self._commands(command)[0]

        return self._ask(ask)

    def block(self, command: Sequence[object], block_s: float) -> Any:
        """Give a command that the server may take so long to answer; raises as `run` does."""
        return self._ask(lambda: self._commands(command, extra_s=block_s)[0], block_s)

    def close(self) -> None:
        """Let the connection go; the next use makes another."""
        self._is_ready = False
        self._connection.disconnect()

    def _ask(self, fn: Callable[[], T], extra_s: float = 0.0) -> T:
        self._until = monotonic() + self._call_s + extra_s
        pause_s = PAUSE_S
        is_in_doubt = False
        while True:
            try:
                self._connect()
                return fn()
            except (redis.RedisError, JournalRefused) as error:
                kind, words, is_passing = _judge(error)
                # What was sent before may still arrive, so "nothing is stored" would be a guess.
                is_in_doubt |= kind is Unreachable
                if is_in_doubt and kind in (JournalFull, JournalBusy):
                    kind = Unreachable
                failure = kind(f"{self._target.name} {words}: {_line(error)}")
                failure.__cause__ = error
                if kind is Unreachable:
                    self.close()
            if not is_passing or not self._pause(pause_s * self._jitter()):
                raise failure
            pause_s = min(2 * pause_s, PAUSE_S_MAX)

    def _pause(self, pause_s: float) -> bool:
        if monotonic() + pause_s > self._until or not self._hurry.may_connect:
            return False
        if self.interrupted.wait(pause_s):
            raise Interrupted
        return True

    def _connect(self) -> None:
        if self._is_ready:
            return
        if not self._hurry.may_connect:
            raise redis.TimeoutError("it was gone when this instance stopped")
        self._connection.disconnect()
        self._connection.connect()
        [said] = self._commands(["INFO"])
        info = _table(line.split(b":", 1) for line in said.splitlines())
        config = self._config() if self._target.check_config else None
        check_policy(info, config, self._target.durability)
        self._is_ready = True

    def _config(self) -> Mapping[str, str]:
        try:
            answers = self._commands(*[("CONFIG", "GET", pattern) for pattern in PATTERNS])
        except redis.ResponseError as error:
            raise JournalRefused(
                f"CONFIG GET is not allowed ({_line(error)}), so nobody can see that appendfsync is"
                " as it must be; where you know, add policy=unchecked to the URL"
            ) from error
        flat = [value for answer in answers for value in answer]
        return _table(zip(flat[::2], flat[1::2], strict=True))

    def _run(self, script: Script, keys: Sequence[bytes], arguments: Sequence[object]) -> Any:
        try:
            [answer] = self._commands(_evalsha(script, keys, arguments))
        except redis.exceptions.NoScriptError:
            # A server that has started anew knows none, and nothing has happened.
            [answer] = self._commands(("EVAL", script.text, len(keys), *keys, *arguments))
        return answer

    def _commands(self, *commands: Sequence[object], extra_s: float = 0.0) -> list[Any]:
        """Send commands together and return their answers; raises the first error of one."""
        asked_at = monotonic()
        until = min(asked_at + self._answer_s + extra_s, self._until)
        self._connection.send_packed_command(self._connection.pack_commands(commands))
        answers: list[Any] = []
        for _ in commands:
            while not self._connection.can_read(GLANCE_S):
                if self.interrupted.is_set():
                    self.close()
                    raise Interrupted
                if monotonic() > until or self._hurry.is_over(asked_at):
                    raise redis.TimeoutError("no answer in time")
            try:
                answers.append(self._connection.read_response())
            except redis.ResponseError as error:
                answers.append(error)
        for answer in answers:
            if isinstance(answer, redis.ResponseError):
                raise answer
        return answers


def _evalsha(
    script: Script, keys: Sequence[bytes], arguments: Sequence[object]
) -> Sequence[object]:
    return ("EVALSHA", script.name, len(keys), *keys, *arguments)


def target_of(url: str, durability: str) -> tuple[Target, str]:
    """Read a URL and return the target and the prefix of the keys; raises `JournalRefused`.

    `redis://[user:password@]host[:port][/db]`, `rediss://` with `ssl_…` parameters, or
    `unix://path`, with the parameters `prefix` and `policy=unchecked`.
    """
    read: Any = parse_url
    try:
        parameters = read(url)
        place = urlsplit(url)
        if "@" in place.path + place.query + place.fragment:
            raise ValueError("a password ends too early")
        name = f"{place.scheme}://{place.hostname or ''}{place.path}"
        if place.port:
            name = f"{place.scheme}://{place.hostname}:{place.port}{place.path}"
    except ValueError:
        # The reason may quote what stands where a port is expected, such as half a password.
        raise JournalRefused(
            "not a URL of a Redis server; in a password : / ? # @ are written as %3A and so on"
        ) from None
    prefix = parameters.pop("prefix", "rockets")
    policy = parameters.pop("policy", "checked")
    connection = parameters.pop("connection_class", Connection)
    strange = [key for key in parameters if key not in URL_PARAMETERS and key[:4] != "ssl_"]
    if strange or policy not in ("checked", "unchecked"):
        wrong = ", ".join(strange or [f"policy={policy}"])
        raise JournalRefused(f"{name}: the URL has a parameter that is not known: {wrong}")
    if not prefix or set(prefix) & set("{}"):
        raise JournalRefused(f"{name}: a prefix is not empty and has no braces")
    return Target(connection, parameters, name, durability, policy == "checked"), prefix


# By the first word of the server's error: what it is for the journal, in words, and whether to
# try again. In each of these cases nothing of a script was done.
ERRORS: Mapping[str, tuple[type[JournalError], str, bool]] = {
    "OOM": (JournalFull, "has no memory left", False),
    "MISCONF": (JournalFull, "cannot write to its disk", False),
    "BUSY": (JournalBusy, "runs somebody's long script", True),
    "READONLY": (Unreachable, "is no master any more", True),
    "LOADING": (Unreachable, "is starting", True),
    "MASTERDOWN": (Unreachable, "has no master", True),
    "NOREPLICAS": (Unreachable, "has too few replicas", True),
    "CLUSTERDOWN": (Unreachable, "belongs to a cluster that is down", True),
    "TRYAGAIN": (Unreachable, "is moving its keys", True),
    "MOVED": (Unreachable, "has moved its keys to another node", True),
    "ASK": (Unreachable, "is moving its keys", True),
    "NOAUTH": (Unreachable, "wants a password", True),
    "WRONGPASS": (Unreachable, "does not take the password", True),
    "NOPERM": (Unreachable, "does not give the permission", True),
}


def _is_absence(error: Exception) -> bool:
    """Say whether a first attempt has not come to a server that is up."""
    if isinstance(error, redis.AuthenticationError | redis.exceptions.AuthorizationError):
        return False
    return isinstance(error, redis.ConnectionError | redis.TimeoutError)


def _judge(error: Exception) -> tuple[type[JournalError], str, bool]:
    if isinstance(error, JournalRefused):
        # As it was at the start it was right, so somebody is working on it.
        return Unreachable, "cannot be used", True
    if isinstance(error, redis.ResponseError):
        word = getattr(error, "status_code", None) or str(error).partition(" ")[0]
        return ERRORS.get(word, (JournalFailed, "has failed", False))
    return Unreachable, "cannot be reached", True


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _table(pairs: Any) -> Mapping[str, str]:
    table = {}
    for pair in pairs:
        with suppress(ValueError):  # a heading or an empty line
            key, value = pair
            table[key.decode()] = value.decode()
    return table
