"""Cuts NDJSON into batches that the service takes, holding one batch at a time.

Blank lines are passed over as the service does it, and a line that is too long is named, not kept.
"""

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import msgspec

LINES_MAX = 10_000
BATCH_BYTES_MAX = 8 * 1024 * 1024
LINE_BYTES_MAX = 64 * 1024
"""What `POST /messages` takes; a service may be told to take less."""

_SKIP_BYTES = 1 << 20
_WHITE_SPACE = b" \t\r\n"


class Batch(msgspec.Struct, frozen=True):
    """Some lines, the number in the file of each, and the number of the last line looked at."""

    lines: tuple[bytes, ...]
    numbers: tuple[int, ...]
    too_long: tuple[int, ...]
    through: int

    def body(self) -> bytes:
        """Write the lines as one body."""
        return b"\n".join(self.lines)

    def only(self, indexes: list[int]) -> "Batch":
        """Return a batch of these lines alone."""
        lines = tuple(self.lines[index] for index in indexes)
        return Batch(lines, tuple(self.numbers[index] for index in indexes), (), self.through)

    def halves(self) -> tuple["Batch", "Batch"]:
        """Return two batches of the first and of the last lines; there are two at least."""
        indexes = list(range(len(self.lines)))
        middle = len(indexes) // 2
        return self.only(indexes[:middle]), self.only(indexes[middle:])


class _Line(NamedTuple):
    """A line that is not blank."""

    number: int
    content: bytes | None  # None where it is too long


class LineBatches:
    """The batches of one stream of bytes, in its order."""

    def __init__(self, file: BinaryIO, *, lines_max: int = 1_000) -> None:
        self._lines_max = lines_max
        self._lines = _lines(file)
        # The line for which the last batch had no room.
        self._left: _Line | None = None

    def take(self) -> Batch | None:
        """Read the next batch, None at the end; blocks where the stream does."""
        lines: list[bytes] = []
        numbers: list[int] = []
        too_long: list[int] = []
        size = through = 0
        while len(lines) + len(too_long) < self._lines_max:
            line, self._left = self._left or next(self._lines, None), None
            if line is None:
                break
            if line.content is None:
                too_long.append(line.number)
            elif size + len(line.content) > BATCH_BYTES_MAX:
                self._left = line
                break
            else:
                size += len(line.content) + 1
                lines.append(line.content)
                numbers.append(line.number)
            through = line.number
        return Batch(tuple(lines), tuple(numbers), tuple(too_long), through) if through else None


def _lines(file: BinaryIO) -> Iterator[_Line]:
    """Give every line that is not blank, counting from 1."""
    number = 0
    # A line may have a CR and a LF that do not count.
    while line := file.readline(LINE_BYTES_MAX + 2):
        number += 1
        content = line.removesuffix(b"\n").removesuffix(b"\r")
        if len(content) > LINE_BYTES_MAX:
            while line and not line.endswith(b"\n"):
                line = file.readline(_SKIP_BYTES)
            yield _Line(number, None)
        elif content.strip(_WHITE_SPACE):
            yield _Line(number, content)
