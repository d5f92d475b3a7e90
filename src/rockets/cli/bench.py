"""`rockets bench`: measures the service beside its references, in one run and one table."""

import shutil
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import msgspec

from rockets.bench.cases import CASES, OF_ONE, OF_SHARED, needed
from rockets.bench.machine import look
from rockets.bench.measurements import MEASUREMENTS
from rockets.bench.page import PageUnmarked, fill
from rockets.bench.processes import find_cores
from rockets.bench.report import Report, circumstances, make_report, reference_rows
from rockets.bench.rounds import run_rounds
from rockets.bench.stand import Stand
from rockets.bench.stores import Kind, Stores
from rockets.bench.verdict import HEADINGS, cells, remarks
from rockets.cli.interrupts import EXIT_INTERRUPTED, end

ROUNDS = 5
SECONDS = 3
# Wide enough for the table where nobody sees it on a terminal.
FILE_WIDTH = 120

EXIT_MISSED = 1
EXIT_IMPOSSIBLE = 2


class CaseNames(click.ParamType[tuple[str, ...]]):
    """Names of cases with commas between them."""

    name = "name,..."

    def __init__(self, cases: Iterable[str]) -> None:
        self._cases = tuple(cases)

    def convert(
        self,
        value: str | tuple[str, ...],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> tuple[str, ...]:
        """Return the names, each once and in the order of the table, or say which is unknown."""
        names = tuple(value.split(",")) if isinstance(value, str) else value
        for name in names:
            if name not in self._cases:
                self.fail(f"{name!r} is no case; there are {', '.join(self._cases)}", param, ctx)
        return tuple(name for name in self._cases if name in names)


@click.command()
@click.option(
    "--rounds",
    type=click.IntRange(min=1, max=100),
    default=ROUNDS,
    show_default=True,
    help="How often everything is measured; the table has the medians.",
)
@click.option(
    "--seconds",
    type=click.IntRange(min=1, max=60),
    default=SECONDS,
    show_default=True,
    help="How long each measurement takes.",
)
@click.option(
    "--cases",
    type=CaseNames(CASES),
    default=(),
    help=f"Measure only these: {', '.join(CASES)}.",
)
@click.option(
    "--shared",
    is_flag=True,
    help="Measure what processes share: two workers on one file, PostgreSQL, Redis.",
)
@click.option(
    "--postgresql",
    metavar="URL",
    help="A server for --shared whose user may make databases; else one is started.",
)
@click.option("--redis", metavar="URL", help="The same for Redis.")
@click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path, dir_okay=False),
    default="bench.json",
    show_default=True,
    help="Where every round goes.",
)
@click.option(
    "--write",
    "page",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Also write the figures into this page; not with --cases.",
)
def bench(
    rounds: int,
    seconds: int,
    cases: tuple[str, ...],
    shared: bool,
    postgresql: str | None,
    redis: str | None,
    json_file: Path,
    page: Path | None,
) -> None:
    """Measure the service: messages and answers per second, beside what is possible here.

    Server and load have a core each, and both are for this run alone.
    Exits with 0 when every case reached its target, 1 when one did not or could not be measured,
    2 when a tool is missing, and 130 when interrupted.
    """
    wrk = _tools()
    # Like Ctrl-C it unwinds what runs, so that every process is ended.
    signal.signal(signal.SIGTERM, lambda signum, _frame: sys.exit(128 + signum))
    try:
        report = _measure(
            cases or tuple(OF_SHARED if shared else OF_ONE),
            rounds,
            seconds,
            wrk,
            _command(rounds, seconds, cases, shared=shared),
            _given(postgresql, redis),
        )
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    _show(report)
    try:
        json_file.write_bytes(report.encode())
        if page is not None and not cases:
            page.write_text(fill(page.read_text(), report, shared=shared))
    except (OSError, PageUnmarked) as error:
        end("bench", EXIT_IMPOSSIBLE, str(error))
    if page is not None and cases:
        click.echo(f"{page} was left as it is: these are not all cases", err=True)
    sys.exit(0 if report.passed else EXIT_MISSED)


def _tools() -> str:
    """Return where wrk is, or end where something is missing that only a benchmark needs."""
    wrk = shutil.which("wrk")
    if wrk is None:
        end("bench", EXIT_IMPOSSIBLE, "wrk is not installed; `make bench-tools` installs it")
    if find_spec("httptools") is None:
        missing = "httptools is not installed; `make bench` installs it with the test environment"
        end("bench", EXIT_IMPOSSIBLE, missing)
    return wrk


def _command(rounds: int, seconds: int, cases: Sequence[str], *, shared: bool) -> str:
    """Write the command without files and addresses, which only mean something on this machine."""
    chosen = f" --cases {','.join(cases)}" if cases else ""
    which = " --shared" if shared else ""
    return f"rockets bench{which} --rounds {rounds} --seconds {seconds}{chosen}"


def _given(postgresql: str | None, redis: str | None) -> Mapping[Kind, str]:
    named: dict[Kind, str | None] = {"postgresql": postgresql, "redis": redis}
    return {kind: address for kind, address in named.items() if address is not None}


def _measure(
    names: Sequence[str],
    rounds: int,
    seconds: int,
    wrk: str,
    command: str,
    given: Mapping[Kind, str],
) -> Report:
    started = datetime.now(UTC)
    cores = find_cores()
    with (
        TemporaryDirectory(prefix="rockets-bench-") as directory,
        Stores(Path(directory), given) as stores,
    ):
        stand = Stand(Path(directory), cores=cores, seconds=seconds, wrk=wrk, stores=stores)
        measured = run_rounds(
            {name: MEASUREMENTS[name] for name in needed(names)},
            stand,
            rounds=rounds,
            say=lambda line: click.echo(line, err=True),
        )
        machine = look(Path(directory), cores=cores, wrk=wrk)
        versions = {**machine.versions, **stores.versions}
    return make_report(
        names,
        measured,
        command=command,
        started=started,
        rounds=rounds,
        seconds=seconds,
        machine=msgspec.structs.replace(machine, versions=versions),
    )


def _show(report: Report) -> None:
    references = [
        (name, "", rate, "", f"p50 {p50}, p99 {p99}")
        for name, rate, p50, p99 in reference_rows(report)
    ]
    rows = [(cells(verdict), verdict.passed) for verdict in report.verdicts]
    show_table(HEADINGS, rows, references)
    for line in (*remarks(report.verdicts), *circumstances(report)):
        click.echo(line)


def show_table(
    headings: Sequence[str],
    rows: Iterable[tuple[Sequence[str], bool]],
    references: Sequence[Sequence[str]] = (),
) -> None:
    """Print rows of cells, each with whether it reached its target, and references below them."""
    # Imported here: rich takes longer to import than it takes to find a wrong option.
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else FILE_WIDTH, highlight=False)
    table = Table()
    for heading in headings:
        is_text = heading in {"case", "target", "reached"}
        table.add_column(heading, justify="left" if is_text else "right", no_wrap=True)
    for row, passed in rows:
        table.add_row(*row, style=None if passed else "bold red")
    if references:
        table.add_section()
    for row in references:
        table.add_row(*row, style="dim")
    console.print(table)
