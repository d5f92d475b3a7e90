"""`/health` for people and dashboards, `/livez` and `/readyz` for orchestrators."""

from collections.abc import Callable, Mapping
from typing import Literal

import msgspec
from quart import Response
from quart_trio import QuartTrio

HealthStatus = Literal["ok", "degraded", "stopping"]


class Health(msgspec.Struct, frozen=True):
    """How the service is; `checks` says `ok` or what is wrong, by name.

    `survives` says what a message that was answered survives.

    `counts` has the bytes of the journal as they were at most a few seconds ago, and leaves them
    out where they are not known.
    """

    status: HealthStatus
    version: str
    journal: str
    durability: str
    since: str
    checks: Mapping[str, str]
    counts: Mapping[str, int]
    survives: str = ""

    @property
    def http_status(self) -> int:
        """Only a service that can take messages is ready."""
        return 200 if self.status == "ok" else 503


def add_routes(
    app: QuartTrio, *, health: Callable[[], Health], own_health: Callable[[], Health]
) -> None:
    """Mount the routes.

    Among workers `health` speaks for all. Whether to send something here only the own one says.
    """

    @app.get("/health")
    async def get_health() -> Response:
        state = health()
        return Response(
            msgspec.json.encode(state), state.http_status, content_type="application/json"
        )

    @app.get("/livez")
    async def get_livez() -> Response:
        return _empty(200)

    @app.get("/readyz")
    async def get_readyz() -> Response:
        return _empty(own_health().http_status)


def _empty(status: int) -> Response:
    response = Response(b"", status)
    del response.headers["content-type"]
    return response
