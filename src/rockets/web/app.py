"""The Quart application: every route, and one handler for every error.

`create_app` gets what it serves as arguments; nothing hangs on Quart's lifespan or `app.nursery`.
"""

from collections.abc import Callable

import structlog
from quart import Response, g, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from rockets.actors.anomalies import Anomalies
from rockets.actors.fleet import Fleet
from rockets.actors.history import History
from rockets.actors.rejections import Rejections
from rockets.actors.replica import Replica
from rockets.actors.rocket_lists import RocketLists
from rockets.web import (
    dashboard,
    events,
    freshness,
    messages,
    notes,
    openapi,
    operations,
    problem_pages,
    problems,
    rockets,
    roles,
    swagger_ui,
)
from rockets.web import fleet as fleet_routes
from rockets.web import history as history_routes
from rockets.web.byte_budget import ByteBudget
from rockets.web.feed import Feed
from rockets.web.messages import Intake, IntakeLimits
from rockets.web.operations import Health
from rockets.web.problems import Answer, ProblemName
from rockets.web.roles import Role
from rockets.web.routes import routed

log = structlog.get_logger()

# What Quart itself refuses, by status.
_BY_STATUS: dict[int, ProblemName] = {
    400: "bad-request",
    404: "not-found",
    405: "method-not-allowed",
    408: "request-timeout",
    413: "content-too-large",
}


def create_app(
    *,
    fleet: Fleet,
    lists: RocketLists,
    history: History,
    rejections: Rejections,
    anomalies: Anomalies,
    feed: Feed,
    health: Callable[[], Health],
    own_health: Callable[[], Health],
    wall_clock: Callable[[], int],
    limits: IntakeLimits,
    answers: ByteBudget,
    body_pause_s: float,
    body_total_s: float,
    replica: Replica | None = None,
    role: Role = "all",
) -> QuartTrio:
    """Build the application; `wall_clock` gives microseconds since the epoch.

    Without a replica the journal is this instance's alone.
    """
    app = QuartTrio("rockets", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = limits.batch_max
    # The front has read the whole body before it lends the request, but of a stream of lines.
    app.config["BODY_TIMEOUT"] = body_pause_s
    app.url_map.strict_slashes = True
    app.url_map.merge_slashes = False

    @app.before_request
    async def name_request() -> None:
        g.request_id = problems.request_id(request.headers.get("X-Request-Id"))
        g.route = routed(request.method, request.url_rule)

    @app.after_request
    async def add_request_id(response: Response) -> Response:
        response.headers["X-Request-Id"] = g.request_id
        return response

    roles.add_hook(app, role=role)
    freshness.add_hooks(app, replica=replica)

    @app.errorhandler(Exception)
    async def answer_error(error: Exception) -> Response:
        return _to_response(_problem_for(error))

    intake = Intake(
        fleet=fleet,
        wall_clock=wall_clock,
        limits=limits,
        answers=answers,
        reject=rejections.keep_nowait,
    )
    messages.add_routes(app, intake=intake, pause_s=body_pause_s, total_s=body_total_s)
    notes.add_routes(
        app, rejections=rejections, anomalies=anomalies, answer_message=intake.answer_message
    )
    fleet_routes.add_routes(app, read_model=fleet.read_model, rejections=rejections)
    rockets.add_routes(app, read_model=fleet.read_model, lists=lists, history=history)
    history_routes.add_routes(app, history=history)
    events.add_routes(app, feed=feed)
    operations.add_routes(app, health=health, own_health=own_health)
    openapi.add_routes(app, batch_messages_max=limits.batch_messages_max)
    dashboard.add_routes(app)
    swagger_ui.add_routes(app)
    problem_pages.add_routes(app)
    return app


def _problem_for(error: Exception) -> Answer:
    """Turn any exception of a handler into a problem; only the unexpected are logged."""
    # An error answer to a single message ends its connection: the test program never reads
    # bodies, and a connection with an unread body is lost to it anyway.
    close = request.method == "POST" and request.path == "/messages"
    if isinstance(error, HTTPException):
        return _http_problem(error, close=close)
    refused = problems.refusal(error)
    if refused.name == "internal-error":
        log.error("request_failed", request_id=g.request_id, path=request.path, exc_info=error)
    return problems.problem(
        refused.name,
        refused.detail,
        request_id=g.request_id,
        errors=refused.errors,
        first_number=refused.first_number,
        close=close,
    )


def _http_problem(error: HTTPException, *, close: bool) -> Answer:
    """Say in our form what Quart or Werkzeug refused."""
    name = _BY_STATUS.get(error.code or 500, "internal-error")
    detail = f"{request.method} {request.path[:200]!r}: {problems.PROBLEMS[name][1].lower()}"
    allowed = getattr(error, "valid_methods", None)
    headers = [("Allow", ", ".join(sorted(allowed)))] if allowed else []
    return problems.problem(name, detail, request_id=g.request_id, close=close, headers=headers)


def _to_response(answer: Answer) -> Response:
    response = Response(answer.body, answer.status)
    for name, value in answer.headers:
        response.headers[name] = value
    return response
