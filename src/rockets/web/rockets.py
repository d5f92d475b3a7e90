"""`GET /rockets` and `GET /rockets/{channel}`."""

from collections.abc import Sequence

import msgspec
from quart import Response, request
from quart_trio import QuartTrio

from rockets.actors.read_model import ReadModel
from rockets.domain.messages import normalize_channel
from rockets.domain.rocket import Rocket
from rockets.web.parameters import Parameters, cursor_text, list_query
from rockets.web.problems import Refusal


class RocketList(msgspec.Struct, frozen=True):
    """The answer of the list: `total` counts what matches, `next` is the next page's cursor."""

    count: int
    total: int
    rockets: Sequence[Rocket]
    next: str | None


def add_routes(app: QuartTrio, *, read_model: ReadModel) -> None:
    """Mount the routes."""

    @app.get("/rockets")
    async def list_rockets() -> Response:
        query = list_query(request.args.to_dict(flat=False))
        page = read_model.page(query)
        following = cursor_text(page.following, query.sort)
        return _json(RocketList(len(page.rockets), page.total, page.rockets, following))

    @app.get("/rockets/<channel>")
    async def get_rocket(channel: str) -> Response:
        view = Parameters(request.args.to_dict(flat=False), ("view",)).view()
        try:
            rocket = read_model.rocket(normalize_channel(channel), view)
        except ValueError:
            rocket = None
        if rocket is None:
            raise Refusal("not-found", f"no rocket {channel[:200]!r} has sent a message")
        return _json(rocket)


def _json(body: RocketList | Rocket) -> Response:
    return Response(msgspec.json.encode(body), 200, content_type="application/json")
