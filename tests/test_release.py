"""What is released: one wheel from one source, which serves on its own."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.helpers import connected, get, serving

ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.slow


def built(source: Path, to: Path) -> Path:
    """Build the wheel of a source tree."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    subprocess.run([*command, "--directory", str(to)], cwd=source, check=True, capture_output=True)
    [wheel] = to.glob("*.whl")
    return wheel


def copied(to: Path) -> Path:
    """Copy what a wheel is made of."""
    to.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copyfile(ROOT / name, to / name)
    shutil.copytree(ROOT / "src", to / "src", ignore=shutil.ignore_patterns("__pycache__"))
    return to


def test_two_builds_make_the_same_wheel(tmp_path: Path) -> None:
    one = built(copied(tmp_path / "one"), tmp_path / "first")
    another = copied(tmp_path / "another")
    for path in another.rglob("*"):  # whoever has checked it out, and whenever
        path.chmod(0o700 if path.is_dir() else 0o600)
        os.utime(path, (10**9, 10**9))
    two = built(another, tmp_path / "second")

    assert one.name == two.name
    assert one.read_bytes() == two.read_bytes()


def test_a_changed_source_makes_another_wheel(tmp_path: Path) -> None:
    source = copied(tmp_path / "source")
    one = built(source, tmp_path / "first").read_bytes()
    (source / "src/rockets/telemetry.py").write_text("# changed\n")
    assert built(source, tmp_path / "second").read_bytes() != one


@pytest.fixture
def installed(tmp_path: Path) -> str:
    """The interpreter of an environment that has the wheel and what the lock says, no more."""
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    python = str(environment / "bin/python")
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    lock = ["--require-hashes", "--only-binary", ":all:", "--requirement"]
    subprocess.run([*install, *lock, str(ROOT / "requirements/serve.txt")], check=True)
    wheel = built(ROOT, tmp_path / "dist")
    subprocess.run([*install, "--no-deps", "--no-index", str(wheel)], check=True)
    return python


@pytest.mark.timeout(240)
async def test_the_wheel_in_an_empty_environment_serves_all_there_is(
    tmp_path: Path, installed: str
) -> None:
    # -I: nothing of this process's environment, nor of the folder it stands in.
    command = ("-I", "-m", "rockets", "serve")
    async with serving(tmp_path, interpreter=installed, command=command) as server:
        async with connected(server.port) as client:
            for page in ("/", "/docs", "/problems", "/openapi.json", "/rockets", "/health"):
                assert (await client.ask(get(page))).status == 200, page
            for page in ("/", "/docs"):
                text = (await client.ask(get(page))).body.decode()
                files = re.findall(r'(?:src|href)="(/(?:docs|dashboard)/[^"]+)"', text)
                assert len(files) > 1, page
                for file in files:
                    assert (await client.ask(get(file))).status == 200, file
        assert await server.stop() == 0


def test_the_wheel_has_no_more_than_the_package(tmp_path: Path) -> None:
    with zipfile.ZipFile(built(ROOT, tmp_path)) as wheel:
        names = wheel.namelist()
    assert {name.partition("/")[0] for name in names} == {"rockets", "rockets-0.1.0.dist-info"}
    assert not [name for name in names if name.endswith((".pyc", ".db"))]
