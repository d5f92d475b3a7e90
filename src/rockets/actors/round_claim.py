"""The right to keep ledgers, which of several instances one at a time has.

Where the journal is this instance's alone it always has it.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import trio

from rockets.journal.base import JournalError
from rockets.journal.writer import JournalWriter

RETRY_S = 0.2
"""A round of others takes from some milliseconds to half a minute."""

RELEASE_S = 1.0


@asynccontextmanager
async def claim(journal: JournalWriter) -> AsyncIterator[bool]:
    """Claim it for the block; gives whether it was to be had."""
    shared = journal.shared
    if shared is None:
        yield True
        return
    if not await journal.alone(shared.claim_round):
        yield False
        return
    try:
        yield True
    finally:
        # Also where the block was cancelled, or nobody else could ever keep a ledger. A store that
        # cannot be reached has lost the connection, and the claim with it.
        with trio.move_on_after(RELEASE_S, shield=True), suppress(JournalError):
            await journal.alone(shared.release_round)


@asynccontextmanager
async def wait_claimed(journal: JournalWriter) -> AsyncIterator[None]:
    """Claim it for the block, waiting for whoever has it."""
    while True:
        async with claim(journal) as claimed:
            if claimed:
                yield
                return
        await trio.sleep(RETRY_S)
