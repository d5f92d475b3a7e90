"""Which database a command is about: without `--database` the one `rockets serve` would take."""

import os
from pathlib import Path

import click

from rockets.settings import FIELDS, read_settings

database_option = click.option(
    "--database",
    metavar="FILE",
    help="File of the journal; ROCKETS_DATABASE and the TOML file of ROCKETS_CONFIG as well."
    f"  [default: {FIELDS['database'].default}]",
)


def database_path(flag: str | None) -> Path:
    """Return the path by flag, environment, TOML file or default; raises SettingsInvalid."""
    return Path(read_settings({"database": flag}, os.environ).database)
