"""`rockets backup`: copy the database of a running service."""

from contextlib import closing
from pathlib import Path

import click

from rockets.cli.database import database_option, database_path
from rockets.cli.interrupts import EXIT_INTERRUPTED, end, terminated_like_interrupted
from rockets.cli.progress_line import ProgressLine
from rockets.cli.stored_records import RecordsDamaged, StoredRecords
from rockets.journal import JournalError
from rockets.journal import backup as copy
from rockets.settings import SettingsInvalid

EXIT_FAILED = 1


@click.command()
@database_option
@click.argument("target", type=click.Path(path_type=Path))
def backup(database: str | None, target: Path) -> None:
    """Copy the database to TARGET, also while a service works on it.

    The copy holds everything that was acknowledged before the start, is checked, and starts a
    service as it is. A file that exists is never overwritten.
    Exits with 0 when the copy is there and sound, 1 when not, and 130 when interrupted.
    """
    try:
        source = database_path(database)
        with terminated_like_interrupted(), ProgressLine() as progress:
            _copy(source, target, progress)
            messages = _count_sound(target, progress)
    except KeyboardInterrupt:
        left = f"{target} is there, but not checked" if target.exists() else "there is no copy"
        end("backup", EXIT_INTERRUPTED, f"interrupted; {left}")
    except RecordsDamaged as damage:
        end("backup", EXIT_FAILED, f"{source} is damaged, and so is its copy: {damage}")
    except SettingsInvalid as invalid:
        end("backup", EXIT_FAILED, *invalid.problems)
    except (JournalError, OSError) as error:
        end("backup", EXIT_FAILED, str(error))
    click.echo(f"{source} copied to {target}: {messages} messages, {target.stat().st_size} bytes")


def _copy(source: Path, target: Path, progress: ProgressLine) -> None:
    with closing(copy(source, target)) as steps:
        for step in steps:
            progress.show(f"{step.copied:,} of {step.total:,} pages copied")


def _count_sound(target: Path, progress: ProgressLine) -> int:
    """Hold every record of the copy against its checksum; returns how many there are."""
    messages = 0
    with StoredRecords(target, unchanging=True) as records:
        for page in records.by_position():
            messages += len(page)
            progress.show(f"{messages:,} messages checked")
    return messages
