"""Shows how far a command is: one line on a terminal that is written over, elsewhere nothing."""

import sys
from time import monotonic
from types import TracebackType
from typing import Self

import click

# Often enough to see it move, seldom enough to cost nothing.
INTERVAL_S = 0.2
# Go to the begin of the line, and erase to its end.
_BACK = "\r\x1b[K"


class ProgressLine:
    """The line; use it in `with`, which wipes it away at the end."""

    def __init__(self) -> None:
        self._is_seen = sys.stderr.isatty()
        self._due = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._due:
            click.echo(_BACK, nl=False, err=True)

    def show(self, text: str) -> None:
        """Show the text, unless the last one came only now or nobody sees it."""
        if self._is_seen and (now := monotonic()) >= self._due:
            self._due = now + INTERVAL_S
            click.echo(_BACK + text, nl=False, err=True)
