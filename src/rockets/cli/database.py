"""Which journal a command is about: unless it is told the one `rockets serve` would take.

Most commands are about a file; a journal on a server has the server's own in their place.
"""

import os
from pathlib import Path

import click
from msgspec.structs import replace

from rockets.settings import FIELDS, Settings, SettingsInvalid, read_settings

database_option = click.option(
    "--database",
    metavar="FILE",
    help="File of the journal; ROCKETS_DATABASE and the TOML file of ROCKETS_CONFIG as well."
    f"  [default: {FIELDS['database'].default}]",
)

journal_option = click.option(
    "--journal",
    metavar="ADDRESS",
    help="Server of the journal; ROCKETS_JOURNAL and the TOML file as well, which show a password "
    "to nobody else.",
)


def journal_settings(database: str | None, journal: str | None) -> Settings:
    """Return the settings that name the journal; a file where it is given by `--database`.

    Raises SettingsInvalid, also where both are given and contradict each other.
    """
    settings = read_settings({"database": database, "journal": journal}, os.environ)
    if database is None or settings.journal == "sqlite":
        return settings
    if journal is not None:
        raise SettingsInvalid(["--database is a file and --journal a server; give one of them"])
    return replace(settings, journal="sqlite")


def database_path(flag: str | None) -> Path:
    """Return the path by flag, environment, TOML file or default; raises SettingsInvalid."""
    settings = read_settings({"database": flag}, os.environ)
    if flag is None and settings.journal != "sqlite":
        kind = settings.journal_kind
        raise SettingsInvalid([f"the journal is in {kind}; this is for one in a file (--database)"])
    return Path(settings.database)
