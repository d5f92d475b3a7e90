"""`rockets rebuild`: fold everything again, and report what the kept ledgers say otherwise."""

import sys
from contextlib import ExitStack, closing
from itertools import islice
from pathlib import Path

import apsw
import click

from rockets.cli.database import database_option, database_path
from rockets.cli.interrupts import EXIT_INTERRUPTED, end, terminated_like_interrupted
from rockets.cli.progress_line import ProgressLine
from rockets.cli.refold import Refold, refolded
from rockets.cli.stored_ledgers import damaged_rounds
from rockets.cli.stored_records import RecordsDamaged, StoredRecords
from rockets.domain.ledger import RULES, Ledger
from rockets.journal import (
    Journal,
    JournalError,
    JournalHeld,
    JournalRefused,
    LedgerRecord,
    Round,
    SqliteJournal,
)
from rockets.settings import SettingsInvalid

EXIT_DIFFERENT = 1
EXIT_IMPOSSIBLE = 2

LINES_MAX = 100
# A value of a rocket may list a hundred gaps.
LINE_CHARACTERS_MAX = 400

LEDGERS_AT_ONCE = 1_000


@click.command()
@database_option
@click.option("--check-only", is_flag=True, help="Report only, and replace nothing.")
def rebuild(database: str | None, check_only: bool) -> None:
    """Fold every rocket from its messages and compare it with what is kept for the next start.

    Where they differ, all that is kept is replaced, unless a service works on the database.
    Exits with 0 when all is equal, 1 when something differs or is damaged, 2 when something asked
    for is impossible, and 130 when interrupted.
    """
    try:
        with terminated_like_interrupted():
            sys.exit(_rebuild(database_path(database), check_only))
    except KeyboardInterrupt:
        end("rebuild", EXIT_INTERRUPTED, "interrupted")
    except SettingsInvalid as invalid:
        end("rebuild", EXIT_IMPOSSIBLE, *invalid.problems)
    except (JournalRefused, OSError) as error:
        end("rebuild", EXIT_IMPOSSIBLE, str(error))
    except apsw.BusyError as error:
        end("rebuild", EXIT_IMPOSSIBLE, f"another program holds the database: {error}")
    except (JournalError, RecordsDamaged, apsw.Error) as error:
        end("rebuild", EXIT_DIFFERENT, str(error))


class _Report:
    """Prints the first lines and counts the others."""

    def __init__(self) -> None:
        self._lines = 0

    def add(self, line: str) -> None:
        self._lines += 1
        if self._lines <= LINES_MAX:
            short = len(line) <= LINE_CHARACTERS_MAX
            click.echo(line if short else f"{line[:LINE_CHARACTERS_MAX]} ...")

    def end(self) -> None:
        if self._lines > LINES_MAX:
            click.echo(f"and {self._lines - LINES_MAX} more")


def _rebuild(database: Path, check_only: bool) -> int:
    """Compare, and replace what has to be and may be; gives the exit code."""
    with StoredRecords(database):
        pass  # what is no database is refused before anything is locked or made
    with ExitStack() as opened:
        journal, why_not = None, "as was asked"
        try:
            if not check_only:
                # Nobody else opens it from now on, so nothing changes between two reads.
                journal = opened.enter_context(closing(SqliteJournal(database)))
        except JournalHeld as held:
            why_not = str(held)
        records = opened.enter_context(StoredRecords(database))
        progress = opened.enter_context(ProgressLine())
        refold = _compare(records, progress)
        if not (refold.differences or refold.damaged or refold.records_damaged):
            return 0
        if refold.records_damaged:
            # Of a damaged message a kept ledger may be all that is left.
            journal, why_not = None, "messages are damaged"
        if journal is None:
            click.echo(f"nothing is replaced: {why_not}")
        else:
            replaced = _replace(journal, records, progress)
            click.echo(f"{replaced} ledgers written anew")
    return EXIT_DIFFERENT


def _compare(records: StoredRecords, progress: ProgressLine) -> Refold:
    report = _Report()
    refold = Refold(
        records,
        report=report.add,
        watch=lambda at: progress.show(
            f"{at.rockets:,} rockets compared, {at.messages:,} messages of at most {records.head:,}"
        ),
    )
    for _ in range(damaged_rounds(records.connection)):
        refold.found_damage("a round is damaged")
    refold.run()
    report.end()
    for name, count in (
        ("rockets", refold.rockets),
        ("messages", refold.messages),
        ("kept ledgers", refold.kept),
        ("damaged", refold.damaged + refold.records_damaged),
        ("differences", refold.differences),
    ):
        click.echo(f"{name:<12} {count:>10}")
    return refold


def _replace(journal: Journal, records: StoredRecords, progress: ProgressLine) -> int:
    """Write a new whole round in place of all ledgers; gives how many there are now.

    If it is interrupted, there is no round, and the next start folds everything.
    """
    journal.drop_ledgers()
    conflicts = journal.count_notes("conflict")
    count = 0
    ledgers = refolded(records)
    while some := [_record(ledger, conflicts) for ledger in islice(ledgers, LEDGERS_AT_ONCE)]:
        journal.keep_ledgers(some)
        if journal.maintenance_due:
            journal.prepare_maintenance()
            journal.maintain()
        count += len(some)
        progress.show(f"{count:,} ledgers written")
    journal.end_round(Round(journal.head(), str(RULES), count))
    return count


def _record(ledger: Ledger, conflicts: dict[str, int]) -> LedgerRecord:
    ledger.conflicts = conflicts.get(ledger.channel, 0)
    return LedgerRecord(ledger.channel, ledger.pack())
