"""`rockets export`: write every stored message as NDJSON, which `POST /messages` takes again."""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import click

from rockets.cli.database import database_option, journal_option, journal_settings
from rockets.cli.interrupts import EXIT_INTERRUPTED, end, terminated_like_interrupted
from rockets.cli.progress_line import ProgressLine
from rockets.cli.shared_records import SharedRecords
from rockets.cli.stored_records import Page, RecordsDamaged, StoredRecords
from rockets.cli.whole_file import whole_file
from rockets.domain.messages import normalize_channel
from rockets.journal import JournalRefused, Pruned
from rockets.settings import Settings, SettingsInvalid

EXIT_DAMAGED = 1
EXIT_IMPOSSIBLE = 2
EXIT_BROKEN_PIPE = 128 + 13  # as a shell tells it of a program that SIGPIPE has ended

PRUNED_SHOWN_MAX = 3

_WHITE_SPACE = b" \t\r\n"
_BREAKS_TO_SPACES = bytes.maketrans(b"\r\n", b"  ")


@click.command()
@database_option
@journal_option
@click.option("--channel", "channels", multiple=True, help="Only this rocket; may be repeated.")
@click.option("--by-rocket", is_flag=True, help="Sort by rocket and message number.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    default="-",
    help="File to write; it is replaced when all is written.  [default: standard output]",
)
def export(
    database: str | None,
    journal: str | None,
    channels: Sequence[str],
    by_rocket: bool,
    output: Path,
) -> None:
    """Write every stored message as NDJSON, one a line, in the order in which they were stored.

    Works beside a running service and gives what was stored at the start. Conflicts and refused
    bodies are not messages and are left out. Says which rockets miss messages because they were
    pruned.
    Exits with 0 when all is written, 1 when the journal is damaged, 2 when something asked for
    is impossible, and 130 when interrupted.
    """
    written = _Written()
    try:
        with terminated_like_interrupted():
            _export(journal_settings(database, journal), channels, by_rocket, output, written)
    except KeyboardInterrupt:
        end("export", EXIT_INTERRUPTED, f"interrupted after {written.messages} messages")
    except RecordsDamaged as damage:
        where = "were written" if written.part is None else f"are in {written.part}"
        end("export", EXIT_DAMAGED, f"{damage}; {written.messages} messages before that {where}")
    except BrokenPipeError:
        sys.exit(EXIT_BROKEN_PIPE)
    except SettingsInvalid as invalid:
        end("export", EXIT_IMPOSSIBLE, *invalid.problems)
    except (JournalRefused, OSError, ValueError) as error:
        end("export", EXIT_IMPOSSIBLE, str(error))


class _Written:
    """What has been written so far, and to which unfinished file."""

    messages = 0
    part: Path | None = None


def _export(
    settings: Settings, channels: Sequence[str], by_rocket: bool, output: Path, written: _Written
) -> None:
    streams = [_channel(text) for text in channels]
    database = Path(settings.database) if settings.journal == "sqlite" else None
    with SharedRecords(settings) if database is None else StoredRecords(database) as records:
        absent = [
            stream
            for stream in streams
            if not records.has(stream) and not any(records.pruned([stream]))
        ]
        if absent:
            where = settings.journal_kind if database is None else database
            raise ValueError(f"{where}: there is no message of {absent[0]}")
        pages = records.by_stream(streams) if by_rocket else records.by_position(streams)
        with _open_output(output, database, written) as file, ProgressLine() as progress:
            for page in pages:
                file.write(lines(page))
                file.flush()
                written.messages += len(page)
                progress.show(f"{written.messages:,} messages of at most {records.head:,}")
            # Asked last, so that what was pruned meanwhile is told as well.
            missing = _pruned(records.pruned(streams))
    place = "" if written.part is None else f" to {output}"
    click.echo(f"{written.messages} messages exported{place}", err=True)
    if missing:
        click.echo(f"rockets export: {missing}", err=True)


def _pruned(pruned: Iterable[Pruned]) -> str:
    """Say how many rockets miss messages, and of the first few which; empty where none does."""
    shown = []
    count = 0
    for each in pruned:
        count += 1
        if count <= PRUNED_SHOWN_MAX:
            shown.append(f"{each.stream} (1 to {each.through})")
    if not count:
        return ""
    rockets = "1 rocket misses" if count == 1 else f"{count:,} rockets miss"
    more = ", ..." if count > PRUNED_SHOWN_MAX else ""
    return f"{rockets} messages that were pruned: {', '.join(shown)}{more}"


def _channel(text: str) -> str:
    try:
        return normalize_channel(text)
    except ValueError:
        raise ValueError(f"{text!r} is not the name of a rocket") from None


def lines(page: Page) -> bytes:
    """Write records as lines, each as it was sent but for line breaks between its tokens."""
    return b"".join(_line(record.body) for record in page)


def _line(body: bytes) -> bytes:
    # JSON has no raw line breaks inside of strings, so each that is there is white space.
    return body.strip(_WHITE_SPACE).translate(_BREAKS_TO_SPACES) + b"\n"


@contextmanager
def _open_output(output: Path, database: Path | None, written: _Written) -> Iterator[BinaryIO]:
    if str(output) == "-":
        try:
            yield sys.stdout.buffer
        except OSError:
            # Python flushes standard output at its end, and would complain once more.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise
        return
    _refuse_output(output, database)
    with whole_file(output, keep_after=RecordsDamaged) as (file, part):
        written.part = part
        yield file


def _refuse_output(output: Path, database: Path | None) -> None:
    """Refuse to replace what is no export: the database itself, or a device."""
    endings = () if database is None else ("", "-wal", "-shm", ".lock")
    ours = [Path(f"{database}{ending}") for ending in endings]
    if output.resolve() in [path.resolve() for path in ours]:
        raise ValueError(f"{output} belongs to the database")
    if output.exists() and not output.is_file():
        raise ValueError(f"{output} is not a regular file")
