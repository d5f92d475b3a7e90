"""The PostgreSQL journal while the network or the server fails: nothing acknowledged is lost.

`tests.fault_rounds` says how often each is done.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Thread
from time import monotonic

import psycopg
import pytest

from rockets.journal import (
    JournalBusy,
    JournalRefused,
    JournalUnreachable,
    LedgerRecord,
    Note,
    Position,
    Pruned,
    Record,
    Round,
    StoredRecord,
)
from rockets.journal.postgresql import PostgresqlJournal
from rockets.journal.postgresql_link import Connection
from tests.fault_rounds import rounds
from tests.journal.hurried import check_gone, check_used
from tests.journal.postgresql_server import PostgresqlServer
from tests.journal.prunings import BASE
from tests.journal.store_proxy import Fault, Proxy

pytestmark = pytest.mark.slow  # each waits for something to be given up, or for a restart

ROUNDS = rounds(100)
KILLS = rounds(50)

ANSWER_S = 1.0  # not shorter: a busy machine is not a fault
CALL_S = 20.0

COMMIT = b"COMMIT"
START = Position(0)

FAULTS = [
    Fault(b"BEGIN", "close"),
    Fault(b"BEGIN", "reset", passed_on=True),
    Fault(COMMIT, "reset"),
    Fault(COMMIT, "hold"),
    Fault(COMMIT, "close", passed_on=True),
    Fault(COMMIT, "reset", passed_on=True),
    Fault(COMMIT, "hold", passed_on=True),
]


@pytest.fixture
def proxy(postgresql: PostgresqlServer) -> Iterator[Proxy]:
    with closing(Proxy(postgresql.port)) as opened:
        yield opened


@pytest.fixture
def far(postgresql: PostgresqlServer, proxy: Proxy, tmp_path: Path) -> Iterator[PostgresqlJournal]:
    """A journal behind the proxy, on the store of `near`."""
    with closing(
        postgresql.journal(tmp_path, port=proxy.port, answer_s=ANSWER_S, call_s=CALL_S)
    ) as opened:
        yield opened


@pytest.fixture
def near(postgresql: PostgresqlServer, tmp_path: Path) -> Iterator[PostgresqlJournal]:
    """Another instance, whose network is fine."""
    with closing(postgresql.journal(tmp_path)) as opened:
        yield opened


def record(stream: str, number: int, body: bytes = b"{}") -> Record:
    return Record(stream, number, body, 7)


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_batch_is_stored_and_counted_once_whatever_happens_to_its_connection(
    far: PostgresqlJournal, near: PostgresqlJournal, proxy: Proxy, fault: Fault
) -> None:
    for n in range(1, ROUNDS + 1):
        near.append([record("near", n)])
        proxy.faults.append(fault)

        appended = far.append(
            [record("far", n), record("near", n, b"late"), record("far", n, b"again")],
            [Note("conflict", "near", 1, b"k", b"late", n)],
        )

        assert len(proxy.happened) == n
        # As if nothing had happened: a batch is no duplicate of itself.
        assert appended.new == (True, False, False)
        assert (appended.before, appended.head) == (2 * n - 1, 2 * n)
        assert appended.notes_new == (n == 1,)
        assert [stored.body for stored in appended.stored.values()] == [b"{}", b"{}"]
        assert near.head() == 2 * n
        [note] = near.read_notes("conflict", stream=None, limit=9)
        assert note.count == n
    found = [(each.stream, each.number) for each in near.follow(START, limit=9 * ROUNDS)]
    assert found == [(stream, n) for n in range(1, ROUNDS + 1) for stream in ("near", "far")]


def test_a_connection_that_only_the_driver_calls_lost_is_made_anew(
    near: PostgresqlJournal,
) -> None:
    made = near._reading.connections
    errors = [psycopg.OperationalError("connection socket closed")]

    def ask(connection: Connection) -> int:
        if errors:
            raise errors.pop()
        return connection.execute("SELECT 1").rowcount

    assert near._reading.ask(ask) == 1
    assert near._reading.connections == made + 2
    assert near.append([record("a", 1)]).new == (True,)


def test_a_call_to_a_store_that_is_cut_off_ends_in_time_and_a_later_one_works(
    postgresql: PostgresqlServer, proxy: Proxy, tmp_path: Path
) -> None:
    with closing(
        postgresql.journal(tmp_path, port=proxy.port, answer_s=ANSWER_S, call_s=ANSWER_S)
    ) as journal:
        journal.append([record("a", 1)])
        assert journal.head() == 1
        proxy.cut()

        calls: list[Callable[[], object]] = [
            lambda: journal.append([record("a", 2)]),
            journal.head,
            lambda: journal.keep_ledgers([LedgerRecord("a", b"")]),
            lambda: journal.wait_behind(Position(1), 9.0),
        ]
        for call in calls:
            began = monotonic()
            with pytest.raises(JournalUnreachable, match=r"/postgres cannot be reached: "):
                call()
            assert monotonic() - began < 9 * ANSWER_S

        proxy.heal()
        assert append_in_the_end(journal, record("a", 3))
        assert journal.head() == 2
        assert journal.wait_behind(Position(1), 9.0)


def append_in_the_end(journal: PostgresqlJournal, given: Record) -> bool:
    """Append as a sender does, who sends again what was not answered."""
    while True:
        try:
            return journal.append([given]).new[0]
        except (JournalUnreachable, JournalBusy):
            continue


@pytest.mark.parametrize("connected", [True, False])
def test_waiting_ends_soon_after_it_is_interrupted_also_when_cut_off(
    postgresql: PostgresqlServer, proxy: Proxy, tmp_path: Path, connected: bool
) -> None:
    with closing(postgresql.journal(tmp_path, port=proxy.port)) as journal:
        if connected:
            journal.wait_behind(START, 0.0)
        proxy.cut()
        answers: list[bool] = []
        waiting = Thread(target=lambda: answers.append(journal.wait_behind(START, 60.0)))
        waiting.start()

        journal.interrupt()
        waiting.join(0.5)

        assert answers == [False]


@pytest.mark.parametrize("under_way", [True, False])
def test_in_a_hurry_a_server_that_is_gone_is_not_looked_for(
    far: PostgresqlJournal, proxy: Proxy, under_way: bool
) -> None:
    check_gone(far, proxy, under_way=under_way, call_s=CALL_S, answer_s=ANSWER_S)


def test_in_a_hurry_a_server_that_answers_is_used_as_ever(
    far: PostgresqlJournal, near: PostgresqlJournal
) -> None:
    check_used(far, near)


def test_an_instance_that_is_cut_off_within_a_transaction_does_not_stop_the_others_for_long(
    far: PostgresqlJournal, near: PostgresqlJournal, proxy: Proxy
) -> None:
    proxy.faults.append(Fault(COMMIT, "hold"))
    appending = Thread(target=lambda: far.append([record("a", 1, b"far")]))
    appending.start()

    # Whoever comes first with this number, the other finds it.
    appended = near.append([record("a", 1, b"near"), record("b", 1)])
    appending.join()

    assert appended.new[1]
    assert [each.number for each in near.follow(START, limit=9)] == [1, 1]


def test_what_was_acknowledged_outlives_a_crash_of_the_server(
    postgresql: PostgresqlServer, near: PostgresqlJournal
) -> None:
    acknowledged: SimpleQueue[StoredRecord] = SimpleQueue()
    stop = Event()

    def send() -> None:
        for number in count(1):
            given = record("a", number, b"%d" % number)
            append_in_the_end(near, given)
            [stored] = near.append([given]).stored.values()
            acknowledged.put(stored)
            if stop.is_set():
                return

    sending = Thread(target=send)
    sending.start()
    stored = []
    for _ in range(KILLS):
        stored += [acknowledged.get() for _ in range(5)]
        postgresql.stop("immediate")
        postgresql.start()
    stop.set()
    sending.join()

    while not acknowledged.empty():
        stored.append(acknowledged.get())
    assert [each.number for each in stored] == list(range(1, len(stored) + 1))
    assert near.follow(START, limit=len(stored) + 9) == stored


def test_a_round_whose_connection_was_lost_keeps_nothing_more(
    far: PostgresqlJournal, near: PostgresqlJournal, proxy: Proxy
) -> None:
    assert far.claim_round()
    far.keep_ledgers([LedgerRecord("a", b"far")])
    proxy.reset()

    for _ in range(2):
        with pytest.raises(JournalUnreachable, match="claim"):
            far.keep_ledgers([LedgerRecord("a", b"late")])
        with pytest.raises(JournalUnreachable, match="claim"):
            far.end_round(Round(START, "1", 0))

    assert near.claim_round()
    near.end_round(Round(START, "2", 0))
    far.release_round()
    assert far.claim_round()
    far.keep_ledgers([LedgerRecord("b", b"far")])
    assert [(each.stream, each.data) for each in near.ledgers("", limit=9)] == [
        ("a", b"far"),
        ("b", b"far"),
    ]
    assert near.rounds() == [Round(START, "2", 0)]


@pytest.mark.parametrize(
    "write",
    [
        lambda journal: journal.remove_note(journal.read_notes("k", stream=None, limit=1)[0].id),
        lambda journal: journal.keep_ledgers([LedgerRecord("a", b"")]),
        lambda journal: journal.end_round(Round(START, "1", 0)),
        lambda journal: journal.drop_ledgers(),
        lambda journal: journal.prune([Pruned("a", 1, BASE)], limit=9),
    ],
    ids=["remove_note", "keep_ledgers", "end_round", "drop_ledgers", "prune"],
)
def test_of_the_other_writes_an_ambiguous_commit_is_told_and_an_idle_loss_is_not(
    far: PostgresqlJournal, proxy: Proxy, write: Callable[[PostgresqlJournal], object]
) -> None:
    far.append([record("a", 1), record("a", 2)], [Note("k", "a", n, b"", b"", 1) for n in (1, 2)])
    far.read_notes("k", stream=None, limit=1)
    proxy.reset()
    write(far)

    proxy.faults.append(Fault(COMMIT, "reset", passed_on=True))
    with pytest.raises(JournalUnreachable, match="COMMIT"):
        write(far)


def test_a_batch_in_doubt_is_never_said_to_be_not_stored(
    postgresql: PostgresqlServer, proxy: Proxy, tmp_path: Path
) -> None:
    with (
        closing(postgresql.journal(tmp_path, port=proxy.port, answer_s=0.5)) as journal,
        psycopg.connect(postgresql.url()) as foreign,
    ):
        proxy.faults.append(Fault(COMMIT, "reset", passed_on=True))
        # What every new connection looks into: there the next try is told that something is busy.
        table = psycopg.sql.Identifier(postgresql.schema(tmp_path), "store")
        foreign.execute(psycopg.sql.SQL("LOCK TABLE {}").format(table))
        with pytest.raises(JournalUnreachable, match="did not answer in time"):
            journal.append([record("a", 1)])

        foreign.rollback()
        assert not journal.append([record("a", 1)]).new[0]


def test_a_duplicate_is_not_answered_before_the_standby_has_what_it_rests_on(
    postgresql: PostgresqlServer, far: PostgresqlJournal, tmp_path: Path
) -> None:
    far.append([record("a", 1)])
    postgresql.set("synchronous_standby_names", "nobody")
    try:
        appending = Thread(target=lambda: far.append([record("a", 1)]))
        appending.start()
        waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        postgresql.wait_for(waiting)
        assert appending.is_alive()
    finally:
        postgresql.set("synchronous_standby_names", "")
    appending.join()


def test_a_commit_whose_wait_was_cancelled_is_not_taken_for_done(
    postgresql: PostgresqlServer, near: PostgresqlJournal
) -> None:
    answers = []
    postgresql.set("synchronous_standby_names", "nobody")
    try:
        appending = Thread(target=lambda: answers.append(near.append([record("a", 1)])))
        appending.start()
        cancel = (
            "SELECT pg_cancel_backend(pid) FROM pg_stat_activity"
            " WHERE wait_event = 'SyncRep' AND query = 'COMMIT'"
        )
        postgresql.wait_for(cancel)
        # The server says that it is done, with a warning; it is waited for again.
        postgresql.wait_for(cancel)
        assert answers == []
    finally:
        postgresql.set("synchronous_standby_names", "")
    appending.join()

    assert [appended.new for appended in answers] == [(True,)]
    assert near.head() == 1


def test_a_server_that_becomes_a_standby_is_waited_for_and_then_given_up(
    postgresql: PostgresqlServer, tmp_path: Path
) -> None:
    with closing(postgresql.journal(tmp_path, call_s=1.0)) as journal:
        journal.append([record("a", 1)])
        postgresql.become_standby()
        try:
            with pytest.raises(JournalUnreachable, match="is a standby, which takes no writes"):
                journal.append([record("a", 2)])
            with pytest.raises(JournalRefused, match="is a standby, which takes no writes"):
                postgresql.journal(tmp_path)
        finally:
            postgresql.promote()

        assert append_in_the_end(journal, record("a", 3))
        assert [each.number for each in journal.follow(START, limit=9)] == [1, 3]
