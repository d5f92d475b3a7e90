"""Writes the figures of a run into docs/performance.md, between two markers.

What stands outside the markers belongs to people and stays as it is.
"""

from collections.abc import Iterable, Sequence

from rockets.bench.cases import CASES
from rockets.bench.report import REFERENCE_HEADINGS, Report, circumstances, reference_rows
from rockets.bench.verdict import HEADINGS, cells, remarks

BEGIN = "<!-- bench: begin; written by `make bench`, changes here are lost -->"
END = "<!-- bench: end -->"


class PageUnmarked(Exception):
    """The page has no place for the figures; the text says what is missing."""


def fill(page: str, report: Report) -> str:
    """Return the page with the figures of this run; PageUnmarked without a place for them."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise PageUnmarked(f"has no section from {BEGIN!r} to {END!r}")
    return f"{before}{BEGIN}\n\n{section(report)}\n{END}{after}"


def section(report: Report) -> str:
    """Write everything that stands between the markers, in Markdown."""
    loads = [(verdict.case, CASES[verdict.case].load) for verdict in report.verdicts]
    parts = [
        "\n".join(circumstances(report)),
        _table(HEADINGS, map(cells, report.verdicts)),
        "\n".join(f"- {remark}" for remark in remarks(report.verdicts)),
        "The cases:",
        _table(("case", "load"), loads),
        "The references of the same run:",
        _table(REFERENCE_HEADINGS, reference_rows(report)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [_line(headings), _line(["---"] * len(headings)), *map(_line, rows)]
    return "\n".join(lines)


def _line(texts: Sequence[str]) -> str:
    return f"| {' | '.join(text.replace('|', chr(92) + '|') for text in texts)} |"
