"""The page for operators is true: every example does what it shows, every option is named."""

import re
import shlex
import sys
from pathlib import Path

import click
import pytest
import trio

from rockets.cli import main
from rockets.settings import FIELDS
from rockets.web.problems import PROBLEMS
from tests.helpers import body, connected, post, serving

PAGE = (Path(__file__).resolve().parents[2] / "docs/operations.md").read_text()
COMMANDS = ("backup", "export", "import", "rebuild")
EXAMPLES = [
    example.partition("\n")
    for block in re.findall(r"(?ms)^```console\n(.*?)^```$", PAGE)
    for example in re.split(r"(?m)^\$ ", block)[1:]
]


def section(command: str) -> str:
    """The text about a command."""
    return re.split(r"(?m)^## ", PAGE.partition(f"\n## {command.capitalize()}\n")[2])[0]


def masked(output: str) -> str:
    """Mask what differs each time."""
    table = re.sub(r"(?m)^(duration|rate) .*$", r"\1 *", output.strip())
    table = re.sub(r"(?m)^([a-z]+) +(\d+)$", r"\1 \2", table)  # as wide as the widest value
    return re.sub(r"\d+ bytes", "* bytes", table)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_section_names_every_option_of_its_command(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    options = [param.opts[0] for param in command.params if isinstance(param, click.Option)]

    text = section(name) + PAGE.partition("\n## ")[0]
    assert [option for option in options if option not in text] == []


# Settings that bound nothing; those of retention have a table of their own.
CHOICES = {
    "host", "port", "database", "fresh", "durability", "fast_lane", "log_level",
    "retain_messages", "retain_s", "journal", "role",
}  # fmt: skip


def test_the_table_of_bounds_has_every_setting_with_its_default() -> None:
    rows = re.findall(r"(?m)^\| `(\w+)` \| ([\d,.]+) \| [^|]+ \| [^|]+ \|$", section("bounds"))

    assert {name: float(default.replace(",", "")) for name, default in rows} == {
        name: field.default for name, field in FIELDS.items() if name not in CHOICES
    }
    assert len(rows) == len(FIELDS) - len(CHOICES), "a setting stands there twice"


def test_the_table_of_bounds_names_only_problems_that_there_are() -> None:
    named = re.findall(r"(\d{3}) `([a-z-]+)`", section("bounds"))
    known = {(str(status), name) for name, (status, _) in PROBLEMS.items()}

    assert len(named) > 10
    assert set(named) <= known


@pytest.mark.slow
async def test_every_example_does_what_it_shows(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    first = [
        body("rocket-1", 1, "RocketLaunched"),
        body("rocket-1", 2),
        body("rocket-2", 1, "RocketLaunched", time="2022-02-02T19:39:05Z",
             type="Saturn-V", launchSpeed=2000, mission="APOLLO"),
        body("rocket-2", 2, "RocketExploded", time="2022-02-02T19:39:06Z", reason="BALLAST"),
    ]  # fmt: skip

    wrong = []
    async with serving(tmp_path) as server, serving(tmp_path / "other") as other:
        async with connected(server.port) as client:
            for each in first:
                assert (await client.ask(post(each))).status == 204
        rockets = f'rockets() {{ {shlex.quote(sys.executable)} -m rockets "$@"; }}'
        for command, _, answer in EXAMPLES:
            real = command.replace(":8088/", f":{server.port}/").replace(
                ":8089/", f":{other.port}/"
            )
            with trio.fail_after(30):
                script = ["sh", "-c", f"{rockets}\n{real} 2>&1"]
                ended = await trio.run_process(
                    script, capture_stdout=True, cwd=tmp_path, check=False
                )
            if masked(ended.stdout.decode()) != masked(answer):
                wrong.append(f"$ {command}\n{ended.stdout.decode()}")

    assert not wrong, "the page shows another answer than:\n" + "\n".join(wrong)
