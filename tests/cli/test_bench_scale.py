"""`rockets bench-scale` as it is called; what it measures with is tested in tests/bench."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from rockets.bench.outcome import Failed
from rockets.bench.scale_found import Found
from rockets.bench.scale_report import BEGIN, END
from rockets.cli import main
from rockets.cli.bench_scale import _on_core
from tests.bench.test_scale_report import scale_run


def invoke(*arguments: str) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(main, ["bench-scale", *arguments])


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A page with prose and a place for figures."""
    path = tmp_path / "performance.md"
    path.write_text(f"Before.\n{BEGIN}\n{END}\nAfter.\n")
    return path


def test_a_case_that_does_not_exist_is_refused_with_those_that_do() -> None:
    result = invoke("--cases", "memory,memories")

    assert result.exit_code == 2
    assert "'memories' is no case; there are memory, single-million," in result.output


@pytest.mark.parametrize(
    ("memory", "code", "row"),
    [
        (Found(900), 0, "│ memory         │   900 B │"),
        (Found(1100), 1, "│ NO "),
        (Failed("it did not start"), 1, "│ failed "),
    ],
)
def test_the_table_and_the_code_say_what_came_of_it(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    page: Path,
    memory: Found | Failed,
    code: int,
    row: str,
) -> None:
    made = scale_run(memory=memory)
    monkeypatch.setattr("rockets.cli.bench_scale._measure", lambda *_: made)
    json_file = tmp_path / "bench-scale.json"

    result = invoke("--json", str(json_file), "--write", str(page))

    assert result.exit_code == code
    assert row in result.output
    assert json_file.read_bytes() == made.encode()
    assert "| memory |" in page.read_text()


@pytest.mark.parametrize("part", [("--scale", "100"), ("--cases", "memory")])
def test_figures_of_less_do_not_replace_those_of_all(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, page: Path, part: tuple[str, str]
) -> None:
    monkeypatch.setattr("rockets.cli.bench_scale._measure", lambda *_: scale_run())
    before = page.read_text()

    result = invoke(*part, "--json", str(tmp_path / "json"), "--write", str(page))

    assert page.read_text() == before
    assert "was left as it is" in result.output


def test_a_page_without_a_place_is_told_after_the_table(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("rockets.cli.bench_scale._measure", lambda *_: scale_run())
    page = tmp_path / "page.md"
    page.write_text("# Nothing\n")

    result = invoke("--json", str(tmp_path / "json"), "--write", str(page))

    assert result.exit_code == 2
    assert "│ memory " in result.output
    assert "rockets bench-scale: has no section" in result.output


def test_the_cores_of_this_process_are_its_own_again_afterwards() -> None:
    before = os.sched_getaffinity(0)
    core = min(before)

    with pytest.raises(ValueError, match="x"), _on_core(core):
        assert os.sched_getaffinity(0) == {core}
        raise ValueError("x")

    assert os.sched_getaffinity(0) == before


@pytest.mark.slow
def test_a_real_run_measures_and_keeps_its_databases_where_it_is_told(tmp_path: Path) -> None:
    json_file, directory = tmp_path / "bench-scale.json", tmp_path / "databases"
    flags = ("--scale", "10000", "--cases", "start-clean,reverse", "--directory", str(directory))
    command = [sys.executable, "-m", "rockets", "bench-scale", *flags, "--json", str(json_file)]

    result = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)

    content = msgspec.json.decode(json_file.read_bytes())
    assert list(content["found"]) == ["start-clean", "reverse"]
    assert [verdict["failure"] for verdict in content["verdicts"]] == [None, None], result.stderr
    assert result.returncode == (0 if all(v["reached"] for v in content["verdicts"]) else 1)
    assert (directory / "fleet/loaded.json").exists()
    assert str(tmp_path) not in json_file.read_text()
