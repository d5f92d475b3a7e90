"""`GET /fleet`: the whole fleet in numbers."""

import msgspec
from quart import Response
from quart_trio import QuartTrio

from rockets.actors.fleet_summary import FleetSummary, summarize
from rockets.actors.read_model import ReadModel
from rockets.actors.rejections import Rejections, RejectionTotals
from rockets.web.conditional import json_response
from rockets.web.freshness import arguments
from rockets.web.parameters import Parameters


class FleetNumbers(FleetSummary, frozen=True, kw_only=True):
    """The answer: the summary and the count of refused messages."""

    rejections: RejectionTotals


def add_routes(app: QuartTrio, *, read_model: ReadModel, rejections: Rejections) -> None:
    """Mount the route."""

    @app.get("/fleet")
    async def get_fleet() -> Response:
        Parameters(arguments(), ())
        totals = await rejections.totals()
        summary = await summarize(read_model)
        return json_response(FleetNumbers(**msgspec.structs.asdict(summary), rejections=totals))
