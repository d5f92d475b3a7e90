"""The documentation is true: every route has a section, and every example answers as shown."""

import json
import re
from pathlib import Path

import pytest

from rockets.web.routes import ROUTES
from tests.curl_examples import Curl, Example, answer_to, examples, is_same, parse_curl
from tests.helpers import serving

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "docs/api.md")
ROUTE_NAMES = [f"{route.method} {route.path}" for route in ROUTES]


def sections(page: str) -> dict[str, str]:
    """The sections of the API page by route; a heading may name several paths."""
    found: dict[str, str] = {}
    for part in re.split(r"(?m)^## ", page)[1:]:
        heading, _, text = part.partition("\n")
        if named := re.fullmatch(r"(GET|POST) (/.*)", heading):
            found |= {f"{named[1]} {path}": text for path in named[2].split(", ")}
    return found


def is_for(curl: Curl, route: str) -> bool:
    """Say whether a command asks this route."""
    method, path = route.split(" ")
    pattern = re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path))
    return curl.method.replace("HEAD", "GET") == method and bool(re.fullmatch(pattern, curl.path))


def test_the_api_page_has_a_section_for_every_route_and_for_no_other() -> None:
    assert sorted(sections((ROOT / "docs/api.md").read_text())) == sorted(ROUTE_NAMES)


@pytest.mark.parametrize("route", ROUTE_NAMES)
def test_the_section_of_a_route_shows_a_request_and_its_answer(route: str) -> None:
    section = sections((ROOT / "docs/api.md").read_text()).get(route, "")

    assert any(is_for(example.curl, route) and example.answer for example in examples(section))


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
async def test_every_example_of_a_page_is_answered_as_shown(name: str, tmp_path: Path) -> None:
    given = examples((ROOT / name).read_text())
    assert given, "the page has no example"

    wrong = []
    async with serving(tmp_path) as server:
        for example in given:
            answer = await answer_to(example, server.port)
            if not is_same(example.answer, answer):
                wrong.append(f"{example.curl}\n{answer}")

    assert not wrong, "the page shows another answer than:\n" + "\n\n".join(wrong)


def test_a_console_block_is_read_as_commands_and_answers() -> None:
    page = """
```console
$ make serve
$ curl -si localhost:8088/messages -d '{
  "a": 1}'
HTTP/1.1 204

$ curl -s 'http://localhost:8088/rockets?sort=-speed'
{}
```

```
$ curl not/in/a/console/block
```
"""
    assert examples(page) == [
        Example(Curl("POST", "/messages", (), '{\n  "a": 1}', with_head=True), "HTTP/1.1 204"),
        Example(Curl("GET", "/rockets?sort=-speed"), "{}"),
    ]


@pytest.mark.parametrize(
    ("words", "curl"),
    [
        ("localhost/a", Curl("GET", "/a")),
        ("-sI localhost:1/a", Curl("HEAD", "/a", with_head=True)),
        ("-X POST localhost/a", Curl("POST", "/a")),
        ("-H A:b -H C:d localhost/a", Curl("GET", "/a", ("A:b", "C:d"))),
        ("localhost/a --data-binary x", Curl("POST", "/a", body="x")),
        ("-sN --max-time 2 localhost/a", Curl("GET", "/a", is_endless=True)),
    ],
)
def test_the_arguments_of_curl_are_understood(words: str, curl: Curl) -> None:
    assert parse_curl(words.split()) == curl


@pytest.mark.parametrize(
    "words", ["-o x localhost/a", "--json x localhost/a", "localhost/a -k", "a b"]
)
def test_an_argument_of_curl_that_is_not_known_is_an_error(words: str) -> None:
    with pytest.raises(ValueError, match="is not known"):
        parse_curl(words.split())


HEAD = "HTTP/1.1 200 \ncontent-type: application/json\ndate: now\nx-request-id: a"


@pytest.mark.parametrize(
    ("documented", "real", "same"),
    [
        ('{"a": 1,\n "b": 2}', '{"a":1,"b":2}', True),
        ('{"a": 1}', '{"a":2}', False),
        ('{"a": 1, "b": 2}', '{"b":2,"a":1}', False),
        ('{"requestId": "x"}', '{"requestId":"y"}', True),
        (f'{HEAD}\n\n{{"a": 1}}', f'{HEAD.replace("now", "then")}\n\n{{"a":1}}', True),
        (HEAD, HEAD.replace("200 ", "200 OK"), True),
        (HEAD, HEAD.replace("200 ", "201 "), False),
        (HEAD, HEAD.replace("content-type: application/json\n", ""), False),
        ("<p>\n...", "<p>\nmore", True),
        ('retry: 1\nid: a-1\ndata: {"a": 1}', 'retry: 2\nid: b-2\ndata: {"a":1}', True),
        ("retry: 1\nevent: a", "retry: 1\nevent: b", False),
        ("<p>\n...", "<b>\nmore", False),
    ],
)
def test_an_answer_is_compared_but_for_what_differs_each_time(
    documented: str, real: str, same: bool
) -> None:
    assert is_same(documented, real) is same


def test_masking_leaves_what_was_sent_alone() -> None:
    assert not is_same(json.dumps({"time": "1"}), json.dumps({"time": "2"}))
