"""The fast lane answers as the handlers do: two services, with the lane and without it.

Both get the same bytes, and every answer is compared: status, headers and body.
"""

import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Literal

import msgspec
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from rockets.actors.fleet import FleetLimits
from rockets.domain.ledger import Ledger, Outcome
from rockets.domain.messages import Payload, decode_message
from rockets.journal.base import Appended, JournalBusy, JournalFailed, JournalFull, Note, Record
from rockets.journal.memory import MemoryJournal
from rockets.web.connections import SWEEP_INTERVAL_S
from rockets.web.messages import IntakeLimits
from tests.actors.fleets import Gate
from tests.domain.broken_bodies import BROKEN_BODIES
from tests.helpers import body, get, post
from tests.web.apps import Service, clock, running_service
from tests.web.exchanges import Answer, Peer, Peers
from tests.web.framings import BODIES, REFUSED_HEADS, TAKEN_HEADS

MESSAGE_MAX = IntakeLimits().message_max
UUID = "193270a9-c9cf-404a-8f83-838e71d9ae67"

# How the lane must take a request: by itself, or by lending it; None where the front refuses it.
Way = Literal["taken", "lent"] | None


@asynccontextmanager
async def both(*before: bytes) -> AsyncIterator[tuple[Service, Service]]:
    """Run the two services, each over a journal of its own that holds these messages."""
    async with (
        running_service(holding(*before), fast_lane=True) as with_lane,
        running_service(holding(*before), fast_lane=False) as without,
    ):
        yield with_lane, without


def holding(*bodies: bytes) -> MemoryJournal:
    """Make a journal that holds these messages."""
    journal = MemoryJournal()
    messages = map(decode_message, bodies)
    journal.append([Record(each.channel, each.number, each.body, clock()) for each in messages])
    return journal


def method(request: bytes) -> bytes:
    return request.lstrip(b"\r\n").partition(b" ")[0]


def counts(service: Service) -> tuple[int, int]:
    statistics = service.front.statistics()
    return statistics.fast_answers, statistics.lent_requests


async def compare(
    services: tuple[Service, Service], request: bytes, *, bytewise: bool = False
) -> tuple[list[Answer], Way]:
    """Send the same to both; gives the answers, and which way the lane took the first request."""
    found: list[list[Answer]] = []
    ends: list[bool] = []
    way: Way = None
    for service in services:
        with Peers(service.port) as peers:
            peer = peers.connect()
            fast, lent = counts(service)
            await (peer.send_bytewise(request) if bytewise else peer.send(request))
            fast, lent = counts(service)[0] - fast, counts(service)[1] - lent
            if service is services[0]:
                way = "taken" if fast else "lent" if lent else None
            else:
                assert fast == 0
            ends.append(peer.ended)
            await peer.finish()
            found.append(peer.answers([method(request)]))
    assert found[0] == found[1]
    assert ends[0] == ends[1], "one of them has closed the connection"
    return found[0], way


def closing(request: bytes) -> bytes:
    """Ask for the end of the connection as well."""
    return request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)


# In the requests below this stands for any of many rockets that are in the same state at first, so
# that a request can be sent in several ways.
ROCKET = "rocket-000"
BEFORE = (
    body(ROCKET, 1, "RocketLaunched"),
    body(ROCKET, 3),
    body(ROCKET, 6, "RocketMissionChanged"),
)
ETAG = b'"THE-TAG"'


def of_rocket(data: bytes, index: int) -> bytes:
    return re.sub(rb"rocket(-|%2[dD])000", rb"rocket\g<1>%03d" % index, data)


def of_rockets(count: int) -> list[bytes]:
    """Give what these rockets have sent before."""
    return [of_rocket(message, index) for index in range(count) for message in BEFORE]


async def with_tag(services: tuple[Service, Service], request: bytes) -> bytes:
    """Write the tag of what is answered now where the request has a place for it."""
    if ETAG not in request:
        return request
    target = request.split(b" ")[1]
    [answer, _], _ = await compare(services, b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % target)
    tag = answer.header("etag")
    assert tag is not None
    return request.replace(ETAG, tag.encode())


# To which rocket, and with `Connection: close` or without.
# A head that has been read before is taken a shorter way, so each is sent again.
WAYS = [(0, False), (1, False), (0, False), (2, True), (3, True)]


async def compare_ways(request: bytes, way: Way, *more: bytes) -> list[Answer]:
    """Send a request in several ways; gives the answers, one for each."""
    answers = []
    async with both(*of_rockets(4), *more) as services:
        for index, close in WAYS:
            sent = of_rocket(closing(request) if close else request, index)
            found, taken = await compare(services, await with_tag(services, sent))
            assert taken == way, close
            answers.append(found[0])
    return answers


# --- POST /messages ---

SPEED = body(ROCKET, 2)
LAUNCH = body(ROCKET, 2, "RocketLaunched")

OUTCOMES = {
    "applied": SPEED,
    "held": body(ROCKET, 5),
    "ignored": LAUNCH,
    "duplicate": body(ROCKET, 1, "RocketLaunched"),
    "conflict": body(ROCKET, 3, by=1),
}


@pytest.mark.parametrize("outcome", OUTCOMES)
async def test_every_outcome_of_a_message_is_answered_the_same(outcome: str) -> None:
    answers = await compare_ways(post(OUTCOMES[outcome]), "taken")

    again = "conflict" if outcome == "conflict" else "duplicate"
    outcomes = [answer.header("rockets-outcome") for answer in answers]
    # The third is sent to a rocket that has the message by then.
    assert outcomes == [outcome] * 2 + [again] + [outcome] * 2
    assert {answer.status for answer in answers} == {204}


def sized(size: int) -> bytes:
    """A message of so many bytes."""
    plain = body(ROCKET, 2, "Padded", padding="")
    return body(ROCKET, 2, "Padded", padding="x" * (size - len(plain)))


def chunked(content: bytes, *headers: str, size: int = 50) -> bytes:
    """Write a request whose body comes in chunks."""
    head = "\r\n".join(["POST /messages HTTP/1.1", "Host: localhost", *headers, ""]).encode()
    pieces = [content[at : at + size] for at in range(0, len(content), size)]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


EXPECT = "Expect: 100-continue"
ARRAY = b"[" + SPEED + b", " + body(ROCKET, 4) + b", {}]"
LINES = SPEED + b"\n" + body(ROCKET, 4) + b"\n{}\n"
NDJSON = "Content-Type: application/x-ndjson"

MESSAGES: dict[str, tuple[bytes, Way, int]] = {
    "a type of its own": (post(body(ROCKET, 2, "Refuelled", litres=5)), "taken", 204),
    "a channel that is a UUID": (post(body(UUID, 2)), "taken", 204),
    "a channel in capitals": (post(body(UUID.upper(), 2)), "taken", 204),
    "white space around it": (post(b" \r\n\t" + SPEED + b"\n"), "taken", 204),
    "its keys twice": (post(b'{"message": 1,' + SPEED[1:]), "taken", 204),
    "any content type": (post(SPEED, "Content-Type: text/plain; charset=x"), "taken", 204),
    "a content type in capitals": (post(SPEED, "CONTENT-TYPE: APPLICATION/JSON"), "taken", 204),
    "an empty content type": (post(SPEED, "Content-Type:"), "taken", 204),
    "two content types": (post(SPEED, "Content-Type: text/plain", NDJSON), "taken", 204),
    "two content types, lines first": (
        post(SPEED, NDJSON, "Content-Type: text/plain"),
        "lent",
        200,
    ),
    "other headers": (
        post(SPEED, "User-Agent: x", "Accept: text/html", "X: \xe9", "X: a, b", "Cookie: a=b"),
        "taken",
        204,
    ),
    "an Accept that asks for something else": (post(SPEED, "Accept: image/png;q=1"), "taken", 204),
    "an address of a proxy": (
        post(SPEED, "Forwarded: for=1.2.3.4", "X-Forwarded-For: 1.2.3.4"),
        "taken",
        204,
    ),
    "an upgrade": (post(SPEED, "Upgrade: h2c", "HTTP2-Settings: AAMA"), "taken", 204),
    "keep-alive": (post(SPEED, "Connection: keep-alive"), "taken", 204),
    "a connection header of its own": (post(SPEED, "Connection: x-request-id"), "taken", 204),
    "a valid request id": (post(SPEED, "X-Request-Id: Aa0._:-"), "taken", 204),
    "a request id of 128": (post(SPEED, "X-Request-Id: " + "a" * 128), "taken", 204),
    "a request id of 129": (post(SPEED, "X-Request-Id: " + "a" * 129), "taken", 204),
    "a request id that is none": (post(SPEED, "X-Request-Id: a b"), "taken", 204),
    "a request id that is not ASCII": (post(SPEED, "X-Request-Id: \xe9"), "taken", 204),
    "an empty request id": (post(SPEED, "X-Request-Id:"), "taken", 204),
    "two request ids": (post(SPEED, "X-Request-Id: one", "X-Request-Id: two"), "taken", 204),
    "two request ids, the first wrong": (
        post(SPEED, "X-Request-Id: o ne", "X-Request-Id: two"),
        "taken",
        204,
    ),
    "100-continue": (post(SPEED, EXPECT), "taken", 204),
    "chunks": (chunked(SPEED), "taken", 204),
    "one chunk": (chunked(SPEED, size=1_000), "taken", 204),
    "chunks with 100-continue": (chunked(SPEED, EXPECT), "taken", 204),
    "HTTP/1.0": (post(SPEED).replace(b"HTTP/1.1", b"HTTP/1.0"), "lent", 204),
    "HTTP/1.0 with keep-alive": (
        post(SPEED, "Connection: keep-alive").replace(b"HTTP/1.1", b"HTTP/1.0"),
        "lent",
        204,
    ),
    "an absolute target": (post(SPEED, target="http://b:80/messages"), "taken", 204),
    "an absolute target in capitals": (post(SPEED, target="HTTP://b/messages"), "taken", 204),
    "a query": (post(SPEED, target="/messages?x=1"), "lent", 204),
    "an empty query": (post(SPEED, target="/messages?"), "lent", 204),
    "an escape in the path": (post(SPEED, target="/m%65ssages"), "lent", 204),
    "two slashes": (post(SPEED, target="//messages"), "lent", 204),
    "a slash behind it": (post(SPEED, target="/messages/"), "lent", 404),
    "capitals": (post(SPEED, target="/Messages"), "lent", 404),
    "a fragment": (post(SPEED, target="/messages#x"), "lent", 404),
    "another method": (post(SPEED).replace(b"POST", b"PUT", 1), "lent", 405),
    "an encoding": (post(SPEED, "Content-Encoding: gzip"), "lent", 415),
    "no encoding": (post(SPEED, "Content-Encoding: identity"), "lent", 204),
    "a preference": (post(SPEED, "Prefer: return=representation"), "lent", 200),
    "a preference in parts": (
        post(SPEED, "Prefer: wait=1", "prefer: return=representation"),
        "lent",
        200,
    ),
    "a preference for little": (post(SPEED, "Prefer: return=minimal"), "lent", 204),
    "an array with the head of a message": (post(ARRAY), "lent", 200),
    "an array behind white space": (post(b" \r\n\t" + ARRAY), "lent", 200),
    "an empty array": (post(b"[]"), "lent", 200),
    "an array in chunks": (chunked(ARRAY), "lent", 200),
    "a broken array": (post(b"[{"), "lent", 400),
    "lines": (post(LINES, NDJSON), "lent", 200),
    "lines in chunks": (chunked(LINES, NDJSON), "lent", 200),
    "lines with the head of a message": (post(LINES), "lent", 400),
    "a message with the head of lines": (post(SPEED, NDJSON), "lent", 200),
    "nothing": (post(b""), "lent", 400),
    "no length": (b"POST /messages HTTP/1.1\r\nHost: a\r\n\r\n", "lent", 400),
    "nothing in chunks": (chunked(b""), "lent", 400),
    "what is not JSON": (post(b"{"), "lent", 400),
    "what is not UTF-8": (post(b"\xff" + SPEED), "lent", 400),
    "wrong fields": (post(body("no channel", 0)), "lent", 422),
    "wrong fields and a request id": (post(b"{}", "X-Request-Id: mine"), "lent", 422),
    "wrong fields with 100-continue": (post(b"{}", EXPECT), "lent", 422),
    "a message under the limit": (post(sized(MESSAGE_MAX - 1)), "taken", 204),
    "a message at the limit": (post(sized(MESSAGE_MAX)), "taken", 204),
    "a message over the limit": (post(sized(MESSAGE_MAX + 1)), None, 413),
    "a message at the limit in chunks": (chunked(sized(MESSAGE_MAX), size=9_999), "taken", 204),
    "a message over the limit in chunks": (
        chunked(sized(MESSAGE_MAX + 1), size=9_999),
        None,
        413,
    ),
    "a message at the limit behind white space": (
        post(b" " + sized(MESSAGE_MAX - 1)),
        "taken",
        204,
    ),
}


@pytest.mark.parametrize("case", MESSAGES)
async def test_a_post_is_answered_the_same(case: str) -> None:
    request, way, status = MESSAGES[case]

    answers = await compare_ways(request, way)

    assert {answer.status for answer in answers} == {status}


@pytest.mark.slow
async def test_every_broken_body_is_refused_the_same() -> None:
    async with both() as services:
        for name, content, status, _ in BROKEN_BODIES:
            answers, way = await compare(services, post(content))
            if len(content) <= MESSAGE_MAX and not content.lstrip().startswith(b"["):
                assert (way, answers[0].status) == ("lent", status), name
                assert len(answers) == 1, name  # an error ends the connection


# --- GET /rockets/{channel} ---

ROCKETS: dict[str, tuple[bytes, Way, int]] = {
    "a rocket": (get(f"/rockets/{ROCKET}"), "taken", 200),
    "an unknown one": (get("/rockets/nobody"), "lent", 404),
    "a UUID": (get(f"/rockets/{UUID}"), "taken", 200),
    "a UUID in capitals": (get(f"/rockets/{UUID.upper()}"), "taken", 200),
    "another name in capitals": (get(f"/rockets/{ROCKET.upper()}"), "lent", 404),
    "an escaped letter": (get("/rockets/%72ocket-000"), "lent", 200),
    "an escaped hyphen": (get("/rockets/rocket%2D000"), "lent", 200),
    "an escape that is none": (get("/rockets/rocket%2"), "lent", 404),
    "an escaped slash": (get("/rockets/rocket%2F000"), "lent", 404),
    "what is not UTF-8": (get("/rockets/%ff"), "lent", 404),
    "the settled view": (get(f"/rockets/{ROCKET}?view=settled"), "lent", 200),
    "the latest view": (get(f"/rockets/{ROCKET}?view=latest"), "lent", 200),
    "the past": (get(f"/rockets/{ROCKET}?at=1"), "lent", 200),
    "a wrong parameter": (get(f"/rockets/{ROCKET}?x=1"), "lent", 400),
    "an empty query": (get(f"/rockets/{ROCKET}?"), "lent", 200),
    "a fragment": (get(f"/rockets/{ROCKET}#x"), "lent", 404),
    "a tag that is right": (get(f"/rockets/{ROCKET}", 'If-None-Match: "THE-TAG"'), "lent", 304),
    "a tag that is weak": (get(f"/rockets/{ROCKET}", 'If-None-Match: W/"THE-TAG"'), "lent", 304),
    "a tag that is old": (get(f"/rockets/{ROCKET}", 'If-None-Match: "0"'), "lent", 200),
    "any tag": (get(f"/rockets/{ROCKET}", "If-None-Match: *"), "lent", 304),
    "another condition": (get(f"/rockets/{ROCKET}", 'If-Match: "0"'), "taken", 200),
    "a range": (get(f"/rockets/{ROCKET}", "Range: bytes=0-1"), "taken", 200),
    "a date": (
        get(f"/rockets/{ROCKET}", "If-Modified-Since: Tue, 24 Nov 2026 08:00:00 GMT"),
        "taken",
        200,
    ),
    "HEAD": (get(f"/rockets/{ROCKET}").replace(b"GET", b"HEAD", 1), "lent", 200),
    "HEAD of an unknown one": (get("/rockets/nobody").replace(b"GET", b"HEAD", 1), "lent", 404),
    "OPTIONS": (get(f"/rockets/{ROCKET}").replace(b"GET", b"OPTIONS", 1), "lent", 200),
    "DELETE": (get(f"/rockets/{ROCKET}").replace(b"GET", b"DELETE", 1), "lent", 405),
    "POST": (post(b"", target=f"/rockets/{ROCKET}"), "lent", 405),
    "a body": (post(SPEED, target=f"/rockets/{ROCKET}").replace(b"POST", b"GET", 1), "lent", 200),
    "a body in chunks": (
        chunked(SPEED).replace(b"POST /messages", b"GET /rockets/rocket-000", 1),
        "lent",
        200,
    ),
    "a body of nothing": (get(f"/rockets/{ROCKET}", "Content-Length: 0"), "taken", 200),
    "a body of nothing in chunks": (
        chunked(b"").replace(b"POST /messages", b"GET /rockets/rocket-000", 1),
        "lent",
        200,
    ),
    "100-continue": (get(f"/rockets/{ROCKET}", EXPECT), "taken", 200),
    "a content type": (get(f"/rockets/{ROCKET}", NDJSON), "taken", 200),
    "a preference": (get(f"/rockets/{ROCKET}", "Prefer: return=minimal"), "lent", 200),
    "a request id": (get(f"/rockets/{ROCKET}", "X-Request-Id: mine"), "taken", 200),
    "HTTP/1.0": (get(f"/rockets/{ROCKET}").replace(b"HTTP/1.1", b"HTTP/1.0"), "lent", 200),
    "an absolute target": (get(f"http://b/rockets/{ROCKET}"), "taken", 200),
    "two slashes before": (get(f"//rockets/{ROCKET}"), "lent", 200),
    "two slashes between": (get(f"/rockets//{ROCKET}"), "lent", 404),
    "a slash behind": (get(f"/rockets/{ROCKET}/"), "lent", 404),
    "a part behind": (get(f"/rockets/{ROCKET}/messages"), "lent", 200),
    "one dot": (get("/rockets/."), "taken", 200),
    "two dots": (get("/rockets/.."), "taken", 200),
    "a name within the limit": (get("/rockets/" + "x" * 128), "taken", 200),
    "a name over the limit": (get("/rockets/" + "x" * 129), "lent", 404),
    "a name with all kinds of characters": (get("/rockets/a.b:c_d-E"), "taken", 200),
}
KNOWN = (
    body(UUID, 1),
    body("x" * 128, 1),
    body("a.b:c_d-E", 1),
    body(".", 1),
    body("..", 1),
)


@pytest.mark.parametrize("case", ROCKETS)
async def test_a_rocket_is_shown_the_same(case: str) -> None:
    request, way, status = ROCKETS[case]

    answers = await compare_ways(request, way, *KNOWN)

    assert {answer.status for answer in answers} == {status}


# --- GET /rockets ---

LISTS: dict[str, tuple[bytes, Way, int]] = {
    "plain": (get("/rockets"), "taken", 200),
    "a limit": (get("/rockets?limit=1"), "lent", 200),
    "an order": (get("/rockets?sort=-speed,channel"), "lent", 200),
    "a filter": (get("/rockets?status=launched&view=settled"), "lent", 200),
    "a wrong parameter": (get("/rockets?x=1"), "lent", 400),
    "an empty query": (get("/rockets?"), "lent", 200),
    "a tag that is right": (get("/rockets", 'If-None-Match: "0", "THE-TAG"'), "lent", 304),
    "a tag that is old": (get("/rockets", 'If-None-Match: "0"'), "lent", 200),
    "HEAD": (get("/rockets").replace(b"GET", b"HEAD", 1), "lent", 200),
    "POST": (post(SPEED, target="/rockets"), "lent", 405),
    "a body": (post(SPEED, target="/rockets").replace(b"POST", b"GET", 1), "lent", 200),
    "two slashes": (get("//rockets"), "lent", 200),
    "a slash behind": (get("/rockets/"), "lent", 404),
    "capitals": (get("/Rockets"), "lent", 404),
    "an escape": (get("/r%6fckets"), "lent", 200),
    "an absolute target": (get("http://b/rockets"), "taken", 200),
    "a request id": (get("/rockets", "X-Request-Id: mine"), "taken", 200),
    "HTTP/1.0": (get("/rockets").replace(b"HTTP/1.1", b"HTTP/1.0"), "lent", 200),
}


@pytest.mark.parametrize("case", LISTS)
async def test_the_list_is_the_same_before_and_after_each_change(case: str) -> None:
    request, way, status = LISTS[case]
    changes = [
        body("b", 1, "RocketLaunched"),
        body("a", 2),
        body("b", 2, "RocketExploded"),
        body("a", 1, "RocketLaunched"),
        body("a", 1),  # a conflict
    ]
    seen = []
    async with both() as services:
        for change in [None, *changes]:
            if change is not None:
                await compare(services, post(change))
            for sent in (request, request, closing(request)):
                answers, taken = await compare(services, await with_tag(services, sent))
                assert (taken, answers[0].status) == (way, status)
            seen.append(answers[0].body)
    if way == "taken":
        assert len(set(seen)) == len(seen)


@pytest.mark.parametrize("count", [999, 1_000, 1_001])
async def test_a_long_list_is_the_same(count: int) -> None:
    messages = [body(f"rocket-{number:04}", 1) for number in range(count)]
    async with both(*messages) as services:
        for _ in range(2):
            answers, way = await compare(services, get("/rockets"))
            assert msgspec.json.decode(answers[0].body)["total"] == count
            assert way == ("taken" if count <= 1_000 else "lent")


# --- byte by byte ---


@pytest.mark.slow
@pytest.mark.parametrize("table", [MESSAGES, ROCKETS, LISTS], ids=["messages", "rockets", "lists"])
async def test_what_comes_byte_by_byte_is_answered_the_same(
    table: dict[str, tuple[bytes, Way, int]],
) -> None:
    async with both(*of_rockets(2 * len(table)), *KNOWN) as services:
        for index, (name, (request, way, status)) in enumerate(table.items()):
            for close in (False, True):
                sent = of_rocket(closing(request) if close else request, 2 * index + close)
                sent = await with_tag(services, sent)
                answers, taken = await compare(services, sent, bytewise=True)
                last = next(answer for answer in answers if answer.status != 100)
                assert (taken, last.status) == (way, status), name


# --- framing ---


def hot(data: bytes) -> bytes:
    """Send a head or body of the framing tests to a route that the lane knows."""
    return data.replace(b"GET / HTTP", b"GET /rockets HTTP", 1).replace(
        b"POST / HTTP", b"POST /messages HTTP", 1
    )


@pytest.mark.slow
@pytest.mark.parametrize(("close", "bytewise"), [(False, False), (True, False), (False, True)])
async def test_the_framing_matrix_is_answered_the_same(close: bool, bytewise: bool) -> None:
    chunks = b"POST /messages HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    cases: list[tuple[str, bytes, int | None]] = [
        *((name, data, status) for name, (data, status) in REFUSED_HEADS.items()),
        *((name, data, None) for name, (data, _) in TAKEN_HEADS.items()),
        *((name, chunks + data, None) for name, (data, _) in BODIES.items()),
    ]
    ways: set[Way] = set()
    async with both(*BEFORE) as services:
        for name, data, status in cases:
            sent = closing(hot(data)) if close else hot(data)
            for _ in range(1 if bytewise else 2):
                answers, way = await compare(services, sent, bytewise=bytewise)
                ways.add(way)
                if status is not None:
                    assert ([each.status for each in answers], way) == ([status], None), name
    assert ways == {None, "lent", "taken"}


# --- what the layers below refuse ---

# What happens: gives the connections in whose answers it can be seen.
Scenario = Callable[[Service, Gate, Peers], AsyncIterator[Peer]]


class Troubled(MemoryJournal):
    """Raises this once a message of the rocket `bad` is to be stored."""

    def __init__(self, trouble: Exception) -> None:
        super().__init__()
        self.trouble = trouble

    def append(self, records: Sequence[Record], notes: Sequence[Note] = ()) -> Appended:
        """Store the records, or fail."""
        if any(record.stream == "bad" for record in records):
            raise self.trouble
        return super().append(records, notes)


TROUBLES: dict[str, Callable[[], Exception]] = {
    "full": lambda: JournalFull("the disk is full"),
    "busy": lambda: JournalBusy("somebody else writes"),
    "failed": lambda: JournalFailed("the disk is gone"),
    "a bug": lambda: RuntimeError("never seen before"),
}


async def told(
    run: Scenario,
    journal: Callable[[], MemoryJournal] = MemoryJournal,
    limits: FleetLimits | None = None,
) -> list[Answer]:
    """Let something happen to both services; gives the answers, which are the same."""
    with_lane, without = await answers_of(run, journal, limits)
    assert with_lane == without
    return with_lane


async def answers_of(
    run: Scenario,
    journal: Callable[[], MemoryJournal] = MemoryJournal,
    limits: FleetLimits | None = None,
) -> list[list[Answer]]:
    """Let something happen to a service with the lane, then to one without; gives the answers."""
    results = []
    for fast_lane in (True, False):
        gate = Gate()
        async with running_service(
            journal(), fast_lane=fast_lane, gate=gate, limits=limits
        ) as service:
            answers = []
            with Peers(service.port) as peers:
                async for peer in run(service, gate, peers):
                    await peer.finish()
                    answers += peer.answers([b"POST"] * peer.sent.count(b"POST "))
            results.append(answers)
            fast, _ = counts(service)
            assert (fast > 0) is fast_lane
            assert service.fleet.statistics().requests_waiting == 0
    return results


def unavailable(answers: Sequence[Answer], detail: str) -> None:
    """There is one 503 that says this, and the connection ends with it."""
    [answer] = [answer for answer in answers if answer.status == 503]
    problem = msgspec.json.decode(answer.body)
    assert problem["detail"] == detail
    assert (answer.header("retry-after"), answer.header("connection")) == ("1", "close")


@pytest.mark.parametrize("close", [False, True])
@pytest.mark.parametrize("trouble", TROUBLES)
async def test_a_journal_that_fails_is_told_the_same(trouble: str, close: bool) -> None:
    async def run(service: Service, gate: Gate, peers: Peers) -> AsyncIterator[Peer]:
        for number in (1, 2):
            for channel in ("good", "bad"):
                request = post(body(channel, number), "X-Request-Id: mine")
                peer = peers.connect()
                await peer.send(closing(request) if close else request)
                yield peer

    answers = await told(run, lambda: Troubled(TROUBLES[trouble]()))

    lasting = trouble in {"failed", "a bug"}
    statuses = [each.status for each in answers if each.header("rockets-outcome") is not None]
    assert statuses == [204] * (1 if lasting else 2)
    assert [each.status for each in answers].count(503) == (3 if lasting else 2)


@pytest.mark.parametrize("close", [False, True])
async def test_too_many_gaps_are_told_the_same(close: bool) -> None:
    async def run(service: Service, gate: Gate, peers: Peers) -> AsyncIterator[Peer]:
        for number in (2, 4, 6, 6):
            request = post(body("r", number))
            peer = peers.connect()
            await peer.send(closing(request) if close else request)
            yield peer

    answers = await told(run, limits=FleetLimits(rocket_gaps_max=2))

    refused = [answer for answer in answers if answer.status == 503]
    assert len(refused) == 2
    assert msgspec.json.decode(refused[0].body)["type"] == "/problems/too-many-gaps"


@pytest.mark.parametrize("close", [False, True])
@pytest.mark.parametrize(
    ("limits", "detail"),
    [
        (FleetLimits(waiting_max=1), "too many requests wait for a commit"),
        (FleetLimits(actors_max=1), "too many rockets are active"),
    ],
)
async def test_a_fleet_that_takes_no_more_is_told_the_same(
    limits: FleetLimits, detail: str, close: bool
) -> None:
    async def run(service: Service, gate: Gate, peers: Peers) -> AsyncIterator[Peer]:
        learning = peers.connect()
        await learning.send(post(body("r", 8)) + post(body("r", 9)))
        yield learning
        gate.shut()
        first, second = peers.connect(), peers.connect()
        for peer, channel in ((first, "r"), (second, "s")):
            request = post(body(channel, 1))
            await peer.send(closing(request) if close else request)
        assert (first.received, second.received != b"") == (b"", True)
        gate.open()
        yield first
        yield second

    unavailable(await told(run, limits=limits), detail)


async def test_a_fleet_that_has_been_closed_is_told_the_same() -> None:
    async def run(service: Service, gate: Gate, peers: Peers) -> AsyncIterator[Peer]:
        learning = peers.connect()
        await learning.send(post(body("r", 1)))
        yield learning
        service.fleet.close()
        peer = peers.connect()
        await peer.send(post(body("r", 2)))
        yield peer

    unavailable(await told(run), "the service is stopping")


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("close", [False, True])
async def test_a_message_that_is_not_durable_in_time_is_told_the_same(
    close: bool, known: bool, autojump_clock: MockClock
) -> None:
    timeout_s = IntakeLimits().ask_timeout_s

    async def run(service: Service, gate: Gate, peers: Peers) -> AsyncIterator[Peer]:
        requests = [post(body("r", number), "X-Request-Id: mine") for number in (1, 2)]
        learned, request = map(closing, requests) if close else requests
        if known:
            learning = peers.connect()
            await learning.send(learned)
            yield learning
        gate.shut()
        early, late = peers.connect(), peers.connect()
        await early.send(request)
        await trio.sleep(timeout_s / 2)
        await late.send(request)
        await trio.sleep(timeout_s / 2 - 0.01)
        early.take()
        assert early.received == b""
        await trio.sleep(0.01 + SWEEP_INTERVAL_S)
        early.take()
        late.take()
        assert (early.received != b"", early.ended, late.received) == (True, True, b"")
        gate.open()
        yield early
        yield late

    answers = await told(run)

    unavailable(answers, f"not durable within {timeout_s:g} s")
    [outcome] = [each.header("rockets-outcome") for each in answers[-2:] if each.status == 204]
    assert outcome == "duplicate"  # in doubt, but stored


async def test_messages_for_a_full_mailbox_that_are_not_taken_in_time_are_told_the_same(
    autojump_clock: MockClock,
) -> None:
    timeout_s = IntakeLimits().ask_timeout_s

    async def run(service: Service, gate: Gate, peers: Peers) -> AsyncIterator[Peer]:
        gate.shut()
        waiting = [peers.connect() for _ in range(4)]
        for number, peer in enumerate(waiting, 1):
            await peer.send(post(body("r", number)))
        await trio.sleep(timeout_s + SWEEP_INTERVAL_S)
        for peer in waiting:
            peer.take()
            assert (peer.received != b"", peer.ended) == (True, True)
        gate.open()
        await wait_all_tasks_blocked()
        for peer in waiting:
            yield peer

    answers = await told(run, limits=FleetLimits(mailbox_max=1))

    for answer in answers:
        unavailable([answer], f"not durable within {timeout_s:g} s")
    assert len(answers) == 4


async def test_an_actor_that_crashes_is_told_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    apply = Ledger.apply

    def exploding(ledger: Ledger, number: int, payload: Payload, time: str) -> Outcome:
        if number == 2 and ledger.run_count:
            raise RuntimeError("planted")
        return apply(ledger, number, payload, time)

    async def run(service: Service, gate: Gate, peers: Peers) -> AsyncIterator[Peer]:
        monkeypatch.setattr(Ledger, "apply", exploding)
        for number in (1, 2):
            peer = peers.connect()
            await peer.send(post(body("r", number)))
            yield peer
        monkeypatch.setattr(Ledger, "apply", apply)
        peer = peers.connect()
        await peer.send(post(body("r", 2)) + post(body("r", 3)))
        yield peer

    answers = await told(run)

    unavailable(answers, "the rocket's actor crashed: RuntimeError")
    outcomes = [each.header("rockets-outcome") for each in answers if each.status == 204]
    assert outcomes == ["ignored", "duplicate", "ignored"]  # it was committed before the crash


async def test_a_message_during_a_stop_is_told_the_same_but_that_the_lane_tells_of_the_end() -> (
    None
):
    async def run(service: Service, gate: Gate, peers: Peers) -> AsyncIterator[Peer]:
        gate.shut()
        peer = peers.connect()
        await peer.send(post(body("r", 1)))
        service.connections.stop()
        gate.open()
        yield peer

    with_lane, without = await answers_of(run)

    # What is lent before the stop has its head written by then.
    [answer] = with_lane
    assert (answer.status, answer.header("connection")) == (204, "close")
    others = tuple(pair for pair in answer.headers if pair != ("connection", "close"))
    assert [msgspec.structs.replace(answer, headers=others)] == without


# --- any sequence ---

CHANNELS = ("a", "b", UUID)
KINDS = (
    "RocketLaunched",
    "RocketSpeedIncreased",
    "RocketMissionChanged",
    "RocketExploded",
    "Refuelled",
)
HEADERS = (
    "X-Request-Id: mine",
    "X-Request-Id: not one",
    "Prefer: return=representation",
    "If-None-Match: *",
    "Content-Type: application/json",
    "Connection: keep-alive",
    "Connection: close",
    "Expect: 100-continue",
    "Accept: */*",
)
TARGETS = (
    "/rockets",
    "/rockets/",
    "/rockets?limit=1",
    *(f"/rockets/{channel}" for channel in (*CHANNELS, UUID.upper(), "c", "%61")),
    "/rockets/a?view=settled",
    "/rockets/a?at=2",
    "/livez",
)
BODIES_SENT = st.builds(
    body, st.sampled_from(CHANNELS), st.integers(1, 5), st.sampled_from(KINDS)
) | st.sampled_from([b"", b"{", b"{}", b"[]", ARRAY])
REQUESTS = st.builds(
    lambda content, headers: post(content, *headers),
    BODIES_SENT,
    st.lists(st.sampled_from(HEADERS), max_size=2, unique=True),
) | st.builds(
    lambda target, headers, head: get(target, *headers).replace(b"GET", head, 1),
    st.sampled_from(TARGETS),
    st.lists(st.sampled_from(HEADERS), max_size=2, unique=True),
    st.sampled_from([b"GET", b"GET", b"GET", b"HEAD"]),
)
# A connection: requests that come together, then others, and where each part is cut.
CONNECTIONS = st.lists(
    st.lists(
        st.tuples(st.lists(REQUESTS, min_size=1, max_size=4), st.integers(0, 400)), max_size=3
    ),
    max_size=4,
)


@pytest.mark.slow
@given(CONNECTIONS)
@settings(max_examples=40, deadline=None)
async def test_any_sequence_of_requests_is_answered_the_same(
    sent: list[list[tuple[list[bytes], int]]],
) -> None:
    async with both() as services:
        for connection in sent:
            found = []
            for service in services:
                with Peers(service.port) as peers:
                    peer = peers.connect()
                    methods: list[bytes] = []
                    for requests, place in connection:
                        data = b"".join(requests)
                        methods += map(method, requests)
                        await peer.send(data[:place])
                        await peer.send(data[place:])
                    await peer.finish()
                    found.append(peer.answers(methods))
            assert found[0] == found[1]
        assert counts(services[1])[0] == 0
