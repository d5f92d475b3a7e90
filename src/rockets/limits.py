"""The limits of each part, as the settings have them; `settings` explains the values."""

from rockets.actors.checkpoints import CheckpointLimits
from rockets.actors.fleet import FleetLimits
from rockets.actors.retention import RetentionLimits
from rockets.settings import Settings
from rockets.web.connections import ConnectionLimits
from rockets.web.front import FrontLimits
from rockets.web.messages import IntakeLimits


def connection(settings: Settings, connections_max: int) -> ConnectionLimits:
    """The limits of connections; so many fit into the descriptors."""
    return ConnectionLimits(
        connections_max=connections_max,
        header_timeout_s=settings.header_timeout_s,
        idle_timeout_s=settings.idle_timeout_s,
        crowded_idle_timeout_s=settings.crowded_idle_timeout_s,
    )


def front(settings: Settings) -> FrontLimits:
    """The limits of heads, bodies and writes."""
    return FrontLimits(
        head_max=settings.head_max,
        headers_max=settings.headers_max,
        bodies_total_max=settings.bodies_total_max,
        small_body_max=min(settings.message_max, settings.batch_max),
        body_pause_s=settings.body_pause_s,
        body_total_s=settings.body_total_s,
        send_timeout_s=settings.send_timeout_s,
    )


def intake(settings: Settings) -> IntakeLimits:
    """The limits of messages and batches."""
    return IntakeLimits(
        message_max=settings.message_max,
        batch_max=settings.batch_max,
        batch_messages_max=settings.batch_messages_max,
        ask_timeout_s=settings.ask_timeout_s,
    )


def fleet(settings: Settings) -> FleetLimits:
    """The limits of actors, mailboxes and what waits."""
    return FleetLimits(
        mailbox_max=settings.mailbox_max,
        actors_max=settings.actors_max,
        idle_timeout_s=settings.actor_idle_s,
        waiting_max=settings.requests_waiting_max,
        waiting_bytes_max=settings.waiting_bytes_max,
        rocket_gaps_max=settings.rocket_gaps_max,
        total_gaps_max=settings.total_gaps_max,
    )


def checkpoint(settings: Settings) -> CheckpointLimits:
    """When a round of ledgers is due."""
    return CheckpointLimits(records=settings.checkpoint_records, seconds=settings.checkpoint_s)


def retention(settings: Settings) -> RetentionLimits:
    """Which settled messages may be pruned."""
    return RetentionLimits(messages=settings.retain_messages, seconds=settings.retain_s)
