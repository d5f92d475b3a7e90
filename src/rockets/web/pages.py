"""Fixed answers: pages and files that are made once at start and never change while it runs.

A request only looks a name up in a table; no path is ever made of what a client sends.
"""

from collections.abc import Mapping
from importlib.resources import files

import msgspec
from quart import Response, request

from rockets.web.etags import etag, is_known

# What every page of ours may do at most; a page that needs more names it beside its own policy.
STRICT_POLICY: Mapping[str, str] = {
    "default-src": "'none'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}


class Page(msgspec.Struct, frozen=True):
    """A whole answer but its request id."""

    body: bytes
    content_type: str
    etag: str
    policy: str

    def answer(self) -> Response:
        """Answer the current request, with 304 where the client holds this very page."""
        unchanged = is_known(self.etag, request.headers.getlist("If-None-Match"))
        response = Response(b"" if unchanged else self.body, 304 if unchanged else 200)
        if unchanged:
            del response.headers["content-length"]
            del response.headers["content-type"]
        else:
            response.headers["Content-Type"] = self.content_type
        response.headers["ETag"] = self.etag
        response.headers["Cache-Control"] = "no-cache"  # keep it, but ask each time
        response.headers["Content-Security-Policy"] = self.policy
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
        return response


# By the end of a file's name; what has no such end is a licence.
CONTENT_TYPES: Mapping[str, str] = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
}


def folder_pages(
    folder: str, names: tuple[str, ...], *, policy: Mapping[str, str]
) -> dict[str, Page]:
    """Make a page of each of these files in a folder beside this module."""
    place = files("rockets.web") / folder
    return {
        name: page((place / name).read_bytes(), _content_type(name), policy=policy)
        for name in names
    }


def _content_type(name: str) -> str:
    return CONTENT_TYPES.get(name.rpartition(".")[2], "text/plain; charset=utf-8")


def page(body: bytes, content_type: str, *, policy: Mapping[str, str] = STRICT_POLICY) -> Page:
    """Make a page; its ETag is a hash of the body."""
    rules = "; ".join(f"{name} {value}" for name, value in policy.items())
    return Page(body, content_type, etag(body), rules)
