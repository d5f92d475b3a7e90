"""Which database a command is about: without `--database` the one `rockets serve` would take.

A journal on a server is none of these commands' business: its server has commands of its own.
"""

import os
from pathlib import Path

import click

from rockets.settings import FIELDS, SettingsInvalid, read_settings

database_option = click.option(
    "--database",
    metavar="FILE",
    help="File of the journal; ROCKETS_DATABASE and the TOML file of ROCKETS_CONFIG as well."
    f"  [default: {FIELDS['database'].default}]",
)


def database_path(flag: str | None) -> Path:
    """Return the path by flag, environment, TOML file or default; raises SettingsInvalid."""
    settings = read_settings({"database": flag}, os.environ)
    if flag is None and settings.journal != "sqlite":
        kind = settings.journal_kind
        raise SettingsInvalid([f"the journal is in {kind}; this is for one in a file (--database)"])
    return Path(settings.database)
