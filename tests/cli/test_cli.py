"""The table of commands, without running any."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from rockets.cli import COMMANDS, main


@pytest.mark.parametrize("arguments", [["--version"], ["version"]])
def test_the_version_is_printed(arguments: list[str]) -> None:
    assert CliRunner().invoke(main, arguments).output.startswith("rockets 0.")


@pytest.mark.parametrize("arguments", [["--help"], ["help"]])
def test_help_names_every_command(arguments: list[str]) -> None:
    output = CliRunner().invoke(main, arguments).output
    assert all(name in output for name in [*COMMANDS, "version"])


def test_an_unknown_command_is_refused() -> None:
    result = CliRunner().invoke(main, ["lunch"])
    assert (result.exit_code, "No such command" in result.output) == (2, True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "absent"),
    [
        ("launch", "quart"),
        ("verify", "quart"),
        ("serve", "rockets.cli.launch"),
        ("bench", "quart"),
        ("bench", "rich"),
        ("bench-scale", "quart"),
        ("bench-scale", "rich"),
        ("export", "quart"),
        ("import", "quart"),
        ("backup", "quart"),
    ],
)
def test_a_command_does_not_import_what_another_needs(command: str, absent: str) -> None:
    code = (
        "import sys; from rockets.cli import main;"
        f"main(['{command}', '--help'], standalone_mode=False);"
        f"assert '{absent}' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
