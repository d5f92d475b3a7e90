"""The fleet: registry and supervisor of the rocket actors.

It owns the actors' nursery, gives every active rocket one actor with a bounded mailbox, ends idle
ones, and is the one place where a crashed actor is caught.

A message and a passivation can meet.
Sending is `send_nowait` right after the look-up, and a passivation checks the mailbox and leaves
the registry in one stretch without a checkpoint, so one of the two comes first: a message is never
left in the mailbox of an actor that has gone.
"""

from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

import msgspec
import structlog
import trio

from rockets.actors.crashes import Crashes
from rockets.actors.followed import Followed, FollowedPart
from rockets.actors.part import ActorUnavailable, AwaitedPart, Batch, BatchPart, Part, Reply
from rockets.actors.read_model import ReadModel
from rockets.actors.recovery import recover
from rockets.actors.rocket_actor import RocketActor
from rockets.actors.run_budget import RunBudget
from rockets.actors.squads import Squads
from rockets.actors.waiting import FleetUnavailable, Waiting
from rockets.domain.messages import Channel, Message
from rockets.journal.base import JournalError, JournalUnreachable
from rockets.journal.writer import JournalWriter

log = structlog.get_logger()

T = TypeVar("T")

# A batch has so many rockets at work at once; the next ones follow when these have answered, so
# that one batch never needs all the actors there may be.
ROCKETS_AT_ONCE = 1_000

_open_mailbox = trio.open_memory_channel[Part]  # naming the type each time costs 3 µs


class FleetStatistics(msgspec.Struct, frozen=True):
    """A snapshot of the fleet for health and metrics."""

    rockets: int
    live_actors: int
    gaps: int
    restarts: int
    requests_waiting: int


class FleetLimits(msgspec.Struct, frozen=True):
    """The bounds of the fleet; `settings` explains the values."""

    mailbox_max: int = 256
    actors_max: int = 4_096
    idle_timeout_s: float = 60.0
    waiting_max: int = 4_096
    waiting_bytes_max: int = 128 * 1024 * 1024
    rocket_gaps_max: int = 100_000
    total_gaps_max: int = 250_000


class _Entry:
    """A live actor as the registry sees it."""

    __slots__ = ("actor", "last_used", "mailbox")

    def __init__(
        self, actor: RocketActor, mailbox: trio.MemorySendChannel[Part], last_used: float
    ) -> None:
        self.actor = actor
        self.mailbox = mailbox
        self.last_used = last_used

    @property
    def quiet(self) -> bool:
        """The actor waits for its mailbox, and nothing has been put into it.

        That it waits is more than that the mailbox is empty: a part that was handed to it may be
        in neither, until its task gets a turn.
        """
        return self.mailbox.statistics().tasks_waiting_receive == 1


class Fleet:
    """Finds or starts the actor of a rocket and hands it messages; see the module."""

    def __init__(
        self,
        nursery: trio.Nursery,
        *,
        journal: JournalWriter,
        read_model: ReadModel,
        limits: FleetLimits,
    ) -> None:
        self.read_model = read_model
        self.waiting = Waiting(limits.waiting_max, limits.waiting_bytes_max)
        self._nursery = nursery
        self._journal = journal
        self._limits = limits
        self._budget = RunBudget(total_max=limits.total_gaps_max, rocket_max=limits.rocket_gaps_max)
        # Least recently used first.
        self._entries: OrderedDict[Channel, _Entry] = OrderedDict()
        self._squads = Squads(
            nursery,
            journal=journal,
            read_model=read_model,
            budget=self._budget,
            rockets_max=limits.actors_max,
            mailbox_max=limits.mailbox_max,
            crashed=self._squad_crashed,
        )
        self._crashes = Crashes()
        self._restarts = 0
        self._closed = False

    async def ask(
        self, channel: Channel, messages: Sequence[Message], *, received_at: int
    ) -> Sequence[Reply]:
        """Hand messages of one rocket over and wait until they are durable.

        Gives a reply per message, in order.
        Raises FleetUnavailable where that is in doubt.
        Cancelling the wait leaves what was handed over to be stored.
        """
        with self.waiting.counted(messages) as posted:
            part = AwaitedPart(messages, received_at)
            await self.post(channel, part)
            posted.append(part)
            return await _told(part.wait_replies())

    async def post(self, channel: Channel, part: Part) -> None:
        """Hand a part over without waiting for its answer: `part.tell` brings it.

        Waits where the rocket's mailbox is full; raises FleetUnavailable where it is not taken.
        Who posts counts the request in `waiting`.
        """
        if self.post_nowait(channel, part):
            return
        try:
            await self._mailbox(channel).send(part)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise FleetUnavailable("the rocket's actor ended") from error

    def post_nowait(self, channel: Channel, part: Part) -> bool:
        """Hand a part over like `post`; False where the mailbox is full."""
        try:
            self._mailbox(channel).send_nowait(part)
        except trio.WouldBlock:
            return False
        return True

    async def ask_all(self, messages: Sequence[Message], *, received_at: int) -> list[Reply]:
        """Hand messages of any rockets over, like `ask`, and wait until all are durable.

        Each rocket gets its messages as one part, in their order.
        No actor waits for another rocket's part; only this caller waits for all.
        Where one rocket's part is in doubt it raises, though the others may be stored.
        """
        places: dict[Channel, list[int]] = {}
        for place, message in enumerate(messages):
            places.setdefault(message.channel, []).append(place)
        replies: dict[int, Reply] = {}
        rockets = list(places.values())
        at_once = max(1, min(ROCKETS_AT_ONCE, self._limits.actors_max // 2))
        with self.waiting.counted(messages) as posted:
            for start in range(0, len(rockets), at_once):
                some = rockets[start : start + at_once]
                batch = Batch(len(some))
                parts = [
                    BatchPart([messages[place] for place in mine], received_at, batch)
                    for mine in some
                ]
                await self._post_each(parts, posted)
                await _told(batch.wait())
                for mine, part in zip(some, parts, strict=True):
                    replies |= zip(mine, part.replies, strict=True)
                posted.clear()
        return [replies[place] for place in range(len(messages))]

    async def _post_each(self, parts: Sequence[Part], posted: list[Part]) -> None:
        """Hand over parts of different rockets: those that nobody owns go to a squad.

        What is handed over is put into `posted`.
        """
        free: list[Part] = []
        owned: list[Part] = []
        for part in parts:
            (free if self._is_free(part.channel) else owned).append(part)
        if self._closed or not self._squads.has_room(len(free)):
            owned += free
        else:
            self._squads.start(free)  # no checkpoint since the first look
            posted += free
        for part in owned:
            await self.post(part.channel, part)
            posted.append(part)

    def _is_free(self, channel: Channel) -> bool:
        """Say whether a rocket has no owner and may have one for a while."""
        return (
            channel not in self._entries
            and channel not in self._crashes
            and self._squads.may_have(channel)
        )

    async def bring(self, channel: Channel, followed: Followed) -> FollowedPart | None:
        """Bring what other instances stored into a rocket.

        A rocket that nobody owns has it at once; else its owner has the part that is given back,
        to be waited for. Raises FleetUnavailable as `post` does.
        """
        if self._closed or self._is_owned(channel) or channel in self.read_model.doubtful:
            part = FollowedPart(channel, followed)
            await self.post(channel, part)
            return part
        ledger = self.read_model.opened(channel)
        gaps_before = ledger.gap_count
        if followed.bring_into(ledger):
            self._budget.change(ledger.gap_count - gaps_before)
            self.read_model.publish_packed(ledger)
        return None

    def _is_owned(self, channel: Channel) -> bool:
        return channel in self._entries or self._squads.mailbox(channel) is not None

    def statistics(self) -> FleetStatistics:
        """Give a snapshot of the counts."""
        return FleetStatistics(
            rockets=len(self.read_model),
            live_actors=len(self._entries) + self._squads.count,
            gaps=self._budget.used,
            restarts=self._restarts,
            requests_waiting=len(self.waiting),
        )

    def _mailbox(self, channel: Channel) -> trio.MemorySendChannel[Part]:
        """Look the mailbox up, starting the actor where there is none. No checkpoint."""
        if self._closed:
            raise FleetUnavailable("the service is stopping")
        entry = self._entries.get(channel)
        if entry is None:
            squad = self._squads.mailbox(channel)
            if squad is not None:
                return squad
            if self._crashes.are_too_many(channel):
                raise FleetUnavailable("the rocket's actor crashed too often in the last minute")
            entry = self._start(channel) if self._has_room() else self._adopt(channel)
        entry.last_used = trio.current_time()
        self._entries.move_to_end(channel)
        return entry.mailbox

    def _has_room(self) -> bool:
        return len(self._entries) < self._limits.actors_max

    def _adopt(self, channel: Channel) -> _Entry:
        """At the limit of live actors, give the rocket the quiet one that was used longest ago.

        (Measured: a third of what it costs to end one task and to start another.)
        """
        quiet = ((old, entry) for old, entry in self._entries.items() if entry.quiet)
        old, entry = next(quiet, (None, None))
        if old is None or entry is None:
            raise FleetUnavailable("too many rockets are active")
        if channel in self.read_model.doubtful:
            self._passivate(old, entry)
            return self._start(channel)
        self._leave_alone(old)
        entry.actor.adopt(self.read_model.take_over(channel))
        self._entries[channel] = entry
        return entry

    def _start(self, channel: Channel) -> _Entry:
        send, receive = _open_mailbox(self._limits.mailbox_max)
        actor = RocketActor(
            self.read_model.take_over(channel),
            mailbox=receive,
            journal=self._journal,
            budget=self._budget,
            publish=self.read_model.publish,
            restore=channel in self.read_model.doubtful,
        )
        entry = self._entries[channel] = _Entry(actor, send, trio.current_time())
        self._nursery.start_soon(self._supervise, entry, name="rocket actor")
        return entry

    async def _supervise(self, entry: _Entry) -> None:
        """Run one actor; the only place that catches its crash."""
        with entry.actor.mailbox:
            try:
                await entry.actor.run()
            except JournalUnreachable as error:
                # It could not restore its rocket, which is no fault of its own.
                reason = str(error)
                self._forget(entry, lambda: JournalUnreachable(reason))
            except Exception as error:
                log.exception("actor_crashed", channel=entry.actor.ledger.channel)
                self._restarts += 1
                self._note_crash(entry.actor.ledger.channel)
                reason = f"the rocket's actor crashed: {type(error).__name__}"
                self._forget(entry, lambda: ActorUnavailable(reason))

    def _forget(self, entry: _Entry, error: Callable[[], Exception]) -> None:
        """Forget the actor and fail its senders; its next message restores the rocket."""
        channel = entry.actor.ledger.channel
        self.read_model.doubtful.add(channel)
        if self._entries.get(channel) is entry:
            del self._entries[channel]
        entry.mailbox.close()
        entry.actor.fail(error)

    def _squad_crashed(self, channels: Iterable[Channel]) -> None:
        """Note that one of these has crashed their squad; each restores itself, on its own."""
        self._restarts += 1
        for channel in channels:
            self._note_crash(channel)

    def _note_crash(self, channel: Channel) -> None:
        self.read_model.doubtful.add(channel)
        self._crashes.note(channel)

    def _passivate(self, channel: Channel, entry: _Entry) -> None:
        """End a quiet actor: its ledger stays in the read model. No checkpoint, see the module."""
        assert entry.quiet
        self._leave_alone(channel)
        entry.mailbox.close()

    def _leave_alone(self, channel: Channel) -> None:
        """Take a quiet actor out of the registry; if its rocket was to be restored, it has been."""
        del self._entries[channel]
        self.read_model.doubtful.discard(channel)
        self.read_model.retire(channel)

    async def sweep(self) -> None:
        """End idle actors, for ever; one sweep costs less than a timer around each receive."""
        while True:
            await trio.sleep(self._limits.idle_timeout_s / 4)
            self._sweep_once()

    def _sweep_once(self) -> None:
        """Passivate everything that has been quiet for the idle timeout. No checkpoint."""
        oldest_kept = trio.current_time() - self._limits.idle_timeout_s
        for channel, entry in list(self._entries.items()):
            if entry.last_used > oldest_kept:
                break
            if entry.quiet:
                self._passivate(channel, entry)

    async def recover(self) -> None:
        """Bring the read model to what the journal holds; before the first message."""
        recovered = await recover(self._journal, self.read_model)
        self._budget.change(recovered.gaps)
        log.info(
            "ledgers_recovered",
            rockets=len(self.read_model),
            checkpointed=recovered.checkpointed,
            rebuilt=recovered.rebuilt,
            records=recovered.records,
        )

    def close(self) -> None:
        """Take nothing more; actors work their mailboxes off and end."""
        self._closed = True
        for entry in self._entries.values():
            entry.mailbox.close()
        self._entries.clear()


async def _told(answer: Awaitable[T]) -> T:
    """Wait for an answer, saying in the fleet's words what is in doubt."""
    try:
        return await answer
    except (JournalError, ActorUnavailable) as error:
        raise FleetUnavailable(str(error)) from error


@asynccontextmanager
async def open_fleet(
    *, journal: JournalWriter, read_model: ReadModel, limits: FleetLimits
) -> AsyncIterator[Fleet]:
    """Recover the ledgers and run the actors until the block ends; then drain them.

    The drain has no deadline of its own: the caller's cancel scope is the grace period.
    """
    async with trio.open_nursery() as nursery:
        fleet = Fleet(nursery, journal=journal, read_model=read_model, limits=limits)
        await fleet.recover()
        async with trio.open_nursery() as sweeper:
            sweeper.start_soon(fleet.sweep)
            try:
                yield fleet
            finally:
                sweeper.cancel_scope.cancel()
                fleet.close()
