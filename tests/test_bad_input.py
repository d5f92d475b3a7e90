"""Every kind of bad body over HTTP: its status, its pointers, and never a 500."""

from pathlib import Path

import pytest

from rockets.web.batch import form_of
from tests.domain.broken_bodies import BROKEN_BODIES
from tests.helpers import body, both_lanes, connected, get, post, serving

TOO_LARGE = 64 * 1024


@pytest.mark.slow
@both_lanes
async def test_every_broken_body_is_refused_with_its_status_and_pointers(
    tmp_path: Path, lane: str
) -> None:
    assert len(BROKEN_BODIES) >= 40

    async with serving(tmp_path, lane) as server:
        for name, content, status, pointers in BROKEN_BODIES:
            if form_of(None, content) == "array":
                continue  # A batch: `tests/web/test_batch.py` has its table.
            async with connected(server.port) as client:
                reply = await client.ask(post(content))
                over = len(content) > TOO_LARGE
                assert reply.status == (413 if over else status), name
                assert reply.headers["content-type"] == "application/problem+json", name
                assert reply.headers["connection"] == "close", name
                errors = reply.json.get("errors", [])
                assert isinstance(errors, list)
                if not over:
                    assert {error["pointer"] for error in errors} == set(pointers), name
                assert await client.wait_closed() == b"", name
        async with connected(server.port) as client:
            assert (await client.ask(get("/rockets"))).json["count"] == 0
        assert server.events("request_failed") == []
        assert await server.stop() == 0


@pytest.mark.slow
@both_lanes
async def test_the_largest_body_is_taken_and_one_byte_more_is_refused(
    tmp_path: Path, lane: str
) -> None:
    plain = body("r", 1, "Padded", padding="")

    async with serving(tmp_path, lane) as server:
        for size, status in ((TOO_LARGE - 1, 204), (TOO_LARGE, 204), (TOO_LARGE + 1, 413)):
            content = body("r", 1, "Padded", padding="x" * (size - len(plain)))
            assert len(content) == size
            async with connected(server.port) as client:
                assert (await client.ask(post(content))).status == status


@pytest.mark.slow
@both_lanes
async def test_an_encoded_body_is_refused(tmp_path: Path, lane: str) -> None:
    async with serving(tmp_path, lane) as server:
        for encoding, status in (("gzip", 415), ("br", 415), ("identity", 204)):
            async with connected(server.port) as client:
                reply = await client.ask(post(body("r", 1), f"Content-Encoding: {encoding}"))
                assert reply.status == status


@pytest.mark.slow
@both_lanes
async def test_any_content_type_is_taken_for_a_single_message(tmp_path: Path, lane: str) -> None:
    async with serving(tmp_path, lane) as server, connected(server.port) as client:
        for number, kind in enumerate(("application/json", "text/plain", "nonsense", ""), 1):
            reply = await client.ask(post(body("r", number), f"Content-Type: {kind}"))
            assert reply.status == 204
        assert (await client.ask(post(body("r", 9)))).status == 204
