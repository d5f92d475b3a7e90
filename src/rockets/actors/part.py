"""What is handed to an actor and answered as one: messages of one sender for one rocket.

The invariant: a part is answered once, with a reply for each message or with an error.
"""

from collections.abc import Callable, Sequence

import msgspec
import trio

from rockets.domain.ledger import Ledger, Outcome
from rockets.domain.messages import Channel, Message


class ActorUnavailable(Exception):
    """The rocket's actor could not finish: what was asked is unknown; ask again later."""


class Reply(msgspec.Struct, frozen=True, gc=False):
    """What became of one message, and how far its rocket is settled."""

    outcome: Outcome | None  # None: refused, it would open one run too many
    settled_through: int


class Part:
    """Messages of one sender for one rocket, and the place where the answer is put.

    Exactly one of `replies` and `error` is there once `tell` is called, which happens once.
    A sender that gives up is told nothing, but that the actor is through with the part.
    """

    __slots__ = ("_through", "answered", "error", "messages", "received_at", "replies")

    is_news = False  # of other instances, see `followed`; not to be decided on

    def __init__(self, messages: Sequence[Message], received_at: int) -> None:
        self.messages = messages
        self.received_at = received_at
        self.replies: Sequence[Reply] = ()
        self.error: Exception | None = None
        self.answered = False
        self._through: Callable[[], None] | None = None

    @property
    def channel(self) -> Channel:
        """The rocket that it is for."""
        return self.messages[0].channel

    def bring_into(self, ledger: Ledger) -> bool:
        """Change a ledger by what news say; says whether anything was new."""
        raise NotImplementedError

    def answer(self, replies: Sequence[Reply]) -> None:
        """Put the replies, one per message in order, unless the sender has given up."""
        if self.answered:
            self._tell_through()
            return
        self.replies = replies
        self.answered = True
        self.tell()

    def fail(self, error: Exception) -> None:
        """Answer with an error, unless there is an answer already."""
        if self.answered:
            self._tell_through()
            return
        self.error = error
        self.answered = True
        self.tell()

    def give_up(self, through: Callable[[], None]) -> None:
        """Want no answer any more; `through` is called once the actor holds the part no longer."""
        assert not self.answered, "who has an answer has nothing to give up"
        self.answered = True
        self._through = through

    def _tell_through(self) -> None:
        if self._through is not None:
            self._through()
            self._through = None

    def tell(self) -> None:
        """Tell the sender that the answer is there; must not raise and must not wait."""
        raise NotImplementedError


class AwaitedPart(Part):
    """A part whose sender is a task that waits."""

    __slots__ = ("_told",)

    def __init__(self, messages: Sequence[Message], received_at: int) -> None:
        super().__init__(messages, received_at)
        self._told = trio.Event()

    def tell(self) -> None:
        """Wake the sender."""
        self._told.set()

    async def wait_replies(self) -> Sequence[Reply]:
        """Wait for the answer; leaving early changes nothing for the batch it is in."""
        await self._told.wait()
        if self.error is not None:
            raise self.error
        return self.replies


class BatchPart(Part):
    """A part whose sender waits for a whole batch of them."""

    __slots__ = ("_batch",)

    def __init__(self, messages: Sequence[Message], received_at: int, batch: "Batch") -> None:
        super().__init__(messages, received_at)
        self._batch = batch

    def tell(self) -> None:
        """Count this one; the last one wakes the sender, and so does an error."""
        batch = self._batch
        batch.left -= 1
        if not batch.left or self.error is not None:
            batch.end(self.error)


class Batch:
    """The parts of one sender, `left` of them not answered yet; all of them wake it once."""

    def __init__(self, count: int) -> None:
        assert count > 0, "nobody would end the waiting for nothing"
        self.left = count
        self._error: Exception | None = None
        self._ended = trio.Event()

    def end(self, error: Exception | None) -> None:
        """Let the sender go on; the first error counts, and one is enough."""
        if self._error is None:
            self._error = error
        self._ended.set()

    async def wait(self) -> None:
        """Wait until every part is answered, or raise the first error."""
        await self._ended.wait()
        if self._error is not None:
            raise self._error
