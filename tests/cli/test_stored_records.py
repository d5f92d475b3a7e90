"""Records read beside a server: short reads, one moment, every checksum."""

from itertools import count
from pathlib import Path

import apsw
import pytest

from rockets.cli.stored_records import PAGE_BYTES, PAGE_RECORDS, RecordsDamaged, StoredRecords
from rockets.journal import JournalRefused, Position, Record, SqliteJournal
from rockets.journal.sqlite_file import checkpoint
from tests.cli.databases import bodies, fill, flip


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return fill(tmp_path / "rockets.db", bodies(12))


def test_records_come_in_commit_order_or_by_stream_and_number(database: Path) -> None:
    with StoredRecords(database) as records:
        committed = [each.position for page in records.by_position() for each in page]
        sorted_ones = [(each.stream, each.number) for page in records.by_stream() for each in page]

    assert committed == list(range(1, 13))
    assert sorted_ones == [(f"rocket-{r}", n) for r in range(3) for n in range(9, 13)]


def test_only_the_streams_asked_for_come_in_either_order(database: Path) -> None:
    streams = ["rocket-2", "rocket-0", "rocket-2"]
    with StoredRecords(database) as records:
        committed = [each.position for page in records.by_position(streams) for each in page]
        sorted_ones = [each.position for page in records.by_stream(streams) for each in page]

    assert committed == [1, 3, 4, 6, 7, 9, 10, 12]
    assert sorted_ones == [10, 7, 4, 1, 12, 9, 6, 3]


@pytest.mark.parametrize("count_of", [PAGE_RECORDS - 1, PAGE_RECORDS, PAGE_RECORDS + 1])
def test_a_page_has_a_bounded_number_of_records(tmp_path: Path, count_of: int) -> None:
    database = fill(tmp_path / "rockets.db", bodies(count_of, rockets=1))

    with StoredRecords(database) as records:
        for pages in (records.by_position(), records.by_stream(), records.by_stream(["rocket-0"])):
            lengths = [len(page) for page in pages if page]
            assert sum(lengths) == count_of
            assert max(lengths) <= PAGE_RECORDS


def test_a_page_of_long_bodies_has_fewer(tmp_path: Path) -> None:
    database = tmp_path / "rockets.db"
    journal = SqliteJournal(database, durability="normal")
    journal.append([Record("a", number, bytes(PAGE_BYTES // 3), 1) for number in range(1, 8)])
    journal.close()

    with StoredRecords(database) as records:
        assert [len(page) for page in records.by_position()] == [4, 3]
        assert [len(page) for page in records.by_stream()] == [4, 3]


def test_a_slow_read_ends_and_the_next_one_goes_on_behind_it(database: Path) -> None:
    seconds = count()

    with StoredRecords(database, clock=lambda: next(seconds)) as records:
        assert [len(page) for page in records.by_position()] == [1] * 12
        assert [len(page) for page in records.by_stream() if page] == [1] * 12


def test_between_two_pages_the_log_can_begin_anew_and_what_is_new_is_left_out(
    tmp_path: Path,
) -> None:
    journal = SqliteJournal(tmp_path / "rockets.db", durability="normal")
    journal.append([Record("a", number, b"{}", 1) for number in range(1, 2 * PAGE_RECORDS)])

    with StoredRecords(tmp_path / "rockets.db") as records:
        pages, sorted_pages = records.by_position(), records.by_stream()
        read_positions = [each.position for each in (*next(pages), *next(sorted_pages))]
        assert records.connection.txn_state("main") == apsw.SQLITE_TXN_NONE
        journal.append([Record("a", 5000, b"{}", 1), Record("A", 1, b"{}", 1)])
        assert checkpoint(journal._writer, "TRUNCATE").busy == 0
        read_positions += [e.position for page in (*pages, *sorted_pages) for e in page]

    journal.close()
    assert sorted(read_positions) == sorted([*range(1, 2 * PAGE_RECORDS)] * 2)


@pytest.mark.parametrize("position", [1, 7, 12])
@pytest.mark.parametrize("by_stream", [False, True])
def test_a_flipped_bit_is_found_after_everything_before_it(
    database: Path, position: int, by_stream: bool
) -> None:
    with StoredRecords(database) as records:
        pages = records.by_stream() if by_stream else records.by_position()
        order = [each for page in pages for each in page]
    [damaged] = [each for each in order if each.position == position]
    flip(database, damaged.body)

    found = []
    with StoredRecords(database) as records:
        with pytest.raises(
            RecordsDamaged, match=rf"rockets\.db: record {position} of {damaged.stream}"
        ) as raised:
            for page in records.by_stream() if by_stream else records.by_position():
                found += page

    assert found == order[: order.index(damaged)]
    assert raised.value.stream == (damaged.stream if by_stream else None)


@pytest.mark.parametrize(
    ("after", "through", "head", "expected"),
    [
        ("", "rocket-9", 12, [0] * 4 + [1] * 4 + [2] * 4),
        ("", "rocket-1", 12, [0] * 4 + [1] * 4),
        ("rocket-0", "rocket-1", 12, [1] * 4),
        ("rocket-0", "rocket-9", 4, [1, 2]),
        ("rocket-2", "rocket-9", 12, []),
        ("", "rocket-", 12, []),
    ],
)
def test_records_between_two_streams_are_those_that_there_were_at_a_head(
    database: Path, after: str, through: str, head: int, expected: list[int]
) -> None:
    with StoredRecords(database) as records:
        found = [each for page in records.between(after, through, Position(head)) for each in page]

    assert [each.stream for each in found] == [f"rocket-{each}" for each in expected]
    assert all(each.position <= head for each in found)


@pytest.mark.parametrize("position", [1, 250, 500])
def test_a_damaged_page_is_found_after_the_pages_before_it(tmp_path: Path, position: int) -> None:
    given = bodies(500)
    database = fill(tmp_path / "rockets.db", given)
    content = bytearray(database.read_bytes())
    place = content.index(given[position - 1]) // 4096 * 4096
    content[place : place + 8] = b"\xff" * 8
    database.write_bytes(content)

    found = []
    with StoredRecords(database) as records:
        with pytest.raises(RecordsDamaged, match=r"behind record \d+: .*malformed"):
            for page in records.by_position():
                found += page

    page_records = 4096 // len(given[0])
    assert position - page_records <= len(found) < position
    assert [each.body for each in found] == given[: len(found)]


def test_text_that_is_no_text_is_damage(database: Path) -> None:
    content = database.read_bytes()
    # Of the names beside the bodies, not inside of them.
    database.write_bytes(content.replace(b"rocket-1", b"\xff\xffcket-1"))

    with StoredRecords(database) as records, pytest.raises(RecordsDamaged):
        list(records.by_position())


def test_a_database_that_cannot_be_read_is_refused_in_one_line(tmp_path: Path) -> None:
    no_database = tmp_path / "text.db"
    no_database.write_text("no database at all, but long enough to be looked at " * 20)
    foreign = tmp_path / "foreign.db"
    newer = fill(tmp_path / "newer.db", [])
    for path, sql in ((foreign, "CREATE TABLE a (b)"), (newer, "PRAGMA user_version = 99")):
        connection = apsw.Connection(str(path))
        connection.execute(sql)
        connection.close()

    for path, part in (
        (tmp_path / "absent.db", "no such file"),
        (tmp_path, "no such file"),
        (no_database, "not a database"),
        (foreign, "not a database of Rockets"),
        (newer, "schema version 99"),
    ):
        with pytest.raises(JournalRefused, match=rf"^{path}: [^\n]*{part}[^\n]*$"):
            StoredRecords(path)
    assert not (tmp_path / "absent.db").exists()


def test_the_records_of_an_earlier_schema_are_the_same(database: Path) -> None:
    connection = apsw.Connection(str(database))
    connection.pragma("user_version", 1)
    connection.close()

    with StoredRecords(database) as records:
        assert [len(page) for page in records.by_position()] == [12]


def test_a_database_that_another_holds_is_refused_and_not_called_damaged(database: Path) -> None:
    holder = apsw.Connection(str(database))
    holder.execute("PRAGMA journal_mode = DELETE")
    with StoredRecords(database) as records:
        pages = records.by_position()
        records.connection.set_busy_timeout(0)
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(JournalRefused, match="another program holds it"):
            next(pages)
        holder.close()
