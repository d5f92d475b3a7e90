"""Swagger UI is served from what was vendored, unchanged, and from nowhere else."""

import re
from hashlib import sha256
from importlib.resources import files

import pytest

from rockets.web.swagger_ui import FILES, INDEX
from tests.web.apps import running_app

FOLDER = files("rockets.web") / "swagger"
VERSION = (FOLDER / "VERSION").read_text()
OURS = {INDEX, "initializer.js"}
TEXT = "text/plain; charset=utf-8"
TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
}


def test_the_vendored_files_are_those_that_the_version_file_names() -> None:
    named = dict(re.findall(r"(?m)^([0-9a-f]{64})  (\S+)$", VERSION))

    assert set(named.values()) == set(FILES) - OURS
    for digest, name in named.items():
        assert sha256((FOLDER / name).read_bytes()).hexdigest() == digest, name


def test_the_version_file_says_what_it_is_and_under_which_licence() -> None:
    assert re.match(r"swagger-ui-dist \d+\.\d+\.\d+ from npm, Apache-2\.0 ", VERSION)
    assert "Apache License" in (FOLDER / "LICENSE").read_text()


def test_every_file_of_the_folder_is_served_or_is_the_version_file() -> None:
    assert {entry.name for entry in FOLDER.iterdir()} == {*FILES, "VERSION"}


def test_our_own_files_have_nothing_inline_and_name_no_other_host() -> None:
    page = (FOLDER / INDEX).read_text()
    written = page + (FOLDER / "initializer.js").read_text()

    assert not re.search(r"<style|style=|<script(?! src=)| on\w+=", page)
    assert "//" not in re.sub(r"(?m)^// .*$", "", written)


@pytest.mark.parametrize("name", FILES)
async def test_a_file_is_served_with_its_type_a_strict_policy_and_an_etag(name: str) -> None:
    async with running_app() as client:
        answer = await client.get(f"/docs/{name}")
        again = await client.get(f"/docs/{name}", headers={"If-None-Match": answer.headers["ETag"]})

        assert answer.status_code == 200
        assert await answer.get_data() == (FOLDER / name).read_bytes()
        assert answer.headers["Content-Type"] == TYPES.get(name.rpartition(".")[2], TEXT)
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; ")
        assert "unsafe" not in policy
        assert (again.status_code, await again.get_data()) == (304, b"")


async def test_docs_is_the_index_page() -> None:
    async with running_app() as client:
        answer = await client.get("/docs")

        assert await answer.get_data() == (FOLDER / INDEX).read_bytes()


@pytest.mark.parametrize(
    "path",
    [
        "VERSION",
        "..",
        "%2e%2e%2fapp.py",
        "..%2fapp.py",
        "index.html%00",
        "swagger-ui.js",
        "%5c",
        "a/b",
    ],
)
async def test_what_is_not_in_the_table_is_not_there(path: str) -> None:
    async with running_app() as client:
        answer = await client.get(f"/docs/{path}")

        assert answer.status_code == 404
        assert answer.headers["Content-Type"] == "application/problem+json"
