"""`rockets verify`: holds the state a service serves against an expected-state file."""

import sys
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import click
import msgspec
import trio

from rockets.cli.client import HttpClient
from rockets.cli.connector import ClientError, parse_url
from rockets.cli.expected import (
    ContentHash,
    Expected,
    ExpectedUnreadable,
    differences,
    read_expected,
)

T = TypeVar("T")

# The largest page a service gives is 10,000; this many take about 100 ms.
PAGE_ROCKETS = 1000
# The most a service gives; a page of so many messages takes it about half a second.
PAGE_MESSAGES = 10_000
# Long enough for a service that is busy with a run, short enough to wait for.
PAGE_TIMEOUT_S = 30.0
DIFFERENCES_SHOWN_MAX = 50

EXIT_DIFFERENT = 1
EXIT_IMPOSSIBLE = 2


class ServiceUnreadable(Exception):
    """The service did not give what it has; the message says in one line what came instead."""


class _ServedSequence(msgspec.Struct, frozen=True):
    """How many message numbers the service has stored for a rocket."""

    received: int


class _ServedRocket(msgspec.Struct, frozen=True, rename="camel"):
    """What a comparison needs of a rocket; the service sends more."""

    channel: str
    type: str | None
    mission: str | None
    speed: int | None
    status: str
    explosion_reason: str | None
    last_message_number: int
    sequence: _ServedSequence


class _Page(msgspec.Struct, frozen=True):
    """One page of the list, and the cursor of the next one."""

    rockets: list[_ServedRocket]
    next: str | None = None


class _StoredMessage(msgspec.Struct, frozen=True):
    """What a hash needs of a stored message; the service sends more."""

    number: int
    type: str
    payload: msgspec.Raw


class _HistoryPage(msgspec.Struct, frozen=True):
    """One page of a history, and the number behind which the next one begins."""

    messages: list[_StoredMessage]
    next: int | None = None


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("url")
@click.option("--no-hashes", is_flag=True, help="Do not read and compare what the rockets sent.")
def verify(file: Path, url: str, no_hashes: bool) -> None:
    """Compare the state of the service at URL with the expected states in FILE.

    Exits with 0 when every rocket is as expected, 1 when not, and 2 when FILE or the service
    cannot be read. URL may be any address of the service; only its origin counts.
    """
    try:
        parse_url(url)
        sys.exit(trio.run(partial(report, hashes=not no_hashes), read_expected(file), url))
    except (ValueError, ExpectedUnreadable, ServiceUnreadable) as error:
        click.echo(f"rockets verify: {error}", err=True)
        sys.exit(EXIT_IMPOSSIBLE)


async def report(expected: Expected, url: str, *, hashes: bool = True) -> int:
    """Print how the service differs from what was expected and return the exit code."""
    served = await read_rockets(url)
    if hashes:
        await _add_hashes(served, [rocket.channel for rocket in expected.rockets], url)
    found = differences(expected, served)
    for difference in found[:DIFFERENCES_SHOWN_MAX]:
        click.echo(str(difference))
    if len(found) > DIFFERENCES_SHOWN_MAX:
        click.echo(f"and {len(found) - DIFFERENCES_SHOWN_MAX} more")
    if found:
        click.echo(f"not verified: {len(found)} differences")
        return EXIT_DIFFERENT
    left_out = "" if hashes else " (contentHash was not compared)"
    click.echo(f"verified: {len(expected.rockets)} rockets as expected{left_out}")
    return 0


async def read_rockets(url: str) -> dict[str, dict[str, object]]:
    """Read every rocket of the service at this origin, page by page, with the fields compared.

    ServiceUnreadable when any page cannot be had.
    """
    served: dict[str, dict[str, object]] = {}
    target = f"/rockets?limit={PAGE_ROCKETS}"
    async with HttpClient(url) as client:
        while target:
            page = await _read(client, target, _Page)
            served.update((rocket.channel, _fields(rocket)) for rocket in page.rockets)
            following = quote(page.next, safe="") if page.next else ""
            target = following and f"/rockets?limit={PAGE_ROCKETS}&cursor={following}"
    return served


async def _add_hashes(served: dict[str, dict[str, object]], channels: list[str], url: str) -> None:
    """Add the contentHash of these rockets, as far as the service has them."""
    async with HttpClient(url) as client:
        for channel in channels:
            if channel in served:
                served[channel]["contentHash"] = await _read_hash(client, channel)


async def _read_hash(client: HttpClient, channel: str) -> str:
    digest = ContentHash()
    after: int | None = 0
    while after is not None:
        target = f"/rockets/{quote(channel)}/messages?limit={PAGE_MESSAGES}&after={after}"
        page = await _read(client, target, _HistoryPage)
        for message in page.messages:
            digest.add(message.number, message.type, bytes(message.payload))
        after = page.next
    return digest.hexdigest()


async def _read(client: HttpClient, target: str, kind: type[T]) -> T:
    try:
        with trio.fail_after(PAGE_TIMEOUT_S):
            response = await client.request("GET", target)
        if response.status != 200:
            raise ServiceUnreadable(f"GET {target} was answered with {response.status}")
        return msgspec.json.decode(response.body, type=kind)
    except trio.TooSlowError as error:
        raise ServiceUnreadable(f"GET {target}: no reply in {PAGE_TIMEOUT_S:g} s") from error
    except ClientError as error:
        raise ServiceUnreadable(f"GET {target}: {error}") from error
    except msgspec.DecodeError as error:
        raise ServiceUnreadable(f"GET {target}: not what was asked for: {error}") from error


def _fields(rocket: _ServedRocket) -> dict[str, object]:
    fields = msgspec.to_builtins(rocket)
    fields["messageCount"] = rocket.sequence.received
    assert isinstance(fields, dict)
    return fields
