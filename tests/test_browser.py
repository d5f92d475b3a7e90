"""What a person sees, in a real browser: Debian's Chromium, driven by Playwright."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trio
from playwright.sync_api import Page, sync_playwright

from rockets.web.routes import ROUTES
from tests.helpers import connected, get, serving

CHROMIUM = "/usr/bin/chromium"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not Path(CHROMIUM).exists() and os.environ.get("CI") != "true",
        reason=f"there is no {CHROMIUM}; `make test-tools` installs it",
    ),
]


class Visit:
    """One page of the browser, and everything that it asked for and complained about."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.requests: list[str] = []
        self.complaints: list[str] = []
        page.set_default_timeout(20_000)
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    @property
    def hosts(self) -> set[str]:
        """Every host that was asked; data: has none."""
        return {urlsplit(url).netloc for url in self.requests} - {""}


@contextmanager
def browsing() -> Iterator[Visit]:
    """Open a browser with one empty page."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            # CI runs as root, where Chromium has no sandbox; and nothing may leave the machine.
            args=["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"],
        )
        yield Visit(browser.new_page())
        browser.close()


def read_docs(url: str) -> tuple[Visit, list[str], str]:
    """Open Swagger UI, unfold an operation and send its example."""
    with browsing() as visit:
        page = visit.page
        page.goto(f"{url}/docs")
        page.locator(".opblock").first.wait_for()
        paths = page.locator(".opblock-summary-path").all_inner_texts()
        post = page.locator("#operations-messages-post_messages")
        post.locator(".opblock-summary-control").click()
        post.get_by_role("button", name="Try it out").click()
        post.get_by_role("button", name="Execute").click()
        answer = post.locator(".live-responses-table tbody .response-col_status").first.inner_text()
        return visit, paths, answer


async def test_swagger_ui_shows_every_operation_and_sends_a_message(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        visit, paths, answer = await trio.to_thread.run_sync(read_docs, server.url)

        assert sorted(path.replace("\u200b", "") for path in paths) == sorted(
            route.path for route in ROUTES
        )
        assert answer.split()[0] == "200"
        assert visit.hosts == {f"127.0.0.1:{server.port}"}
        assert visit.complaints == []
        async with connected(server.port) as client:
            assert (await client.ask(get("/rockets"))).json["count"] == 1


def read_problems(url: str) -> tuple[Visit, str]:
    """Follow the first link of the list of problems."""
    with browsing() as visit:
        visit.page.goto(f"{url}/problems")
        visit.page.get_by_role("link", name="malformed-body").click()
        visit.page.get_by_role("link", name="All problems").wait_for()
        return visit, visit.page.inner_text("main")


async def test_a_problem_is_explained_without_a_complaint_of_the_browser(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        visit, text = await trio.to_thread.run_sync(read_problems, server.url)

        assert "400 The body is not valid JSON" in text
        assert visit.hosts == {f"127.0.0.1:{server.port}"}
        assert visit.complaints == []
