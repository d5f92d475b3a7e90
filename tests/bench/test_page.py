"""The figures go between the markers, and not a letter of the prose around them changes."""

from pathlib import Path

import msgspec
import pytest

from rockets.bench.outcome import Failed, Outcome
from rockets.bench.page import BEGIN, BEGIN_SHARED, END, END_SHARED, PageUnmarked, fill
from rockets.bench.report import circumstances
from tests.bench.reports import MACHINE, report

PAGE = Path(__file__).resolve().parents[2] / "docs/performance.md"


def test_what_stands_outside_the_markers_stays() -> None:
    page = f"# Title\n\nBefore.\n{BEGIN}\nold figures\n{END}\n\nAfter.\n"

    filled = fill(page, report())

    assert filled.startswith(f"# Title\n\nBefore.\n{BEGIN}\n")
    assert filled.endswith(f"{END}\n\nAfter.\n")
    assert "old figures" not in filled
    assert fill(filled, report()) == filled


def test_the_section_has_the_table_the_loads_and_the_references() -> None:
    lines = fill(f"{BEGIN}{END}", report()).splitlines()

    assert "| get-one-64 | 1,600/s | 2,000/s | 0.80 x | ≥ 0.7 x | yes | - |" in lines
    assert "| get-one-64 | `GET /rockets/{channel}`, 20 rockets, 64 connections |" in lines
    assert "| floor-64 | 2,000/s | 2.00 ms | 3.00 ms |" in lines
    assert any("Measured on 2026-03-01 with `rockets bench --rounds 2`" in line for line in lines)


def test_a_failure_is_told_below_the_table() -> None:
    filled = fill(f"{BEGIN}{END}", report(floor_64=[Outcome(1), Failed("1 write that failed")]))

    assert "- get-one-64: floor-64: 1 write that failed" in filled
    assert "| floor-64 | failed | - | - |" in filled


@pytest.mark.parametrize("page", ["", "# Title", BEGIN, END, f"{END}{BEGIN}"])
def test_a_page_without_both_markers_is_refused(page: str) -> None:
    with pytest.raises(PageUnmarked, match="has no section"):
        fill(page, report())


def test_our_own_page_has_a_place_for_the_figures() -> None:
    assert "get-one-64" in fill(PAGE.read_text(), report())
    assert "get-one-64" in fill(PAGE.read_text(), report(), shared=True)


def test_figures_of_what_is_shared_have_a_place_of_their_own() -> None:
    page = f"{BEGIN}\nothers\n{END}{BEGIN_SHARED}{END_SHARED}"

    filled = fill(page, report(), shared=True)

    assert filled.startswith(f"{BEGIN}\nothers\n{END}{BEGIN_SHARED}\n\nMeasured on")


@pytest.mark.parametrize(
    ("difference", "words"),
    [
        ({"shares_core": True}, "There was one core only"),
        ({"file_system": "tmpfs"}, "The databases were in memory"),
    ],
)
def test_what_makes_figures_worth_less_is_said(difference: dict[str, object], words: str) -> None:
    machine = msgspec.structs.replace(MACHINE, **difference)

    assert any(words in sentence for sentence in circumstances(report(machine)))
    assert not any(words in sentence for sentence in circumstances(report()))


def test_how_far_apart_the_rounds_were_is_said() -> None:
    said = " ".join(circumstances(report()))

    # 400 of 1,600 and 2,000 of 2,000.
    assert "by 62% in the middle of all measurements and by 100% at most" in said


def test_the_file_has_every_round_and_the_machine() -> None:
    content = msgspec.json.decode(report().encode())

    assert [outcome["rate"] for outcome in content["measured"]["get-one-64"]] == [1400, 1800]
    assert content["machine"]["cpu"] == "A CPU"
    assert content["verdicts"][0]["reached"] is True
    assert content["started"] == "2026-03-01T00:00:00Z"
