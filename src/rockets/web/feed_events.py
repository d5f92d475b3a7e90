"""The events of the live feed as text (HTML Living Standard, "Server-sent events").

All data is JSON of one line: what a rocket has sent can neither end an event nor begin another one,
because in JSON a line break is always escaped.
"""

from typing import Literal

import msgspec

from rockets.domain.messages import Channel
from rockets.domain.rocket import Rocket

EventName = Literal["hello", "rocket", "gone", "reset", "ready", "stale", "fresh", "bye"]
ResetReason = Literal["unknownId", "tooFarBehind"]

HEADERS = (
    ("content-type", "text/event-stream"),
    ("cache-control", "no-store"),
    ("x-accel-buffering", "no"),  # or nginx holds events back until it has some kilobytes
)

HEARTBEAT = b": heartbeat\n\n"


class Hello(msgspec.Struct, frozen=True, rename="camel"):
    """The first event: which run of the service it is, and whether the stream goes on behind an id.

    Where it does not, the whole fleet follows.
    """

    boot_id: str
    version: str
    interval_ms: int
    resumed: bool


class Gone(msgspec.Struct, frozen=True):
    """A rocket does not match the filters any more."""

    channel: Channel


class Reset(msgspec.Struct, frozen=True):
    """What the client holds is to be thrown away: the whole fleet follows."""

    reason: ResetReason


class Ready(msgspec.Struct, frozen=True):
    """The client holds what the service holds, as of the event's id.

    `count` says how many rockets were sent since `hello` or `reset`; `total` how many match, null
    where that was not asked. Where `count` is less, the rest is in `GET /rockets`.
    """

    count: int
    total: int | None


class Stale(msgspec.Struct, frozen=True):
    """From now on something may be missing: what was stored in the last `seconds` and later."""

    seconds: int


class Fresh(msgspec.Struct, frozen=True):
    """The end of that: the client has been told everything again."""


class Bye(msgspec.Struct, frozen=True, rename="camel"):
    """The last event: why the stream ends, and when to come again."""

    reason: Literal["stopping"]
    retry_ms: int


EventData = Hello | Rocket | Gone | Reset | Ready | Stale | Fresh | Bye
_NAMES: dict[type, EventName] = {
    Hello: "hello",
    Gone: "gone",
    Reset: "reset",
    Ready: "ready",
    Stale: "stale",
    Fresh: "fresh",
    Bye: "bye",
}


def event(
    data: Hello | Gone | Reset | Ready | Stale | Fresh | Bye, event_id: str | None = None
) -> bytes:
    """Write an event; its name is that of its data."""
    return text(_NAMES[type(data)], msgspec.json.encode(data), event_id)


def text(name: EventName, data: bytes, event_id: str | None = None) -> bytes:
    """Write an event of JSON that is there already."""
    line = b"" if event_id is None else b"id: %b\n" % event_id.encode()
    return b"event: %b\n%bdata: %b\n\n" % (name.encode(), line, data)


def retry(milliseconds: int) -> bytes:
    """Write the field that says how long an EventSource waits before it comes again."""
    return b"retry: %d\n" % milliseconds
