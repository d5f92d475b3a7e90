"""ETag and If-None-Match (RFC 9110 §13.1.2), by table and through the real server."""

from hashlib import blake2b
from pathlib import Path

import pytest

from rockets.web.etags import etag, is_known
from tests.helpers import body, both_lanes, connected, get, post, serving
from tests.web.apps import running_app, send

TAG = '"0123"'
TARGETS = ("/rockets", "/rockets/r", "/rockets/r?at=1", "/rockets/r/messages")


@pytest.mark.parametrize(
    ("header", "known"),
    [
        ([], False),
        ([""], False),
        (["*"], True),
        ([" * "], True),
        (['"0123"'], True),
        (['W/"0123"'], True),
        (['w/"0123"'], True),  # not a tag with a weakness: what is quoted is what counts
        (['"012"'], False),
        (['"0123'], False),
        (["0123"], False),
        (['"01234"'], False),
        (['"other", "0123"'], True),
        (['"other",W/"0123" ,"more"'], True),
        (['"other"', '"0123"'], True),
        (['"other", "more"'], False),
        (['"a,b", "0123"'], True),
        (['"0123,"'], False),
        (['"a, *, b"'], False),
        (['"", "0123"'], True),
        (['", ", "0123"'], True),
    ],
)
def test_a_tag_is_known_when_the_list_names_it(header: list[str], known: bool) -> None:
    assert is_known(TAG, header) is known


def test_a_tag_is_the_hash_of_the_body_in_quotes() -> None:
    assert etag(b"{}") == f'"{blake2b(b"{}", digest_size=16).hexdigest()}"'
    assert len({etag(b""), etag(b"{}"), etag(b"{} ")}) == 3


@pytest.mark.parametrize("target", TARGETS)
async def test_who_has_the_answer_gets_304_until_it_changes(target: str) -> None:
    async with running_app() as client:
        await send(client, body("r", 1, "RocketLaunched"))
        first = await client.get(target)
        content = await first.get_data(as_text=False)
        tag = first.headers["ETag"]
        again = await client.get(target, headers={"If-None-Match": f'"other", W/{tag}'})
        await send(client, body("r", 2))
        later = await client.get(target, headers={"If-None-Match": tag})

    assert (first.status_code, first.content_type) == (200, "application/json")
    assert tag == etag(content)
    assert again.status_code == 304
    assert again.headers["ETag"] == tag
    # What a rocket was after its first message never changes.
    assert later.status_code == (304 if "at=" in target else 200)


@pytest.mark.parametrize("target", TARGETS)
async def test_a_problem_has_no_tag_and_knows_no_304(target: str) -> None:
    async with running_app() as client:
        wrong = f"{target}{'&' if '?' in target else '?'}x=1"
        response = await client.get(wrong, headers={"If-None-Match": "*"})

    assert response.status_code == 400
    assert "ETag" not in response.headers


@pytest.mark.slow
@both_lanes
async def test_the_real_server_answers_304_and_head_without_a_body_and_keeps_the_connection(
    tmp_path: Path, lane: str
) -> None:
    async with serving(tmp_path, lane) as server, connected(server.port) as client:
        await client.ask(post(body("r", 1, "RocketLaunched")))
        for target in TARGETS:
            full = await client.ask(get(target))
            tag = full.headers["etag"]
            unchanged = await client.ask(get(target, f"If-None-Match: {tag}"))
            head = await client.ask(get(target).replace(b"GET", b"HEAD"))
            head_unchanged = await client.ask(
                get(target, "If-None-Match: *").replace(b"GET", b"HEAD")
            )

            assert (full.status, tag) == (200, etag(full.body))
            for empty in (unchanged, head_unchanged):
                assert (empty.status, empty.headers["etag"], empty.body) == (304, tag, b"")
                assert not empty.headers.keys() & {"content-type", "content-length", "connection"}
            assert (head.status, head.headers["etag"]) == (200, tag)
            assert head.headers["content-length"] == str(len(full.body))
