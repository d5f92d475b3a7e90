"""What an instance is for: taking messages, showing state, or both.

A request that is for another instance gets 421 (RFC 9110 §15.5.20): whoever spreads requests over
the instances has sent it to the wrong one. Health and documentation are there in every role.
"""

from typing import Literal

from quart import g
from quart_trio import QuartTrio

from rockets.web.problems import Refusal
from rockets.web.route import Route

Role = Literal["all", "ingest", "query"]

_DETAILS: dict[Role, str] = {
    "ingest": "this instance only takes messages; ask one with the role query or all",
    "query": "this instance takes no messages; send them to one with the role ingest or all",
}


def add_hook(app: QuartTrio, *, role: Role) -> None:
    """Refuse what this instance is not for, wherever it would be handled."""
    if role == "all":
        return

    @app.before_request
    async def refuse_others() -> None:
        route: Route | None = g.route
        if route is None:
            return
        if route.takes_messages if role == "query" else route.shows_state:
            raise Refusal("wrong-instance", _DETAILS[role])
