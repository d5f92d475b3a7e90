"""Recovery at a start: the ledgers of the last checkpoint, then the journal from where it began.

A checkpoint is no consistent cut: its ledgers were kept one by one while messages came. Each holds
at least all records up to the position at which its round began, so the rest is applied again from
there, and what a ledger holds already changes nothing.
A ledger that is damaged, in doubt or of other rules is folded from its messages. Without a whole
round everything is. What was pruned is folded from its base.
"""

from collections.abc import Iterable

import msgspec
import structlog

from rockets.actors.base import unpack_base
from rockets.actors.read_model import ReadModel
from rockets.actors.rocket_actor import fold_stored
from rockets.actors.round_claim import wait_claimed
from rockets.actors.turn import decode_stored
from rockets.domain.ledger import RULES, Ledger, is_packed
from rockets.domain.messages import Channel
from rockets.journal.base import (
    JournalFailed,
    JournalRefused,
    JournalUnreachable,
    LedgersDamaged,
    Position,
    Round,
)
from rockets.journal.writer import JournalWriter

log = structlog.get_logger()

LEDGERS_SLICE = 10_000
BASES_SLICE = 1_000
RECORDS_SLICE = 2_000

# So many ledgers are open at once; then all are packed again, which bounds the memory.
OPEN_MAX = 50_000


class Recovered(msgspec.Struct, frozen=True):
    """What a start has done: ledgers taken and rebuilt, records applied, gaps found."""

    checkpointed: int
    rebuilt: int
    records: int
    gaps: int


async def recover(journal: JournalWriter, read_model: ReadModel) -> Recovered:
    """Bring an empty read model to what the journal holds; JournalError where it cannot.

    Of these JournalRefused says that the journal is damaged, cannot be used or not be reached.
    """
    try:
        return await _recover(journal, read_model)
    except (JournalFailed, JournalUnreachable) as error:
        raise JournalRefused(str(error)) from error


async def _recover(journal: JournalWriter, read_model: ReadModel) -> Recovered:
    try:
        began, damaged = await _take_ledgers(journal, read_model)
    except LedgersDamaged as error:
        log.warning("ledgers_dropped", reason=str(error))
        async with wait_claimed(journal):
            await journal.drop_ledgers()
        read_model.clear()
        began, damaged = None, 0
    checkpointed = len(read_model) - damaged
    if began is None:
        await _take_bases(journal, read_model)
        began = Position(0)
    records, read_model.recovered_through = await _apply_from(journal, read_model, began)
    conflicts = await journal.count_notes("conflict")
    for channel in {*map(Channel, conflicts), *read_model.with_conflicts()}:
        _set_conflicts(read_model, channel, conflicts.get(channel, 0))
    return Recovered(checkpointed, damaged, records, read_model.gap_count())


async def _take_ledgers(
    journal: JournalWriter, read_model: ReadModel
) -> tuple[Position | None, int]:
    """Take the kept ledgers as they are, and fold those again that cannot be used.

    Gives the position from which on records are to be applied, None where no ledger can be used,
    and how many were folded again.
    LedgersDamaged where a ledger is missing.
    """
    rounds = usable_rounds(await journal.rounds())
    if not rounds:
        return None, 0
    newest = rounds[0]
    damaged: list[Channel] = []
    after = ""
    while ledgers := await journal.ledgers(after, limit=LEDGERS_SLICE):
        for ledger in ledgers:
            channel = Channel(ledger.stream)
            if ledger.data is not None and is_packed(ledger.data):
                read_model.keep_idle(channel, ledger.data)
            else:
                damaged.append(channel)
        after = ledgers[-1].stream
    kept = len(read_model) + len(damaged)
    if kept < newest.ledgers:
        raise LedgersDamaged(f"{kept} ledgers are kept of {newest.ledgers}")
    if not await journal.rounds():
        raise LedgersDamaged("another instance has dropped the ledgers while they were read")
    for channel in damaged:
        await _rebuild(journal, read_model, channel)
    return newest.began, len(damaged)


def usable_rounds(rounds: Iterable[Round]) -> list[Round]:
    """Give the rounds of these rules, in their order: a start goes on from the newest."""
    return [each for each in rounds if each.rules == str(RULES)]


async def _take_bases(journal: JournalWriter, read_model: ReadModel) -> None:
    """Begin every rocket that was pruned with its base; JournalError where it cannot be used."""
    after = ""
    while pruned := await journal.pruned(after, limit=BASES_SLICE):
        for each in pruned:
            _keep(read_model, unpack_base(each))
        after = pruned[-1].stream


async def _rebuild(journal: JournalWriter, read_model: ReadModel, channel: Channel) -> None:
    """Fold one rocket from its messages; LedgersDamaged where it has none: the name is wrong."""
    ledger = await fold_stored(journal, channel)
    if not ledger.run_count:
        raise LedgersDamaged(f"the ledger of {channel!r} belongs to another rocket")
    _keep(read_model, ledger)


async def _apply_from(
    journal: JournalWriter, read_model: ReadModel, position: Position
) -> tuple[int, Position]:
    """Apply all records behind a position; gives how many there were, and the last position."""
    count = 0
    opened: dict[Channel, Ledger] = {}
    while records := await journal.follow(position, limit=RECORDS_SLICE):
        for record in records:
            channel = Channel(record.stream)
            ledger = opened.get(channel)
            if ledger is None:
                ledger = opened[channel] = read_model.ledger(channel) or Ledger(channel)
            ledger.apply(record.number, *decode_stored(record.body))
        count += len(records)
        position = records[-1].position
        if len(opened) > OPEN_MAX:
            _pack(read_model, opened)
    _pack(read_model, opened)
    return count, position


def _pack(read_model: ReadModel, opened: dict[Channel, Ledger]) -> None:
    for ledger in opened.values():
        _keep(read_model, ledger)
    opened.clear()


def _keep(read_model: ReadModel, ledger: Ledger) -> None:
    """Show a ledger that is not, or not so, in the checkpoint; the next round keeps it."""
    read_model.keep_idle(ledger.channel, ledger.pack())
    read_model.changed.add(ledger.channel)


def _set_conflicts(read_model: ReadModel, channel: Channel, conflicts: int) -> None:
    """Notes have no position, so what was noted after the checkpoint is counted anew."""
    ledger = read_model.ledger(channel)
    if ledger is not None and ledger.conflicts != conflicts:
        ledger.conflicts = conflicts
        _keep(read_model, ledger)
