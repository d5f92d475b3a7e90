"""Which rocket belongs to which squad: starts the squads of batches, and supervises them.

Taking rockets for a squad is one stretch without a checkpoint, from the look at whether anybody
owns them; and so is giving them back, from the look into the empty mailbox. So a rocket has one
owner at any time, and a message is never left in the mailbox of a squad that has gone.
"""

from collections.abc import Callable, Iterable, Sequence

import structlog
import trio

from rockets.actors.part import ActorUnavailable, Part
from rockets.actors.read_model import ReadModel
from rockets.actors.run_budget import RunBudget
from rockets.actors.squad import Squad
from rockets.domain.messages import Channel
from rockets.journal.writer import JournalWriter

log = structlog.get_logger()

# A squad opens and packs its rockets for every part, so what is long belongs to an actor that
# keeps it open.
GAPS_MAX = 16

# A lone rocket has an actor of its own, which remembers what it has stored.
ROCKETS_MIN = 2


class Squads:
    """The squads there are; see the module. `crashed` is told what was in their hands."""

    def __init__(
        self,
        nursery: trio.Nursery,
        *,
        journal: JournalWriter,
        read_model: ReadModel,
        budget: RunBudget,
        rockets_max: int,
        mailbox_max: int,
        crashed: Callable[[Iterable[Channel]], None],
    ) -> None:
        self.count = 0
        self._nursery = nursery
        self._journal = journal
        self._read_model = read_model
        self._budget = budget
        self._rockets_max = rockets_max
        self._mailbox_max = mailbox_max
        self._crashed = crashed
        self._mailboxes: dict[Channel, trio.MemorySendChannel[Part]] = {}

    def mailbox(self, channel: Channel) -> trio.MemorySendChannel[Part] | None:
        """Look up where a rocket's messages go that is in a squad now."""
        return self._mailboxes.get(channel)

    def may_have(self, channel: Channel) -> bool:
        """Say whether a rocket without an actor of its own may be in a squad to come."""
        return (
            channel not in self._mailboxes
            and channel not in self._read_model.doubtful
            and self._read_model.idle_gaps(channel) <= GAPS_MAX
        )

    def has_room(self, rockets: int) -> bool:
        """Say whether so many rockets are enough for a squad, and not too many."""
        return ROCKETS_MIN <= rockets <= self._rockets_max - len(self._mailboxes)

    def start(self, parts: Sequence[Part]) -> None:
        """Start a squad of rockets that nobody owns, with a part of each. No checkpoint."""
        # For each rocket as many parts may wait as for one that has an actor.
        send, receive = trio.open_memory_channel[Part](self._mailbox_max * len(parts))
        squad = Squad(
            [*parts],
            mailbox=receive,
            journal=self._journal,
            budget=self._budget,
            read_model=self._read_model,
            give_back=self._take_back,
        )
        assert self._mailboxes.keys().isdisjoint(squad.channels), "a rocket has one owner"
        self._mailboxes.update(dict.fromkeys(squad.channels, send))
        self.count += 1
        self._nursery.start_soon(self._supervise, squad, send, name="squad")

    async def _supervise(self, squad: Squad, mailbox: trio.MemorySendChannel[Part]) -> None:
        """Run one squad; the only place that catches its crash."""
        with squad.mailbox, mailbox:
            try:
                await squad.run()
            except Exception as error:
                log.exception("squad_crashed", rockets=len(squad.channels))
                self._crash(squad, mailbox, error)
            self.count -= 1

    def _crash(self, squad: Squad, mailbox: trio.MemorySendChannel[Part], error: Exception) -> None:
        """Take the rockets back, those at work as doubtful, and fail all senders."""
        self._take_back(squad.channels)
        self._crashed({part.channel for part in squad.parts})
        mailbox.close()
        reason = f"the rocket's actor crashed: {type(error).__name__}"
        squad.fail(lambda: ActorUnavailable(reason))

    def _take_back(self, channels: Iterable[Channel]) -> None:
        for channel in channels:
            del self._mailboxes[channel]
