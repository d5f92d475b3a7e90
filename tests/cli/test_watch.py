"""`rockets watch`: the client of the feed, what it makes of it, and what a person sees."""

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from click.testing import CliRunner
from trio.testing import MockClock

from rockets.actors.listing import SortBy
from rockets.cli import main
from rockets.cli.event_source import (
    EVENT_BYTES_MAX,
    SILENCE_MAX_S,
    Event,
    EventParser,
    EventSource,
    Lost,
    StreamRefused,
)
from rockets.cli.watch_view import LinesView, TableView
from rockets.cli.watched_fleet import WatchedFleet
from tests.cli.tiny_server import UNAVAILABLE, open_refusing_port, open_tiny_server
from tests.helpers import ServerProcess, body, connected, post, serving
from tests.web.test_streams import launched, tell

WATCH = [sys.executable, "-m", "rockets", "watch"]


def parsed(*pieces: bytes) -> list[Event]:
    parser = EventParser()
    return [event for piece in pieces for event in parser.feed(piece)]


STREAM = b"retry: 1500\nevent: a\nid: x-1\ndata: {}\n\n: heartbeat\n\ndata: 1\ndata: 2\n\n"


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_events_are_read_however_the_stream_is_cut(size: int) -> None:
    pieces = [STREAM[start : start + size] for start in range(0, len(STREAM), size)]

    assert parsed(*pieces) == [Event("a", b"{}", "x-1"), Event("message", b"1\n2", None)]


@pytest.mark.parametrize(
    ("length", "refused"), [(EVENT_BYTES_MAX, False), (EVENT_BYTES_MAX + 1, True)]
)
def test_an_event_without_an_end_is_refused(length: int, refused: bool) -> None:
    if refused:
        with pytest.raises(StreamRefused, match="larger than"):
            parsed(b"x" * length)
    else:
        assert parsed(b"x" * length) == []


async def until(stream: AsyncGenerator[Event | Lost, None], name: str) -> list[Event | Lost]:
    """Take everything up to an event of this name."""
    found: list[Event | Lost] = []
    async for what in stream:
        found.append(what)
        if isinstance(what, Event) and what.name == name:
            return found
    raise AssertionError("the stream has an end")


def names(found: list[Event | Lost]) -> list[str]:
    return [what.name if isinstance(what, Event) else "lost" for what in found]


async def test_a_stream_that_is_cut_is_opened_again_behind_the_last_event(
    autojump_clock: MockClock,
) -> None:
    async with launched("a", "b") as service:
        source = EventSource(f"http://127.0.0.1:{service.port}/any/thing", "/events")
        async with aclosing(source.follow()) as stream:
            first = await until(stream, "ready")
            service.connections.cut_off()
            await tell(service, "b", 2)
            second = await until(stream, "ready")

    assert names(first) == ["hello", "rocket", "rocket", "ready"]
    assert names(second) == ["lost", "hello", "rocket", "ready"]
    lost, hello = second[0], second[1]
    assert isinstance(lost, Lost)
    assert 1 <= lost.retry_s <= 5
    assert isinstance(hello, Event)
    assert json.loads(hello.data)["resumed"] is True


async def test_silence_is_a_loss(autojump_clock: MockClock) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 99\r\n\r\n"
    async with open_tiny_server(lambda target, body: head) as server:
        async with aclosing(EventSource(server.url, "/events").follow()) as stream:
            what = await anext(stream)

    assert isinstance(what, Lost)
    assert "45 s" in what.reason
    assert trio.current_time() == pytest.approx(SILENCE_MAX_S, abs=1)


async def test_a_service_that_is_away_or_full_is_asked_again(autojump_clock: MockClock) -> None:
    async with open_tiny_server(lambda target, body: UNAVAILABLE) as server:
        async with aclosing(EventSource(server.url, "/events").follow()) as stream:
            found = [await anext(stream), await anext(stream)]
    async with open_refusing_port() as url:
        async with aclosing(EventSource(url, "/events").follow()) as stream:
            found.append(await anext(stream))

    assert names(found) == ["lost"] * 3
    assert len(server.targets) == 2


async def test_a_service_without_a_feed_is_not_asked_again() -> None:
    gone = b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}"
    for reply in (gone, gone.replace(b"404 Not Found", b"200 OK")):
        async with open_tiny_server(lambda target, body, reply=reply: reply) as server:  # type: ignore[misc]  # binds this reply
            async with aclosing(EventSource(server.url, "/events").follow()) as stream:
                with pytest.raises(StreamRefused):
                    await anext(stream)


async def test_what_is_stale_is_called_so_until_it_is_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines, table = LinesView(as_json=False), TableView(())
    shown = []
    for event in (Event("stale", b'{"seconds":7}', None), Event("fresh", b"{}", None)):
        for view in (lines, table):
            view.take(event)
        shown.append(table.state)

    stale = "stale by 7 s and more: the service is cut off from its store, or behind"
    assert shown == [stale, "live"]
    assert capsys.readouterr().err.splitlines() == [stale, "up to date again"]


def rocket(channel: str, speed: int, received: int, *, complete: bool = True) -> Event:
    sequence = {"received": received, "complete": complete}
    data = {"channel": channel, "speed": speed, "status": "launched", "sequence": sequence}
    return Event("rocket", json.dumps(data).encode(), None)


def test_the_fleet_is_counted_sorted_and_forgotten() -> None:
    fleet = WatchedFleet()
    for event in (rocket("a", 1, 1), rocket("b", 2, 5, complete=False), rocket("c", 3, 1)):
        fleet.take(event)
    fleet.tiles(0.0)
    fleet.take(rocket("a", 9, 21))
    fleet.take(Event("gone", b'{"channel": "c"}', None))
    tiles = fleet.tiles(2.0)

    by_speed = fleet.sorted((SortBy("speed", descending=True),))
    assert [each.channel for each in by_speed] == ["a", "b"]
    assert (tiles.rockets, tiles.with_gaps, tiles.status) == (2, 1, {"launched": 2})
    assert tiles.messages_per_s == 10
    assert fleet.tiles(9.0).messages_per_s == 0
    fleet.take(Event("reset", b"{}", None))
    assert fleet.sorted(()) == []


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["nowhere"], "is not of the form"),
        (["http://localhost", "--sort", "colour"], "allowed: channel"),
        (["http://localhost", "--interval", "49"], "not in the range"),
        (["http://localhost", "--status", "lost"], "is not one of"),
    ],
)
def test_what_is_impossible_is_said_at_once(arguments: list[str], problem: str) -> None:
    result = CliRunner().invoke(main, ["watch", *arguments])

    assert result.exit_code == 2
    assert problem in result.output


# --- as processes ------------------------------------------------------------------------------


async def launch(server: ServerProcess, name: str, **content: Any) -> None:
    async with connected(server.port) as client:
        message = body(name, 1, "RocketLaunched", **content)
        assert (await client.ask(post(message))).status == 204


async def read_until(process: trio.Process, output: bytes, text: bytes) -> bytes:
    assert process.stdout is not None
    with trio.fail_after(20):
        while text not in output:
            data = await process.stdout.receive_some()
            assert data, output
            output += data
    return output


@pytest.mark.slow
@pytest.mark.parametrize("as_json", [False, True])
async def test_elsewhere_than_on_a_terminal_there_is_a_line_for_each_change(
    tmp_path: Path, as_json: bool
) -> None:
    flags = ["--json"] if as_json else []
    async with serving(tmp_path) as server:
        await launch(server, "rocket-1")
        async with trio.open_nursery() as nursery:
            process: trio.Process = await nursery.start(
                partial(
                    trio.run_process,
                    [*WATCH, server.url, "--interval", "50", *flags],
                    stdout=subprocess.PIPE,
                    check=False,
                )
            )
            output = await read_until(process, b"", b"rocket-1")
            await launch(server, "rocket-2")
            output = await read_until(process, output, b"rocket-2")
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 130

    lines = output.decode().splitlines()
    if as_json:
        assert [json.loads(line)["event"] for line in lines] == [
            "hello",
            "rocket",
            "ready",
            "rocket",
        ]
        assert json.loads(lines[1])["data"]["channel"] == "rocket-1"
        assert json.loads(lines[-1])["id"].endswith("-2")
    else:
        assert lines == [
            f"rocket-{place}, launched, message 1, speed 500, mission ARTEMIS" for place in (1, 2)
        ]


class Terminal:
    """A terminal of our own, and the process that it belongs to."""

    def __init__(self, *arguments: str) -> None:
        self._near, far = pty.openpty()
        fcntl.ioctl(far, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 120, 0, 0))
        self.process = subprocess.Popen(
            [*WATCH, *arguments],
            stdin=far,
            stdout=far,
            stderr=far,
            start_new_session=True,
            env=os.environ | {"TERM": "xterm", "COLUMNS": "120", "LINES": "30"},
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(far)
        os.set_blocking(self._near, False)
        self.output = b""

    async def wait(self, pattern: bytes) -> None:
        """Read until this has been shown."""
        with trio.fail_after(20):
            while re.search(pattern, self.output, re.DOTALL) is None:
                await trio.lowlevel.wait_readable(self._near)
                self.output += os.read(self._near, 65536)

    def type(self, data: bytes) -> None:
        """Type something."""
        os.write(self._near, data)

    def close(self) -> None:
        """End the process, if it still runs."""
        self.process.kill()
        self.process.wait()
        os.close(self._near)


@pytest.mark.slow
async def test_on_a_terminal_there_is_a_table_until_ctrl_c(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        await launch(server, "slow", type="T", launchSpeed=1, mission="[bold]M[/bold]")
        terminal = Terminal(server.url, "--sort", "-speed", "--interval", "50")
        try:
            await terminal.wait(rb"rockets 1 .*live.*slow.*\[bold\]M\[/bold\]")
            await launch(server, "fast", type="T", launchSpeed=9, mission="M")
            await terminal.wait(rb"rockets 2 .*fast.*slow")
            terminal.type(b"\x03")
            await terminal.wait(rb"\x1b\[\?1049l")  # the screen as it was before
            assert await trio.to_thread.run_sync(terminal.process.wait, 10) == 130
        finally:
            terminal.close()
        assert b"Traceback" not in terminal.output


@pytest.mark.slow
async def test_the_table_says_that_it_is_stale_when_the_service_ends(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        await launch(server, "rocket-1")
        terminal = Terminal(server.url)
        try:
            await terminal.wait(rb"live.*rocket-1")
            assert await server.stop() == 0
            await terminal.wait(rb"stale: .*again in")
        finally:
            terminal.close()
