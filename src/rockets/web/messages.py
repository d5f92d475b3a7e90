"""`POST /messages`: take one message, or a batch, and answer when it is durable."""

from collections.abc import AsyncIterator, Callable

import msgspec
import trio
from quart import Response, g, request
from quart_trio import QuartTrio

from rockets.actors.fleet import Fleet
from rockets.actors.part import Reply
from rockets.domain.ledger import Outcome
from rockets.domain.messages import Message, MessageInvalid, MessageMalformed, decode_message
from rockets.domain.rocket import Rocket
from rockets.web.batch import ITEMS_MAX, BatchIntake, form_of
from rockets.web.byte_budget import ByteBudget, Holding
from rockets.web.problems import Refusal, too_many_gaps


class Representation(msgspec.Struct, frozen=True):
    """The answer to a message sent with `Prefer: return=representation`."""

    outcome: Outcome
    rocket: Rocket


class IntakeLimits(msgspec.Struct, frozen=True):
    """The bounds of `POST /messages`; `settings` explains the values."""

    message_max: int = 64 * 1024
    batch_max: int = 8 * 1024 * 1024
    batch_messages_max: int = ITEMS_MAX
    ask_timeout_s: float = 8.0  # from the last byte of a message, or of a part of a batch


class Intake:
    """Takes messages, and answers when they are durable or says what is wrong."""

    def __init__(
        self,
        *,
        fleet: Fleet,
        wall_clock: Callable[[], int],
        limits: IntakeLimits,
        answers: ByteBudget,
        reject: Callable[[bytes], None],
    ) -> None:
        self._fleet = fleet
        self._wall_clock = wall_clock
        self._limits = limits
        self._answers = answers
        self._reject = reject  # told of every invalid message; it never fails and never waits

    async def answer_message(self, body: bytes, *, prefer: str | None) -> Response:
        """Take one message; an invalid one raises what becomes its problem."""
        timeout_s = self._limits.ask_timeout_s
        message = self._decode(body)
        with trio.move_on_after(timeout_s) as scope:
            replies = await self._fleet.ask(
                message.channel, (message,), received_at=self._wall_clock()
            )
        if scope.cancelled_caught:
            raise Refusal("unavailable", f"not durable within {timeout_s:g} s")
        reply = replies[0]
        if reply.outcome is None:
            raise too_many_gaps()
        if wants_representation(prefer):
            rocket = self._fleet.read_model.rocket(message.channel)
            assert rocket is not None
            return _representation(Representation(reply.outcome, rocket), reply)
        return _empty(reply)

    async def answer_array(self, body: bytes, *, prefer: str | None) -> Response:
        """Take a JSON array of messages."""
        with self._answers.hold() as answer:
            batch = self._batch(answer)
            try:
                await batch.take_array(body)
            except MessageMalformed:
                self._reject(body)
                raise
            return _batch_answer(batch, prefer)

    async def answer_lines(self, pieces: AsyncIterator[bytes], *, prefer: str | None) -> Response:
        """Take lines of messages while they arrive."""
        with self._answers.hold() as answer:
            batch = self._batch(answer)
            await batch.take_lines(pieces)
            return _batch_answer(batch, prefer)

    def _decode(self, body: bytes) -> Message:
        limit = self._limits.message_max
        if len(body) > limit:
            raise Refusal("content-too-large", f"the message is over {limit} bytes")
        try:
            return decode_message(body)
        except (MessageInvalid, MessageMalformed):
            self._reject(body)
            raise

    def _batch(self, answer: Holding) -> BatchIntake:
        return BatchIntake(
            fleet=self._fleet,
            wall_clock=self._wall_clock,
            ask_timeout_s=self._limits.ask_timeout_s,
            item_max=self._limits.message_max,
            items_max=self._limits.batch_messages_max,
            answer=answer,
            request_id=g.request_id,
            reject=self._reject,
        )


def add_routes(app: QuartTrio, *, intake: Intake, pause_s: float, total_s: float) -> None:
    """Mount the route; a stream of lines may pause and take so long."""

    @app.post("/messages")
    async def post_messages() -> Response:
        refuse_encoding(request.headers.get("Content-Encoding"))
        content_type = request.headers.get("Content-Type")
        prefer = ", ".join(request.headers.getlist("Prefer"))
        if form_of(content_type, b"") == "ndjson":
            return await intake.answer_lines(_arriving(pause_s, total_s), prefer=prefer)
        body = await request.get_data()
        assert isinstance(body, bytes)
        if form_of(content_type, body) == "array":
            return await intake.answer_array(body, prefer=prefer)
        return await intake.answer_message(body, prefer=prefer)


async def _arriving(pause_s: float, total_s: float) -> AsyncIterator[bytes]:
    """Give the pieces of the request's body; one that comes too slowly ends the request."""
    pieces = aiter(request.body)
    deadline = trio.current_time() + total_s
    while True:
        with trio.move_on_at(min(deadline, trio.current_time() + pause_s)) as scope:
            piece = await anext(pieces, None)
        if scope.cancelled_caught:
            raise Refusal("request-timeout", f"the body paused for {pause_s:g} s or took too long")
        if piece is None:
            return
        yield piece


def refuse_encoding(content_encoding: str | None) -> None:
    """Refuse an encoded body: decompressing is a way to be flooded."""
    if content_encoding is not None and content_encoding.strip().lower() != "identity":
        raise Refusal("unsupported-content-encoding", "send the body without Content-Encoding")


def wants_representation(prefer: str | None) -> bool:
    """Say whether `Prefer` (RFC 7240) asks for the rocket in the answer."""
    for preference in (prefer or "").split(","):
        name, _, value = preference.split(";")[0].partition("=")
        if name.strip().lower() == "return":
            # Of a preference that is given twice the first counts.
            return value.strip().strip('"').lower() == "representation"
    return False


def _empty(reply: Reply) -> Response:
    """Answer 204 without any body header.

    The test program never reads a body, and a reply with one costs it the connection.
    A bytes body and no content headers (RFC 9110 §8.6): anything else makes Quart reach for
    asyncio after the head is sent, which ends the connection.
    """
    response = Response(b"", 204)
    del response.headers["content-type"]
    del response.headers["content-length"]
    _add_outcome(response, reply)
    return response


def _representation(body: Representation, reply: Reply) -> Response:
    response = Response(msgspec.json.encode(body), 200, content_type="application/json")
    response.headers["Preference-Applied"] = "return=representation"
    _add_outcome(response, reply)
    return response


def _batch_answer(batch: BatchIntake, prefer: str | None) -> Response:
    with_outcomes = wants_representation(prefer)
    result = msgspec.json.encode(batch.result(with_outcomes=with_outcomes))
    response = Response(result, 200, content_type="application/json")
    if with_outcomes:
        response.headers["Preference-Applied"] = "return=representation"
    return response


def _add_outcome(response: Response, reply: Reply) -> None:
    assert reply.outcome is not None
    response.headers["Rockets-Outcome"] = reply.outcome
    response.headers["Rockets-Settled"] = str(reply.settled_through)
