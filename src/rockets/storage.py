"""The journal that the settings name, and the threads that work on it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from random import random

import structlog
import trio

from rockets.journal import (
    Hop,
    Journal,
    JournalAbsent,
    JournalWriter,
    NoteLimits,
    SharedSqliteJournal,
    inline,
    open_journal,
    open_postgresql,
    open_redis,
    open_thread,
    open_writer,
)
from rockets.settings import Settings
from rockets.stopping import StartGivenUp

log = structlog.get_logger()

AGAIN_S = 0.5
"""Between two attempts to reach a server that is not there yet."""


@asynccontextmanager
async def open_storage(settings: Settings, stopping: trio.Event) -> AsyncIterator[JournalWriter]:
    """Open the journal and its writer; JournalRefused where it cannot be had.

    A server that is not there yet is waited for, then JournalAbsent; StartGivenUp when `stopping`
    is set meanwhile.
    """
    async with (
        _open_hops(settings) as (write, read),
        _open_journal(settings, write, stopping) as journal,
        open_writer(
            journal,
            write=write,
            read=read,
            queue_max=settings.commit_queue_max,
            batch_parts_max=settings.commit_parts_max,
            batch_bytes_max=settings.commit_bytes_max,
        ) as writer,
    ):
        yield writer


@asynccontextmanager
async def _open_hops(settings: Settings) -> AsyncIterator[tuple[Hop, Hop]]:
    """One thread writes and one reads; a journal in memory needs neither."""
    if settings.durability == "memory":
        yield inline, inline
        return
    async with open_thread("journal writer") as write, open_thread("journal reader") as read:
        yield write, read


@asynccontextmanager
async def _open_journal(
    settings: Settings, write: Hop, stopping: trio.Event
) -> AsyncIterator[Journal]:
    journal = await _open_awaited(settings, write, stopping)
    try:
        yield journal
    finally:
        # The grace period bounds it: the process ends where a disk or a server hangs here.
        with trio.CancelScope(shield=True):
            await write(journal.close)


async def _open_awaited(settings: Settings, write: Hop, stopping: trio.Event) -> Journal:
    """Open the journal, again and again while its server is not there."""
    until = trio.current_time() + settings.journal_wait_s
    told = ""
    while True:
        try:
            return await write(partial(_opened, settings))
        except JournalAbsent as absent:
            if trio.current_time() + AGAIN_S > until:
                raise
            if str(absent) != told:
                told = str(absent)
                log.warning("store_awaited", reason=told, wait_s=settings.journal_wait_s)
        with trio.move_on_after(AGAIN_S):
            await stopping.wait()
            raise StartGivenUp


def _opened(settings: Settings) -> Journal:
    limits = NoteLimits(settings.notes_max, settings.notes_bytes_max)
    reserve_bytes = settings.reserve_bytes
    is_alone = settings.workers == 1
    if settings.durability == "memory" or (settings.journal_kind == "sqlite" and is_alone):
        return open_journal(
            settings.database,
            durability=settings.durability,
            reserve_bytes=reserve_bytes,
            note_limits=limits,
        )
    address, durability = settings.journal, settings.durability
    if settings.journal_kind == "sqlite":
        return SharedSqliteJournal(
            settings.database,
            durability=durability,
            reserve_bytes=reserve_bytes,
            note_limits=limits,
        )
    if settings.journal_kind == "redis":
        return open_redis(address, durability=durability, note_limits=limits)
    return open_postgresql(address, durability=durability, jitter=random, note_limits=limits)
