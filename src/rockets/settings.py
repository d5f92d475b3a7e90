"""Every setting: its default, its bounds and why.

A value comes from the command line, else from `ROCKETS_<NAME>` in the environment, else from the
TOML file that `--config` or `ROCKETS_CONFIG` names, else from the default here.
Everything wrong or unknown is reported at once, one line each, and stops the start.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

PREFIX = "ROCKETS_"

Durability = Literal["full", "normal", "memory"]
LogLevel = Literal["debug", "info", "warning", "error"]
Role = Literal["all", "ingest", "query"]
JournalKind = Literal["memory", "sqlite", "postgresql", "redis"]

KINDS: Mapping[str, JournalKind] = {
    "sqlite": "sqlite",
    "postgresql": "postgresql",
    "postgres": "postgresql",
    "redis": "redis",
    "rediss": "redis",
    "unix": "redis",
}


class SettingsInvalid(Exception):
    """At least one setting is wrong; `problems` has one line for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All settings of `rockets serve`."""

    host: Annotated[str, Meta(min_length=1, description="Address to listen on.")] = "127.0.0.1"
    port: Annotated[
        int, Meta(ge=0, le=65_535, description="Port to listen on; 0 picks a free one.")
    ] = 8088
    tls_certificate: Annotated[
        str, Meta(description="PEM file with a chain of certificates; with it TLS alone is spoken.")
    ] = ""
    tls_key: Annotated[str, Meta(description="PEM file with its key.")] = ""
    database: Annotated[
        str, Meta(min_length=1, description="File of the journal; made where it does not exist.")
    ] = "rockets.db"
    # What follows the scheme is for the driver to judge. It may have a password: never show it.
    journal: Annotated[
        str,
        Meta(
            pattern=r"^(sqlite|(postgres(ql)?|rediss?|unix)://.*)$",
            description="sqlite: the file of --database; or the server that instances share, "
            "postgresql://... or redis://...",
        ),
    ] = "sqlite"
    # Longer than a database takes that starts together with us.
    journal_wait_s: Annotated[
        float,
        Meta(ge=0, le=86_400, description="Seconds that a start waits for the journal's server."),
    ] = 60.0
    fresh: Annotated[
        bool, Meta(description="Move an old database aside and start with an empty one.")
    ] = False
    durability: Annotated[
        Durability,
        Meta(
            description="full: synced before each answer; normal: survives kill -9 but not power "
            "loss; memory: nothing is kept."
        ),
    ] = "full"
    fast_lane: Annotated[
        bool, Meta(description="Answer the hot requests without Hypercorn and Quart.")
    ] = True
    log_level: Annotated[LogLevel, Meta(description="Least severe log lines shown.")] = "info"

    # One answer to a message must come before the test program's own limit of 10 s.
    ask_timeout_s: Annotated[
        float,
        Meta(gt=0, le=3600, description="Seconds from a request's last byte to its answer."),
    ] = 8.0
    # The usual message has 300 bytes; 64 KiB leaves room for any unknown type.
    message_max: Annotated[
        int, Meta(ge=1, le=2**30, description="Largest body of a message, in bytes.")
    ] = 64 * 1024
    batch_max: Annotated[
        int, Meta(ge=1, le=2**30, description="Largest body of a batch, in bytes.")
    ] = 8 * 1024 * 1024
    batch_messages_max: Annotated[
        int, Meta(ge=1, le=1_000_000, description="Most messages of a batch.")
    ] = 10_000
    # Eight of the largest batches at once; what comes on top is told to come again.
    bodies_total_max: Annotated[
        int, Meta(ge=1, le=2**40, description="Most bytes of request bodies held at once.")
    ] = 64 * 1024 * 1024
    body_pause_s: Annotated[
        float, Meta(gt=0, le=3600, description="Longest pause while a body arrives, in seconds.")
    ] = 10.0
    body_total_s: Annotated[
        float, Meta(gt=0, le=3600, description="Longest time for a whole body, in seconds.")
    ] = 60.0
    send_timeout_s: Annotated[
        float, Meta(gt=0, le=3600, description="Longest time for one write of 64 KiB, in seconds.")
    ] = 5.0
    # A hundred lists of a thousand rockets, or some batches without one valid message.
    answers_total_max: Annotated[
        int, Meta(ge=1, le=2**40, description="Most bytes of long answers held at once.")
    ] = 64 * 1024 * 1024
    # As h11 and others have it; the rebuilt head must find room in what Hypercorn reads.
    head_max: Annotated[
        int, Meta(ge=256, le=2**19, description="Longest head of a request, in bytes.")
    ] = 16 * 1024
    headers_max: Annotated[
        int, Meta(ge=1, le=10_000, description="Most header fields of a request.")
    ] = 64
    header_timeout_s: Annotated[
        float, Meta(gt=0, le=3600, description="Longest time for a request's head, in seconds.")
    ] = 5.0
    # Above the 60 s after which the usual load balancer drops its idle connections.
    idle_timeout_s: Annotated[
        float, Meta(gt=0, le=86_400, description="Idle time of a connection, in seconds.")
    ] = 75.0
    crowded_idle_timeout_s: Annotated[
        float,
        Meta(
            gt=0,
            le=86_400,
            description="The same while more than half of the connections are in use.",
        ),
    ] = 5.0
    # 11.7 KiB each; the descriptor limit less 64 bounds it too.
    connections_max: Annotated[
        int, Meta(ge=64, le=1_000_000, description="Most open connections.")
    ] = 4_096
    # At most half of the connections, so that readers never keep out who posts.
    readers_max: Annotated[
        int, Meta(ge=1, le=1_000_000, description="Most clients that read the live feed.")
    ] = 1_000
    backlog: Annotated[
        int, Meta(ge=1, le=65_535, description="Connections that wait for accept.")
    ] = 1_024
    requests_waiting_max: Annotated[
        int, Meta(ge=1, le=1_000_000, description="Most requests that wait for a commit.")
    ] = 4_096
    # All large bodies, and a thousand of the longest messages besides.
    waiting_bytes_max: Annotated[
        int, Meta(ge=1, le=2**40, description="Most bytes of messages that wait for a commit.")
    ] = 128 * 1024 * 1024
    mailbox_max: Annotated[
        int, Meta(ge=1, le=100_000, description="Items in an actor's mailbox; a full one waits.")
    ] = 256
    # As many as messages that wait at most, so that each could be of another rocket; past that an
    # actor that waits for nothing takes the next rocket over.
    actors_max: Annotated[
        int,
        Meta(ge=1, le=1_000_000, description="Most live actors; quiet ones change their rocket."),
    ] = 4_096
    actor_idle_s: Annotated[
        float, Meta(gt=0, le=86_400, description="Idle time after which an actor ends, seconds.")
    ] = 60.0
    rocket_gaps_max: Annotated[
        int, Meta(ge=1, le=10_000_000, description="Most runs behind a gap of one rocket.")
    ] = 100_000
    total_gaps_max: Annotated[
        int,
        Meta(ge=1, le=100_000_000, description="Most runs behind a gap of all rockets together."),
    ] = 250_000
    # At the slowest disk worth having (512 in 300 ms) the queue is 2.4 s long; `journal.writer`
    # has the reasons for all three.
    commit_queue_max: Annotated[
        int,
        Meta(ge=1, le=1_000_000, description="Appends that wait in the journal's queue."),
    ] = 4_096
    commit_parts_max: Annotated[
        int, Meta(ge=1, le=100_000, description="Most appends that one commit takes together.")
    ] = 512
    commit_bytes_max: Annotated[
        int, Meta(ge=1, le=2**30, description="Most bytes of them, unless one has more alone.")
    ] = 1024 * 1024
    # With the longest bodies 6 MiB.
    rejections_waiting_max: Annotated[
        int, Meta(ge=1, le=100_000, description="Refused bodies that wait to be kept.")
    ] = 100
    notes_max: Annotated[
        int, Meta(ge=1, le=2**40, description="Refused bodies kept, and as many conflicts.")
    ] = 100_000
    notes_bytes_max: Annotated[
        int,
        Meta(ge=1, le=2**50, description="Most bytes of either of them."),
    ] = 64 * 1024 * 1024
    # Room to stop cleanly and to look around on a disk that somebody else fills.
    reserve_bytes: Annotated[
        int,
        Meta(ge=0, le=2**50, description="Free space below which messages are refused; 0: none."),
    ] = 64 * 1024 * 1024
    # What a start has to apply again after a crash: some seconds.
    checkpoint_records: Annotated[
        int, Meta(ge=1, le=2**40, description="Stored messages after which ledgers are kept.")
    ] = 250_000
    checkpoint_s: Annotated[
        float, Meta(gt=0, le=86_400, description="Longest time after which they are, seconds.")
    ] = 60.0
    # Off: what was sent stays, until somebody says how much is enough.
    retain_messages: Annotated[
        int,
        Meta(ge=0, le=2**53 - 1, description="Settled messages kept of each rocket; 0: all."),
    ] = 0
    retain_s: Annotated[
        float,
        Meta(ge=0, le=10**10, description="Seconds for which settled messages are kept; 0: ever."),
    ] = 0.0
    role: Annotated[
        Role,
        Meta(
            description="all: takes messages and shows rockets; ingest: takes messages alone; "
            "query: shows rockets alone. For instances that share a journal."
        ),
    ] = "all"
    workers: Annotated[
        int,
        Meta(
            ge=1,
            le=64,
            description="Processes that serve the port, over one journal that they share.",
        ),
    ] = 1
    # Well below the time that clients and load balancers wait for an answer.
    read_wait_s: Annotated[
        float,
        Meta(
            gt=0,
            le=3600,
            description="Longest wait of a read for what other instances stored, in seconds.",
        ),
    ] = 5.0
    shutdown_grace_s: Annotated[
        float, Meta(gt=0, le=3600, description="Longest time for a clean stop, in seconds.")
    ] = 10.0

    @property
    def journal_kind(self) -> JournalKind:
        """Which kind of journal it is, without its address."""
        if self.durability == "memory":
            return "memory"
        return KINDS[self.journal.partition("://")[0]]


FIELDS = {field.name: field for field in msgspec.structs.fields(Settings)}


def read_settings(
    flags: Mapping[str, Any], environment: Mapping[str, str], *, config: str | None = None
) -> Settings:
    """Merge the sources and check every value. Raises SettingsInvalid with every problem."""
    problems: list[str] = []
    merged: dict[str, _Given] = {}
    config = config or environment.get(f"{PREFIX}CONFIG")
    if config is not None:
        merged |= _from_file(config, problems)
    merged |= _from_environment(environment, problems)
    merged |= {
        name: _Given(f"--{name.replace('_', '-')}", value)
        for name, value in flags.items()
        if value is not None
    }
    values = {}
    for name, given in merged.items():
        try:
            values[name] = msgspec.convert(given.value, FIELDS[name].type, strict=given.typed)
        except msgspec.ValidationError as error:
            problems.append(f"{given.source}: {_wrong(name, given.value, error)}")
    if problems:
        raise SettingsInvalid(problems)
    settings = Settings(**values)
    _refuse_together(settings)
    return settings


def _wrong(name: str, value: Any, error: msgspec.ValidationError) -> str:
    if name == "journal":
        return "journal is neither sqlite nor postgresql://... nor redis://..."
    return f"{name} = {str(value)[:100]!r} is wrong: {error}"


def _refuse_together(settings: Settings) -> None:
    """Refuse what each alone would be right."""
    if bool(settings.tls_certificate) != bool(settings.tls_key):
        raise SettingsInvalid(["tls_certificate and tls_key belong together"])
    if settings.workers > 1:
        _refuse_with_workers(settings)
    if settings.journal == "sqlite":
        return
    if settings.durability == "memory":
        raise SettingsInvalid(["durability memory is not for a journal on a server"])
    if settings.fresh:
        raise SettingsInvalid(["fresh is for a journal in a file, not for one on a server"])


def _refuse_with_workers(settings: Settings) -> None:
    """Refuse what several processes cannot have in common."""
    if settings.durability == "memory":
        raise SettingsInvalid(["durability memory is not for several workers"])
    if settings.retain_messages or settings.retain_s:
        raise SettingsInvalid(["retention is not for several workers"])


class _Given(msgspec.Struct, frozen=True):
    """A value and where it came from; only TOML has types, all else is text."""

    source: str
    value: Any
    typed: bool = False


def _from_file(config: str, problems: list[str]) -> dict[str, _Given]:
    """Read the TOML file; keys are the names of the settings."""
    path = Path(config)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        problems.append(f"{config}: cannot be read: {error}")
        return {}
    problems += [f"{config}: unknown setting {key!r}" for key in content if key not in FIELDS]
    return {
        key: _Given(config, value, typed=True) for key, value in content.items() if key in FIELDS
    }


def _from_environment(environment: Mapping[str, str], problems: list[str]) -> dict[str, _Given]:
    """Read `ROCKETS_*`; platforms that hand out a port say so in plain `PORT`."""
    found: dict[str, _Given] = {}
    if "PORT" in environment:
        found["port"] = _Given("PORT", environment["PORT"])
    for variable, value in environment.items():
        if not variable.startswith(PREFIX) or variable == f"{PREFIX}CONFIG":
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name in FIELDS:
            found[name] = _Given(variable, value)
        else:
            problems.append(f"{variable}: unknown setting")
    return found
