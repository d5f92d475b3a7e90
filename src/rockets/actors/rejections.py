"""Messages that were refused as invalid: kept for whoever has to find out why, once per body.

Keeping one never delays or fails the answer: `keep_nowait` puts the body into a bounded buffer,
and one task moves it into the journal as a note.
What does not fit, or meets a journal that cannot take it, is counted and gone.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from hashlib import blake2b

import msgspec
import structlog
import trio

from rockets.actors.history import HistoryUnavailable
from rockets.domain.messages import Channel, claimed_identity
from rockets.journal.base import JournalError, Note, NoteId, NoteTotals, StoredNote
from rockets.journal.writer import JournalWriter

log = structlog.get_logger()

KIND = "rejection"

WAITING_MAX = 100
"""With the longest bodies 6 MiB; who sends more bad messages than this at once needs no list."""

BATCH_BYTES_MAX = 256 << 10
"""Keeps a commit short that good messages may be waiting for."""

BODY_MAX = 64 << 10
"""The limit of a single message; of longer items of a batch nothing is kept."""

READ_BODIES_MAX = 64
PAGE_BYTES_MAX = 1 << 20
"""A page ends where its bodies get larger, so that an answer stays small whatever was sent."""

SETTLE_S = 1.0
"""So long a reader waits for what was refused before it asked; with a hanging disk it may miss
the last ones."""


class Rejection(msgspec.Struct, frozen=True, gc=False):
    """One refused body; times are in microseconds since the epoch.

    Channel and number are what the body claims, where that is readable and legal.
    """

    id: int
    channel: str | None
    number: int | None
    body: bytes
    count: int
    first_at: int
    last_at: int


class RejectionPage(msgspec.Struct, frozen=True):
    """Rejections, newest first; `following` is the id to go on before, None on the last page."""

    rejections: list[Rejection]
    following: int | None


class RejectionTotals(msgspec.Struct, frozen=True, rename="camel"):
    """How many rejections are kept, were dropped for newer ones, and were only counted.

    The first two are the journal's; `not_kept` counts from the start of this process.
    """

    kept: int
    dropped: int
    not_kept: int


class Rejections:
    """Keeps refused bodies and gives them back; see the module."""

    def __init__(
        self, journal: JournalWriter, wall_clock: Callable[[], int], *, waiting_max: int
    ) -> None:
        self.not_kept = 0
        self._journal = journal
        self._wall_clock = wall_clock
        self._bodies_in, self._bodies_out = trio.open_memory_channel[tuple[bytes, int]](waiting_max)
        # How many were taken in, how many of them are stored or given up, and news of the latter.
        self._taken = self._settled = 0
        self._progress = trio.Event()

    def keep_nowait(self, body: bytes) -> None:
        """Keep a refused body soon, or only count it. Never waits, never fails."""
        try:
            if len(body) > BODY_MAX:
                raise trio.WouldBlock
            self._bodies_in.send_nowait((body, self._wall_clock()))
        except (trio.WouldBlock, trio.ClosedResourceError, trio.BrokenResourceError):
            self.not_kept += 1
        else:
            self._taken += 1

    async def page(
        self, *, channel: Channel | None, before: int | None, limit: int
    ) -> RejectionPage:
        """Give a page; it may end early where the bodies get large.

        Raises HistoryUnavailable where the journal cannot be read.
        """
        await self._wait_settled()
        page: list[Rejection] = []
        size = 0
        while True:
            wanted = min(READ_BODIES_MAX, limit + 1 - len(page))
            notes = await self._read(channel, before, wanted)
            for note in notes:
                full = len(page) == limit or size + len(note.body) > PAGE_BYTES_MAX
                if page and full:
                    return RejectionPage(page, page[-1].id)
                page.append(_rejection(note))
                size += len(note.body)
            if len(notes) < wanted:
                return RejectionPage(page, None)
            before = page[-1].id

    async def _read(
        self, channel: Channel | None, before: int | None, limit: int
    ) -> list[StoredNote]:
        place = None if before is None else NoteId(before)
        try:
            return await self._journal.read_notes(KIND, stream=channel, limit=limit, before=place)
        except JournalError as error:
            raise HistoryUnavailable(f"the journal cannot be read: {error}") from error

    async def find(self, rejection_id: int) -> Rejection | None:
        """Give one rejection; None where there is none with this id."""
        await self._wait_settled()
        try:
            note = await self._journal.note(NoteId(rejection_id))
        except JournalError as error:
            raise HistoryUnavailable(f"the journal cannot be read: {error}") from error
        return _rejection(note) if note is not None and note.kind == KIND else None

    async def resolve(self, rejection: Rejection) -> None:
        """Remove a rejection whose message is stored by now.

        A journal that cannot do it keeps the rejection, and nothing is lost: a retry of it then
        is a duplicate.
        """
        try:
            await self._journal.remove_note(NoteId(rejection.id))
        except JournalError as error:
            log.warning("rejection_not_removed", rejection=rejection.id, reason=str(error))

    async def totals(self) -> RejectionTotals:
        """Count; raises HistoryUnavailable where the journal cannot be read."""
        await self._wait_settled()
        try:
            totals: NoteTotals = await self._journal.note_totals(KIND)
        except JournalError as error:
            raise HistoryUnavailable(f"the journal cannot be read: {error}") from error
        return RejectionTotals(totals.kept, totals.dropped, self.not_kept)

    async def _wait_settled(self) -> None:
        """Wait until what was taken by now is stored, so that who was refused finds its body."""
        wanted = self._taken
        with trio.move_on_after(SETTLE_S):
            while self._settled < wanted:
                await self._progress.wait()

    def close(self) -> None:
        """Take nothing more; what waits is still kept."""
        self._bodies_in.close()

    async def run(self) -> None:
        """Move bodies into the journal until closed and drained; `open_rejections` starts this."""
        with self._bodies_out:
            async for first in self._bodies_out:
                await self._store([first, *self._waiting(len(first[0]))])

    def _waiting(self, size: int) -> list[tuple[bytes, int]]:
        """Take along what waits, up to the bytes of a batch."""
        taken: list[tuple[bytes, int]] = []
        while size < BATCH_BYTES_MAX:
            try:
                taken.append(self._bodies_out.receive_nowait())
            except (trio.WouldBlock, trio.EndOfChannel):
                break
            size += len(taken[-1][0])
        return taken

    async def _store(self, bodies: Sequence[tuple[bytes, int]]) -> None:
        notes = []
        for body, at in bodies:
            notes.append(_note(body, at))
            await trio.lowlevel.checkpoint()  # the longest bodies cost a few milliseconds each
        try:
            await self._journal.append([], notes)
        except JournalError as error:
            self.not_kept += len(bodies)
            log.warning("rejections_not_kept", count=len(bodies), reason=str(error))
        self._settled += len(bodies)
        self._progress.set()
        self._progress = trio.Event()


def _rejection(note: StoredNote) -> Rejection:
    return Rejection(
        note.id,
        note.stream or None,
        note.number or None,
        note.body,
        note.count,
        note.noted_at,
        note.last_at,
    )


def _note(body: bytes, received_at: int) -> Note:
    channel, number = claimed_identity(body)
    key = blake2b(body, digest_size=16).digest()
    return Note(KIND, channel or "", number or 0, key, body, received_at)


@asynccontextmanager
async def open_rejections(
    journal: JournalWriter, *, wall_clock: Callable[[], int], waiting_max: int = WAITING_MAX
) -> AsyncIterator[Rejections]:
    """Run the task that keeps rejections until the block ends; then it keeps what waits.

    `wall_clock` gives microseconds since the epoch.
    """
    rejections = Rejections(journal, wall_clock, waiting_max=waiting_max)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rejections.run)
        try:
            yield rejections
        finally:
            rejections.close()
