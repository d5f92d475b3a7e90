"""The store in a PostgreSQL database: its tables, who may use it, and what was seen of it.

Several instances may start at once on an empty database: an advisory lock puts them in a row.
A connection is used only after the store has shown that it is the one known from before: by its
id, which was made with the tables, by its head, which is not behind the watermark, and by the
record at the watermark, which is the one that was seen there. (The head alone would not tell after
a failover that lost records, once other instances have written as many new ones.)

The invariant: whatever one instance has seen committed is there on every connection it gets, or
`JournalBehind` is raised.
"""

from threading import Lock
from typing import Any, NamedTuple
from zlib import crc32

from psycopg import sql

from .base import JournalBehind, JournalRefused, Position
from .postgresql_link import LOCK, Connection, transaction

SERVER_VERSION_MIN = 140_000
"""The oldest that is still looked after, and the first with client_connection_check_interval."""

ALONE_S = 1
"""For how long the server bears that this side says nothing within a transaction, which holds the
lock of all appends, before it ends the session. (Between two messages a few ms go by here; more
only where the process is stopped or the network is cut.)"""

# Names are compared and sorted by their bytes, as the other journals do it, whatever the database's
# collation. A note's key may be longer than an index takes, hence its digest.
TABLES_1 = """
CREATE TABLE store (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    version integer NOT NULL
);
CREATE TABLE records (
    position bigint PRIMARY KEY,
    stream text COLLATE "C" NOT NULL,
    number bigint NOT NULL,
    body bytea NOT NULL,
    received_at bigint NOT NULL,
    checksum bytea NOT NULL,
    UNIQUE (stream, number)
);
CREATE TABLE markers (
    journal uuid NOT NULL,
    batch bigint NOT NULL,
    written_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (journal, batch)
);
CREATE TABLE notes (
    note bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text COLLATE "C" NOT NULL,
    stream text COLLATE "C" NOT NULL,
    number bigint NOT NULL,
    key bytea NOT NULL,
    body bytea NOT NULL,
    noted_at bigint NOT NULL,
    count bigint NOT NULL,
    last_at bigint NOT NULL,
    checksum bytea NOT NULL
);
CREATE UNIQUE INDEX notes_once ON notes (kind, stream, number, sha256(key));
CREATE INDEX notes_by_kind ON notes (kind, note);
CREATE INDEX notes_by_stream ON notes (kind, stream, note);
CREATE TABLE note_kinds (
    kind text COLLATE "C" PRIMARY KEY,
    kept bigint NOT NULL,
    bytes bigint NOT NULL,
    dropped bigint NOT NULL
);
-- A ledger is kept anew in every round in which its rocket changed: with room in its page the
-- new one needs no entry in the index.
CREATE TABLE ledgers (
    stream text COLLATE "C" PRIMARY KEY,
    data bytea NOT NULL,
    checksum bigint NOT NULL
) WITH (fillfactor = 70);
CREATE TABLE rounds (
    newer integer PRIMARY KEY,
    began bigint NOT NULL,
    rules text NOT NULL,
    ledgers bigint NOT NULL,
    checksum bytea NOT NULL
);
CREATE TABLE pruned (
    stream text COLLATE "C" PRIMARY KEY,
    through bigint NOT NULL,
    base bytea NOT NULL,
    checksum bytea NOT NULL
);
"""

TABLES = (TABLES_1,)
"""What each version of the schema added; a store of an earlier one gets the rest."""

SCHEMA_VERSION = len(TABLES)

HEAD = "SELECT position, checksum FROM records ORDER BY position DESC LIMIT 1"
AT = "SELECT checksum FROM records WHERE position = %s"
SET = (
    "SELECT set_config(name, value, false) FROM unnest(%s::text[], %s::text[]) AS set (name, value)"
)
CHECK = """
SELECT pg_is_in_recovery(), current_setting('server_version_num')::int,
    current_setting('server_encoding'), current_setting('fsync'),
    current_setting('full_page_writes'), current_setting('synchronous_commit')
"""


class Seen(NamedTuple):
    """A record that was seen committed: its place and its checksum, empty where it is not known."""

    position: Position
    mark: bytes = b""


class Locks(NamedTuple):
    """The advisory locks of a store, by the name of its schema."""

    start: int
    append: int
    round: int

    @classmethod
    def of(cls, schema: str) -> "Locks":
        """Number them so that two stores in one database hardly ever share one."""
        return cls(*(crc32(f"rockets:{schema}:{field}".encode()) for field in cls._fields))


class Watermark:
    """The last record that any thread has seen committed; it never goes back."""

    def __init__(self) -> None:
        """Start before the first record."""
        self._lock = Lock()
        self._seen = Seen(Position(0))

    @property
    def seen(self) -> Seen:
        """What a question asked from now on must find; take it before asking."""
        return self._seen

    def rise(self, seen: Seen) -> None:
        """Remember what a commit or a read has shown."""
        with self._lock:
            if seen.position > self._seen.position:
                self._seen = seen

    def check(self, floor: Seen, head: Seen) -> None:
        """Raise `JournalBehind` unless the head holds what was seen, else rise to it."""
        if head.position < floor.position:
            raise JournalBehind(
                f"the store ends at position {head.position}, {floor.position} was seen in it"
            )
        if head.position == floor.position:
            self.check_mark(floor, head.mark)
        self.rise(head)

    @staticmethod
    def check_mark(floor: Seen, mark: bytes) -> None:
        """Raise `JournalBehind` where another record is at the place of the one that was seen."""
        if floor.mark and mark and mark != floor.mark:
            raise JournalBehind(f"the store has another record at position {floor.position}")


class Store:
    """What every connection of one instance must find: the settings, the id, the tables."""

    def __init__(self, schema: str, durability: str, answer_s: float) -> None:
        """Know nothing yet; the first connection tells the id."""
        self.locks = Locks.of(schema)
        self.channel = schema
        self.watermark = Watermark()
        self._schema = schema
        self._durability = durability
        self._answer_s = answer_s
        self._id: object = None

    def prepare(self, connection: Connection, *, read_only: bool) -> None:
        """Set up a new connection and check the store behind it.

        Raises `JournalRefused` for the server and its settings, `JournalBehind` for the store.
        """
        connection.execute(SET, self._settings(connection, read_only))
        version = self._check_server(connection)
        if self._id is None:
            self._create(connection)
        self._check_store(connection)
        if version >= 170_000:  # the first that has it
            # Also where the silence is in the middle of a message.
            longest = f"{ALONE_S + self._answer_s:.0f}s"
            connection.execute(SET, (["transaction_timeout"], [longest]))

    def _settings(self, connection: Connection, read_only: bool) -> tuple[list[str], list[str]]:
        answer_ms = f"{self._answer_s * 1000:.0f}"
        # A little sooner than this side gives up, so that it is told what was in the way.
        statement_ms = f"{self._answer_s * 800:.0f}"
        settings = {
            "search_path": sql.Identifier(self._schema).as_string(connection),
            "client_min_messages": "warning",
            "default_transaction_read_only": "on" if read_only else "off",
            # Every statement sees what was committed before it, so also what the lock waited for.
            "default_transaction_isolation": "read committed",
            "statement_timeout": statement_ms,
            "idle_in_transaction_session_timeout": f"{ALONE_S}s",
            # An instance that is gone must not hold its locks: so the server looks for it, too.
            "client_connection_check_interval": f"{ALONE_S}s",
            "tcp_keepalives_idle": "2",
            "tcp_keepalives_interval": "1",
            "tcp_keepalives_count": "3",
            "tcp_user_timeout": answer_ms,
            # Every query has an index. Without statistics of a table that has just been filled
            # the planner would rather read all of it, and keep that plan.
            "enable_seqscan": "off",
            "enable_hashjoin": "off",
            "enable_mergejoin": "off",
            "enable_bitmapscan": "off",
            "plan_cache_mode": "force_generic_plan",
            "jit": "off",
        }
        return list(settings), list(settings.values())

    def _check_server(self, connection: Connection) -> int:
        row: Any = connection.execute(CHECK).fetchone()
        in_recovery, version, encoding, fsync, full_page_writes, synchronous_commit = row
        if in_recovery:
            raise JournalRefused("is a standby, which takes no writes")
        if version < SERVER_VERSION_MIN:
            least = SERVER_VERSION_MIN // 10_000
            raise JournalRefused(
                f"is PostgreSQL {version // 10_000}, it has to be {least} or later"
            )
        if encoding != "UTF8":
            raise JournalRefused(f"the database has the encoding {encoding}, it has to be UTF8")
        # Without it a server that is killed forgets what it has answered, so for `normal` as well.
        if synchronous_commit == "off":
            raise JournalRefused("synchronous_commit is off: commits would be answered too early")
        if self._durability == "full":
            for name, value in (("fsync", fsync), ("full_page_writes", full_page_writes)):
                if value != "on":
                    raise JournalRefused(f"{name} is {value}: power loss could take commits")
        return int(version)

    def _create(self, connection: Connection) -> None:
        """Create what is missing, in one transaction: whatever happens it is the old or the new."""
        with transaction(connection):
            connection.execute("BEGIN", prepare=False)
            connection.execute("SET LOCAL statement_timeout = 0")
            connection.execute(LOCK, (self.locks.start,))
            schema = sql.Identifier(self._schema)
            # Asked first, because creating needs a right that an owner of the schema may lack.
            if not _value(connection, "SELECT to_regnamespace(%s) IS NOT NULL", schema.as_string()):
                connection.execute(sql.SQL("CREATE SCHEMA {}").format(schema))
            version = self._version(connection)
            for tables in TABLES[version:]:
                # Unprepared, since it is several statements.
                connection.execute(tables, prepare=False)
            if version == 0:
                connection.execute("INSERT INTO store (version) VALUES (%s)", (SCHEMA_VERSION,))
            elif version < SCHEMA_VERSION:
                connection.execute("UPDATE store SET version = %s", (SCHEMA_VERSION,))

    def _version(self, connection: Connection) -> int:
        """Return the version of the schema, 0 where there is nothing; refuse any other."""
        if not _value(connection, "SELECT to_regclass('store') IS NOT NULL"):
            things = "SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace(%s)"
            schema = sql.Identifier(self._schema).as_string(connection)
            if _value(connection, things, schema):
                raise JournalRefused(f"the schema {self._schema} belongs to another program")
            return 0
        version = _value(connection, "SELECT version FROM store") or 0
        if not 1 <= version <= SCHEMA_VERSION:
            raise JournalRefused(
                f"has schema version {version}, this release works with version {SCHEMA_VERSION}"
            )
        return int(version)

    def _check_store(self, connection: Connection) -> None:
        floor = self.watermark.seen
        store_id = _value(connection, "SELECT id FROM store")
        if self._id is not None and store_id != self._id:
            raise JournalBehind("the store is another one than before")
        self._id = store_id
        self.watermark.check(floor, head(connection))
        # A record that was pruned meanwhile says nothing.
        row = connection.execute(AT, (floor.position,)).fetchone()
        self.watermark.check_mark(floor, row[0] if row else b"")


def head(connection: Connection) -> Seen:
    """Return the last record."""
    return seen(connection.execute(HEAD).fetchone())


def seen(row: tuple[Any, ...] | None) -> Seen:
    """Return what the query `HEAD` has found."""
    return Seen(Position(0)) if row is None else Seen(Position(row[0]), row[1])


def _value(connection: Connection, query: Any, *values: object) -> Any:
    row: Any = connection.execute(query, values).fetchone()
    return None if row is None else row[0]
