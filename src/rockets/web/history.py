"""`GET /rockets/{channel}/messages`: the stored messages of a rocket."""

import msgspec
from quart import Response
from quart_trio import QuartTrio

from rockets.actors.history import History, StoredMessage
from rockets.domain.messages import MESSAGE_NUMBER_MAX, Channel
from rockets.web.conditional import json_response
from rockets.web.freshness import arguments
from rockets.web.parameters import LIMIT_MAX, Parameters
from rockets.web.rockets import channel_named, no_rocket

LIMIT_DEFAULT = 1_000


class MessageList(msgspec.Struct, frozen=True, rename="camel"):
    """The answer: `next` is the `after` of the next page, null on the last one.

    The messages up to the number `prunedThrough` were removed; 0 where all are there.
    """

    channel: Channel
    count: int
    messages: list[StoredMessage]
    next: int | None
    pruned_through: int


def add_routes(app: QuartTrio, *, history: History) -> None:
    """Mount the route."""

    @app.get("/rockets/<channel>/messages")
    async def list_messages(channel: str) -> Response:
        parameters = Parameters(arguments(), ("after", "limit", "state"))
        after = parameters.integer("after", least=0, most=MESSAGE_NUMBER_MAX) or 0
        limit = parameters.integer("limit", least=1, most=LIMIT_MAX)
        with_speed = parameters.one_of("state", ("speed",), None) == "speed"
        known = channel_named(channel)
        if not history.knows(known):
            raise no_rocket(channel)
        if with_speed:
            page = await history.speeds(known, after, limit or LIMIT_MAX)
        else:
            page = await history.messages(known, after, limit or LIMIT_DEFAULT)
        count = len(page.messages)
        return json_response(
            MessageList(known, count, page.messages, page.following, page.pruned_through)
        )
