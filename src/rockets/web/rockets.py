"""`GET /rockets` and `GET /rockets/{channel}`."""

from collections.abc import Mapping, Sequence
from typing import get_args

import msgspec
from quart import Response, request
from quart_trio import QuartTrio

from rockets.actors.read_model import SORT_KEYS, ReadModel, SortKey
from rockets.domain.messages import normalize_channel
from rockets.domain.rocket import Rocket, View
from rockets.web.problems import Refusal

VIEWS: tuple[View, ...] = get_args(View)


class RocketList(msgspec.Struct, frozen=True):
    """The answer of the list."""

    count: int
    total: int
    rockets: Sequence[Rocket]
    next: str | None = None


def add_routes(app: QuartTrio, *, read_model: ReadModel) -> None:
    """Mount the routes."""

    @app.get("/rockets")
    async def list_rockets() -> Response:
        parameters = one_of_each(request.args.to_dict(flat=False), ("sort", "order", "view"))
        sort, descending = _sort(parameters)
        rockets = read_model.rockets(sort=sort, descending=descending, view=_view(parameters))
        return _json(RocketList(len(rockets), len(rockets), rockets))

    @app.get("/rockets/<channel>")
    async def get_rocket(channel: str) -> Response:
        parameters = one_of_each(request.args.to_dict(flat=False), ("view",))
        view = _view(parameters)
        try:
            rocket = read_model.rocket(normalize_channel(channel), view)
        except ValueError:
            rocket = None
        if rocket is None:
            raise Refusal("not-found", f"no rocket {channel[:200]!r} has sent a message")
        return _json(rocket)


def one_of_each(given: Mapping[str, Sequence[str]], allowed: Sequence[str]) -> dict[str, str]:
    """Check the names of query parameters; each may be given once."""
    for name, values in given.items():
        if name not in allowed:
            raise Refusal(
                "bad-parameter", f"unknown parameter {name[:200]!r}; allowed: {', '.join(allowed)}"
            )
        if len(values) > 1:
            raise Refusal("bad-parameter", f"parameter {name!r} is given more than once")
    return {name: values[0] for name, values in given.items()}


def _view(parameters: Mapping[str, str]) -> View:
    wanted = parameters.get("view", "latest")
    for view in VIEWS:
        if view == wanted:
            return view
    raise _not_allowed("view", wanted, VIEWS)


def _sort(parameters: Mapping[str, str]) -> tuple[SortKey, bool]:
    """Read `sort=key` or `sort=-key` with `order=asc|desc`."""
    text = parameters.get("sort", "channel")
    order = parameters.get("order", "asc")
    if order not in {"asc", "desc"}:
        raise _not_allowed("order", order, ("asc", "desc"))
    if text.startswith("-") and "order" in parameters:
        raise Refusal("bad-parameter", "give the direction once: 'sort=-key' or 'order=desc'")
    for key in SORT_KEYS:
        if key == text.removeprefix("-"):
            return key, text.startswith("-") or order == "desc"
    raise _not_allowed("sort", text, SORT_KEYS)


def _not_allowed(name: str, value: str, allowed: Sequence[str]) -> Refusal:
    return Refusal(
        "bad-parameter", f"{name}={value[:200]!r} is not allowed; allowed: {', '.join(allowed)}"
    )


def _json(body: RocketList | Rocket) -> Response:
    return Response(msgspec.json.encode(body), 200, content_type="application/json")
