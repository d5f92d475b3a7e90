"""What is seen of the disk is of a moment ago or nothing, and nobody waits for it."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, assert_no_checkpoints

from rockets.journal import JournalStatistics, MemoryJournal, Record, SqliteJournal, inline
from rockets.journal.space_watch import AGE_MAX_S, LOOK_INTERVAL_S, open_space_watch
from rockets.journal.thread import T
from rockets.journal.writer import open_writer

RESERVE = 1_000_000


class Disk:
    """Says how much is free, or that it does not know."""

    def __init__(self, free: int) -> None:
        self.free: int | None = free

    def __call__(self, path: Path) -> int:
        if self.free is None:
            raise OSError(f"{path.name} is gone")
        return self.free


class Hop:
    """Runs inline until it is told to hang."""

    hangs = False

    async def __call__(self, fn: Callable[..., T], /, *args: object) -> T:
        if self.hangs:
            await trio.sleep_forever()
        return await inline(fn, *args)


@pytest.mark.parametrize(("free", "refused"), [(0, True), (RESERVE - 1, True), (RESERVE, False)])
async def test_below_the_reserve_it_says_why_nothing_is_taken(
    path: Path, free: int, refused: bool
) -> None:
    with closing(SqliteJournal(path, reserve_bytes=RESERVE, free_bytes=Disk(free))) as journal:
        async with (
            open_writer(journal, write=inline, read=inline) as writer,
            open_space_watch(writer) as watch,
        ):
            reason = f"no space: {free:,} bytes are free, the last 1,000,000 are kept in reserve"
            with assert_no_checkpoints():
                assert watch.refusal() == (reason if refused else None)
                assert watch.check() == (reason if refused else "ok")
                assert watch.statistics() == journal.statistics()


async def test_it_sees_what_changes(path: Path, autojump_clock: MockClock) -> None:
    disk = Disk(0)
    with closing(SqliteJournal(path, reserve_bytes=RESERVE, free_bytes=disk)) as journal:
        async with (
            open_writer(journal, write=inline, read=inline) as writer,
            open_space_watch(writer) as watch,
        ):
            assert watch.refusal() is not None
            disk.free = RESERVE
            await trio.sleep(LOOK_INTERVAL_S * 1.5)
            assert watch.check() == "ok"

            before = watch.statistics()
            assert before is not None
            journal.append([Record("a", 1, b"x" * 9_000, 1)])
            await trio.sleep(LOOK_INTERVAL_S)
            after = watch.statistics()
            assert after is not None
            assert after.wal_pages > before.wal_pages


async def test_a_file_system_that_does_not_say_is_told_and_fails_nothing(
    path: Path, autojump_clock: MockClock
) -> None:
    disk = Disk(RESERVE)
    with closing(SqliteJournal(path, reserve_bytes=0, free_bytes=disk)) as journal:
        async with (
            open_writer(journal, write=inline, read=inline) as writer,
            open_space_watch(writer) as watch,
        ):
            disk.free = None
            await trio.sleep(LOOK_INTERVAL_S * 1.5)

            assert watch.statistics() is None
            assert watch.refusal() is None
            assert watch.check().startswith("not known: the file system does not say")
            assert writer.failure is None
            assert (await writer.append([Record("a", 1, b"{}", 1)])).head == 1

            disk.free = RESERVE
            await trio.sleep(LOOK_INTERVAL_S)
            assert watch.check() == "ok"


@pytest.mark.parametrize(("over_s", "known"), [(-0.01, True), (0, True), (0.01, False)])
async def test_what_was_seen_too_long_ago_is_not_told(
    autojump_clock: MockClock, over_s: float, known: bool
) -> None:
    hop = Hop()
    async with (
        open_writer(MemoryJournal(), write=inline, read=hop) as writer,
        open_space_watch(writer) as watch,
    ):
        hop.hangs = True
        await trio.sleep(AGE_MAX_S + over_s)

        assert watch.statistics() == (JournalStatistics(0, 0, 0, 0, 0) if known else None)
        assert watch.refusal() is None
        silent = "not known: the journal has not answered for 5 s"
        assert watch.check() == ("ok" if known else silent)
