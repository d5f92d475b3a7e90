"""What every journal promises, told to each of them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rockets.journal import (
    Durability,
    Journal,
    JournalError,
    LedgerRecord,
    MemoryJournal,
    Note,
    NoteId,
    NoteLimits,
    NoteTotals,
    Position,
    Pruned,
    Record,
    Round,
    SharedSqliteJournal,
    SqliteJournal,
    StoredLedger,
    StoredNote,
    StoredRecord,
    hold_file,
    open_journal,
)
from rockets.journal.redis_streams import PAGE, RedisJournal
from rockets.journal.spans import Span, read_each
from tests.journal.postgresql_server import PostgresqlServer
from tests.journal.prunings import BASE
from tests.journal.redis_server import RedisServer

NUMBER_MAX = 2**53 - 1
START = Position(0)


class HeldJournal(SharedSqliteJournal):
    """One of several instances, which holds the file for all of them."""

    def __init__(self, path: Path, limits: NoteLimits) -> None:
        self._held = hold_file(path)
        self._held.__enter__()
        super().__init__(path, note_limits=limits)

    def close(self) -> None:
        super().close()
        self._held.__exit__(None, None, None)


Opener = Callable[[Path, NoteLimits], Journal]
OPENERS: dict[str, Opener] = {
    "memory": lambda _, limits: MemoryJournal(note_limits=limits),
    "full": lambda path, limits: SqliteJournal(path, note_limits=limits),
    "normal": lambda path, limits: SqliteJournal(path, durability="normal", note_limits=limits),
    "shared": lambda path, limits: HeldJournal(path, limits),
}


def record(stream: str, number: int, body: bytes = b"{}", received_at: int = 7) -> Record:
    return Record(stream, number, body, received_at)


def note(stream: str, number: int, key: bytes = b"k", *, kind: str = "conflict") -> Note:
    return Note(kind, stream, number, key, b"said " + key, 11)


def said(notes: Sequence[StoredNote]) -> list[Note]:
    """What the notes said when they were kept, without id, count and last time."""
    return [Note(n.kind, n.stream, n.number, n.key, n.body, n.noted_at) for n in notes]


@pytest.fixture(params=[*OPENERS, "postgresql", "redis"], scope="session")
def opener(request: pytest.FixtureRequest) -> Opener:
    if request.param not in OPENERS:
        server: PostgresqlServer | RedisServer = request.getfixturevalue(request.param)
        return server.emptied
    return OPENERS[request.param]


@pytest.fixture
def journal(opener: Opener, tmp_path: Path) -> Iterator[Journal]:
    with closing(opener(tmp_path / "journal.db", NoteLimits())) as opened:
        yield opened


@pytest.fixture
def narrow(opener: Opener, tmp_path: Path) -> Iterator[Journal]:
    """A journal that keeps three notes of a kind and 100 bytes of their bodies."""
    with closing(opener(tmp_path / "narrow.db", NoteLimits(3, 100))) as opened:
        yield opened


def numbers(records: Sequence[StoredRecord]) -> list[tuple[str, int]]:
    return [(found.stream, found.number) for found in records]


def test_a_new_record_is_stored_as_it_was_given(journal: Journal) -> None:
    given_record = record("a", 3, b"body", 1_700_000_000_000_000)

    appended = journal.append([given_record])

    assert appended.new == (True,)
    assert appended.stored == {}
    assert appended.before == 0
    assert appended.head == journal.head() == 1
    assert journal.read("a", 1, 9, limit=9) == [
        StoredRecord(Position(1), "a", 3, b"body", 1_700_000_000_000_000)
    ]


def test_a_duplicate_is_told_what_is_stored_and_changes_nothing(journal: Journal) -> None:
    journal.append([record("a", 1, b"first", 5)])

    appended = journal.append([record("b", 1), record("a", 1, b"first", 6)])

    assert appended.new == (True, False)
    assert appended.stored == {1: StoredRecord(Position(1), "a", 1, b"first", 5)}
    assert appended.head == 2


def test_an_append_tells_where_the_journal_ended_before_and_after_it(journal: Journal) -> None:
    first = journal.append([record("a", 1), record("a", 2)])
    second = journal.append([record("a", 2), record("a", 3)], [note("a", 2)])
    nothing = journal.append([record("a", 3)])

    assert [(each.before, each.head) for each in (first, second, nothing)] == [
        (0, 2),
        (2, 3),
        (3, 3),
    ]


def test_conflicting_content_keeps_the_first(journal: Journal) -> None:
    journal.append([record("a", 1, b"first")])

    appended = journal.append([record("a", 1, b"second")])

    assert appended.new == (False,)
    assert appended.stored[0].body == b"first"
    assert [found.body for found in journal.read("a", 1, 1, limit=9)] == [b"first"]


def test_within_an_append_the_earliest_of_a_key_wins(journal: Journal) -> None:
    appended = journal.append([record("a", 1, b"x"), record("a", 1, b"y"), record("a", 2)])

    assert appended.new == (True, False, True)
    assert numbers(journal.follow(START, limit=9)) == [("a", 1), ("a", 2)]
    assert appended.stored == {1: journal.follow(START, limit=1)[0]}
    assert appended.stored[1].body == b"x"


def test_a_key_stored_before_is_new_for_no_record_of_an_append(journal: Journal) -> None:
    journal.append([record("a", 1)])

    appended = journal.append([record("a", 1), record("a", 1)])

    assert appended.new == (False, False)
    assert set(appended.stored) == {0, 1}
    assert appended.head == 1


def test_an_empty_append_stores_nothing(journal: Journal) -> None:
    journal.append([record("a", 1)])

    appended = journal.append([])

    assert (appended.new, appended.stored, appended.notes_new) == ((), {}, ())
    assert appended.head == journal.head() == 1


def test_an_empty_journal_has_its_head_before_the_first_position(journal: Journal) -> None:
    assert journal.head() == journal.append([]).head == 0
    assert journal.follow(START, limit=9) == journal.read("a", 1, 9, limit=9) == []


@pytest.mark.parametrize(
    ("first", "last", "limit", "expected"),
    [
        (1, NUMBER_MAX, 9, [1, 2, 5, 8]),
        (2, 5, 9, [2, 5]),
        (3, 4, 9, []),
        (5, 2, 9, []),
        (8, 8, 9, [8]),
        (9, NUMBER_MAX, 9, []),
        (1, NUMBER_MAX, 2, [1, 2]),
        (1, NUMBER_MAX, 4, [1, 2, 5, 8]),
        (1, NUMBER_MAX, 0, []),
    ],
)
def test_a_read_gives_its_stream_within_bounds_by_number(
    journal: Journal, first: int, last: int, limit: int, expected: list[int]
) -> None:
    journal.append([record("a", 8), record("b", 3), record("a", 1), record("b", 9)])
    journal.append([record("a", 5), record("a", 2)])

    found = journal.read("a", first, last, limit=limit)

    assert numbers(found) == [("a", number) for number in expected]


def test_spans_come_in_their_order_each_by_number(journal: Journal) -> None:
    journal.append([record("a", 8), record("b", 3), record("a", 1), record("b", NUMBER_MAX)])
    journal.append([record("a", 5), record("a", 2)])
    spans = [("b", 3, NUMBER_MAX), ("c", 1, 9), ("a", 2, 5), ("a", 8, 8), ("a", 1, 2)]

    found = read_each(journal, spans)

    expected = [("b", 3), ("b", NUMBER_MAX), ("a", 2), ("a", 5), ("a", 8), ("a", 1), ("a", 2)]
    assert numbers(found) == expected
    assert found[2:4] == journal.read("a", 2, 5, limit=9)
    assert read_each(journal, []) == []


@pytest.mark.parametrize("count", [PAGE - 1, PAGE, PAGE + 1])
def test_many_spans_are_read_whole(journal: Journal, count: int) -> None:
    given_records = [record(f"r{n}", n + 1) for n in range(count)]
    journal.append(given_records)

    found = read_each(journal, [(each.stream, 1, count) for each in given_records])

    assert numbers(found) == [(each.stream, each.number) for each in given_records]


@settings(max_examples=20)
@given(
    numbers_of=st.dictionaries(st.sampled_from("abc"), st.sets(st.integers(1, 9))),
    spans=st.lists(
        st.builds(
            lambda stream, first, more: (stream, first, first + more),
            st.sampled_from("abcd"),
            st.integers(1, 9),
            st.integers(0, 9),
        )
    ),
)
def test_spans_give_what_reading_one_after_the_other_gives(
    opener: Opener, numbers_of: dict[str, set[int]], spans: list[Span]
) -> None:
    with TemporaryDirectory() as folder:
        with closing(opener(Path(folder) / "journal.db", NoteLimits())) as journal:
            journal.append([record(stream, n) for stream, some in numbers_of.items() for n in some])

            found = read_each(journal, spans)

            one_by_one = [journal.read(*span, limit=9) for span in spans]
            assert found == [each for some in one_by_one for each in some]


def test_following_gives_commit_order_from_any_position(journal: Journal) -> None:
    journal.append([record("b", 9), record("a", 2)])
    journal.append([record("a", 2), record("a", 1)])

    everything = journal.follow(START, limit=9)

    assert numbers(everything) == [("b", 9), ("a", 2), ("a", 1)]
    assert [found.position for found in everything] == [1, 2, 3]
    assert journal.follow(Position(1), limit=1) == everything[1:2]
    assert journal.follow(journal.head(), limit=9) == []
    assert journal.follow(START, limit=0) == []


@pytest.mark.parametrize("number", [1, 2**31, 2**32 + 1, NUMBER_MAX])
def test_any_message_number_comes_back(journal: Journal, number: int) -> None:
    journal.append([record("a", number)])

    assert numbers(journal.read("a", number, number, limit=1)) == [("a", number)]


@pytest.mark.parametrize(
    "body", [b"", b"\0", b"a\0b", bytes(range(256)), "ü".encode(), b"x" * 70_000]
)
def test_any_bytes_come_back(journal: Journal, body: bytes) -> None:
    journal.append([record("a", 1, body)], [Note("k", "a", 1, body, body, 1)])

    assert journal.read("a", 1, 1, limit=1)[0].body == body
    assert journal.append([record("a", 1)]).stored[0].body == body
    assert said(journal.read_notes("k", stream="a", limit=1)) == [Note("k", "a", 1, body, body, 1)]


def test_a_note_is_kept_once_per_kind_stream_number_and_key(journal: Journal) -> None:
    journal.append([], [note("a", 1), note("a", 1)])

    appended = journal.append(
        [],
        [
            note("a", 1),
            note("a", 1, b"other"),
            note("a", 2),
            note("b", 1),
            note("a", 1, kind="rejection"),
        ],
    )

    assert appended.notes_new == (False, True, True, True, True)
    assert journal.count_notes("conflict") == {"a": 3, "b": 1}
    assert journal.count_notes("rejection") == {"a": 1}
    assert journal.count_notes("other") == {}


def test_the_first_of_a_note_stays(journal: Journal) -> None:
    appended = journal.append([], [note("a", 1), Note("conflict", "a", 1, b"k", b"late", 99)])

    assert appended.notes_new == (True, False)
    assert said(journal.read_notes("conflict", stream=None, limit=9)) == [note("a", 1)]


def test_notes_are_read_newest_first(journal: Journal) -> None:
    journal.append([], [note("a", 1), note("b", 1), note("a", 2, kind="rejection")])
    journal.append([], [note("a", 3)])

    every = journal.read_notes("conflict", stream=None, limit=9)

    assert said(every) == [note("a", 3), note("b", 1), note("a", 1)]
    assert journal.read_notes("conflict", stream=None, limit=2) == every[:2]
    assert journal.read_notes("conflict", stream="a", limit=9) == [every[0], every[2]]
    assert journal.read_notes("conflict", stream="c", limit=9) == []
    assert journal.read_notes("conflict", stream=None, limit=0) == []


def test_a_note_seen_again_is_counted_and_keeps_the_latest_time(journal: Journal) -> None:
    def seen(at: int) -> Note:
        return Note("conflict", "a", 1, b"k", b"%d" % at, at)

    journal.append([], [seen(5), seen(9)])
    assert journal.append([], [seen(7)]).notes_new == (False,)

    [found] = journal.read_notes("conflict", stream="a", limit=9)
    assert found == StoredNote(found.id, "conflict", "a", 1, b"k", b"5", 5, 3, 9)
    assert journal.note(found.id) == found


def test_pages_of_notes_go_on_before_an_id_whatever_came_and_went(journal: Journal) -> None:
    journal.append([], [note(stream, n) for n in (1, 2, 3) for stream in "ab"])
    first = journal.read_notes("conflict", stream="a", limit=2)

    journal.append([], [note("a", 4)])
    journal.remove_note(first[-1].id)

    assert [found.number for found in first] == [3, 2]
    rest = journal.read_notes("conflict", stream="a", limit=9, before=first[-1].id)
    assert [found.number for found in rest] == [1]
    everything = journal.read_notes("conflict", stream=None, limit=9, before=first[-1].id)
    assert said(everything) == [note("b", 1), note("a", 1)]
    assert journal.read_notes("conflict", stream=None, limit=9, before=NoteId(1)) == []


def test_a_removed_note_is_gone_and_its_id_never_names_another(journal: Journal) -> None:
    journal.append([], [note("a", 1), note("a", 2)])
    newest = journal.read_notes("conflict", stream=None, limit=1)[0]

    assert journal.remove_note(newest.id)
    assert not journal.remove_note(newest.id)
    assert journal.note(newest.id) is None
    assert journal.append([], [note("a", 2)]).notes_new == (True,)

    again = journal.read_notes("conflict", stream=None, limit=1)[0]
    assert again.id > newest.id
    assert again.count == 1
    assert journal.note(newest.id) is None
    assert journal.note_totals("conflict") == NoteTotals(2, 0)


@pytest.mark.parametrize(
    ("count", "numbers", "dropped"), [(2, [2, 1], 0), (3, [3, 2, 1], 0), (5, [5, 4, 3], 2)]
)
def test_of_too_many_notes_the_oldest_are_dropped_and_counted(
    narrow: Journal, count: int, numbers: list[int], dropped: int
) -> None:
    for number in range(1, count + 1):
        assert narrow.append([], [note("a", number)]).notes_new == (True,)

    found = narrow.read_notes("conflict", stream="a", limit=9)
    assert [each.number for each in found] == numbers
    assert narrow.note_totals("conflict") == NoteTotals(len(numbers), dropped)
    assert narrow.count_notes("conflict") == {"a": len(numbers)}


@pytest.mark.parametrize(
    ("size", "numbers"), [(49, [2, 1]), (50, [2, 1]), (51, [2]), (100, [2]), (101, [])]
)
def test_of_too_large_notes_the_oldest_are_dropped_and_counted(
    narrow: Journal, size: int, numbers: list[int]
) -> None:
    narrow.append([], [Note("conflict", "a", n, b"", b"x" * size, 1) for n in (1, 2)])

    found = narrow.read_notes("conflict", stream="a", limit=9)
    assert [each.number for each in found] == numbers
    assert narrow.note_totals("conflict") == NoteTotals(len(numbers), 2 - len(numbers))


def test_room_made_by_a_removal_is_used_again(narrow: Journal) -> None:
    narrow.append([], [Note("conflict", "a", n, b"", b"x" * 33, 1) for n in (1, 2, 3)])

    narrow.remove_note(narrow.read_notes("conflict", stream="a", limit=1)[0].id)
    narrow.append([], [Note("conflict", "a", 4, b"", b"x" * 34, 1)])

    found = narrow.read_notes("conflict", stream="a", limit=9)
    assert [each.number for each in found] == [4, 2, 1]
    assert narrow.note_totals("conflict") == NoteTotals(3, 0)


def test_a_flood_of_one_kind_drops_nothing_of_another(narrow: Journal) -> None:
    narrow.append([], [note("a", 1)])

    narrow.append([], [note("a", n, kind="rejection") for n in range(20)])

    assert narrow.note_totals("conflict") == NoteTotals(1, 0)
    assert narrow.note_totals("rejection") == NoteTotals(3, 17)
    assert narrow.note_totals("other") == NoteTotals(0, 0)


def test_a_dropped_note_is_new_when_it_comes_again(narrow: Journal) -> None:
    narrow.append([], [note("a", n) for n in range(4)])

    assert narrow.append([], [note("a", 0)]).notes_new == (True,)
    assert narrow.append([], [note("a", 0)]).notes_new == (False,)


def test_notes_are_not_followed_and_do_not_move_the_head(journal: Journal) -> None:
    appended = journal.append([record("a", 1)], [note("a", 1)])

    assert appended.notes_new == (True,)
    assert appended.head == 1
    assert journal.append([], [note("a", 2)]).head == 1
    assert numbers(journal.follow(START, limit=9)) == [("a", 1)]


def test_maintaining_changes_nothing_that_can_be_read(journal: Journal) -> None:
    journal.append([record("a", 1)])
    before = journal.follow(START, limit=9)

    journal.maintain()

    assert journal.follow(START, limit=9) == before


def test_a_closed_journal_refuses_whatever_writes_and_may_be_closed_again(journal: Journal) -> None:
    journal.close()
    journal.close()

    writes: list[Callable[[], object]] = [
        lambda: journal.append([record("a", 1)]),
        lambda: journal.remove_note(NoteId(1)),
        lambda: journal.keep_ledgers([ledger("a")]),
        lambda: journal.end_round(Round(START, "1", 0)),
        journal.drop_ledgers,
        lambda: journal.prune([Pruned("a", 1, BASE)], limit=1),
    ]
    for write in writes:
        with pytest.raises(JournalError, match="closed"):
            write()


@pytest.mark.parametrize("durability", ["full", "normal", "memory"])
def test_the_journal_of_a_durability_says_so(durability: Durability, tmp_path: Path) -> None:
    with closing(open_journal(tmp_path / "journal.db", durability)) as opened:
        assert opened.durability == durability

    assert list(tmp_path.glob("*.db")) == (
        [] if durability == "memory" else [tmp_path / "journal.db"]
    )


RECORDS = st.builds(
    Record,
    st.sampled_from(["a", "b", "a:1"]),
    st.integers(1, 4) | st.just(NUMBER_MAX),
    st.binary(max_size=3),
    st.integers(0, 2**60),
)
NOTES = st.builds(
    Note,
    st.sampled_from(["conflict", "rejection"]),
    st.sampled_from(["a", "b"]),
    st.integers(1, 2),
    st.binary(max_size=1),
    st.binary(max_size=3),
    st.integers(0, 2**60),
)
APPENDS = st.lists(
    st.tuples(st.lists(RECORDS, max_size=6), st.lists(NOTES, max_size=3)), max_size=6
)


class Model:
    """The contract in a dozen lines: what comes first for a key stays."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, int], StoredRecord] = {}
        self.notes: dict[tuple[str, str, int, bytes], list[Note]] = {}
        self.dropped = {"conflict": 0, "rejection": 0}

    def add(self, given_record: Record) -> tuple[bool, StoredRecord]:
        key = given_record.stream, given_record.number
        position = Position(len(self.records) + 1)
        mine = StoredRecord(position, *key, given_record.body, given_record.received_at)
        stored = self.records.setdefault(key, mine)
        return stored is mine, stored

    def add_note(self, given_note: Note) -> bool:
        key = given_note.kind, given_note.stream, given_note.number, given_note.key
        seen = self.notes.setdefault(key, [])
        seen.append(given_note)
        return len(seen) == 1

    def bound_notes(self) -> None:
        for kind, dropped in self.dropped.items():
            mine = [key for key in self.notes if key[0] == kind]
            sizes = [len(self.notes[key][0].body) for key in mine]
            while len(mine) > 4 or sum(sizes) > 7:
                del self.notes[mine.pop(0)], sizes[0]
                dropped += 1
            self.dropped[kind] = dropped


@pytest.mark.slow
@settings(max_examples=40, deadline=None)  # a busy disk is not a failure
@given(appends=APPENDS)
def test_any_appends_give_what_a_dictionary_gives(
    opener: Opener, appends: list[tuple[list[Record], list[Note]]]
) -> None:
    model = Model()
    with (
        TemporaryDirectory() as folder,
        closing(opener(Path(folder) / "journal.db", NoteLimits(4, 7))) as journal,
    ):
        for records, notes in appends:
            added = [model.add(given_record) for given_record in records]
            notes_new = tuple([model.add_note(given_note) for given_note in notes])
            model.bound_notes()

            appended = journal.append(records, notes)

            assert appended.new == tuple(new for new, _ in added)
            assert appended.stored == {i: found for i, (new, found) in enumerate(added) if not new}
            assert appended.notes_new == notes_new
            assert appended.head == journal.head() == len(model.records)
            assert appended.before == appended.head - sum(appended.new)
        check_reads(journal, model)


def check_reads(journal: Journal, model: Model) -> None:
    assert journal.follow(START, limit=99) == list(model.records.values())
    for stream in ("a", "b", "a:1"):
        mine = sorted(number for name, number in model.records if name == stream)
        found = journal.read(stream, 1, NUMBER_MAX, limit=99)
        assert found == [model.records[stream, number] for number in mine]
    for kind in ("conflict", "rejection"):
        newest_first = [seen for seen in reversed(model.notes.values()) if seen[0].kind == kind]
        kept = journal.read_notes(kind, stream=None, limit=99)
        assert said(kept) == [seen[0] for seen in newest_first]
        assert [(n.count, n.last_at) for n in kept] == [
            (len(seen), max(each.noted_at for each in seen)) for seen in newest_first
        ]
        assert sum(journal.count_notes(kind).values()) == len(newest_first)
        assert journal.note_totals(kind) == NoteTotals(len(newest_first), model.dropped[kind])


# Ledgers and rounds


def ledger(stream: str, data: bytes = b"data") -> LedgerRecord:
    return LedgerRecord(stream, data)


def every_ledger(journal: Journal, limit: int = 2) -> list[StoredLedger]:
    """Read slice by slice, as a start does."""
    found: list[StoredLedger] = []
    while more := journal.ledgers(found[-1].stream if found else "", limit=limit):
        found += more
    return found


def test_a_ledger_is_kept_in_place_of_the_one_before(journal: Journal) -> None:
    journal.keep_ledgers([ledger("b", b"old"), ledger("a", b"")])
    journal.keep_ledgers([ledger("b", b"\0new"), ledger("c", b"x" * 70_000)])

    assert journal.ledgers("", limit=9) == [
        StoredLedger("a", b""),
        StoredLedger("b", b"\0new"),
        StoredLedger("c", b"x" * 70_000),
    ]


def test_of_two_ledgers_of_a_stream_the_last_is_kept(journal: Journal) -> None:
    journal.keep_ledgers([ledger("a", b"1"), ledger("b", b"2"), ledger("a", b"3")])

    assert every_ledger(journal) == [StoredLedger("a", b"3"), StoredLedger("b", b"2")]


def test_keeping_no_ledger_changes_nothing(journal: Journal) -> None:
    journal.keep_ledgers([])

    assert (journal.ledgers("", limit=9), journal.rounds()) == ([], [])


@pytest.mark.parametrize(
    ("after", "limit", "expected"),
    [
        ("", 9, "aABbüz"),
        ("", 5, "ABabz"),
        ("", 6, "ABabzü"),
        ("", 7, "ABabzü"),
        ("", 0, ""),
        ("B", 2, "ab"),
        ("B", 1, "a"),
        ("B", 0, ""),
        ("z", 9, "ü"),
        ("ü", 9, ""),
    ],
)
def test_ledgers_come_in_the_order_of_streams_behind_a_name(
    journal: Journal, after: str, limit: int, expected: str
) -> None:
    journal.keep_ledgers([ledger(stream) for stream in "züabBA"])

    found = journal.ledgers(after, limit=limit)

    assert [each.stream for each in found] == sorted(expected)


def test_ledgers_are_no_records(journal: Journal) -> None:
    journal.append([record("a", 1)])

    journal.keep_ledgers([ledger("a")])
    journal.end_round(Round(Position(1), "1", 0))

    assert journal.head() == 1
    assert numbers(journal.follow(START, limit=9)) == [("a", 1)]


@pytest.mark.parametrize(("ended", "kept"), [(0, []), (1, [1]), (2, [2, 1]), (3, [3, 2])])
def test_the_two_newest_rounds_are_kept_newest_first(
    journal: Journal, ended: int, kept: list[int]
) -> None:
    for began in range(1, ended + 1):
        journal.end_round(Round(Position(began), f"rules {began}", 0))

    assert journal.rounds() == [Round(Position(began), f"rules {began}", 0) for began in kept]


def test_the_newest_round_is_the_one_that_ended_last(journal: Journal) -> None:
    journal.end_round(Round(Position(NUMBER_MAX), "ü", NUMBER_MAX))
    journal.end_round(Round(START, "", 0))

    assert journal.rounds() == [Round(START, "", 0), Round(Position(NUMBER_MAX), "ü", NUMBER_MAX)]


def test_dropped_ledgers_and_rounds_are_gone_and_the_records_stay(journal: Journal) -> None:
    journal.append([record("a", 1), record("a", 2)])
    journal.prune([Pruned("a", 1, BASE)], limit=9)
    journal.keep_ledgers([ledger("a"), ledger("b")])
    assert len(journal.ledgers("", limit=9)) == 2
    journal.end_round(Round(Position(1), "1", 0))

    journal.drop_ledgers()

    assert (journal.ledgers("", limit=9), journal.rounds()) == ([], [])
    assert numbers(journal.follow(START, limit=9)) == [("a", 2)]
    assert journal.pruned("", limit=9) == [Pruned("a", 1, BASE)]
    journal.keep_ledgers([ledger("c"), ledger("d")])
    assert every_ledger(journal) == [StoredLedger("c", b"data"), StoredLedger("d", b"data")]


@pytest.mark.slow
@settings(max_examples=30, deadline=None)  # a busy disk is not a failure
@given(
    kept=st.lists(
        st.lists(st.tuples(st.text("aZ:0ü😀", min_size=1, max_size=3), st.binary(max_size=3)))
    ),
    limit=st.integers(1, 4),
)
def test_ledgers_are_what_a_dictionary_holds(
    opener: Opener, kept: list[list[tuple[str, bytes]]], limit: int
) -> None:
    model: dict[str, bytes] = {}
    with (
        TemporaryDirectory() as folder,
        closing(opener(Path(folder) / "journal.db", NoteLimits())) as journal,
    ):
        for ledgers in kept:
            journal.keep_ledgers([LedgerRecord(*each) for each in ledgers])
            model.update(ledgers)
            assert every_ledger(journal, limit) == [
                StoredLedger(*each) for each in sorted(model.items())
            ]


def test_after_a_drop_the_ledgers_are_those_that_are_kept_anew(journal: Journal) -> None:
    journal.keep_ledgers([LedgerRecord("a", b"old")])
    assert journal.ledgers("", limit=9) == [StoredLedger("a", b"old")]
    journal.drop_ledgers()
    journal.keep_ledgers([LedgerRecord("b", b"new")])

    assert journal.ledgers("", limit=9) == [StoredLedger("b", b"new")]


# Pruning


@pytest.mark.parametrize(
    ("through", "limit", "removed", "left"),
    [
        (0, 9, 0, [1, 2, 3, 5, 6]),
        (1, 9, 1, [2, 3, 5, 6]),
        (3, 2, 2, [3, 5, 6]),
        (3, 3, 3, [5, 6]),
        (3, 4, 3, [5, 6]),
        (4, 9, 3, [5, 6]),
        (5, 9, 4, [6]),
        (NUMBER_MAX, 9, 5, []),
        (NUMBER_MAX, 0, 0, [1, 2, 3, 5, 6]),
    ],
)
def test_pruning_removes_the_lowest_numbers_of_a_stream(
    journal: Journal, through: int, limit: int, removed: int, left: list[int]
) -> None:
    journal.append([record("a", number) for number in (5, 2, 3, 1, 6)])
    journal.append([record("b", 1)])
    before = journal.follow(START, limit=9)

    assert journal.prune([Pruned("a", through, BASE)], limit=limit) == removed

    assert [found.number for found in journal.read("a", 1, NUMBER_MAX, limit=9)] == left
    # Also what the limit has left: the base stands for it as well.
    remembered = Pruned("a", through, BASE) if removed else None
    assert journal.pruned("", limit=9) == [each for each in (remembered,) if each]
    assert journal.pruned_of("a") == remembered
    assert journal.pruned_of("b") is None
    # The others are as they were, at their positions.
    kept = [found for found in before if found.stream == "b" or found.number in left]
    assert journal.follow(START, limit=9) == kept
    assert journal.head() == 6


def test_following_goes_on_over_the_holes(journal: Journal) -> None:
    journal.append([record(stream, number) for number in (1, 2, 3) for stream in "ab"])

    journal.prune([Pruned("a", 9, BASE)], limit=9)

    assert [found.position for found in journal.follow(START, limit=9)] == [2, 4, 6]
    assert [found.position for found in journal.follow(START, limit=2)] == [2, 4]
    assert [found.position for found in journal.follow(Position(2), limit=1)] == [4]
    assert [found.position for found in journal.follow(Position(3), limit=9)] == [4, 6]
    assert journal.follow(Position(6), limit=9) == []


def test_the_last_record_and_what_is_numbered_above_it_stay_until_another_follows(
    journal: Journal,
) -> None:
    journal.append([record("a", number) for number in (1, 3, 4, 2)])

    assert journal.prune([Pruned("a", 9, BASE)], limit=9) == 1
    assert journal.prune([Pruned("a", 9, BASE)], limit=9) == 0
    assert journal.head() == 4
    assert journal.append([record("b", 1)]).head == 5

    assert journal.prune([Pruned("a", 9, BASE)], limit=9) == 3
    assert [found.position for found in journal.follow(START, limit=9)] == [5]
    assert journal.prune([Pruned("b", 9, BASE)], limit=9) == 0
    assert journal.append([record("b", 2)]).head == 6


def test_pruning_what_is_not_there_changes_nothing(journal: Journal) -> None:
    assert journal.prune([Pruned("a", 9, BASE)], limit=9) == 0
    journal.append([record("b", 1), record("a", 7)])

    assert (
        journal.prune([Pruned("c", 9, BASE)], limit=9)
        == journal.prune([Pruned("a", 6, BASE)], limit=9)
        == 0
    )
    assert journal.pruned("", limit=9) == []


def test_a_pruned_number_is_stored_as_new_because_the_journal_does_not_look(
    journal: Journal,
) -> None:
    journal.append([record("a", number) for number in (1, 2, 3)])
    journal.prune([Pruned("a", 2, BASE)], limit=9)

    appended = journal.append([record("a", 1, b"again"), record("a", 3)])

    assert appended.new == (True, False)
    assert [found.position for found in journal.read("a", 1, 9, limit=9)] == [4, 3]
    # Pruned again, it does not lower what is remembered.
    journal.append([record("b", 1)])
    assert journal.prune([Pruned("a", 1, b"other")], limit=9) == 1
    assert journal.pruned("", limit=9) == [Pruned("a", 2, BASE)]


def test_a_base_takes_the_place_of_a_lower_one_alone(journal: Journal) -> None:
    journal.append([record("a", number) for number in (1, 2, 3, 4)])
    journal.append([record("b", 1)])

    for through, base, kept in [
        (2, b"two", b"two"),
        (2, b"also two", b"two"),
        (1, b"one", b"two"),
        (3, b"three", b"three"),
    ]:
        journal.prune([Pruned("a", through, base)], limit=1)
        found = journal.pruned_of("a")
        assert found is not None
        assert found.base == kept


@pytest.mark.parametrize(
    ("limit", "removed", "remembered"),
    [(0, 0, ""), (1, 1, "a"), (2, 2, "a"), (3, 3, "ab"), (4, 4, "ab"), (5, 4, "ab")],
)
def test_several_streams_are_pruned_in_one_commit_and_within_one_limit(
    journal: Journal, limit: int, removed: int, remembered: str
) -> None:
    journal.append([record(stream, number) for stream in "ab" for number in (1, 2, 3)])

    wanted = [Pruned(stream, 2, stream.encode()) for stream in "ab"]
    assert journal.prune(wanted, limit=limit) == removed

    assert journal.pruned("", limit=9) == [each for each in wanted if each.stream in remembered]
    assert len(journal.follow(START, limit=9)) == 6 - removed


@pytest.mark.parametrize(
    ("after", "limit", "expected"),
    [("", 9, "Zaü"), ("", 2, "Za"), ("", 3, "Zaü"), ("Z", 9, "aü"), ("ü", 9, ""), ("", 0, "")],
)
def test_what_was_pruned_comes_in_the_order_of_streams_behind_a_name(
    journal: Journal, after: str, limit: int, expected: str
) -> None:
    journal.append([record(stream, number) for stream in "üaZ" for number in (1, 2)])
    journal.append([record("b", 1)])
    for stream in "üaZ":
        journal.prune([Pruned(stream, 1, BASE)], limit=9)

    found = journal.pruned(after, limit=limit)

    assert found == [Pruned(stream, 1, BASE) for stream in expected]


PRUNINGS = st.lists(
    st.tuples(st.lists(RECORDS, max_size=8), st.sampled_from(["a", "b"]), st.integers(0, 5)),
    max_size=8,
)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)  # a busy disk is not a failure
@given(prunings=PRUNINGS, limit=st.integers(0, 3))
def test_any_prunings_between_appends_never_use_a_position_twice(
    opener: Opener, prunings: list[tuple[list[Record], str, int]], limit: int
) -> None:
    live: list[StoredRecord] = []
    pruned: dict[str, Pruned] = {}
    head = 0
    with (
        TemporaryDirectory() as folder,
        closing(opener(Path(folder) / "journal.db", NoteLimits())) as journal,
    ):
        for step, (records, stream, last) in enumerate(prunings):
            appended = journal.append(records)
            fresh = [given for given, new in zip(records, appended.new, strict=True) if new]
            for given_record in fresh:
                head += 1
                live.append(stored_at(head, given_record))
            assert appended.head == head

            pruning = Pruned(stream, last, b"%d" % step)
            removed = journal.prune([pruning], limit=limit)

            mine = sorted((r for r in live if r.stream == stream), key=lambda r: r.number)
            stop = next((i for i, r in enumerate(mine) if r.position == head), len(mine))
            gone = [r for r in mine[:stop] if r.number <= last][:limit]
            assert removed == len(gone)
            live = [found for found in live if found not in gone]
            if gone and (stream not in pruned or pruned[stream].through < last):
                pruned[stream] = pruning
            assert journal.follow(START, limit=99) == live
            assert journal.head() == head
            assert {p.stream: p for p in journal.pruned("", limit=9)} == pruned


def stored_at(position: int, given_record: Record) -> StoredRecord:
    key = given_record.stream, given_record.number
    return StoredRecord(Position(position), *key, given_record.body, given_record.received_at)


# Figures


def test_the_figures_fit_what_there_is(journal: Journal) -> None:
    journal.append([record("a", 1)])

    figures = journal.statistics()

    on_disk = isinstance(journal, SqliteJournal)
    has_size = not isinstance(journal, MemoryJournal | RedisJournal)
    assert (figures.database_bytes > 0) == has_size
    assert (figures.wal_bytes > 0) == (figures.free_bytes > 0) == (figures.wal_pages > 0) == on_disk
