"""What other instances stored of one rocket, on its way into the ledger.

A rocket with an actor gets it through its mailbox, like messages and in turn with them; see
`fleet.Fleet.bring`.
What a ledger holds already changes nothing in it, so it does not matter what comes twice.
"""

from collections.abc import Sequence

import msgspec
import trio

from rockets.actors.part import Part
from rockets.actors.turn import decode_stored
from rockets.domain.ledger import Ledger
from rockets.domain.messages import Channel
from rockets.journal.base import StoredRecord


class Followed(msgspec.Struct, frozen=True):
    """Records of one rocket, or how many conflicts there are with its messages."""

    records: Sequence[StoredRecord] = ()
    conflicts: int | None = None

    def bring_into(self, ledger: Ledger) -> bool:
        """Change a ledger that nobody else changes meanwhile; says whether anything was new."""
        changed = False
        for record in self.records:
            if not ledger.knows(record.number):
                ledger.apply(record.number, *decode_stored(record.body))
                changed = True
        if self.conflicts is not None and self.conflicts != ledger.conflicts:
            ledger.conflicts = self.conflicts
            changed = True
        return changed


class FollowedPart(Part):
    """The same as an item of a mailbox; whoever has sent it waits until it is in the ledger."""

    __slots__ = ("_brought", "_channel", "_followed")

    is_news = True

    def __init__(self, channel: Channel, followed: Followed) -> None:
        super().__init__((), 0)
        self._channel = channel
        self._followed = followed
        self._brought = trio.Event()

    @property
    def channel(self) -> Channel:
        """The rocket that it is for."""
        return self._channel

    def bring_into(self, ledger: Ledger) -> bool:
        """Change the owner's ledger; says whether anything was new."""
        return self._followed.bring_into(ledger)

    def tell(self) -> None:
        """Wake the sender."""
        self._brought.set()

    async def wait_brought(self) -> None:
        """Wait until it is in the ledger; raises what the actor could not do, or died of."""
        await self._brought.wait()
        if self.error is not None:
            raise self.error
