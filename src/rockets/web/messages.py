"""`POST /messages`: take one message and answer when it is durable."""

from collections.abc import Callable

import msgspec
import trio
from quart import Response, request
from quart_trio import QuartTrio

from rockets.actors.fleet import Fleet
from rockets.actors.rocket_actor import Reply
from rockets.domain.ledger import Outcome
from rockets.domain.messages import decode_message
from rockets.domain.rocket import Rocket
from rockets.web.problems import Refusal


class Representation(msgspec.Struct, frozen=True):
    """The answer to a message sent with `Prefer: return=representation`."""

    outcome: Outcome
    rocket: Rocket


def add_routes(
    app: QuartTrio, *, fleet: Fleet, wall_clock: Callable[[], int], ask_timeout_s: float
) -> None:
    """Mount the route; `ask_timeout_s` counts from the request's last byte."""

    @app.post("/messages")
    async def post_message() -> Response:
        refuse_encoding(request.headers.get("Content-Encoding"))
        body = await request.get_data()
        assert isinstance(body, bytes)
        message = decode_message(body)
        with trio.move_on_after(ask_timeout_s) as scope:
            replies = await fleet.ask(message.channel, (message,), received_at=wall_clock())
        if scope.cancelled_caught:
            raise Refusal("unavailable", f"not durable within {ask_timeout_s:g} s")
        reply = replies[0]
        if reply.outcome is None:
            raise Refusal("too-many-gaps", "the message would open one more gap")
        if wants_representation(request.headers.get("Prefer")):
            rocket = fleet.read_model.rocket(message.channel)
            assert rocket is not None
            return _representation(Representation(reply.outcome, rocket), reply)
        return _empty(reply)


def refuse_encoding(content_encoding: str | None) -> None:
    """Refuse an encoded body: decompressing is a way to be flooded."""
    if content_encoding is not None and content_encoding.strip().lower() != "identity":
        raise Refusal("unsupported-content-encoding", "send the body without Content-Encoding")


def wants_representation(prefer: str | None) -> bool:
    """Say whether `Prefer` (RFC 7240) asks for the rocket in the answer."""
    if prefer is None:
        return False
    preferences = (token.split(";")[0].strip().lower() for token in prefer.split(","))
    return any(token.replace(" ", "") == "return=representation" for token in preferences)


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


def _add_outcome(response: Response, reply: Reply) -> None:
    assert reply.outcome is not None
    response.headers["Rockets-Outcome"] = reply.outcome
    response.headers["Rockets-Settled"] = str(reply.settled_through)
