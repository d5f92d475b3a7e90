"""The main job end to end: `rockets launch` against `rockets serve`, both as real processes."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.helpers import ServerProcess, connected, get, serving


async def launch(server: ServerProcess, *flags: str) -> str:
    """Run `rockets launch` with 5,000 messages and give what it printed."""
    done = await trio.run_process(
        [
            sys.executable,
            *("-m", "rockets", "launch", f"{server.url}/messages", "--max-messages", "5000"),
            *flags,
        ],
        capture_stdout=True,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout.decode()
    return done.stdout.decode()


def figure(output: str, name: str) -> str:
    """Read one line of the final table."""
    [line] = [line for line in output.splitlines() if line.startswith(name + " ")]
    return line.removeprefix(name).strip()


async def rockets(server: ServerProcess) -> bytes:
    """Read the whole list."""
    async with connected(server.port) as client:
        return (await client.ask(get("/rockets"))).body


@pytest.mark.slow
@pytest.mark.parametrize(
    ("concurrency", "flags"), [(3, ()), (20, ()), (200, ()), (20, ("--no-fast-lane",))]
)
async def test_every_rocket_ends_in_the_right_state(
    tmp_path: Path, concurrency: int, flags: tuple[str, ...]
) -> None:
    async with serving(tmp_path, *flags) as server:
        output = await launch(server, "--concurrency-level", str(concurrency), "--verify")

    assert "verified: 20 rockets as expected" in output
    assert figure(output, "2xx") == "5000"
    assert figure(output, "resends") == "0"
    assert figure(output, "connections leaked") == "0"


@pytest.mark.slow
async def test_the_same_run_again_is_all_duplicates_and_changes_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        await launch(server, "--concurrency-level", "20")
        before = await rockets(server)
        output = await launch(server, "--concurrency-level", "20", "--verify")
        after = await rockets(server)
        async with connected(server.port) as client:
            fleet: Any = (await client.ask(get("/fleet"))).json

    assert after == before
    assert (fleet["messages"]["received"], fleet["conflicts"]) == (5_000, 0)
    assert figure(output, "2xx") == "5000"


@pytest.mark.slow
async def test_duplicates_and_disorder_change_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        output = await launch(
            server,
            *("--duplicates", "0.2", "--shuffle", "400", "--concurrency-level", "50", "--verify"),
        )

    assert "verified: 20 rockets as expected" in output
