"""What a person sees, in a real browser: Debian's Chromium, driven by Playwright."""

from pathlib import Path

import pytest
import trio

from rockets.web.routes import ROUTES
from tests.browser import Visit, browsing, needs_browser
from tests.helpers import connected, get, serving

pytestmark = [pytest.mark.slow, needs_browser]


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
