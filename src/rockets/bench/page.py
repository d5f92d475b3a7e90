"""Writes the figures of a run into docs/performance.md, between two markers.

What stands outside the markers belongs to people and stays as it is.
"""

from collections.abc import Iterable, Sequence

from rockets.bench.cases import CASES
from rockets.bench.report import REFERENCE_HEADINGS, Report, circumstances, reference_rows
from rockets.bench.verdict import HEADINGS, cells, remarks

BEGIN = "<!-- bench: begin; written by `make bench`, changes here are lost -->"
END = "<!-- bench: end -->"
BEGIN_SHARED = "<!-- bench-shared: begin; written by `make bench-shared`, changes here are lost -->"
END_SHARED = "<!-- bench-shared: end -->"


class PageUnmarked(Exception):
    """The page has no place for the figures; the text says what is missing."""


def fill(page: str, report: Report, *, shared: bool = False) -> str:
    """Return the page with the figures of this run; PageUnmarked without a place for them."""
    begin, end = (BEGIN_SHARED, END_SHARED) if shared else (BEGIN, END)
    return put(page, begin, end, section(report))


def put(page: str, begin: str, end: str, text: str) -> str:
    """Return the page with this text between two markers; PageUnmarked where one is missing."""
    before, found, rest = page.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found or not found_end:
        raise PageUnmarked(f"has no section from {begin!r} to {end!r}")
    return f"{before}{begin}\n\n{text}\n{end}{after}"


def section(report: Report) -> str:
    """Write everything that stands between the markers, in Markdown."""
    loads = [(verdict.case, CASES[verdict.case].load) for verdict in report.verdicts]
    parts = [
        "\n".join(circumstances(report)),
        table(HEADINGS, map(cells, report.verdicts)),
        "\n".join(f"- {remark}" for remark in remarks(report.verdicts)),
        "The cases:",
        table(("case", "load"), loads),
        "The references of the same run:",
        table(REFERENCE_HEADINGS, reference_rows(report)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table in Markdown."""
    lines = [_line(headings), _line(["---"] * len(headings)), *map(_line, rows)]
    return "\n".join(lines)


def _line(texts: Sequence[str]) -> str:
    return f"| {' | '.join(text.replace('|', chr(92) + '|') for text in texts)} |"
