"""What the PostgreSQL journal does beyond the contract: sharing, refusing, knowing its store."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from random import Random
from threading import Thread
from time import monotonic

import psycopg
import pytest

from rockets.journal import (
    JournalBehind,
    JournalBusy,
    JournalError,
    JournalFailed,
    JournalFull,
    JournalRefused,
    JournalUnreachable,
    LedgerRecord,
    LedgersDamaged,
    Note,
    Position,
    Pruned,
    Record,
    Round,
    StoredLedger,
    StoredRecord,
    open_postgresql,
)
from rockets.journal import postgresql as module
from rockets.journal.postgresql import PostgresqlJournal
from tests.journal.postgresql_server import PostgresqlServer
from tests.journal.prunings import BASE

START = Position(0)


@pytest.fixture
def journal(postgresql: PostgresqlServer, tmp_path: Path) -> Iterator[PostgresqlJournal]:
    with closing(postgresql.journal(tmp_path)) as opened:
        yield opened


@pytest.fixture
def other(
    postgresql: PostgresqlServer, journal: PostgresqlJournal, tmp_path: Path
) -> Iterator[PostgresqlJournal]:
    """Another instance on the same store."""
    with closing(postgresql.journal(tmp_path)) as opened:
        yield opened


def record(stream: str, number: int, body: bytes = b"{}") -> Record:
    return Record(stream, number, body, 7)


# Several instances


def test_what_one_instance_appends_the_other_reads_follows_and_finds(
    journal: PostgresqlJournal, other: PostgresqlJournal
) -> None:
    journal.append([record("a", 1, b"first")])

    appended = other.append([record("a", 1, b"second"), record("a", 2)])

    assert appended.new == (False, True)
    assert (appended.before, appended.head) == (1, 2)
    assert journal.head() == other.head() == 2
    assert journal.follow(START, limit=9) == other.read("a", 1, 9, limit=9)
    assert [each.body for each in journal.follow(START, limit=9)] == [b"first", b"{}"]


@pytest.mark.slow
def test_shuffled_duplicates_of_several_instances_have_one_winner_and_one_order(
    postgresql: PostgresqlServer, tmp_path: Path
) -> None:
    keys = [(stream, number) for stream in "abcd" for number in range(1, 61)]
    won: list[list[Record]] = [[], [], []]
    followed: list[list[StoredRecord]] = [[], [], []]

    def send(nth: int, journal: PostgresqlJournal) -> None:
        shuffled = [*keys, *keys]
        Random(nth).shuffle(shuffled)
        for start in range(0, len(shuffled), 24):
            batch = [record(*key, b"%d" % nth) for key in shuffled[start : start + 24]]
            appended = journal.append(batch)
            assert appended.head - appended.before == sum(appended.new)
            won[nth] += [each for each, new in zip(batch, appended.new, strict=True) if new]

    def follow(nth: int, journal: PostgresqlJournal) -> None:
        while len(followed[nth]) < len(keys):
            last = followed[nth][-1].position if followed[nth] else START
            if journal.wait_behind(last, 60.0):
                followed[nth] += journal.follow(last, limit=17)

    with ExitStack() as opened:
        threads = []
        for nth in range(3):
            journal = opened.enter_context(closing(postgresql.journal(tmp_path)))
            threads += [Thread(target=do, args=(nth, journal)) for do in (send, follow)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        everything = journal.follow(START, limit=999)
    assert followed == [everything] * 3
    assert [each.position for each in everything] == list(range(1, len(keys) + 1))
    assert sorted((each.stream, each.number) for each in everything) == sorted(keys)
    stored = {(each.stream, each.number): each.body for each in everything}
    assert len(won[0]) + len(won[1]) + len(won[2]) == len(keys)
    assert all(stored[each.stream, each.number] == each.body for mine in won for each in mine)


def test_several_that_start_at_once_on_an_empty_database_make_one_store(
    postgresql: PostgresqlServer, tmp_path: Path
) -> None:
    opened: list[PostgresqlJournal] = []
    starting = [
        Thread(target=lambda: opened.append(postgresql.journal(tmp_path))) for _ in range(4)
    ]
    for thread in starting:
        thread.start()
    for thread in starting:
        thread.join()

    for number, journal in enumerate(opened, 1):
        assert journal.append([record("a", number)]).head == number
        journal.close()
    assert postgresql.ask(tmp_path, "SELECT count(*) FROM store") == [(1,)]


def test_waiting_ends_when_another_instance_appends(
    journal: PostgresqlJournal, other: PostgresqlJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POLL_S", 60.0)  # so that only the notification is left
    assert not journal.wait_behind(START, 0.0)
    answers: list[bool] = []
    waiting = Thread(target=lambda: answers.append(journal.wait_behind(START, 60.0)))
    waiting.start()

    other.append([record("a", 1)])
    waiting.join(5)

    assert answers == [True]
    assert journal.wait_behind(START, 0.0)
    assert not journal.wait_behind(Position(1), 0.0)


def test_what_comes_without_a_notification_is_found_all_the_same(
    postgresql: PostgresqlServer,
    journal: PostgresqlJournal,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "POLL_S", 0.02)
    answers: list[bool] = []
    waiting = Thread(target=lambda: answers.append(journal.wait_behind(START, 60.0)))
    waiting.start()

    postgresql.ask(tmp_path, "INSERT INTO records VALUES (1, 'a', 1, '', 1, '')")
    waiting.join(5)

    assert answers == [True]


def test_waiting_can_be_interrupted_before_it_has_begun(journal: PostgresqlJournal) -> None:
    journal.interrupt()
    assert not journal.wait_behind(START, 60.0)

    journal.append([record("a", 1)])
    assert journal.wait_behind(START, 60.0)


def test_an_instance_leaves_one_marker_and_old_ones_of_others_are_forgotten(
    postgresql: PostgresqlServer, journal: PostgresqlJournal, tmp_path: Path
) -> None:
    for number in (1, 2, 2):
        journal.append([record("a", number)])
    postgresql.ask(
        tmp_path,
        "INSERT INTO markers VALUES (gen_random_uuid(), 1, now() - interval '25 hours'),"
        " (gen_random_uuid(), 2, now() - interval '23 hours')",
    )

    postgresql.journal(tmp_path).close()

    batches = postgresql.ask(tmp_path, "SELECT batch FROM markers ORDER BY batch")
    assert batches == [(2,), (3,)]


# Rounds


def test_one_instance_at_a_time_has_the_round(
    journal: PostgresqlJournal, other: PostgresqlJournal
) -> None:
    assert journal.claim_round()
    assert journal.claim_round()
    assert not other.claim_round()

    journal.keep_ledgers([LedgerRecord("a", b"1")])
    writes: list[Callable[[], None]] = [
        lambda: other.keep_ledgers([LedgerRecord("a", b"2")]),
        lambda: other.end_round(Round(START, "2", 0)),
        other.drop_ledgers,
    ]
    for write in writes:
        with pytest.raises(JournalBusy, match="another instance keeps the ledgers"):
            write()
    journal.end_round(Round(START, "1", 0))

    assert other.claim_round()
    assert not journal.claim_round()
    other.release_round()
    other.release_round()
    assert journal.claim_round()
    assert journal.ledgers("", limit=9) == [StoredLedger("a", b"1")]
    assert journal.rounds() == [Round(START, "1", 0)]


def test_the_claim_of_an_instance_that_ended_is_free(
    postgresql: PostgresqlServer, journal: PostgresqlJournal, tmp_path: Path
) -> None:
    ended = postgresql.journal(tmp_path)
    assert ended.claim_round()
    ended.close()

    locks = "SELECT count(*) = 0 FROM pg_locks WHERE locktype = 'advisory'"
    postgresql.wait_for(locks)  # the server notices the end a moment later
    assert journal.claim_round()


# A store that lost something


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("DELETE FROM records WHERE position = 2", "ends at position 1, 2 was seen"),
        ("TRUNCATE records", "ends at position 0, 2 was seen"),
        ("UPDATE records SET checksum = 'x' WHERE position = 2", "another record at position 2"),
        ("DROP TABLE records", "the store is gone"),
    ],
)
@pytest.mark.parametrize(
    "see",
    [
        lambda journal: journal.append([]),
        lambda journal: journal.head(),
        lambda journal: journal.follow(Position(1), limit=1),
        lambda journal: journal.wait_behind(Position(1), 0.0),
    ],
    ids=["append", "head", "follow", "wait_behind"],
)
def test_a_store_that_lost_what_was_seen_is_found_out_by_whoever_asks_next(
    postgresql: PostgresqlServer,
    journal: PostgresqlJournal,
    tmp_path: Path,
    change: str,
    says: str,
    see: Callable[[PostgresqlJournal], object],
) -> None:
    journal.append([record("a", 1), record("a", 2)])
    postgresql.ask(tmp_path, change)

    with pytest.raises(JournalBehind, match=says):
        see(journal)
    # And it stays found out.
    with pytest.raises(JournalBehind, match=says):
        journal.read("a", 1, 1, limit=1)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("UPDATE store SET id = gen_random_uuid()", "another one than before"),
        (
            "DELETE FROM records WHERE position = 2;"
            "INSERT INTO records VALUES (2, 'b', 1, '', 1, 'x'), (3, 'b', 2, '', 1, 'y')",
            "another record at position 2",
        ),
        ("DELETE FROM records WHERE position = 2", "ends at position 1"),
        ("DROP TABLE store", "the store is gone"),
    ],
)
def test_a_store_behind_a_new_connection_has_to_be_the_one_known_from_before(
    postgresql: PostgresqlServer,
    journal: PostgresqlJournal,
    tmp_path: Path,
    change: str,
    says: str,
) -> None:
    journal.append([record("a", 1), record("a", 2)])
    postgresql.ask(tmp_path, change)
    postgresql.stop("immediate")
    postgresql.start()

    with pytest.raises(JournalBehind, match=says):
        journal.append([record("a", 3)])


def test_following_from_behind_the_head_is_behind(journal: PostgresqlJournal) -> None:
    journal.append([record("a", 1)])
    assert journal.follow(Position(1), limit=9) == []

    with pytest.raises(JournalBehind, match="ends at position 1, 2 was seen"):
        journal.follow(Position(2), limit=9)


def test_the_watermark_may_be_pruned_away(
    postgresql: PostgresqlServer, journal: PostgresqlJournal, other: PostgresqlJournal
) -> None:
    journal.append([record("a", 1)])
    other.append([record("b", 1)])
    other.prune([Pruned("a", 1, BASE)], limit=1)
    postgresql.stop("immediate")
    postgresql.start()

    assert journal.append([record("a", 2)]).head == 3


# What cannot be opened


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("fsync", "off", "fsync is off: power loss could take commits"),
        ("full_page_writes", "off", "full_page_writes is off: power loss could take commits"),
        ("synchronous_commit", "off", "synchronous_commit is off: commits would be answered"),
    ],
)
def test_a_server_that_could_lose_commits_is_refused(
    postgresql: PostgresqlServer, tmp_path: Path, name: str, value: str, says: str
) -> None:
    safe = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}
    try:
        for each, on in safe.items():
            postgresql.set(each, on)
        with closing(postgresql.journal(tmp_path, durability="full")) as opened:
            assert opened.durability == "full"
            assert opened.append([record("a", 1)]).new == (True,)
        postgresql.set(name, value)
        with pytest.raises(JournalRefused, match=rf"^PostgreSQL at 127.*: {says}"):
            postgresql.journal(tmp_path, durability="full")
    finally:
        for each in ("fsync", "full_page_writes"):
            postgresql.set(each, "off")
        postgresql.set("synchronous_commit", "on")


def test_what_syncs_nothing_is_refused_for_full_only(
    postgresql: PostgresqlServer, tmp_path: Path
) -> None:
    with pytest.raises(JournalRefused, match="fsync is off"):
        open_postgresql(postgresql.url(), jitter=lambda: 0.5)
    postgresql.set("synchronous_commit", "off")
    try:
        with pytest.raises(JournalRefused, match="synchronous_commit is off"):
            postgresql.journal(tmp_path, durability="normal")
    finally:
        postgresql.set("synchronous_commit", "on")


@pytest.mark.parametrize(
    ("prepare", "says"),
    [
        ("CREATE TABLE things (a int)", "the schema .* belongs to another program"),
        (
            "CREATE TABLE store (id int, version int); INSERT INTO store VALUES (1, 2)",
            "has schema version 2, this release works with version 1",
        ),
        (
            "CREATE TABLE store (id int, version int); INSERT INTO store VALUES (1, 0)",
            "has schema version 0, this release works with version 1",
        ),
    ],
)
def test_a_schema_of_another_program_or_release_is_refused_and_left_alone(
    postgresql: PostgresqlServer, tmp_path: Path, prepare: str, says: str
) -> None:
    schema = f'CREATE SCHEMA "{postgresql.schema(tmp_path)}"'
    postgresql.ask(tmp_path, f"{schema}; {prepare}")

    with pytest.raises(JournalRefused, match=says):
        postgresql.journal(tmp_path)

    tables = "SELECT count(*) FROM pg_tables WHERE schemaname = current_schema()"
    assert postgresql.ask(tmp_path, tables) == [(1,)]


def test_a_schema_without_anything_in_it_is_taken(
    postgresql: PostgresqlServer, tmp_path: Path
) -> None:
    postgresql.ask(tmp_path, f'CREATE SCHEMA "{postgresql.schema(tmp_path)}"')

    postgresql.journal(tmp_path).close()


def test_a_database_that_cannot_hold_every_name_is_refused(
    postgresql: PostgresqlServer, tmp_path: Path
) -> None:
    postgresql.ask(
        tmp_path, "CREATE DATABASE plain TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'"
    )

    with pytest.raises(JournalRefused, match="has the encoding SQL_ASCII, it has to be UTF8"):
        PostgresqlJournal(postgresql.url(database="plain"), durability="normal", jitter=lambda: 0.5)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql://127.0.0.1:1/rockets", "^PostgreSQL at 127.0.0.1:1/rockets: .*refused"),
        ("postgresql://me:secret@127.0.0.1:1/rockets", "127.0.0.1:1/rockets: "),
        ("postgresql://here/?bogus=1", "^no address of a PostgreSQL database: "),
    ],
)
def test_an_address_without_a_server_is_refused_in_one_line_without_the_password(
    url: str, says: str
) -> None:
    with pytest.raises(JournalRefused, match=says) as raised:
        open_postgresql(url, jitter=lambda: 0.5)

    assert "\n" not in str(raised.value)
    assert "secret" not in str(raised.value)


# Errors of the server and damage


@pytest.mark.parametrize(
    ("state", "kind", "says"),
    [
        ("53100", JournalFull, "no space for the journal: planted"),
        ("55P03", JournalBusy, "another program holds the journal: planted"),
        ("58030", JournalUnreachable, "the store has trouble with its files: planted"),
        ("53200", JournalUnreachable, "the store is short of resources: planted"),
        ("XX001", JournalFailed, "the journal has failed: planted"),
    ],
)
def test_an_error_of_the_server_says_what_it_means_for_the_append(
    postgresql: PostgresqlServer,
    journal: PostgresqlJournal,
    tmp_path: Path,
    state: str,
    kind: type[JournalError],
    says: str,
) -> None:
    plant(postgresql, tmp_path, f"RAISE EXCEPTION 'planted' USING ERRCODE = '{state}';")

    with pytest.raises(JournalError, match=says) as raised:
        journal.append([record("a", 1)])

    assert type(raised.value) is kind
    assert postgresql.ask(tmp_path, "SELECT count(*) FROM records") == [(0,)]
    postgresql.ask(tmp_path, "DROP TRIGGER planted ON records")
    if kind is JournalFailed:
        with pytest.raises(JournalFailed, match=says):
            journal.append([record("a", 1)])
    else:
        assert journal.append([record("a", 1)]).new == (True,)


def plant(postgresql: PostgresqlServer, path: Path, code: str) -> None:
    """Have the server do something at every insertion of records."""
    postgresql.ask(
        path,
        "CREATE FUNCTION planted() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN {code} RETURN NULL; END $$;"
        "CREATE TRIGGER planted BEFORE INSERT ON records FOR STATEMENT EXECUTE FUNCTION planted()",
    )


def test_what_the_server_rolled_back_for_others_is_run_again(
    postgresql: PostgresqlServer, journal: PostgresqlJournal, tmp_path: Path
) -> None:
    postgresql.ask(tmp_path, "CREATE SEQUENCE tries")
    code = "IF nextval('tries') < 3 THEN RAISE EXCEPTION 'dead' USING ERRCODE = '40P01'; END IF;"
    plant(postgresql, tmp_path, code)

    assert journal.append([record("a", 1)]).new == (True,)


def test_records_written_past_the_lock_are_found_out(
    postgresql: PostgresqlServer, journal: PostgresqlJournal, tmp_path: Path
) -> None:
    plant(postgresql, tmp_path, "INSERT INTO records VALUES (1, 'x', 1, '', 1, '');")
    postgresql.ask(tmp_path, "ALTER TABLE records DISABLE TRIGGER planted")
    postgresql.ask(
        tmp_path,
        "ALTER FUNCTION planted() RENAME TO once;"
        "CREATE TRIGGER once BEFORE INSERT ON records FOR EACH ROW"
        " WHEN (new.stream = 'a') EXECUTE FUNCTION once()",
    )

    with pytest.raises(JournalFailed, match="another program writes to the journal"):
        journal.append([record("a", 1)])


def test_a_lock_held_by_somebody_else_is_waited_for_and_then_told(
    postgresql: PostgresqlServer, tmp_path: Path
) -> None:
    with (
        closing(postgresql.journal(tmp_path, answer_s=0.5)) as journal,
        psycopg.connect(postgresql.url()) as foreign,
    ):
        lock = journal._store.locks.append
        foreign.execute("SELECT pg_advisory_lock(%s)", (lock,))
        with pytest.raises(JournalBusy, match="did not answer in time"):
            journal.append([record("a", 1)])

        foreign.execute("SELECT pg_advisory_unlock(%s)", (lock,))
        assert journal.append([record("a", 1)]).new == (True,)
        assert journal.head() == 1

        table = psycopg.sql.Identifier(postgresql.schema(tmp_path), "records")
        foreign.execute(psycopg.sql.SQL("LOCK TABLE {}").format(table))
        with pytest.raises(JournalUnreachable, match="did not answer in time"):
            journal.head()


def test_a_connection_that_could_not_be_prepared_is_not_used(
    postgresql: PostgresqlServer, tmp_path: Path
) -> None:
    with (
        closing(postgresql.journal(tmp_path, answer_s=0.1, call_s=0.3)) as journal,
        psycopg.connect(postgresql.url()) as foreign,
    ):
        table = psycopg.sql.Identifier(postgresql.schema(tmp_path), "store")
        foreign.execute(psycopg.sql.SQL("LOCK TABLE {}").format(table))
        with pytest.raises(JournalUnreachable):
            journal.head()

        foreign.rollback()
        assert not journal._reading.has(journal._reading.connections)


@pytest.mark.parametrize(
    ("change", "read", "says"),
    [
        (
            "UPDATE records SET body = 'other'",
            lambda journal: journal.read("a", 1, 1, limit=1),
            "record 1 does not match",
        ),
        (
            "UPDATE records SET number = 9",
            lambda journal: journal.follow(START, limit=1),
            "record 1 does not match",
        ),
        (
            "UPDATE records SET body = 'other'",
            lambda journal: journal.append([record("a", 1)]),
            "record 1 does not match",
        ),
        (
            "UPDATE notes SET body = 'other'",
            lambda journal: journal.read_notes("k", stream="a", limit=1),
            "a note about a does not match",
        ),
        (
            "UPDATE pruned SET through = 9",
            lambda journal: journal.pruned("", limit=1),
            "what was pruned of p does not match",
        ),
    ],
)
def test_damage_ends_the_journal(
    postgresql: PostgresqlServer,
    journal: PostgresqlJournal,
    tmp_path: Path,
    change: str,
    read: Callable[[PostgresqlJournal], object],
    says: str,
) -> None:
    journal.append([record("a", 1)], [Note("k", "a", 1, b"", b"said", 1)])
    journal.append([record("p", number) for number in (1, 2, 3)])
    journal.prune([Pruned("p", 2, BASE)], limit=9)
    postgresql.ask(tmp_path, change)

    with pytest.raises(JournalFailed, match=says):
        read(journal)
    with pytest.raises(JournalFailed, match=says):
        journal.append([record("a", 2)])


def test_damaged_ledgers_and_rounds_are_told_as_such(
    postgresql: PostgresqlServer, journal: PostgresqlJournal, tmp_path: Path
) -> None:
    journal.keep_ledgers([LedgerRecord(stream, b"data") for stream in "abc"])
    journal.end_round(Round(START, "1", 0))
    journal.end_round(Round(START, "2", 0))
    postgresql.ask(tmp_path, "UPDATE ledgers SET data = 'other' WHERE stream = 'b'")
    postgresql.ask(tmp_path, "UPDATE rounds SET rules = '3' WHERE rules = '2'")

    assert journal.rounds() == [Round(START, "1", 0)]
    assert [each.data for each in journal.ledgers("", limit=9)] == [b"data", None, b"data"]
    with pytest.raises(LedgersDamaged, match="the ledger of 'bb' cannot be found again"):
        journal.ledgers("bb", limit=9)
    # Which is nothing against the records.
    assert journal.append([record("a", 1)]).new == (True,)


def test_another_process_may_not_use_the_connections(
    journal: PostgresqlJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getpid", lambda: -1)

    with pytest.raises(AssertionError, match="opened by another process"):
        journal.append([record("a", 1)])


def test_a_closed_journal_leaves_no_connection(
    postgresql: PostgresqlServer, tmp_path: Path
) -> None:
    journal = postgresql.journal(tmp_path)
    journal.head()
    journal.wait_behind(START, 0.0)
    count = "SELECT count(*) = %s FROM pg_stat_activity WHERE application_name = 'rockets'"
    postgresql.wait_for(count, 3)

    journal.close()

    postgresql.wait_for(count, 0)
    began = monotonic()
    with pytest.raises(JournalFailed, match="closed"):
        journal.wait_behind(START, 9.0)
    assert monotonic() - began < 1
