"""A real browser: Debian's Chromium, driven by Playwright."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, sync_playwright

CHROMIUM = "/usr/bin/chromium"

needs_browser = pytest.mark.skipif(
    not Path(CHROMIUM).exists() and os.environ.get("CI") != "true",
    reason=f"there is no {CHROMIUM}; `make test-tools` installs it",
)


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
        page.on("dialog", lambda dialog: self.complaints.append(f"a dialog: {dialog.message}"))

    @property
    def hosts(self) -> set[str]:
        """Every host that was asked; data: has none."""
        return {urlsplit(url).netloc for url in self.requests} - {""}


@contextmanager
def browsing(
    *, width: int = 1280, height: int = 900, scheme: Literal["light", "dark"] = "light"
) -> Iterator[Visit]:
    """Open a browser with one empty page."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            # CI runs as root, where Chromium has no sandbox; and nothing may leave the machine.
            args=["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"],
        )
        size = {"width": width, "height": height}
        yield Visit(browser.new_page(viewport=size, color_scheme=scheme))  # type: ignore[arg-type]  # a dict is one
        browser.close()
