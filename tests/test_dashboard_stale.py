"""The dashboard on an instance that is cut off from its store: it says since when, and goes on."""

import re
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, closing
from pathlib import Path
from typing import NamedTuple

import pytest
import trio
from playwright.sync_api import expect

from tests.browser import Visit, browsing, needs_browser
from tests.helpers import ServerProcess, serving
from tests.journal.postgresql_server import PostgresqlServer
from tests.journal.store_proxy import Proxy
from tests.test_dashboard import expect_cells, expect_connection, launch, send

pytestmark = [pytest.mark.slow, needs_browser]

STALE = re.compile(r"Stale since \d\d:\d\d:\d\d: the service is cut off from its store, or behind")


class Store(NamedTuple):
    """A store with a direct address, and one behind a proxy."""

    near: str
    far: str
    proxy: Proxy


@pytest.fixture
def store(postgresql: PostgresqlServer) -> Iterator[Store]:
    name = postgresql.new_database()
    with closing(Proxy(postgresql.port)) as proxy:
        far = postgresql.url(port=proxy.port, database=name)
        yield Store(postgresql.url(database=name), far, proxy)


def instance(
    directory: Path, address: str, *flags: str
) -> AbstractAsyncContextManager[ServerProcess]:
    """Run an instance on a store."""
    directory.mkdir()
    return serving(directory, "--journal", address, "--durability", "normal", *flags)


def see_staleness(near: int, far: int, proxy: Proxy) -> None:
    """Look at a fleet, cut its instance off, look at it, and mend that."""
    send(near, launch("r-1"))
    with browsing() as visit:
        page = visit.page
        page.goto(f"http://127.0.0.1:{far}/")
        expect_cells(visit, 1, ["r-1"])
        expect_connection(visit, "Live")
        proxy.cut()
        send(near, launch("r-2"))
        expect_connection(visit, STALE)
        since = page.locator("#connection").inner_text()
        expect_cells(visit, 1, ["r-1"])
        see_stale_rocket(visit)
        page.go_back()
        expect_cells(visit, 1, ["r-1"])  # by a new stream, which begins with `stale`
        expect_connection(visit, STALE)
        assert seconds_between(since, page.locator("#connection").inner_text()) <= 3
        proxy.heal()
        expect_connection(visit, "Live")
        expect_cells(visit, 1, ["r-1", "r-2"])
        assert all(" 503 " in complaint for complaint in visit.complaints), visit.complaints
        assert visit.hosts == {f"127.0.0.1:{far}"}


def see_stale_rocket(visit: Visit) -> None:
    """Follow a rocket's link: what the instance knows of it is shown, with its age."""
    visit.page.get_by_role("link", name="r-1").click()
    expect(visit.page.locator(".facts")).to_contain_text("ARTEMIS", timeout=20_000)
    expect_connection(visit, STALE)
    assert any(url.endswith("/rockets/r-1?stale=ok") for url in visit.requests)


def seconds_between(earlier: str, later: str) -> int:
    """How far two times of day are apart that are written in texts."""
    seconds = []
    for text in (earlier, later):
        [(hour, minute, second)] = re.findall(r"(\d\d):(\d\d):(\d\d)", text)
        seconds.append(int(hour) * 3_600 + int(minute) * 60 + int(second))
    apart = abs(seconds[0] - seconds[1])
    return min(apart, 86_400 - apart)


async def test_an_instance_that_is_cut_off_is_shown_with_its_age(
    store: Store, tmp_path: Path
) -> None:
    async with (
        instance(tmp_path / "near", store.near) as near,
        instance(tmp_path / "far", store.far) as far,
    ):
        await trio.to_thread.run_sync(see_staleness, near.port, far.port, store.proxy)


def see_refusal(port: int) -> None:
    with browsing() as visit:
        visit.page.goto(f"http://127.0.0.1:{port}/")
        expect_connection(visit, re.compile("Refused: this instance only takes messages"))
        assert all(" 421 " in complaint for complaint in visit.complaints), visit.complaints


async def test_an_instance_that_shows_nothing_says_so(store: Store, tmp_path: Path) -> None:
    async with instance(tmp_path / "near", store.near, "--role", "ingest") as server:
        await trio.to_thread.run_sync(see_refusal, server.port)
