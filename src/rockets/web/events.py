"""`GET /events`: the live feed as Server-Sent Events.

This handler is the specification; what the front takes itself is served by `streams`.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing

import trio
from quart import Response, request
from quart_trio import QuartTrio

from rockets.web import feed_events
from rockets.web.feed import Feed, FeedQuery
from rockets.web.feed_reader import Behind, Reader, reading
from rockets.web.parameters import feed_query


def add_routes(app: QuartTrio, *, feed: Feed) -> None:
    """Mount the route."""

    @app.get("/events")
    async def get_events() -> Response:
        query = feed_query(request.args.to_dict(flat=False), request.headers.get("Last-Event-ID"))
        feed.check_room()
        response = Response(b"" if request.method == "HEAD" else _events(feed, query))
        response.timeout = None  # Quart would end the stream after a minute
        response.headers.pop("content-length", None)
        for name, value in feed_events.HEADERS:
            response.headers[name] = value
        return response


async def _events(feed: Feed, query: FeedQuery) -> AsyncGenerator[bytes, None]:
    with reading(feed, query) as reader:
        async with aclosing(_texts(feed, reader)) as texts:
            async for text in texts:
                yield text
                if feed.stopping.is_set():
                    break
        yield reader.bye()


async def _texts(feed: Feed, reader: Reader) -> AsyncGenerator[bytes, None]:
    """Write everything up to a stop."""
    opening = reader.opening()
    while True:
        async with aclosing(opening) as texts:
            async for text in texts:
                yield text
        try:
            while not feed.stopping.is_set():
                now = trio.current_time()
                with trio.move_on_at(reader.due_after(now)):
                    await feed.stopping.wait()
                    return
                following = feed.round()
                while True:
                    if text := reader.news(trio.current_time(), following):
                        yield text
                    if not reader.has_more:
                        break
        except Behind:
            opening = reader.reopening()
