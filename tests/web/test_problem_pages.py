"""The type of every problem is a page that explains it."""

import json
from html import escape, unescape

import pytest

from rockets.web.problem_pages import EXPLANATIONS
from rockets.web.problems import PROBLEMS, ProblemName, problem
from tests.web.apps import running_app


def test_every_problem_is_explained_in_the_order_of_the_table() -> None:
    assert list(EXPLANATIONS) == list(PROBLEMS)


@pytest.mark.parametrize("name", PROBLEMS)
async def test_the_type_of_a_problem_is_a_page_about_it(name: ProblemName) -> None:
    body = problem(name, "x", request_id="r", close=False).body
    async with running_app() as client:
        answer = await client.get(json.loads(body)["type"])

        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; ")
        page = await answer.get_data(as_text=True)
    status, title = PROBLEMS[name]
    assert escape(f"{status} {title}") in page
    assert EXPLANATIONS[name].when in unescape(page)
    assert EXPLANATIONS[name].remedy in unescape(page)


async def test_the_list_links_to_every_page() -> None:
    async with running_app() as client:
        page = await (await client.get("/problems")).get_data(as_text=True)

    assert all(f'<a href="/problems/{name}">' in page for name in PROBLEMS)


@pytest.mark.parametrize("name", ["nothing", "<script>", "unavailable%0a", ".."])
async def test_a_problem_that_does_not_exist_has_no_page(name: str) -> None:
    async with running_app() as client:
        answer = await client.get(f"/problems/{name}")

        assert answer.status_code == 404
        assert (await answer.get_json())["type"] == "/problems/not-found"
