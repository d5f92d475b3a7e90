"""What `/health` answers: the parts of the service, asked at one moment."""

from rockets import __version__
from rockets.actors.fleet import Fleet
from rockets.journal.space_watch import SpaceWatch
from rockets.journal.writer import JournalWriter
from rockets.settings import Settings
from rockets.web.connections import Connections
from rockets.web.front import Front
from rockets.web.operations import Health, HealthStatus


def answer(
    settings: Settings,
    *,
    since: str,
    stopping: bool,
    writer: JournalWriter,
    space: SpaceWatch,
    fleet: Fleet,
    connections: Connections,
    front: Front,
) -> Health:
    """Say how the service is; nothing here waits. A journal in doubt says more than a stop."""
    status: HealthStatus = "ok" if space.refusal() is None else "degraded"
    if stopping:
        status = "stopping"
    if writer.failure is not None:
        status = "degraded"
    fleet_now, connections_now = fleet.statistics(), connections.statistics()
    return Health(
        status=status,
        version=__version__,
        journal="memory" if settings.durability == "memory" else "sqlite",
        durability=settings.durability,
        since=since,
        checks={
            "journal": str(writer.failure) if writer.failure else "ok",
            "space": space.check(),
        },
        counts={
            "rockets": fleet_now.rockets,
            "liveActors": fleet_now.live_actors,
            "gaps": fleet_now.gaps,
            "actorRestarts": fleet_now.restarts,
            "requestsWaiting": fleet_now.requests_waiting,
            "connections": len(connections),
            "connectionsPeak": connections_now.peak,
            "fastAnswers": front.statistics().fast_answers,
            "lentRequests": front.statistics().lent_requests,
            **_space_counts(space),
        },
    )


def _space_counts(space: SpaceWatch) -> dict[str, int]:
    """Give the journal's bytes, or nothing where they are not known or there is no file."""
    seen = space.statistics()
    if seen is None or not seen.database_bytes:
        return {}
    return {
        "databaseBytes": seen.database_bytes,
        "walBytes": seen.wal_bytes,
        "freeBytes": seen.free_bytes,
    }
