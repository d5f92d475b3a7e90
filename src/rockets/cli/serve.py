"""`rockets serve`: run the service."""

import fcntl
import gc
import os
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import IO, Any, NoReturn

import click
import structlog
import trio

from rockets.cli.interrupts import end
from rockets.journal.absence import JournalAbsent
from rockets.journal.base import JournalRefused
from rockets.server import serve as serve_alone
from rockets.settings import FIELDS, Settings, SettingsInvalid, read_settings
from rockets.stopping import EXIT_ABSENT, EXIT_REFUSED, ServeRefused
from rockets.telemetry import set_up_logs
from rockets.workers import serve_workers

log = structlog.get_logger()


def _options(command: Callable[..., None]) -> Callable[..., None]:
    """Give the command one option for each setting; `settings` has their defaults and bounds."""
    for name, field in reversed(FIELDS.items()):
        description = _description(name)
        flag = f"--{name.replace('_', '-')}"
        if isinstance(field.default, bool):
            # What is on by default gets a flag that turns it off, and the other way round.
            flag = flag if field.default is False else f"{flag}/--no-{flag.removeprefix('--')}"
            command = click.option(flag, name, is_flag=True, default=None, help=description)(
                command
            )
        else:
            help_text = f"{description}  [default: {field.default}]"
            command = click.option(flag, name, metavar="VALUE", help=help_text)(command)
    return command


def _description(name: str) -> str:
    [meta] = Settings.__annotations__[name].__metadata__
    return str(meta.description)


@click.command()
@click.option("--config", metavar="FILE", help="TOML file with settings; ROCKETS_CONFIG as well.")
@_options
def serve(config: str | None, **flags: Any) -> None:
    """Run the service until SIGTERM or Ctrl-C.

    Every option is also a variable ROCKETS_<NAME> and a key of the TOML file.
    """
    try:
        settings = read_settings(flags, os.environ, config=config)
    except SettingsInvalid as invalid:
        end("serve", EXIT_REFUSED, *invalid.problems)
    set_up_logs(settings.log_level)
    run(partial(_serve, settings))


async def _serve(settings: Settings) -> int:
    if settings.fresh and settings.durability != "memory":
        _move_aside(Path(settings.database))
    if settings.workers > 1:
        return await serve_workers(settings, started=_say_started)
    return await serve_alone(settings, started=_say_started)


def run(serving: Callable[[], Awaitable[int]]) -> NoReturn:
    """Run a server and exit with its code, or with one line where it was refused."""
    _tune_interpreter()
    try:
        code = trio.run(serving)
    except BaseExceptionGroup as group:
        # Start order is nested nurseries, so a refusal arrives wrapped.
        refused, rest = group.split((JournalRefused, ServeRefused))
        if rest is not None or refused is None:
            raise
        _refuse(*_leaves(refused))
    except (JournalRefused, ServeRefused) as refusal:
        _refuse(refusal)
    sys.exit(code)


def _refuse(*refusals: BaseException) -> NoReturn:
    """Say why it does not start; by the code a service manager knows whether to try again."""
    absent = any(isinstance(each, JournalAbsent) for each in refusals)
    end("serve", EXIT_ABSENT if absent else EXIT_REFUSED, *map(str, refusals))


def _tune_interpreter() -> None:
    """Set the interpreter up for a process that does one thing and holds much for long."""
    # What is loaded by now never becomes garbage, and of what comes nearly all goes by its count:
    # a full collection only walks over every live rocket. (Measured: 10 % where all are new.)
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    # The writing thread needs the interpreter several times a commit, for microseconds each, and
    # asks for it so long before the loop must give it up. (Measured: 10 % with 64 connections.)
    sys.setswitchinterval(0.0005)


def _say_started(url: str) -> None:
    click.echo(f"Rockets is listening on {url}")
    sys.stdout.flush()


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    """Take an exception group apart."""
    leaves: list[BaseException] = []
    for error in group.exceptions:
        leaves += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return leaves


def _move_aside(database: Path) -> None:
    """Rename an old database with its log, so that nothing is lost by `--fresh`.

    Raises ServeRefused where a server works on it, or where it cannot be moved.
    """
    if not database.exists():
        return
    try:
        with Path(f"{database}.lock").open("a+") as lock:
            _refuse_held(database, lock)
            moved = _unused_name(database)
            for ending in ("", "-wal", "-shm"):
                old = Path(f"{database}{ending}")
                if old.exists():
                    old.rename(f"{moved}{ending}")
    except OSError as error:
        raise ServeRefused(f"cannot move {database} aside: {error}") from error
    log.info("journal_moved", old=str(database), to=str(moved))


def _refuse_held(database: Path, lock: IO[str]) -> None:
    """Take the journal's lock, or refuse with the pid that the holder has written into it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        holder = lock.read(20).strip() or "unknown"
        raise ServeRefused(f"{database}: held by process {holder}") from None


def _unused_name(database: Path) -> Path:
    """Name the moved database by the time; two starts within a second get two names."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    names = (Path(f"{database}.{stamp}{extra}") for extra in ("", *(f"-{n}" for n in range(2, 99))))
    return next(name for name in names if not name.exists())
