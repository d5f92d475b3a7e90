"""The dashboard as a person has it: in a browser, on a real server, live."""

import json
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from functools import partial
from hashlib import sha256
from http.client import HTTPConnection
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import pytest
import trio
from playwright.sync_api import expect

from tests.browser import Visit, browsing, needs_browser
from tests.helpers import ServerProcess, body, serving

pytestmark = [pytest.mark.slow, needs_browser]

AXE = Path(__file__).parent / "axe"
LIVE_MS = 1_000


def ask(
    port: int,
    method: str,
    target: str,
    content: bytes | None = None,
    headers: Mapping[str, str] = MappingProxyType({}),
) -> tuple[int, Any]:
    """Ask for something; gives the status and the JSON of the answer."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request(method, target, content, headers)
        answer = connection.getresponse()
        text = answer.read()
    return answer.status, json.loads(text) if text else None


def send(port: int, *messages: bytes) -> None:
    """Post messages one after the other; each must be stored."""
    for message in messages:
        assert ask(port, "POST", "/messages", message)[0] == 204


def launch(channel: str, speed: int = 500, *, mission: str = "ARTEMIS", kind: str = "A") -> bytes:
    """Write a launch."""
    return body(channel, 1, "RocketLaunched", type=kind, launchSpeed=speed, mission=mission)


@contextmanager
def visiting(
    port: int, target: str = "/", *, width: int = 1280, scheme: Literal["light", "dark"] = "light"
) -> Iterator[Visit]:
    """Open a page; at the end the browser must have had nothing to complain about."""
    with browsing(width=width, scheme=scheme) as visit:
        visit.page.goto(f"http://127.0.0.1:{port}{target}")
        yield visit
        assert visit.complaints == []
        assert visit.hosts == {f"127.0.0.1:{port}"}


async def in_browser(look: Callable[[int], None], directory: Path) -> None:
    """Run a server and look at it in a thread."""
    async with serving(directory) as server:
        await trio.to_thread.run_sync(look, server.port)


def cells(visit: Visit, column: int) -> list[str]:
    """The texts of a column of the fleet, from top to bottom."""
    found = visit.page.locator(f".scroll tbody tr:not([aria-hidden]) td:nth-child({column})")
    return found.all_inner_texts()


def expect_cells(visit: Visit, column: int, texts: list[str]) -> None:
    """Wait until a column has these texts."""
    found = visit.page.locator(f".scroll tbody tr:not([aria-hidden]) td:nth-child({column})")
    expect(found).to_have_text(texts)


def expect_connection(visit: Visit, text: str | re.Pattern[str], timeout_ms: int = 20_000) -> None:
    """Wait until the line at the top says this."""
    expect(visit.page.locator("#connection")).to_have_text(text, timeout=timeout_ms)


def test_the_vendored_files_are_those_that_their_version_files_name() -> None:
    for folder in (AXE, files("rockets.web") / "dashboard"):
        named = dict(re.findall(r"(?m)^([0-9a-f]{64})  (\S+)$", (folder / "VERSION").read_text()))
        assert named
        for digest, name in named.items():
            assert sha256((folder / name).read_bytes()).hexdigest() == digest, name


def see_changes(port: int) -> None:
    """A change is seen within a second, in the table and in the tiles."""
    send(port, launch("r-1"))
    with visiting(port) as visit:
        expect_cells(visit, 1, ["r-1"])
        expect_connection(visit, "Live")
        send(port, launch("r-2", 700))
        expect(visit.page.get_by_role("link", name="r-2")).to_be_visible(timeout=LIVE_MS)
        send(port, body("r-1", 2), body("r-2", 4, "RocketExploded", reason="FUEL"))
        expect(visit.page.get_by_role("cell", name="1,000")).to_be_visible(timeout=LIVE_MS)
        expect(visit.page.get_by_role("cell", name="exploded")).to_be_visible(timeout=LIVE_MS)
        tiles = visit.page.locator(".tiles dd")
        expect(tiles.nth(0)).to_have_text("1")
        expect(tiles.nth(2)).to_have_text("1")
        expect(tiles.nth(3)).to_have_text("1")


async def test_a_change_is_seen_within_a_second(tmp_path: Path) -> None:
    await in_browser(see_changes, tmp_path)


def sort_and_filter(port: int) -> None:
    """The table sorts as the API does, keeps what was chosen in the address, and filters."""
    send(port, launch("b", 300, mission="X"), launch("a", 200, kind="B"), launch("c", 300))
    send(port, body("d", 2))  # awaits its launch: no speed
    with visiting(port) as visit:
        page = visit.page
        for name, target in [("Speed", "speed"), ("Speed", "-speed"), ("Status", "status")]:
            page.get_by_role("button", name=name, exact=True).click()
            _, listed = ask(port, "GET", f"/rockets?sort={target}")
            expect_cells(visit, 1, [rocket["channel"] for rocket in listed["rockets"]])
            assert f"sort={target}" in page.url
        page.get_by_label("Mission").fill("X")
        expect_cells(visit, 1, ["b"])
        assert "mission=X" in page.url
        page.reload()
        expect_cells(visit, 1, ["b"])
        page.get_by_role("button", name="Clear").click()
        expect_cells(visit, 1, ["d", "a", "b", "c"])
        page.get_by_label("Speed from").fill("250")
        expect_cells(visit, 1, ["b", "c"])
        send(port, body("b", 2, "RocketSpeedDecreased", by=100))
        expect_cells(visit, 1, ["c"])


async def test_the_table_sorts_and_filters_as_the_api_does(tmp_path: Path) -> None:
    await in_browser(sort_and_filter, tmp_path)


def scroll(port: int) -> None:
    """Of many rockets only the visible rows exist, and scrolling finds the others."""
    lines = b"\n".join(launch(f"r-{number:05}") for number in range(5_000))
    ndjson = {"Content-Type": "application/x-ndjson"}
    status, answer = ask(port, "POST", "/messages", lines, ndjson)
    assert (status, answer["problems"]) == (200, [])
    with visiting(port) as visit:
        page = visit.page
        expect(page.locator(".total")).to_have_text("5,000 rockets")
        assert 10 < len(cells(visit, 1)) < 60
        region = page.get_by_role("region", name="Rockets, scrolls")
        region.focus()
        page.keyboard.press("End")
        expect(page.get_by_role("link", name="r-04999")).to_be_visible()
        assert len(cells(visit, 1)) < 60
        row = page.get_by_role("row", name="r-04999")
        assert row.get_attribute("aria-rowindex") == "5001"


async def test_of_five_thousand_rockets_only_the_visible_rows_exist(tmp_path: Path) -> None:
    await in_browser(scroll, tmp_path)


def travel(port: int) -> None:
    """The page of a rocket shows it now, at a number, its curve, its gaps and its messages."""
    send(port, launch("r", 500), *(body("r", number) for number in range(2, 60)))
    send(port, body("r", 62, "RocketMissionChanged", newMission="MARS"))
    with visiting(port, "/?rocket=r") as visit:
        page = visit.page
        facts = page.locator(".facts")
        expect(facts).to_contain_text("29,500")
        expect(facts).to_contain_text("2: 60\u201361")
        expect(page.locator(".chart canvas")).to_be_visible()
        expect(page.locator(".chart")).to_have_attribute("aria-label", re.compile("29,500"))
        page.get_by_role("slider").fill("3")
        expect(facts).to_contain_text("1,500")
        expect(page.locator(".note").first).to_have_text("As it was at message 3.")
        assert "at=3" in page.url
        page.reload()
        expect(facts).to_contain_text("1,500")
        page.get_by_role("button", name="Now").click()
        expect(facts).to_contain_text("29,500")
        page.get_by_role("button", name="Later").click()
        expect(page.locator(".wide-table tbody tr")).to_have_count(10)
        expect(page.locator(".wide-table")).to_contain_text("MARS")
        page.get_by_role("button", name="62").click()
        assert "at=62" in page.url
        page.get_by_role("button", name="Now").click()
        send(port, body("r", 60), body("r", 61))
        expect(facts).to_contain_text("none")
        page.go_back()
        assert page.url == "about:blank"


async def test_a_rocket_is_shown_now_and_as_it_was(tmp_path: Path) -> None:
    await in_browser(travel, tmp_path)


def read_notes(port: int) -> None:
    """Anomalies and rejections are listed, filtered and sent again."""
    send(port, launch("r"), launch("r", 600), body("r", 2, "RocketDanced", how="well"))
    assert ask(port, "POST", "/messages", b'{"metadata": {"channel": "bad"}}')[0] == 422
    with visiting(port, "/?page=anomalies") as visit:
        page = visit.page
        expect(page.locator("tbody tr")).to_have_count(2)
        page.get_by_label("Kind").select_option("conflict")
        expect(page.locator("tbody tr")).to_have_count(1)
        expect(page.locator("tbody")).to_contain_text('refused: RocketLaunched {"type":"A"')
        page.get_by_role("link", name="Rejections").click()
        expect(page.locator("tbody")).to_contain_text("/metadata/messageNumber is missing")
        visit.complaints.clear()
        page.get_by_role("button", name="Retry").click()
        expect(page.locator(".note")).to_contain_text("is refused again")
        # The browser itself writes a refusal down.
        assert all("422" in complaint for complaint in visit.complaints)
        visit.complaints.clear()
        page.get_by_role("link", name="bad").click()
        expect(page.get_by_role("heading", name="bad")).to_be_visible()
        expect(page.locator(".note").first).to_have_text("No message of this rocket is stored.")
        visit.complaints.clear()


async def test_anomalies_and_rejections_are_listed_and_sent_again(tmp_path: Path) -> None:
    await in_browser(read_notes, tmp_path)


class Restarting:
    """A server that a thread can stop, and start again at the same port."""

    def __init__(self, directory: Path, stack: AsyncExitStack) -> None:
        self._directory = directory
        self._stack = stack
        self.server: ServerProcess

    async def start(self, port: int = 0) -> None:
        """Start it."""
        running = serving(self._directory, "--port", str(port))
        self.server = await self._stack.enter_async_context(running)

    async def stop(self) -> None:
        """Stop it."""
        assert await self.server.stop() == 0


@asynccontextmanager
async def restarting(directory: Path) -> AsyncIterator[Restarting]:
    """Run such a server."""
    async with AsyncExitStack() as stack:
        server = Restarting(directory, stack)
        await server.start()
        yield server


def outlive(server: Restarting) -> None:
    """While the service is away the page says since when; then it goes on by itself."""
    port = server.server.port
    send(port, launch("r-1"))
    with visiting(port) as visit:
        expect_cells(visit, 1, ["r-1"])
        expect_connection(visit, "Live")
        trio.from_thread.run(server.stop)
        expect_connection(visit, re.compile(r"Not connected, trying again; as of \d\d:\d\d:\d\d"))
        expect_cells(visit, 1, ["r-1"])
        trio.from_thread.run(server.start, port)
        send(port, launch("r-2"))
        expect_connection(visit, "Live")
        expect_cells(visit, 1, ["r-1", "r-2"])
        visit.complaints.clear()  # that nobody answered is written down by the browser


async def test_a_restart_of_the_service_is_outlived_and_told(tmp_path: Path) -> None:
    async with restarting(tmp_path) as server:
        await trio.to_thread.run_sync(outlive, server)


PAYLOADS = [
    template.format(f"window.hacked={number}")
    for number in range(20)
    for template in (
        "<script>{}</script>",
        "<img src=x onerror={}>",
        "<svg onload={}>",
        '"><script>{}</script>',
        "'\"><iframe srcdoc='<script>parent.{}</script>'>",
        "javascript:{}",
        "</td></tr></table><body onload={}>",
        "<a href='javascript:{}'>x</a>",
        "${{{}}}<style>@import 'x'</style>",
        "\u2028{}//--><!--",
    )
]


def hostile(payload: str, number: int) -> list[bytes]:
    """Write messages that have a payload in each of their texts."""
    channel = f"r-{number:03}"
    return [
        launch(channel, mission=payload, kind=payload),
        body(channel, 2, "RocketMissionChanged", newMission=payload),
        body(channel, 2, "RocketMissionChanged", newMission=f"{payload} "),  # a conflict
        body(channel, 3, "RocketDanced", how=payload),
        body(channel, 4, "RocketExploded", reason=payload),
    ]


def look_at_hostile(port: int) -> None:
    """Look at every page that shows what 200 hostile fleets have sent."""
    for number, payload in enumerate(PAYLOADS):
        send(port, *hostile(payload, number))
        refused = json.dumps({"metadata": {"channel": payload}}).encode()
        assert ask(port, "POST", "/messages", refused)[0] == 422
    with visiting(port) as visit:
        page = visit.page
        expect(page.locator(".total")).to_have_text("200 rockets")
        page.get_by_role("region", name="Rockets, scrolls").focus()
        page.keyboard.press("End")
        expect(page.get_by_role("link", name="r-199")).to_be_visible()
        targets = ["/?page=anomalies", "/?page=rejections"]
        targets += [f"/?rocket=r-{number:03}" for number in range(10)]
        for target in targets:
            assert_harmless(visit)
            page.goto(f"http://127.0.0.1:{port}{target}")
            expect(page.locator("tbody tr").nth(2)).to_be_attached()
            if "page" in target:
                page.get_by_role("button", name="More").click()
                expect(page.locator("tbody tr").nth(150)).to_be_attached()
        send(port, launch("live", mission=PAYLOADS[0]))
        assert_harmless(visit)


def assert_harmless(visit: Visit) -> None:
    """No script has run, and no element is there that we have not made."""
    assert visit.page.evaluate("window.hacked") is None
    found = (
        "document.querySelectorAll('script, style, img, svg, iframe, [onload], [onerror]').length"
    )
    assert visit.page.evaluate(found) == 1  # our own script
    links = "[...document.links].filter((a) => !a.href.startsWith('http')).length"
    assert visit.page.evaluate(links) == 0


async def test_no_text_of_a_message_becomes_a_script_or_an_element(tmp_path: Path) -> None:
    await in_browser(look_at_hostile, tmp_path)


def check_access(port: int, *, scheme: Literal["light", "dark"], width: int) -> None:
    """Hold every page against the rules of axe-core."""
    send(port, launch("r"), launch("r", 600), body("r", 4), body("s", 2))
    assert ask(port, "POST", "/messages", b'{"metadata": {"channel": "bad"}}')[0] == 422
    axe = (AXE / "axe.min.js").read_text()
    with visiting(port, scheme=scheme, width=width) as visit:
        page = visit.page
        for target in ["/", "/?rocket=r", "/?page=anomalies", "/?page=rejections", "/?page=none"]:
            page.goto(f"http://127.0.0.1:{port}{target}")
            if "none" not in target:
                expect(page.locator("tbody tr:not([aria-hidden])").first).to_be_visible()
            page.evaluate(axe)
            result = page.evaluate("axe.run()")
            serious = [
                (found["id"], found["nodes"][0]["html"][:200])
                for found in result["violations"]
                if found["impact"] in ("serious", "critical")
            ]
            assert serious == [], target
            wide = "document.documentElement.scrollWidth > innerWidth"
            assert not page.evaluate(wide), f"{target} is wider than its window"


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
async def test_every_page_is_accessible(
    tmp_path: Path, scheme: Literal["light", "dark"], width: int
) -> None:
    await in_browser(partial(check_access, scheme=scheme, width=width), tmp_path)


def use_keyboard(port: int) -> None:
    """Everything is reached without a mouse."""
    send(port, launch("r-1"), launch("r-2"))
    with visiting(port) as visit:
        page = visit.page
        expect_cells(visit, 1, ["r-1", "r-2"])
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Rocket", exact=True).focus()
        page.keyboard.press("Enter")
        expect_cells(visit, 1, ["r-2", "r-1"])
        page.get_by_role("link", name="r-2").focus()
        send(port, launch("r-3"))
        expect_cells(visit, 1, ["r-3", "r-2", "r-1"])
        expect(page.get_by_role("link", name="r-2")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="r-2")).to_be_visible()
        page.go_back()
        expect_cells(visit, 1, ["r-3", "r-2", "r-1"])


async def test_everything_is_reached_by_keyboard(tmp_path: Path) -> None:
    await in_browser(use_keyboard, tmp_path)


TRANSFER_MAX = 100 * 1024


def weigh(port: int) -> None:
    """Count what is transferred until the first event, and that the chart comes later."""
    send(port, launch("r"))
    with browsing() as visit:
        sizes: dict[str, int] = {}

        def note(response: Any) -> None:
            if "/events" not in response.url:
                length = response.headers.get("content-length")
                sizes[response.url] = int(length) + len(str(response.headers))

        visit.page.on("response", note)
        visit.page.goto(f"http://127.0.0.1:{port}/")
        expect_connection(visit, "Live")
        assert 10_000 < sum(sizes.values()) < TRANSFER_MAX
        assert not any("uPlot.esm" in url for url in sizes)
        visit.page.get_by_role("link", name="r", exact=True).click()
        expect(visit.page.locator(".chart canvas")).to_be_visible()
        assert any("uPlot.esm" in url for url in sizes)


async def test_little_is_transferred_before_the_first_event(tmp_path: Path) -> None:
    await in_browser(weigh, tmp_path)
