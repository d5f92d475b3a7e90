"""`rockets bench` as it is called; what it measures with is tested in tests/bench."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from rockets.bench.outcome import Failed, Outcome
from rockets.bench.page import BEGIN, END
from rockets.cli import main
from tests.bench.reports import report
from tests.journal.postgresql_server import find_binaries
from tests.journal.redis_server import SERVER as REDIS

needs_wrk = pytest.mark.skipif(
    shutil.which("wrk") is None, reason="wrk is not installed: make bench-tools"
)


def run(*arguments: str) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(main, ["bench", *arguments])


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that wrk is installed."""
    monkeypatch.setattr("rockets.cli.bench._tools", lambda: "wrk")


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A page with prose and a place for figures."""
    path = tmp_path / "performance.md"
    path.write_text(f"Before.\n{BEGIN}\n{END}\nAfter.\n")
    return path


def test_without_wrk_it_ends_with_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    result = run()

    assert result.exit_code == 2
    assert result.output == "rockets bench: wrk is not installed; `make bench-tools` installs it\n"


def test_without_httptools_it_ends_with_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: name)
    monkeypatch.setattr("rockets.cli.bench.find_spec", lambda name: None)

    result = run()

    assert (result.exit_code, result.output.count("\n")) == (2, 1)
    assert "httptools is not installed" in result.output


def test_a_case_that_does_not_exist_is_refused_with_those_that_do() -> None:
    result = run("--cases", "post-full-64,post-full-65")

    assert result.exit_code == 2
    assert "'post-full-65' is no case; there are post-memory-64," in result.output


@pytest.mark.usefixtures("tools")
@pytest.mark.parametrize(
    ("ours", "code", "row"),
    [
        ([Outcome(1600)], 0, "│ get-one-64 │ 1,600/s │"),
        ([Outcome(10)], 1, "│ NO "),
        ([Failed("2 writes that failed")], 1, "│ failed "),
    ],
)
def test_the_table_and_the_code_say_what_came_of_it(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    page: Path,
    ours: list[Outcome | Failed],
    code: int,
    row: str,
) -> None:
    made = report(get_one_64=ours)
    monkeypatch.setattr("rockets.cli.bench._measure", lambda *_: made)
    json_file = tmp_path / "bench.json"

    result = run("--json", str(json_file), "--write", str(page))

    assert result.exit_code == code
    assert row in result.output
    assert json_file.read_bytes() == made.encode()
    before, figures, after = page.read_text().partition("| get-one-64 |")
    assert (before[:8], bool(figures), after[-7:]) == ("Before.\n", True, "After.\n")


@pytest.mark.usefixtures("tools")
def test_figures_of_some_cases_do_not_replace_those_of_all(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, page: Path
) -> None:
    monkeypatch.setattr("rockets.cli.bench._measure", lambda *_: report())
    json_file = tmp_path / "bench.json"
    before = page.read_text()

    result = run("--cases", "get-one-64", "--json", str(json_file), "--write", str(page))

    assert page.read_text() == before
    assert "was left as it is" in result.output


@pytest.mark.usefixtures("tools")
def test_a_page_without_a_place_is_told_after_the_table(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("rockets.cli.bench._measure", lambda *_: report())
    page = tmp_path / "page.md"
    page.write_text("# Nothing\n")

    result = run("--json", str(tmp_path / "bench.json"), "--write", str(page))

    assert result.exit_code == 2
    assert "│ get-one-64 │" in result.output
    assert "rockets bench: has no section" in result.output


@needs_wrk
@pytest.mark.slow
def test_a_real_run_measures_and_compares(tmp_path: Path) -> None:
    json_file = tmp_path / "bench.json"
    flags = ("--rounds", "1", "--seconds", "1", "--cases", "get-one-64")
    command = [sys.executable, "-m", "rockets", "bench", *flags, "--json", str(json_file)]

    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    content = msgspec.json.decode(json_file.read_bytes())
    assert list(content["measured"]) == ["floor-64", "get-one-64"]
    assert all(rounds[0]["rate"] > 0 for rounds in content["measured"].values()), result.stderr
    [verdict] = content["verdicts"]
    assert verdict["failure"] is None
    assert result.returncode == (0 if verdict["reached"] else 1)
    assert content["command"] == "rockets bench --rounds 1 --seconds 1 --cases get-one-64"
    assert str(tmp_path) not in json_file.read_text()


@needs_wrk
@pytest.mark.skipif(
    find_binaries() is None or REDIS is None, reason="PostgreSQL or Redis is not here"
)
@pytest.mark.slow
def test_what_is_shared_is_measured_on_servers_of_its_own(tmp_path: Path) -> None:
    json_file = tmp_path / "bench.json"
    flags = ("--rounds", "1", "--seconds", "1", "--cases", "post-redis,batch-postgresql")
    command = [sys.executable, "-m", "rockets", "bench", "--shared", *flags]

    result = subprocess.run(
        [*command, "--json", str(json_file)],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )

    assert result.returncode == 0, result.stderr
    content = msgspec.json.decode(json_file.read_bytes())
    rounds = {name: found[0] for name, found in content["measured"].items()}
    assert list(rounds) == [
        "batch-postgresql", "inserts-batch-postgresql", "post-redis", "inserts-post-redis",
    ]  # fmt: skip
    assert rounds["batch-postgresql"]["details"]["recordsPerCommit"] == 1_000
    inserted = rounds["inserts-post-redis"]["details"]
    sent_together = round(rounds["post-redis"]["details"]["recordsPerCommit"])
    assert inserted["rows"] == inserted["commits"] * sent_together
    assert all(verdict["ratio"] > 0 for verdict in content["verdicts"])
    assert {"PostgreSQL", "Redis"} < set(content["machine"]["versions"])
    assert not list(tmp_path.glob("rockets-bench-*"))
    assert not list(tmp_path.glob("pg*"))


@needs_wrk
@pytest.mark.slow
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_when_interrupted_it_leaves_no_process(
    tmp_path: Path, signum: signal.Signals, code: int
) -> None:
    command = [sys.executable, "-m", "rockets", "bench", "--cases", "post-memory-64"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, cwd=tmp_path) as process:
        try:
            started = _wait_for_children(process.pid)
            process.send_signal(signum)
            assert process.wait(20) == code
        finally:
            process.kill()

    assert started
    assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]


def _wait_for_children(parent: int) -> list[int]:
    """Wait until a process has started another, at most 20 s; gives the pids of all of them."""
    for _ in range(1_000):
        if found := [pid for pid in _processes() if _parent_of(pid) == parent]:
            return found
        time.sleep(0.02)
    return []


def _processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _parent_of(pid: int) -> int | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None  # It has ended meanwhile.
    return int(fields[1])
