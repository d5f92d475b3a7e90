"""Take the pictures of the dashboard that the documents show: `python -m tests.screenshots FOLDER`.

A server of its own with a simulated fleet; nothing but times and rates differs from run to run.
"""

import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import trio
from playwright.sync_api import expect

from tests.browser import Visit, browsing
from tests.helpers import ServerProcess, body, connected, post, serving

FLEET = ("--max-messages", "6000", "--rockets", "40", "--shuffle", "30", "--seed", "444")
# What a fleet without faults does not show: a gap, an explosion, a conflict, a missing launch.
FAULTS = (
    body("gemini-7", 1, "RocketLaunched", type="Titan-II", launchSpeed=900, mission="GEMINI"),
    body("gemini-7", 1, "RocketLaunched", type="Titan-II", launchSpeed=800, mission="GEMINI"),
    body("gemini-7", 2, by=4200),
    body("gemini-7", 5, "RocketMissionChanged", newMission="RENDEZVOUS"),
    body("gemini-7", 9, "RocketExploded", reason="PRESSURE_VESSEL_FAILURE"),
    body("vostok-1", 3, by=1500),
)


async def fly(server: ServerProcess) -> None:
    """Send the fleet and the faults."""
    url = f"{server.url}/messages"
    await trio.run_process(
        [sys.executable, "-m", "rockets", "launch", url, *FLEET], capture_stdout=True
    )
    async with connected(server.port) as client:
        for message in FAULTS:
            assert (await client.ask(post(message))).status == 204


async def climb(server: ServerProcess) -> None:
    """Let one rocket fly on for ever, so that the pages move."""
    async with connected(server.port) as client:
        kind, number = "RocketLaunched", 1
        while True:
            assert (await client.ask(post(body("apollo-11", number, kind)))).status == 204
            kind, number = "RocketSpeedIncreased", number + 1
            await trio.sleep(0.02)


def show_fleet(visit: Visit, url: str) -> None:
    """Open the fleet, the rockets with gaps first."""
    visit.page.goto(f"{url}/?sort=-missingCount")
    expect(visit.page.locator("#connection")).to_have_text("Live")
    expect(visit.page.get_by_role("link", name="gemini-7")).to_be_visible()
    expect(visit.page.locator(".tiles dd").last).to_have_text(re.compile("[1-9]"))


def show_rocket(visit: Visit, url: str) -> None:
    """Open a rocket with a long history, as it was at a message."""
    visit.page.goto(f"{url}/?sort=-lastMessageNumber&complete=true&minSpeed=1&type=Titan-IV")
    visit.page.locator(".scroll tbody a").first.click()
    expect(visit.page.locator(".chart canvas")).to_be_visible()
    visit.page.get_by_role("slider").fill("60")
    expect(visit.page.locator(".note").first).to_have_text("As it was at message 60.")


def take(folder: Path, url: str) -> None:
    """Take all pictures."""
    for name, width, height, scheme, show in (
        ("fleet-light.png", 1280, 800, "light", show_fleet),
        ("fleet-dark.png", 1280, 800, "dark", show_fleet),
        ("fleet-phone.png", 390, 800, "light", show_fleet),
        ("rocket.png", 1280, 1000, "light", show_rocket),
    ):
        chosen: Literal["light", "dark"] = "dark" if scheme == "dark" else "light"
        with browsing(width=width, height=height, scheme=chosen) as visit:
            show(visit, url)
            visit.page.screenshot(path=folder / name)


async def _main(folder: Path) -> None:
    with TemporaryDirectory() as directory:
        async with serving(Path(directory)) as server:
            await fly(server)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(climb, server)
                await trio.to_thread.run_sync(take, folder, server.url)
                nursery.cancel_scope.cancel()


if __name__ == "__main__":
    pictures = Path(sys.argv[1])
    pictures.mkdir(parents=True, exist_ok=True)
    trio.run(_main, pictures)
