"""The fleet of this instance, with what keeps its ledgers and, among others, follows them."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

from rockets import limits
from rockets.actors.checkpoints import open_checkpoints
from rockets.actors.fleet import Fleet, open_fleet
from rockets.actors.read_model import ReadModel
from rockets.actors.replica import Replica, open_replica
from rockets.actors.retention import open_retention
from rockets.journal import JournalWriter, open_thread
from rockets.settings import Settings
from rockets.stopping import ServeRefused


class Instance(NamedTuple):
    """What takes messages and shows rockets; the replica is None where the journal is our own."""

    fleet: Fleet
    replica: Replica | None


@asynccontextmanager
async def open_instance(
    settings: Settings,
    writer: JournalWriter,
    *,
    wall_clock: Callable[[], int],
    over_by: Callable[[], float],
) -> AsyncIterator[Instance]:
    """Recover and run until the block ends; ServeRefused where the journal is not for that.

    Alone, an instance keeps the last ledgers when the last actor has ended. Among others it does
    so while it still follows them. `over_by` gives trio's time at which those are given up.
    """
    read_model = ReadModel()
    checkpoint = limits.checkpoint(settings)
    fleet_opened = open_fleet(journal=writer, read_model=read_model, limits=limits.fleet(settings))
    if writer.shared is None:
        if settings.role != "all":
            raise ServeRefused(f"role {settings.role} needs a journal that instances share")
        async with (
            open_checkpoints(writer, read_model, checkpoint, over_by=over_by) as checkpoints,
            fleet_opened as fleet,
            open_retention(
                writer,
                read_model,
                checkpoints,
                limits.retention(settings),
                wall_clock=wall_clock,
            ),
        ):
            yield Instance(fleet, None)
    else:
        if not limits.retention(settings).keep_all:
            raise ServeRefused("retention is not for a journal that instances share")
        async with (
            fleet_opened as fleet,
            open_thread("journal follower") as follow,
            open_replica(writer, fleet, hop=follow, wait_s=settings.read_wait_s) as replica,
            open_checkpoints(writer, read_model, checkpoint, replica, over_by=over_by),
        ):
            yield Instance(fleet, replica)
