"""What stands for the messages of a rocket that were pruned: its base, the ledger of them.

Whoever folds a rocket from its messages begins with the base.
The journal is pruned while it is read. Always the lowest numbers of a rocket go, and their base is
there from the same commit on; so who misses a number asks for the base after that, and it tells.
"""

from rockets.domain.ledger import Ledger, is_packed
from rockets.domain.messages import Channel
from rockets.journal.base import JournalFailed, Pruned, StoredRecord
from rockets.journal.writer import JournalWriter


async def base_of(journal: JournalWriter, channel: Channel) -> Ledger | None:
    """Give the base of a rocket, None where nothing of it was pruned; JournalError."""
    pruned = await journal.pruned_of(channel)
    return None if pruned is None else unpack_base(pruned)


async def read_left(
    journal: JournalWriter, channel: Channel, first: int, last: int, *, limit: int
) -> tuple[Ledger | None, list[StoredRecord]]:
    """Read messages as the journal does, or the base where `first` and maybe more were pruned.

    With a base there are no messages: it holds every number below the next one to read.
    """
    records = await journal.read(channel, first, last, limit=limit)
    if not records or records[0].number != first:
        base = await base_of(journal, channel)
        if base is not None and base.settled_through >= first:
            return base, []
    return None, records


def unpack_base(pruned: Pruned) -> Ledger:
    """Unpack a base; JournalFailed where it was made by other rules, for nothing else has it."""
    if not is_packed(pruned.base):
        raise JournalFailed(f"what was pruned of {pruned.stream} was folded by other rules")
    return Ledger.unpack(Channel(pruned.stream), pruned.base)
