"""The line that shows progress: on a terminal alone, and gone at the end."""

import sys

import pytest

from rockets.cli.progress_line import ProgressLine


def test_on_a_terminal_it_is_written_over_and_wiped_away(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)

    with ProgressLine() as progress:
        progress.show("1 of 3")
        progress.show("2 of 3, too soon after the first")

    assert capsys.readouterr().err == "\r\x1b[K1 of 3\r\x1b[K"


def test_elsewhere_nothing_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressLine() as progress:
        progress.show("1 of 3")

    assert capsys.readouterr().err == ""
