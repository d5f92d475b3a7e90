"""A client of Server-Sent Events that comes back by itself, behind the last event that it got."""

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing

import msgspec
import trio

from rockets.cli.client import HttpClient, StreamedResponse
from rockets.cli.connector import ClientError

# Three of the comments that the service sends at least have not come.
SILENCE_MAX_S = 45.0
# Until the service says how long to wait.
RETRY_S = 3.0
# The largest event has some kilobytes.
EVENT_BYTES_MAX = 1024 * 1024


class StreamRefused(Exception):
    """The service has answered something else than events, and will again."""


class Event(msgspec.Struct, frozen=True):
    """One event; `data` is as it was sent."""

    name: str
    data: bytes
    id: str | None


class Lost(msgspec.Struct, frozen=True):
    """The stream has ended; it is opened again after so long."""

    reason: str
    retry_s: float


class EventParser:
    """Takes a stream apart (HTML Living Standard, "Interpreting an event stream")."""

    def __init__(self) -> None:
        self.retry_s = RETRY_S
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Event]:
        """Take some bytes and give the events that have become whole by them."""
        *blocks, self._rest = (self._rest + data).split(b"\n\n")
        if len(self._rest) > EVENT_BYTES_MAX:
            raise StreamRefused(f"an event is larger than {EVENT_BYTES_MAX} bytes")
        for block in blocks:
            event = self._event(block)
            if event is not None:
                yield event

    def _event(self, block: bytes) -> Event | None:
        name, event_id, data = "message", None, []
        for line in block.split(b"\n"):
            field, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            match field:
                case b"event":
                    name = value.decode(errors="replace")
                case b"data":
                    data.append(value)
                case b"id":
                    event_id = value.decode(errors="replace")
                case b"retry" if value.isdigit() and len(value) < 9:
                    self.retry_s = int(value) / 1_000
        return Event(name, b"\n".join(data), event_id) if data else None


class EventSource:
    """Follows one stream for ever."""

    def __init__(self, url: str, target: str) -> None:
        self.last_id: str | None = None
        self._url = url
        self._target = target
        self._retry_s = RETRY_S

    async def follow(self) -> AsyncGenerator[Event | Lost, None]:
        """Give every event, and say when the stream is lost, before it is opened again.

        Raises StreamRefused where opening it again would not help.
        """
        async with HttpClient(self._url) as client:
            while True:
                try:
                    async with client.stream(self._target, self._headers()) as response:
                        async with aclosing(self._events(response)) as events:
                            async for event in events:
                                yield event
                    reason = "the service has ended the stream"
                except ClientError as error:
                    reason = str(error)
                except trio.TooSlowError:
                    reason = f"nothing has come for {SILENCE_MAX_S:g} s"
                yield Lost(reason, self._retry_s)
                await trio.sleep(self._retry_s)

    def _headers(self) -> dict[str, str]:
        headers = {"Accept": "text/event-stream"}
        return headers if self.last_id is None else headers | {"Last-Event-ID": self.last_id}

    async def _events(self, response: StreamedResponse) -> AsyncGenerator[Event, None]:
        parser = EventParser()
        await self._check(response)
        while True:
            with trio.fail_after(SILENCE_MAX_S):
                data = await response.receive()
            if not data:
                return
            for event in parser.feed(data):
                self._retry_s = parser.retry_s
                if event.id is not None:
                    self.last_id = event.id
                yield event

    async def _check(self, response: StreamedResponse) -> None:
        """Raise where these are no events; a service that is busy is asked again."""
        if response.status == 200:
            if response.headers.get("content-type", "").startswith("text/event-stream"):
                return
            raise StreamRefused(f"GET {self._target}: the answer is no event stream")
        body = b""
        with trio.fail_after(SILENCE_MAX_S):
            while len(body) < EVENT_BYTES_MAX and (part := await response.receive()):
                body += part
        detail = _detail(body) or f"status {response.status}"
        if response.status not in {429, 503}:
            raise StreamRefused(f"GET {self._target}: {detail}")
        raise ClientError(detail)


def _detail(body: bytes) -> str:
    """Give what a problem says."""
    try:
        return str(msgspec.json.decode(body, type=dict[str, object]).get("detail", ""))
    except msgspec.DecodeError:
        return ""
