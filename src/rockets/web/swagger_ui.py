"""Swagger UI at `/docs`: two files of swagger-ui-dist, unchanged, and a page of our own.

`swagger/VERSION` says which version they are, under which licence, and their hashes.
"""

from quart import Response
from quart_trio import QuartTrio

from rockets.web.pages import STRICT_POLICY, folder_pages
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
FILES = (
    INDEX,
    "initializer.js",
    "swagger-ui-bundle.js",
    "swagger-ui.css",
    "swagger-ui-bundle.js.LICENSE.txt",
    "LICENSE",
    "NOTICE",
)


def add_routes(app: QuartTrio) -> None:
    """Read the files and mount the routes."""
    pages = folder_pages("swagger", FILES, policy=POLICY)

    @app.get("/docs")
    async def get_docs() -> Response:
        return pages[INDEX].answer()

    @app.get("/docs/<file>")
    async def get_docs_file(file: str) -> Response:
        if file not in pages:
            raise Refusal("not-found", f"/docs has no file {file[:200]!r}")
        return pages[file].answer()
