"""The journal that the settings name, and the threads that work on it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from random import random

import trio

from rockets.journal import (
    Hop,
    Journal,
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


@asynccontextmanager
async def open_storage(settings: Settings) -> AsyncIterator[JournalWriter]:
    """Open the journal and its writer; JournalRefused where it cannot be had."""
    async with (
        _open_hops(settings) as (write, read),
        _open_journal(settings, write) as journal,
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
async def _open_journal(settings: Settings, write: Hop) -> AsyncIterator[Journal]:
    journal = await write(partial(_opened, settings))
    try:
        yield journal
    finally:
        # The grace period bounds it: the process ends where a disk or a server hangs here.
        with trio.CancelScope(shield=True):
            await write(journal.close)


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
