"""State is shown only when it is up to date, or with its age to whoever asks for no more.

Where several instances share a journal, a request for state waits until all that was stored when
it came in is applied here. With `stale=ok` it does not, and `Rockets-Stale` says how old the answer
may be: it holds everything that was stored so many seconds ago.
Where the journal is this instance's alone what it shows is always whole, and that age is 0.
"""

from math import ceil

from quart import Response, g, request
from quart_trio import QuartTrio

from rockets.actors.replica import Replica
from rockets.web.parameters import not_allowed
from rockets.web.problems import Refusal
from rockets.web.route import Route

PARAMETER = "stale"


def arguments() -> dict[str, list[str]]:
    """Give the query parameters of the request at hand, without the one that is read here."""
    given = request.args.to_dict(flat=False)
    if "stale_s" in g:
        given.pop(PARAMETER, None)
    return given


def add_hooks(app: QuartTrio, *, replica: Replica | None) -> None:
    """Let every request for state wait, wherever it is handled."""

    @app.before_request
    async def wait_fresh() -> None:
        route: Route | None = g.route
        if route is None or not route.has_age:
            return
        g.stale_s = None
        if _may_be_stale():
            g.stale_s = 0.0 if replica is None else replica.stale_s()
        elif replica is not None:
            await replica.wait_caught_up()

    @app.after_request
    async def say_age(response: Response) -> Response:
        if g.get("stale_s") is not None:
            response.headers["Rockets-Stale"] = str(ceil(g.stale_s))
        return response


def _may_be_stale() -> bool:
    given = request.args.getlist(PARAMETER)
    if len(given) > 1:
        raise Refusal("bad-parameter", f"parameter {PARAMETER!r} is given more than once")
    if given not in ([], ["ok"]):
        raise not_allowed(PARAMETER, given[0], ("ok",))
    return bool(given)
