"""What `/health` answers: the parts of the service, asked at one moment."""

from collections.abc import Mapping

from rockets import __version__
from rockets.actors.fleet import Fleet
from rockets.actors.replica import Replica
from rockets.journal.space_watch import SpaceWatch
from rockets.journal.writer import JournalWriter
from rockets.settings import Durability, JournalKind, Settings
from rockets.web.connections import Connections
from rockets.web.feed import Feed
from rockets.web.front import Front
from rockets.web.operations import Health, HealthStatus

# The promise of a server ends where its replicas have not got yet what it has answered.
SURVIVES: Mapping[tuple[JournalKind, Durability], str] = {
    ("memory", "memory"): "nothing",
    ("sqlite", "full"): "power loss",
    ("sqlite", "normal"): "kill -9",
    ("postgresql", "full"): "power loss; a failover to a synchronous standby",
    ("postgresql", "normal"): "kill -9; power loss as far as the server syncs",
    ("redis", "full"): "power loss; not a failover",
    ("redis", "normal"): "kill -9; not power loss, not a failover",
}


def answer(
    settings: Settings,
    *,
    since: str,
    stopping: bool,
    writer: JournalWriter,
    space: SpaceWatch,
    fleet: Fleet,
    replica: Replica | None,
    connections: Connections,
    front: Front,
    feed: Feed,
) -> Health:
    """Say how the service is; nothing here waits. A journal in doubt says more than a stop."""
    behind = None if replica is None else replica.trouble()
    status: HealthStatus = "ok" if space.refusal() is None and behind is None else "degraded"
    if stopping:
        status = "stopping"
    if writer.failure is not None:
        status = "degraded"
    fleet_now, connections_now = fleet.statistics(), connections.statistics()
    writer_now = writer.statistics()
    return Health(
        status=status,
        version=__version__,
        journal=settings.journal_kind,
        durability=settings.durability,
        since=since,
        checks={
            "journal": str(writer.failure) if writer.failure else "ok",
            "space": space.check(),
            **({} if replica is None else {"replica": behind or "ok"}),
        },
        counts={
            "rockets": fleet_now.rockets,
            "liveActors": fleet_now.live_actors,
            "gaps": fleet_now.gaps,
            "actorRestarts": fleet_now.restarts,
            "requestsWaiting": fleet_now.requests_waiting,
            "connections": len(connections),
            "connectionsPeak": connections_now.peak,
            "readers": feed.readers,
            "fastAnswers": front.statistics().fast_answers,
            "lentRequests": front.statistics().lent_requests,
            "commits": writer_now.batches,
            "committedRecords": writer_now.records,
            **({} if replica is None else {"followed": replica.statistics().followed}),
            **_space_counts(space),
        },
        survives=SURVIVES[settings.journal_kind, settings.durability],
    )


def _space_counts(space: SpaceWatch) -> dict[str, int]:
    """Give the journal's bytes, or nothing where they are not known or there is no file.

    Of a server's disk nothing is known but, from PostgreSQL, the size of its tables.
    """
    seen = space.statistics()
    if seen is None or not seen.database_bytes:
        return {}
    sizes = {"databaseBytes": seen.database_bytes}
    if seen.free_bytes:
        sizes |= {"walBytes": seen.wal_bytes, "freeBytes": seen.free_bytes}
    return sizes
