"""The fast lane: the hot requests, answered without Hypercorn and Quart.

It takes a request that is plain in every respect and lends the rest: what is lent is answered by
the handlers of `messages` and `rockets`, which are the specification. `tests/web/test_parity.py`
holds both against each other, byte by byte. Take a route out of `hot` and it is only slower.

An answer to a message does not wake the connection's task: the actor that has it writes it to the
socket, and the task waits for the next request all the while.
(Measured: one turn of the scheduler less is a fifth of a message.)
"""

import time
from collections.abc import Callable
from email.utils import formatdate
from functools import partial

import msgspec
import trio

from rockets.actors.fleet import Fleet
from rockets.actors.listing import ListQuery
from rockets.actors.part import Part
from rockets.actors.waiting import FleetUnavailable
from rockets.domain.messages import (
    Channel,
    Message,
    MessageInvalid,
    MessageMalformed,
    decode_message,
    normalize_channel,
)
from rockets.domain.rocket import Rocket
from rockets.web import problems
from rockets.web.batch import OUTCOMES, form_of
from rockets.web.byte_budget import ByteBudget
from rockets.web.connections import SWEEP_INTERVAL_S, Connection, Connections, Then
from rockets.web.etags import etag
from rockets.web.framing import Head
from rockets.web.rocket_list import rocket_list

# Headers that change the answer: who sends one gets it from the handlers.
_CHANGING = frozenset({b"content-encoding", b"if-none-match", b"prefer"})

# Answers about rockets that did not change are kept; half a kilobyte each.
ROCKET_ANSWERS_MAX = 4_096

# A longer list is not made on the loop for each change of any rocket.
LIST_MAX = 1_000


# The beginning of the answer to a message, by its outcome.
_TAKEN = {
    outcome: b"HTTP/1.1 204 \r\nrockets-outcome: %b\r\nrockets-settled: " % outcome.encode()
    for outcome in OUTCOMES
}


class Hot(msgspec.Struct, frozen=True):
    """What the fast lane has read from the head of a request that it knows."""

    channel: Channel | None  # of GET /rockets/{channel}
    is_message: bool  # of POST /messages
    request_id: str | None
    keep_alive: bool


class FastLane:
    """Answers hot requests; see the module."""

    def __init__(
        self,
        *,
        fleet: Fleet,
        connections: Connections,
        wall_clock: Callable[[], int],
        answers: ByteBudget,
        message_max: int,
        ask_timeout_s: float,
        takes_messages: bool = True,
        shows_state: bool = True,
    ) -> None:
        """What it does not take or show is lent, and the handlers say why, or wait first."""
        self._takes_messages = takes_messages
        self._shows_state = shows_state
        self._fleet = fleet
        self._connections = connections
        self._wall_clock = wall_clock
        self._answers = answers
        self._message_max = message_max
        self._ask_timeout_s = ask_timeout_s
        # All wait equally long, so the first is the one that has waited longest.
        self._waiting: dict[_Ask, None] = {}
        self._rocket_answers: dict[Channel, tuple[Rocket, tuple[bytes, bytes]]] = {}
        self._list_version, self._list_answer = -1, (b"", b"")
        self._second, self._date = -1, b""

    def hot(self, head: Head) -> Hot | None:
        """Read a head; None where such a request is lent."""
        if not head.version_1_1 or not _CHANGING.isdisjoint(name for name, _ in head.headers):
            return None
        given = head.header(b"x-request-id")
        kept = given if problems.is_request_id(given) else None
        hot = Hot(None, False, kept, head.keep_alive)
        if head.method == b"POST":
            if (
                not self._takes_messages
                or head.target != b"/messages"
                or form_of(head.header(b"content-type"), b"") != "single"
            ):
                return None
            return msgspec.structs.replace(hot, is_message=True)
        if head.method != b"GET" or head.content_length or head.chunked:
            return None
        if not self._shows_state:
            return None
        if head.target == b"/rockets":
            return hot
        path, _, name = head.target.partition(b"/rockets/")
        if path or not name.isascii():
            return None
        try:
            return msgspec.structs.replace(hot, channel=normalize_channel(name.decode()))
        except ValueError:
            return None  # Perhaps with a query or an escape: the handler knows.

    def take(self, connection: Connection, hot: Hot, body: bytes, *, more: bool) -> bool:
        """Answer a request, or promise an answer; False where it is not taken.

        `more` says that the peer has already sent what is behind this request.
        """
        then = _then(hot, more=more)
        if hot.is_message:
            ask = self._ask(connection, hot, body, then)
            return ask is not None and self._post(ask)
        content = self._rocket(hot.channel) if hot.channel is not None else self._list()
        if content is None or not self._hold(connection, len(content[1])):
            return False
        connection.owes = True
        self._answer(connection, hot, then, *content)
        return True

    def _hold(self, connection: Connection, size: int) -> bool:
        """Find room for an answer until it is sent; where there is none the handler says so."""
        if size > self._answers.small_max:
            holding = self._answers.hold()
            try:
                holding.grow_to(size)
            except problems.Refusal:
                return False
            connection.holding = holding
        return True

    async def take_waiting(
        self, connection: Connection, hot: Hot, body: bytes, *, more: bool
    ) -> bool:
        """Take a request like `take`, but wait where the rocket's mailbox is full.

        False where it must be lent.
        """
        if not hot.is_message:
            return self.take(connection, hot, body, more=more)
        ask = self._ask(connection, hot, body, _then(hot, more=more))
        if ask is None:
            return False
        if self._enter(ask):
            try:
                await self._fleet.post(ask.messages[0].channel, ask)
            except FleetUnavailable as error:
                ask.fail(error)
        return True

    async def sweep(self) -> None:
        """Say 503 to those whose message is not durable in time, for ever."""
        while True:
            await trio.sleep(SWEEP_INTERVAL_S)
            overdue = trio.current_time() - self._ask_timeout_s
            for ask in list(self._waiting):
                if ask.since > overdue:
                    break
                self._give_up(ask)

    def _give_up(self, ask: "_Ask") -> None:
        """Say 503; the request counts as waiting until its actor holds it no longer."""
        del self._waiting[ask]
        ask.give_up(partial(self._fleet.waiting.leave, ask.size))
        self._refuse(ask, FleetUnavailable(f"not durable within {self._ask_timeout_s:g} s"))

    def _ask(self, connection: Connection, hot: Hot, body: bytes, then: Then) -> "_Ask | None":
        """Make an ask of a body; None where the handler must say what is wrong with it."""
        if len(body) > self._message_max:
            return None
        try:
            message = decode_message(body)
        except (MessageInvalid, MessageMalformed):
            return None
        return _Ask(message, self._wall_clock(), self, connection, hot, then)

    def _post(self, ask: "_Ask") -> bool:
        """Put an ask into its rocket's mailbox; False where that is full."""
        if not self._enter(ask):
            return True
        try:
            if self._fleet.post_nowait(ask.messages[0].channel, ask):
                return True
        except FleetUnavailable as error:
            ask.fail(error)
            return True
        self._leave(ask)
        ask.connection.owes = False
        return False

    def _enter(self, ask: "_Ask") -> bool:
        """Count an ask among those that wait; where there are too many it is refused."""
        ask.connection.owes = True
        try:
            self._fleet.waiting.enter(ask.size)
        except FleetUnavailable as error:
            self._refuse(ask, error)
            return False
        self._waiting[ask] = None
        return True

    def _leave(self, ask: "_Ask") -> None:
        del self._waiting[ask]
        self._fleet.waiting.leave(ask.size)

    def told(self, ask: "_Ask") -> None:
        """Send the answer of an ask."""
        self._leave(ask)
        if ask.error is not None:
            # As `Fleet.ask` says it: whatever came in place of replies leaves the message in doubt.
            self._refuse(ask, FleetUnavailable(str(ask.error)))
            return
        [reply] = ask.replies
        if reply.outcome is None:
            self._refuse(ask, problems.too_many_gaps())
            return
        head = b"%b%d\r\n" % (_TAKEN[reply.outcome], reply.settled_through)
        self._answer(ask.connection, ask.hot, ask.then, head)

    def _answer(
        self, connection: Connection, hot: Hot, then: Then, head: bytes, body: bytes = b""
    ) -> None:
        """Send an answer: what every head ends with is added here."""
        if then == "keep" and self._connections.stopping:
            then = "close"
        second = int(time.time())
        if second != self._second:
            self._second, self._date = second, formatdate(second, usegmt=True).encode()
        request_id = hot.request_id or problems.new_request_id()
        data = b"%bx-request-id: %b\r\ndate: %b\r\n%b\r\n%b" % (
            head,
            request_id.encode(),
            self._date,
            b"" if then == "keep" else b"connection: close\r\n",
            body,
        )
        self._connections.answer(connection, data, then=then)

    def _refuse(self, ask: "_Ask", error: Exception) -> None:
        """Answer a problem and end the connection, as the handlers do."""
        refused = problems.refusal(error)
        request_id = ask.hot.request_id or problems.new_request_id()
        answer = problems.problem(refused.name, refused.detail, request_id=request_id, close=True)
        data = answer.to_bytes(date=formatdate(usegmt=True), with_body=True)
        then: Then = "drop" if ask.then == "drop" else "close"
        self._connections.answer(ask.connection, data, then=then)

    def _rocket(self, channel: Channel) -> tuple[bytes, bytes] | None:
        """Give head and body about one rocket; None where there is none."""
        rocket = self._fleet.read_model.rocket(channel)
        if rocket is None:
            return None
        kept = self._rocket_answers.get(channel)
        if kept is not None and kept[0] is rocket:
            return kept[1]
        if len(self._rocket_answers) >= ROCKET_ANSWERS_MAX:
            self._rocket_answers.clear()
        answer = _json_answer(rocket)
        self._rocket_answers[channel] = rocket, answer
        return answer

    def _list(self) -> tuple[bytes, bytes] | None:
        """Give head and body of the list; None where it is too long to be made here."""
        read_model = self._fleet.read_model
        if len(read_model) > LIST_MAX:
            return None
        if self._list_version != read_model.version:
            self._list_answer = _json_answer(rocket_list(read_model.page(ListQuery()), ()))
            self._list_version = read_model.version
        return self._list_answer


class _Ask(Part):
    """A message that waits for its commit, and whom to answer."""

    __slots__ = ("_lane", "connection", "hot", "since", "size", "then")

    def __init__(
        self,
        message: Message,
        received_at: int,
        lane: FastLane,
        connection: Connection,
        hot: Hot,
        then: Then,
    ) -> None:
        super().__init__((message,), received_at)
        self._lane = lane
        self.connection = connection
        self.hot = hot
        self.then = then
        self.size = len(message.body)
        self.since = connection.since  # it has just become busy

    def tell(self) -> None:
        """Send the answer."""
        self._lane.told(self)


def _then(hot: Hot, *, more: bool) -> Then:
    """Say what happens after the answer.

    A client that asks for the end sends no more (RFC 9112 §9.6), so nothing can reset the answer;
    where one has, the connection waits until it has stopped.
    """
    if hot.keep_alive:
        return "keep"
    return "close" if more else "drop"


def _json_answer(content: object) -> tuple[bytes, bytes]:
    body = msgspec.json.encode(content)
    head = b"HTTP/1.1 200 \r\ncontent-type: application/json\r\ncontent-length: %d\r\netag: %b\r\n"
    return head % (len(body), etag(body).encode()), body
