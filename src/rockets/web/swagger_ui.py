"""Swagger UI at `/docs`: two files of swagger-ui-dist, unchanged, and a page of our own.

`swagger/VERSION` says which version they are, under which licence, and their hashes.
"""

from importlib.resources import files

from quart import Response
from quart_trio import QuartTrio

from rockets.web.pages import STRICT_POLICY, Page, page
from rockets.web.problems import Refusal

# Why each exception is needed stands in docs/decisions.md.
POLICY = {
    **STRICT_POLICY,
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data:",
    "connect-src": "'self'",
}

INDEX = "index.html"
FILES = {
    INDEX: "text/html; charset=utf-8",
    "initializer.js": "text/javascript; charset=utf-8",
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "swagger-ui.css": "text/css; charset=utf-8",
    "swagger-ui-bundle.js.LICENSE.txt": "text/plain; charset=utf-8",
    "LICENSE": "text/plain; charset=utf-8",
    "NOTICE": "text/plain; charset=utf-8",
}


def add_routes(app: QuartTrio) -> None:
    """Read the files and mount the routes."""
    pages = _pages()

    @app.get("/docs")
    async def get_docs() -> Response:
        return pages[INDEX].answer()

    @app.get("/docs/<file>")
    async def get_docs_file(file: str) -> Response:
        if file not in pages:
            raise Refusal("not-found", f"/docs has no file {file[:200]!r}")
        return pages[file].answer()


def _pages() -> dict[str, Page]:
    folder = files("rockets.web") / "swagger"
    return {
        name: page((folder / name).read_bytes(), content_type, policy=POLICY)
        for name, content_type in FILES.items()
    }
