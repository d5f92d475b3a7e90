"""The figures at scale have a section of their own, beside that of the other benchmark."""

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from rockets.bench import page, scale_report
from rockets.bench.outcome import Failed
from rockets.bench.scale_found import Found
from rockets.bench.scale_report import BEGIN, END, ScaleReport, circumstances, fill, judge
from tests.bench.reports import MACHINE, report

PAGE = Path(__file__).resolve().parents[2] / "docs/performance.md"


def scale_run(scale: int = 1, **found: Found | Failed) -> ScaleReport:
    """Make the report of a run that never was."""
    known: dict[str, Found | Failed] = {
        "single-million": Found(1600, 2000),
        "memory": Found(900, note="after a restart 900 B"),
    }
    measured = known | {name.replace("_", "-"): value for name, value in found.items()}
    started = datetime(2026, 3, 1, tzinfo=UTC)
    command = f"rockets bench-scale --scale {scale}"
    return ScaleReport(command, started, scale, 3, 10, MACHINE, judge(measured), measured)


def test_the_section_has_the_table_the_notes_and_the_loads() -> None:
    lines = fill(f"Before.\n{BEGIN}\nold figures\n{END}\nAfter.\n", scale_run()).splitlines()

    assert (lines[0], lines[-1]) == ("Before.", "After.")
    assert "old figures" not in lines
    assert "| single-million | 1,600/s | 2,000/s | 0.80 x | ≥ 0.5 x | yes |" in lines
    assert "- memory: after a restart 900 B" in lines
    assert any(line.startswith("| single-million | POST, 64 connections") for line in lines)
    assert not any(line.startswith("| reverse |") for line in lines)


def test_a_failure_is_told_below_the_table() -> None:
    made = scale_run(memory=Failed("there is no /proc"))

    assert not made.passed
    assert "- memory: there is no /proc" in fill(f"{BEGIN}{END}", made)


def test_the_rows_have_the_order_of_the_table() -> None:
    assert [verdict.case for verdict in scale_run().verdicts] == ["memory", "single-million"]


def test_a_smaller_size_is_said() -> None:
    assert "1/100 of it" in circumstances(scale_run(100))[0]
    assert "of it" not in circumstances(scale_run())[0]


def test_both_sections_of_our_own_page_are_filled_apart() -> None:
    once = fill(PAGE.read_text(), scale_run())
    both = page.fill(once, report())

    assert "| single-million |" in both
    assert "| get-one-64 |" in both
    assert fill(both, scale_run()) == both


@pytest.mark.parametrize("text", ["", BEGIN, END, f"{page.BEGIN}{page.END}"])
def test_a_page_without_both_markers_is_refused(text: str) -> None:
    with pytest.raises(page.PageUnmarked, match="bench-scale"):
        scale_report.fill(text, scale_run())


def test_the_file_has_every_figure_and_no_more() -> None:
    content = msgspec.json.decode(scale_run().encode())

    assert content["found"]["single-million"] == {"ours": 1600, "reference": 2000}
    assert content["verdicts"][0]["reached"] is True
    assert (content["scale"], content["rounds"], content["seconds"]) == (1, 3, 10)
