"""What `rockets export` writes, `rockets import` sends: the same rockets come of it."""

import json
from functools import partial
from io import BytesIO
from itertools import count
from pathlib import Path

import msgspec
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rockets.cli.export import lines
from rockets.cli.import_file import Manner, send
from rockets.cli.stored_records import StoredRecords
from rockets.domain.messages import Message, Payload, UnknownMessage
from tests.cli.databases import run_command, table
from tests.domain.histories import messages
from tests.helpers import ServerProcess, body, connected, get, post, serving

# Members that are ignored, and must stay as they were sent.
IGNORED = (
    "",
    '"later": [1.0, 1e400, -0.0, 1E5, 123456789012345678901234567890], ',
    '"later": "\\n\\r\\u00e9\\ud83d\\ude00 é\u2028 ", "later": {}, ',
)


@st.composite
def sent(draw: st.DrawFn, channel: str) -> list[bytes]:
    """Draw the bodies of one rocket, in any order, repeated and laid out in many ways."""
    first: dict[int, Payload] = {}
    drawn = [each for each in draw(messages()) if is_first(first, each)]
    return [laid_out(draw, channel, each) for each in drawn]


def is_first(first: dict[int, Payload], each: Message) -> bool:
    """Say whether a message is no conflict: those are counted on a rocket, and not exported."""
    return first.setdefault(each.number, each.payload) == each.payload


def laid_out(draw: st.DrawFn, channel: str, each: Message) -> bytes:
    """Write a message in one of the ways in which JSON can be written."""
    unknown = isinstance(each.payload, UnknownMessage)
    content = json.loads(each.payload.content) if unknown else msgspec.to_builtins(each.payload)  # type: ignore[union-attr]  # checked just before
    plain = json.loads(body(channel, each.number, each.message_type, time=each.time, **content))
    text = json.dumps(plain, indent=draw(st.sampled_from([None, 0, 2])))
    text = text.replace("{", "{" + draw(st.sampled_from(IGNORED)), 1)
    text = text.replace("\n", draw(st.sampled_from(["\n", "\r\n", "\r"])))
    before, after = draw(st.sampled_from([("", ""), (" \r\n", "\n\n"), ("", "\r"), ("\t", " ")]))
    return f"{before}{text}{after}".encode()


async def rockets(server: ServerProcess) -> list[object]:
    """Every rocket in both views."""
    found = []
    async with connected(server.port) as client:
        for view in ("latest", "settled"):
            answer = (await client.ask(get(f"/rockets?limit=10000&view={view}"))).json
            assert answer["next"] is None
            found.append(answer["rockets"])
    return found


def exported(database: Path, *, by_rocket: bool) -> bytes:
    """Write what `rockets export` writes."""
    with StoredRecords(database) as records:
        pages = records.by_stream() if by_rocket else records.by_position()
        return b"".join(lines(page) for page in pages)


@pytest.mark.slow
async def test_any_history_comes_back_as_the_same_rockets_and_again_as_duplicates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    channels = (f"rocket-{index}" for index in count())

    async with serving(tmp_path / "a") as source, serving(tmp_path / "b") as target:

        async def check(bodies: list[bytes], by_rocket: bool, manner: Manner) -> None:
            async with connected(source.port) as client:
                for each in bodies:
                    assert (await client.ask(post(each))).status == 204
            file = exported(tmp_path / "a" / "rockets.db", by_rocket=by_rocket)
            for _ in range(2):
                capsys.readouterr()
                assert await send(BytesIO(file), f"{target.url}/messages", manner) == 0
            again = table(capsys.readouterr().out)
            assert again["lines"] == again["duplicate"] == str(len(file.splitlines()))
            assert await rockets(target) == await rockets(source)

        @settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
        @given(
            data=st.data(),
            by_rocket=st.booleans(),
            manner=st.builds(Manner, st.integers(1, 40), st.integers(1, 3)),
        )
        def property_holds(data: st.DataObject, by_rocket: bool, manner: Manner) -> None:
            bodies = [each for _ in range(3) for each in data.draw(sent(next(channels)))]
            trio.from_thread.run(partial(check, bodies, by_rocket, manner))

        # Both services live through all examples, so each adds to what they hold.
        await trio.to_thread.run_sync(property_holds)

    with StoredRecords(tmp_path / "a/rockets.db") as given_ones:
        stored = {(e.stream, e.number): e.body for p in given_ones.by_position() for e in p}
    with StoredRecords(tmp_path / "b/rockets.db") as taken:
        for each in (each for page in taken.by_position() for each in page):
            was = stored.pop((each.stream, each.number))
            assert tokens(each.body) == tokens(was)
    assert stored == {}


def tokens(content: bytes) -> object:
    """Read JSON but for its numbers, which stay texts, and keep every member."""
    return json.loads(content, object_pairs_hook=list, parse_float=str, parse_int=str)


@pytest.mark.slow
async def test_conflicts_and_refused_bodies_are_not_exported(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, connected(server.port) as client:
        for content in (body("rocket-1", 1, by=1), body("rocket-1", 1, by=2)):
            assert (await client.ask(post(content))).status == 204
        assert (await client.ask(post(b"{}"))).status == 422
        ended = await run_command("export", "--database", str(tmp_path / "rockets.db"))

    assert ended.stdout == body("rocket-1", 1, by=1) + b"\n"
