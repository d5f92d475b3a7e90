"""Databases that a service has made, with rounds, and what goes wrong with what is kept there."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path

import apsw

from rockets.actors.checkpoints import CheckpointLimits, Checkpoints
from rockets.actors.fleet import Fleet, FleetLimits, open_fleet
from rockets.actors.read_model import ReadModel
from rockets.domain.ledger import Ledger
from rockets.domain.messages import Message
from rockets.journal import Journal, LedgerRecord, SqliteJournal, inline, open_writer
from tests.helpers import message

NEVER = CheckpointLimits(records=2**40, seconds=2**40)


@asynccontextmanager
async def service(journal: Journal) -> AsyncIterator[tuple[Fleet, Checkpoints]]:
    """A fleet as `server` runs it; rounds are made by the test."""
    read_model = ReadModel()
    async with (
        open_writer(journal, write=inline, read=inline) as writer,
        open_fleet(
            journal=writer, read_model=read_model, limits=FleetLimits(actors_max=3)
        ) as fleet,
    ):
        yield fleet, Checkpoints(writer, read_model, NEVER)


async def serve(path: Path, messages: Sequence[Message], later: Sequence[Message] = ()) -> Path:
    """Let a service take messages, make a round, take some more and end without another."""
    with closing(SqliteJournal(path, durability="normal")) as journal:
        async with service(journal) as (fleet, checkpoints):
            await fleet.ask_all(messages, received_at=1)
            await checkpoints.round()
            if later:
                await fleet.ask_all(later, received_at=2)
    return path


def packed(*messages: Message) -> bytes:
    """The ledger that these messages make."""
    ledger = Ledger(messages[0].channel)
    for each in messages:
        ledger.apply(each.number, each.payload, each.time)
    return ledger.pack()


def plant(path: Path, channel: str, data: bytes) -> None:
    """Keep any bytes as the ledger of a rocket, with a checksum that fits."""
    with closing(SqliteJournal(path, durability="normal")) as journal:
        journal.keep_ledgers([LedgerRecord(channel, data)])


def edit(path: Path, sql: str) -> None:
    """Change the database behind the journal's back."""
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute(sql)


def launched(channel: str, speed: int, count: int) -> list[Message]:
    """A launch with this speed, and messages that change it by 1."""
    first = message(
        channel, 1, "RocketLaunched", type="Falcon-9", launchSpeed=speed, mission="ARTEMIS"
    )
    return [first, *(message(channel, number, by=1) for number in range(2, count + 1))]
