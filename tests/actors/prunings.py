"""Prunes rockets by hand, as retention would."""

from rockets.actors.turn import decode_stored
from rockets.domain.ledger import Ledger
from rockets.domain.messages import Channel
from rockets.journal.base import Journal, Pruned


def prune_through(journal: Journal, channel: str, through: int) -> None:
    """Prune a rocket that was not pruned before, numbers up to this one."""
    base = Ledger(Channel(channel))
    for record in journal.read(channel, 1, through, limit=through):
        base.apply(record.number, *decode_stored(record.body))
    assert base.settled_through == through
    assert journal.prune([Pruned(channel, through, base.pack())], limit=through) == through
