"""`rockets rebuild`: what is kept is held against the messages, reported and made anew."""

import signal
import tempfile
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

import apsw
import pytest
import trio
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from rockets.actors.part import AwaitedPart
from rockets.actors.waiting import FleetUnavailable
from rockets.cli import main, stored_ledgers
from rockets.cli.progress_line import ProgressLine
from rockets.cli.rebuild import LINE_CHARACTERS_MAX, LINES_MAX
from rockets.cli.refold import Refold
from rockets.cli.stored_records import StoredRecords
from rockets.domain.ledger import RULES
from rockets.domain.messages import Message
from rockets.journal import (
    LedgerRecord,
    Position,
    Pruned,
    Record,
    Round,
    SqliteJournal,
    sql_rows,
    sqlite_pruned,
)
from tests.cli.databases import flip, run_command
from tests.cli.kept_ledgers import edit, launched, packed, plant, serve, service
from tests.helpers import Client, body, connected, get, message, post, serving

ROCKETS = ["rocket-1", "rocket-2", "rocket-3"]
MESSAGES = [each for channel in ROCKETS for each in launched(channel, 500, 4)]
LATER = [message("rocket-2", 5, by=1), message("rocket-4", 1, by=1)]


def rebuild(path: Path, *words: str) -> Result:
    """Run `rockets rebuild` in this process."""
    return CliRunner().invoke(main, ["rebuild", "--database", str(path), *words])


def told(result: Result) -> tuple[int, list[str], dict[str, int]]:
    """The exit code, the lines beside the table, and the table."""
    lines = result.stdout.splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("rockets "))
    table = {line[:12].strip(): int(line[12:]) for line in lines[start : start + 5]}
    return result.exit_code, lines[:start] + lines[start + 5 :], table


def counts(*, damaged: int = 0, differences: int = 0, kept: int = 3) -> dict[str, int]:
    return {
        "rockets": 4,
        "messages": 14,
        "kept ledgers": kept,
        "damaged": damaged,
        "differences": differences,
    }


def kept(path: Path) -> dict[str, bytes | None]:
    with closing(SqliteJournal(path, durability="normal")) as journal:
        return {each.stream: each.data for each in journal.ledgers("", limit=99)}


@pytest.fixture
async def database(tmp_path: Path) -> Path:
    """Three rockets with kept ledgers, and messages behind the round."""
    return await serve(tmp_path / "rockets.db", MESSAGES, LATER)


EVERYTHING = {
    "rocket-1": packed(*MESSAGES[:4]),
    "rocket-2": packed(*MESSAGES[4:8], LATER[0]),
    "rocket-3": packed(*MESSAGES[8:]),
    "rocket-4": packed(LATER[1]),
}


async def test_where_all_is_equal_nothing_is_replaced(database: Path) -> None:
    before = kept(database)

    assert told(rebuild(database)) == (0, [], counts())

    assert kept(database) == before


PLANTED = {
    "wrong": (
        "rocket-1",
        packed(*launched("rocket-1", 400, 4)),
        ["speed: kept 403, folded 503", "launchSpeed: kept 400, folded 500"],
    ),
    "wrong where more came": (
        "rocket-2",
        packed(*launched("rocket-2", 500, 3)),
        [
            "speed: kept 503, folded 504",
            "settledThrough: kept 3, folded 5",
            "received: kept 4, folded 5",
            "missingCount: kept 1, folded 0",
            "missing: kept [[4,4]], folded []",
            "complete: kept false, folded true",
            "settled speed: kept 502, folded 504",
            "settled lastMessageNumber: kept 3, folded 5",
        ],
    ),
    "extra": (
        "rocket-x",
        packed(*launched("rocket-x", 1, 2)),
        ["ledger: kept one, folded no message"],
    ),
}


@pytest.mark.parametrize(("channel", "data", "lines"), PLANTED.values(), ids=PLANTED)
async def test_a_wrong_ledger_is_reported_field_by_field_and_replaced(
    database: Path, channel: str, data: bytes, lines: list[str]
) -> None:
    plant(database, channel, data)
    extra = channel not in EVERYTHING

    expected = [f"{channel}: {line}" for line in lines]
    expected_counts = counts(differences=len(lines), kept=3 + extra)
    assert told(rebuild(database)) == (
        1,
        [*expected, "4 ledgers written anew"],
        expected_counts,
    )

    assert kept(database) == EVERYTHING
    assert told(rebuild(database)) == (0, [], counts(kept=4))


async def test_a_difference_that_no_view_shows_is_reported_as_bytes(tmp_path: Path) -> None:
    # Behind a gap it is not known yet whether the rocket has been launched.
    path = await serve(tmp_path / "a.db", [message("rocket-1", 2, by=5)])
    wrong = packed(message("rocket-1", 2, by=6))
    plant(path, "rocket-1", wrong)

    code, [line, _], _ = told(rebuild(path))

    right = packed(message("rocket-1", 2, by=5))
    assert code == 1
    assert line == f"rocket-1: packed ledger: kept {wrong.hex()}, folded {right.hex()}"


BROKEN = {
    "damaged": (
        "UPDATE ledgers SET data = x'01' WHERE stream = 'rocket-1'",
        ["rocket-1: the kept ledger is damaged"],
        counts(damaged=1),
    ),
    "under another name": (
        "UPDATE ledgers SET stream = 'rocket-x' WHERE stream = 'rocket-3'",
        [
            "rocket-3: ledger: kept nothing, folded 4 messages",
            "rocket-x: the kept ledger is damaged",
        ],
        counts(damaged=1, differences=1),
    ),
    "missing": (
        "DELETE FROM ledgers WHERE stream IN ('rocket-1', 'rocket-2')",
        [
            "rocket-1: ledger: kept nothing, folded 4 messages",
            "rocket-2: ledger: kept nothing, folded 5 messages",
        ],
        counts(differences=2, kept=1),
    ),
    "a name that is none": (
        "UPDATE ledgers SET stream = CAST(x'ff' AS TEXT) WHERE stream = 'rocket-1'",
        ["the kept ledgers cannot be read: the ledgers behind '' cannot be read: 'utf-8' codec"
         " can't decode byte 0xff in position 0: invalid start byte"],
        counts(damaged=1, kept=0),
    ),
    "a round": (
        "UPDATE rounds SET ledgers = 2",
        ["a round is damaged"],
        counts(damaged=1, kept=0),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("sql", "lines", "table"), BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("check_only", [True, False])
async def test_what_is_damaged_or_missing_is_reported_and_replaced(
    database: Path, sql: str, lines: list[str], table: dict[str, int], check_only: bool
) -> None:
    edit(database, sql)

    result = told(rebuild(database, *["--check-only"] * check_only))

    end = "nothing is replaced: as was asked" if check_only else "4 ledgers written anew"
    assert result == (1, [*lines, end], table)
    if check_only:
        assert told(rebuild(database, "--check-only")) == result
    else:
        assert kept(database) == EVERYTHING
        assert told(rebuild(database)) == (0, [], counts(kept=4))


@pytest.mark.parametrize("data", [b"", bytes((RULES + 1,)) + packed(*MESSAGES[:4])[1:]])
async def test_a_ledger_that_the_next_start_does_not_take_is_no_difference(
    database: Path, data: bytes
) -> None:
    plant(database, "rocket-1", data)

    assert told(rebuild(database)) == (0, [], counts())


async def test_a_ledger_that_is_none_is_damaged_although_its_checksum_fits(database: Path) -> None:
    plant(database, "rocket-1", bytes((RULES, 0)) + b"none")

    code, lines, _ = told(rebuild(database))

    assert (code, lines[0]) == (1, "rocket-1: the kept ledger is damaged")
    assert kept(database) == EVERYTHING


@pytest.mark.parametrize("rules", [None, str(RULES + 1)])
async def test_without_a_usable_round_a_start_folds_all_and_nothing_is_wrong(
    database: Path, rules: str | None
) -> None:
    edit(database, "DELETE FROM rounds")
    if rules is not None:
        with closing(SqliteJournal(database)) as journal:
            journal.end_round(Round(journal.head(), rules, 3))
    plant(database, "rocket-1", packed(*launched("rocket-1", 400, 4)))

    assert told(rebuild(database)) == (0, [], counts(kept=0))


def test_a_database_from_before_ledgers_has_none(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    with closing(SqliteJournal(path)) as journal:
        journal.append([Record("rocket-1", 1, body("rocket-1", 1), 1)])
    edit(path, "DROP TABLE ledgers; DROP TABLE rounds; DROP TABLE pruned; PRAGMA user_version = 1")

    code, lines, table = told(rebuild(path, "--check-only"))

    assert (code, lines, table["rockets"], table["kept ledgers"]) == (0, [], 1, 0)


async def test_the_start_after_it_applies_nothing_and_shows_the_right_rockets(
    database: Path,
) -> None:
    plant(database, "rocket-1", packed(*launched("rocket-1", 400, 4)))
    rebuild(database)

    with closing(SqliteJournal(database)) as journal:
        assert journal.rounds() == [Round(Position(14), str(RULES), 4)]
        async with service(journal) as (fleet, _):
            assert not fleet.read_model.changed
            rocket = fleet.read_model.rocket(MESSAGES[0].channel)
    assert rocket is not None
    assert rocket.speed == 503


async def test_ledgers_written_anew_count_conflicts(tmp_path: Path) -> None:
    sent = [message("rocket-1", 1, by=1), message("rocket-1", 1, by=2), message("rocket-2", 1)]
    path = await serve(tmp_path / "a.db", sent)
    plant(path, "rocket-2", packed(message("rocket-2", 1, by=9), message("rocket-2", 2)))

    assert rebuild(path).exit_code == 1

    with closing(SqliteJournal(path)) as journal:
        async with service(journal) as (fleet, _):
            assert not fleet.read_model.changed
            rocket = fleet.read_model.rocket(sent[0].channel)
    assert rocket is not None
    assert rocket.anomalies == 2  # the conflict, and a speed before the launch


@pytest.mark.parametrize(("over", "more"), [(-1, []), (0, []), (1, ["and 1 more"])])
async def test_a_hundred_lines_are_shown(database: Path, over: int, more: list[str]) -> None:
    with closing(SqliteJournal(database, durability="normal")) as journal:
        names = [f"rocket-x{number:03}" for number in range(LINES_MAX + over)]
        journal.keep_ledgers([LedgerRecord(name, packed(message(name, 1))) for name in names])

    _, lines, table = told(rebuild(database, "--check-only"))

    shown = [f"{name}: ledger: kept one, folded no message" for name in names[:LINES_MAX]]
    assert lines == [*shown, *more, "nothing is replaced: as was asked"]
    assert table["differences"] == LINES_MAX + over


async def test_a_line_stays_a_line_of_some_length(tmp_path: Path) -> None:
    path = await serve(tmp_path / "a.db", [message("rocket-1", number) for number in (2, 4)])
    plant(path, "rocket-1", packed(*[message("rocket-1", number) for number in range(2, 201, 2)]))

    _, lines, _ = told(rebuild(path))

    [line] = [line for line in lines if line.startswith("rocket-1: missing: ")]
    assert len(line) == LINE_CHARACTERS_MAX + len(" ...")


# Damaged messages


@pytest.mark.parametrize(
    ("damaged", "position"), [(MESSAGES[0], 1), (MESSAGES[5], 6), (LATER[0], 13)]
)
async def test_a_damaged_message_is_named_the_other_rockets_are_compared_and_all_is_left(
    database: Path, damaged: Message, position: int
) -> None:
    plant(database, "rocket-3", packed(*launched("rocket-3", 400, 4)))
    before = kept(database)
    flip(database, damaged.body)

    result = rebuild(database)

    code, lines, table = told(result)
    assert code == 1
    assert lines == [
        f"{database}: record {position} of {damaged.channel} does not match its checksum",
        "rocket-3: speed: kept 403, folded 503",
        "rocket-3: launchSpeed: kept 400, folded 500",
        "nothing is replaced: messages are damaged",
    ]
    assert (table["damaged"], table["differences"]) == (1, 2)
    assert kept(database) == before


async def test_each_damaged_message_of_another_rocket_is_named(database: Path) -> None:
    for each in (MESSAGES[2], MESSAGES[4], LATER[1]):
        flip(database, each.body)

    code, lines, table = told(rebuild(database))

    assert (code, len(lines), table["damaged"], table["differences"]) == (1, 4, 3, 0)
    assert [line.split(" ")[2] for line in lines[:3]] == ["3", "5", "14"]


# Pruned


def prune(path: Path, channel: str, speed: int, through: int) -> None:
    """Prune a rocket of the database as retention does."""
    base = packed(*launched(channel, speed, through))
    with closing(SqliteJournal(path)) as journal:
        assert journal.prune([Pruned(channel, through, base)], limit=9) == through


async def test_a_pruned_rocket_is_folded_from_its_base(database: Path) -> None:
    prune(database, "rocket-2", 500, 2)

    code, lines, table = told(rebuild(database))

    assert (code, lines, table["differences"]) == (0, [], 0)


async def test_a_wrong_ledger_of_a_pruned_rocket_is_found_and_replaced(database: Path) -> None:
    prune(database, "rocket-2", 500, 2)
    plant(database, "rocket-2", packed(*launched("rocket-2", 400, 2)))

    first, _, table = told(rebuild(database))
    again, lines, _ = told(rebuild(database))

    assert (first, table["differences"] > 0, again, lines) == (1, True, 0, [])


async def test_a_missing_ledger_of_a_pruned_rocket_is_found(database: Path) -> None:
    prune(database, "rocket-2", 500, 2)
    edit(database, "DELETE FROM ledgers WHERE stream = 'rocket-2'")

    code, lines, _ = told(rebuild(database))

    assert code == 1
    assert lines[0].startswith("rocket-2: ledger: kept nothing")


async def test_a_rocket_that_is_pruned_meanwhile_is_not_compared(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pruned = False

    def show(_: ProgressLine, text: str) -> None:
        nonlocal pruned
        if not pruned:  # the slice has been read, and rocket-2 comes later
            pruned = True
            edit(database, "DELETE FROM records WHERE stream = 'rocket-2' AND number <= 2")
            base = Pruned("rocket-2", 2, packed(*launched("rocket-2", 500, 2)))
            mark = sql_rows.pruned_mark(base)
            with closing(apsw.Connection(str(database))) as connection:
                row = (base.stream, base.through, base.base, mark)
                connection.execute(sqlite_pruned.REMEMBER, row)

    monkeypatch.setattr(ProgressLine, "show", show)

    code, lines, table = told(rebuild(database, "--check-only"))

    assert (code, table["differences"]) == (0, 0)
    assert lines == ["1 rockets are not compared: pruned meanwhile"]


# Refused, held, interrupted


def test_a_database_that_is_not_there_is_refused_and_not_made(tmp_path: Path) -> None:
    result = rebuild(tmp_path / "absent.db")

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.endswith("absent.db: there is no such file\n")
    assert list(tmp_path.iterdir()) == []


async def test_beside_a_service_it_only_reports_and_says_so(database: Path) -> None:
    plant(database, "rocket-1", packed(*launched("rocket-1", 400, 4)))
    before = kept(database)
    with closing(SqliteJournal(database)):
        code, lines, _ = told(rebuild(database))

    assert (code, len(lines)) == (1, 3)
    assert lines[2].startswith("nothing is replaced: ")
    assert "held by process" in lines[2]
    assert kept(database) == before


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
async def test_an_interrupted_comparison_changes_nothing(
    database: Path, monkeypatch: pytest.MonkeyPatch, signum: signal.Signals
) -> None:
    plant(database, "rocket-1", packed(*launched("rocket-1", 400, 4)))
    before = kept(database)
    show = "rockets.cli.progress_line.ProgressLine.show"
    monkeypatch.setattr(show, lambda _, text: signal.raise_signal(signum))

    result = rebuild(database)

    assert (result.exit_code, result.stderr) == (130, "rockets rebuild: interrupted\n")
    assert kept(database) == before


async def test_an_interrupted_replacement_leaves_no_round_and_the_start_folds_all(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(database, "rocket-1", packed(*launched("rocket-1", 400, 4)))

    def show(_: object, text: str) -> None:
        if "written" in text:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("rockets.cli.progress_line.ProgressLine.show", show)
    assert rebuild(database).exit_code == 130

    with closing(SqliteJournal(database)) as journal:
        assert journal.rounds() == []
        async with service(journal) as (fleet, _):
            rocket = fleet.read_model.rocket(MESSAGES[0].channel)
    assert rocket is not None
    assert rocket.speed == 503


# Beside a service


def found(path: Path) -> list[str]:
    """Everything that is different or damaged at this moment."""
    lines: list[str] = []
    with StoredRecords(path) as records:
        Refold(records, report=lines.append, watch=lambda _: None).run()
    return lines


CHANNELS = [f"rocket-{each}" for each in range(5)]
MESSAGE = st.tuples(st.sampled_from(CHANNELS), st.integers(1, 9), st.integers(1, 2))
STEP = st.one_of(
    MESSAGE, MESSAGE, MESSAGE, st.sampled_from(["round", "turn", "compare", "compare"])
)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(lives=st.lists(st.lists(STEP, max_size=25), max_size=3), clean=st.booleans())
async def test_whatever_came_and_whenever_rounds_were_made_nothing_is_different(
    lives: Sequence[Sequence[object]], clean: bool
) -> None:
    """Rounds run beside messages, and the comparison may come at any turn of them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rockets.db"
        SqliteJournal(path, durability="normal").close()
        for steps in lives:
            with closing(SqliteJournal(path, durability="normal")) as journal:
                async with service(journal) as (fleet, checkpoints):
                    async with trio.open_nursery() as nursery:
                        for step in steps:
                            if step == "round":
                                await wait_all_tasks_blocked()
                                nursery.start_soon(checkpoints.round)
                            elif step == "compare":
                                assert found(path) == []
                            elif isinstance(step, tuple):
                                channel, number, by = step
                                part = AwaitedPart([message(channel, number, by=by)], 1)
                                with suppress(FleetUnavailable):
                                    await fleet.post(part.messages[0].channel, part)
                            else:
                                await trio.lowlevel.checkpoint()
                    if clean:
                        await checkpoints.round()
            assert told(rebuild(path))[:2] == (0, [])


@pytest.mark.parametrize("slice_ledgers", [1, 2, 3])
async def test_what_comes_while_it_compares_is_no_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slice_ledgers: int
) -> None:
    """After each rocket every rocket gets a message, new ones come, and a round is made."""
    monkeypatch.setattr(stored_ledgers, "SLICE_LEDGERS", slice_ledgers)
    path = tmp_path / "rockets.db"
    lines: list[str] = []
    done = 0
    with closing(SqliteJournal(path, durability="normal")) as journal:
        async with service(journal) as (fleet, checkpoints):
            await fleet.ask_all(MESSAGES, received_at=1)
            await checkpoints.round()

        def go_on(refold: Refold) -> None:
            nonlocal done
            done += 1
            if done > 20:
                return  # else there would be another one to compare for ever
            channels = [*ROCKETS, f"rocket-0{done}", f"rocket-2{done}", f"rocket-4{done}"]
            sent = [message(channel, 4 + done) for channel in channels]
            journal.append([Record(each.channel, each.number, each.body, 1) for each in sent])
            stored = {
                each: [message(each, r.number) if r.number > 4 else MESSAGES[r.number - 1]
                       for r in journal.read(each, 1, 99, limit=99)]
                for each in channels
            }  # fmt: skip
            ledgers = [LedgerRecord(each, packed(*stored[each])) for each in channels]
            journal.keep_ledgers(ledgers)
            journal.end_round(Round(journal.head(), str(RULES), 3 + 3 * done))

        with StoredRecords(path) as records:
            refold = Refold(records, report=lines.append, watch=go_on)
            refold.run()

    assert lines == []
    assert (done > 20) == (slice_ledgers < 3)


@pytest.mark.slow
async def test_beside_a_real_service_that_ingests_nothing_is_different(tmp_path: Path) -> None:
    number = 0

    async def ingest(client: Client) -> None:
        nonlocal number
        while True:
            number += 1
            batch = b"\n".join(body(f"rocket-{each}", number) for each in range(300))
            reply = await client.ask(post(batch, "Content-Type: application/x-ndjson"))
            assert reply.json["problems"] == []

    flags = ("--checkpoint-records", "300")
    words = ("rebuild", "--database", str(tmp_path / "rockets.db"))
    async with serving(tmp_path, *flags) as server, connected(server.port) as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ingest, client)
            for _ in range(3):
                ended = await run_command(*words)
                assert (ended.returncode, ended.stderr) == (0, b"")
            nursery.cancel_scope.cancel()
        assert number > 3
        assert server.events("checkpoint")
        await server.kill()

    ended = await run_command(*words)
    assert ended.returncode == 0, ended.stdout
    edit(tmp_path / "rockets.db", "UPDATE ledgers SET data = x'00' WHERE stream = 'rocket-7'")
    ended = await run_command(*words)
    assert ended.returncode == 1
    assert b"rocket-7: the kept ledger is damaged\n" in ended.stdout
    assert b"300 ledgers written anew\n" in ended.stdout
    async with serving(tmp_path) as server, connected(server.port) as client:
        rocket = await client.ask(get("/rockets/rocket-7"))
        assert server.events("ledgers_recovered")[-1]["records"] == 0
    assert rocket.status == 200
