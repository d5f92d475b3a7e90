"""The Redis journal while the network or the server fails: nothing acknowledged is lost.

`tests.fault_rounds` says how often each is done.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from queue import SimpleQueue
from signal import SIGCONT, SIGKILL, SIGSTOP
from threading import Thread
from time import monotonic

import pytest

from rockets.journal import (
    JournalBehind,
    JournalFull,
    JournalRefused,
    JournalUnreachable,
    LedgerRecord,
    Note,
    Position,
    Pruned,
    Record,
    StoredLedger,
)
from rockets.journal.redis_streams import RedisJournal
from tests.fault_rounds import rounds
from tests.journal.hurried import check_gone, check_used
from tests.journal.prunings import BASE
from tests.journal.redis_server import RedisServer
from tests.journal.store_proxy import Fault, Proxy

ROUNDS = rounds(100)
KILLS = rounds(50)

ANSWER_S = 0.3
CALL_S = 20.0

SCRIPT = b"EVALSHA"
START = Position(0)

FAULTS = [
    Fault(SCRIPT, "close"),
    Fault(SCRIPT, "reset"),
    Fault(SCRIPT, "hold"),
    Fault(SCRIPT, "close", passed_on=True),
    Fault(SCRIPT, "reset", passed_on=True),
    Fault(SCRIPT, "hold", passed_on=True),
]


@pytest.fixture
def proxy(redis: RedisServer) -> Iterator[Proxy]:
    with closing(Proxy(redis.port)) as opened:
        yield opened


@pytest.fixture
def far(redis: RedisServer, proxy: Proxy, tmp_path: Path) -> Iterator[RedisJournal]:
    """A journal behind the proxy, on the store of `near`."""
    with closing(
        redis.journal(tmp_path, port=proxy.port, answer_s=ANSWER_S, call_s=CALL_S)
    ) as opened:
        yield opened


@pytest.fixture
def near(redis: RedisServer, tmp_path: Path) -> Iterator[RedisJournal]:
    """Another instance, whose network is fine."""
    with closing(redis.journal(tmp_path)) as opened:
        yield opened


@pytest.fixture
def mortal(redis: RedisServer) -> Iterator[RedisServer]:
    """A server of a test's own, to be killed; `redis` skips where there is none."""
    with closing(RedisServer()) as server:
        yield server


def record(stream: str, number: int, body: bytes = b"{}") -> Record:
    return Record(stream, number, body, 7)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_batch_is_stored_and_counted_once_whatever_happens_to_its_connection(
    far: RedisJournal, near: RedisJournal, proxy: Proxy, fault: Fault
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


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_reads_and_claims_go_on_over_a_fault(
    far: RedisJournal, near: RedisJournal, proxy: Proxy, fault: Fault
) -> None:
    near.append([record("a", 1)])
    asked: list[tuple[Callable[[], object], object]] = [
        (far.head, 1),
        (lambda: len(far.follow(START, limit=9)), 1),
        (lambda: far.wait_behind(START, 9.0), True),
        (far.claim_round, True),
        (lambda: far.prune([Pruned("a", 1, BASE)], limit=9), 0),
    ]
    for ask, answer in asked:
        proxy.faults.append(fault)
        assert ask() == answer
        assert not proxy.faults


def test_a_lost_connection_is_made_anew_before_anything_is_sent_on_it(
    far: RedisJournal, proxy: Proxy
) -> None:
    far.append([record("a", 1)])
    proxy.reset()

    assert far.append([record("a", 2)]).new == (True,)


def test_once_in_doubt_it_never_says_that_nothing_is_stored(
    redis: RedisServer, proxy: Proxy, far: RedisJournal
) -> None:
    redis.ask("CONFIG", "SET", "maxmemory", 1)
    try:
        proxy.faults.append(Fault(SCRIPT, "reset"))
        with pytest.raises(JournalUnreachable, match="no memory left"):
            far.append([record("a", 1)])
        with pytest.raises(JournalFull):
            far.append([record("a", 1)])
    finally:
        redis.ask("CONFIG", "SET", "maxmemory", 0)


def test_in_a_black_hole_every_call_ends_in_time_and_it_goes_on_afterwards(
    redis: RedisServer, proxy: Proxy, tmp_path: Path
) -> None:
    with closing(redis.journal(tmp_path, port=proxy.port, answer_s=0.1, call_s=0.4)) as journal:
        journal.append([record("a", 1)])
        assert journal.wait_behind(START, 0.0)
        proxy.cut()
        calls: list[Callable[[], object]] = [
            lambda: journal.append([record("a", 2)]),
            journal.head,
            lambda: journal.wait_behind(Position(1), 0.2),
            lambda: journal.keep_ledgers([]),
        ]
        for call in calls:
            started = monotonic()
            with pytest.raises(JournalUnreachable, match="cannot be reached"):
                call()
            assert monotonic() - started < 3.0
        with pytest.raises(JournalRefused, match="no answer in time"):
            redis.journal(tmp_path, port=proxy.port, answer_s=0.1)

        proxy.heal()

        assert journal.append([record("a", 2)]).head == 2
        assert journal.wait_behind(Position(1), 9.0)


def test_an_interrupt_ends_a_wait_in_a_black_hole(far: RedisJournal, proxy: Proxy) -> None:
    assert not far.wait_behind(START, 0.01)
    proxy.cut()
    interrupting = Thread(target=far.interrupt)
    interrupting.start()
    started = monotonic()

    assert not far.wait_behind(START, 30.0)

    assert monotonic() - started < 5.0
    interrupting.join()
    proxy.heal()


@pytest.mark.slow
@pytest.mark.parametrize("under_way", [True, False])
def test_in_a_hurry_a_server_that_is_gone_is_not_looked_for(
    far: RedisJournal, proxy: Proxy, under_way: bool
) -> None:
    check_gone(far, proxy, under_way=under_way, call_s=CALL_S, answer_s=ANSWER_S)


def test_in_a_hurry_a_server_that_answers_is_used_as_ever(
    far: RedisJournal, near: RedisJournal
) -> None:
    check_used(far, near)


def test_a_server_that_stands_still_is_waited_for_in_vain_and_then_does_everything_once(
    mortal: RedisServer, tmp_path: Path
) -> None:
    with closing(mortal.journal(tmp_path, answer_s=0.1, call_s=0.5)) as journal:
        journal.append([record("a", 1)])
        mortal.signal(SIGSTOP)
        # Its sockets take the bytes of every attempt.
        with pytest.raises(JournalUnreachable):
            journal.append([record("a", 2)], [Note("conflict", "a", 1, b"k", b"b", 7)])
        mortal.signal(SIGCONT)

        appended = journal.append([record("a", 2), record("a", 3)])

        assert [found.number for found in journal.follow(START, limit=9)] == [1, 2, 3]
        assert appended.head == 3
        [note] = journal.read_notes("conflict", stream=None, limit=9)
        assert note.count == 1


def test_a_master_that_was_demoted_takes_nothing_until_there_is_one_again(
    mortal: RedisServer, tmp_path: Path
) -> None:
    with closing(mortal.journal(tmp_path, call_s=0.3)) as journal:
        journal.append([record("a", 1)])
        mortal.ask("REPLICAOF", "127.0.0.1", 1)

        with pytest.raises(JournalUnreachable, match="is slave"):
            journal.append([record("a", 2)])

        mortal.ask("REPLICAOF", "NO", "ONE")
        assert journal.append([record("a", 2)]).new == (True,)
        assert journal.head() == 2


def test_a_server_with_another_policy_after_its_start_is_not_written_to(
    mortal: RedisServer, tmp_path: Path
) -> None:
    with closing(mortal.journal(tmp_path, call_s=0.3)) as journal:
        journal.append([record("a", 1)])
        mortal.ask("CONFIG", "SET", "appendfsync", "no")
        mortal.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

        with pytest.raises(JournalUnreachable, match="appendfsync must be always"):
            journal.append([record("a", 2)])

        mortal.ask("CONFIG", "SET", "appendfsync", "always")
        assert journal.append([record("a", 2)]).new == (True,)


@pytest.mark.slow
def test_a_server_killed_under_appends_has_everything_it_acknowledged(
    mortal: RedisServer, tmp_path: Path
) -> None:
    each = 20
    acknowledged: SimpleQueue[int] = SimpleQueue()

    def append(journal: RedisJournal) -> None:
        for n in range(1, KILLS * each + 1):
            appended = journal.append([record("a", n), record("b", n)])
            # It began anew meanwhile, and still the answer is that of the first attempt.
            assert appended.new == (True, True)
            assert appended.head == 2 * n
            acknowledged.put(n)

    with closing(mortal.journal(tmp_path, call_s=60.0)) as journal:
        appending = Thread(target=append, args=(journal,))
        appending.start()
        for round in range(KILLS):
            while acknowledged.get(timeout=60) % each != each // 2:
                pass
            mortal.stop(SIGKILL)
            mortal.start()
            found = int(mortal.ask("HGET", mortal.key(tmp_path, "meta"), "head"))
            assert found >= 2 * (round * each + each // 2)
        appending.join()
        found_numbers = [each.number for each in journal.follow(START, limit=9_999)]
    assert found_numbers == [n for n in range(1, KILLS * each + 1) for _ in "ab"]


def test_a_server_that_lost_the_end_of_its_file_is_not_served_from(
    mortal: RedisServer, tmp_path: Path
) -> None:
    with closing(mortal.journal(tmp_path)) as journal:
        journal.append([record("a", 1)])
        journal.keep_ledgers([LedgerRecord("a", b"1")])
        journal.append([record("a", 2), record("a", 3)])
        mortal.stop(SIGKILL)
        mortal.cut_file(1)
        mortal.start()

        for ask in (journal.head, lambda: journal.append([record("a", 4)])):
            with pytest.raises(JournalBehind, match="head is 1 and was 3"):
                ask()

    # The batch was one transaction, so all of it is gone, and a new start finds the rest whole.
    with closing(mortal.journal(tmp_path)) as journal:
        assert [found.number for found in journal.read("a", 1, 9, limit=9)] == [1]
        assert journal.ledgers("", limit=9) == [StoredLedger("a", b"1")]
        assert journal.append([record("a", 2)]).head == 2
