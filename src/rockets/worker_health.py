"""The health of all workers of a port, which any of them answers."""

from collections.abc import Callable, Mapping, Sequence

import msgspec
import trio

from rockets.web.operations import Health, HealthStatus
from rockets.worker import Worker

WRITE_S = 0.5
"""Between two writes on the board."""

UNHEARD_S = 3.0
"""A worker that has not written for so long is missing: it is starting, or stands still."""

SUMMED = {
    "liveActors",
    "actorRestarts",
    "requestsWaiting",
    "connections",
    "connectionsPeak",
    "fastAnswers",
    "lentRequests",
    "readers",
    "commits",
    "committedRecords",
    "followed",
}
"""What each worker has of its own; of all else, the rockets and the disk, each sees the same."""


class WorkerHealth:
    """One worker's view of all."""

    def __init__(self, worker: Worker, own: Callable[[], Health]) -> None:
        self._worker = worker
        self._own = own

    def answer(self) -> Health:
        """Say how all workers are, this one as of now, the others as of a moment ago."""
        own = self._write()
        return of_all(own, [self._heard(index) for index in range(self._worker.board.count)])

    async def keep(self) -> None:
        """Write this worker's health on the board now and then, for ever."""
        while True:
            self._write()
            await trio.sleep(WRITE_S)

    def _heard(self, index: int) -> Health | None:
        """What a worker has written lately."""
        slot = self._worker.board.read(index)
        if slot is None or slot[0] > UNHEARD_S:
            return None
        return msgspec.json.decode(slot[1], type=Health)

    def _write(self) -> Health:
        own = self._own()
        self._worker.board.write(self._worker.index, msgspec.json.encode(own))
        return own


def of_all(own: Health, heard: Sequence[Health | None]) -> Health:
    """Put together what the workers say; None stands for one that is not heard of."""
    present = [each for each in heard if each is not None]
    missing = [str(number) for number, each in enumerate(heard, 1) if each is None]
    statuses = {each.status for each in present}
    status: HealthStatus = "degraded" if missing or "degraded" in statuses else own.status
    checks = {name: _worst(name, heard) for name in own.checks}
    checks["workers"] = f"not heard of: {', '.join(missing)}" if missing else "ok"
    counts = {name: _total(name, [each.counts for each in present]) for name in own.counts}
    return msgspec.structs.replace(
        own,
        status="stopping" if own.status == "stopping" else status,
        since=min(each.since for each in present),
        checks=checks,
        counts={**counts, "workers": len(present)},
    )


def _worst(name: str, heard: Sequence[Health | None]) -> str:
    """Say what is wrong, and where; `ok` where nothing is."""
    found = [
        f"worker {number}: {said}"
        for number, each in enumerate(heard, 1)
        if each is not None and (said := each.checks.get(name, "ok")) != "ok"
    ]
    return "; ".join(found) or "ok"


def _total(name: str, counts: Sequence[Mapping[str, int]]) -> int:
    values = [each.get(name, 0) for each in counts]
    return sum(values) if name in SUMMED else max(values)
