"""What an answer to a batch means for the one who sent it; pure, it sends and waits for nothing."""

import msgspec

from rockets.cli.client import Response
from rockets.cli.line_batches import Batch
from rockets.domain.ledger import Outcome

CONTENT_TOO_LARGE = 413
# The service is busy, full, starting or gone, or something before it says so: it may come back.
TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})


class ImportStopped(Exception):
    """Nothing more can be sent; the message says why in one line."""


class Busy(msgspec.Struct, frozen=True):
    """Not now: why, and the pause that was asked for, if any."""

    reason: str
    pause_s: float | None = None


class Taken(msgspec.Struct, frozen=True):
    """The batch was taken, but for what `again` says, for which the service has no room now.

    The integers are indexes of its lines.
    """

    counts: dict[Outcome, int]
    problems: list[tuple[int, str]]
    conflicts: list[int]
    again: list[int]
    busy: Busy | None


class TooLarge(msgspec.Struct, frozen=True):
    """The batch is too large for this service."""

    reason: str


Verdict = Taken | Busy | TooLarge


class _Field(msgspec.Struct, frozen=True):
    """One wrong field of a message."""

    pointer: str
    detail: str


class _Problem(msgspec.Struct, frozen=True):
    """What the service says is wrong, as much of it as is shown."""

    status: int
    title: str = ""
    detail: str = ""
    errors: tuple[_Field, ...] = ()

    def __str__(self) -> str:
        fields = "; ".join(f"{field.pointer} {field.detail}" for field in self.errors)
        return f"{self.status} {self.title}: {fields or self.detail}"


class _Item(msgspec.Struct, frozen=True):
    """The problem of one line of a batch."""

    index: int
    problem: _Problem


class _Result(msgspec.Struct, frozen=True):
    """The answer to a batch."""

    counts: dict[Outcome, int]
    problems: list[_Item]
    outcomes: list[Outcome | None]


def judge(response: Response, batch: Batch) -> Verdict:
    """Say what to do now; ImportStopped where sending anything is of no use."""
    if response.status in TRY_AGAIN:
        return Busy(_describe(response), _pause_s(response.headers.get("retry-after", "")))
    if response.status == CONTENT_TOO_LARGE:
        return TooLarge(_describe(response))
    if response.status != 200:
        raise ImportStopped(f"the service answered {_describe(response)}")
    try:
        result = msgspec.json.decode(response.body, type=_Result)
    except msgspec.DecodeError as error:
        raise ImportStopped(f"this is not the answer to a batch: {error}") from error
    if len(result.outcomes) != len(batch.lines):
        raise ImportStopped(
            f"the service took {len(batch.lines)} lines for {len(result.outcomes)} messages"
        )
    later = [item for item in result.problems if item.problem.status in TRY_AGAIN]
    return Taken(
        result.counts,
        [(i.index, str(i.problem)) for i in result.problems if i.problem.status not in TRY_AGAIN],
        [index for index, outcome in enumerate(result.outcomes) if outcome == "conflict"],
        [item.index for item in later],
        Busy(str(later[0].problem)) if later else None,
    )


def _describe(response: Response) -> str:
    try:
        return str(msgspec.json.decode(response.body, type=_Problem))
    except msgspec.DecodeError:
        return str(response.status)


def _pause_s(retry_after: str) -> float | None:
    # The other form is a date, which nothing that stands before us is known to send.
    return float(retry_after) if retry_after.isascii() and retry_after.isdigit() else None
