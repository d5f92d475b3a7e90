"""`GET /rockets` and `GET /rockets/{channel}`."""

import re

import msgspec
from quart import Response
from quart_trio import QuartTrio

from rockets.actors.history import History
from rockets.actors.read_model import ReadModel
from rockets.actors.rocket_lists import RocketLists
from rockets.domain.message_time import TIME
from rockets.domain.messages import MESSAGE_NUMBER_MAX, Channel, instant, normalize_channel
from rockets.web.conditional import json_response
from rockets.web.freshness import arguments
from rockets.web.parameters import Parameters, list_query
from rockets.web.problems import Refusal
from rockets.web.rocket_list import rocket_list


def add_routes(
    app: QuartTrio, *, read_model: ReadModel, lists: RocketLists, history: History
) -> None:
    """Mount the routes."""

    @app.get("/rockets")
    async def list_rockets() -> Response:
        query = list_query(arguments())
        listed = await lists.page(query)
        response = json_response(rocket_list(listed.page, query.sort))
        if listed.age_ms is not None:
            response.headers["Age-Ms"] = str(listed.age_ms)
        return response

    @app.get("/rockets/<channel>")
    async def get_rocket(channel: str) -> Response:
        parameters = Parameters(arguments(), ("view", "at"))
        view, at, known = parameters.view(), _at(parameters), channel_named(channel)
        if not history.knows(known):
            raise no_rocket(channel)
        if at is None:
            return json_response(read_model.rocket(known, view))
        number = await history.number_at(known, at.time) if isinstance(at, _Instant) else at
        past = None if number is None else await history.rocket_at(known, number, view)
        if past is None:
            raise Refusal("not-found", f"rocket {channel!r} had sent no message by then")
        return json_response(past)


def channel_named(text: str) -> Channel:
    """Read the channel of a path; what cannot be one has sent nothing either."""
    try:
        return normalize_channel(text)
    except ValueError:
        raise no_rocket(text) from None


def no_rocket(channel: str) -> Refusal:
    """Refuse a rocket of which nothing is stored."""
    return Refusal("not-found", f"no rocket {channel[:200]!r} has sent a message")


class _Instant(msgspec.Struct, frozen=True):
    """A point in time, in nanoseconds since the epoch."""

    time: int


_is_time = re.compile(TIME).fullmatch


def _at(parameters: Parameters) -> int | _Instant | None:
    """Read `at`: a message number, or an RFC 3339 time."""
    text = parameters.text("at")
    if text is None:
        return None
    if text.isascii() and text.isdigit():
        return parameters.integer("at", least=1, most=MESSAGE_NUMBER_MAX)
    if text[-6:-5] == " ":
        # A query says "+" with %2B; who wrote the time as it is has sent a blank.
        text = f"{text[:-6]}+{text[-5:]}"
    if not _is_time(text):
        raise Refusal(
            "bad-parameter",
            f"at={text[:200]!r} is neither a message number from 1 to {MESSAGE_NUMBER_MAX} "
            "nor an RFC 3339 date and time with offset",
        )
    return _Instant(instant(text))
