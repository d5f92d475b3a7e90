"""Bounds what the handlers' answers take of the memory while clients read them, or do not.

It stands between Hypercorn and the application, where an answer's length is known and none of it
is sent: an answer for which there is no room becomes a problem.
"""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from rockets.web import problems
from rockets.web.byte_budget import ByteBudget
from rockets.web.problems import Refusal

# As ASGI has it, without Hypercorn's names for it.
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

SMALL_MAX = 64 * 1024
"""An answer of this size is always let out: it is one write."""


def answer_budget(total_max: int) -> ByteBudget:
    """Make the budget of all answers together."""
    return ByteBudget(total_max, full=_too_many, small_max=SMALL_MAX)


def _too_many() -> Refusal:
    return Refusal("overloaded", "too many large answers are under way")


class AnswerBound:
    """The application with its answers counted; a stream, which has no length, counts nothing."""

    def __init__(self, app: Callable[..., Awaitable[None]], budget: ByteBudget) -> None:
        self._app = app
        self._budget = budget

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Serve one request, as ASGI has it."""
        refused = False

        async def counted(event: Event) -> None:
            nonlocal refused
            if event["type"] == "http.response.start":
                try:
                    holding.grow_to(_length(event["headers"]))
                except Refusal as refusal:
                    refused = True
                    await _send_problem(refusal, event["headers"], scope["method"], send)
            if not refused:
                await send(event)

        with self._budget.hold() as holding:
            await self._app(scope, receive, counted)


def _length(headers: Iterable[tuple[bytes, bytes]]) -> int:
    return int(_header(headers, b"content-length") or 0)


def _header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    return next((value for key, value in headers if key.lower() == name), None)


async def _send_problem(
    refusal: Refusal, headers: Iterable[tuple[bytes, bytes]], method: str, send: Send
) -> None:
    """Answer in place of what was refused, under its request id.

    What was posted may be stored; of what was asked for nothing is lost.
    """
    answer = problems.problem(
        "unavailable" if method == "POST" else refusal.name,
        refusal.detail,
        request_id=(_header(headers, b"x-request-id") or b"").decode(),
        close=False,
    )
    fields = (*answer.headers, ("Content-Length", str(len(answer.body))))
    written = [(name.lower().encode(), value.encode()) for name, value in fields]
    await send({"type": "http.response.start", "status": answer.status, "headers": written})
    await send({"type": "http.response.body", "body": answer.body, "more_body": False})
