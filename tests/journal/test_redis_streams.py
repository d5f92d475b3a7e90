"""What only the journal in Redis does: it is shared, and sees what its store has lost."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from threading import Event, Thread
from time import monotonic
from typing import Any

import pytest
from redis.connection import DefaultParser

from rockets.journal import (
    Appended,
    JournalBehind,
    JournalBusy,
    JournalError,
    JournalFailed,
    JournalFull,
    JournalUnreachable,
    LedgerRecord,
    LedgersDamaged,
    Note,
    NoteId,
    Position,
    Pruned,
    Record,
    Round,
    SharedJournal,
    StoredLedger,
    StoredRecord,
)
from rockets.journal.redis_link import ERRORS, _judge
from rockets.journal.redis_store import CLAIM_S, WRITERS_MAX
from rockets.journal.redis_streams import PAGE, RedisJournal
from tests.journal.prunings import BASE
from tests.journal.redis_server import RedisServer, free_port

START = Position(0)
NUMBER_MAX = 2**53 - 1


@pytest.fixture
def one(redis: RedisServer, tmp_path: Path) -> Iterator[RedisJournal]:
    with closing(redis.journal(tmp_path)) as opened:
        yield opened


@pytest.fixture
def other(redis: RedisServer, tmp_path: Path) -> Iterator[RedisJournal]:
    """Another instance on the same store."""
    with closing(redis.journal(tmp_path)) as opened:
        yield opened


def record(stream: str, number: int, body: bytes = b"{}") -> Record:
    return Record(stream, number, body, 7)


def note(number: int) -> Note:
    return Note("conflict", "a", number, b"k", b"said", 11)


def numbers(found: list[StoredRecord]) -> list[tuple[str, int]]:
    return [(each.stream, each.number) for each in found]


def test_it_is_a_shared_journal(one: RedisJournal) -> None:
    assert isinstance(one, SharedJournal)


# Several instances


def test_instances_see_each_other_and_the_first_of_a_key_wins(
    one: RedisJournal, other: RedisJournal
) -> None:
    assert one.append([record("a", 1, b"one")]).new == (True,)

    appended = other.append([record("b", 1), record("a", 1, b"other")], [note(1)])

    stored = StoredRecord(Position(1), "a", 1, b"one", 7)
    assert appended == Appended((True, False), {1: stored}, (True,), Position(2), Position(1))
    assert one.head() == 2
    assert one.follow(START, limit=9) == other.follow(START, limit=9)
    assert one.append([], [note(1)]).notes_new == (False,)


def test_a_store_outlives_its_instances(redis: RedisServer, tmp_path: Path) -> None:
    for number in (1, 2):
        with closing(redis.journal(tmp_path)) as journal:
            appended = journal.append([record("a", number)])
            assert (appended.before, appended.head) == (number - 1, number)


@pytest.mark.parametrize("count", [PAGE - 1, PAGE, PAGE + 1])
def test_long_answers_come_in_pages(one: RedisJournal, count: int) -> None:
    one.append([record("a", number) for number in range(1, count + 1)])
    one.append([], [note(number) for number in range(1, count + 1)])
    names = [f"{number:05}" for number in range(count)]
    one.keep_ledgers([LedgerRecord(name, b"") for name in names])

    assert len(one.follow(START, limit=2 * PAGE)) == count
    assert [each.number for each in one.read("a", 1, NUMBER_MAX, limit=2 * PAGE)] == [
        *range(1, count + 1)
    ]
    assert len(one.read("a", 1, NUMBER_MAX, limit=PAGE - 1)) == PAGE - 1
    found = one.read_notes("conflict", stream="a", limit=2 * PAGE)
    assert [each.number for each in found] == [*range(count, 0, -1)]
    assert one.count_notes("conflict") == {"a": count}
    assert [each.stream for each in one.ledgers("", limit=2 * PAGE)] == names


def test_a_number_below_the_highest_is_looked_up(one: RedisJournal) -> None:
    one.append([record("a", 5), record("a", NUMBER_MAX)])

    appended = one.append([record("a", n) for n in (NUMBER_MAX - 1, 5, 4, NUMBER_MAX)])

    assert appended.new == (True, False, True, False)


def test_a_script_the_server_has_forgotten_is_sent_again(
    one: RedisJournal, redis: RedisServer
) -> None:
    one.append([record("a", 1)])
    redis.ask("SCRIPT", "FLUSH")

    assert one.append([record("a", 2)]).new == (True,)
    redis.ask("SCRIPT", "FLUSH")
    assert len(one.follow(START, limit=9)) == 2


@pytest.mark.slow
def test_three_instances_agree_on_one_order_and_one_winner(
    redis: RedisServer, tmp_path: Path
) -> None:
    """Shuffled duplicates from three threads, each with bodies of its own; a fourth follows."""
    keys = [(f"rocket {n % 7}", n) for n in range(1, 401)]
    results: list[list[tuple[list[Record], Appended]]] = [[], [], []]
    followed: list[StoredRecord] = []

    def append(instance: int) -> None:
        mine = keys * 2
        Random(instance).shuffle(mine)
        with closing(redis.journal(tmp_path)) as journal:
            for start in range(0, len(mine), 23):
                batch = [record(*key, b"%d" % instance) for key in mine[start : start + 23]]
                results[instance].append((batch, journal.append(batch)))

    def follow() -> None:
        with closing(redis.journal(tmp_path)) as journal:
            while len(followed) < len(keys):
                after = followed[-1].position if followed else START
                if journal.wait_behind(after, 5.0):
                    followed.extend(journal.follow(after, limit=50))

    threads = [Thread(target=append, args=(n,)) for n in range(3)] + [Thread(target=follow)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [each.position for each in followed] == [*range(1, len(keys) + 1)]
    assert sorted(numbers(followed)) == sorted(keys)
    winners = {(each.stream, each.number): each for each in followed}
    spans: list[int] = []
    for batch, appended in (result for mine in results for result in mine):
        new = [each for each, is_new in zip(batch, appended.new, strict=True) if is_new]
        # What is between the two heads is what this append stored anew, in its order.
        assert numbers(followed[appended.before : appended.head]) == [
            (each.stream, each.number) for each in new
        ]
        assert all(winners[each.stream, each.number].body == each.body for each in new)
        assert all(
            found == winners[batch[i].stream, batch[i].number]
            for i, found in appended.stored.items()
        )
        spans += range(appended.before, appended.head)
    assert sorted(spans) == [*range(len(keys))]


# Waiting


def test_waiting_ends_at_once_where_there_is_something(one: RedisJournal) -> None:
    one.append([record("a", 1), record("a", 2)])

    assert one.wait_behind(START, 9.0)
    assert one.wait_behind(Position(1), 0.0)
    assert not one.wait_behind(Position(2), 0.0)
    assert not one.wait_behind(Position(2), 0.01)


def test_waiting_ends_when_another_instance_appends(one: RedisJournal, other: RedisJournal) -> None:
    begun = Event()

    def append() -> None:
        begun.wait()
        other.append([record("a", 1)])

    thread = Thread(target=append)
    thread.start()
    begun.set()

    assert one.wait_behind(START, 30.0)
    thread.join()


def test_an_interrupt_ends_this_wait_or_the_next(one: RedisJournal) -> None:
    one.interrupt()
    started = monotonic()

    assert not one.wait_behind(START, 30.0)

    thread = Thread(target=one.interrupt)
    thread.start()
    assert not one.wait_behind(START, 30.0)
    thread.join()
    assert monotonic() - started < 5.0
    one.append([record("a", 1)])
    assert one.wait_behind(START, 30.0)


# The claim to a round


def test_one_instance_at_a_time_claims_the_round(one: RedisJournal, other: RedisJournal) -> None:
    assert one.claim_round()
    assert one.claim_round()
    assert not other.claim_round()
    other.release_round()
    assert not other.claim_round()

    one.end_round(Round(START, "1", 0))
    assert other.claim_round()
    other.release_round()
    assert one.claim_round()
    one.close()
    assert other.claim_round()


@pytest.mark.parametrize(
    "write",
    [
        lambda journal: journal.keep_ledgers([LedgerRecord("a", b"late")]),
        lambda journal: journal.end_round(Round(Position(9), "late", 0)),
        lambda journal: journal.drop_ledgers(),
    ],
)
def test_ledgers_belong_to_the_one_with_the_claim(
    one: RedisJournal,
    other: RedisJournal,
    redis: RedisServer,
    tmp_path: Path,
    write: Callable[[RedisJournal], None],
) -> None:
    one.keep_ledgers([LedgerRecord("a", b"kept")])
    one.end_round(Round(Position(1), "1", 0))
    assert one.claim_round()

    with pytest.raises(JournalBusy, match="another instance"):
        write(other)

    # The claim ends, as it does when an instance stands still for a minute; another has it then.
    redis.ask("DEL", redis.key(tmp_path, "claim"))
    assert other.claim_round()
    with pytest.raises(JournalUnreachable, match="claim"):
        write(one)
    other.release_round()
    with pytest.raises(JournalUnreachable, match="claim"):
        write(one)
    assert one.ledgers("", limit=9) == [StoredLedger("a", b"kept")]
    assert one.rounds() == [Round(Position(1), "1", 0)]
    assert one.claim_round()
    write(one)


def test_keeping_ledgers_keeps_the_claim(
    one: RedisJournal, redis: RedisServer, tmp_path: Path
) -> None:
    assert one.claim_round()
    key = redis.key(tmp_path, "claim")
    assert 0 < redis.ask("PTTL", key) <= CLAIM_S * 1_000
    redis.ask("PEXPIRE", key, 5_000)

    one.keep_ledgers([])

    assert redis.ask("PTTL", key) > 5_000


# A store that is behind

ASKING: list[Callable[[RedisJournal], object]] = [
    lambda journal: journal.append([record("late", 1)]),
    lambda journal: journal.follow(START, limit=9),
    lambda journal: journal.head(),
    lambda journal: journal.wait_behind(Position(2), 30.0),
    lambda journal: journal.read("a", 1, 9, limit=9),
    lambda journal: journal.keep_ledgers([LedgerRecord("a", b"")]),
]


def check_behind(journal: RedisJournal, ask: Callable[[RedisJournal], object], words: str) -> None:
    with pytest.raises(JournalBehind, match=words):
        ask(journal)
    with pytest.raises(JournalBehind, match=words):
        journal.append([record("late", 1)])


@pytest.mark.parametrize("ask", ASKING)
def test_an_emptied_server_is_seen_and_nothing_is_written_to_it(
    one: RedisJournal, redis: RedisServer, tmp_path: Path, ask: Callable[[RedisJournal], object]
) -> None:
    one.append([record("a", 1), record("a", 2)])
    redis.replace(tmp_path, {})

    check_behind(one, ask, "not the store that was opened")

    assert redis.copy(tmp_path) == {}


@pytest.mark.parametrize("ask", ASKING)
def test_a_store_made_anew_is_another_store(
    one: RedisJournal, redis: RedisServer, tmp_path: Path, ask: Callable[[RedisJournal], object]
) -> None:
    one.append([record("a", 1), record("a", 2)])
    redis.replace(tmp_path, {})
    with closing(redis.journal(tmp_path)) as fresh:
        fresh.append([record("a", 1), record("a", 2), record("a", 3)])

    check_behind(one, ask, "not the store that was opened")


@pytest.mark.parametrize("ask", ASKING)
@pytest.mark.parametrize("others", [0, 1, 2])
def test_a_store_that_has_lost_its_end_is_seen_even_when_others_went_on(
    one: RedisJournal,
    redis: RedisServer,
    tmp_path: Path,
    others: int,
    ask: Callable[[RedisJournal], object],
) -> None:
    """As after a failover to a replica that did not have the last record yet."""
    one.append([record("a", 1)])
    replica = redis.copy(tmp_path)
    one.append([record("a", 2)])
    redis.replace(tmp_path, replica)
    with closing(redis.journal(tmp_path)) as other:
        for number in range(others):
            other.append([record("b", number + 1)])

    check_behind(one, ask, "record 2 is another" if others else "head is 1 and was 2")


def test_what_is_pruned_meanwhile_is_no_loss(one: RedisJournal, other: RedisJournal) -> None:
    one.append([record("a", 1)])
    other.append([record("a", 2), record("b", 1)])
    assert other.prune([Pruned("a", 9, BASE)], limit=9) == 2

    assert one.head() == 3
    assert numbers(one.follow(START, limit=9)) == [("b", 1)]


# Writes are done once


def test_a_write_that_comes_late_does_nothing(one: RedisJournal, other: RedisJournal) -> None:
    one.append([record("a", 1)])
    one.append([record("a", 2)])
    one._store._writes = 0  # what the next write is numbered by

    with pytest.raises(JournalFailed, match="overtaken"):
        one.append([record("a", 3)], [note(1)])

    assert other.head() == 2
    assert other.count_notes("conflict") == {}


def test_a_write_that_comes_twice_is_answered_alike_and_done_once(one: RedisJournal) -> None:
    one.append([record("b", 1)])
    whatever: list[Callable[[], object]] = [
        lambda: one.append([record("a", 1), record("b", 1), record("a", 1)], [note(1), note(1)]),
        lambda: one.remove_note(NoteId(1)),
        lambda: one.prune([Pruned("b", 1, BASE)], limit=9),
        lambda: one.keep_ledgers([LedgerRecord("a", b"")]),
        one.drop_ledgers,
        one.claim_round,
        lambda: one.end_round(Round(START, "1", 0)),
    ]
    for write in whatever:
        claim = one._store.claim
        first = write()
        head, claim_afterwards = one.head(), one._store.claim
        one._store._writes -= 1
        one._store.claim = claim

        assert write() == first

        assert one.head() == head
        one._store.claim = claim_afterwards
    assert one.note_totals("conflict").kept == 0


@pytest.mark.parametrize(("count", "left"), [(WRITERS_MAX - 1, 1_001), (WRITERS_MAX, 1)])
def test_the_numbers_of_writers_that_are_gone_are_bounded(
    redis: RedisServer, tmp_path: Path, count: int, left: int
) -> None:
    with closing(redis.journal(tmp_path)) as journal:
        journal.append([record("a", 1)])
    key = redis.key(tmp_path, "writers")
    redis.ask("HSET", key, *[value for n in range(count) for value in (f"w{n}", "x")])

    with closing(redis.journal(tmp_path)) as journal:
        journal.append([record("a", 2)])

    assert redis.ask("HLEN", key) == left


# Troubles of the server


def test_without_memory_it_is_full_and_gets_over_it(one: RedisJournal, redis: RedisServer) -> None:
    one.append([record("a", 1)])
    redis.ask("CONFIG", "SET", "maxmemory", 1)
    try:
        with pytest.raises(JournalFull, match="has no memory left"):
            one.append([record("a", 2), record("a", 3)], [note(1)])
        with pytest.raises(JournalFull):
            one.append([], [note(1)])
        assert one.append([]).head == 1
    finally:
        redis.ask("CONFIG", "SET", "maxmemory", 0)

    assert one.head() == 1
    assert one.count_notes("conflict") == {}
    assert one.append([record("a", 2)]).new == (True,)


def test_with_too_few_replicas_it_takes_nothing(redis: RedisServer, tmp_path: Path) -> None:
    with closing(redis.journal(tmp_path, call_s=0.2)) as journal:
        redis.ask("CONFIG", "SET", "min-replicas-to-write", 1)
        try:
            with pytest.raises(JournalUnreachable, match="too few replicas"):
                journal.append([record("a", 1)])
        finally:
            redis.ask("CONFIG", "SET", "min-replicas-to-write", 0)
        assert journal.append([record("a", 1)]).new == (True,)


def test_behind_somebodys_endless_script_it_is_busy(redis: RedisServer, tmp_path: Path) -> None:
    with closing(redis.journal(tmp_path, call_s=0.5)) as journal:
        redis.ask("CONFIG", "SET", "busy-reply-threshold", 1)
        endless = Thread(target=_run_endlessly, args=(redis,))
        endless.start()
        try:
            # Whether it comes before the script or into its first millisecond: in the end busy.
            with pytest.raises(JournalBusy, match="long script"):
                for number in range(1, 1_000_000):
                    journal.append([record("a", number)])
        finally:
            redis.ask("SCRIPT", "KILL")
            endless.join()
            redis.ask("CONFIG", "SET", "busy-reply-threshold", 5_000)
        assert journal.append([record("b", 1)]).new == (True,)


def _run_endlessly(redis: RedisServer) -> None:
    with pytest.raises(Exception, match="killed"):
        redis.ask("EVAL", "while true do end", 0)


SAID: list[tuple[str, type[JournalError]]] = [
    ("OOM command not allowed when used memory > 'maxmemory'.", JournalFull),
    ("MISCONF Errors writing to the AOF file: No space left on device", JournalFull),
    ("BUSY Redis is busy running a script.", JournalBusy),
    ("READONLY You can't write against a read only replica.", JournalUnreachable),
    ("LOADING Redis is loading the dataset in memory", JournalUnreachable),
    ("MASTERDOWN Link with MASTER is down", JournalUnreachable),
    ("NOREPLICAS Not enough good replicas to write.", JournalUnreachable),
    ("CLUSTERDOWN The cluster is down", JournalUnreachable),
    ("TRYAGAIN Multiple keys request during rehashing of slot", JournalUnreachable),
    ("MOVED 1 127.0.0.1:1", JournalUnreachable),
    ("ASK 1 127.0.0.1:1", JournalUnreachable),
    ("NOAUTH Authentication required.", JournalUnreachable),
    ("WRONGPASS invalid username-password pair", JournalUnreachable),
    ("NOPERM this user has no permissions", JournalUnreachable),
    ("ERR max number of clients reached", JournalUnreachable),
    ("ERR value is not an integer or out of range", JournalFailed),
    ("WRONGTYPE Operation against a key holding the wrong kind of value", JournalFailed),
]


@pytest.mark.parametrize(("said", "kind"), SAID)
def test_what_a_server_says_becomes_an_error_of_the_journal(
    said: str, kind: type[JournalError]
) -> None:
    parse: Any = DefaultParser.parse_error

    assert _judge(parse(said))[0] is kind


def test_every_word_of_the_table_is_tested() -> None:
    assert set(ERRORS) <= {said.split()[0] for said, _ in SAID}


# Damage


def spoil_log(redis: RedisServer, path: Path) -> None:
    [[position, fields]] = redis.ask("XREVRANGE", redis.key(path, "log"), "+", "-", "COUNT", 1)
    redis.ask("XDEL", redis.key(path, "log"), position)
    spoilt = [fields[0], fields[1], fields[2], fields[3] + b"!"]
    copy = redis.key(path, "copy")
    # An id cannot be used again, so the others are copied around it.
    rest = redis.ask("XRANGE", redis.key(path, "log"), "-", "+")
    for entry, values in [*rest, [position, spoilt]]:
        redis.ask("XADD", copy, entry, *values)
    redis.ask("RENAME", copy, redis.key(path, "log"))


@pytest.mark.parametrize(
    "ask",
    [
        lambda journal: journal.follow(START, limit=9),
        lambda journal: journal.read("a", 1, 9, limit=9),
        lambda journal: journal.append([record("a", 2)]),
    ],
)
def test_a_damaged_record_is_found_by_whoever_reads_it(
    one: RedisJournal, redis: RedisServer, tmp_path: Path, ask: Callable[[RedisJournal], object]
) -> None:
    one.append([record("a", 1), record("a", 2)])
    spoil_log(redis, tmp_path)

    with pytest.raises(JournalFailed, match="record 2 does not match its checksum"):
        ask(one)
    with pytest.raises(JournalFailed, match="record 2"):
        one.append([record("a", 3)])


@pytest.mark.parametrize("position", [2, 9])
@pytest.mark.parametrize(
    "ask",
    [
        lambda journal: journal.read("a", 1, 9, limit=9),
        lambda journal: journal.append([record("a", 1)]),
        lambda journal: journal.prune([Pruned("a", 1, BASE)], limit=9),
    ],
)
def test_an_index_that_points_elsewhere_is_found(
    one: RedisJournal,
    redis: RedisServer,
    tmp_path: Path,
    ask: Callable[[RedisJournal], object],
    position: int,
) -> None:
    one.append([record("a", 1), record("b", 1), record("c", 1)])
    key = redis.key(tmp_path, "numbers:a")
    redis.ask("DEL", key)
    redis.ask("ZADD", key, 1, position)

    with pytest.raises(JournalFailed, match="index"):
        ask(one)


def test_a_damaged_note_is_found(one: RedisJournal, redis: RedisServer, tmp_path: Path) -> None:
    one.append([], [note(1)])
    key = redis.key(tmp_path, "notes")
    content = redis.ask("HGET", key, "1")
    redis.ask("HSET", key, "1", content.replace(b"said", b"says"))

    with pytest.raises(JournalFailed, match="note 1 does not match"):
        one.read_notes("conflict", stream=None, limit=9)


def test_what_is_no_note_is_found(one: RedisJournal, redis: RedisServer, tmp_path: Path) -> None:
    one.append([], [note(1)])
    redis.ask("HSET", redis.key(tmp_path, "notes"), "1", "x")

    with pytest.raises(JournalFailed, match="note 1 cannot be read"):
        one.note(NoteId(1))


def test_a_damaged_mark_of_pruning_is_found(
    one: RedisJournal, redis: RedisServer, tmp_path: Path
) -> None:
    one.append([record("a", 1), record("b", 1)])
    one.prune([Pruned("a", 1, BASE)], limit=9)
    key = redis.key(tmp_path, "pruned")
    redis.ask("HSET", key, "a", b"2" + redis.ask("HGET", key, "a")[1:])

    with pytest.raises(JournalFailed, match="pruned of a"):
        one.pruned("", limit=9)


def test_damaged_ledgers_and_rounds_are_told_and_the_journal_goes_on(
    one: RedisJournal, redis: RedisServer, tmp_path: Path
) -> None:
    one.keep_ledgers([LedgerRecord(name, b"data") for name in "abc"])
    one.end_round(Round(START, "1", 0))
    redis.ask("HSET", redis.key(tmp_path, "ledgers"), "a", b"\0\0\0\0data")
    redis.ask("HDEL", redis.key(tmp_path, "ledgers"), "b")
    redis.ask("SET", redis.key(tmp_path, "rounds"), b"x")

    assert one.ledgers("", limit=9) == [
        StoredLedger("a", None),
        StoredLedger("b", None),
        StoredLedger("c", b"data"),
    ]
    assert one.rounds() == []
    one.end_round(Round(Position(1), "1", 0))
    assert one.rounds() == [Round(Position(1), "1", 0)]


@pytest.mark.parametrize(
    ("name", "words"), [(b"\xff", "cannot be read"), (None, "cannot be found again")]
)
def test_damaged_names_of_ledgers_are_found(
    one: RedisJournal, redis: RedisServer, tmp_path: Path, name: bytes | None, words: str
) -> None:
    one.keep_ledgers([LedgerRecord(each, b"data") for each in "abc"])
    key = redis.key(tmp_path, "ledgers:names")
    if name is None:
        redis.ask("ZREM", key, "b")
    else:
        redis.ask("ZADD", key, 0, name)

    with pytest.raises(LedgersDamaged, match=words):
        one.ledgers("b", limit=9)
    one.drop_ledgers()
    assert one.ledgers("", limit=9) == []


def test_a_damaged_round_is_left_out_and_not_kept(
    one: RedisJournal, redis: RedisServer, tmp_path: Path
) -> None:
    one.end_round(Round(Position(1), "1", 0))
    one.end_round(Round(Position(2), "2", 0))
    key = redis.key(tmp_path, "rounds")
    redis.ask("SET", key, redis.ask("GET", key).replace(b"\xa12", b"\xa13"))

    assert one.rounds() == [Round(Position(1), "1", 0)]
    one.end_round(Round(Position(4), "4", 0))
    assert one.rounds() == [Round(Position(4), "4", 0), Round(Position(1), "1", 0)]


# A cluster


@pytest.mark.slow
def test_in_a_cluster_all_keys_are_in_one_slot(redis: RedisServer, tmp_path: Path) -> None:
    options = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    with closing(RedisServer(*options)) as cluster:
        cluster.ask("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        with closing(cluster.journal(tmp_path)) as journal:  # waits until the node is ready
            journal.append([record(s, n) for s in "ab" for n in (1, 2)], [note(1), note(2)])
            journal.remove_note(NoteId(1))
            assert journal.claim_round()
            journal.keep_ledgers([LedgerRecord("a", b"")])
            journal.prune([Pruned("a", 1, BASE)], limit=9)
            assert len(journal.ledgers("", limit=9)) == 1
            assert len(journal.read_notes("conflict", stream="a", limit=9)) == 1
            assert len(journal.follow(START, limit=9)) == 3
        keys = cluster.copy(tmp_path)
        slots = {cluster.ask("CLUSTER", "KEYSLOT", key) for key in keys}
    assert len(keys) > 10
    assert len(slots) == 1
