"""`rockets verify`: holds the state a service serves against an expected-state file."""

import sys
from pathlib import Path
from urllib.parse import quote

import click
import msgspec
import trio

from rockets.cli.client import HttpClient
from rockets.cli.connector import ClientError, parse_url
from rockets.cli.expected import Expected, ExpectedUnreadable, differences, read_expected

# The largest page a service gives is 10,000; this many take about 100 ms.
PAGE_ROCKETS = 1000
# Long enough for a service that is busy with a run, short enough to wait for.
PAGE_TIMEOUT_S = 30.0
DIFFERENCES_SHOWN_MAX = 50

EXIT_DIFFERENT = 1
EXIT_IMPOSSIBLE = 2


class ServiceUnreadable(Exception):
    """The service did not give its rockets; the message says in one line what came instead."""


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


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("url")
def verify(file: Path, url: str) -> None:
    """Compare the state of the service at URL with the expected states in FILE.

    Exits with 0 when every rocket is as expected, 1 when not, and 2 when FILE or the service
    cannot be read. URL may be any address of the service; only its origin counts.
    """
    try:
        parse_url(url)
        sys.exit(trio.run(report, read_expected(file), url))
    except (ValueError, ExpectedUnreadable, ServiceUnreadable) as error:
        click.echo(f"rockets verify: {error}", err=True)
        sys.exit(EXIT_IMPOSSIBLE)


async def report(expected: Expected, url: str) -> int:
    """Print how the service differs from what was expected and return the exit code."""
    found = differences(expected, await read_rockets(url))
    for difference in found[:DIFFERENCES_SHOWN_MAX]:
        click.echo(str(difference))
    if len(found) > DIFFERENCES_SHOWN_MAX:
        click.echo(f"and {len(found) - DIFFERENCES_SHOWN_MAX} more")
    if found:
        click.echo(f"not verified: {len(found)} differences")
        return EXIT_DIFFERENT
    click.echo(
        f"verified: {len(expected.rockets)} rockets as expected (contentHash was not compared)"
    )
    return 0


async def read_rockets(url: str) -> dict[str, dict[str, object]]:
    """Read every rocket of the service at this origin, page by page, with the fields compared.

    ServiceUnreadable when any page cannot be had.
    """
    served: dict[str, dict[str, object]] = {}
    target = f"/rockets?limit={PAGE_ROCKETS}"
    async with HttpClient(url) as client:
        while target:
            page = await _read_page(client, target)
            served.update((rocket.channel, _fields(rocket)) for rocket in page.rockets)
            following = quote(page.next, safe="") if page.next else ""
            target = following and f"/rockets?limit={PAGE_ROCKETS}&cursor={following}"
    return served


async def _read_page(client: HttpClient, target: str) -> _Page:
    try:
        with trio.fail_after(PAGE_TIMEOUT_S):
            response = await client.request("GET", target)
        if response.status != 200:
            raise ServiceUnreadable(f"GET {target} was answered with {response.status}")
        return msgspec.json.decode(response.body, type=_Page)
    except trio.TooSlowError as error:
        raise ServiceUnreadable(f"GET {target}: no reply in {PAGE_TIMEOUT_S:g} s") from error
    except ClientError as error:
        raise ServiceUnreadable(f"GET {target}: {error}") from error
    except msgspec.DecodeError as error:
        raise ServiceUnreadable(f"GET {target}: not a list of rockets: {error}") from error


def _fields(rocket: _ServedRocket) -> dict[str, object]:
    fields = msgspec.to_builtins(rocket)
    fields["messageCount"] = rocket.sequence.received
    assert isinstance(fields, dict)
    return fields
