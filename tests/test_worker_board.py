"""The memory that workers share, and the health that they tell together."""

import os
from collections.abc import Iterator
from threading import Event, Thread

import msgspec
import pytest

from rockets.web.operations import Health
from rockets.worker_board import SLOT_BYTES, WorkerBoard
from rockets.worker_health import of_all

HEAD_BYTES = 16


@pytest.fixture
def boards() -> Iterator[tuple[WorkerBoard, WorkerBoard]]:
    """One board as two processes see it."""
    descriptor = WorkerBoard.make(2)
    yield WorkerBoard(descriptor, 2), WorkerBoard(descriptor, 2)
    os.close(descriptor)


def test_what_one_writes_another_reads(boards: tuple[WorkerBoard, WorkerBoard]) -> None:
    one, two = boards
    one.write(1, b"first")
    one.write(1, b"it")

    slot = two.read(1)

    assert slot is not None
    age_s, content = slot
    assert content == b"it"
    assert 0 <= age_s < 60
    assert two.read(0) is None


@pytest.mark.parametrize(("more", "fits"), [(-1, True), (0, True), (1, False)])
def test_a_slot_takes_so_much(
    boards: tuple[WorkerBoard, WorkerBoard], more: int, fits: bool
) -> None:
    one, two = boards
    one.write(0, b"before")
    content = b"x" * (SLOT_BYTES - HEAD_BYTES + more)
    if fits:
        one.write(0, content)
    else:
        with pytest.raises(ValueError, match="do not fit"):
            one.write(0, content)
    slot = two.read(0)
    assert slot is not None
    assert slot[1] == (content if fits else b"before")
    assert two.read(1) is None


def test_a_worker_that_has_ended_says_nothing(boards: tuple[WorkerBoard, WorkerBoard]) -> None:
    parent, one = boards
    one.write(0, b"first")
    one.write(1, b"second")
    parent.clear(0)
    assert one.read(0) is None
    assert one.read(1) is not None


def test_half_a_write_is_nothing(boards: tuple[WorkerBoard, WorkerBoard]) -> None:
    one, two = boards
    one.write(0, b"old and long")
    one._memory[HEAD_BYTES : HEAD_BYTES + 3] = b"new"  # as another process may find it
    assert two.read(0) is None


def test_who_reads_beside_a_writer_sees_whole_writes(
    boards: tuple[WorkerBoard, WorkerBoard],
) -> None:
    one, two = boards
    contents = [bytes([65 + n]) * (n * 100 + 1) for n in range(20)]

    enough = Event()

    def write() -> None:
        while not enough.is_set():
            for content in contents:
                one.write(0, content)

    thread = Thread(target=write)
    thread.start()
    try:
        seen = [slot[1] for _ in range(5_000) if (slot := two.read(0)) is not None]
    finally:
        enough.set()
        thread.join()
    assert set(seen) <= set(contents)


HEALTH = Health(
    status="ok",
    version="1",
    journal="sqlite",
    durability="full",
    since="2026-02-02T00:00:00+00:00",
    checks={"journal": "ok", "space": "ok"},
    counts={"rockets": 5, "connections": 2, "commits": 7, "databaseBytes": 100},
)


def test_counts_of_each_are_added_and_what_all_see_is_not() -> None:
    other = msgspec.structs.replace(
        HEALTH,
        since="2026-01-01T00:00:00+00:00",
        counts={"rockets": 6, "connections": 3, "commits": 8, "databaseBytes": 90},
    )

    found = of_all(HEALTH, [HEALTH, other])

    assert found.status == "ok"
    assert found.since == "2026-01-01T00:00:00+00:00"
    assert found.checks == {"journal": "ok", "space": "ok", "workers": "ok"}
    assert found.counts == {
        "rockets": 6,
        "connections": 5,
        "commits": 15,
        "databaseBytes": 100,
        "workers": 2,
    }


def test_what_is_wrong_with_one_is_wrong_and_has_its_number() -> None:
    bad = msgspec.structs.replace(
        HEALTH, status="degraded", checks={"journal": "ok", "space": "12 bytes free"}
    )
    found = of_all(HEALTH, [HEALTH, bad])
    assert (found.status, found.http_status) == ("degraded", 503)
    assert found.checks["space"] == "worker 2: 12 bytes free"


def test_a_worker_that_says_nothing_is_missing() -> None:
    found = of_all(HEALTH, [HEALTH, None, HEALTH, None])
    assert found.status == "degraded"
    assert found.checks["workers"] == "not heard of: 2, 4"
    assert found.counts["workers"] == 2


def test_a_stop_says_more_than_what_is_missing() -> None:
    stopping = msgspec.structs.replace(HEALTH, status="stopping")
    assert of_all(stopping, [stopping, None]).status == "stopping"
